//! What the functions that return DV_ERR_* mean by it.

use std::cell::RefCell;
use std::ffi::CString;
use std::fmt;

use libc::{c_char, c_int};

use crate::engine::endpoint::Error;
use crate::guard::{guard, guard_uncancelled};
use crate::log::{in_one_line, in_sink, log};

/// An argument is NULL or makes no sense; dv_last_error() says which.
pub const DV_ERR_INVALID: c_int = -2;
/// The session is over and its end was reported, or no session ever had this number.
pub const DV_ERR_STALE: c_int = -3;
/// Called from the log callback; or from a callback of OpenSSL's, in the middle of another call about the same
/// endpoint; or with the endpoint of a server's callback that has already returned.
pub const DV_ERR_BUSY: c_int = -4;
/// The message does not fit into a datagram; see dv_session_message_max().
pub const DV_ERR_TOO_LONG: c_int = -5;
/// The handshake is not finished, or the session is closed.
pub const DV_ERR_NOT_ESTABLISHED: c_int = -6;
/// Too much waits to be sent. For an endpoint: call dv_endpoint_transmit() first. For a server: try again later.
pub const DV_ERR_AGAIN: c_int = -7;
/// The endpoint has max_sessions sessions.
pub const DV_ERR_LIMIT: c_int = -8;
/// The endpoint or server was made before a fork, in the parent: parent and child would repeat nonces under the same
/// keys, and a server's threads do not exist in the child.
pub const DV_ERR_FORKED: c_int = -9;
/// OpenSSL failed; dv_last_error() has its message.
pub const DV_ERR_TLS: c_int = -10;
/// There is already a session with this peer.
pub const DV_ERR_EXISTS: c_int = -11;
/// A bug in the library. Its message is in the log; please report it.
pub const DV_ERR_PANIC: c_int = -12;
/// The kernel refused something; dv_last_error() says what.
pub const DV_ERR_IO: c_int = -13;
/// The peer has moved and has not yet proved its new address, and no more may be sent there; see
/// dv_session_is_peer_proven().
pub const DV_ERR_UNPROVEN: c_int = -14;
/// The import is damaged, truncated, sealed with another key, or from a newer version. Nothing of it was taken.
pub const DV_ERR_IMPORT: c_int = -15;

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Describes an error number.
///
/// - `error`: what a function has returned
///
/// Returns a general text, such as "the session is over"; "no error" for 0 and above.
///
/// Ownership: the text is static.
#[unsafe(no_mangle)]
pub extern "C" fn dv_strerror(error: c_int) -> *const c_char {
    guard(c"".as_ptr(), || {
        let text = match error {
            0.. => c"no error",
            DV_ERR_INVALID => c"an argument makes no sense",
            DV_ERR_STALE => c"the session is over",
            DV_ERR_BUSY => c"called from inside a callback",
            DV_ERR_TOO_LONG => c"the message does not fit in a datagram",
            DV_ERR_NOT_ESTABLISHED => c"the session is not established",
            DV_ERR_AGAIN => c"too much waits to be sent",
            DV_ERR_LIMIT => c"there are as many sessions as there may be",
            DV_ERR_FORKED => c"made before a fork: a child must not send",
            DV_ERR_TLS => c"OpenSSL failed",
            DV_ERR_EXISTS => c"there is a session with this peer already",
            DV_ERR_PANIC => c"an error in the library itself",
            DV_ERR_IO => c"the kernel refused it",
            DV_ERR_UNPROVEN => c"the peer's new address has not shown that it receives",
            DV_ERR_IMPORT => c"nothing was imported",
            _ => c"an error",
        };
        text.as_ptr()
    })
}

/// Describes the last failure on this thread: the function's name, the cause, and OpenSSL's message if there is one.
/// Functions that succeed leave it as it is. The helpers for the table, for connections and for messages do not set it:
/// they set errno, and log.
///
/// Returns the text; empty if nothing has failed yet.
///
/// Ownership: the library's. It is valid until the next failure on this thread, or until the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn dv_last_error() -> *const c_char {
    guard(c"".as_ptr(), || LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr()))
}

