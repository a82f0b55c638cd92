//! Sessions with connection IDs (RFC 9146), and peers that move to another address.

use std::ptr;

use libc::{c_int, c_void, size_t};

use super::endpoint::{dv_endpoint, dv_session, session_from};
use super::error::{Failure, guard_result, invalid};
use super::running::live;
use super::session::ask;

/// Gets our connection ID, which the peer's records carry.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the ID
/// - `size`: the size of `out` in bytes; our IDs have at most 32
///
/// Returns the length of the ID in bytes, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_connection_id(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_void,
    size: size_t,
) -> c_int {
    guard_result("dv_session_connection_id", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| give_bytes(info.connection_id(), out, size)) }
    })
}

/// Gets the peer's connection ID, which our records carry.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the ID
/// - `size`: the size of `out` in bytes; a peer's ID has at most 255
///
/// Returns the length of the ID in bytes, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_peer_connection_id(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_void,
    size: size_t,
) -> c_int {
    guard_result("dv_session_peer_connection_id", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| give_bytes(info.peer_connection_id(), out, size)) }
    })
}

/// Tells whether the peer has proved that it receives at its address. This can be false only after it has moved. Until
/// then, at most three times as many bytes are sent there as came from there; beyond that, sending gives
/// DV_ERR_UNPROVEN.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns 1 or 0, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_is_peer_proven(endpoint: *const dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_is_peer_proven", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| Ok(info.is_peer_proven().into())) }
    })
}

/// Tells the endpoint that the program itself has made sure that the peer receives at its new address, for instance by
/// an answer to something unpredictable. From now on, any amount may be sent there.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_confirm_peer(endpoint: *mut dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_confirm_peer", || {
        // SAFETY: the caller's promise.
        unsafe { live(endpoint) }?.confirm_peer(session_from(session)?)?;
        Ok(0)
    })
}

/// Writes as many bytes as fit, and gives how many there are.
///
/// # Safety
/// `out` is NULL or has `size` bytes.
unsafe fn give_bytes(bytes: &[u8], out: *mut c_void, size: size_t) -> Result<c_int, Failure> {
    if out.is_null() && size > 0 {
        return Err(invalid("out is NULL"));
    }
    if size > 0 {
        // SAFETY: by contract.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast(), bytes.len().min(size)) };
    }
    Ok(bytes.len() as c_int)
}
