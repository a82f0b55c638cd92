//! Setting up an SSL_CTX, the check of the peer's certificate, and watching a socket.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use foreign_types::ForeignTypeRef;
use libc::{c_char, c_int, c_void};
use openssl::ssl::{SslContextRef, SslRef};
use openssl_sys::X509_STORE_CTX;

use super::environment;
use super::types::*;
use crate::ffi::error::remember;
use crate::ffi::version::{check_openssl, failed};
use crate::guard::{guard, guard_uncancelled};
use crate::log::log;
use crate::net;
use crate::tls::cause::Cause;
use crate::tls::secret::FleetSecret;
use crate::tls::{certificate, context, names, peer};

/// Sets the ciphers of a context, the groups X25519, P-256, P-384 and P-521 for the key exchange, and DTLS 1.2 as the
/// only version.
///
/// - `ctx`: the SSL_CTX
/// - `ciphers`: a list of TLS 1.2 ciphers in OpenSSL's notation, such as "ECDHE+AESGCM"
///
/// Returns DV_OK or DV_ERROR.
///
/// Errors: a list in which OpenSSL knows no cipher, or one longer than 16384 bytes.
///
/// # Safety
/// `ctx` is NULL or an SSL_CTX that nobody else uses meanwhile; `ciphers` is NULL or ends with NUL.
#[cfg(not(dv_omit = "openssl_ctx_set_ciphers"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_ctx_set_ciphers(ctx: *mut c_void, ciphers: *mut c_char) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        status("dv_openssl_ctx_set_ciphers", || {
            // SAFETY: the caller's promise.
            let (ctx, ciphers) = unsafe { (context_from(ctx)?, text_from(ciphers, "ciphers")?) };
            context::set_ciphers(ctx, ciphers)
        })
    })
}

/// Passes on OpenSSL's judgement on the peer's chain: a chain that is not good fails the handshake, and the log says why.
/// dv_openssl_set_verify makes it the verify callback of the context.
///
/// - `ok`: OpenSSL's judgement
/// - `store`: what the judgement is about
///
/// Returns `ok`.
///
/// # Safety
/// `store` is NULL or what OpenSSL gives a verify callback.
#[cfg(not(dv_omit = "openssl_callback"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_callback(ok: c_int, store: *mut X509_STORE_CTX) -> c_int {
    guard(0, || {
        if ok == 0 && !store.is_null() {
            // SAFETY: the caller's promise.
            log!(Warn, "dv_openssl_callback: {}", unsafe { peer::chain_error(store) });
        }
        ok
    })
}

/// Sets how the peer's certificate is checked, and the CA certificates that it is checked against, which are added to those
/// that the context trusts already. A server names the CAs of the last call to its clients.
///
/// The session id context is set too: a session is resumed only under the mode and the CA file that it was made under.
///
/// - `ctx`: the SSL_CTX
/// - `mode`: SSL_VERIFY_NONE, or SSL_VERIFY_PEER with other SSL_VERIFY_* bits or without
/// - `peer_cf`: a PEM file of CA certificates, and of revocation lists if there are any; these count once the context's
///   X509_STORE has X509_V_FLAG_CRL_CHECK
///
/// Errors: a file that cannot be loaded, NULL, or a mode with other bits. A program that is told nothing must not run
/// unprotected, so every handshake fails then, whatever the mode, of each SSL that is made from the context before a call
/// succeeds.
///
/// # Safety
/// `ctx` is NULL or an SSL_CTX that nobody else uses meanwhile; `peer_cf` is NULL or ends with NUL.
#[cfg(not(dv_omit = "openssl_set_verify"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_set_verify(ctx: *mut c_void, mode: c_int, peer_cf: *mut c_char) {
    guard_uncancelled((), || {
        // Success takes this back; whatever else happens leaves it so.
        // SAFETY: the caller's promise.
        if let Ok(ctx) = unsafe { context_from(ctx) } {
            context::refuse_handshakes(ctx);
        }
        status("dv_openssl_set_verify", || {
            // SAFETY: the caller's promise.
            let (ctx, peer_cf) = unsafe { (context_from(ctx)?, text_from(peer_cf, "peer_cf")?) };
            context::set_verify(ctx, mode, dv_openssl_callback, peer_cf)
        });
    });
}

