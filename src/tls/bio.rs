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

use super::sys::*;
use crate::guard::guard;
use crate::wire::record;

/// Datagrams that a C caller may queue on an inbound BIO before libssl reads them.
const QUEUE_MAX: usize = 64;

/// What libssl reads: the record that is being received, then what a C caller wrote.
#[derive(Default)]
pub struct Inbound {
    /// Borrowed from the caller of [`Inbound::lend`] until [`Inbound::take_back`]; NULL when there is none.
    record: Option<NonNull<[u8]>>,
    queue: VecDeque<Box<[u8]>>,
    peer: Option<SocketAddr>,
}

impl Inbound {
    pub fn new(peer: Option<SocketAddr>) -> Inbound {
        Inbound { peer, ..Inbound::default() }
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
    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        self.queue.pop_front()
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
            return Some(copy(unsafe { record.as_ref() }, out));
        }
        self.queue.pop_front().map(|datagram| copy(&datagram, out))
    }
}

/// What libssl wrote: datagrams that wait to leave, behind those of the last flight that have left already.
pub struct Outbound {
    bytes: Vec<u8>,
    /// Where each datagram ends in `bytes`.
    ends: Vec<usize>,
    /// How many of them have left, and how many bytes of the next one (a C caller may read it in pieces).
    left: usize,
    left_bytes: usize,
    /// During the handshake the datagrams of the last flight stay, to be sent again.
    keep: bool,
    /// The next write begins a new flight, the last one is not needed any more.
    new_flight: bool,
    /// Whether the last datagram may grow: it was begun by the libssl call that runs now.
    open: bool,
    /// The next sequence number in epoch 0. libssl's own are replaced: they go wrong after DTLSv1_listen in 3.2 to 4.0
    /// (openssl#32063), and a flight that is sent again wants new ones (RFC 6347 4.2.4). None: libssl's own go out.
    sequence: Option<u64>,
    /// The largest datagram, in bytes of UDP payload.
    mtu: usize,
}

impl Outbound {
    pub fn new(mtu: usize) -> Outbound {
        Outbound {
            bytes: Vec::new(),
            ends: Vec::new(),
            left: 0,
            left_bytes: 0,
            keep: false,
            new_flight: false,
            open: false,
            sequence: None,
            mtu,
        }
    }

    /// Numbers records of epoch 0 from here on, and keeps each flight until the next one begins.
    pub fn begin_handshake(&mut self, sequence: u64) {
        self.keep = true;
        self.sequence = Some(sequence);
    }

    /// The peer has answered: what libssl writes next is a new flight.
    pub fn expect_new_flight(&mut self) {
        self.new_flight = true;
    }

    /// A new call into libssl begins: what it writes does not join what an earlier call wrote.
    pub fn close_datagram(&mut self) {
        self.open = false;
    }

