//! The table of connections.
#![allow(missing_docs, unused)]
use libc::{c_char, c_int, c_uint, c_void, size_t, socklen_t};

use super::types::*;
use crate::guard::guard;

/// Nothing to do.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_table_init"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_table_init() {
    guard((), || ())
}

/// The hash.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_hash"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_hash(key: *mut dv_udp_conn_key_t) -> c_uint {
    guard(0, || 0)
}

/// Adds.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_add"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_add(conn: *mut dv_udp_conn_t) {
    guard((), || ())
}

/// Removes.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_del"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_del(conn: *mut dv_udp_conn_t) {
    guard((), || ())
}

/// Finds.
///
/// # Safety
/// See the header.
#[cfg(not(dv_omit = "dtls_conn_find"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_find(key: *mut dv_udp_conn_key_t) -> *mut dv_udp_conn_t {
    guard(std::ptr::null_mut(), || std::ptr::null_mut())
}
