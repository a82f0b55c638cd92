//! Why a call failed, in words for the log.

use std::ffi::{CStr, CString};
use std::fmt;

use libc::c_int;
use openssl::error::ErrorStack;

use super::sys::SSL_R_EXCESSIVE_MESSAGE_SIZE;
use crate::log::in_one_line;

/// What the descriptions of alerts begin at among the reasons of <openssl/sslerr.h>.
const SSL_AD_REASON_OFFSET: c_int = 1000;

/// Why a call failed, with the words of whoever found out: the kernel, OpenSSL, or this library.
#[derive(Debug)]
pub struct Cause(String);

impl Cause {
    /// What OpenSSL has put into its error queue; empties the queue.
    pub fn openssl() -> Cause {
        errors().into()
    }

    /// Names what the cause is about, such as a file.
    pub fn about(self, subject: impl fmt::Display) -> Cause {
        Cause(format!("{subject}: {}", self.0))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Cause {
    fn from(words: String) -> Cause {
        Cause(words)
    }
}

impl From<&str> for Cause {
    fn from(words: &str) -> Cause {
        Cause(words.to_owned())
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Cause {
        Cause(error.to_string())
    }
}

impl From<ErrorStack> for Cause {
    /// OpenSSL's own words, the root of the trouble first.
    fn from(stack: ErrorStack) -> Cause {
        let words = stack.errors().iter().map(|error| {
            let library = error.library().unwrap_or("OpenSSL");
            let reason = error.reason().unwrap_or("unknown reason");
            match error.data() {
                Some(data) if !data.is_empty() => format!("{library}: {reason} ({data})"),
                _ => format!("{library}: {reason}"),
            }
        });
        let words = words.collect::<Vec<_>>().join("; ");
        // A callback of the program's may have put text of a peer's there.
        Cause(if words.is_empty() { "OpenSSL gave no reason".to_owned() } else { in_one_line(words) })
    }
}

/// What OpenSSL has put into its error queue; empties the queue. The crate panics at text that is not UTF-8, such as a callback
/// of the program's may put there, out of a peer's certificate for instance.
pub fn errors() -> ErrorStack {
    const SSL_R_SSL_HANDSHAKE_FAILURE: c_int = 229;
    std::panic::catch_unwind(ErrorStack::get).unwrap_or_else(|_| libssl(SSL_R_SSL_HANDSHAKE_FAILURE))
}

/// The words of OpenSSL for a fatal alert that the peer has sent.
pub fn alert(description: u8) -> ErrorStack {
    libssl(SSL_AD_REASON_OFFSET + c_int::from(description))
}

/// The same for one that came in clear, with ours, which say what that is worth.
pub fn alert_in_clear(description: u8) -> ErrorStack {
    let ours = format!("alert {description}, in clear: the peer's, or anybody's");
    libssl_with(SSL_AD_REASON_OFFSET + c_int::from(description), &ours)
}

/// The words of OpenSSL for a handshake whose master secret is not bound to it (RFC 7627).
pub fn no_extended_master_secret() -> ErrorStack {
    const SSL_R_INCONSISTENT_EXTMS: c_int = 104;
    libssl(SSL_R_INCONSISTENT_EXTMS)
}

/// The words of OpenSSL for a datagram that has no room for a message.
pub fn no_room_for_messages() -> ErrorStack {
    const SSL_R_DTLS_MESSAGE_TOO_BIG: c_int = 334;
    libssl(SSL_R_DTLS_MESSAGE_TOO_BIG)
}

/// The words of OpenSSL for an SSL that is not one for DTLS.
pub fn not_for_dtls() -> ErrorStack {
    const SSL_R_WRONG_SSL_VERSION: c_int = 266;
    libssl(SSL_R_WRONG_SSL_VERSION)
}

/// The words of OpenSSL for a message of a handshake that is longer than it may be, with ours, which name the setting.
pub fn certificates_too_long(len: usize, most: usize) -> ErrorStack {
    let ours = format!("{len} bytes of certificates, and max_certificate_chain is {most}");
    libssl_with(SSL_R_EXCESSIVE_MESSAGE_SIZE, &ours)
}

/// One of the reasons of <openssl/sslerr.h>.
fn libssl(reason: c_int) -> ErrorStack {
    libssl_with(reason, "")
}

/// The same, with more words.
fn libssl_with(reason: c_int, words: &str) -> ErrorStack {
    const ERR_LIB_SSL: c_int = 20;
    let words = CString::new(words).unwrap_or_default();
    // SAFETY: all only write to this thread's queue; the format has one argument, a text.
    unsafe {
        openssl_sys::ERR_clear_error();
        openssl_sys::ERR_new();
        openssl_sys::ERR_set_error(ERR_LIB_SSL, reason, c"%s".as_ptr(), words.as_ptr());
    }
    ErrorStack::get()
}

/// Text of the program in a log line: quoted, on one line, and cut where it is longer than anybody would read.
pub fn quoted(text: &CStr) -> String {
    const AT_MOST: usize = 256;
    let text = text.to_string_lossy();
    match text.char_indices().nth(AT_MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Runs `call` with an empty OpenSSL error queue and leaves an empty one. What an earlier call left there would be taken
/// for our cause, and what ours left for the next caller's.
pub fn with_clean_queue<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: clears the error queue of this thread, which always exists.
    let clear = || unsafe { openssl_sys::ERR_clear_error() };
    clear();
    let result = call();
    clear();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program's verify callback says of a certificate, for instance.
    #[test]
    fn text_of_a_peers_stays_in_one_line() {
        const ERR_LIB_USER: c_int = 128;
        // SAFETY: both write to this thread's queue alone; the format has one argument, a text.
        unsafe {
            openssl_sys::ERR_new();
            openssl_sys::ERR_set_error(ERR_LIB_USER, 1, c"%s".as_ptr(), c"CN=a\nthe handshake has finished".as_ptr());
        }
        let words = Cause::openssl().to_string();
        assert!(words.contains("(CN=a the handshake has finished)"), "{words}");
    }
}
