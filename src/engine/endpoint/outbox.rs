//! What has to leave: which connections have datagrams, and datagrams that belong to no connection.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::{Endpoint, Seat, Session};
use crate::engine::stats::Counters;
use crate::wire::queue::Tagged;

/// One datagram to send, or several of the same length at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// Where it goes.
    pub to: SocketAddr,
    /// The address that it must come from: the one that the peer spoke to. `None`: whatever the kernel chooses.
    pub from: Option<IpAddr>,
    /// The length of each datagram in `bytes` but the last, which may be shorter (UDP_SEGMENT). `None`: there is only one.
    pub segment_size: Option<usize>,
    /// What it contains.
    pub bytes: &'a [u8],
}

impl<'a> Transmit<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment_size.unwrap_or(self.bytes.len()).max(1))
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.segment_size.map_or(1, |segment| self.bytes.len().div_ceil(segment))
    }
}

/// Bytes that can be sent at once with UDP_SEGMENT.
const SEGMENTS_BYTES: usize = 65_000;

/// After so many turns of connections, one datagram leaves that belongs to none: most likely an answer to a stranger.
const TURNS: usize = 16;

/// One part in so many of the room is kept free of the program's messages. And a session may have this many times, less one,
/// as much waiting as it leaves to the others.
const KEPT: usize = 16;

impl Endpoint {
    /// What has to leave next: one datagram, or up to `max_segments` datagrams of one length to one peer, for a program that
    /// can send them with one call (UDP_SEGMENT, at most 64).
    pub fn transmit(&mut self, max_segments: usize) -> Option<Transmit<'_>> {
        self.transmit_on(0, max_segments)
    }

    /// For an owner with several sockets: what leaves from each of them is taken by itself from now on, with
    /// [`Endpoint::transmit_on`]. `sockets` are their addresses, one at least.
    pub(crate) fn set_sockets(&mut self, sockets: Vec<SocketAddr>) {
        self.outbox.lanes.resize_with(sockets.len(), Lane::default);
        self.outbox.sockets = sockets;
    }

    /// [`Endpoint::transmit`] for one of the sockets. The owner counts what has left.
    pub(crate) fn transmit_on(&mut self, socket: usize, max_segments: usize) -> Option<Transmit<'_>> {
        if self.is_forked() {
            return None;
        }
        while let Some(&session) = self.outbox.lanes[socket].ready.front() {
            match self.seats.get_mut(session) {
                Some(seat) if seat.bytes_waiting > 0 => {
                    if self.outbox.lane_of(seat.connection.peer(), seat.local) != socket {
                        // The peer has moved meanwhile.
                        self.outbox.push_ready(session, seat);
                    } else if seat.is_over_limit() {
                        let withheld = seat.connection.transmit().map_or(0, <[u8]>::len);
                        seat.bytes_waiting -= withheld;
                        self.outbox.waiting -= withheld;
                        self.counters.datagrams_withheld.add(1);
                        continue;
                    } else {
                        break;
                    }
                }
                // Asked once more, the connection forgets what it need not keep.
                Some(seat) => seat.ready = seat.connection.transmit().is_some(),
                None => {}
            }
            self.outbox.lanes[socket].ready.pop_front();
        }
        let Outbox { lanes, waiting, .. } = &mut self.outbox;
        let lane = &mut lanes[socket];
        let ready = lane.ready.front().filter(|_| !lane.is_turn_of_loose());
        let transmit = match ready.and_then(|session| self.seats.get_mut(*session)) {
            Some(Seat { connection, local, bytes_waiting, unproven, .. }) => {
                let to = connection.peer();
                let max_segments = if unproven.is_some() { 1 } else { max_segments };
                let (bytes, segment) = connection.transmit_segments(max_segments, SEGMENTS_BYTES)?;
                unproven.iter_mut().for_each(|unproven| unproven.note_sent(bytes.len()));
                *bytes_waiting -= bytes.len();
                lane.end_turn(*bytes_waiting > 0);
                let segment_size = (segment < bytes.len()).then_some(segment);
                Transmit { to, from: *local, segment_size, bytes }
            }
            None => lane.pop()?,
        };
        *waiting -= transmit.bytes.len();
        if !self.numbered {
            self.counters.datagrams_out.add(transmit.count() as u64);
        }
        Some(transmit)
    }
}

/// Whether the socket with the address `ours` is the one for datagrams to `peer` that come from `local`.
pub(crate) fn serves(ours: SocketAddr, peer: SocketAddr, local: Option<IpAddr>) -> bool {
    let ip = ours.ip();
    ours.is_ipv4() == peer.is_ipv4() && (ip.is_unspecified() || local.is_none_or(|local| local == ip))
}

/// See the [module](self).
pub(super) struct Outbox {
    /// Bytes that wait, in the connections and here.
    pub(super) waiting: usize,
    waiting_max: usize,
    /// One for each of the owner's sockets, so that a full socket holds up no other.
    lanes: Vec<Lane>,
    sockets: Vec<SocketAddr>,
}

