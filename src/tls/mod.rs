//! The only room that calls libssl and libcrypto: contexts, sessions, the datagram BIO. Beside them the little that the
//! rooms above need of the system: see [`fork`] and [`huge_pages`].

pub mod agreed;
pub mod bio;
pub mod cause;
pub mod certificate;
pub mod connection_id;
pub mod context;
pub mod cookie;
pub mod ex_data;
pub mod fork;
pub mod huge_pages;
pub mod master_secret;
pub mod names;
pub mod peer;
pub mod resumption;
pub mod scratch;
pub mod secret;
pub mod session;
pub mod sys;
pub mod version;

/// Random bytes; see [`randomize`].
pub fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    randomize(&mut bytes);
    bytes
}

/// Fills `bytes` with random ones. Without them nothing that is safe can be done, so that it panics if there are none.
///
/// In the child of a fork they come from the kernel: OpenSSL's generator would stay locked for ever if another thread of the
/// parent was using it during the fork.
pub fn randomize(bytes: &mut [u8]) {
    // Up to this length, getrandom gives all bytes or none.
    const KERNEL_MAX: usize = 256;
    if fork::generation() == 0 {
        // The crate initialises itself behind a Once of std's, which a child must not find half done.
        static CRATE: fork::Once<()> = fork::Once::new();
        CRATE.get_or_init(openssl::init);
        return openssl::rand::rand_bytes(bytes).expect("OpenSSL has no random bytes");
    }
    for part in bytes.chunks_mut(KERNEL_MAX) {
        // SAFETY: the part is writable.
        let got = unsafe { libc::getrandom(part.as_mut_ptr().cast(), part.len(), 0) };
        assert_eq!(got, part.len() as isize, "the kernel has no random bytes");
    }
}
