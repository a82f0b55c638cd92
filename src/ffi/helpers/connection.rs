//! A connection: made, read, written, shut down, freed.
#![allow(missing_docs, unused)]
use libc::{c_char, c_int, c_uint, c_void, size_t, socklen_t};

use super::types::*;
use crate::guard::guard;

use openssl_sys::BIO;

/// Sends.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_msg_send"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_msg_send(
    wbio: *mut BIO,
    fd: c_int,
    key: *mut dv_udp_conn_key_t,
    addrlen: socklen_t,
) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}

/// Makes.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_new"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_new(
    ctx: *mut c_void,
    buf: *mut c_char,
    len: size_t,
    fd: c_int,
    key: *mut dv_udp_conn_key_t,
    addrlen: socklen_t,
) -> *mut dv_udp_conn_t {
    guard(std::ptr::null_mut(), || std::ptr::null_mut())
}

/// Frees.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_free"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_free(conn: *mut dv_udp_conn_t) {
    guard((), || ())
}

/// Reads.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_read"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_read(
    conn: *mut dv_udp_conn_t,
    in_buf: *mut c_char,
    in_len: size_t,
    fd: c_int,
    out_buf: *mut c_char,
    out_len: size_t,
    addrlen: socklen_t,
) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}

/// Writes.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_write"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_write(
    conn: *mut dv_udp_conn_t,
    in_buf: *mut c_char,
    in_len: size_t,
    fd: c_int,
    out_buf: *mut c_char,
    out_len: size_t,
    addrlen: socklen_t,
) -> c_int {
    guard(DV_ERROR, || DV_ERROR)
}

/// Shuts down.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_shutdown"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_shutdown(conn: *mut dv_udp_conn_t, fd: c_int, addrlen: socklen_t) {
    guard((), || ())
}