/// Tells whether the peer is who it has to be.
///
/// - `s`: the SSL
///
/// Returns DV_OK when the handshake is finished, the peer's chain and name are good, whatever the verify mode, and there
/// is a certificate if the mode has SSL_VERIFY_FAIL_IF_NO_PEER_CERT; otherwise DV_ERROR. OpenSSL's error queue is as it was.
///
/// # Safety
/// `s` is NULL or an SSL that nobody else uses meanwhile.
#[cfg(not(dv_omit = "openssl_get_verify_result"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_get_verify_result(s: *mut c_void) -> c_int {
    guard(DV_ERROR, || {
        status("dv_openssl_get_verify_result", || {
            // SAFETY: the caller's promise.
            peer::verdict(unsafe { ssl_from(s)? })
        })
    })
}

/// Gives a context its own certificate, with the chain and the key. A second certificate with another type of key stands
/// beside the first, one with the same type replaces it.
///
/// Nobody is asked for a password: an encrypted key needs a password callback (SSL_CTX_set_default_passwd_cb) on the
/// context.
///
/// - `ctx`: the SSL_CTX
/// - `cert`: a PEM file with the certificate, then the rest of the chain in the order in which it is sent
/// - `key`: a PEM file with the private key of the first certificate
///
/// Returns 0 or -1.
///
/// Errors: a file that cannot be read, has no certificate or key in it, or is larger than 16 MiB; a key that does not belong to the
/// certificate; one that OpenSSL's security level refuses.
///
/// # Safety
/// `ctx` is NULL or an SSL_CTX that nobody else uses meanwhile; `cert` and `key` are NULL or end with NUL.
#[cfg(not(dv_omit = "ssl_certificate"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_ssl_certificate(ctx: *mut c_void, cert: *mut c_char, key: *mut c_char) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        status("dv_ssl_certificate", || {
            // SAFETY: the caller's promise.
            let (ctx, cert, key) = unsafe { (context_from(ctx)?, text_from(cert, "cert")?, text_from(key, "key")?) };
            certificate::use_certificate(ctx, cert, key)
        })
    })
}

/// Gives a context another certificate, with the chain and the key, for clients that ask for one of the DNS names in it (SNI):
/// they are shown it, all others the certificate of dv_ssl_certificate. Of several for one name and type of key, the first
/// that was added is shown.
///
/// It sets the context's certificate callback (SSL_CTX_set_cert_cb). The server name callback stays the program's: when that
/// one calls SSL_set_SSL_CTX, the certificates of the new context count.
///
/// - `ctx`: the SSL_CTX
/// - `cert`: a PEM file as for dv_ssl_certificate; the names are the DNS names in its subjectAltName, with "*." at most as the
///   first label
/// - `key`: a PEM file with the private key of the first certificate
///
/// Returns 0 or -1.
///
/// Errors: as of dv_ssl_certificate; a certificate without a DNS name.
///
/// # Safety
/// `ctx` is NULL or an SSL_CTX that nobody else uses meanwhile; `cert` and `key` are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_ssl_add_certificate(ctx: *mut c_void, cert: *const c_char, key: *const c_char) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        status("dv_ssl_add_certificate", || {
            // SAFETY: the caller's promise.
            let (ctx, cert, key) = unsafe { (context_from(ctx)?, text_from(cert, "cert")?, text_from(key, "key")?) };
            names::add(ctx, cert, key)
        })
    })
}

