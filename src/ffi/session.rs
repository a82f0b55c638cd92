//! Queries about a session. They work from DV_EVENT_OPENED, or from dv_endpoint_connect(), until the event after its
//! DV_EVENT_CLOSED is taken. Functions that return a text write as much of it as fits, with a NUL, and return the
//! length of all of it, without the NUL; if size is 0, out may be NULL.

use std::ffi::CStr;
use std::ptr;
use std::slice;

use foreign_types::ForeignType;
use libc::{c_char, c_int, c_long, c_void, size_t};
use openssl_sys::X509;

use super::DV_ERR_PANIC;
use super::address::{address_of, address_of_ip};
use super::endpoint::{LEN_MAX, array, dv_address, dv_endpoint, dv_resumption, dv_session, session_from};
use super::error::{Failure, checked, guard_result, invalid};
use super::running::live;
use crate::engine::connection::State;
use crate::engine::endpoint::Info;
use crate::guard::guard;

/// The handshake is in progress.
pub const DV_SESSION_HANDSHAKING: c_int = 1;
/// Messages can be sent.
pub const DV_SESSION_ESTABLISHED: c_int = 2;
/// The session is over.
pub const DV_SESSION_CLOSED: c_int = 3;

/// Attaches a pointer to a session, which then comes with each of its events.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `user`: the pointer; the library does not dereference it
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_set_user(
    endpoint: *mut dv_endpoint,
    session: dv_session,
    user: *mut c_void,
) -> c_int {
    guard_result("dv_session_set_user", || {
        // SAFETY: the caller's promise.
        unsafe { live(endpoint) }?.set_user(session_from(session)?, user.expose_provenance() as u64)?;
        Ok(0)
    })
}

/// Gets the pointer that was attached to a session.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns the pointer; NULL if there is none, or on error.
///
/// Ownership: the program's.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_user(endpoint: *const dv_endpoint, session: dv_session) -> *mut c_void {
    guard(ptr::null_mut(), || {
        let mut user = 0;
        // SAFETY: the caller's promise.
        checked("dv_session_user", || unsafe {
            ask(endpoint, session, |info| {
                user = info.user();
                Ok(0)
            })
        });
        ptr::with_exposed_provenance_mut(user as usize)
    })
}

/// Gets the state of a session.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns one of DV_SESSION_*, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_state(endpoint: *const dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_state", || {
        let state = |info: Info<'_>| match info.state() {
            State::Handshaking => Ok(DV_SESSION_HANDSHAKING),
            State::Established => Ok(DV_SESSION_ESTABLISHED),
            State::Closed(_) => Ok(DV_SESSION_CLOSED),
        };
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, state) }
    })
}

/// Tells whether we are the server of a session.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns 1 or 0, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_is_server(endpoint: *const dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_is_server", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| Ok(info.is_server().into())) }
    })
}

/// Tells whether the session resumed an earlier one, so that no certificates were exchanged.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns 1 or 0, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_is_resumed(endpoint: *const dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_is_resumed", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| Ok(info.is_resumed().into())) }
    })
}

/// Gets the length of the longest message that fits into a datagram.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns the length in bytes, 0 before the handshake is finished, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_message_max(endpoint: *const dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_session_message_max", || {
        // SAFETY: the caller's promise.
        unsafe { ask(endpoint, session, |info| Ok(info.message_max() as c_int)) }
    })
}

/// Gets the peer's address, and our own address that the peer uses.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `peer`: receives the peer's address; may be NULL
/// - `local`: receives our address, with port 0; all zero if unknown. May be NULL
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `peer` and `local` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_addresses(
    endpoint: *const dv_endpoint,
    session: dv_session,
    peer: *mut dv_address,
    local: *mut dv_address,
) -> c_int {
    guard_result("dv_session_addresses", || {
        // SAFETY: the caller's promise.
        unsafe {
            ask(endpoint, session, |info| {
                if !peer.is_null() {
                    *peer = address_of(info.peer());
                }
                if !local.is_null() {
                    *local = address_of_ip(info.local());
                }
                Ok(0)
            })
        }
    })
}

