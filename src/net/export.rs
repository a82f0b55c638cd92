//! Exports on descriptors, and those of a whole server.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::mailbox::Request;
use super::server::Server;
use super::sys::precise_now;
use super::sys::stream::{LockedFile, Sink, Source};
use crate::engine::endpoint::{Endpoint, Error};
use crate::engine::export::{Entry, Export, ExportKey, Exported, Imported, Packed};
use crate::engine::settings::micros;

/// What a worker is asked for: what it has, and then to wait for the verdict.
#[derive(Clone)]
pub struct Order {
    pub packed: Sender<Result<Packed, Error>>,
    pub verdict: Arc<Verdict>,
    /// When the export is given up, unless it has been written.
    pub by: u64,
}

/// What becomes of an export. While it is being written nobody can have it, and anybody may give it up; once its end is
/// written, only the program can decide. (All that is needed is that changes of it are in one order, so that one of two
/// wins.)
#[derive(Default)]
pub struct Verdict(AtomicU8);

const WRITING: u8 = 0;
const WRITTEN: u8 = 1;
const COMMITTED: u8 = 2;
const CANCELLED: u8 = 3;

impl Verdict {
    /// Whether there is one.
    pub fn is_known(&self) -> bool {
        matches!(self.0.load(Ordering::SeqCst), COMMITTED | CANCELLED)
    }

    /// Gives the export up, if it is being written. Returns whether the sessions go on here, for this or another reason.
    pub fn give_up(&self) -> bool {
        let before = self.0.compare_exchange(WRITING, CANCELLED, Ordering::SeqCst, Ordering::SeqCst);
        matches!(before, Ok(_) | Err(CANCELLED))
    }

    /// The end is going to be written, unless it was given up.
    fn end(&self) -> bool {
        self.0.compare_exchange(WRITING, WRITTEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn decide(&self, commit: bool) {
        self.0.store(if commit { COMMITTED } else { CANCELLED }, Ordering::SeqCst);
    }
}

impl Export {
    /// Reads an export from a descriptor of any kind, as [`Export::read`] does. A file, which must be open for writing too,
    /// can be imported once: nobody else can read it in this way meanwhile, and before the first session is taken in it is
    /// made empty. A pipe or a socket that nothing comes from for as long as `patience` is given up, be the other end in the
    /// hands of somebody who hangs or of this process itself; zero means that there is no limit.
    pub fn take(from: impl AsFd, key: &ExportKey, patience: Duration) -> Result<Export, Error> {
        let fd = from.as_fd();
        let locked = LockedFile::of(fd).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Error::Import("the file is in use: somebody else reads it".into()),
            _ => error.into(),
        })?;
        let export = Export::read(&mut Source { fd, patience: limit(patience) }, key)?;
        Ok(match locked {
            Some(file) => export.used_up_by(move || file.empty()),
            None => export,
        })
    }
}

impl Endpoint {
    /// [`Endpoint::export`] to a file, a pipe or a stream socket, blocking or not. A reader who is gone is an error, and so is
    /// one who has not read it within [`Config::export_timeout`](crate::Config::export_timeout).
    pub fn export_to(&mut self, key: &ExportKey, to: impl AsFd) -> Result<Exported, Error> {
        let by = time_in(self.export_timeout());
        self.export(key, &mut Sink { fd: to.as_fd(), given_up: &|| precise_now() >= by })
    }
}

impl Server {
    /// Writes down all established sessions, sealed with `key`, for a server of another process to [`Server::import`]. From
    /// here on this one stands still, and the kernel's buffers fill, until [`Server::commit_export`] or
    /// [`Server::cancel_export`]; [`Server::send`] gives [`Error::Again`].
    ///
    /// `to` is a file, a pipe or a stream socket, blocking or not. When the export fails, the server goes on: when the reader
    /// is gone, or has not read it within [`Config::export_timeout`](crate::Config::export_timeout), or the server is stopped
    /// before it is written.
    ///
    /// Sessions whose records OpenSSL makes cannot travel; they are counted. Not from inside a handler.
    pub fn export_to(&self, key: &ExportKey, to: impl AsFd) -> Result<Exported, Error> {
        let by = time_in(self.export_timeout());
        let given_up = || precise_now() >= by || self.shared.is_stopping();
        self.export_by(by, key, &mut Sink { fd: to.as_fd(), given_up: &given_up })
    }

    /// [`Server::export_to`] for what is no descriptor. The server goes on when the time is over, even if a call of `to` still
    /// waits; but for the last one, after which somebody may have the sessions: it must come to an end by itself. `to` must
    /// not write after it has failed or panicked, as a buffer may.
    pub fn export(&self, key: &ExportKey, to: &mut dyn Write) -> Result<Exported, Error> {
        self.export_by(time_in(self.export_timeout()), key, to)
    }

