//! Sessions that go to another process: a restart or an upgrade that no peer notices. docs/session-export.md has the format.
//!
//! It takes two steps. First all sessions whose records are ours stand still, and are written out, sealed with a key of the
//! program's. Then the program *commits*, which ends them in this process without a word to their peers, or *cancels*, and
//! they go on here. In between nothing can be sent or received on them, so what was written stays true: no nonce is used
//! twice, and no record that was received here is accepted again there.

mod entry;
mod seal;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

pub use self::entry::{Entry, Flight};
use self::seal::{Opener, Sealer};
use super::endpoint::Error;
use crate::tls::fork;
use crate::wipe;

/// The key that an export is sealed with, both here and there: 32 random bytes. Wiped when dropped. It is boxed, as each move
/// would leave a copy behind.
#[derive(Clone)]
pub struct ExportKey(Box<[u8; 32]>);

impl ExportKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// The key with these bytes.
    pub fn new(mut bytes: [u8; ExportKey::LEN]) -> ExportKey {
        let key = ExportKey::of(&bytes);
        wipe::bytes(&mut bytes);
        key
    }

    /// The same, of bytes that somebody else wipes.
    pub(crate) fn of(bytes: &[u8; ExportKey::LEN]) -> ExportKey {
        let mut key = ExportKey(Box::new([0; ExportKey::LEN]));
        key.0.copy_from_slice(bytes);
        key
    }
}

impl Drop for ExportKey {
    fn drop(&mut self) {
        wipe::bytes(&mut *self.0);
    }
}

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExportKey(..)")
    }
}

/// What became of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Sessions that were written.
    pub sessions: usize,
    /// Established sessions that cannot travel: OpenSSL makes their records.
    pub left: usize,
}

/// What became of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Sessions that go on here.
    pub sessions: usize,
    /// Sessions that do not: their peer has begun another one here already, or has spoken to an address that this server has
    /// not; or their master secret is not bound to their handshake where that is required, and their peer was sent a
    /// close_notify.
    pub skipped: usize,
}

/// Bytes that a chunk has room for; more, where a single session is longer.
const CHUNK_ROOM: usize = 16 << 10;

/// Sessions written down, not sealed yet: whole entries in chunks, which are wiped when dropped.
#[derive(Default)]
pub struct Packed {
    chunks: Vec<Plain>,
    /// How many they are.
    pub exported: Exported,
}

/// A piece of an export in clear.
#[derive(Default)]
struct Plain(Vec<u8>);

impl Drop for Plain {
    fn drop(&mut self) {
        wipe::bytes(&mut self.0);
    }
}

impl Packed {
    /// Adds a session; returns whether it can be exported.
    pub fn push(&mut self, entry: &Entry<'_>) -> bool {
        let Some(len) = entry.encoded_len() else { return false };
        if self.chunks.last().is_none_or(|chunk| chunk.0.len() + len > chunk.0.capacity()) {
            // It never grows: that would leave a copy of the secrets in it behind.
            self.chunks.push(Plain(Vec::with_capacity(CHUNK_ROOM.max(len))));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            entry.encode(&mut chunk.0);
        }
        self.exported.sessions += 1;
        true
    }

    /// Adds those of another endpoint.
    pub fn append(&mut self, mut other: Packed) {
        self.chunks.append(&mut other.chunks);
        self.exported.sessions += other.exported.sessions;
        self.exported.left += other.exported.left;
    }

    /// Seals and writes all of it. `may_end` is asked before the last piece, without which the others are useless.
    pub fn write(self, key: &ExportKey, to: &mut dyn Write, may_end: impl FnOnce() -> bool) -> Result<Exported, Error> {
        let exported = self.exported;
        let write = || -> io::Result<()> {
            let mut sealer = Sealer::begin(key, to)?;
            for mut chunk in self.chunks {
                sealer.chunk(&mut chunk.0)?;
            }
            sealer.flush()?;
            if !may_end() {
                return Err(io::Error::new(ErrorKind::TimedOut, "the export was given up before it was written"));
            }
            sealer.end(exported.sessions as u64)
        };
        write()?;
        // Somebody may have all of it now, so from here on it has not failed; the reader will find out whether it is whole.
        let _ = to.flush();
        Ok(exported)
    }
}

/// The sessions of an export, opened and found whole. Endpoints and servers import it.
///
/// It can be imported once: two processes that go on with the same sessions would repeat nonces.
/// [`Export::take`] sees to that where it stands in a file, this type everywhere else.
pub struct Export {
    chunks: Vec<Plain>,
    sessions: usize,
    /// Makes sure that nobody else imports it.
    use_up: Option<Box<UseUp>>,
    born: u32,
}

/// See [`Export::used_up_by`].
type UseUp = dyn FnOnce() -> io::Result<()> + Send;

impl Export {
    /// Reads an export, up to its end and no further. It is refused if it is damaged, cut short, put together from others,
    /// sealed with another key, or of an unknown version.
    pub fn read(from: &mut dyn Read, key: &ExportKey) -> Result<Export, Error> {
        let mut opener = Opener::begin(key, from)?;
        let mut export = Export::new();
        let announced = loop {
            let mut chunk = Plain::default();
            match opener.chunk(&mut chunk.0)? {
                Some(announced) => break announced,
                None => export.add(chunk)?,
            }
        };
        if announced != export.sessions as u64 {
            return Err(damaged("another number of sessions is in it than its end says"));
        }
        Ok(export)
    }

    /// Sessions of an export as they are inside of its seal, for tests of what reads them.
    #[doc(hidden)]
    pub fn from_plain(bytes: &[u8]) -> Result<Export, Error> {
        let mut export = Export::new();
        export.add(Plain(bytes.to_vec()))?;
        Ok(export)
    }

    /// Calls `use_up` before the first of the sessions is taken in; if it fails, none is.
    pub(crate) fn used_up_by(self, use_up: impl FnOnce() -> io::Result<()> + Send + 'static) -> Export {
        Export { use_up: Some(Box::new(use_up)), ..self }
    }

    /// The sessions are going to be taken in.
    pub(crate) fn use_up(self) -> Result<(), Error> {
        // After a fork both parent and child have it.
        if self.born != fork::generation() {
            return Err(Error::Forked);
        }
        let used_up = self.use_up.map_or(Ok(()), |use_up| use_up());
        used_up.map_err(|error| Error::Import(format!("it cannot be made empty: {error}")))
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// The sessions.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        // They were all read once.
        self.chunks.iter().flat_map(|chunk| entries(&chunk.0)).flatten()
    }

    fn new() -> Export {
        Export { chunks: Vec::new(), sessions: 0, use_up: None, born: fork::generation() }
    }

    fn add(&mut self, chunk: Plain) -> Result<(), Error> {
        for entry in entries(&chunk.0) {
            entry.ok_or_else(|| damaged("a session in it makes no sense"))?;
            self.sessions += 1;
        }
        self.chunks.push(chunk);
        Ok(())
    }
}

/// The entries of a chunk, up to one that makes no sense.
fn entries(mut chunk: &[u8]) -> impl Iterator<Item = Option<Entry<'_>>> {
    std::iter::from_fn(move || {
        if chunk.is_empty() {
            return None;
        }
        let entry = Entry::decode(&mut chunk);
        if entry.is_none() {
            chunk = &[];
        }
        Some(entry)
    })
}

fn damaged(why: &str) -> Error {
    Error::Import(why.into())
}

#[cfg(test)]
mod tests;
