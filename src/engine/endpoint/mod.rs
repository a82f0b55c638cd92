//! The sans-IO door: datagrams and time go in; datagrams, events and the next deadline come out.
//!
//! Nothing is called back. A program gives each datagram to [`Endpoint::receive`] and calls [`Endpoint::advance`] when
//! [`Endpoint::deadline`] has come; after either of them, and after what it does itself (connect, send, close), it takes the
//! [`Endpoint::event`]s and sends what [`Endpoint::transmit`] gives.

mod accept;
mod config;
mod connect;
mod context;
mod error;
mod event;
mod export;
mod ids;
mod info;
mod migration;
mod number;
mod outbox;
mod receive;

use std::collections::HashMap;
use std::iter::successors;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use openssl::ssl::SslContext;

pub use self::config::{Config, ConnectionIds, CookieSecret};
pub use self::connect::Connect;
pub use self::context::{add_certificate, share_tickets};
pub use self::error::Error;
pub use self::event::Event;
use self::event::Inbox;
pub use self::info::Info;
use self::migration::{Moves, Unproven};
pub(crate) use self::number::NUMBERED_SESSIONS_MAX;
use self::outbox::Outbox;
pub use self::outbox::Transmit;
pub(crate) use self::outbox::serves;
use super::connection::{CloseReason, Connection, NEVER, OwnId, SendError, State, Terms};
use super::cookie::CookieJar;
pub use super::registry::Id as Session;
use super::registry::{Cids, Kind, Limits, Registry};
use super::stats::Counters;
use super::timers::TimerQueue;
use crate::log::log;
use crate::tls::{self, fork};

/// Connections with one peer address at once: an established one, and handshakes that want to take its place. There may be
/// several of those, as an observer can replay hellos whose cookies are still good.
const PER_PEER: usize = 4;

/// The most deadlines that one call of [`Endpoint::advance`] serves.
const DUE_AT_ONCE: usize = 256;

