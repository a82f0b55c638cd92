//! The first fragment of a ClientHello, as far as a cookie is concerned (RFC 6347 4.2.1, RFC 5246 7.4.1.2).

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
    /// Reads the first record of `datagram`. `None` for everything that is not the first fragment of a ClientHello in
    /// epoch 0 that reaches over its cookie.
    pub fn parse(datagram: &'a [u8]) -> Option<ClientHello<'a>> {
        let _ = datagram;
        None
    }
}
