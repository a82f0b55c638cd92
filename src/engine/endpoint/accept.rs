//! Newcomers: strangers, and clients that have proven their address with a cookie.

use std::net::{IpAddr, SocketAddr};

use super::{CloseReason, Connection, Endpoint, Kind, PER_PEER, Seat, Session, Terms};
use crate::engine::gate::{self, Verdict};
use crate::wire::hello::ClientHello;

impl Endpoint {
    /// A datagram that belongs to no connection.
    pub(super) fn stranger(&mut self, datagram: &[u8], from: SocketAddr, to: Option<IpAddr>) {
        if !self.config.accept {
            self.counters.strangers_dropped.add(1);
            return;
        }
        match gate::examine(&mut self.jar, self.now, &from, datagram, &self.counters) {
            Verdict::Drop => {}
            Verdict::Answer(answer) => self.outbox.push(from, to, answer.as_bytes(), &self.counters),
            Verdict::Proven(hello) => self.accept(&hello, datagram, from, to),
        }
    }

    fn accept(&mut self, hello: &ClientHello<'_>, datagram: &[u8], from: SocketAddr, to: Option<IpAddr>) {
        if !self.make_room(from) {
            return;
        }
        let terms = Terms { listen: true, own: self.own_id() };
        let settings = &self.config.settings;
        match Connection::accept(&self.context, settings, from, hello, datagram, terms, self.now) {
            Some(connection) => {
                self.counters.handshakes_begun.add(1);
                for older in self.sessions_with(from).collect::<Vec<_>>() {
                    let Some(seat) = self.seats.get_mut(older) else { continue };
                    if seat.connection.is_server() {
                        seat.connection.await_the_peer();
                    }
                    self.timers.set(older, seat.deadline());
                }
                let session = self.insert(from, Seat::new(connection, to), Kind::Handshaking);
                self.follow_up(session);
                // More of the hello may stand in the same datagram.
                self.deliver(&datagram[hello.record_len..], &[Some(session)], from, to);
            }
            None => self.counters.handshakes_failed.add(1),
        }
    }

    /// Whether a handshake with this peer may begin; another session may have to end for it.
    fn make_room(&mut self, peer: SocketAddr) -> bool {
        if self.inbox.waiting() > self.config.max_waiting_bytes / 2 {
            self.counters.refused_unread.add(1);
            return false;
        }
        if self.sessions_with(peer).count() >= PER_PEER {
            // At most one that the peer has begun is open, and at most two we have begun, of which one is imported.
            let handshake = |session: &Session| self.seats.kind(*session) == Some(Kind::Handshaking);
            let oldest = self.sessions_with(peer).find(handshake);
            if let Some(oldest) = oldest {
                self.finish(oldest, CloseReason::Restarted);
            }
        }
        while let Err(why) = self.seats.admit(peer) {
            let Some(victim) = self.seats.victim(peer, why) else {
                self.counters.count_refusal(why);
                return false;
            };
            self.counters.count_victim(why);
            self.end(victim, CloseReason::Evicted);
        }
        true
    }

    /// Ends what a client that has restarted leaves behind: the connection that it had before, and handshakes that it, or
    /// somebody who spoofs its address, began meanwhile.
    pub(super) fn end_older(&mut self, session: Session) {
        let Some(Seat { connection, .. }) = self.seats.get(session) else { return };
        let peer = connection.peer();
        let mut older = true;
        let same_address = self.sessions_with(peer).filter(|other| {
            older &= *other != session;
            let Some(seat) = self.seats.get(*other).filter(|_| *other != session) else { return false };
            // An import may have come during the handshake, and counts as older.
            seat.connection.is_server() && (older || seat.imported)
        });
        // A session with a connection ID may live on at another address, while somebody else has got its old one.
        let known_by_id = self.seats.find_detached(peer).filter(|other| {
            let same = |other: &Connection| connection.negotiated().has_peer_of(&other.negotiated());
            self.seats.get(*other).is_some_and(|seat| seat.connection.is_server() && same(&seat.connection))
        });
        for replaced in same_address.chain(known_by_id).collect::<Vec<_>>() {
            self.finish(replaced, CloseReason::Restarted);
        }
    }
}