/// What leaves by one socket.
#[derive(Default)]
struct Lane {
    /// Connections with something to send. A connection that is gone since finds nothing.
    ready: VecDeque<Session>,
    /// Answers to strangers, and the last datagrams of connections that are gone; with the addresses to send them to and from.
    loose: Tagged<(SocketAddr, Option<IpAddr>)>,
    /// Connections have had so many turns since what no connection keeps had its last.
    turns: usize,
}

impl Outbox {
    /// An empty one, for at most so many bytes.
    pub(super) fn new(waiting_max: usize) -> Outbox {
        Outbox { waiting: 0, waiting_max, lanes: vec![Lane::default()], sockets: Vec::new() }
    }

    /// Whether there is room for a message of `bytes` bytes of a session that has `own` bytes waiting. A program that always
    /// has more to send must leave some room for the answers to newcomers, and for its other sessions. While nothing waits,
    /// there is room for any message.
    pub(super) fn has_room(&self, own: usize, bytes: usize) -> bool {
        let most = self.waiting_max - self.waiting_max / KEPT;
        let left = most.saturating_sub(self.waiting);
        self.waiting == 0 || bytes <= left && own + bytes <= left.saturating_mul(KEPT - 1)
    }

    /// The socket by which datagrams from `from` to `to` leave. There is one for every address that peers can write to.
    #[inline]
    fn lane_of(&self, to: SocketAddr, from: Option<IpAddr>) -> usize {
        match self.lanes.len() {
            1 => 0,
            _ => self.sockets.iter().position(|ours| serves(*ours, to, from)).unwrap_or(0),
        }
    }

    /// Looks at what a connection has to send.
    #[inline]
    pub(super) fn note(&mut self, session: Session, seat: &mut Seat) {
        let waiting = seat.connection.outbound().waiting();
        self.waiting = self.waiting - seat.bytes_waiting + waiting;
        seat.bytes_waiting = waiting;
        if waiting > 0 && !seat.ready {
            seat.ready = true;
            self.push_ready(session, seat);
        }
    }

    fn push_ready(&mut self, session: Session, seat: &Seat) {
        let lane = self.lane_of(seat.connection.peer(), seat.local);
        self.lanes[lane].ready.push_back(session);
    }

    /// Queues a datagram that belongs to no connection; if there is no room for it, it is dropped and counted.
    pub(super) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8], counters: &Counters) {
        if self.waiting + datagram.len() > self.waiting_max {
            counters.datagrams_dropped.add(1);
            return;
        }
        self.waiting += datagram.len();
        let lane = self.lane_of(to, from);
        self.lanes[lane].loose.push((to, from), datagram);
    }
}

impl Lane {
    /// The first of the connections has had its turn. If it has more to send, the others come first: otherwise one that always
    /// has more would make them wait for ever.
    #[inline]
    fn end_turn(&mut self, has_more: bool) {
        self.turns += 1;
        if has_more {
            self.ready.rotate_left(1);
        }
    }

    /// Whether a datagram that belongs to no connection is to leave next, although connections are ready.
    #[inline]
    fn is_turn_of_loose(&self) -> bool {
        self.turns >= TURNS && !self.loose.is_empty()
    }

    fn pop(&mut self) -> Option<Transmit<'_>> {
        self.turns = 0;
        let ((to, from), bytes) = self.loose.pop()?;
        Some(Transmit { to, from, segment_size: None, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_serves_its_own_address_or_all_of_its_family() {
        let [v4, v6]: [SocketAddr; 2] = ["192.0.2.1:1", "[2001:db8::1]:1"].map(|peer| peer.parse().unwrap());
        for (ours, peer, local, expected) in [
            ("0.0.0.0:5684", v4, Some("10.0.0.1"), true),
            ("0.0.0.0:5684", v6, Some("2001:db8::2"), false),
            ("[::]:5684", v4, Some("10.0.0.1"), false),
            ("[::]:5684", v6, Some("2001:db8::2"), true),
            ("10.0.0.1:5684", v4, Some("10.0.0.1"), true),
            ("10.0.0.1:5684", v4, Some("10.0.0.2"), false),
            ("10.0.0.1:5684", v4, None, true),
            ("10.0.0.1:5684", v6, None, false),
        ] {
            let local = local.map(|local| local.parse().unwrap());
            assert_eq!(serves(ours.parse().unwrap(), peer, local), expected, "{ours} {peer} {local:?}");
        }
    }

    /// So many times what it leaves, and of all a part is for others than the program.
    #[test]
    fn a_session_may_have_fifteen_times_what_it_leaves() {
        let mut outbox = Outbox::new(16_000);
        assert!(outbox.has_room(0, 20_000), "alone, any message has room");
        outbox.waiting = 1_000;
        assert!(outbox.has_room(0, 14_000) && !outbox.has_room(0, 14_001));
        // 1000 bytes are left.
        outbox.waiting = 14_000;
        assert!(outbox.has_room(0, 1_000) && !outbox.has_room(0, 1_001));
        assert!(outbox.has_room(14_000, 1_000) && !outbox.has_room(14_001, 1_000));
    }
}
