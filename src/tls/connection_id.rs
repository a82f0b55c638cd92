//! Agreeing on connection IDs (RFC 9146 3) and on return routability checks (RFC 9853 3): extensions that libssl does not
//! know, added to its hellos.

use std::cell::{Cell, OnceCell};
use std::ffi::CString;
use std::{iter, ptr, slice};

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_uint, c_void, size_t};
use openssl::ssl::{SslCipher, SslContextRef, SslRef};
use openssl::stack::StackRef;
use openssl_sys::*;

use super::cause::{Cause, with_clean_queue};
use super::ex_data::{CONTEXTS, Slot};
use super::master_secret;
use super::sys::SSL_get_ciphers;
use crate::guard::{guard, lock};

/// The extensions' numbers.
const CONNECTION_ID: c_uint = 54;
const RRC: c_uint = 61;

/// In the hellos of DTLS 1.2, in those that resume a session too.
const WHERE: c_uint =
    SSL_EXT_DTLS_ONLY | SSL_EXT_TLS1_2_AND_BELOW_ONLY | SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_2_SERVER_HELLO;

/// What a session offers its peer.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The connection ID that the peer's records shall carry, which may be empty.
    pub cid: &'a [u8],
    /// Return routability checks.
    pub checks: bool,
    /// Whether records of the cipher suite with this name can carry IDs in this library.
    pub fits: fn(&str) -> bool,
}

/// What both have agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgreedIds {
    /// The connection ID that our records shall carry, which may be empty.
    pub theirs: Box<[u8]>,
    /// Return routability checks.
    pub checks: bool,
}

/// Hangs on an SSL that offers.
struct Negotiation {
    /// The body of our extension: the ID behind its length.
    body: Box<[u8]>,
    offers_checks: bool,
    fits: fn(&str) -> bool,
    theirs: OnceCell<Box<[u8]>>,
    peer_checks: Cell<bool>,
    /// As a server: our extension went into the hello.
    answered: Cell<bool>,
}

static NEGOTIATION: Slot<SSL, Negotiation> = Slot::new();

/// Which contexts know the extensions: they can be added only once.
static PREPARED: Slot<SSL_CTX, ()> = Slot::new();

/// Lets sessions that are made with `context` from now on use the extensions, if they [`offer`] something.
pub fn prepare(context: &SslContextRef) -> Result<(), Cause> {
    let context = context.as_ptr();
    let _alone = lock(&CONTEXTS);
    with_clean_queue(|| {
        // SAFETY: the context is live, and while the lock is held no other thread that makes endpoints with it is here. The
        // callbacks take what libssl gives them.
        unsafe {
            if PREPARED.get(context).is_some() {
                return Ok(());
            }
            for number in [CONNECTION_ID, RRC] {
                let arg = ptr::null_mut();
                if SSL_CTX_add_custom_ext(context, number, WHERE, Some(add), None, arg, Some(parse), arg) != 1 {
                    return Err(Cause::from("the context has an extension 54 or 61 of its own already"));
                }
            }
            PREPARED.set(context, ());
        }
        Ok(())
    })
}

/// Offers connection IDs in the handshake that `ssl` is going to begin. A client then offers only the cipher suites that
/// fit; if there are none, it does not offer connection IDs.
pub fn offer(ssl: &mut SslRef, offer: &Offer<'_>) -> bool {
    // SAFETY: the SSL is live, and nobody else uses it.
    unsafe {
        if SSL_is_server(ssl.as_ptr()) == 0 && !keep_suites(ssl, offer.fits) {
            return true;
        }
        let negotiation = Negotiation {
            body: iter::once(offer.cid.len() as u8).chain(offer.cid.iter().copied()).collect(),
            offers_checks: offer.checks,
            fits: offer.fits,
            theirs: OnceCell::new(),
            peer_checks: Cell::new(false),
            answered: Cell::new(false),
        };
        NEGOTIATION.set(ssl.as_ptr(), negotiation)
    }
}

/// What the hellos have agreed on, once both are there.
pub fn agreed(ssl: &SslRef) -> Option<AgreedIds> {
    // SAFETY: the SSL is live.
    let negotiation = unsafe { NEGOTIATION.get(ssl.as_ptr()) }?;
    let theirs = negotiation.theirs.get().filter(|_| !ssl.is_server() || negotiation.answered.get())?.clone();
    Some(AgreedIds { theirs, checks: negotiation.offers_checks && negotiation.peer_checks.get() })
}

/// Keeps only the cipher suites that fit. Returns whether there are any.
fn keep_suites(ssl: &mut SslRef, fits: fn(&str) -> bool) -> bool {
    // SAFETY: the SSL is live; its stack of ciphers belongs to it, and the names are static.
    unsafe {
        let ciphers = SSL_get_ciphers(ssl.as_ptr());
        if ciphers.is_null() {
            return false;
        }
        let stack = StackRef::<SslCipher>::from_ptr(ciphers);
        let names: Vec<_> = stack.iter().map(|cipher| cipher.name()).filter(|name| fits(name)).collect();
        let Ok(list) = CString::new(names.join(":")) else { return false };
        !names.is_empty() && SSL_set_cipher_list(ssl.as_ptr(), list.as_ptr()) == 1
    }
}

unsafe extern "C" fn add(
    ssl: *mut SSL,
    number: c_uint,
    _context: c_uint,
    out: *mut *const u8,
    len: *mut size_t,
    _certificate: *mut X509,
    _place: size_t,
    _alert: *mut c_int,
    _arg: *mut c_void,
) -> c_int {
    guard(-1, || {
        // SAFETY: libssl calls this with a live SSL. The body lives as long as what hangs on it.
        unsafe {
            let Some(negotiation) = NEGOTIATION.get(ssl) else { return 0 };
            let server = SSL_is_server(ssl) == 1;
            let goes = match number {
                // libssl asks a server only if the client has sent it.
                CONNECTION_ID if server => {
                    let cipher = master_secret::cipher(SslRef::from_ptr(ssl));
                    let fits = cipher.is_some_and(|cipher| (negotiation.fits)(cipher.name()));
                    negotiation.answered.set(fits);
                    fits
                }
                CONNECTION_ID => true,
                _ => negotiation.offers_checks && (!server || negotiation.answered.get()),
            };
            if !goes {
                return 0;
            }
            let body = if number == CONNECTION_ID { &negotiation.body[..] } else { &[] };
            *out = body.as_ptr();
            *len = body.len();
            1
        }
    })
}

unsafe extern "C" fn parse(
    ssl: *mut SSL,
    number: c_uint,
    _context: c_uint,
    bytes: *const u8,
    len: size_t,
    _certificate: *mut X509,
    _place: size_t,
    alert: *mut c_int,
    _arg: *mut c_void,
) -> c_int {
    guard(-1, || {
        // SAFETY: libssl calls this with a live SSL and `len` bytes.
        unsafe {
            let Some(negotiation) = NEGOTIATION.get(ssl) else { return 1 };
            let body = if len == 0 { &[] } else { slice::from_raw_parts(bytes, len) };
            match (number, body) {
                (CONNECTION_ID, [cid_len, cid @ ..]) if cid.len() == usize::from(*cid_len) => {
                    // libssl refuses a second one.
                    let _ = negotiation.theirs.set(cid.into());
                }
                (RRC, []) => negotiation.peer_checks.set(true),
                _ => {
                    *alert = SSL_AD_DECODE_ERROR;
                    return 0;
                }
            }
            1
        }
    })
}
