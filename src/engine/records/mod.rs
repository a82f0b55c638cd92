//! Records of DTLS 1.2 under an AEAD of our own, once OpenSSL has finished the handshake (RFC 6347 4.1, RFC 5288, RFC 7905).
//!
//! The number of a record, epoch and sequence number in eight bytes, is its explicit nonce, so no nonce is used twice as
//! long as no number is. OpenSSL chooses the nonce of its Finished at random, for the same key: if one of our numbers would
//! meet it, that number is skipped.

mod cid;
mod prf;
mod progress;
mod suite;
mod window;

use std::hint::black_box;
use std::mem;

use ring::aead::{Aad, LessSafeKey, Nonce};

pub use self::prf::export;
pub use self::progress::{Progress, SKIPPED};
pub use self::suite::Suite;
pub use self::window::Window;
pub use crate::tls::master_secret::{Digest, Secrets};
use crate::wipe;
use crate::wire::record::{HEADER_LEN, PLAINTEXT_MAX, Record, content_type};

/// The epoch of the keys of the handshake; without renegotiation there is no other.
const EPOCH: u64 = 1;

/// Bytes of the tag behind the ciphertext.
const TAG_LEN: usize = 16;

/// Sequence numbers have 48 bits.
pub(crate) const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// Numbers that no message gets, so that there are some left to say goodbye with.
const KEPT_FOR_ALERTS: u64 = 1 << 16;

/// Records that may fail to open under one key (RFC 9147 4.5.3).
const FAILED_MAX: u64 = 1 << 36;

/// What OpenSSL has sealed and opened with the keys before we take them over.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// The sequence number behind the highest that it sealed with.
    pub next: u64,
    /// The first eight bytes of the fragments that it sealed: with AES-GCM, their explicit nonces.
    pub nonces: Vec<u64>,
    /// The sequence number of the peer's Finished.
    pub opened: Option<u64>,
}

/// Seals and opens the records of one connection.
pub struct Records {
    suite: Suite,
    write: Key,
    read: Key,
    /// The keys as the AEAD works with them. They take up a kilobyte, so they are dropped while the connection is idle.
    expanded: Option<Box<Expanded>>,
    next: u64,
    /// Nonces that OpenSSL has used and our numbers have not passed yet; almost always none.
    taken: Vec<u64>,
    sealed_blocks: u64,
    failed: u64,
    window: Window,
    /// The number of the last Finished of the peer's.
    finished: Option<u64>,
    /// What our records carry: the peer's connection ID, and zeros up to a multiple of so many bytes. See [`cid`].
    cid: Box<[u8]>,
    padding: u16,
}

/// What was in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Its content type, where there is a connection ID the true one from inside.
    pub content_type: u8,
    /// How long it is.
    pub len: usize,
}

/// One direction's piece of the key block.
#[derive(Default)]
struct Key {
    bytes: [u8; 32],
    iv: [u8; 12],
}

struct Expanded {
    suite: Suite,
    write: LessSafeKey,
    read: LessSafeKey,
}

/// Who has sealed a record.
#[derive(Clone, Copy)]
enum By {
    Us,
    Peer,
}

impl Records {
    /// `server`: we are the server. `used`: what was done with the keys before.
    pub fn new(suite: Suite, secrets: &Secrets, server: bool, used: Used) -> Records {
        let (key_len, iv_len) = (suite.algorithm().key_len(), suite.iv_len());
        let mut block = [0; 2 * (32 + 12)];
        prf::key_block(secrets, &mut block[..2 * (key_len + iv_len)]);
        let (keys, ivs) = block.split_at(2 * key_len);
        let piece = |number: usize| {
            let mut key = Key::default();
            key.bytes[..key_len].copy_from_slice(&keys[number * key_len..][..key_len]);
            key.iv[..iv_len].copy_from_slice(&ivs[number * iv_len..][..iv_len]);
            key
        };
        let (write, read) = if server { (piece(1), piece(0)) } else { (piece(0), piece(1)) };
        wipe::bytes(&mut block);
        let mut records = Records {
            suite,
            write,
            read,
            expanded: None,
            next: 0,
            taken: Vec::new(),
            sealed_blocks: 0,
            failed: 0,
            window: Window::default(),
            finished: None,
            cid: Box::default(),
            padding: 0,
        };
        records.go_on_from(used);
        records
    }

    /// Moves out of the box without leaving a copy of the keys behind, as a plain move would.
    pub fn unbox(mut self: Box<Records>) -> Records {
        let (write, read) = (mem::take(&mut self.write), mem::take(&mut self.read));
        Records { write, read, ..*self }
    }

