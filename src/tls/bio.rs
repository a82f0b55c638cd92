//! The datagram BIO: one write is one datagram, one read is one datagram.
//!
//! A session has two of them. libssl alone reads the inbound one and writes the outbound one; what comes from the other
//! side (`BIO_write` on a connection's `rbio`, `BIO_read` on its `wbio`) comes from a C caller that still does this by hand.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use libc::{c_char, c_int, c_long, c_void};
use openssl_sys::*;

use super::fork;
use super::outgoing::{Outgoing, SpareRoom};
// By name: openssl-sys declares some of these too, for OpenSSL 3.2 and later.
use super::sys::{
    BIO_ADDR, BIO_ADDR_rawmake, BIO_CTRL_DGRAM_GET_FALLBACK_MTU, BIO_CTRL_DGRAM_GET_MTU_OVERHEAD,
    BIO_CTRL_DGRAM_GET_PEER, BIO_CTRL_DGRAM_SET_MTU, BIO_CTRL_PENDING, BIO_CTRL_RESET, BIO_TYPE_SOURCE_SINK,
    BIO_get_new_index, BIO_method_type,
};
use crate::guard::guard;
use crate::wire::datagrams::{Datagrams, renumber};
use crate::wire::record::{Record, content_type, records};
use crate::wire::refragment::refragment;

/// Datagrams that a C caller may queue on an inbound BIO before libssl reads them.
const QUEUE_MAX: usize = 64;

/// Bytes of headers around a payload, at most.
const IPV6_UDP_HEADERS: c_long = 40 + 8;

/// Who is at the other end, as a BIO tells it.
type Peer = (IpAddr, u16);

/// The next sequence number in epoch 0, where records get numbers of ours. In half the room of an `Option`: each connection
/// has two.
struct Numbering(u64);

impl Numbering {
    /// No sequence number: they have 48 bits.
    const NONE: Numbering = Numbering(u64::MAX);

    fn next(&mut self) -> Option<&mut u64> {
        Some(&mut self.0).filter(|next| **next != Numbering::NONE.0)
    }
}

impl Default for Numbering {
    fn default() -> Numbering {
        Numbering::NONE
    }
}

/// What libssl reads: the record that is being received, then what a C caller wrote. Laid out in this order: what each
/// record needs comes first.
#[derive(Default)]
#[repr(C)]
pub struct Inbound {
    /// Borrowed from the caller of [`Inbound::lend`] until [`Inbound::take_back`]; NULL when there is none.
    record: Option<NonNull<[u8]>>,
    /// The next sequence number in epoch 0. A record in clear may be anybody's, and one with a high number would make
    /// libssl take all that the peer sends for old: what is lent is numbered anew, in the order in which it comes.
    sequence: Numbering,
    /// As good as always none.
    queue: Option<Box<VecDeque<Box<[u8]>>>>,
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
        let queue = self.queue.as_mut()?;
        let oldest = queue.pop_front();
        self.queue.take_if(|queue| queue.is_empty());
        oldest
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

/// What libssl wrote. Laid out in this order: what each datagram needs comes first.
#[derive(Default)]
#[repr(C)]
pub struct Outbound {
    /// None as long as nothing waits and nothing is kept: most connections are idle.
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
    peer: Option<Peer>,
    /// The next sequence number in epoch 0. libssl's own are replaced: they go wrong after DTLSv1_listen in 3.2 to 4.0
    /// (openssl#32063), and a flight that is sent again wants new ones (RFC 6347 4.2.4). With none, libssl's own go out.
    sequence: Numbering,
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

    /// Takes room for what is going to be written from `spare`, if it has none itself: a program that sends each datagram
    /// at once needs it once, not for each connection.
    #[inline]
    pub fn use_room(&mut self, spare: &SpareRoom) {
        if self.outgoing.is_none() {
            self.outgoing = spare.take();
        }
    }

    /// Leaves the room to others, unless something waits or is kept there.
    #[inline]
    pub fn leave_room(&mut self, spare: &SpareRoom) {
        if let Some(room) = self.outgoing.take_if(|outgoing| outgoing.is_empty()) {
            spare.set(Some(room));
        }
    }

