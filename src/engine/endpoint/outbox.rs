//! What has to leave: who of the connections has datagrams, and datagrams that no connection keeps.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::Session;
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
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Outbox {
    /// Connections with something to send. A connection that is gone since finds nothing.
    pub(super) ready: VecDeque<Session>,
    /// Bytes that wait, in the connections and here.
    pub(super) waiting: usize,
    /// Answers to strangers, and the last words of connections that are gone.
    loose: Datagrams,
    addresses: Vec<(SocketAddr, Option<IpAddr>)>,
    left: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) {
        if self.left == self.addresses.len() {
            self.loose.clear();
            self.addresses.clear();
            self.left = 0;
        }
        self.loose.push(datagram);
        self.addresses.push((to, from));
        self.waiting += datagram.len();
    }

    pub(super) fn pop(&mut self) -> Option<Transmit<'_>> {
        let &(to, from) = self.addresses.get(self.left)?;
        let bytes = self.loose.get(self.left)?;
        self.left += 1;
        self.waiting -= bytes.len();
        Some(Transmit { to, from, segment_size: None, bytes })
    }
}
