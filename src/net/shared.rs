//! What the workers of a server and everybody else have in common.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::mailbox::{Mailbox, Request};
use super::steer::Owners;
use crate::engine::endpoint::{Endpoint, Error, Session};
use crate::engine::stats::{Counters, counters};
use crate::wire::record::PLAINTEXT_MAX;

counters! {
    /// What a worker counts at its sockets.
    SocketCounters, SocketStats:
    /// Datagrams that the kernel dropped because a socket's buffer was full.
    kernel_drops,
    /// Datagrams of handshakes that were dropped because more waited than their share of the time allows, at a socket where
    /// the kernel does not keep them apart.
    handshakes_shed,
    /// Reads of many datagrams at once.
    batches_in,
    /// Writes of many datagrams at once.
    batches_out,
    /// Times that a socket had no room for what was to leave, which then waited.
    socket_full,
    /// Datagrams that the kernel refused to send.
    datagrams_refused,
    /// Messages from other threads that could not be sent any more when their worker came to them.
    messages_refused,
    /// Datagrams for a session of another worker, which were handed over.
    datagrams_handed_over,
    /// Datagrams for a session of another worker, which had no room for them.
    handovers_dropped,
}

/// See the [module](self).
pub struct Shared {
    pub(super) desks: Vec<Desk>,
    stopping: AtomicBool,
    /// Where a connection ID of ours tells which worker has the session.
    owners: Option<Owners>,
}

/// Where others reach a worker, and read what it counts.
pub(super) struct Desk {
    pub(super) mailbox: Mailbox,
    pub(super) counters: Arc<Counters>,
    pub(super) sockets: SocketCounters,
    /// Handshakes in progress.
    pub(super) handshakes: AtomicUsize,
}

impl Shared {
    /// For a worker with each of these endpoints; each mailbox has room for `waiting_max` bytes.
    pub(super) fn new(endpoints: &[Endpoint], waiting_max: usize, owners: Option<Owners>) -> Result<Shared, Error> {
        let desk = |endpoint: &Endpoint| {
            let mailbox = Mailbox::new(waiting_max)?;
            let (counters, sockets) = (endpoint.counters(), SocketCounters::default());
            Ok(Desk { mailbox, counters, sockets, handshakes: AtomicUsize::new(0) })
        };
        let desks = endpoints.iter().map(desk).collect::<Result<_, Error>>()?;
        Ok(Shared { desks, stopping: AtomicBool::new(false), owners })
    }

    /// If a datagram belongs to a session of another worker, hands it to that one; returns whether it does.
    pub(super) fn hand_over(&self, worker: usize, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> bool {
        let owner = self.owners.and_then(|owners| owners.of(datagram)).filter(|owner| *owner != worker);
        if let Some(owner) = owner {
            let handed_over = self.desks[owner].mailbox.hand_over(from, to, datagram);
            let counters = &self.desks[worker].sockets;
            if handed_over { &counters.datagrams_handed_over } else { &counters.handovers_dropped }.add(1);
        }
        owner.is_some()
    }

    /// The worker that has the session with this connection ID, if IDs tell.
    pub(super) fn owner_of(&self, id: &[u8]) -> Option<usize> {
        self.owners.and_then(|owners| owners.of_id(id))
    }

    /// Relaxed: nothing else is published with it, and the bell wakes a worker that has missed it.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn send(&self, session: Session, message: &[u8]) -> Result<(), Error> {
        if message.is_empty() {
            return Err(Error::Invalid("an empty message".into()));
        }
        if message.len() > PLAINTEXT_MAX {
            return Err(Error::TooLong { max: PLAINTEXT_MAX });
        }
        self.mailbox_of(session)?.send(session, message)
    }

    pub(super) fn close(&self, session: Session) -> Result<(), Error> {
        self.mailbox_of(session)?.close(session)
    }

    fn mailbox_of(&self, session: Session) -> Result<&Mailbox, Error> {
        self.desks.get(usize::from(Endpoint::number_of(session))).map(|desk| &desk.mailbox).ok_or(Error::Stale)
    }

    /// Asks all workers for the same.
    pub(super) fn ask_all(&self, request: impl Fn() -> Request) {
        self.desks.iter().for_each(|desk| desk.mailbox.ask(request()));
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Wakes all workers.
    pub(super) fn ring(&self) {
        self.desks.iter().for_each(|desk| desk.mailbox.bell().ring());
    }
}
