//! The HelloVerifyRequest (RFC 6347 4.2.1), written without allocating.

use super::handshake::{self, message_type};
use super::hello::{self, ClientHello};
use super::record::{self, content_type};

/// The longest cookie that a DTLS 1.0 client must take (RFC 4347 4.2.1).
pub const COOKIE_MAX: usize = 32;

const BODY_AT: usize = record::HEADER_LEN + handshake::HEADER_LEN;
const COOKIE_AT: usize = BODY_AT + 2 + 1;

/// The longest HelloVerifyRequest that this library writes.
pub const DATAGRAM_MAX: usize = COOKIE_AT + COOKIE_MAX;

// No answer is longer than what it answers, whatever the hello and the cookie: a spoofed hello amplifies nothing.
const _: () = assert!(DATAGRAM_MAX <= hello::DATAGRAM_MIN);

/// DTLS 1.0, which both the record and the message name whatever will be negotiated.
const VERSION: [u8; 2] = [0xfe, 0xff];

/// A HelloVerifyRequest in a record, in a datagram.
#[derive(Clone, Copy, Debug)]
pub struct HelloVerifyRequest {
    bytes: [u8; DATAGRAM_MAX],
    len: usize,
}

impl HelloVerifyRequest {
    /// The answer to `hello`: the record has the hello's own sequence number, as a server that keeps nothing has none.
    ///
    /// # Panics
    /// When `cookie` is longer than [`COOKIE_MAX`].
    pub fn new(hello: &ClientHello<'_>, cookie: &[u8]) -> HelloVerifyRequest {
        let body_len = 2 + 1 + cookie.len();
        let len = BODY_AT + body_len;
        let mut bytes = [0; DATAGRAM_MAX];

        bytes[0] = content_type::HANDSHAKE;
        bytes[1..3].copy_from_slice(&VERSION);
        record::set_sequence(&mut bytes, hello.record_sequence);
        bytes[12] = (handshake::HEADER_LEN + body_len) as u8;

        // The message has number 0, and its only fragment is the whole of it.
        let message = &mut bytes[record::HEADER_LEN..];
        message[0] = message_type::HELLO_VERIFY_REQUEST;
        message[3] = body_len as u8;
        message[11] = body_len as u8;

        bytes[BODY_AT..BODY_AT + 2].copy_from_slice(&VERSION);
        bytes[BODY_AT + 2] = cookie.len() as u8;
        bytes[COOKIE_AT..len].copy_from_slice(cookie);
        HelloVerifyRequest { bytes, len }
    }

    /// The datagram.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