    fn export_by(&self, by: u64, key: &ExportKey, to: &mut dyn Write) -> Result<Exported, Error> {
        self.refuse_in_a_child()?;
        self.refuse_in_a_handler()?;
        let mut pending = self.pending_export();
        if pending.is_some() {
            return Err(Error::Invalid("an export has been made: commit or cancel it first".into()));
        }
        let verdict = Arc::<Verdict>::default();
        let write = || self.gather(&verdict, by)?.write(key, to, || verdict.end());
        let exported = catch_unwind(AssertUnwindSafe(write));
        match exported {
            Ok(Ok(_)) => *pending = Some(verdict),
            _ => self.tell_verdict(&verdict, false),
        }
        drop(pending);
        exported.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The sessions of the export have a new home. They are over here, the handler is told, and their peers notice nothing;
    /// those that could not travel are sent a close_notify, and the server ends. [`Server::join`] waits for that; then its
    /// addresses are free. Not from inside a handler.
    pub fn commit_export(&self) -> Result<(), Error> {
        self.end_export(true)
    }

    /// Nobody will import the export, be it since the other process is gone or since the export is: the server goes on. Both
    /// would repeat nonces, which is the end of all that their keys protect. Not from inside a handler.
    pub fn cancel_export(&self) -> Result<(), Error> {
        self.end_export(false)
    }

    /// Goes on with the sessions of an export, all of them or, with an error, none. The server must be bound to its addresses
    /// and not started yet; once it is, [`Handler::open`](super::handler::Handler::open) is called for each.
    pub fn import(&self, export: Export) -> Result<Imported, Error> {
        self.refuse_in_a_child()?;
        let mut state = self.lock();
        let (workers, bound) = state.idle()?;
        if bound.is_empty() {
            return Err(Error::Invalid("the server is bound to no address: sessions go to who has theirs".into()));
        }
        let mut of_workers: Vec<Vec<Entry<'_>>> = workers.iter().map(|_| Vec::new()).collect();
        let mut imported = Imported::default();
        for entry in export.entries() {
            // Where the worker does not follow from the address, it stands in the connection ID.
            let named = self.shared.owner_of(entry.our_id);
            let serves = |worker: &usize| workers[*worker].serves(entry.peer, entry.local, named);
            let mut takers = (0..workers.len()).filter(serves);
            match (takers.next(), takers.next()) {
                (None, _) => imported.skipped += 1,
                (Some(worker), None) => of_workers[worker].push(entry),
                // The kernel's own choice among sockets that we do not steer.
                (Some(_), Some(_)) => {
                    let why =
                        "nobody knows which of several workers its peers will reach: steer handshakes, or have one";
                    return Err(Error::Invalid(why.into()));
                }
            }
        }
        // No worker has more than its part of the limit, but for sessions that must come to it.
        if export.sessions() - imported.skipped > workers.iter_mut().map(|worker| worker.endpoint().room()).sum() {
            return Err(Error::Limit);
        }
        let now = precise_now();
        let seats =
            workers.iter_mut().zip(of_workers).map(|(worker, entries)| worker.endpoint().seats_for(now, entries));
        let seats = seats.collect::<Result<Vec<_>, Error>>()?;
        export.use_up()?;
        for (worker, seats) in workers.iter_mut().zip(seats) {
            let of_one = worker.endpoint().take_in(seats);
            imported.sessions += of_one.sessions;
            imported.skipped += of_one.skipped;
        }
        Ok(imported)
    }

    /// Lets all workers stand still and gives what they have.
    fn gather(&self, verdict: &Arc<Verdict>, by: u64) -> Result<Packed, Error> {
        let not_running = || Error::Invalid("the server does not run".into());
        if self.lock().idle().is_ok() {
            return Err(not_running());
        }
        let (packed, from_workers) = channel();
        self.shared.ask_all(|| Request::Export(Order { packed: packed.clone(), verdict: verdict.clone(), by }));
        drop(packed);
        // A worker that is over, as one that was drained may be, lets what is asked fall.
        let mut all = None;
        loop {
            match from_workers.recv_timeout(Duration::from_micros(by.saturating_sub(precise_now()))) {
                Ok(packed) => all.get_or_insert_with(Packed::default).append(packed?),
                Err(RecvTimeoutError::Disconnected) => return all.ok_or_else(not_running),
                Err(RecvTimeoutError::Timeout) => return Err(Error::Io("a worker is held up by its handler".into())),
            }
        }
    }

    fn end_export(&self, commit: bool) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        self.refuse_in_a_handler()?;
        let verdict = self.pending_export().take();
        let verdict = verdict.ok_or_else(|| Error::Invalid("there is no export to be ended".into()))?;
        self.tell_verdict(&verdict, commit);
        Ok(())
    }

    fn tell_verdict(&self, verdict: &Verdict, commit: bool) {
        verdict.decide(commit);
        self.shared.ring();
    }
}

/// The time after so long.
fn time_in(timeout: Duration) -> u64 {
    precise_now().saturating_add(limit(timeout))
}

/// In microseconds; zero means that there is none.
fn limit(timeout: Duration) -> u64 {
    match micros(timeout) {
        0 => u64::MAX,
        limit => limit,
    }
}
