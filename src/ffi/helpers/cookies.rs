//! The cookie callbacks that libssl calls.
#![allow(missing_docs, unused)]
use libc::{c_char, c_int, c_uint, c_void, size_t, socklen_t};

use super::types::*;
use crate::guard::guard;

use openssl_sys::SSL;

/// Makes a cookie.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_generate_cookie_callback"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_generate_cookie_callback(
    ssl: *mut SSL,
    cookie: *mut u8,
    cookie_len: *mut c_uint,
) -> c_int {
    guard(0, || 0)
}

/// Checks a cookie.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_verify_cookie_callback"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_verify_cookie_callback(ssl: *mut SSL, cookie: *const u8, cookie_len: c_uint) -> c_int {
    guard(0, || 0)
}
