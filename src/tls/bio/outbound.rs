//! What libssl has written.

use std::net::SocketAddr;

use super::outgoing::{Outgoing, SpareRoom};
use super::{Numbering, Peer, Port, Written};
use crate::tls::fork;
use crate::wire::datagrams::{Datagrams, renumber};
use crate::wire::handshake::Fragment;
use crate::wire::record::{Record, content_type, records};
use crate::wire::refragment::refragment;

/// The most bytes that wait when a C caller has the SSL, who may write without ever sending. About what a socket's buffer has.
const WAITING_MAX: usize = 256 << 10;

/// What libssl wrote. Laid out in this order: what each datagram needs comes first.
#[derive(Default)]
#[repr(C)]
pub struct Outbound {
    /// None while nothing waits and nothing is kept, as in most connections, which are idle.
    outgoing: Option<Box<Outgoing>>,
    /// The largest datagram, in bytes of UDP payload.
    mtu: u32,
    born: u32,
    /// The handshake goes on: what is written belongs to a flight.
    in_flight: bool,
    /// What is written next begins a new flight: the last one is not needed any more.
    new_flight: bool,
    /// Whether the last datagram may grow: the call into libssl that runs now has begun it.
    open: bool,
    /// A C caller has the SSL.
    given_away: bool,
    /// What libssl repeats now, unasked, does not leave.
    only_new: bool,
    /// What libssl has written last was a repetition.
    repeating: bool,
    peer: Option<Peer>,
    /// The next sequence number in epoch 0, in place of libssl's: those go wrong after DTLSv1_listen in 3.2 to 4.0
    /// (openssl#32063), and a flight that is sent again needs new ones (RFC 6347 4.2.4). If there is none, libssl's are sent.
    sequence: Numbering,
    /// Number of the last handshake message that libssl has written in clear.
    written: Option<u16>,
    /// What libssl has sealed in the handshake. See [`Outbound::take_sealed`].
    sealed: Option<Box<Sealed>>,
}

/// What libssl has sealed.
#[derive(Default)]
struct Sealed {
    next: u64,
    nonces: Vec<u64>,
}

impl Outbound {
    pub fn new(mtu: usize, peer: SocketAddr) -> Outbound {
        let peer = Some((peer.ip(), peer.port()));
        Outbound { mtu: mtu as u32, peer, born: fork::generation(), ..Outbound::default() }
    }

    /// From here on flights are kept, and records of epoch 0 numbered from `sequence` on.
    pub fn begin_handshake(&mut self, sequence: u64) {
        self.in_flight = true;
        self.sequence = Numbering(sequence);
    }

    /// The peer has sent something new: what libssl writes next is a new flight.
    pub fn expect_new_flight(&mut self) {
        self.new_flight = true;
    }

    /// From here on, what libssl repeats leaves only if `wanted`.
    pub fn want_repetitions(&mut self, wanted: bool) {
        self.only_new = !wanted;
    }

    /// A C caller gets the SSL. What the caller writes waits until the caller, or a helper, sends it.
    pub fn give_away(&mut self) {
        self.given_away = true;
    }

