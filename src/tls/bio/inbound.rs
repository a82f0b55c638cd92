//! What libssl reads.

use std::net::SocketAddr;
use std::ptr::NonNull;

use super::{Numbering, Peer, Port, Written};
use crate::wire::backlog::Backlog;
use crate::wire::datagrams::renumber;

/// The most datagrams that wait after a C caller wrote them.
const QUEUED_MAX: usize = 64;

/// What libssl reads: the record that is being received, then what a C caller wrote. Laid out in this order: what each
/// record needs comes first.
#[derive(Default)]
#[repr(C)]
pub struct Inbound {
    /// Borrowed from the caller of [`Inbound::lend`] until [`Inbound::take_back`]; NULL when there is none.
    record: Option<NonNull<[u8]>>,
    /// The next sequence number in epoch 0. Anybody can send a record in clear, and a high number in it would make libssl take
    /// everything that the peer sends for old. So records are numbered anew, in the order in which they come.
    sequence: Numbering,
    /// What a C caller wrote and libssl has not read.
    queue: Backlog,
    peer: Option<Peer>,
}

impl Inbound {
    pub fn new(peer: SocketAddr) -> Inbound {
        Inbound { peer: Some((peer.ip(), peer.port())), ..Inbound::default() }
    }

    /// From here on records of epoch 0 that are lent are numbered from `sequence` on.
    pub fn begin_handshake(&mut self, sequence: u64) {
        self.sequence = Numbering(sequence);
    }

    /// Lets libssl read `record`. The caller takes it back before the borrow ends.
    pub fn lend(&mut self, record: &[u8]) {
        self.record = Some(NonNull::from(record));
    }

    /// Ends the loan, whether libssl has read the record or not.
    pub fn take_back(&mut self) {
        self.record = None;
    }

    /// The oldest datagram that a C caller wrote.
    #[inline]
    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        self.queue.pop()
    }

    /// The number that libssl sees the next record of epoch 0 under.
    #[cfg(test)]
    pub fn next_in_clear(&self) -> u64 {
        self.sequence.0
    }

    /// One datagram into `out`, cut to its size as recvfrom does.
    fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        let copy = |from: &[u8], out: &mut [u8]| {
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            n
        };
        if let Some(record) = self.record.take() {
            // SAFETY: `lend` got it as a slice that outlives the loan, and the loan has not been taken back.
            let len = copy(unsafe { record.as_ref() }, out);
            if let Some(sequence) = self.sequence.next() {
                renumber(&mut out[..len], sequence);
            }
            return Some(len);
        }
        self.pop().map(|datagram| copy(&datagram, out))
    }
}

impl Port for Inbound {
    const NAME: &std::ffi::CStr = c"dv_dtls datagrams in";
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.read(out)
    }
    fn port_write(&mut self, datagram: &[u8]) -> Written {
        if self.queue.push(datagram, QUEUED_MAX) { Written::Yes } else { Written::Full }
    }
    fn pending(&self) -> usize {
        self.queue.total_len()
    }
    fn reset(&mut self) {
        self.queue.clear();
    }
    fn mtu(&mut self) -> Option<&mut u32> {
        None
    }
    fn peer(&self) -> Option<Peer> {
        self.peer
    }
}
