//! What libssl has written.

use std::net::SocketAddr;

use super::Port;
use crate::tls::fork;
use crate::wire::datagrams::{Datagrams, renumber};
use crate::wire::record::{Record, content_type, records};
use crate::wire::refragment::refragment;

/// Datagrams that have left and stand before those that wait, until these are moved up. They are half of all then, so that
/// each is moved once at most.
const LEFT_AT_MOST: usize = 64;

/// What libssl wrote: the datagrams of the last flight, kept to be sent again, then those that only wait to leave. Laid out
/// in this order: what each datagram needs comes first.
#[derive(Default)]
#[repr(C)]
pub struct Outbound {
    datagrams: Datagrams,
    /// How many datagrams, from the first on, belong to the last flight.
    flight: usize,
    /// How many have left, and how many bytes of the next one (a C caller may read it in pieces).
    left: usize,
    left_bytes: usize,
    /// The largest datagram, in bytes of UDP payload.
    mtu: usize,
    born: u32,
    /// The handshake goes on: what is written belongs to a flight.
    in_flight: bool,
    /// What is written next begins a new flight: the last one is not needed any more.
    new_flight: bool,
    /// Whether the last datagram may grow: the call into libssl that runs now has begun it.
    open: bool,
    /// The next sequence number in epoch 0. libssl's own are replaced: they go wrong after DTLSv1_listen in 3.2 to 4.0
    /// (openssl#32063), and a flight that is sent again wants new ones (RFC 6347 4.2.4). None: libssl's own go out.
    sequence: Option<u64>,
    /// What libssl has sealed in the handshake. See [`Outbound::take_sealed`].
    sealed_next: u64,
    sealed_nonces: Vec<u64>,
    peer: Option<SocketAddr>,
}

impl Outbound {
    pub fn new(mtu: usize, peer: SocketAddr) -> Outbound {
        Outbound { mtu, peer: Some(peer), born: fork::generation(), ..Outbound::default() }
    }

    /// From here on flights are kept, and records of epoch 0 numbered from `sequence` on.
    pub fn begin_handshake(&mut self, sequence: u64) {
        self.in_flight = true;
        self.sequence = Some(sequence);
    }

    /// The peer has sent something new: what libssl writes next is a new flight.
    pub fn expect_new_flight(&mut self) {
        self.new_flight = true;
    }

    /// The handshake is over. Its last flight stays until [`Outbound::forget_flight`].
    pub fn end_handshake(&mut self) {
        self.in_flight = false;
    }

    /// The last flight, and the number of the next record in clear.
    pub fn flight(&self) -> (u64, impl Iterator<Item = &[u8]>) {
        (self.sequence.unwrap_or_default(), self.datagrams.iter().take(self.flight))
    }

