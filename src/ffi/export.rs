//! Export and import: sessions that go on in another process, after a restart or an upgrade, without a handshake.
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

/// Bytes of the key that an export is sealed with.
pub const DV_EXPORT_KEY_LEN: usize = 32;

/// Writes down all established sessions of an endpoint, sealed. From here on they stand still: nothing is sent or received on
/// them, until dv_endpoint_export_commit ends them or dv_endpoint_export_cancel lets them go on. When it fails they go on.
///
/// Take the events and transmit before: what has come in already is this program's to answer, and afterwards it cannot. What
/// waits to leave still does.
///
/// - `endpoint`: the endpoint
/// - `fd`: what is written to: a file, a pipe or a stream socket, blocking or not. A reader who is gone is an error, not a
///   SIGPIPE, and so is one who has not read it within export_timeout_ms
/// - `key`: a random key, which the other process must have
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `left`: receives how many established sessions cannot travel, since OpenSSL makes their records; NULL: not wanted
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

/// Ends the sessions that were exported, without a word to their peers: they have a new home. DV_EVENT_CLOSED follows for
/// each.
///
/// - `endpoint`: the endpoint
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
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

/// Lets the sessions that were exported go on here. Only when nobody has imported them, and nobody will: two processes that
/// seal with one key repeat nonces, which is the end of all that the key protects.
///
/// - `endpoint`: the endpoint
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
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

/// Goes on with the sessions of an export, of an endpoint or of a server: all of them or, with an error, none.
/// DV_EVENT_OPENED tells of each, and dv_session_is_imported that there was no handshake. What dv_session_set_user had
/// attached comes with it: as a number that the other process knew, not as a pointer to follow.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time, as for dv_endpoint_receive
/// - `fd`: what is read from. A file must be open for writing, too: it is made empty, so that nobody imports it again. A
///   pipe or a socket that nothing comes from for export_timeout_ms is an error
/// - `key`: the key that it is sealed with
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `skipped`: receives how many sessions were skipped because their peers have begun others here already, or were closed
///   because of require_extended_master_secret; NULL: not wanted
///
/// Returns how many sessions go on, or a negative DV_ERR_*: DV_ERR_IMPORT when it is not whole or not for us, DV_ERR_LIMIT
/// when there are more than max_sessions.
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

/// Writes down all established sessions of a server that runs, as dv_endpoint_export does. From here on the server stands
/// still, and the kernel keeps what comes in, until dv_server_export_commit or dv_server_export_cancel; dv_server_send gives
/// DV_ERR_AGAIN. When it fails the server goes on; it fails, too, when dv_server_stop is called before it is written. Not
/// from inside a callback.
///
/// - `server`: the server
/// - `fd`: what is written to
/// - `key`: a random key, which the other process must have
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `left`: receives how many established sessions cannot travel; NULL: not wanted
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

/// Ends a server whose sessions were exported: they are over here, and their peers notice nothing; those that could not
/// travel are sent a close_notify. dv_server_join waits for it; then the addresses are free. Not from inside a callback.
///
/// - `server`: the server
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
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

/// Lets a server whose sessions were exported go on, under the condition of dv_endpoint_export_cancel. Not from inside a
/// callback.
///
/// - `server`: the server
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when there is no export to be ended.
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

/// Goes on with the sessions of an export, of a server or of an endpoint: all of them or, with an error, none. Once the
/// server is started, the open callback is called for each; see dv_endpoint_import.
///
/// - `server`: the server, which is bound to its addresses and was not started yet
/// - `fd`: what is read from. A file must be open for writing, too: it is made empty, so that nobody imports it again. A
///   pipe or a socket that nothing comes from for export_timeout_ms is an error
/// - `key`: the key that it is sealed with
/// - `key_len`: DV_EXPORT_KEY_LEN
/// - `skipped`: receives how many sessions were skipped because their peers speak to an address that this server does not
///   have, or were closed because of require_extended_master_secret; NULL: not wanted
///
/// Returns how many sessions go on, or a negative DV_ERR_*.
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

/// Says whether a session comes from another process: DV_EVENT_OPENED was not about a handshake.
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