    /// Goes on where OpenSSL has stopped.
    pub fn go_on_from(&mut self, used: Used) {
        used.opened.into_iter().for_each(|sequence| self.window.mark(sequence));
        self.finished = used.opened;
        self.next = self.next.max(used.next);
        self.taken = used.nonces;
        let (suite, next) = (self.suite, number(self.next));
        self.taken.retain(|nonce| suite.explicit_len() > 0 && *nonce >= next && nonce >> 48 == EPOCH);
        self.taken.shrink_to_fit();
    }

    /// How they are protected.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Bytes of the record of a message of `len` bytes.
    #[inline]
    pub fn sealed_len(&self, len: usize) -> usize {
        HEADER_LEN + self.cid.len() + self.suite.explicit_len() + self.inner_len(len) + TAG_LEN
    }

    /// Whether the keys have reached a limit of their use: the connection must end.
    #[inline]
    pub fn are_exhausted(&self) -> bool {
        self.next > SEQUENCE_MAX - KEPT_FOR_ALERTS
            || self.sealed_blocks > self.suite.blocks_max()
            || self.failed > FAILED_MAX
    }

    /// Whether neither `record` nor one with a higher number has come.
    #[inline]
    pub fn is_newest(&self, record: &Record<'_>) -> bool {
        self.window.is_newest(record.sequence)
    }

    /// Seals `content` into `out`, which has [`Records::sealed_len`] bytes. Returns that length, or `None` if there is no
    /// number left.
    #[inline]
    pub fn seal(&mut self, content_type: u8, content: &[u8], out: &mut [u8]) -> Option<usize> {
        while self.taken.contains(&number(self.next)) {
            self.next += 1;
        }
        if self.next > SEQUENCE_MAX {
            return None;
        }
        let number = number(self.next).to_be_bytes();
        let len = match self.cid.is_empty() {
            true => self.seal_as(By::Us, number, content_type, content, out)?,
            false => self.seal_with_cid(number, content_type, content, out)?,
        };
        self.next += 1;
        self.sealed_blocks += 2 + self.inner_len(content.len()) as u64 / 16;
        Some(len)
    }

    /// An ordinary record with this number, as one of the two parties seals it.
    #[inline]
    fn seal_as(&mut self, by: By, number: [u8; 8], content_type: u8, content: &[u8], out: &mut [u8]) -> Option<usize> {
        let explicit_len = self.suite.explicit_len();
        let begin = HEADER_LEN + explicit_len;
        let [.., high, low] = (explicit_len + content.len() + TAG_LEN).to_be_bytes();
        out[..3].copy_from_slice(&[content_type, 0xfe, 0xfd]);
        out[3..11].copy_from_slice(&number);
        out[11..HEADER_LEN].copy_from_slice(&[high, low]);
        out[HEADER_LEN..begin].copy_from_slice(&number[..explicit_len]);
        let (body, tag) = out[begin..].split_at_mut(content.len());
        body.copy_from_slice(content);
        let nonce = self.key(by).nonce(self.suite, number);
        let aad = aad(number, content_type, [0xfe, 0xfd], content.len());
        let sealed = self.expanded().by(by).seal_in_place_separate_tag(nonce, aad, body).ok()?;
        tag[..TAG_LEN].copy_from_slice(sealed.as_ref());
        Some(begin + content.len() + TAG_LEN)
    }

    /// Opens `record` into `out`, which is as long as its fragment. `None` for a replay and for what is not authentic.
    #[inline]
    pub fn open(&mut self, record: &Record<'_>, out: &mut [u8]) -> Option<Plain> {
        if u64::from(record.epoch) != EPOCH || !self.window.is_new(record.sequence) {
            return None;
        }
        let plain = self.look(record, out)?;
        self.window.mark(record.sequence);
        Some(plain)
    }

    /// [`Records::open`] without the replay window: the record may have come before, and is not remembered.
    #[inline]
    pub fn look(&mut self, record: &Record<'_>, out: &mut [u8]) -> Option<Plain> {
        let (content_type, len) = match record.content_type {
            content_type::TLS12_CID => self.open_with_cid(record, out)?,
            content_type => (content_type, self.open_as(By::Peer, record, out)?),
        };
        Some(Plain { content_type, len })
    }