    /// The handshake is over. Its last flight stays until [`Outbound::forget_flight`].
    pub fn end_handshake(&mut self) {
        self.in_flight = false;
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.datagrams.shrink();
        }
    }

    /// The last flight, and the number of the next record in clear.
    pub fn flight(&self) -> (u64, impl Iterator<Item = &[u8]>) {
        let Numbering(next) = self.sequence;
        (next, self.outgoing.iter().flat_map(|outgoing| outgoing.flight()))
    }

    /// Keeps a last flight that somebody else has sent.
    pub fn keep_flight<'a>(&mut self, sequence: u64, datagrams: impl Iterator<Item = &'a [u8]>) {
        self.outgoing = Some(Box::new(Outgoing::of_flight(datagrams)));
        self.sequence = Numbering(sequence);
    }

    /// The last flight has arrived.
    pub fn forget_flight(&mut self) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.forget_flight();
        }
        self.shrink();
        self.sequence = Numbering::NONE;
    }

    /// Takes the buffer in `spare` for what is going to be written, unless there is one already: a program that sends each
    /// datagram at once needs a single buffer, not one for each connection.
    #[inline]
    pub fn use_room(&mut self, spare: &SpareRoom) {
        if self.outgoing.is_none() {
            self.outgoing = spare.take();
        }
    }

    /// Gives the buffer back, unless something waits or is kept there. It is emptied: what has left, or was dropped with
    /// BIO_reset, must not become part of another connection's flight.
    #[inline]
    pub fn leave_room(&mut self, spare: &SpareRoom) {
        if let Some(mut room) = self.outgoing.take_if(|outgoing| outgoing.is_empty()) {
            room.keep_only_flight();
            spare.set(Some(room));
        }
    }

    /// Takes one write of libssl. A flight that libssl repeats comes message by message, and is packed up to the MTU here.
    fn push(&mut self, write: &[u8]) {
        if self.in_flight {
            self.note_repetition(write);
            self.note_sealed(write);
            if self.only_new && self.repeating {
                return;
            }
            if std::mem::take(&mut self.new_flight) {
                self.outgoing.get_or_insert_default().begin_flight();
            }
        }
        // libssl packs a flight itself, but forgets what AES-GCM adds to the Finished: that goes into another datagram.
        let mut rest = write;
        while !rest.is_empty() {
            let (fits, more) = rest.split_at(fitting(rest, self.mtu as usize));
            self.push_datagram(fits);
            rest = more;
        }
    }

    /// A flight begins with a message in clear, or with the ChangeCipherSpec in front of a Finished. What follows is of the same
    /// flight, but for an alert, which is of none. Where a repeated message is cut says nothing: the MTU may be lower by then.
    fn note_repetition(&mut self, write: &[u8]) {
        for record in records(write) {
            match (record.epoch, record.content_type) {
                (_, content_type::ALERT) => self.repeating = false,
                (0, content_type::CHANGE_CIPHER_SPEC) => self.repeating = self.has_sealed(),
                (0, content_type::HANDSHAKE) => {
                    let fragment = Fragment::parse(record.fragment()).map(|(fragment, _)| fragment);
                    if let Some(first) = fragment.filter(|fragment| fragment.offset == 0) {
                        let this = Some(first.message_seq);
                        self.repeating = this <= self.written;
                        self.written = this.max(self.written);
                    }
                }
                _ => {}
            }
        }
    }

    fn note_sealed(&mut self, write: &[u8]) {
        for record in records(write).filter(|record| record.epoch == 1) {
            let sealed = self.sealed.get_or_insert_default();
            sealed.next = sealed.next.max(record.sequence + 1);
            sealed.nonces.extend(record.fragment().first_chunk().map(|first| u64::from_be_bytes(*first)));
        }
    }

    /// Whether libssl has sealed anything in the handshake.
    pub fn has_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Replaces each record that libssl has sealed and that waits to leave. The new one may be longer, and moves to another
    /// datagram if it does not fit. A record for which `replace` returns nothing does not leave.
    pub fn replace_sealed(&mut self, mut replace: impl FnMut(&Record<'_>) -> Option<Vec<u8>>) {
        let of_libssl = |record: &Record<'_>| record.epoch == 1 && record.content_type != content_type::TLS12_CID;
        let most = self.mtu as usize;
        let Some(outgoing) = &mut self.outgoing else { return };
        if !outgoing.waiting().flat_map(records).any(|record| of_libssl(&record)) {
            return;
        }
        let waiting = outgoing.take_waiting();
        let datagrams = &mut outgoing.datagrams;
        for datagram in waiting.iter() {
            let before = datagrams.len();
            for record in records(datagram) {
                let other = of_libssl(&record).then(|| replace(&record));
                let Some(bytes) = other.as_ref().map_or(Some(record.bytes), |other| other.as_deref()) else { continue };
                if datagrams.len() == before {
                    datagrams.push(bytes);
                } else {
                    datagrams.pack(bytes, &[], most);
                }
            }
        }
        outgoing.flight = datagrams.len();
        // How long an ID is, is not known here, so that nothing behind a record with one could be found.
        self.open = false;
    }

    /// What libssl has sealed in the handshake: the sequence number behind the last one, and the first eight bytes of each
    /// fragment, which AES-GCM has for its explicit nonce.
    pub fn take_sealed(&mut self) -> (u64, Vec<u64>) {
        let Sealed { next, nonces } = *self.sealed.take().unwrap_or_default();
        (next, nonces)
    }

    /// Adds a datagram of at most `room` bytes: `write` fills them in and returns its length.
    #[inline]
    pub fn push_with(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.open = false;
        let outgoing = self.outgoing.get_or_insert_default();
        outgoing.move_up();
        outgoing.datagrams.push_with(room, write);
    }

    /// Frees the memory that is not in use.
    pub fn shrink(&mut self) {
        let Some(outgoing) = &mut self.outgoing else { return };
        if !outgoing.waits() {
            outgoing.keep_only_flight();
        }
        if outgoing.is_empty() {
            self.outgoing = None;
        } else {
            outgoing.datagrams.shrink();
        }
    }

    fn push_datagram(&mut self, write: &[u8]) {
        let most = self.mtu as usize;
        let Outgoing { datagrams, flight, .. } = &mut **self.outgoing.get_or_insert_default();
        let (count, bytes) = (datagrams.len(), datagrams.total_len());
        if self.open {
            datagrams.pack(write, &[], most);
        } else {
            datagrams.push(write);
        }
        if let Some(sequence) = self.sequence.next() {
            let last = datagrams.len() - 1;
            let joined = if last < count { bytes - datagrams.begin(last) } else { 0 };
            renumber(&mut datagrams.tail_mut(last)[joined..], sequence);
        }
        if self.in_flight {
            *flight = datagrams.len();
            self.open = true;
        }
    }

    /// Whether nothing waits or is kept, and no buffer is held for it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.outgoing.is_none()
    }

    /// Whether a datagram waits to leave.
    pub fn waits(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.waits())
    }

    /// The next datagram that has to leave; it counts as gone from now on.
    #[inline]
    pub fn pop(&mut self) -> Option<&[u8]> {
        self.open = false;
        self.outgoing.as_mut()?.pop()
    }

    /// The next datagrams that have to leave, back to back, and the length of the first. All are as long as that, except that
    /// the last may be shorter. At most `max` of them, and if they are more than one, at most `bytes_max` bytes.
    pub fn pop_segments(&mut self, max: usize, bytes_max: usize) -> Option<(&[u8], usize)> {
        self.open = false;
        self.outgoing.as_mut()?.pop_segments(max, bytes_max)
    }

    /// Bytes of the next datagram that has to leave.
    pub fn next_len(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.next_len())
    }

    /// Bytes that wait to leave.
    pub fn waiting(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.waiting_len())
    }

    /// How many datagrams there are before a call into libssl, to find what it writes: see [`Outbound::written_since`].
    pub fn mark(&mut self) -> usize {
        self.open = false;
        self.outgoing.as_mut().map_or(0, |outgoing| {
            outgoing.move_up();
            outgoing.datagrams.len()
        })
    }

    /// The content type of the first record written since `mark`.
    pub fn written_since(&self, mark: usize) -> Option<u8> {
        self.outgoing.as_ref()?.datagrams.get(mark).map(|datagram| datagram[0])
    }

    /// Forgets what libssl wrote since `mark`.
    pub fn take_back(&mut self, mark: usize) {
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.datagrams.truncate(mark));
    }

    /// Queues the datagrams of the last flight once more, packed as they were, with new numbers in epoch 0. Returns whether
    /// there are any.
    pub fn resend(&mut self) -> bool {
        let Some(outgoing) = self.outgoing.as_mut().filter(|outgoing| outgoing.flight > 0) else { return false };
        outgoing.resend();
        if let Some(sequence) = self.sequence.next() {
            outgoing.datagrams.renumber(sequence);
        }
        true
    }

    /// From now on datagrams have at most `mtu` bytes, those of the last flight too.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu as u32;
        if self.in_flight
            && let Some(outgoing) = &mut self.outgoing
            && outgoing.datagrams.iter().any(|datagram| datagram.len() > mtu)
        {
            let mut smaller = Datagrams::new();
            refragment(&outgoing.datagrams, mtu, &mut smaller);
            outgoing.replace_flight(smaller);
        }
    }

    /// For a C caller: as many whole datagrams as fit, back to back; a piece of the first where not even that fits.
    fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.open = false;
        let read = self.outgoing.as_mut().and_then(|outgoing| outgoing.read(out));
        if !self.waits() {
            // A C caller who reads here drives the handshake, and this is the only sign that a flight has ended.
            self.new_flight = true;
            self.outgoing.iter_mut().for_each(|outgoing| outgoing.keep_only_flight());
        }
        read
    }
}

