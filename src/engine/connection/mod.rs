//! The life of one connection: handshake, application data, close. Sans-IO: datagrams and time go in, datagrams wait to
//! leave, messages come out.
//!
//! Records that an outsider could have forged are sorted out before libssl sees them: those of the wrong epoch, alerts in
//! clear, and what comes before its keys. libssl would survive most of that, but not all, and not in every version.

#[cfg(test)]
mod begun;
mod cid;
mod established;
mod export;
mod flight;
mod handshake;

use std::net::SocketAddr;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContextRef, SslRef};

pub use self::cid::OwnId;
use self::flight::{Flight, timeouts};
use self::handshake::Handshake;
use super::protection::{Negotiated, Protection};
use super::records::Records;
use super::settings::{Settings, micros};
use super::stats::Counters;
use crate::log::log;
use crate::tls::bio::Outbound;
use crate::tls::cause::Cause;
use crate::tls::fork;
use crate::tls::session::{Parameters, Session};
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;
use crate::wire::record::{DTLS_1_2, Record, content_type, records};
use crate::wire::routability::Check;

/// The time that never comes, in microseconds.
pub const NEVER: u64 = u64::MAX;

/// A connection that has been idle this long gives its buffers back, where that is wanted.
const RELEASE_AFTER: u64 = 1_000_000;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The handshake goes on.
    Handshaking,
    /// Messages can be sent.
    Established,
    /// It is over.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer sent close_notify.
    ByPeer,
    /// The program closed it.
    Local,
    /// The handshake failed, or the peer sent a fatal alert.
    Failed,
    /// The handshake took too long.
    HandshakeTimeout,
    /// Nothing was heard for too long.
    IdleTimeout,
    /// The peer has begun anew and finished a second handshake from the same address.
    Restarted,
    /// It made room for another connection.
    Evicted,
    /// Its keys have sealed as many records, or failed to open as many, as they may.
    Exhausted,
    /// It goes on in another process, to which it was exported.
    Exported,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The handshake is not finished, or the connection is closed.
    NotEstablished,
    /// The message does not fit in a datagram.
    TooLong {
        /// Bytes of the longest message.
        max: usize,
    },
    /// This process is a fork of the one that made the connection.
    Forked,
    /// libssl failed.
    Failed,
}

/// On what terms a server begins a handshake.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The hello's cookie was verified, and libssl is to check it too. Otherwise any hello begins the handshake.
    pub listen: bool,
    /// What is offered to a client that wants connection IDs.
    pub own: Option<OwnId>,
}

/// One connection. Laid out in this order: what each message needs comes first, in as few cache lines as can be.
#[repr(C)]
pub struct Connection {
    state: State,
    server: bool,
    /// Whether return routability checks were agreed on, or may be.
    checks: bool,
    /// Bytes of the longest message to send; 0 until the handshake has finished.
    message_max: u16,
    /// Bytes of the shortest protected fragment that is looked into.
    fragment_min: u16,
    born: u32,
    /// Ours, which the peer's records carry once that is agreed on.
    cid: Box<[u8]>,
    activity: Activity,
    /// Our last flight, as long as the peer may not have it.
    flight: Option<Box<Flight>>,
    protection: Protection,
    peer: SocketAddr,
    /// Of a peer that has moved: the longest message, and the headers around it, where it was first.
    home: Option<(u16, u16)>,
    why: Option<Box<ErrorStack>>,
    /// While it goes on, and where it has failed.
    handshake: Option<Box<Handshake>>,
}

/// When a connection was used, and what follows when it is not.
struct Activity {
    /// When the peer was heard last, and when the connection was used last, by whichever side.
    heard: u64,
    used: u64,
    /// A peer that is not heard for so long is gone.
    idle_timeout: u64,
    /// Whether the memory that only traffic needs is given back when there is none, and whether it has been.
    release: bool,
    released: bool,
}

