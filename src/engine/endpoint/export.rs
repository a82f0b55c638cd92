//! Sessions that go to the endpoint of another process, and sessions that come from one.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use openssl::ssl::Ssl;

use super::{CloseReason, Connection, Endpoint, Error, Event, Kind, NUMBERED_SESSIONS_MAX, Seat, Session};
use crate::engine::export::{Entry, Export, ExportKey, Exported, Imported, Packed};
use crate::log::log;
use crate::wipe;

impl Endpoint {
    /// Writes down all established sessions, sealed with `key`, for an endpoint of another process to
    /// [`Endpoint::import`]. From here on they stand still: nothing is sent or received on them, until
    /// [`Endpoint::commit_export`] ends them or [`Endpoint::cancel_export`] lets them go on. When it fails they go on.
    ///
    /// Take the events and transmit before: what has come in already is this program's to answer, and afterwards it cannot.
    /// What waits to leave still does. Sessions whose records OpenSSL makes cannot travel; they are counted and stay.
    ///
    /// `to` must not write after it has failed or panicked, as a buffer may.
    /// [`Endpoint::export_to`] is for descriptors, and waits for nobody who does not read.
    pub fn export(&mut self, key: &ExportKey, to: &mut dyn Write) -> Result<Exported, Error> {
        let packed = self.pack()?;
        let exported = catch_unwind(AssertUnwindSafe(|| packed.write(key, to, || true)));
        if !matches!(exported, Ok(Ok(_))) {
            self.cancel_export()?;
        }
        exported.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// How long writing an export may take; see [`Config::export_timeout`](super::Config::export_timeout).
    pub(crate) fn export_timeout(&self) -> Duration {
        self.config.export_timeout
    }

    /// The same, but for the writing.
    pub(crate) fn pack(&mut self) -> Result<Packed, Error> {
        self.refuse_in_a_child()?;
        if self.exported.is_some() {
            return Err(Error::Invalid("an export has been made: commit or cancel it first".into()));
        }
        let (mut packed, mut exported) = (Packed::default(), Vec::new());
        for (session, seat) in self.seats.iter().filter(|(_, seat)| seat.opened) {
            let (peer, local) = seat.proven_place();
            let mut entry = seat.connection.entry(self.now, local, seat.user).map(|entry| Entry { peer, ..entry });
            match &entry {
                Some(entry) if packed.push(entry) => exported.push(session),
                _ => packed.exported.left += 1,
            }
            entry.iter_mut().for_each(Entry::wipe);
        }
        for session in &exported {
            self.seats.get_mut(*session).into_iter().for_each(|seat| seat.connection.stand_still());
        }
        self.exported = Some((exported, self.now));
        Ok(packed)
    }

    /// The sessions of the export have a new home: they are over here, and [`Event::Closed`] says so of each. Their peers
    /// notice nothing.
    pub fn commit_export(&mut self) -> Result<(), Error> {
        let (exported, _) = self.end_export()?;
        log!(Info, "{} sessions exported", exported.len());
        exported.into_iter().for_each(|session| self.finish(session, CloseReason::Exported));
        Ok(())
    }

    /// Nobody will import the export, be it since the other process is gone or since the export is: its sessions go on here.
    /// Both would repeat nonces, which is the end of all that their keys protect.
    pub fn cancel_export(&mut self) -> Result<(), Error> {
        let (exported, since) = self.end_export()?;
        for session in exported {
            let Some(seat) = self.seats.get_mut(session) else { continue };
            seat.connection.go_on(self.now - since);
            self.timers.set(session, seat.deadline());
        }
        Ok(())
    }

    /// The sessions of the export, and since when they stand still.
    fn end_export(&mut self) -> Result<(Vec<Session>, u64), Error> {
        self.refuse_in_a_child()?;
        self.exported.take().ok_or_else(|| Error::Invalid("there is no export to be ended".into()))
    }

    /// Goes on with the sessions of an export, all of them or, with an error, none. [`Event::Opened`] tells of each, and
    /// [`Info::is_imported`](super::Info::is_imported) that there was no handshake.
    pub fn import(&mut self, now: u64, export: Export) -> Result<Imported, Error> {
        if export.sessions() > self.room() {
            return Err(Error::Limit);
        }
        let seats = self.seats_for(now, export.entries())?;
        export.use_up()?;
        Ok(self.take_in(seats))
    }

    /// How many sessions more there may be.
    pub(crate) fn room(&self) -> usize {
        (self.config.settings.max_connections as usize).saturating_sub(self.seats.entries())
    }

    /// Makes what [`Endpoint::take_in`] takes, which may be more than there is [`Endpoint::room`] for; nothing of the endpoint
    /// is changed.
    pub(crate) fn seats_for<'a>(
        &mut self,
        now: u64,
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) -> Result<Vec<Seat>, Error> {
        self.tell_time(now);
        self.refuse_in_a_child()?;
        let ssl = Ssl::new(&self.context)?;
        let padding = self.config.connection_ids.as_ref().map_or(0, |ids| ids.padding);
        let most = if self.is_numbered() { NUMBERED_SESSIONS_MAX as usize } else { usize::MAX };
        let seats = entries.into_iter().zip(self.seats.entries()..).map(|(entry, before)| {
            if before >= most {
                return Err(Error::Limit);
            }
            if ![0, self.cids.cid_len()].contains(&entry.our_id.len()) {
                let (theirs, ours) = (entry.our_id.len(), self.cids.cid_len());
                return Err(Error::Invalid(format!(
                    "sessions with connection IDs of {theirs} bytes: ours have {ours}"
                )));
            }
            let connection = Connection::import(&entry, &ssl, &self.config.settings, padding, self.now);
            let connection = connection.ok_or_else(|| {
                Error::Import(format!("{}: a session that this library cannot go on with", entry.peer))
            })?;
            if connection.message_max() == 0 {
                let (peer, mtu) = (entry.peer, self.config.settings.mtu);
                return Err(Error::Invalid(format!(
                    "{peer}: with an mtu of {mtu} bytes its connection ID leaves no room"
                )));
            }
            let seat = Seat::new(Box::new(connection), entry.local);
            Ok(Seat { user: entry.user, opened: true, imported: true, ..seat })
        });
        let seats: Result<Vec<_>, Error> = seats.collect();
        wipe::stack();
        let mut seats = seats?;
        // At a limit the longest idle goes first, as it would have before.
        seats.sort_by_key(|seat| seat.connection.used());
        Ok(seats)
    }

