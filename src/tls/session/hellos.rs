//! Hellos before there is a handshake: DTLSv1_listen, and what its cookie callbacks ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ptr;

use openssl_sys::*;

use super::{MARK, Parameters, Session, clear_errors};
use crate::tls::cause;
use crate::tls::sys::*;

impl Parameters {
    /// For an SSL that is shown hellos, to ask the cookie callbacks of its context, and never gets beyond them.
    pub const FOR_HELLOS: Parameters = Parameters {
        payload: 1200,
        max_certificate_chain: 0,
        first_timeout: 0,
        longest_timeout: 0,
        release_buffers: false,
        sole_writer: true,
    };
}

/// Whom an SSL has for its peer that speaks to nobody.
pub const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A cookie callback of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    Generate,
    Verify,
}

/// Whose cookie callback a context has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Ours,
    Theirs,
    Nobody,
}

impl Session {
    /// Shows libssl a hello whose cookie is known to be good, alone in its record: DTLSv1_listen of 3.2 and later would
    /// take in whatever an attacker glued behind it. The handshake goes on with [`Session::handshake`].
    pub fn listen(&mut self, hello_record: &[u8], sequence: u64) -> bool {
        if let Some(mark) = self.mark() {
            mark.cookie_proven.set(true);
        }
        let listened = self.dtlsv1_listen(hello_record);
        self.begin_handshake(sequence);
        listened
    }

    /// Asks the cookie callbacks of the context about a hello, alone in its record: whether its cookie is good. If it is not,
    /// a HelloVerifyRequest waits to leave.
    pub fn ask(&mut self, hello_record: &[u8]) -> bool {
        clear_errors();
        let proven = self.dtlsv1_listen(hello_record);
        clear_errors();
        proven
    }

    /// Shows libssl a hello of our own, at which it first calls this cookie callback, to see whose it is. After one for cookies
    /// that has refused, it calls the other one, too.
    pub fn probe(&mut self, hello_record: &[u8], callback: Callback) -> Probe {
        let first_asked = |session: &Session| session.mark().and_then(|mark| mark.asked.take());
        first_asked(self);
        self.dtlsv1_listen(hello_record);
        let errors = cause::errors();
        if first_asked(self) == Some(callback) {
            return Probe::Ours;
        }
        // A callback of the program's that fails has errors, too.
        let missing = match callback {
            Callback::Generate => SSL_R_COOKIE_GEN_CALLBACK_FAILURE,
            Callback::Verify => SSL_R_NO_VERIFY_COOKIE_CALLBACK,
        };
        let is_missing = errors.errors().iter().any(|error| error.reason_code() == missing);
        if is_missing { Probe::Nobody } else { Probe::Theirs }
    }

    fn dtlsv1_listen(&mut self, hello_record: &[u8]) -> bool {
        self.lend(hello_record);
        // SAFETY: the SSL is live; the address is made and freed here.
        let listened = unsafe {
            let address = BIO_ADDR_new();
            let listened = !address.is_null() && DTLSv1_listen(self.ssl.as_ptr(), address) == 1;
            BIO_ADDR_free(address);
            listened
        };
        self.inbound().take_back();
        listened
    }
}

/// Who asks one of our cookie callbacks.
pub enum Asked {
    /// A probe, which only wants to know whether it is set.
    ByProbe,
    /// A session whose cookie our stateless stage has verified.
    Proven,
    /// A C caller who runs DTLSv1_listen or SSL_accept himself.
    ByProgram,
}

/// For our cookie callbacks, of which this is one: who wants to know.
///
/// # Safety
/// `ssl` is live.
pub unsafe fn cookie_asked(ssl: *mut SSL, callback: Callback) -> Asked {
    // SAFETY: by contract.
    match unsafe { MARK.get(ssl) } {
        None => Asked::ByProgram,
        Some(mark) if mark.cookie_proven.get() => Asked::Proven,
        Some(mark) => {
            mark.asked.set(mark.asked.get().or(Some(callback)));
            Asked::ByProbe
        }
    }
}

/// The address that the inbound BIO of `ssl` gives for its peer: family, address and port as bytes.
///
/// # Safety
/// `ssl` is live.
pub unsafe fn peer_bytes(ssl: *mut SSL) -> Option<Vec<u8>> {
    // SAFETY: the address is made and freed here; it is asked for its length before it is copied.
    unsafe {
        let address = BIO_ADDR_new();
        let mut bytes = None;
        if !address.is_null() && BIO_ctrl(SSL_get_rbio(ssl), BIO_CTRL_DGRAM_GET_PEER, 0, address.cast()) > 0 {
            let mut len = 0;
            if BIO_ADDR_rawaddress(address, ptr::null_mut(), &mut len) == 1 && len <= 16 {
                let mut raw = vec![0; len];
                BIO_ADDR_rawaddress(address, raw.as_mut_ptr().cast(), &mut len);
                raw.push(BIO_ADDR_family(address) as u8);
                raw.extend_from_slice(&BIO_ADDR_rawport(address).to_ne_bytes());
                bytes = Some(raw);
            }
        }
        BIO_ADDR_free(address);
        bytes
    }
}
