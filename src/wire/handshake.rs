//! The handshake message fragment (RFC 6347 4.2.2): twelve bytes of header in front of a piece of a message.

/// Bytes of a fragment's header: type, length, message_seq, fragment offset, fragment length.
pub const HEADER_LEN: usize = 12;

/// Handshake message types that the library looks at (RFC 5246 7.4).
pub mod message_type {
    /// HelloRequest.
    pub const HELLO_REQUEST: u8 = 0;
    /// ClientHello.
    pub const CLIENT_HELLO: u8 = 1;
    /// ServerHello.
    pub const SERVER_HELLO: u8 = 2;
    /// HelloVerifyRequest.
    pub const HELLO_VERIFY_REQUEST: u8 = 3;
    /// Certificate.
    pub const CERTIFICATE: u8 = 11;
    /// CertificateVerify.
    pub const CERTIFICATE_VERIFY: u8 = 15;
    /// ClientKeyExchange.
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
    /// Finished.
    pub const FINISHED: u8 = 20;
}

/// One fragment of a handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// One of [`message_type`] or another.
    pub message_type: u8,
    /// Length of the whole message without this header.
    pub length: usize,
    /// Number of the message in the handshake.
    pub message_seq: u16,
    /// Where this piece begins in the message.
    pub offset: usize,
    /// The piece.
    pub body: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The first fragment in an epoch-0 handshake record's `fragment`, and what follows it.
    pub fn parse(bytes: &'a [u8]) -> Option<(Fragment<'a>, &'a [u8])> {
        let h = bytes.first_chunk::<HEADER_LEN>()?;
        let u24 = |at: usize| usize::from(h[at]) << 16 | usize::from(h[at + 1]) << 8 | usize::from(h[at + 2]);
        let (length, offset, here) = (u24(1), u24(6), u24(9));
        if offset + here > length || bytes.len() < HEADER_LEN + here {
            return None;
        }
        let (whole, rest) = bytes.split_at(HEADER_LEN + here);
        let message_seq = u16::from_be_bytes([h[4], h[5]]);
        Some((Fragment { message_type: h[0], length, message_seq, offset, body: &whole[HEADER_LEN..] }, rest))
    }

    /// The header that stands in front of `body` on the wire.
    pub fn header(&self) -> [u8; HEADER_LEN] {
        let u24 = |n: usize| [(n >> 16) as u8, (n >> 8) as u8, n as u8];
        let mut header = [self.message_type; HEADER_LEN];
        header[1..4].copy_from_slice(&u24(self.length));
        header[4..6].copy_from_slice(&self.message_seq.to_be_bytes());
        header[6..9].copy_from_slice(&u24(self.offset));
        header[9..].copy_from_slice(&u24(self.body.len()));
        header
    }
}

/// The fragments in an epoch-0 handshake record's `fragment`, in order, up to the first bytes that are not one.
pub fn fragments(mut bytes: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    std::iter::from_fn(move || {
        let (fragment, rest) = Fragment::parse(bytes)?;
        bytes = rest;
        Some(fragment)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths and offsets have three bytes.
    #[test]
    fn a_fragment_of_a_long_message() {
        let fragment = Fragment {
            message_type: 11,
            length: 0x01_02_03 + 4,
            message_seq: 0x0405,
            offset: 0x01_02_03,
            body: b"body",
        };
        let header = fragment.header();
        assert_eq!(header, [11, 1, 2, 7, 4, 5, 1, 2, 3, 0, 0, 4]);
        let bytes = [&header[..], b"bodyrest"].concat();
        let (parsed, rest) = Fragment::parse(&bytes).unwrap();
        assert_eq!(
            (parsed.length, parsed.offset, parsed.body, rest),
            (0x01_02_07, 0x01_02_03, &b"body"[..], &b"rest"[..])
        );
        // Not a byte beyond the message's end.
        let beyond = Fragment { length: fragment.length - 1, ..fragment }.header();
        assert!(Fragment::parse(&[&beyond[..], b"body"].concat()).is_none());
    }
}