    pub fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Takes one write of libssl. Retransmissions come as one write a message; they are packed up to the MTU here.
    fn push(&mut self, write: &[u8]) {
        if self.new_flight {
            self.new_flight = false;
            self.drop_left();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(write);
        if let Some(sequence) = &mut self.sequence {
            number(&mut self.bytes[start..], sequence);
        }
        let last_begins = self.ends.iter().rev().nth(1).copied().unwrap_or(0);
        match self.ends.last_mut() {
            Some(end) if self.open && self.bytes.len() - last_begins <= self.mtu => *end = self.bytes.len(),
            _ => self.ends.push(self.bytes.len()),
        }
        // Application data is one datagram a message, however small.
        self.open = self.keep;
    }

    /// The next datagram that has to leave; it counts as gone from now on.
    pub fn pop(&mut self) -> Option<&[u8]> {
        let end = *self.ends.get(self.left)?;
        let start = self.begin(self.left) + self.left_bytes;
        self.left += 1;
        self.left_bytes = 0;
        self.open = false;
        Some(&self.bytes[start..end])
    }

    /// Whether a datagram waits to leave.
    pub fn waits(&self) -> bool {
        self.left < self.ends.len()
    }

    /// Frees what has left, unless it is kept to be sent again. Call it when all datagrams were popped.
    pub fn sent(&mut self) {
        if !self.keep && !self.waits() {
            self.clear();
        }
    }

    /// How many bytes were written so far: see [`Outbound::truncate`].
    pub fn mark(&self) -> usize {
        self.ends.len()
    }

    /// The content type of the first record written since `mark`.
    pub fn content_type_since(&self, mark: usize) -> Option<u8> {
        (mark < self.ends.len()).then(|| self.bytes[self.begin(mark)])
    }

    /// Takes back what was written since `mark`.
    pub fn truncate(&mut self, mark: usize) {
        self.bytes.truncate(self.begin(mark));
        self.ends.truncate(mark);
    }

    /// The datagrams of the last flight wait to leave once more, epoch 0 with new numbers, packed as they were.
    /// Gives whether there are any.
    pub fn resend(&mut self) -> bool {
        if let Some(sequence) = &mut self.sequence {
            number(&mut self.bytes, sequence);
        }
        self.left = 0;
        self.left_bytes = 0;
        self.waits()
    }

    /// The same in datagrams of at most `mtu`.
    pub fn refragment(&mut self, mtu: usize) {
        self.mtu = mtu;
        if self.ends.iter().enumerate().all(|(i, end)| end - self.begin(i) <= mtu) {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() * 2);
        let mut ends = Vec::new();
        crate::wire::refragment::refragment(&self.bytes, mtu, &mut bytes, &mut ends);
        self.bytes = bytes;
        self.ends = ends;
        self.left = self.ends.len();
    }

    /// The handshake is over and its last flight has arrived.
    pub fn forget_flight(&mut self) {
        self.keep = false;
        self.drop_left();
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Whether the last flight is still there to be sent again.
    pub fn keeps_flight(&self) -> bool {
        self.keep && !self.ends.is_empty()
    }

    fn begin(&self, datagram: usize) -> usize {
        datagram.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn drop_left(&mut self) {
        let gone = self.begin(self.left);
        self.bytes.drain(..gone);
        self.ends.drain(..self.left);
        for end in &mut self.ends {
            *end -= gone;
        }
        self.left = 0;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.left = 0;
        self.left_bytes = 0;
    }

    fn waiting_bytes(&self) -> usize {
        self.bytes.len() - self.begin(self.left) - self.left_bytes
    }

    /// As many whole datagrams as fit, back to back; a piece of the first where not even that fits.
    fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        if !self.waits() || out.is_empty() {
            return None;
        }
        let start = self.begin(self.left) + self.left_bytes;
        let mut end = start;
        while let Some(&next) = self.ends.get(self.left) {
            if next - start > out.len() {
                break;
            }
            end = next;
            self.left += 1;
            self.left_bytes = 0;
        }
        if end == start {
            end = start + out.len();
            self.left_bytes += out.len();
        }
        out[..end - start].copy_from_slice(&self.bytes[start..end]);
        self.open = false;
        self.sent();
        Some(end - start)
    }
}

/// Gives the records of epoch 0 in `bytes` the numbers from `sequence` on.
fn number(bytes: &mut [u8], sequence: &mut u64) {
    let mut at = 0;
    while let Some((record, _)) = record::Record::parse(&bytes[at..]) {
        let (len, epoch) = (record.bytes.len(), record.epoch);
        if epoch == 0 {
            record::set_sequence(&mut bytes[at..], *sequence);
            *sequence += 1;
        }
        at += len;
    }
}

/// A new BIO that reads from `inbound`, or NULL.
pub fn new_inbound(inbound: Inbound) -> *mut BIO {
    new_bio(&INBOUND, inbound)
}

/// A new BIO that writes to `outbound`, or NULL.
pub fn new_outbound(outbound: Outbound) -> *mut BIO {
    new_bio(&OUTBOUND, outbound)
}

/// The state behind `bio`, where it is an outbound BIO of this library.
///
/// # Safety
/// `bio` is NULL or a live BIO.
pub unsafe fn outbound(bio: *mut BIO) -> Option<NonNull<Outbound>> {
    // SAFETY: the caller vouches for the BIO; the type tells that new_outbound made it, and so what its data is.
    unsafe { (!bio.is_null() && BIO_method_type(bio) == OUTBOUND.get()?.kind).then(|| data(bio)).flatten() }
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
    fn mtu(&mut self) -> Option<&mut usize>;
    fn peer(&self) -> Option<SocketAddr>;
}

impl Port for Inbound {
    const NAME: &std::ffi::CStr = c"dv_dtls datagrams in";
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.read(out)
    }
    fn port_write(&mut self, datagram: &[u8]) -> bool {
        let room = self.queue.len() < QUEUE_MAX;
        if room {
            self.queue.push_back(datagram.into());
        }
        room
    }
    fn pending(&self) -> usize {
        self.queue.iter().map(|d| d.len()).sum()
    }
    fn reset(&mut self) {
        self.queue.clear();
    }
    fn mtu(&mut self) -> Option<&mut usize> {
        None
    }
    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

impl Port for Outbound {
    const NAME: &std::ffi::CStr = c"dv_dtls datagrams out";
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize> {
        self.read(out)
    }
    fn port_write(&mut self, datagram: &[u8]) -> bool {
        self.push(datagram);
        true
    }
    fn pending(&self) -> usize {
        self.waiting_bytes()
    }
    fn reset(&mut self) {
        self.drop_left();
        self.clear();
    }
    fn mtu(&mut self) -> Option<&mut usize> {
        Some(&mut self.mtu)
    }
    fn peer(&self) -> Option<SocketAddr> {
        None
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
                BIO_CTRL_DGRAM_SET_MTU => {
                    if let (Some(mtu), Ok(num)) = (port.mtu(), usize::try_from(num)) {
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
unsafe fn write_address(to: *mut BIO_ADDR, peer: SocketAddr) -> c_int {
    let (family, address, len) = match peer.ip() {
        IpAddr::V4(ip) => (libc::AF_INET, ip.to_ipv6_mapped().octets(), 4),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets(), 16),
    };
    // SAFETY: the address is `len` bytes at the end of an array of sixteen.
    unsafe { BIO_ADDR_rawmake(to, family, address[16 - len..].as_ptr().cast(), len, peer.port().to_be()) }
}