impl Activity {
    fn new(settings: &Settings, now: u64) -> Activity {
        let idle_timeout = match micros(settings.idle_timeout) {
            0 => NEVER,
            timeout => timeout,
        };
        Activity { heard: now, used: now, idle_timeout, release: settings.release_buffers, released: false }
    }

    /// An authentic record has come.
    fn note_heard(&mut self, now: u64) {
        self.heard = now;
        self.note_used(now);
    }

    fn note_used(&mut self, now: u64) {
        self.used = now;
        self.released = false;
    }

    /// When the peer is thought to be gone.
    fn idle_due(&self) -> u64 {
        self.heard.saturating_add(self.idle_timeout)
    }

    /// When the connection has been idle for so long that its memory is given back.
    fn release_due(&self) -> u64 {
        if self.release && !self.released { self.used.saturating_add(RELEASE_AFTER) } else { NEVER }
    }
}

/// What a record says about its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// It was certainly the peer: the record is authentic, in an established connection.
    pub authentic: bool,
    /// No record with a higher number had come before it.
    pub newest: bool,
    /// It is a message of the return routability check.
    pub check: Option<Check>,
}

impl Connection {
    /// Begins a server's side with the hello at the start of `datagram`.
    ///
    /// None when libssl does not take it.
    pub fn accept(
        context: &SslContextRef,
        settings: &Settings,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
        datagram: &[u8],
        terms: Terms,
        now: u64,
    ) -> Option<Box<Connection>> {
        let session = match Session::accept(context, peer, &parameters(settings, peer)) {
            Ok(session) => session,
            Err(why) => {
                log!(Error, "{peer}: no handshake can begin: {}", Cause::from(why));
                return None;
            }
        };
        let mut connection = Connection::begin(session, Some(hello), settings, peer, terms.own, now).ok()?;
        let (first, _) = datagram.split_at(hello.record_len);
        if !terms.listen {
            connection.protection.session().begin_handshake(hello.record_sequence);
            connection.step(first, now);
        } else if connection.protection.session().listen(first, hello.record_sequence) {
            connection.step(&[], now);
        } else {
            return None;
        }
        Some(Box::new(connection))
    }

    /// Begins a client's side; `prepare` sets the server's name and the like. The first hello waits to leave.
    pub fn connect<E: From<ErrorStack>>(
        context: &SslContextRef,
        settings: &Settings,
        peer: SocketAddr,
        own: Option<OwnId>,
        now: u64,
        prepare: impl FnOnce(&mut SslRef) -> Result<(), E>,
    ) -> Result<Connection, E> {
        let mut session = Session::connect(context, peer, &parameters(settings, peer))?;
        prepare(session.ssl_mut())?;
        let mut connection = Connection::begin(session, None, settings, peer, own, now)?;
        connection.step(&[], now);
        match connection.why.take() {
            Some(why) => Err(E::from(*why)),
            None => Ok(connection),
        }
    }

    /// Before the first step of a handshake: a server's with the client's hello, a client's with none.
    fn begin(
        session: Session,
        hello: Option<&ClientHello<'_>>,
        settings: &Settings,
        peer: SocketAddr,
        own: Option<OwnId>,
        now: u64,
    ) -> Result<Connection, ErrorStack> {
        let protection = Protection::Openssl(session);
        let mut connection = Connection {
            flight: Some(Box::new(Flight::new(now, NEVER))),
            handshake: Some(Box::new(Handshake::new(settings, hello, now))),
            ..Connection::new(protection, hello.is_some(), peer, settings, now)
        };
        own.map_or(Ok(()), |own| connection.offer(own))?;
        Ok(connection)
    }

    /// Without a handshake, and with nothing agreed on.
    fn new(protection: Protection, server: bool, peer: SocketAddr, settings: &Settings, now: u64) -> Connection {
        Connection {
            state: State::Handshaking,
            server,
            checks: false,
            message_max: 0,
            fragment_min: 0,
            born: fork::generation(),
            cid: Box::default(),
            activity: Activity::new(settings, now),
            flight: None,
            protection,
            peer,
            home: None,
            why: None,
            handshake: None,
        }
    }

