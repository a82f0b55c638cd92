//! Several certificates on one context, by the server name that a client asks for (SNI).
//!
//! The names are those in the certificates. The choice is made in libssl's certificate callback. Its server name callback stays
//! the program's: if that one changes the context, the certificates of the new context count.

use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_void};
use openssl::ssl::{NameType, Ssl, SslContextRef, SslRef};
use openssl::x509::verify::X509CheckFlags;
use openssl_sys::{SSL, SSL_CTX};

use super::cause::{Cause, quoted, with_clean_queue};
use super::certificate::{Identity, files};
use super::ex_data::Slot;
use super::sys;
use crate::guard::guard;
use crate::log::log;

/// The certificates beside a context's own, in the order in which they were added.
static NAMED: Slot<SSL_CTX, Vec<Arc<Identity>>> = Slot::new();

/// Gives a context another certificate, with its chain and key, for the clients that ask for one of the DNS names in it
/// (SNI). All others get the context's own. Of several for one name, the first that was added is shown for its type of key.
/// On an error the context is as it was.
pub fn add(ctx: &SslContextRef, certificate: &CStr, key: &CStr) -> Result<(), Cause> {
    with_clean_queue(|| {
        let identity = Identity::load(ctx, certificate, key)?;
        let names = identity.own.subject_alt_names();
        if !names.iter().flatten().any(|name| name.dnsname().is_some()) {
            return Err(
                Cause::from("no DNS name in it").about(format_args!("certificate file {}", quoted(certificate)))
            );
        }
        // An SSL that is thrown away shows whether a handshake would take it.
        let mut trial = Ssl::new(ctx)?;
        if !use_for(&mut trial, &identity) {
            return Err(Cause::openssl().about(files(certificate, key)));
        }
        // SAFETY: the context is alive, and nobody else uses it.
        unsafe {
            let mut named = NAMED.get(ctx.as_ptr()).cloned().unwrap_or_default();
            named.push(Arc::new(identity));
            if !NAMED.set(ctx.as_ptr(), named) {
                return Err(Cause::openssl());
            }
            sys::SSL_CTX_set_cert_cb(ctx.as_ptr(), Some(choose), ptr::null_mut());
        }
        Ok(())
    })
}

/// libssl's certificate callback: it comes after the server name callback, and before a cipher is chosen.
unsafe extern "C" fn choose(ssl: *mut SSL, _user: *mut c_void) -> c_int {
    guard(0, || {
        // SAFETY: libssl gives the SSL whose handshake runs on this thread. Its context is alive, and nothing is added to
        // one that is in use.
        let (ssl, named) = unsafe { (SslRef::from_ptr_mut(ssl), NAMED.get(openssl_sys::SSL_get_SSL_CTX(ssl))) };
        if !ssl.is_server() {
            return 1;
        }
        let name = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
        let (Some(named), Some(name)) = (named, name) else { return 1 };
        let fitting = || named.iter().filter(|identity| carries(identity, &name));
        if fitting().next().is_some() {
            // SAFETY: the SSL is alive.
            unsafe { sys::SSL_certs_clear(ssl.as_ptr()) };
        }
        // Each replaces an earlier one with its type of key, so the one that counts, the first, is set last.
        for identity in fitting().rev() {
            if !use_for(ssl, identity) {
                log!(Error, "the certificate for {name:?} cannot be used: {}", Cause::openssl());
                return 0;
            }
        }
        1
    })
}

/// Shows a certificate in the handshake of `ssl`.
fn use_for(ssl: &mut SslRef, identity: &Identity) -> bool {
    let (own, private, others) = identity.as_ptrs();
    // SAFETY: all four are alive during the call, which takes references of its own to what it keeps.
    unsafe { sys::SSL_use_cert_and_key(ssl.as_ptr(), own, private, others, 1) == 1 }
}

/// Whether the certificate is good for a name; its subject does not count.
fn carries(identity: &Identity, name: &str) -> bool {
    // libssl passes on any text of a client's. To X509_check_host a length of 0 means a text that ends with NUL, which this one
    // does not, and a dot in front means any name below.
    if name.is_empty() || name.starts_with('.') {
        return false;
    }
    let flags = (X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT).bits();
    let (certificate, len) = (identity.own.as_ptr(), name.len());
    // SAFETY: the certificate and `len` bytes at `name` are alive; NULL: nobody asks which of its names it was.
    unsafe { openssl_sys::X509_check_host(certificate, name.as_ptr().cast(), len, flags, ptr::null_mut()) == 1 }
}