    /// Takes sessions in, but for those that their peer has begun anew here already, or whose connection ID another has. Those
    /// that our settings do not allow are closed.
    pub(crate) fn take_in(&mut self, seats: Vec<Seat>) -> Imported {
        let (mut imported, mut refused) = (Imported::default(), 0);
        for mut seat in seats {
            let (peer, server) = (seat.connection.peer(), seat.connection.is_server());
            let has_id = !seat.cid.is_empty();
            let begun_anew = match has_id {
                true => self.cids.find(&seat.cid).is_some(),
                false => self.sessions_with(peer).any(|session| self.is_open(session, server)),
            };
            if begun_anew {
                imported.skipped += 1;
                continue;
            }
            let deadline = seat.deadline();
            let is_good =
                seat.connection.has_extended_master_secret() || !self.config.settings.require_extended_master_secret;
            // One that is not good is over before the program knows of it.
            seat.known = is_good;
            let session = self.insert(peer, seat, if server { Kind::Established } else { Kind::Foreign });
            if has_id {
                self.seats.detach(session);
            }
            if !is_good {
                self.end(session, CloseReason::Local);
                refused += 1;
                continue;
            }
            self.timers.set(session, deadline);
            self.inbox.push(Event::Opened { session });
            imported.sessions += 1;
        }
        if refused > 0 {
            log!(Warn, "{refused} sessions not imported but closed: without the extended master secret");
        }
        imported.skipped += refused;
        log!(Info, "{} sessions imported, {} skipped", imported.sessions, imported.skipped);
        imported
    }

    /// Whether a session with our part in it was opened.
    fn is_open(&self, session: Session, server: bool) -> bool {
        self.seats.get(session).is_some_and(|seat| seat.opened && seat.connection.is_server() == server)
    }
}