/// Gets the peer's certificate. In a resumed session it is the one from the first handshake.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `certificate`: receives the certificate, or NULL
///
/// Returns 1, 0 if the peer has presented none, or a negative DV_ERR_*. Whether the certificate is to be trusted,
/// dv_session_verify_result() tells.
///
/// Ownership: the caller frees the certificate with X509_free().
///
/// # Safety
/// `endpoint` is NULL or live; `certificate` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_peer_certificate(
    endpoint: *const dv_endpoint,
    session: dv_session,
    certificate: *mut *mut X509,
) -> c_int {
    guard(DV_ERR_PANIC, || {
        if !certificate.is_null() {
            // SAFETY: the caller's promise.
            unsafe { *certificate = ptr::null_mut() };
        }
        // SAFETY: the caller's promise.
        checked("dv_session_peer_certificate", || unsafe {
            ask(endpoint, session, |info| {
                if certificate.is_null() {
                    return Err(invalid("certificate is NULL"));
                }
                let Some(found) = info.peer_certificate() else { return Ok(0) };
                *certificate = std::mem::ManuallyDrop::new(found).as_ptr();
                Ok(1)
            })
        })
    })
}

/// Gets the result of verifying the peer's certificate.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `result`: receives X509_V_OK or one of X509_V_ERR_*; X509_V_OK also if there was no certificate
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `result` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_verify_result(
    endpoint: *const dv_endpoint,
    session: dv_session,
    result: *mut c_long,
) -> c_int {
    guard_result("dv_session_verify_result", || {
        // SAFETY: the caller's promise.
        unsafe {
            ask(endpoint, session, |info| {
                if result.is_null() {
                    return Err(invalid("result is NULL"));
                }
                *result = info.verify_result().as_raw().into();
                Ok(0)
            })
        }
    })
}

/// Gets the application protocol that was negotiated (ALPN).
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the text
/// - `size`: the size of `out` in bytes
///
/// Returns the length of the text, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_alpn(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_char,
    size: size_t,
) -> c_int {
    // SAFETY: the caller's promise.
    guard_result("dv_session_alpn", || unsafe { ask_text(endpoint, session, (out, size), |info| info.alpn()) })
}

/// Gets the server name that the client asked for (SNI).
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the text
/// - `size`: the size of `out` in bytes
///
/// Returns the length of the text, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_server_name(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_char,
    size: size_t,
) -> c_int {
    // SAFETY: the caller's promise.
    guard_result("dv_session_server_name", || unsafe {
        ask_text(endpoint, session, (out, size), |info| info.server_name())
    })
}

/// Gets OpenSSL's name of the cipher suite, such as "ECDHE-ECDSA-AES128-GCM-SHA256".
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the text
/// - `size`: the size of `out` in bytes
///
/// Returns the length of the text, 0 if there is none yet, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_cipher(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_char,
    size: size_t,
) -> c_int {
    // SAFETY: the caller's promise.
    guard_result("dv_session_cipher", || unsafe { ask_text(endpoint, session, (out, size), |info| info.cipher()) })
}

/// Gets the identity that the client sent with a pre-shared key.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the text
/// - `size`: the size of `out` in bytes
///
/// Returns the length of the text, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_psk_identity(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_char,
    size: size_t,
) -> c_int {
    // SAFETY: the caller's promise.
    guard_result("dv_session_psk_identity", || unsafe {
        ask_text(endpoint, session, (out, size), |info| info.psk_identity())
    })
}

/// Gets OpenSSL's name of the SRTP protection profile that was negotiated (RFC 5764).
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the text
/// - `size`: the size of `out` in bytes
///
/// Returns the length of the text, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_srtp_profile(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_char,
    size: size_t,
) -> c_int {
    // SAFETY: the caller's promise.
    guard_result("dv_session_srtp_profile", || unsafe {
        ask_text(endpoint, session, (out, size), |info| info.srtp_profile())
    })
}

/// Gets OpenSSL's explanation of why a session failed (DV_CLOSED_FAILED); of a handshake that took too long
/// (DV_CLOSED_HANDSHAKE_TIMEOUT), the last fatal alert that came in clear. Such an alert ends nothing by itself, as
/// anybody may have sent it.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `out`: receives the text
/// - `size`: the size of `out` in bytes
///
/// Returns the length of the text, 0 if there is none, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_failure(
    endpoint: *const dv_endpoint,
    session: dv_session,
    out: *mut c_char,
    size: size_t,
) -> c_int {
    // SAFETY: the caller's promise.
    guard_result("dv_session_failure", || unsafe { ask_text(endpoint, session, (out, size), |info| info.failure()) })
}