    /// Opens an ordinary record that one of the two parties has sealed.
    #[inline]
    fn open_as(&mut self, by: By, record: &Record<'_>, out: &mut [u8]) -> Option<usize> {
        let overhead = self.suite.explicit_len() + TAG_LEN;
        let len = record.fragment().len().checked_sub(overhead).filter(|len| *len <= PLAINTEXT_MAX)?;
        let aad = aad(header_number(record), record.content_type, record.version.to_be_bytes(), len);
        self.decrypt(by, record, aad, out)
    }

    #[inline]
    fn decrypt<A: AsRef<[u8]>>(&mut self, by: By, record: &Record<'_>, aad: Aad<A>, out: &mut [u8]) -> Option<usize> {
        let (explicit, sealed) = record.fragment().split_at_checked(self.suite.explicit_len())?;
        let len = sealed.len().checked_sub(TAG_LEN)?;
        let nonce = self.key(by).nonce(self.suite, explicit.try_into().unwrap_or(header_number(record)));
        let out = &mut out[..sealed.len()];
        out.copy_from_slice(sealed);
        if self.expanded().by(by).open_in_place(nonce, aad, out).is_err() {
            self.failed += 1;
            return None;
        }
        Some(len)
    }

    /// The connection is idle: drops what can be computed again.
    pub fn rest(&mut self) {
        self.expanded = None;
    }

    #[inline]
    fn key(&self, by: By) -> &Key {
        match by {
            By::Us => &self.write,
            By::Peer => &self.read,
        }
    }

    #[inline]
    fn expanded(&mut self) -> &Expanded {
        let Records { suite, write, read, expanded, .. } = self;
        expanded.get_or_insert_with(|| {
            let expanded = Expanded::of(*suite, write, read);
            wipe::stack();
            expanded
        })
    }
}

impl Key {
    /// From the explicit nonce, or where there is none from the number of the record.
    #[inline]
    fn nonce(&self, suite: Suite, eight: [u8; 8]) -> Nonce {
        let mut nonce = self.iv;
        match suite {
            Suite::Aes128Gcm | Suite::Aes256Gcm => nonce[4..].copy_from_slice(&eight),
            Suite::Chacha20Poly1305 => nonce[4..].iter_mut().zip(eight).for_each(|(byte, other)| *byte ^= other),
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        wipe::bytes(&mut self.bytes);
        wipe::bytes(&mut self.iv);
    }
}

impl Expanded {
    #[inline(never)]
    fn of(suite: Suite, write: &Key, read: &Key) -> Box<Expanded> {
        Box::new(Expanded { suite, write: suite.expand(&write.bytes), read: suite.expand(&read.bytes) })
    }

    #[inline]
    fn by(&self, by: By) -> &LessSafeKey {
        match by {
            By::Us => &self.write,
            By::Peer => &self.read,
        }
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        for key in [&mut self.write, &mut self.read] {
            black_box(key).clone_from(self.suite.zero_key());
        }
        black_box(self);
    }
}

/// Epoch and sequence number, as they stand in the header.
#[inline]
fn number(sequence: u64) -> u64 {
    EPOCH << 48 | sequence
}

#[inline]
fn header_number(record: &Record<'_>) -> [u8; 8] {
    (u64::from(record.epoch) << 48 | record.sequence).to_be_bytes()
}

/// What is authenticated besides the content (RFC 6347 4.1.2.1, RFC 5246 6.2.3.3).
#[inline]
fn aad(number: [u8; 8], content_type: u8, version: [u8; 2], len: usize) -> Aad<[u8; 13]> {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&number);
    aad[8..11].copy_from_slice(&[content_type, version[0], version[1]]);
    aad[11..].copy_from_slice(&(len as u16).to_be_bytes());
    Aad::from(aad)
}

#[cfg(test)]
impl Records {
    /// Goes on with another number than the next.
    pub fn skip_to(&mut self, next: u64) {
        self.next = next;
    }

    /// Whether only the raw keys are there.
    pub fn are_at_rest(&self) -> bool {
        self.expanded.is_none()
    }

    /// So many more blocks, and the key is exhausted.
    pub fn seal_no_more_than(&mut self, blocks: u64) {
        self.sealed_blocks = self.suite.blocks_max() - blocks;
    }

    /// So many more failures, and the key is exhausted by the next.
    pub fn fail_no_more_than(&mut self, times: u64) {
        self.failed = FAILED_MAX - times;
    }

    /// To write and to read with.
    pub fn keys(&self) -> [&[u8]; 2] {
        [&self.write, &self.read].map(|key| &key.bytes[..self.suite.algorithm().key_len()])
    }
}

#[cfg(test)]
pub(super) mod tests;
