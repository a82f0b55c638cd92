//! Hellos to order, random numbers by seed: what the tests, the benchmark and the fuzz targets of the stateless stage share.
#![allow(dead_code)]

use std::net::SocketAddr;

use dv_dtls::wire::{handshake, record};

/// A ClientHello whose parts can all be chosen.
#[derive(Clone, Debug)]
pub struct Hello {
    pub record_version: u16,
    pub record_sequence: u64,
    pub message_seq: u16,
    pub version: u16,
    pub random: [u8; 32],
    pub session_id: Vec<u8>,
    pub cookie: Vec<u8>,
    /// Cipher suites, compression methods and extensions: what the stateless stage does not look at.
    pub rest: Vec<u8>,
}

impl Default for Hello {
    fn default() -> Hello {
        // One suite, no compression, no extensions.
        let rest = vec![0, 2, 0xc0, 0x2b, 1, 0];
        let random = std::array::from_fn(|i| i as u8);
        Hello {
            record_version: 0xfeff,
            record_sequence: 0,
            message_seq: 0,
            version: 0xfefd,
            random,
            session_id: Vec::new(),
            cookie: Vec::new(),
            rest,
        }
    }
}

impl Hello {
    /// The same hello with the cookie that it was asked for.
    pub fn with_cookie(&self, cookie: &[u8]) -> Hello {
        Hello { message_seq: 1, record_sequence: self.record_sequence + 1, cookie: cookie.to_vec(), ..self.clone() }
    }

    /// The message without a handshake header.
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend_from_slice(&self.random);
        body.push(self.session_id.len() as u8);
        body.extend_from_slice(&self.session_id);
        body.push(self.cookie.len() as u8);
        body.extend_from_slice(&self.cookie);
        body.extend_from_slice(&self.rest);
        body
    }

    /// The hello in one record.
    pub fn datagram(&self) -> Vec<u8> {
        self.fragment(0, usize::MAX)
    }

    /// At most `len` bytes of the hello from `offset` on, as a fragment in a record.
    pub fn fragment(&self, offset: usize, len: usize) -> Vec<u8> {
        let body = self.body();
        let end = offset.saturating_add(len).min(body.len());
        let fragment = handshake::Fragment {
            message_type: handshake::message_type::CLIENT_HELLO,
            length: body.len(),
            message_seq: self.message_seq,
            offset,
            body: &body[offset..end],
        };
        let content = [&fragment.header()[..], fragment.body].concat();
        record(record::content_type::HANDSHAKE, self.record_version, 0, self.record_sequence, &content)
    }
}

/// A record.
pub fn record(content_type: u8, version: u16, epoch: u16, sequence: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![content_type];
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes()[2..]);
    bytes.extend_from_slice(&(content.len() as u16).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// An address of the documentation's ranges.
pub fn peer(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Numbers that look random and are the same in each run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
