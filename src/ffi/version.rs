//! Which library this is.

use libc::{c_char, c_int, c_uint};

use super::error::{Failure, remember};
use super::helpers::{DV_ERROR, DV_OK};
use crate::engine::endpoint::Error;
use crate::guard::guard;
use crate::log::log;
use crate::tls::version::runtime_matches;

const NUMBER: c_uint = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
    | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
    | number(env!("CARGO_PKG_VERSION_PATCH"));

const fn number(digits: &str) -> c_uint {
    match c_uint::from_str_radix(digits, 10) {
        // A byte has room for it.
        Ok(part @ 0..=255) => part,
        _ => panic!("a part of the version is larger than 255"),
    }
}

/// Gets the version of the library as text, such as "0.1.0".
///
/// Returns the text.
///
/// Ownership: the text is static.
#[unsafe(no_mangle)]
pub extern "C" fn dv_version() -> *const c_char {
    guard(std::ptr::null(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}

/// Gets the version of the library as a number.
///
/// Returns major * 65536 + minor * 256 + patch.
#[unsafe(no_mangle)]
pub extern "C" fn dv_version_num() -> c_uint {
    guard(0, || NUMBER)
}

/// Tells whether a program that was written for some version of this library can run with the one that is loaded, and
/// with the OpenSSL that is loaded. A program that calls it first gets a clear answer instead of strange errors later.
///
/// - `least`: the oldest version that will do, as dv_version_num() returns it; 0 asks about OpenSSL only
///
/// Returns DV_OK, or DV_ERROR if this library is older than `least`, or if OpenSSL has another major version than the
/// one this library was built with. The log says which. In the latter case each function that sets up a context, or
/// begins something with one, fails too.
#[unsafe(no_mangle)]
pub extern "C" fn dv_check_version(least: c_uint) -> c_int {
    guard(DV_ERROR, || {
        if NUMBER < least {
            let (major, minor, patch) = (least >> 16, least >> 8 & 255, least & 255);
            let text = format!("dv_dtls {major}.{minor}.{patch} is wanted, but this is {}", env!("CARGO_PKG_VERSION"));
            log!(Error, "{text}");
            remember(&text);
            return DV_ERROR;
        }
        check_openssl().map_or_else(|why| failed(&why), |()| DV_OK)
    })
}

/// That the OpenSSL which is loaded is the one that the library knows; if not, the log says so.
pub(super) fn check_openssl() -> Result<(), Failure> {
    if runtime_matches() {
        return Ok(());
    }
    Err(Error::Tls("the OpenSSL that is loaded is not the one that this library was built against".into()).into())
}

/// The same for a function that returns DV_ERROR.
pub(super) fn failed(why: &Failure) -> c_int {
    remember(&why.to_string());
    DV_ERROR
}