/// Seals the session tickets of a context with keys that are made of a file: servers that share it resume each other's
/// sessions, and their own after a restart. A dv_server does this itself when its configuration has a secret_file.
///
/// - `ctx`: the SSL_CTX
/// - `secret_file`: a file with random bytes, 16 at least, such as that of DV_COOKIE_SECRET_FILE
///
/// Returns 0 or -1.
///
/// Errors: a file that cannot be read, that is too short, or larger than 16 MiB.
///
/// # Safety
/// `ctx` is NULL or an SSL_CTX that nobody else uses meanwhile; `secret_file` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_ssl_share_tickets(ctx: *mut c_void, secret_file: *const c_char) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        status("dv_ssl_share_tickets", || {
            // SAFETY: the caller's promise.
            let (ctx, file) = unsafe { (context_from(ctx)?, text_from(secret_file, "secret_file")?) };
            FleetSecret::read(Path::new(OsStr::from_bytes(file.to_bytes())))?.use_for_tickets(ctx)
        })
    })
}

/// Watches a descriptor for input (EPOLLIN, level-triggered). One that is watched already stays as it is.
///
/// - `epfd`: the epoll descriptor
/// - `ev`: receives what is watched for, with the descriptor in `data.fd`; may be NULL
/// - `fd`: the descriptor to watch
///
/// Errors: what the kernel refuses is logged, nowhere else.
///
/// # Safety
/// `ev` is NULL or writable.
#[cfg(not(dv_omit = "add_epoll_event"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_add_epoll_event(epfd: c_int, ev: *mut libc::epoll_event, fd: c_int) {
    guard((), || {
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { net::sys::epoll_add(epfd, ev, fd) } {
            log!(Error, "dv_add_epoll_event: descriptor {fd}, epoll descriptor {epfd}: {error}");
        }
    });
}

/// Says which name or address the certificate of the server must carry, and tells a server the name (SNI). A client calls
/// it on an SSL before SSL_connect; without it, any certificate of the CA will do.
///
/// - `s`: the SSL
/// - `name`: a DNS name such as "server.example.org", or an IPv4 or IPv6 address
///
/// Returns DV_OK or DV_ERROR. A later name takes the place of an earlier one.
///
/// Errors: a name that is neither, or longer than 255 bytes; an SSL whose handshake has begun.
///
/// # Safety
/// `s` is NULL or an SSL that nobody else uses meanwhile; `name` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_openssl_set_peer_name(s: *mut c_void, name: *const c_char) -> c_int {
    guard(DV_ERROR, || {
        status("dv_openssl_set_peer_name", || {
            // SAFETY: the caller's promise.
            let (ssl, name) = unsafe { (ssl_from(s)?, text_from(name, "name")?) };
            peer::set_name(ssl, name)
        })
    })
}

/// Runs what needs OpenSSL; its error becomes a log line, the thread's last error, and DV_ERROR.
fn status(function: &str, body: impl FnOnce() -> Result<(), Cause>) -> c_int {
    environment::listen();
    if let Err(why) = check_openssl() {
        return failed(&why);
    }
    match body() {
        Ok(()) => DV_OK,
        Err(cause) => {
            let text = format!("{function}: {cause}");
            log!(Error, "{text}");
            remember(&text);
            DV_ERROR
        }
    }
}

/// # Safety
/// `ctx` is NULL or an SSL_CTX that lives for `'a`.
unsafe fn context_from<'a>(ctx: *mut c_void) -> Result<&'a SslContextRef, Cause> {
    if ctx.is_null() {
        return Err("ctx is NULL".into());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { SslContextRef::from_ptr(ctx.cast()) })
}

/// # Safety
/// `ssl` is NULL or an SSL that lives for `'a` and that nobody else uses meanwhile.
unsafe fn ssl_from<'a>(ssl: *mut c_void) -> Result<&'a mut SslRef, Cause> {
    if ssl.is_null() {
        return Err("the SSL is NULL".into());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { SslRef::from_ptr_mut(ssl.cast()) })
}

/// # Safety
/// `text` is NULL or ends with NUL within `'a`.
unsafe fn text_from<'a>(text: *const c_char, name: &str) -> Result<&'a CStr, Cause> {
    if text.is_null() {
        return Err(format!("{name} is NULL").into());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}