/// Derives key material for another protocol from the secrets of an open session (RFC 5705). Both sides get the same.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `label`: what it is for, such as "EXTRACTOR-dtls_srtp"; not one of TLS's own labels
/// - `context`: additional input; NULL for none, which is not the same as an empty one
/// - `context_len`: the length of `context` in bytes
/// - `out`: receives the key material
/// - `len`: how many bytes of it are wanted
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `label` is NULL or ends with NUL; `context` and `out` are as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_export_keying_material(
    endpoint: *const dv_endpoint,
    session: dv_session,
    label: *const c_char,
    context: *const c_void,
    context_len: size_t,
    out: *mut c_void,
    len: size_t,
) -> c_int {
    guard_result("dv_session_export_keying_material", || {
        // SAFETY: the caller's promise.
        unsafe {
            ask(endpoint, session, |info| {
                if label.is_null() || out.is_null() || len > LEN_MAX {
                    return Err(invalid("label or out is NULL, or len is the -1 of an error"));
                }
                let label = CStr::from_ptr(label).to_str().map_err(|_| invalid("label is not UTF-8"))?;
                // A copy: the program may want the key material where it has the context.
                let context = match context.is_null() && context_len == 0 {
                    true => None,
                    false => Some(array(context.cast::<u8>(), context_len, "context")?.to_vec()),
                };
                ptr::write_bytes(out.cast::<u8>(), 0, len);
                info.export(label, context.as_deref(), slice::from_raw_parts_mut(out.cast::<u8>(), len))?;
                Ok(0)
            })
        }
    })
}

/// Gets what a client needs to resume a session later with dv_endpoint_connect().
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `resumption`: receives the resumption, or NULL
///
/// Returns 1, 0 if the session cannot be resumed, or a negative DV_ERR_*.
///
/// Ownership: the caller frees it with dv_resumption_free(). It can be used more than once, with all endpoints of the
/// same SSL_CTX, and outlives them.
///
/// # Safety
/// `endpoint` is NULL or live; `resumption` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_session_resumption(
    endpoint: *const dv_endpoint,
    session: dv_session,
    resumption: *mut *mut dv_resumption,
) -> c_int {
    guard(DV_ERR_PANIC, || {
        if !resumption.is_null() {
            // SAFETY: the caller's promise.
            unsafe { *resumption = ptr::null_mut() };
        }
        // SAFETY: the caller's promise.
        checked("dv_session_resumption", || unsafe {
            ask(endpoint, session, |info| {
                if resumption.is_null() {
                    return Err(invalid("resumption is NULL"));
                }
                let Some(kept) = info.resumption() else { return Ok(0) };
                *resumption = Box::into_raw(Box::new(dv_resumption(kept)));
                Ok(1)
            })
        })
    })
}

/// Frees a resumption.
///
/// - `resumption`: the resumption, or NULL
///
/// # Safety
/// `resumption` is NULL or came from dv_session_resumption and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_resumption_free(resumption: *mut dv_resumption) {
    guard((), || {
        if !resumption.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(resumption) });
        }
    });
}

/// Asks a session for something.
///
/// # Safety
/// `endpoint` is NULL or live.
pub(super) unsafe fn ask<'a>(
    endpoint: *const dv_endpoint,
    session: dv_session,
    question: impl FnOnce(Info<'a>) -> Result<c_int, Failure>,
) -> Result<c_int, Failure> {
    // SAFETY: by contract.
    let running = unsafe { live(endpoint) }?;
    // SAFETY: it stays taken out until the question has its answer.
    let endpoint = unsafe { running.endpoint.as_ref() };
    question(endpoint.info(session_from(session)?)?)
}

/// Asks a session for a text: writes as much of it as fits, with a NUL, and gives the length of the whole, 0 when there is none.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has `size` bytes, or is NULL.
unsafe fn ask_text<'a, T: AsRef<[u8]>>(
    endpoint: *const dv_endpoint,
    session: dv_session,
    (out, size): (*mut c_char, size_t),
    question: impl FnOnce(Info<'a>) -> Option<T>,
) -> Result<c_int, Failure> {
    let write = |info: Info<'a>| {
        if out.is_null() && size > 0 {
            return Err(invalid("out is NULL"));
        }
        let text = question(info);
        let text = text.as_ref().map_or(&[][..], AsRef::as_ref);
        if size > 0 {
            let fits = text.len().min(size - 1);
            // SAFETY: by contract.
            unsafe {
                ptr::copy_nonoverlapping(text.as_ptr().cast(), out, fits);
                out.add(fits).write(0);
            }
        }
        Ok(text.len() as c_int)
    };
    // SAFETY: by contract.
    unsafe { ask(endpoint, session, write) }
}
