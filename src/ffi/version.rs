//! Which library this is.

use libc::{c_char, c_uint};

use crate::guard::guard;

/// The version as text, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn dv_version() -> *const c_char {
    guard(std::ptr::null(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}

/// The version as a number: major * 65536 + minor * 256 + patch.
#[unsafe(no_mangle)]
pub extern "C" fn dv_version_num() -> c_uint {
    guard(0, || 0x000100)
}