    /// Keeps a last flight that somebody else has sent.
    pub fn keep_flight<'a>(&mut self, sequence: u64, datagrams: impl Iterator<Item = &'a [u8]>) {
        datagrams.for_each(|datagram| self.datagrams.push(datagram));
        self.flight = self.datagrams.len();
        self.left = self.flight;
        self.sequence = Some(sequence);
    }

    /// The last flight has arrived.
    pub fn forget_flight(&mut self) {
        let gone = self.flight.min(self.left);
        self.datagrams.drop_first(gone);
        self.datagrams.shrink();
        self.left -= gone;
        self.flight = 0;
        self.sequence = None;
    }

    /// Takes one write of libssl. When it repeats a flight it writes message by message; they are packed up to the MTU.
    fn push(&mut self, write: &[u8]) {
        if self.in_flight {
            self.note_sealed(write);
            if std::mem::take(&mut self.new_flight) {
                self.datagrams.drop_first(self.left);
                self.left = 0;
            }
        }
        // libssl packs a flight itself, but forgets what AES-GCM adds to the Finished: that goes into the next datagram.
        let mut rest = write;
        while !rest.is_empty() {
            let (fits, more) = rest.split_at(fitting(rest, self.mtu));
            self.push_datagram(fits);
            rest = more;
        }
    }

    fn note_sealed(&mut self, write: &[u8]) {
        for record in records(write).filter(|record| record.epoch == 1) {
            self.sealed_next = self.sealed_next.max(record.sequence + 1);
            self.sealed_nonces.extend(record.fragment().first_chunk().map(|first| u64::from_be_bytes(*first)));
        }
    }

    /// Whether libssl has sealed anything in the handshake.
    pub fn has_sealed(&self) -> bool {
        self.sealed_next > 0
    }

    /// Puts another record in the place of each that libssl has sealed and that waits to leave. It may be longer, and then
    /// stands in the next datagram. One that nothing comes for does not leave.
    pub fn replace_sealed(&mut self, mut replace: impl FnMut(&Record<'_>) -> Option<Vec<u8>>) {
        let of_libssl = |record: &Record<'_>| record.epoch == 1 && record.content_type != content_type::TLS12_CID;
        if !self.datagrams.iter().skip(self.left).flat_map(records).any(|record| of_libssl(&record)) {
            return;
        }
        let mut waiting = self.datagrams.clone();
        waiting.drop_first(self.left);
        self.datagrams.truncate(self.left);
        for datagram in waiting.iter() {
            let before = self.datagrams.len();
            for record in records(datagram) {
                let other = of_libssl(&record).then(|| replace(&record));
                let Some(bytes) = other.as_ref().map_or(Some(record.bytes), |other| other.as_deref()) else { continue };
                if self.datagrams.len() == before {
                    self.datagrams.push(bytes);
                } else {
                    self.datagrams.pack(bytes, &[], self.mtu);
                }
            }
        }
        self.flight = self.datagrams.len();
        // Behind a record with an ID nothing is found any more by who does not know how long that is.
        self.open = false;
    }

    /// What libssl has sealed in the handshake: the sequence number behind the last one, and the first eight bytes of each
    /// fragment, which AES-GCM has for its explicit nonce.
    pub fn take_sealed(&mut self) -> (u64, Vec<u64>) {
        (self.sealed_next, std::mem::take(&mut self.sealed_nonces))
    }

    /// Adds a datagram of at most `room` bytes, which `write` puts there and whose length it tells.
    #[inline]
    pub fn push_with(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.move_up();
        self.open = false;
        self.datagrams.push_with(room, write);
    }

    /// Gives back the room that nothing takes up now.
    pub fn shrink(&mut self) {
        if !self.waits() {
            self.settle();
        }
        self.datagrams.shrink();
    }

    fn push_datagram(&mut self, write: &[u8]) {
        let (count, bytes) = (self.datagrams.len(), self.datagrams.total_len());
        if self.open {
            self.datagrams.pack(write, &[], self.mtu);
        } else {
            self.datagrams.push(write);
        }
        if let Some(sequence) = &mut self.sequence {
            let last = self.datagrams.len() - 1;
            let joined = if last < count { bytes - self.datagrams.begin(last) } else { 0 };
            renumber(&mut self.datagrams.tail_mut(last)[joined..], sequence);
        }
        if self.in_flight {
            self.flight = self.datagrams.len();
            self.open = true;
        }
    }

    /// Whether a datagram waits to leave.
    pub fn waits(&self) -> bool {
        self.left < self.datagrams.len()
    }

    /// The next datagram that has to leave; it counts as gone from now on.
    pub fn pop(&mut self) -> Option<&[u8]> {
        if !self.waits() {
            self.settle();
            return None;
        }
        self.left += 1;
        self.open = false;
        let from = std::mem::take(&mut self.left_bytes);
        self.datagrams.get(self.left - 1).map(|datagram| &datagram[from..])
    }

    /// The next datagrams that have to leave, back to back, and the length of the first: those that follow it are as long,
    /// but for the last, which may be shorter. At most `max` of them, and `bytes_max` bytes if they are more than one.
    pub fn pop_segments(&mut self, max: usize, bytes_max: usize) -> Option<(&[u8], usize)> {
        let begin = self.datagrams.begin(self.left) + self.left_bytes;
        let segment = self.pop()?.len();
        let mut end = begin + segment;
        for _ in 1..max {
            let Some(next) = self.datagrams.get(self.left) else { break };
            let len = next.len();
            if len > segment || end + len - begin > bytes_max {
                break;
            }
            end += len;
            self.left += 1;
            if len < segment {
                break;
            }
        }
        Some((self.datagrams.slice(begin..end), segment))
    }

    /// Bytes of the next datagram that has to leave.
    pub fn next_len(&self) -> usize {
        self.datagrams.get(self.left).map_or(0, |datagram| datagram.len() - self.left_bytes)
    }

    /// Bytes that wait to leave.
    pub fn waiting(&self) -> usize {
        self.datagrams.total_len() - self.datagrams.begin(self.left) - self.left_bytes
    }

    /// Everything has left: what is not kept goes.
    fn settle(&mut self) {
        self.datagrams.truncate(self.flight);
        self.left = self.flight;
    }

    /// Forgets what has left and is not kept, although more waits: of somebody who always has more to send, it always does.
    #[inline]
    fn move_up(&mut self) {
        if self.left.saturating_sub(self.flight) >= LEFT_AT_MOST.max(self.datagrams.len() / 2) {
            self.datagrams.remove(self.flight..self.left);
            self.left = self.flight;
        }
    }

    /// How many datagrams there are, before a call into libssl: for what it writes. See [`Outbound::written_since`].
    pub fn mark(&mut self) -> usize {
        self.move_up();
        self.open = false;
        self.datagrams.len()
    }

    /// The content type of the first record written since `mark`.
    pub fn written_since(&self, mark: usize) -> Option<u8> {
        self.datagrams.get(mark).map(|datagram| datagram[0])
    }

    /// Forgets what was written since `mark`.
    pub fn take_back(&mut self, mark: usize) {
        self.datagrams.truncate(mark);
    }

    /// The datagrams of the last flight wait to leave once more, epoch 0 with new numbers, packed as they were.
    /// Gives whether there are any.
    pub fn resend(&mut self) -> bool {
        if self.flight == 0 {
            return false;
        }
        if !self.waits() {
            self.datagrams.truncate(self.flight);
        }
        if let Some(sequence) = &mut self.sequence {
            self.datagrams.renumber(sequence);
        }
        self.left = 0;
        self.left_bytes = 0;
        true
    }

    /// From now on datagrams have at most `mtu` bytes, those of the last flight too.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
        if self.in_flight && self.datagrams.iter().any(|datagram| datagram.len() > mtu) {
            let mut smaller = Datagrams::new();
            refragment(&self.datagrams, mtu, &mut smaller);
            self.flight = smaller.len();
            self.left = if self.waits() { 0 } else { self.flight };
            self.datagrams = smaller;
        }
    }

    /// For a C caller: as many whole datagrams as fit, back to back; a piece of the first where not even that fits.
    fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        while let Some(datagram) = self.datagrams.get(self.left) {
            let datagram = &datagram[self.left_bytes..];
            let room = out.len() - len;
            if datagram.len() <= room {
                out[len..len + datagram.len()].copy_from_slice(datagram);
                len += datagram.len();
                self.left += 1;
                self.left_bytes = 0;
            } else {
                if len == 0 {
                    out.copy_from_slice(&datagram[..room]);
                    len = room;
                    self.left_bytes += room;
                }
                break;
            }
        }
        self.open = false;
        if !self.waits() {
            // A C caller who reads here drives the handshake himself: nobody else tells where a flight ends.
            self.new_flight = true;
            self.settle();
        }
        (len > 0).then_some(len)
    }
}

impl Port for Outbound {
    const NAME: &std::ffi::CStr = c"dv_dtls datagrams out";
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.read(out)
    }
    fn port_write(&mut self, datagram: &[u8]) -> bool {
        // A C caller in the child of a fork may call SSL_write itself: what two processes seal with one key must not leave.
        let ours = self.born == fork::generation();
        if ours {
            self.push(datagram);
        }
        ours
    }
    fn pending(&self) -> usize {
        self.waiting()
    }
    fn reset(&mut self) {
        self.left = self.datagrams.len();
        self.left_bytes = 0;
    }
    fn mtu(&mut self) -> Option<&mut usize> {
        Some(&mut self.mtu)
    }
    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// Bytes of the first record and of those behind it that fit into `mtu` bytes with it.
fn fitting(bytes: &[u8], mtu: usize) -> usize {
    if bytes.len() <= mtu {
        return bytes.len();
    }
    let ends = records(bytes).scan(0, |end, record| {
        *end += record.bytes.len();
        Some(*end)
    });
    ends.enumerate().take_while(|(number, end)| *number == 0 || *end <= mtu).last().map_or(bytes.len(), |(_, end)| end)
}