    /// Takes a datagram of the peer. Its messages are pushed to `messages`, what must leave waits in [`Connection::transmit`].
    pub fn receive(&mut self, now: u64, datagram: &[u8], messages: &mut Datagrams, counters: &Counters) {
        self.catch_up(now);
        for record in records(datagram) {
            self.receive_record(now, &record, messages, counters);
        }
    }

    /// Takes one record of a datagram.
    pub fn receive_record(
        &mut self,
        now: u64,
        record: &Record<'_>,
        messages: &mut Datagrams,
        counters: &Counters,
    ) -> Heard {
        match self.state {
            State::Handshaking => {
                self.handshake_record(now, record, counters);
                self.open_held(now, messages, counters);
                Heard::default()
            }
            State::Established => self.established_record(now, record, messages, counters),
            State::Closed(_) => Heard::default(),
        }
    }

    /// Sends close_notify if there are keys to protect it with, and ends the connection.
    pub fn close(&mut self, now: u64) {
        self.catch_up(now);
        let heard = matches!(self.state, State::Established | State::Closed(CloseReason::ByPeer));
        if heard && !self.is_forked() {
            self.protection.shutdown();
        }
        self.end(CloseReason::Local);
    }

    fn end(&mut self, reason: CloseReason) {
        if !matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(reason);
        }
        if let Some(handshake) = &mut self.handshake {
            handshake.end();
        }
    }

    /// The next datagram that has to leave. In the child of a fork none does.
    pub fn transmit(&mut self) -> Option<&[u8]> {
        let born = self.born;
        self.protection.outbound().pop().filter(|_| born == fork::generation())
    }

    /// The next datagrams that have to leave, as [`Outbound::pop_segments`] joins them, for an endpoint, which knows of forks.
    pub(super) fn transmit_segments(&mut self, max: usize, bytes_max: usize) -> Option<(&[u8], usize)> {
        self.protection.outbound().pop_segments(max, bytes_max)
    }

    /// What waits to leave, and the last flight. Datagrams are taken out with [`Connection::transmit`].
    #[inline]
    pub(crate) fn outbound(&mut self) -> &mut Outbound {
        self.protection.outbound()
    }

    /// When [`Connection::advance`] wants to be called, at the latest.
    pub fn deadline(&self) -> u64 {
        match self.state {
            State::Handshaking => self.handshake.as_ref().map_or(NEVER, |handshake| handshake.deadline()),
            State::Established => {
                let flight_due = self.flight.as_ref().map_or(NEVER, |flight| flight.kept_until);
                self.activity.idle_due().min(self.activity.release_due()).min(flight_due)
            }
            State::Closed(_) => NEVER,
        }
    }

    /// Does what is due.
    pub fn advance(&mut self, now: u64, counters: &Counters) {
        self.catch_up(now);
        match self.state {
            State::Handshaking => self.advance_handshake(now, counters),
            State::Established => {
                if now >= self.activity.idle_due() {
                    counters.idle_timed_out.add(1);
                    self.close(now);
                    self.state = State::Closed(CloseReason::IdleTimeout);
                    return;
                }
                if self.flight.as_ref().is_some_and(|flight| now >= flight.kept_until) {
                    self.forget_flight();
                }
                if now >= self.activity.release_due() {
                    self.protection.rest();
                    self.activity.released = true;
                }
            }
            _ => {}
        }
    }

    /// Where the connection is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What libssl said of a failure.
    pub fn why(&self) -> Option<&ErrorStack> {
        self.why.as_deref()
    }

    /// The same as text; empty where libssl said nothing.
    pub(crate) fn why_text(&self) -> String {
        self.why().map(|why| Cause::from(why.clone()).to_string()).unwrap_or_default()
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our connection ID, which the peer's records carry; during the handshake the one that is offered. Empty: none.
    pub fn cid(&self) -> &[u8] {
        &self.cid
    }

    /// The peer's connection ID, which our records carry. Empty: none.
    pub fn peer_cid(&self) -> &[u8] {
        self.protection.records().map_or(&[], Records::cid)
    }

    /// Whether return routability checks were agreed on.
    pub(super) fn checks(&self) -> bool {
        self.checks && self.is_native()
    }

    /// Whether `hello` is the one that began this connection, again.
    pub fn is_begun_by(&self, hello: &ClientHello<'_>) -> bool {
        self.server
            && match &self.handshake {
                Some(handshake) => handshake.client_random == *hello.random,
                None => self.negotiated().client_random() == *hello.random,
            }
    }

    /// Whether this is a server's side.
    pub fn is_server(&self) -> bool {
        self.server
    }

    /// When the connection was used last.
    pub fn used(&self) -> u64 {
        self.activity.used
    }

    /// Whether messages could be sent at some time, be the connection closed since.
    pub fn was_established(&self) -> bool {
        self.message_max > 0
    }

    /// Bytes of the longest message that can be sent.
    pub fn message_max(&self) -> usize {
        self.message_max.into()
    }

    /// What the program may ask of the session: peer certificate, cipher, exporter and so on.
    pub(super) fn negotiated(&self) -> Negotiated<'_> {
        self.protection.negotiated()
    }

    /// Whether its master secret is bound to its handshake (RFC 7627), as far as is known without OpenSSL.
    pub(super) fn has_extended_master_secret(&self) -> bool {
        matches!(self.negotiated(), Negotiated::Kept(agreed, _) if agreed.extended_master_secret)
    }

    /// Whether its records are ours, and OpenSSL's part is over.
    pub(super) fn is_native(&self) -> bool {
        matches!(self.protection, Protection::Native(_))
    }

    /// Gives the SSL to a C caller, who frees it, and this connection with it. Given away, it is the same as before.
    pub(crate) fn give_away_ssl(&mut self) -> std::ptr::NonNull<openssl_sys::SSL> {
        self.protection.session().give_away_ssl()
    }

    /// The oldest datagram that a C caller wrote to the inbound BIO.
    pub(crate) fn take_inbound(&mut self) -> Option<Box<[u8]>> {
        self.protection.session().inbound().pop()
    }

    #[cfg(test)]
    pub(super) fn protection(&mut self) -> &mut Protection {
        &mut self.protection
    }

    /// Two processes that seal with one key repeat nonces: the child of a fork must not send.
    pub fn is_forked(&self) -> bool {
        self.born != fork::generation()
    }
}

