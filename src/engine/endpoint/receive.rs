//! Datagrams on their way to their session.

use std::net::{IpAddr, SocketAddr};

use super::{Endpoint, PER_PEER, Session, without_flow_label};
use crate::wire::handshake::Fragment;
use crate::wire::handshake::message_type::{CERTIFICATE, SERVER_HELLO};
use crate::wire::hello::ClientHello;
use crate::wire::record::content_type::HANDSHAKE;
use crate::wire::record::{Record, records_with};

impl Endpoint {
    /// Takes a datagram that came at `now` from the peer `from` to our address `to`, if that is known.
    pub fn receive(&mut self, now: u64, datagram: &[u8], from: SocketAddr, to: Option<IpAddr>) {
        self.tell_time(now);
        self.counters.datagrams_in.add(1);
        if self.is_forked() {
            return;
        }
        let from = without_flow_label(from);
        let mut chain = [None; PER_PEER + 1];
        chain.iter_mut().zip(self.sessions_with(from)).for_each(|(slot, session)| *slot = Some(session));
        match ClientHello::parse(datagram) {
            // A hello that began none of the sessions with this peer begins another handshake, beside them (RFC 6347 4.2.8).
            Some(hello) => match chain.into_iter().flatten().find(|session| self.is_begun_by(*session, &hello)) {
                Some(session) => self.deliver(datagram, &[Some(session)], from, to),
                None => self.stranger(datagram, from, to),
            },
            None if chain[0].is_none() && !self.has_cid(datagram) => self.stranger(datagram, from, to),
            None => self.deliver(datagram, &chain, from, to),
        }
    }

    /// Shows each record to the session whose connection ID it carries. One without an ID goes to the sessions with its
    /// sender, the oldest first, until it proves authentic in one. What is in clear cannot prove that, so all handshakes in
    /// progress see it. A session that is open does not: it would take the new handshake's ChangeCipherSpec for a repetition
    /// of its own, and its answer would end the new handshake.
    pub(super) fn deliver(&mut self, datagram: &[u8], chain: &[Option<Session>], from: SocketAddr, to: Option<IpAddr>) {
        let mut found = chain[0].is_some();
        let (several, mut hello) = (chain.get(1).is_some_and(Option::is_some), false);
        for record in records_with(datagram, self.cids.cid_len()) {
            if record.cid.is_empty() {
                let passed_by = if record.epoch == 0 { self.before_a_handshake(chain) } else { 0 };
                let of_a_server = if several { self.is_of_a_server(&record, chain, &mut hello) } else { None };
                for session in chain.iter().flatten().skip(passed_by) {
                    let not_for_it = of_a_server.is_some_and(|of_a_server| of_a_server == self.is_server(*session));
                    if !not_for_it && self.show(*session, &record, from, to) {
                        break;
                    }
                }
            } else if let Some(session) = self.cids.find(record.cid) {
                self.show(session, &record, from, to);
                found = true;
            }
        }
        if !found {
            self.counters.strangers_dropped.add(1);
        }
    }

    /// For a Certificate message in clear: whether it is a server's. When two peers connect to each other at the same time,
    /// each sends two Certificates with the same number: one as a server, behind its hello, and then one as a client.
    /// `hello`: there was a ServerHello earlier in the datagram.
    fn is_of_a_server(&mut self, record: &Record<'_>, chain: &[Option<Session>], hello: &mut bool) -> Option<bool> {
        if (record.epoch, record.content_type) != (0, HANDSHAKE) {
            return None;
        }
        let (first, _) = Fragment::parse(record.fragment())?;
        *hello |= first.message_type == SERVER_HELLO;
        let mut awaited = || chain.iter().flatten().any(|session| self.awaits_certificate(*session));
        (first.message_type == CERTIFICATE).then(|| *hello || awaited())
    }

    fn awaits_certificate(&mut self, session: Session) -> bool {
        self.seats.get_mut(session).is_some_and(|seat| seat.connection.awaits_certificate())
    }

    fn is_server(&self, session: Session) -> bool {
        self.seats.get(session).is_some_and(|seat| seat.connection.is_server())
    }

    /// How many open sessions there are before the first handshake in progress; 0 if there is none of those.
    fn before_a_handshake(&self, chain: &[Option<Session>]) -> usize {
        let is_open = |session: &Session| self.seats.get(*session).is_some_and(|seat| seat.opened);
        chain.iter().flatten().position(|session| !is_open(session)).unwrap_or(0)
    }

    fn show(&mut self, session: Session, record: &Record<'_>, from: SocketAddr, to: Option<IpAddr>) -> bool {
        let Some(seat) = self.seats.get_mut(session) else { return false };
        if !seat.opened && seat.connection.peer() != from {
            // Before there are keys, nothing proves that the peer has moved.
            return false;
        }
        let messages = self.inbox.messages();
        let before = messages.len();
        let heard = seat.connection.receive_record(self.now, record, messages, &self.counters);
        if heard.authentic {
            // Almost always there is nothing new about the peer's address.
            let stays = seat.connection.peer() == from && seat.unproven.is_none() && heard.check.is_none();
            self.seats.touch(session);
            if !stays {
                self.locate(session, heard, record.bytes.len(), from, to);
            }
        }
        self.follow_up_from(session, before);
        heard.authentic
    }

    fn is_begun_by(&self, session: Session, hello: &ClientHello<'_>) -> bool {
        self.seats.get(session).is_some_and(|seat| seat.connection.is_begun_by(hello))
    }
}
