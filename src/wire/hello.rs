//! The first fragment of a ClientHello, as far as a cookie is concerned (RFC 6347 4.2.1, RFC 5246 7.4.1.2).

use super::handshake::{self, Fragment, message_type};
use super::record::{self, Record, content_type};

/// The longest session id (RFC 5246 7.4.1.2).
pub const SESSION_ID_MAX: usize = 32;

/// The shortest datagram that [`ClientHello::parse`] takes: client_version, random, no session id and no cookie.
pub const DATAGRAM_MIN: usize = record::HEADER_LEN + handshake::HEADER_LEN + 2 + 32 + 1 + 1;

/// What the stateless stage needs of a ClientHello; all of it always lies in the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// Sequence number of the record that carries it; the answer repeats it.
    pub record_sequence: u64,
    /// 0 for a first hello, 1 for one that answers a HelloVerifyRequest.
    pub message_seq: u16,
    /// client_version of the hello's body.
    pub version: u16,
    /// 32 random bytes.
    pub random: &'a [u8; 32],
    /// 0 to 32 bytes.
    pub session_id: &'a [u8],
    /// Empty on a first hello.
    pub cookie: &'a [u8],
    /// Length of the first record, header included: what goes through DTLSv1_listen alone.
    pub record_len: usize,
}

impl<'a> ClientHello<'a> {
    /// Reads the first record of `datagram`. `None` unless it is the first fragment of a ClientHello in epoch 0, and
    /// contains the whole cookie.
    pub fn parse(datagram: &'a [u8]) -> Option<ClientHello<'a>> {
        let (record, fragment) = first_fragment(datagram)?;
        let (version, rest) = fragment.body.split_first_chunk::<2>()?;
        let (random, rest) = rest.split_first_chunk::<32>()?;
        let (session_id, rest) = short_vector(rest)?;
        let (cookie, _) = short_vector(rest)?;
        if version[0] != 0xfe || session_id.len() > SESSION_ID_MAX {
            return None;
        }
        Some(ClientHello {
            record_sequence: record.sequence,
            message_seq: fragment.message_seq,
            version: u16::from_be_bytes(*version),
            random,
            session_id,
            cookie,
            record_len: record.bytes.len(),
        })
    }

    /// Whether `datagram` begins with the first fragment of a ClientHello, even one too short for [`ClientHello::parse`].
    pub fn starts(datagram: &[u8]) -> bool {
        first_fragment(datagram).is_some()
    }
}

/// A first hello. All that libssl does with it, and with the one below, is call the cookie callbacks.
pub const PROBE_WITHOUT_COOKIE: [u8; PROBE_LEN] = probe(0);
/// A hello that returns a cookie; see [`PROBE_WITHOUT_COOKIE`].
pub const PROBE_WITH_COOKIE: [u8; PROBE_LEN + 8] = probe(8);

const PROBE_LEN: usize = DATAGRAM_MIN + 4 + 2;

/// A ClientHello of one suite, with zeros for random and cookie.
const fn probe<const LEN: usize>(cookie_len: u8) -> [u8; LEN] {
    let mut hello = [0; LEN];
    let body = record::HEADER_LEN + handshake::HEADER_LEN;
    hello[0] = content_type::HANDSHAKE;
    (hello[1], hello[2]) = (0xfe, 0xfd);
    hello[12] = (LEN - record::HEADER_LEN) as u8;
    hello[13] = message_type::CLIENT_HELLO;
    (hello[16], hello[24]) = ((LEN - body) as u8, (LEN - body) as u8);
    hello[18] = (cookie_len > 0) as u8;
    (hello[body], hello[body + 1]) = (0xfe, 0xfd);
    hello[body + 35] = cookie_len;
    // One suite, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, and no compression.
    (hello[LEN - 5], hello[LEN - 4], hello[LEN - 3]) = (2, 0xc0, 0x2b);
    hello[LEN - 2] = 1;
    hello
}

/// The first record of `datagram`, where it is the beginning of a ClientHello and nothing else: DTLSv1_listen takes no
/// more than one fragment in that record and no message_seq above 1.
#[inline]
fn first_fragment(datagram: &[u8]) -> Option<(Record<'_>, Fragment<'_>)> {
    let (record, _) = Record::parse(datagram)?;
    if record.content_type != content_type::HANDSHAKE || record.epoch != 0 {
        return None;
    }
    let (fragment, rest) = Fragment::parse(record.fragment())?;
    let first = fragment.message_type == message_type::CLIENT_HELLO && fragment.offset == 0;
    (first && fragment.message_seq <= 1 && rest.is_empty()).then_some((record, fragment))
}

/// A vector whose first byte is its length (RFC 5246 4.3), and what follows it.
#[inline]
fn short_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}
