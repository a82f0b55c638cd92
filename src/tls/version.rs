//! Which OpenSSL this library was built against, and which one is loaded.

use super::fork::Once;
use crate::log::log;

/// OPENSSL_VERSION_NUMBER of the headers that `openssl-sys` was built with, in hex; the build script hands it on.
const BUILT_AGAINST: &str = env!("DV_OPENSSL_VERSION_NUMBER");

/// The first digit of OPENSSL_VERSION_NUMBER is the major version.
fn major(number: u64) -> u64 {
    number >> 28
}

/// Whether the OpenSSL that is loaded has the major version that this library was built against. Another one has other
/// structures and other rules, so that every call that needs OpenSSL fails, and says why.
pub fn runtime_matches() -> bool {
    static MATCHES: Once<bool> = Once::new();
    // SAFETY: reads a constant of libcrypto.
    let loaded = || major(unsafe { openssl_sys::OpenSSL_version_num() } as u64);
    let built = || major(u64::from_str_radix(BUILT_AGAINST, 16).unwrap_or(0));
    let matches = *MATCHES.get_or_init(|| loaded() == built());
    if !matches {
        let (loaded, built) = (loaded(), built());
        log!(
            Error,
            "OpenSSL {loaded} is loaded, but this dv_dtls was built against OpenSSL {built}: install a matching one"
        );
    }
    matches
}