impl Port for Outbound {
    const NAME: &std::ffi::CStr = c"dv_dtls datagrams out";
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.read(out)
    }
    fn port_write(&mut self, datagram: &[u8]) -> Written {
        // A C caller in the child of a fork may call SSL_write itself: what two processes seal with one key must not leave.
        if self.born != fork::generation() {
            return Written::Never;
        }
        if self.given_away && !self.in_flight && self.waiting() >= WAITING_MAX {
            return Written::Full;
        }
        self.push(datagram);
        Written::Yes
    }
    fn pending(&self) -> usize {
        self.waiting()
    }
    fn reset(&mut self) {
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.skip_waiting());
    }
    fn mtu(&mut self) -> Option<&mut u32> {
        Some(&mut self.mtu)
    }
    fn peer(&self) -> Option<Peer> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A C caller has read a piece of a datagram that is made smaller then.
    #[test]
    fn a_flight_that_is_cut_is_read_from_its_beginning() {
        let mut bio = Outbound::new(1200, ([127, 0, 0, 1], 1).into());
        bio.begin_handshake(0);
        let message = [&[2, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 3, 0xe8][..], &[7; 1000]].concat();
        bio.push(&[&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0xf4][..], &message].concat());
        assert_eq!(bio.read(&mut [0; 900]), Some(900));
        bio.set_mtu(500);
        let mut read = Vec::new();
        let mut room = [0; 500];
        while let Some(len) = bio.read(&mut room) {
            read.extend(records(&room[..len]).map(|record| record.fragment().len() - 12));
        }
        assert_eq!(read.iter().sum::<usize>(), 1000, "{read:?}");
    }

    /// Where the path takes less than before, libssl cuts what it repeats in other places.
    #[test]
    fn what_is_repeated_in_smaller_fragments_is_a_repetition() {
        let fragment = |offset: u16, len: u16| {
            let [offset, fragment, record] = [offset, len, len + 12].map(u16::to_be_bytes);
            let header = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0][..], &record].concat();
            [&header[..], &[11, 0, 3, 0xe8, 0, 2, 0], &offset, &[0], &fragment, &vec![7; len.into()]].concat()
        };
        let mut bio = Outbound::new(1200, ([127, 0, 0, 1], 1).into());
        bio.begin_handshake(0);
        bio.want_repetitions(false);
        [(0, 900), (900, 100)].iter().for_each(|(offset, len)| bio.push(&fragment(*offset, *len)));
        assert!(bio.pop().is_some());
        assert!(bio.pop().is_none());
        bio.expect_new_flight();
        [(0, 480), (480, 480), (960, 40)].iter().for_each(|(offset, len)| bio.push(&fragment(*offset, *len)));
        assert!(!bio.waits());
    }

    #[test]
    fn nothing_is_left_in_room_for_others() {
        let new = || Outbound::new(1200, ([127, 0, 0, 1], 1).into());
        let room = SpareRoom::default();
        for drop_it in [|one: &mut Outbound| one.reset(), |one: &mut Outbound| assert!(one.pop().is_some())] {
            let mut one = new();
            one.push(b"one's");
            drop_it(&mut one);
            one.leave_room(&room);

            let mut other = new();
            other.begin_handshake(0);
            other.use_room(&room);
            other.push(b"the other's flight");
            while other.pop().is_some() {}
            assert!(other.resend());
            assert_eq!(other.pop().map(<[u8]>::len), Some(b"the other's flight".len()));
            assert!(other.pop().is_none());
        }
    }
}
