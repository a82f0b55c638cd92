//! The seal around an export: chunks under an AEAD, each with its number as the nonce and the last one marked, so that none
//! can be removed, added, moved or left off the end.

use std::hint::black_box;
use std::io::{self, ErrorKind, Read, Write};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};

use super::{ExportKey, damaged};
use crate::engine::endpoint::Error;
use crate::engine::records::Suite;
use crate::{tls, wipe};

/// What every export begins with.
const MAGIC: [u8; 8] = *b"dv_dtls\x1a";

/// Of the format.
const VERSION: u16 = 2;

const SALT_LEN: usize = 32;
const HEADER_LEN: usize = MAGIC.len() + 2 + SALT_LEN;
const TAG_LEN: usize = 16;

/// The first byte of a chunk: sessions, or how many of them there were.
const SESSIONS: u8 = 0;
const LAST: u8 = 1;

/// Bytes of the longest chunk in clear: what a reader makes room for before it knows that the chunk is authentic.
pub const CHUNK_MAX: usize = 256 << 10;

/// The key of this export alone: numbers of chunks begin anew with each export, so their key must be a new one.
struct StreamKey {
    key: LessSafeKey,
    number: u64,
}

impl StreamKey {
    fn new(key: &ExportKey, header: &[u8; HEADER_LEN]) -> StreamKey {
        let derived = StreamKey::derive(key, header);
        wipe::stack();
        derived
    }

    #[inline(never)]
    fn derive(key: &ExportKey, header: &[u8; HEADER_LEN]) -> StreamKey {
        let (about, salt) = header.split_at(HEADER_LEN - SALT_LEN);
        let secret = Salt::new(HKDF_SHA256, salt).extract(&*key.0);
        let key = secret.expand(&[b"dv_dtls session export", about], &AES_256_GCM).map(UnboundKey::from);
        StreamKey { key: LessSafeKey::new(key.expect("HKDF gives as much as one key")), number: 0 }
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for StreamKey {
    fn drop(&mut self) {
        black_box(&mut self.key).clone_from(Suite::Aes256Gcm.zero_key());
        black_box(self);
    }
}

/// Writes an export.
pub struct Sealer<'a> {
    key: StreamKey,
    to: &'a mut dyn Write,
}

impl<'a> Sealer<'a> {
    /// Writes the header.
    pub fn begin(key: &ExportKey, to: &'a mut dyn Write) -> io::Result<Sealer<'a>> {
        let mut header = [0; HEADER_LEN];
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[MAGIC.len()..][..2].copy_from_slice(&VERSION.to_be_bytes());
        tls::randomize(&mut header[HEADER_LEN - SALT_LEN..]);
        to.write_all(&header)?;
        Ok(Sealer { key: StreamKey::new(key, &header), to })
    }

    /// Writes a chunk, which is sealed in place.
    pub fn chunk(&mut self, sessions: &mut [u8]) -> io::Result<()> {
        self.write(SESSIONS, sessions)
    }

    /// Sees to it that all that was written has left.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Writes the last chunk. Without it nothing of the export is good.
    pub fn end(mut self, sessions: u64) -> io::Result<()> {
        self.write(LAST, &mut sessions.to_be_bytes())
    }

    fn write(&mut self, kind: u8, content: &mut [u8]) -> io::Result<()> {
        let [.., high, middle, low] = (content.len() + TAG_LEN).to_be_bytes();
        let head = [kind, high, middle, low];
        let nonce = self.key.next_nonce();
        let tag = self.key.key.seal_in_place_separate_tag(nonce, Aad::from(head), content);
        let tag = tag.map_err(|_| io::Error::other("the chunk is too long"))?;
        self.to.write_all(&[&head[..], content, tag.as_ref()].concat())
    }
}

/// Reads an export.
pub struct Opener<'a> {
    key: StreamKey,
    from: &'a mut dyn Read,
}

impl<'a> Opener<'a> {
    /// Reads the header.
    pub fn begin(key: &ExportKey, from: &'a mut dyn Read) -> Result<Opener<'a>, Error> {
        let mut header = [0; HEADER_LEN];
        read(from, &mut header)?;
        let version = u16::from_be_bytes([header[MAGIC.len()], header[MAGIC.len() + 1]]);
        match version {
            _ if header[..MAGIC.len()] != MAGIC => Err(damaged("this is no export of sessions")),
            VERSION => Ok(Opener { key: StreamKey::new(key, &header), from }),
            other => Err(Error::Import(format!("its format has version {other}: this library knows {VERSION}"))),
        }
    }

    /// Puts the next chunk of sessions into `content`. After the last one, returns how many sessions there were.
    pub fn chunk(&mut self, content: &mut Vec<u8>) -> Result<Option<u64>, Error> {
        let mut head = [0; 4];
        read(self.from, &mut head)?;
        let [kind, high, middle, low] = head;
        let len = u32::from_be_bytes([0, high, middle, low]) as usize;
        if kind > LAST || !(TAG_LEN..=CHUNK_MAX + TAG_LEN).contains(&len) {
            return Err(damaged(BROKEN));
        }
        content.resize(len, 0);
        read(self.from, content)?;
        let nonce = self.key.next_nonce();
        let opened = self.key.key.open_in_place(nonce, Aad::from(head), content).map_err(|_| damaged(BROKEN))?;
        let len = opened.len();
        if kind == LAST {
            let sessions = (&*opened).try_into().map_err(|_| damaged(BROKEN))?;
            return Ok(Some(u64::from_be_bytes(sessions)));
        }
        content.truncate(len);
        Ok(None)
    }
}

const BROKEN: &str = "it is damaged, or sealed with another key";

fn read(from: &mut dyn Read, into: &mut [u8]) -> Result<(), Error> {
    from.read_exact(into).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => damaged("it is cut short: whoever wrote it has not come to its end"),
        _ => error.into(),
    })
}
