//! Sessions that go on in another process, after a restart or an upgrade, without a new handshake.
//!
//! One process exports, to a file, a pipe or a socket, and its sessions stand still. The other imports. Then the first one
//! commits. docs/session-export.md has the steps, what travels, and the format.

use std::os::fd::BorrowedFd;

use libc::{c_int, c_void, size_t};

use super::endpoint::{array, dv_endpoint, dv_session};
use super::error::{Failure, guard_result, guard_result_uncancelled, invalid};
use super::running::own;
use super::server::{self, dv_server};
use super::session::ask;
use crate::engine::export::{Export, ExportKey};

/// The length of the key that an export is sealed with, in bytes.
pub const DV_EXPORT_KEY_LEN: usize = 32;

/// Writes all established sessions of an endpoint to a descriptor, sealed. From then on they are frozen: nothing is
/// sent or received on them until dv_endpoint_export_commit() ends them or dv_endpoint_export_cancel() revives them. If
/// the export fails, they go on.
///
/// Take the events and transmit first: messages that have already come in can be answered by this program only, and not
/// after the export. Datagrams that wait to be sent can still be sent.
///
/// - `endpoint`: the endpoint
/// - `fd`: a file, a pipe or a stream socket, blocking or not. If the reader is gone, or has not read everything within
///   export_timeout_ms, that is an error; there is no SIGPIPE
/// - `key`: a random key, which the other process needs too
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `left`: receives how many established sessions cannot be exported because OpenSSL makes their records; may be NULL
///
/// Returns how many sessions were written, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `fd` is open; `key` has `key_len` bytes; `left` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_export(
    endpoint: *mut dv_endpoint,
    fd: c_int,
    key: *const c_void,
    key_len: size_t,
    left: *mut size_t,
) -> c_int {
    guard_result_uncancelled("dv_endpoint_export", || {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut endpoint, key) = (own(endpoint)?, key_from(key, key_len)?);
            let exported = endpoint.export_to(&key, descriptor(fd)?)?;
            give(exported.sessions, exported.left, left)
        }
    })
}

/// Ends the sessions that were exported, without telling their peers. DV_EVENT_CLOSED follows for each.
///
/// - `endpoint`: the endpoint
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_export_commit(endpoint: *mut dv_endpoint) -> c_int {
    guard_result("dv_endpoint_export_commit", || {
        // SAFETY: the caller's promise.
        unsafe { own(endpoint) }?.commit_export()?;
        Ok(0)
    })
}

/// Revives the sessions that were exported. Call it only if nobody has imported them, and nobody ever will: two
/// processes that encrypt with one key repeat nonces, which breaks all protection.
///
/// - `endpoint`: the endpoint
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_export_cancel(endpoint: *mut dv_endpoint) -> c_int {
    guard_result("dv_endpoint_export_cancel", || {
        // SAFETY: the caller's promise.
        unsafe { own(endpoint) }?.cancel_export()?;
        Ok(0)
    })
}

/// Takes over the sessions that an endpoint or a server has exported: all of them or, on error, none. DV_EVENT_OPENED
/// follows for each, and dv_session_is_imported() is 1. What dv_session_set_user() had attached comes along, as a
/// number that meant something in the other process, not as a valid pointer.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time, as for dv_endpoint_receive
/// - `fd`: what to read from. A file must be open for writing too: it is truncated, so that nobody imports it again. If
///   nothing comes from a pipe or socket for export_timeout_ms, that is an error
/// - `key`: the key that the export is sealed with
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `skipped`: receives how many sessions were not taken because their peers have already begun new ones here, or
///   because of require_extended_master_secret; may be NULL
///
/// Returns how many sessions were taken over, or a negative DV_ERR_*: DV_ERR_IMPORT when the export is incomplete or
/// not for us, DV_ERR_LIMIT when it holds more than max_sessions.
///
/// # Safety
/// `endpoint` is NULL or live; `fd` is open; `key` has `key_len` bytes; `skipped` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_import(
    endpoint: *mut dv_endpoint,
    now_us: u64,
    fd: c_int,
    key: *const c_void,
    key_len: size_t,
    skipped: *mut size_t,
) -> c_int {
    guard_result_uncancelled("dv_endpoint_import", || {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut endpoint, key) = (own(endpoint)?, key_from(key, key_len)?);
            let export = Export::take(descriptor(fd)?, &key, endpoint.export_timeout())?;
            let imported = endpoint.import(now_us, export)?;
            give(imported.sessions, imported.skipped, skipped)
        }
    })
}