/// Why an exported function fails.
#[derive(Debug)]
pub(in crate::ffi) enum Failure {
    /// As in Rust.
    Engine(Error),
    /// Called from inside a callback: where that is not allowed, Rust does not compile it.
    Busy(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) => error.fmt(f),
            Failure::Busy(why) => f.write_str(why),
        }
    }
}

impl Failure {
    fn number(&self) -> c_int {
        let error = match self {
            Failure::Busy(_) => return DV_ERR_BUSY,
            Failure::Engine(error) => error,
        };
        match error {
            Error::Stale => DV_ERR_STALE,
            Error::NotEstablished => DV_ERR_NOT_ESTABLISHED,
            Error::TooLong { .. } => DV_ERR_TOO_LONG,
            Error::Again => DV_ERR_AGAIN,
            Error::Unproven => DV_ERR_UNPROVEN,
            Error::Busy => DV_ERR_EXISTS,
            Error::Limit => DV_ERR_LIMIT,
            Error::Forked => DV_ERR_FORKED,
            Error::Invalid(_) => DV_ERR_INVALID,
            Error::Tls(_) => DV_ERR_TLS,
            Error::Io(_) => DV_ERR_IO,
            Error::Import(_) => DV_ERR_IMPORT,
        }
    }
}

/// The guard of an exported function that returns 0 or more, or a DV_ERR_*.
#[inline]
pub(in crate::ffi) fn guard_result(name: &str, call: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    guard(DV_ERR_PANIC, || checked(name, call))
}

/// The same around what may come to a point of cancellation.
#[inline]
pub(in crate::ffi) fn guard_result_uncancelled(name: &str, call: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    guard_uncancelled(DV_ERR_PANIC, || checked(name, call))
}

/// Calls `call`; its failure becomes a number and the thread's last text.
pub(in crate::ffi) fn checked(name: &str, call: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    let result = if in_sink() { Err(Failure::Busy("called from inside the log callback")) } else { call() };
    result.unwrap_or_else(|failure| {
        let text = format!("{name}: {failure}");
        log!(Debug, "{text}");
        remember(&text);
        failure.number()
    })
}

/// Keeps why a function has failed for [`dv_last_error`].
pub(in crate::ffi) fn remember(why: &str) {
    let text = CString::new(in_one_line(why.to_owned())).unwrap_or_default();
    // A thread that ends has none any more, while destructors of the program may still call.
    let _ = LAST.try_with(|last| last.replace(text));
}

/// That an argument makes no sense.
pub(in crate::ffi) fn invalid(why: &str) -> Failure {
    Error::Invalid(why.into()).into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;
    use std::ffi::CStr;
    use std::ptr;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::ffi::dv_endpoint_advance;

    /// Fails when its thread ends, after what the library keeps for the thread is gone.
    struct Late(Cell<Option<Sender<c_int>>>);

    impl Drop for Late {
        fn drop(&mut self) {
            // SAFETY: NULL is an error and nothing else.
            let failed = unsafe { dv_endpoint_advance(ptr::null_mut(), 0) };
            assert!(!dv_last_error().is_null());
            self.0.take().map(|tell| tell.send(failed));
        }
    }

    #[test]
    fn destructors_of_a_thread_that_ends_may_fail() {
        thread_local! { static LATE: Late = const { Late(Cell::new(None)) }; }
        let (tell, told) = channel();
        std::thread::spawn(|| {
            // What is used first goes last.
            LATE.with(|late| late.0.set(Some(tell)));
            // SAFETY: as above.
            assert_eq!(unsafe { dv_endpoint_advance(ptr::null_mut(), 0) }, DV_ERR_INVALID);
        });
        assert_eq!(told.recv(), Ok(DV_ERR_INVALID));
    }

    #[test]
    fn each_error_has_a_text_of_its_own() {
        // SAFETY: the texts are static.
        let text = |error| unsafe { CStr::from_ptr(dv_strerror(error)) };
        let texts: HashSet<&CStr> = (DV_ERR_IMPORT..=DV_ERR_INVALID).map(text).collect();
        assert_eq!(texts.len(), (DV_ERR_INVALID - DV_ERR_IMPORT + 1) as usize, "{texts:?}");
        assert!(!texts.contains(c"an error") && !texts.contains(text(0)));
        assert_eq!((text(DV_ERR_IMPORT - 1), text(7)), (c"an error", c"no error"));
    }
}
