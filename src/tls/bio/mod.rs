//! The datagram BIO: one write is one datagram, one read is one datagram.
//!
//! A session has two of them. Only libssl reads the inbound one and writes the outbound one; the other side (`BIO_write` on a
//! connection's `rbio`, `BIO_read` on its `wbio`) is for C callers that still do this by hand.

mod inbound;
mod outbound;
mod outgoing;

use std::net::IpAddr;
use std::ptr::{self, NonNull};

use libc::{c_char, c_int, c_long, c_void};
use openssl_sys::*;

pub use self::inbound::Inbound;
pub use self::outbound::Outbound;
pub use self::outgoing::SpareRoom;
// By name: openssl-sys declares some of these too, for OpenSSL 3.2 and later.
use super::sys::{
    BIO_ADDR, BIO_ADDR_rawmake, BIO_CTRL_DGRAM_GET_FALLBACK_MTU, BIO_CTRL_DGRAM_GET_MTU_OVERHEAD,
    BIO_CTRL_DGRAM_GET_PEER, BIO_CTRL_DGRAM_SET_MTU, BIO_CTRL_PENDING, BIO_CTRL_RESET, BIO_TYPE_SOURCE_SINK,
    BIO_get_new_index, BIO_method_type,
};
use crate::guard::guard;
use crate::tls::fork::Once;

/// Bytes of headers around a payload, at most.
const IPV6_UDP_HEADERS: c_long = 40 + 8;

/// Who is at the other end, as a BIO tells it.
type Peer = (IpAddr, u16);

/// The next sequence number in epoch 0, if records get numbers of ours. An `Option` would take twice the room, and each
/// connection has two of them.
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
unsafe fn state<P>(bio: *mut BIO, method: &Once<Option<Method>>) -> Option<NonNull<P>> {
    let kind = method.get()?.as_ref()?.kind;
    // SAFETY: the caller vouches for the BIO; the type tells that new_bio made it for a P.
    unsafe { if bio.is_null() || BIO_method_type(bio) != kind { None } else { data(bio) } }
}

/// There is one for each direction, for all BIOs, and it lives as long as the process.
struct Method {
    kind: c_int,
    method: NonNull<BIO_METHOD>,
}

// SAFETY: a BIO_METHOD is not written to once it has been set up.
unsafe impl Send for Method {}
// SAFETY: as above.
unsafe impl Sync for Method {}

/// None: it could not be made.
static INBOUND: Once<Option<Method>> = Once::new();
static OUTBOUND: Once<Option<Method>> = Once::new();

/// What the two directions have in common: how libssl and outsiders reach them.
trait Port: Sized {
    const NAME: &std::ffi::CStr;
    fn port_read(&mut self, out: &mut [u8]) -> Option<usize>;
    fn port_write(&mut self, datagram: &[u8]) -> Written;
    fn pending(&self) -> usize;
    fn reset(&mut self);
    fn mtu(&mut self) -> Option<&mut u32>;
    fn peer(&self) -> Option<Peer>;
}

/// What became of a datagram that was written.
#[derive(PartialEq, Eq)]
enum Written {
    /// It waits.
    Yes,
    /// There is no room for it now.
    Full,
    /// It may not leave.
    Never,
}

impl Method {
    fn of<P: Port>() -> Option<Method> {
        // SAFETY: plain calls; a method that could not be made is NULL, which is checked.
        unsafe {
            // A process has 127 types; after those it is -1, and our BIOs could not be told from others.
            let index = Some(BIO_get_new_index()).filter(|index| *index != -1)?;
            let kind = index | BIO_TYPE_SOURCE_SINK;
            let method = NonNull::new(BIO_meth_new(kind, P::NAME.as_ptr()))?;
            BIO_meth_set_write__fixed_rust(method.as_ptr(), Some(bio_write::<P>));
            BIO_meth_set_read__fixed_rust(method.as_ptr(), Some(bio_read::<P>));
            BIO_meth_set_ctrl__fixed_rust(method.as_ptr(), Some(bio_ctrl::<P>));
            BIO_meth_set_destroy__fixed_rust(method.as_ptr(), Some(bio_destroy::<P>));
            Some(Method { kind, method })
        }
    }
}

fn new_bio<P: Port>(method: &Once<Option<Method>>, port: P) -> *mut BIO {
    let Some(method) = method.get_or_init(Method::of::<P>) else { return ptr::null_mut() };
    // SAFETY: the method is complete; the box belongs to the BIO from here on and bio_destroy frees it.
    unsafe {
        let bio = BIO_new(method.method.as_ptr());
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
            let written = port.as_mut().port_write(datagram);
            if written == Written::Full {
                BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY);
            }
            if written == Written::Yes { len } else { -1 }
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
                // To everything else, above all the questions about kTLS, the answer must be 0.
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
