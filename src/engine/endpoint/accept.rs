//! Who comes in: strangers, and clients that have shown where they are.

use std::net::{IpAddr, SocketAddr};

use super::{CloseReason, Connection, Endpoint, Kind, PER_PEER, Seat, Session, Terms};
use crate::engine::gate::{self, Verdict};
use crate::engine::registry::Refusal;
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
                let session = self.insert(from, Seat::new(connection, to), Kind::Handshaking);
                self.settle(session, self.inbox.count());
            }
            None => self.counters.handshakes_failed.add(1),
        }
    }

    /// Whether a handshake with this peer may begin; somebody else may have to go for it.
    fn make_room(&mut self, peer: SocketAddr) -> bool {
        if self.inbox.waiting() > self.config.max_waiting_bytes / 2 {
            self.counters.refused_unread.add(1);
            return false;
        }
        if self.sessions_with(peer).count() >= PER_PEER {
            let handshake = |session: &Session| self.seats.kind(*session) == Some(Kind::Handshaking);
            let oldest = self.sessions_with(peer).find(handshake);
            match oldest {
                Some(oldest) => self.finish(oldest, CloseReason::Restarted),
                None => {
                    self.counters.refused_source.add(1);
                    return false;
                }
            }
        }
        let Err(why) = self.seats.admit(peer) else { return true };
        if why == Refusal::Connections
            && let Some(victim) = self.seats.victim()
        {
            self.counters.evicted.add(1);
            self.end(victim, CloseReason::Evicted);
            return true;
        }
        self.counters.count_refusal(why);
        false
    }
}
