//! Why a call failed.

use std::fmt;

use openssl::error::ErrorStack;

use crate::tls::cause::Cause;

/// Why a call failed. What comes from the network is never an error: it is counted, or ends a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The session is over, and [`Event::Closed`](super::Event::Closed) was taken.
    Stale,
    /// The handshake is not finished, or the session is closed.
    NotEstablished,
    /// The message does not fit in a datagram.
    TooLong {
        /// Bytes of the longest message.
        max: usize,
    },
    /// Too much waits to leave: transmit first.
    Again,
    /// The peer has moved to an address that it has not proven yet, and more than three times what has come from there would
    /// be sent to it.
    Unproven,
    /// There is a session with this peer already, or a handshake that wants to be one.
    Busy,
    /// The endpoint has as many sessions as it may have.
    Limit,
    /// This process is a fork of the one that made the endpoint: two that seal with one key would repeat nonces.
    Forked,
    /// An argument or a setting makes no sense.
    Invalid(String),
    /// What is to be imported is damaged, cut short, sealed with another key, or of a version that is not known: nothing of
    /// it was taken.
    Import(String),
    /// OpenSSL failed, in its own words.
    Tls(String),
    /// The kernel refused something, in its own words.
    Io(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Stale => f.write_str("the session is over"),
            Error::NotEstablished => f.write_str("the session is not established"),
            Error::TooLong { max } => write!(f, "the message is longer than the {max} bytes that fit in a datagram"),
            Error::Again => f.write_str("too much waits to be sent"),
            Error::Unproven => f.write_str("the peer's new address has not shown that it receives"),
            Error::Busy => f.write_str("there is a session with this peer already"),
            Error::Limit => f.write_str("there are as many sessions as there may be"),
            Error::Forked => f.write_str("made before a fork: a child must not send"),
            Error::Import(why) => write!(f, "nothing was imported: {why}"),
            Error::Invalid(why) | Error::Tls(why) | Error::Io(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<ErrorStack> for Error {
    fn from(stack: ErrorStack) -> Error {
        Error::Tls(Cause::from(stack).to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error.to_string())
    }
}