/// A DTLS endpoint without sockets: a server, a client, or both, for any number of peers.
///
/// Times are microseconds of a monotonic clock of the program's choice; one that is earlier than another before it counts as
/// that. See the [module](self) for the order of the calls.
///
/// A server and a client in memory; a real program has a socket where this one has `carry`:
///
/// ```
/// use std::net::SocketAddr;
///
/// use dv_dtls::{Config, Connect, Endpoint, Event};
/// # use openssl::ssl::{SslContext, SslMethod};
/// # fn psk(server: bool) -> Result<SslContext, openssl::error::ErrorStack> {
/// #     let mut context = SslContext::builder(SslMethod::dtls())?;
/// #     context.set_cipher_list("PSK-AES128-GCM-SHA256")?;
/// #     let key = *b"a key that both know";
/// #     if server {
/// #         context.set_psk_server_callback(move |_, _, out| {
/// #             out[..key.len()].copy_from_slice(&key);
/// #             Ok(key.len())
/// #         });
/// #     } else {
/// #         context.set_psk_client_callback(move |_, _, identity, out| {
/// #             identity[..6].copy_from_slice(b"alice\0");
/// #             out[..key.len()].copy_from_slice(&key);
/// #             Ok(key.len())
/// #         });
/// #     }
/// #     Ok(context.build())
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (server_context, client_context) = (psk(true)?, psk(false)?);
///
/// let (server_address, client_address) = ("192.0.2.1:5684".parse()?, "192.0.2.2:4000".parse()?);
/// let mut server = Endpoint::new(server_context, Config::default())?;
/// let mut client = Endpoint::new(client_context, Config::default())?;
///
/// fn carry(now: u64, from: (SocketAddr, &mut Endpoint), to: &mut Endpoint) {
///     while let Some(transmit) = from.1.transmit(1) {
///         to.receive(now, transmit.bytes, from.0, None);
///     }
/// }
///
/// let session = client.connect(0, &Connect::to(server_address))?;
/// let mut message = Vec::new();
/// let mut answer = None;
/// for now in (0..).step_by(1000).take(20) {
///     carry(now, (client_address, &mut client), &mut server);
///     carry(now, (server_address, &mut server), &mut client);
///     while let Some(event) = server.event(&mut message) {
///         match event {
///             Event::Opened { session } => assert_eq!(server.info(session)?.psk_identity(), Some(&b"alice"[..])),
///             Event::Message { session } => server.send(session, &message)?,
///             Event::Closed { session, reason } => println!("{session:?}: {reason:?}"),
///             _ => {}
///         }
///     }
///     while let Some(event) = client.event(&mut message) {
///         match event {
///             Event::Opened { .. } => client.send(session, b"hello")?,
///             Event::Message { .. } => answer = Some(message.clone()),
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(answer.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Endpoint {
    context: SslContext,
    config: Config,
    jar: CookieJar,
    seats: Registry<Seat>,
    cids: Cids,
    /// Those that are over, until the program has been told; `told` is the one that it was told of last.
    ended: HashMap<Session, Seat>,
    told: Option<Session>,
    /// Those that stand still until their export is committed or cancelled, and since when they do.
    exported: Option<(Vec<Session>, u64)>,
    /// For the log.
    moves: Moves,
    timers: TimerQueue,
    inbox: Inbox,
    outbox: Outbox,
    counters: Arc<Counters>,
    now: u64,
    born: u32,
    /// The bits in which the program's numbers of sessions differ from ours; see [`Endpoint::set_number`].
    brand: u64,
    numbered: bool,
}

/// A connection and what the endpoint knows about it.
pub(crate) struct Seat {
    connection: Box<Connection>,
    /// Our address that the peer spoke to.
    local: Option<IpAddr>,
    user: u64,
    /// The program knows this session: it is open, or the program has made it.
    known: bool,
    opened: bool,
    /// It comes from another process.
    imported: bool,
    /// It is in the queue of those with something to send.
    ready: bool,
    /// [`Event::Moved`] waits to be told.
    moved: bool,
    messages_waiting: u16,
    /// Of [`Outbox::waiting`].
    bytes_waiting: usize,
    /// The connection ID of ours that leads to it.
    cid: Box<[u8]>,
    /// The peer has moved, and has not shown yet that it receives at its new address.
    unproven: Option<Box<Unproven>>,
}

impl Endpoint {
    /// An endpoint whose sessions are made with `context`, which must be one for DTLS. What the sessions need of it (keys,
    /// certificates, verify mode, ALPN and so on) is set before. The first endpoint that accepts, and the first with
    /// connection IDs, still change it: not while another thread makes handshakes with it.
    pub fn new(context: SslContext, mut config: Config) -> Result<Endpoint, Error> {
        config.check()?;
        config.check_context(&context)?;
        let secret = config.cookie_secret.take().unwrap_or_else(|| CookieSecret::new(tls::random::<32>(), 0));
        let cids = config.connection_ids.as_ref().map_or(Cids::new(0, &[]), |ids| Cids::new(ids.len, &ids.server_id));
        Ok(Endpoint {
            context,
            jar: secret.jar(),
            seats: Registry::new(Limits::from(&config.settings)),
            cids,
            outbox: Outbox::new(config.max_waiting_bytes),
            config,
            ended: HashMap::new(),
            told: None,
            exported: None,
            moves: Moves::default(),
            timers: TimerQueue::new(),
            inbox: Inbox::default(),
            counters: Arc::default(),
            now: 0,
            born: fork::generation(),
            brand: 0,
            numbered: false,
        })
    }

    /// Begins sessions with `context` from now on, with another certificate for instance. Those that there are go on with
    /// what they have.
    pub fn set_context(&mut self, context: SslContext) -> Result<(), Error> {
        self.config.check_context(&context)?;
        self.context = context;
        Ok(())
    }

    /// Accepts no handshakes any more; those that have begun go on.
    pub fn stop_accepting(&mut self) {
        self.config.accept = false;
    }

    /// Follows a connection that was just used: tells the program what has happened to it, and notes when it wants to be
    /// looked after and what it has to send.
    fn follow_up(&mut self, session: Session) {
        self.follow_up_from(session, self.inbox.count());
    }

    /// The same, with the messages in the inbox from number `first` on, which have just come in on the connection.
    fn follow_up_from(&mut self, session: Session, first: usize) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        if seat.connection.was_established() && !seat.opened {
            seat.known = true;
            seat.opened = true;
            self.open(session);
        }
        let Some(seat) = self.seats.get_mut(session) else { return };
        // The events of the messages that came in, as far as there is room.
        let (count, most) = (self.inbox.count(), self.config.settings.max_queued_messages);
        for number in first..count {
            if seat.messages_waiting >= most || self.inbox.waiting() > self.config.max_waiting_bytes {
                self.inbox.truncate(number);
                self.counters.messages_dropped.add((count - number) as u64);
                break;
            }
            seat.messages_waiting += 1;
            self.inbox.push(Event::Message { session });
            self.counters.messages_in.add(1);
        }
        match seat.connection.state() {
            // It stands still, and may go on.
            State::Closed(CloseReason::Exported) => {}
            // close_notify is answered in kind (RFC 5246 7.2.1).
            State::Closed(reason @ CloseReason::ByPeer) => self.end(session, reason),
            State::Closed(reason) => self.finish(session, reason),
            _ => {
                self.timers.set(session, seat.deadline());
                self.outbox.note(session, seat);
            }
        }
    }

    /// The handshake has finished. Only now does a client that has restarted lose its old session (RFC 6347 4.2.8).
    fn open(&mut self, session: Session) {
        self.counters.handshakes_finished.add(1);
        self.seats.establish(session);
        let Some(Seat { connection, .. }) = self.seats.get(session) else { return };
        self.counters.records_taken_over.add(connection.is_native().into());
        if connection.is_server() {
            self.end_older(session);
        }
        let Some(seat) = self.seats.get_mut(session) else { return };
        log!(Info, "{}: the handshake has finished", seat.connection.peer());
        if !seat.connection.cid().is_empty() {
            // From now on the address does not identify this session: another peer may have it tomorrow.
            self.counters.connection_ids_used.add(1);
            self.seats.detach(session);
        } else {
            self.cids.remove(&std::mem::take(&mut seat.cid));
        }
        self.inbox.push(Event::Opened { session });
    }

    /// Says goodbye to the peer and ends the session.
    fn end(&mut self, session: Session, reason: CloseReason) {
        if let Some(seat) = self.seats.get_mut(session) {
            seat.connection.close(self.now);
        }
        self.finish(session, reason);
    }

    /// Removes a connection that is over. What it still has to send leaves without it.
    fn finish(&mut self, session: Session, reason: CloseReason) {
        self.timers.cancel(session);
        let Some(mut seat) = self.seats.remove(session) else { return };
        self.cids.remove(&seat.cid);
        self.outbox.waiting -= seat.bytes_waiting;
        log!(
            Info,
            "{}: over: {reason:?}{}",
            seat.connection.peer(),
            Info(&seat).failure().map_or(String::new(), |why| format!(": {why}"))
        );
        match reason {
            CloseReason::Restarted if seat.opened => self.counters.restarted.add(1),
            CloseReason::Restarted => self.counters.superseded.add(1),
            CloseReason::Failed if !seat.opened => self.counters.handshakes_failed.add(1),
            _ => {}
        }
        // A peer that has restarted has new keys, and no use for what the old ones protect.
        let peer = seat.connection.peer();
        while reason != CloseReason::Restarted
            && let Some(datagram) = seat.connection.transmit()
        {
            if !seat.unproven.as_mut().is_none_or(|unproven| unproven.charge(datagram.len())) {
                self.counters.datagrams_withheld.add(1);
                continue;
            }
            self.outbox.push(peer, seat.local, datagram, &self.counters);
        }
        if seat.known {
            self.inbox.push(Event::Closed { session, reason });
            self.ended.insert(session, seat);
        }
    }

    /// Does what is due at `now`. It takes a bounded time: where very much is due, [`Endpoint::deadline`] is still not later
    /// than `now`, and another call does more.
    pub fn advance(&mut self, now: u64) {
        self.tell_time(now);
        for _ in 0..DUE_AT_ONCE {
            let Some((session, _)) = self.timers.pop_due(self.now) else { break };
            if let Some(seat) = self.seats.get_mut(session) {
                seat.connection.advance(self.now, &self.counters);
                self.advance_check(session);
                self.follow_up(session);
            }
        }
    }

    /// Begins a handshake with a server; [`Event::Opened`] tells when it has finished.
    pub fn connect(&mut self, now: u64, connect: &Connect<'_>) -> Result<Session, Error> {
        self.tell_time(now);
        self.refuse_in_a_child()?;
        let to = without_flow_label(connect.to);
        let ours = |session: Session| self.seats.get(session).is_some_and(|seat| !seat.connection.is_server());
        if self.sessions_with(to).any(ours) {
            return Err(Error::Busy);
        }
        if self.seats.entries() >= self.config.settings.max_connections as usize {
            return Err(Error::Limit);
        }
        let verify = self.config.verify_server;
        let settings = &self.config.settings;
        let connection = Connection::connect(&self.context, settings, to, self.own_id(), self.now, |ssl| {
            connect.prepare(ssl, verify)
        })?;
        let seat = Seat { known: true, ..Seat::new(Box::new(connection), connect.from) };
        let session = self.insert(to, seat, Kind::Foreign);
        self.counters.handshakes_begun.add(1);
        self.follow_up(session);
        Ok(self.public(session))
    }

    /// Sends one message: one record, in one datagram of its own.
    pub fn send(&mut self, session: Session, message: &[u8]) -> Result<(), Error> {
        self.refuse_in_a_child()?;
        let session = self.own(session)?;
        let Some(seat) = self.seats.get_mut(session) else {
            return Err(if self.ended.contains_key(&session) { Error::NotEstablished } else { Error::Stale });
        };
        if message.is_empty() {
            return Err(Error::Invalid("an empty message".into()));
        }
        // A message that is too long does not get shorter by waiting, so Again would be the wrong error for it.
        if message.len() <= seat.connection.message_max() {
            if !self.outbox.has_room(seat.bytes_waiting, message.len()) {
                return Err(Error::Again);
            }
            if seat.withholds(message.len()) {
                return Err(Error::Unproven);
            }
        }
        match seat.connection.send(self.now, message, &self.counters) {
            Ok(()) => {}
            Err(SendError::NotEstablished) => {
                // Perhaps it has just ended, because its keys are exhausted.
                self.follow_up(session);
                return Err(Error::NotEstablished);
            }
            Err(SendError::TooLong { max }) => return Err(Error::TooLong { max }),
            Err(SendError::Forked) => return Err(Error::Forked),
            Err(SendError::Failed) => {
                return Err(Error::Tls(seat.connection.why_text()));
            }
        }
        self.timers.set(session, seat.deadline());
        self.outbox.note(session, seat);
        self.seats.touch(session);
        Ok(())
    }

    /// Whether a session that has nothing waiting could send a message of `len` bytes.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.outbox.has_room(0, len)
    }

    /// Ends a session: the peer is sent a close_notify, and [`Event::Closed`] follows.
    pub fn close(&mut self, session: Session) -> Result<(), Error> {
        self.seat(session)?;
        self.end(self.own(session)?, CloseReason::Local);
        Ok(())
    }

    /// What has happened next. The bytes of a message replace what was in `message`.
    pub fn event(&mut self, message: &mut Vec<u8>) -> Option<Event> {
        let (event, bytes) = self.next_event()?;
        message.clear();
        message.extend_from_slice(self.inbox.bytes(bytes));
        Some(event)
    }

    /// The same without a copy: returns where the bytes of a message are, for [`Endpoint::message`].
    pub(crate) fn next_event(&mut self) -> Option<(Event, Range<usize>)> {
        if let Some(told) = self.told.take() {
            self.ended.remove(&told);
        }
        let (event, bytes) = self.inbox.pop()?;
        match event {
            Event::Opened { .. } => {}
            Event::Message { session } => {
                self.seat_mut(session).into_iter().for_each(|seat| seat.messages_waiting -= 1);
            }
            Event::Moved { session } => self.seat_mut(session).into_iter().for_each(|seat| seat.moved = false),
            Event::Closed { session, .. } => self.told = Some(session),
        }
        Some((event.with(self.public(event.session())), bytes))
    }

    /// The message that [`Endpoint::next_event`] has pointed to; it is there until the next datagram is received.
    pub(crate) fn message(&self, bytes: Range<usize>) -> &[u8] {
        self.inbox.bytes(bytes)
    }

    /// Makes cookies with another secret from now on. Those that are out stay good.
    pub fn set_cookie_secret(&mut self, now: u64, secret: &CookieSecret) {
        self.tell_time(now);
        self.jar.replace(self.now, &secret.secret, secret.unix_offset);
    }

    /// Time does not go back. Nor does it reach `NEVER`, or everything without a deadline would be due.
    fn tell_time(&mut self, now: u64) {
        self.now = self.now.max(now.min(NEVER - 1));
    }

    /// The oldest first.
    fn sessions_with(&self, peer: SocketAddr) -> impl Iterator<Item = Session> {
        successors(self.seats.find(&peer), |session| self.seats.next(*session))
    }

    fn is_forked(&self) -> bool {
        self.born != fork::generation()
    }

    fn refuse_in_a_child(&self) -> Result<(), Error> {
        if self.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }
}

impl Seat {
    fn new(connection: Box<Connection>, local: Option<IpAddr>) -> Seat {
        Seat {
            cid: connection.cid().into(),
            connection,
            local,
            user: 0,
            known: false,
            opened: false,
            imported: false,
            ready: false,
            moved: false,
            messages_waiting: 0,
            bytes_waiting: 0,
            unproven: None,
        }
    }
}

/// The flow label of IPv6 does not identify a peer.
fn without_flow_label(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_flowinfo(0);
    }
    address
}

#[cfg(test)]
mod tests;