/// Writes all established sessions of a running server to a descriptor, as dv_endpoint_export() does. From then on the
/// server stands still, datagrams wait in the kernel, and dv_server_send() gives DV_ERR_AGAIN, until
/// dv_server_export_commit() or dv_server_export_cancel(). If the export fails, as it also does when dv_server_stop()
/// is called before it is written, the server goes on. Must not be called by a callback.
///
/// - `server`: the server
/// - `fd`: what to write to, as for dv_endpoint_export()
/// - `key`: a random key, which the other process needs too
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `left`: receives how many established sessions cannot be exported; may be NULL
///
/// Returns how many sessions were written, or a negative DV_ERR_*.
///
/// # Safety
/// `server` is NULL or live; `fd` is open; `key` has `key_len` bytes; `left` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_export(
    server: *mut dv_server,
    fd: c_int,
    key: *const c_void,
    key_len: size_t,
    left: *mut size_t,
) -> c_int {
    guard_result_uncancelled("dv_server_export", || {
        // SAFETY: the caller's promise.
        unsafe {
            let (server, key) = (server::live(server)?, key_from(key, key_len)?);
            let exported = server.export_to(&key, descriptor(fd)?)?;
            give(exported.sessions, exported.left, left)
        }
    })
}

/// Ends a server after an export. The peers of exported sessions notice nothing; those of the others are sent a
/// close_notify. dv_server_join() waits for the end; then the addresses are free. Must not be called by a callback.
///
/// - `server`: the server
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_export_commit(server: *mut dv_server) -> c_int {
    guard_result_uncancelled("dv_server_export_commit", || {
        // SAFETY: the caller's promise.
        unsafe { server::live(server) }?.commit_export()?;
        Ok(0)
    })
}

/// Lets a server go on after an export, under the same condition as dv_endpoint_export_cancel(). Must not be called by
/// a callback.
///
/// - `server`: the server
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when no export is pending.
///
/// # Safety
/// `server` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_export_cancel(server: *mut dv_server) -> c_int {
    guard_result_uncancelled("dv_server_export_cancel", || {
        // SAFETY: the caller's promise.
        unsafe { server::live(server) }?.cancel_export()?;
        Ok(0)
    })
}

/// Takes over the sessions that a server or an endpoint has exported: all of them or, on error, none. When the server
/// is started, the open callback is called for each; see dv_endpoint_import().
///
/// - `server`: the server, bound to its addresses and not started yet
/// - `fd`: what to read from, as for dv_endpoint_import()
/// - `key`: the key that the export is sealed with
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `skipped`: receives how many sessions were not taken because their peers use an address that this server does not
///   have, or because of require_extended_master_secret; may be NULL
///
/// Returns how many sessions were taken over, or a negative DV_ERR_*, as dv_endpoint_import().
///
/// # Safety
/// `server` is NULL or live; `fd` is open; `key` has `key_len` bytes; `skipped` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_server_import(
    server: *mut dv_server,
    fd: c_int,
    key: *const c_void,
    key_len: size_t,
    skipped: *mut size_t,
) -> c_int {
    guard_result_uncancelled("dv_server_import", || {
        // SAFETY: the caller's promise.
        unsafe {
            let (server, key) = (server::live(server)?, key_from(key, key_len)?);
            let imported = server.import(Export::take(descriptor(fd)?, &key, server.export_timeout())?)?;
            give(imported.sessions, imported.skipped, skipped)
        }
    })
}

/// Tells whether a session was imported, so that DV_EVENT_OPENED was not about a handshake.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns 1 or 0, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_is_imported(endpoint: *const dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_is_imported", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| Ok(info.is_imported().into())) }
    })
}

/// # Safety
/// `fd` stays open while the result is used, if it is.
unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Failure> {
    match fd {
        ..0 => Err(invalid("fd is no descriptor")),
        // SAFETY: by contract; a number that is not open is refused by the kernel.
        _ => Ok(unsafe { BorrowedFd::borrow_raw(fd) }),
    }
}

/// # Safety
/// `key` has `key_len` bytes, or is NULL.
unsafe fn key_from(key: *const c_void, key_len: size_t) -> Result<ExportKey, Failure> {
    // SAFETY: by contract.
    let key = unsafe { array(key.cast::<u8>(), key_len, "key") }?;
    let key = key.try_into().map_err(|_| invalid("key_len is not DV_EXPORT_KEY_LEN"))?;
    Ok(ExportKey::of(key))
}

/// Counts for C.
///
/// # Safety
/// `out` is NULL or valid.
unsafe fn give(sessions: usize, others: usize, out: *mut size_t) -> Result<c_int, Failure> {
    if !out.is_null() {
        // SAFETY: by contract.
        unsafe { *out = others };
    }
    Ok(c_int::try_from(sessions).unwrap_or(c_int::MAX))
}
