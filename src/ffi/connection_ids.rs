//! Sessions that are known by connection IDs (RFC 9146), and peers that move.

use std::ptr;

use libc::{c_int, c_void, size_t};

use super::endpoint::{dv_endpoint, dv_session, session_from};
use super::error::{Failure, guard_result, invalid};
use super::running::live;
use super::session::ask;

/// Gives our connection ID, which the records of a session's peer carry.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the ID
/// - `size`: bytes at `out`; an ID of ours has 32 at most
///
/// Returns its length, 0 without one, or a negative DV_ERR_*.
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

/// Gives the peer's connection ID, which our records carry.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the ID
/// - `size`: bytes at `out`; an ID of a peer has 255 at most
///
/// Returns its length, 0 without one, or a negative DV_ERR_*.
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

/// Says whether the peer's address has shown that it receives: always, unless the peer has moved there. Until then at most
/// three times what has come from there goes there, and more is refused with DV_ERR_UNPROVEN.
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

/// Tells that the program has found out by its own means that the peer receives at its new address, from an answer to
/// something unforeseeable for instance: from now on what goes there has no limit.
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
