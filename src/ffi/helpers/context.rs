//! Helpers that set up an SSL_CTX, look at a certificate check, and watch a socket.
#![allow(missing_docs, unused)]
use libc::{c_char, c_int, c_uint, c_void, size_t, socklen_t};

use super::types::*;
use crate::guard::guard;

use openssl_sys::X509_STORE_CTX;

/// Sets the cipher list.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "openssl_ctx_set_ciphers"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_ctx_set_ciphers(ctx: *mut c_void, ciphers: *mut c_char) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}

/// Verify callback.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "openssl_callback"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_callback(ok: c_int, store: *mut X509_STORE_CTX) -> c_int {
    guard(0, || 0)
}

/// Sets the verify mode and the CA file.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "openssl_set_verify"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_set_verify(ctx: *mut c_void, mode: c_int, peer_cf: *mut c_char) {
    guard((), || ())
}

/// Whether the peer is verified.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "openssl_get_verify_result"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_get_verify_result(s: *mut c_void) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}

/// Loads certificate chain and key.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "ssl_certificate"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_ssl_certificate(ctx: *mut c_void, cert: *mut c_char, key: *mut c_char) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}

/// Watches a socket.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "add_epoll_event"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_add_epoll_event(epfd: c_int, ev: *mut libc::epoll_event, fd: c_int) {
    guard((), || ())
}

/// Says which DNS name or IP address the peer's certificate must carry.
///
/// # Safety
/// See the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_set_peer_name(s: *mut c_void, name: *const c_char) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}