/// Whether it is a ChangeCipherSpec that libssl takes. It would give the handshake up at one with other content (RFC 5246
/// 7.1); one of another version it would drop, and holding that would leave no place for the peer's.
fn is_change_cipher_spec(record: &Record<'_>) -> bool {
    let kind = (record.content_type, record.version);
    kind == (content_type::CHANGE_CIPHER_SPEC, DTLS_1_2) && record.fragment() == [1]
}

fn parameters(settings: &Settings, peer: SocketAddr) -> Parameters {
    let [first_timeout, longest_timeout] = timeouts(settings);
    Parameters {
        payload: payload(settings.mtu, peer),
        max_certificate_chain: settings.max_certificate_chain,
        first_timeout,
        longest_timeout,
        release_buffers: settings.release_buffers,
        // Both settings are only for programs that do not write on the SSLs themselves.
        sole_writer: settings.release_buffers || settings.native_records,
    }
}

/// The length of something that fits in a packet.
fn packet_len(len: usize) -> u16 {
    len.try_into().unwrap_or(u16::MAX)
}

/// Bytes of UDP payload in an IP packet of `mtu` bytes to `peer`.
pub fn payload(mtu: u16, peer: SocketAddr) -> usize {
    usize::from(mtu - headers(peer))
}

/// Bytes of the headers of IP and UDP.
fn headers(peer: SocketAddr) -> u16 {
    if peer.ip().to_canonical().is_ipv4() { 20 + 8 } else { 40 + 8 }
}
