//! Whose cookie callbacks an SSL_CTX has.
//!
//! libssl has no getter for them. So each context is tried once, with two hellos, one without and one with a cookie, on an SSL
//! that is thrown away afterwards. Our callbacks recognise that SSL and leave a mark on it.

use std::net::SocketAddr;

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_uint};
use openssl::error::ErrorStack;
use openssl::ssl::SslContextRef;
use openssl_sys::*;

use super::ex_data::{CONTEXTS, Slot};
use super::session::{Asked, Callback, NOBODY, Parameters, Probe, Session, cookie_asked};
use super::sys::{set_cookie_generate_cb, set_cookie_verify_cb};
use crate::guard::{guard, lock};
use crate::wire::hello;

pub type Generate = unsafe extern "C" fn(*mut SSL, *mut u8, *mut c_uint) -> c_int;
pub type Verify = unsafe extern "C" fn(*mut SSL, *const u8, c_uint) -> c_int;

/// Who makes and checks the cookies of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// This library: a hello can be answered without libssl.
    Ours,
    /// The program, with callbacks of its own.
    Theirs,
}

static COOKIES: Slot<SSL_CTX, Cookies> = Slot::new();

/// Who makes the cookies of `context`. If nobody does, although SSL_OP_COOKIE_EXCHANGE is set, `generate` and `verify` are
/// installed. The program's callbacks are shown `peer` as the sender of the hellos. An error means that no SSL could be made to
/// try them with; the next call tries again.
pub fn cookies(
    context: &SslContextRef,
    peer: SocketAddr,
    generate: Generate,
    verify: Verify,
) -> Result<Cookies, ErrorStack> {
    let raw = context.as_ptr();
    // SAFETY: the context is live, and whoever looks at the slot holds the lock.
    unsafe {
        let looking = lock(&CONTEXTS);
        if let Some(&known) = COOKIES.get(raw) {
            return Ok(known);
        }
        drop(looking);
        let found = probe(context, peer)?;
        let _looking = lock(&CONTEXTS);
        // Another thread may have installed its callbacks meanwhile, even between our two hellos.
        if let Some(&known) = COOKIES.get(raw) {
            return Ok(known);
        }
        let found = match found {
            (Probe::Ours, Probe::Ours) => Cookies::Ours,
            (Probe::Nobody, Probe::Nobody) => {
                set_cookie_generate_cb(raw, Some(generate));
                set_cookie_verify_cb(raw, Some(verify));
                Cookies::Ours
            }
            _ => Cookies::Theirs,
        };
        COOKIES.set(raw, found);
        Ok(found)
    }
}

/// Whether a server with this context answers a first hello with a cookie.
pub fn exchanges_cookies(context: &SslContextRef) -> bool {
    // SAFETY: the context is live.
    unsafe { SSL_CTX_get_options(context.as_ptr()) & SSL_OP_COOKIE_EXCHANGE != 0 }
}

/// Makes libssl accept the hellos whose cookies our stateless stage has verified. Returns `false` if the program has cookie
/// callbacks of its own.
pub fn trust_the_gate(context: &SslContextRef) -> Result<bool, ErrorStack> {
    unsafe extern "C" fn generate(ssl: *mut SSL, _cookie: *mut u8, _len: *mut c_uint) -> c_int {
        // SAFETY: libssl calls this with a live SSL. Only a probe gets here, as the gate makes the cookies.
        guard(0, || unsafe {
            cookie_asked(ssl, Callback::Generate);
            0
        })
    }
    unsafe extern "C" fn verify(ssl: *mut SSL, _cookie: *const u8, _len: c_uint) -> c_int {
        // SAFETY: as above.
        guard(0, || c_int::from(matches!(unsafe { cookie_asked(ssl, Callback::Verify) }, Asked::Proven)))
    }
    Ok(cookies(context, NOBODY, generate, verify)? == Cookies::Ours)
}

fn probe(context: &SslContextRef, peer: SocketAddr) -> Result<(Probe, Probe), ErrorStack> {
    let mut session = Session::accept(context, peer, &Parameters::FOR_HELLOS)?;
    // libssl reports a missing generate callback like one that fails, so that the error alone does not tell.
    let generate = session.probe(&hello::PROBE_WITHOUT_COOKIE, Callback::Generate);
    let verify = session.probe(&hello::PROBE_WITH_COOKIE, Callback::Verify);
    Ok((generate, verify))
}
