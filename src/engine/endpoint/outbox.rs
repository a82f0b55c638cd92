//! What has to leave: who of the connections has datagrams, and datagrams that no connection keeps.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::{Seat, Session};
use crate::engine::stats::Counters;
use crate::wire::datagrams::Datagrams;

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

/// Datagrams that have left and stand before those that wait, until these are moved up. They are half of all then, so that
/// each is moved once at most.
const LEFT_AT_MOST: usize = 256;

/// Turns of connections before one datagram leaves that no connection keeps: an answer to a stranger, most likely.
const TURNS: usize = 16;

/// One part of the room in so many is not for the program's messages.
const KEPT: usize = 16;

/// See the [module](self).
pub(super) struct Outbox {
    /// Connections with something to send. A connection that is gone since finds nothing.
    pub(super) ready: VecDeque<Session>,
    /// Bytes that wait, in the connections and here.
    pub(super) waiting: usize,
    /// Answers to strangers, and the last words of connections that are gone.
    loose: Datagrams,
    addresses: Vec<(SocketAddr, Option<IpAddr>)>,
    left: usize,
    /// Connections have had so many turns since what no connection keeps had its last.
    turns: usize,
    waiting_max: usize,
}

impl Outbox {
    /// An empty one, for at most so many bytes.
    pub(super) fn new(waiting_max: usize) -> Outbox {
        let ready = VecDeque::new();
        Outbox { ready, waiting: 0, loose: Datagrams::new(), addresses: Vec::new(), left: 0, turns: 0, waiting_max }
    }

    /// Whether there is room for a message of so many bytes more. Some is kept: a program that always has more to send would
    /// leave none for the answers to newcomers.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.waiting + bytes <= self.waiting_max - self.waiting_max / KEPT
    }

    /// Looks at what a connection has to send.
    #[inline]
    pub(super) fn note(&mut self, session: Session, seat: &mut Seat) {
        let waiting = seat.connection.waiting();
        self.waiting = self.waiting - seat.bytes_waiting + waiting;
        seat.bytes_waiting = waiting;
        if waiting > 0 && !seat.ready {
            seat.ready = true;
            self.ready.push_back(session);
        }
    }

    /// Queues a datagram that no connection keeps; where there is no room for it, it is lost and counted.
    pub(super) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8], counters: &Counters) {
        if self.waiting + datagram.len() > self.waiting_max {
            counters.datagrams_dropped.add(1);
            return;
        }
        // Where more always waits, as in a flood of strangers, there is never nothing left.
        if self.left == self.addresses.len() || self.left >= LEFT_AT_MOST.max(self.addresses.len() / 2) {
            self.loose.drop_first(self.left);
            self.addresses.drain(..self.left);
            self.left = 0;
        }
        self.loose.push(datagram);
        self.addresses.push((to, from));
        self.waiting += datagram.len();
    }

    /// The first of the connections has had its turn. Where it has more to send, the others come first: of one that always
    /// has, they would wait for ever.
    #[inline]
    pub(super) fn end_turn(&mut self, has_more: bool) {
        self.turns += 1;
        if has_more {
            self.ready.rotate_left(1);
        }
    }

    /// Whether a datagram that no connection keeps is to leave next, though connections are ready.
    #[inline]
    pub(super) fn is_turn_of_loose(&self) -> bool {
        self.turns >= TURNS && self.left < self.addresses.len()
    }

    pub(super) fn pop(&mut self) -> Option<Transmit<'_>> {
        self.turns = 0;
        let &(to, from) = self.addresses.get(self.left)?;
        let bytes = self.loose.get(self.left)?;
        self.left += 1;
        self.waiting -= bytes.len();
        Some(Transmit { to, from, segment_size: None, bytes })
    }
}
