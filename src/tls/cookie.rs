//! Whose cookie callbacks an SSL_CTX has.
//!
//! libssl has no getter for them. So it is asked once for each context: with two hellos, one without and one with a
//! cookie, on an SSL that is thrown away after that. Our callbacks recognise it and leave a mark.

use std::net::SocketAddr;

use libc::c_uint;
use openssl::ssl::SslContextRef;
use openssl_sys::*;

use super::ex_data::Slot;
use super::session::{Parameters, Probe, Session};
use super::sys::{set_cookie_generate_cb, set_cookie_verify_cb};
use crate::wire::hello;

pub type Generate = unsafe extern "C" fn(*mut SSL, *mut u8, *mut c_uint) -> libc::c_int;
pub type Verify = unsafe extern "C" fn(*mut SSL, *const u8, c_uint) -> libc::c_int;

/// Who makes and checks the cookies of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// This library: a hello can be answered without libssl.
    Ours,
    /// The program, with callbacks of its own.
    Theirs,
}

/// OpenSSL's default for the number of sessions that a context keeps for clients without tickets.
const SESSION_CACHE_DEFAULT: i64 = 1024 * 20;

/// Sessions that a context keeps for clients without tickets, where the program has not set another number. Each is a
/// kilobyte or more, and stays when its connection is gone.
pub const SESSION_CACHE: i64 = 256;

static COOKIES: Slot<SSL_CTX, Cookies> = Slot::new();

/// Who makes the cookies of `context`. Where nobody does, although SSL_OP_COOKIE_EXCHANGE is set, `generate` and `verify`
/// are installed. `peer` is whoever the program's callbacks shall believe to be asked by.
///
/// # Safety
/// One thread at a time uses the context here.
pub unsafe fn cookies(context: &SslContextRef, peer: SocketAddr, generate: Generate, verify: Verify) -> Cookies {
    use foreign_types::ForeignTypeRef;
    let raw = context.as_ptr();
    // SAFETY: the context is live.
    unsafe {
        if let Some(&known) = COOKIES.get(raw) {
            return known;
        }
        let found = match probe(context, peer) {
            (Probe::Ours, Probe::Ours) => Cookies::Ours,
            (Probe::Nobody, Probe::Nobody) => {
                set_cookie_generate_cb(raw, Some(generate));
                set_cookie_verify_cb(raw, Some(verify));
                Cookies::Ours
            }
            _ => Cookies::Theirs,
        };
        if SSL_CTX_ctrl(raw, SSL_CTRL_GET_SESS_CACHE_SIZE, 0, std::ptr::null_mut()) == SESSION_CACHE_DEFAULT {
            SSL_CTX_ctrl(raw, SSL_CTRL_SET_SESS_CACHE_SIZE, SESSION_CACHE, std::ptr::null_mut());
        }
        COOKIES.set(raw, found);
        found
    }
}

fn probe(context: &SslContextRef, peer: SocketAddr) -> (Probe, Probe) {
    let parameters = Parameters { payload: 1200, max_certificate_chain: 0, first_timeout: 0, longest_timeout: 0 };
    let Ok(mut session) = Session::accept(context, peer, &parameters) else { return (Probe::Theirs, Probe::Theirs) };
    let generate = session.probe(&hello::PROBE_WITHOUT_COOKIE);
    let verify = session.probe(&hello::PROBE_WITH_COOKIE);
    (generate, verify)
}