    fn datagram_max(&self) -> usize {
        self.mtu as usize
    }

    fn outgoing(&mut self) -> &mut Outgoing {
        self.outgoing.get_or_insert_default()
    }

    /// Takes one write of libssl. When it repeats a flight it writes message by message; they are packed up to the MTU.
    fn push(&mut self, write: &[u8]) {
        if self.in_flight {
            self.note_sealed(write);
            if std::mem::take(&mut self.new_flight) {
                self.outgoing().begin_flight();
            }
        }
        // libssl packs a flight itself, but forgets what AES-GCM adds to the Finished: that goes into the next datagram.
        let mut rest = write;
        while !rest.is_empty() {
            let (fits, more) = rest.split_at(fitting(rest, self.datagram_max()));
            self.push_datagram(fits);
            rest = more;
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

    /// Puts another record in the place of each that libssl has sealed and that waits to leave. It may be longer, and then
    /// stands in the next datagram. One that nothing comes for does not leave.
    pub fn replace_sealed(&mut self, mut replace: impl FnMut(&Record<'_>) -> Option<Vec<u8>>) {
        let of_libssl = |record: &Record<'_>| record.epoch == 1 && record.content_type != content_type::TLS12_CID;
        let most = self.datagram_max();
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
        // Behind a record with an ID nothing is found any more by who does not know how long that is.
        self.open = false;
    }

    /// What libssl has sealed in the handshake: the sequence number behind the last one, and the first eight bytes of each
    /// fragment, which AES-GCM has for its explicit nonce.
    pub fn take_sealed(&mut self) -> (u64, Vec<u64>) {
        let Sealed { next, nonces } = *self.sealed.take().unwrap_or_default();
        (next, nonces)
    }

    /// Adds a datagram of at most `room` bytes, which `write` puts there and whose length it tells.
    #[inline]
    pub fn push_with(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.open = false;
        self.outgoing().datagrams.push_with(room, write);
    }

    /// Gives back the room that nothing takes up now.
    pub fn shrink(&mut self) {
        let Some(outgoing) = &mut self.outgoing else { return };
        if !outgoing.waits() {
            outgoing.settle();
        }
        if outgoing.is_empty() {
            self.outgoing = None;
        } else {
            outgoing.datagrams.shrink();
        }
    }

    fn push_datagram(&mut self, write: &[u8]) {
        let most = self.datagram_max();
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

    /// The next datagrams that have to leave, back to back, and the length of the first: those that follow it are as long,
    /// but for the last, which may be shorter. At most `max` of them, and `bytes_max` bytes if they are more than one.
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

    /// How many datagrams there are, before a call into libssl: for what it writes. See [`Outbound::written_since`].
    pub fn mark(&mut self) -> usize {
        self.open = false;
        self.outgoing.as_ref().map_or(0, |outgoing| outgoing.datagrams.len())
    }

    /// The content type of the first record written since `mark`.
    pub fn written_since(&self, mark: usize) -> Option<u8> {
        self.outgoing.as_ref()?.datagrams.get(mark).map(|datagram| datagram[0])
    }

    /// Forgets what was written since `mark`.
    pub fn take_back(&mut self, mark: usize) {
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.datagrams.truncate(mark));
    }

    /// The datagrams of the last flight wait to leave once more, epoch 0 with new numbers, packed as they were.
    /// Gives whether there are any.
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
            // A C caller who reads here drives the handshake himself: nobody else tells where a flight ends.
            self.new_flight = true;
            self.outgoing.iter_mut().for_each(|outgoing| outgoing.settle());
        }
        read
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

/// A new BIO that reads from `inbound`, or NULL.
pub fn new_inbound(inbound: Inbound) -> *mut BIO {
    new_bio(&INBOUND, inbound)
}

/// A new BIO that writes to `outbound`, or NULL.
pub fn new_outbound(outbound: Outbound) -> *mut BIO {
    new_bio(&OUTBOUND, outbound)
}

/// The state behind `bio`, where it is an inbound BIO of this library.
///
/// # Safety
/// `bio` is NULL or a live BIO.
pub unsafe fn inbound_state(bio: *mut BIO) -> Option<NonNull<Inbound>> {
    // SAFETY: by contract.
    unsafe { state(bio, &INBOUND) }
}

/// The state behind `bio`, where it is an outbound BIO of this library.
///
/// # Safety
/// `bio` is NULL or a live BIO.
pub unsafe fn outbound_state(bio: *mut BIO) -> Option<NonNull<Outbound>> {
    // SAFETY: by contract.
    unsafe { state(bio, &OUTBOUND) }
}

/// # Safety
/// `bio` is NULL or a live BIO, and `method` is that of `P`.
unsafe fn state<P>(bio: *mut BIO, method: &OnceLock<Method>) -> Option<NonNull<P>> {
    let kind = method.get()?.kind;
    // SAFETY: the caller vouches for the BIO; the type tells that new_bio made it for a P.
    unsafe { if bio.is_null() || BIO_method_type(bio) != kind { None } else { data(bio) } }
}

/// The method lives as long as the process: one for each direction, whatever the number of BIOs.
struct Method {
    kind: c_int,
    method: NonNull<BIO_METHOD>,
}

// SAFETY: a BIO_METHOD is not written to once it has been set up.
unsafe impl Send for Method {}
// SAFETY: as above.
unsafe impl Sync for Method {}

static INBOUND: OnceLock<Method> = OnceLock::new();
static OUTBOUND: OnceLock<Method> = OnceLock::new();

/// What the two directions have in common: how libssl and outsiders reach them.
trait Port: Sized {
    const NAME: &std::ffi::CStr;
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize>;
    fn port_write(&mut self, datagram: &[u8]) -> bool;
    fn pending(&self) -> usize;
    fn reset(&mut self);
    fn mtu(&mut self) -> Option<&mut u32>;
    fn peer(&self) -> Option<Peer>;
}

impl Port for Inbound {
    const NAME: &std::ffi::CStr = c"dv_dtls datagrams in";
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.read(out)
    }
    fn port_write(&mut self, datagram: &[u8]) -> bool {
        let queue = self.queue.get_or_insert_default();
        let room = queue.len() < QUEUE_MAX;
        if room {
            queue.push_back(datagram.into());
        }
        room
    }
    fn pending(&self) -> usize {
        self.queue.iter().flat_map(|queue| queue.iter()).map(|datagram| datagram.len()).sum()
    }
    fn reset(&mut self) {
        self.queue = None;
    }
    fn mtu(&mut self) -> Option<&mut u32> {
        None
    }
    fn peer(&self) -> Option<Peer> {
        self.peer
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
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.skip_waiting());
    }
    fn mtu(&mut self) -> Option<&mut u32> {
        Some(&mut self.mtu)
    }
    fn peer(&self) -> Option<Peer> {
        self.peer
    }
}

fn new_bio<P: Port>(method: &OnceLock<Method>, port: P) -> *mut BIO {
    let make = || {
        // SAFETY: plain calls; a method that could not be made would be NULL, which is checked.
        unsafe {
            let kind = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK;
            let method = NonNull::new(BIO_meth_new(kind, P::NAME.as_ptr())).expect("out of memory");
            BIO_meth_set_write__fixed_rust(method.as_ptr(), Some(bio_write::<P>));
            BIO_meth_set_read__fixed_rust(method.as_ptr(), Some(bio_read::<P>));
            BIO_meth_set_ctrl__fixed_rust(method.as_ptr(), Some(bio_ctrl::<P>));
            BIO_meth_set_destroy__fixed_rust(method.as_ptr(), Some(bio_destroy::<P>));
            Method { kind, method }
        }
    };
    let method = method.get_or_init(make).method.as_ptr();
    // SAFETY: the method is complete; the box belongs to the BIO from here on and bio_destroy frees it.
    unsafe {
        let bio = BIO_new(method);
        if !bio.is_null() {
            BIO_set_data(bio, Box::into_raw(Box::new(port)).cast());
            BIO_set_init(bio, 1);
        }
        bio
    }
}

/// # Safety
/// `bio` was made by `new_bio::<P>`.
unsafe fn data<P>(bio: *mut BIO) -> Option<NonNull<P>> {
    // SAFETY: new_bio put a Box<P> there, or nothing yet.
    NonNull::new(unsafe { BIO_get_data(bio) }.cast())
}

unsafe extern "C" fn bio_write<P: Port>(bio: *mut BIO, from: *const c_char, len: c_int) -> c_int {
    guard(-1, || {
        // SAFETY: OpenSSL calls this with a BIO of this method and `len` bytes to read. Nobody else holds a reference to
        // the state: sessions make theirs only between calls into libssl.
        unsafe {
            BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
            let (Some(mut port), 1..) = (data::<P>(bio), len) else { return -1 };
            let datagram = std::slice::from_raw_parts(from.cast::<u8>(), len as usize);
            if port.as_mut().port_write(datagram) { len } else { -1 }
        }
    })
}

unsafe extern "C" fn bio_read<P: Port>(bio: *mut BIO, to: *mut c_char, len: c_int) -> c_int {
    guard(-1, || {
        // SAFETY: as in bio_write, with `len` bytes to write to; copying initialises what is counted as read.
        unsafe {
            BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
            let (Some(mut port), 1..) = (data::<P>(bio), len) else { return -1 };
            let out = std::slice::from_raw_parts_mut(to.cast::<u8>(), len as usize);
            match port.as_mut().port_read(out) {
                Some(n) => n as c_int,
                None => {
                    BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
                    -1
                }
            }
        }
    })
}

unsafe extern "C" fn bio_ctrl<P: Port>(bio: *mut BIO, cmd: c_int, num: c_long, parg: *mut c_void) -> c_long {
    guard(0, || {
        // SAFETY: as in bio_write; `parg` of GET_PEER is a BIO_ADDR.
        unsafe {
            let Some(mut port) = data::<P>(bio) else { return 0 };
            let port = port.as_mut();
            match cmd {
                BIO_CTRL_FLUSH => 1,
                BIO_CTRL_PENDING => port.pending() as c_long,
                BIO_CTRL_RESET => {
                    port.reset();
                    1
                }
                // libssl asks the BIO only where SSL_OP_NO_QUERY_MTU is not set; a C caller's own SSL may.
                BIO_CTRL_DGRAM_QUERY_MTU | BIO_CTRL_DGRAM_GET_FALLBACK_MTU => port.mtu().map_or(0, |m| *m as c_long),
                // libssl works with packets of 256 bytes and more: without this it would not write the payload of one.
                BIO_CTRL_DGRAM_GET_MTU_OVERHEAD => IPV6_UDP_HEADERS,
                BIO_CTRL_DGRAM_SET_MTU => {
                    if let (Some(mtu), Ok(num)) = (port.mtu(), u32::try_from(num)) {
                        *mtu = num;
                    }
                    num
                }
                BIO_CTRL_DGRAM_GET_PEER if !parg.is_null() => {
                    port.peer().map_or(0, |peer| c_long::from(write_address(parg.cast(), peer)))
                }
                // All else, above all the kTLS questions, must be 0.
                _ => 0,
            }
        }
    })
}

unsafe extern "C" fn bio_destroy<P>(bio: *mut BIO) -> c_int {
    guard(0, || {
        // SAFETY: OpenSSL calls this once, for the last reference; the box is the one of new_bio.
        unsafe {
            if let Some(port) = data::<P>(bio) {
                BIO_set_data(bio, ptr::null_mut());
                drop(Box::from_raw(port.as_ptr()));
            }
        }
        1
    })
}

/// # Safety
/// `to` is a live BIO_ADDR.
unsafe fn write_address(to: *mut BIO_ADDR, (ip, port): Peer) -> c_int {
    let (family, address, len) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.to_ipv6_mapped().octets(), 4),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets(), 16),
    };
    // SAFETY: the address is `len` bytes at the end of an array of sixteen.
    unsafe { BIO_ADDR_rawmake(to, family, address[16 - len..].as_ptr().cast(), len, port.to_be()) }
}
