//! Setting up an SSL_CTX, checking the peer's certificate, and watching a socket.

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

/// Sets the ciphers of a context, and with them the key exchange groups (X25519, P-256, P-384 and P-521) and the only
/// protocol version, DTLS 1.2.
///
/// - `ctx`: the SSL_CTX
/// - `ciphers`: a list of TLS 1.2 ciphers in OpenSSL's notation, such as "ECDHE+AESGCM"
///
/// Returns DV_OK or DV_ERROR.
///
/// Errors: OpenSSL knows no cipher in the list, or the list is longer than 16384 bytes.
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

/// The verify callback that dv_openssl_set_verify() installs. It accepts what OpenSSL accepts: a chain that does not
/// verify fails the handshake, and the log says why.
///
/// - `ok`: OpenSSL's verdict on a certificate of the chain
/// - `store`: what the verdict is about
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

/// Sets how the peer's certificate is checked, and adds CA certificates to those that the context already trusts. A
/// server also sends the names of the CAs from the latest call to its clients.
///
/// It also sets the session id context, so that a session is resumed only under the mode and the CA file it was made
/// under.
///
/// - `ctx`: the SSL_CTX
/// - `mode`: SSL_VERIFY_NONE, or SSL_VERIFY_PEER, alone or with other SSL_VERIFY_* bits
/// - `peer_cf`: a PEM file of CA certificates. It may also hold revocation lists, which are used once
///   X509_V_FLAG_CRL_CHECK is set on the context's X509_STORE
///
/// Errors: the file cannot be loaded or is NULL, or the mode has other bits. As this function returns nothing, and a
/// program must not run unprotected without knowing, every handshake of an SSL that is then made from the context
/// fails, whatever the mode, until a call succeeds.
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

/// Tells whether the peer has proved to be who it must be.
///
/// - `s`: the SSL
///
/// Returns DV_OK when the handshake is finished and the peer's chain and name verified, whatever the verify mode; with
/// SSL_VERIFY_FAIL_IF_NO_PEER_CERT in the mode, there must also be a certificate. Otherwise DV_ERROR. OpenSSL's error
/// queue is left as it was.
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

/// Loads a context's own certificate, with its chain and private key. A certificate with another type of key is added
/// beside the ones that are there; one with the same type of key replaces the earlier one.
///
/// Nobody is prompted for a password: an encrypted key needs a password callback on the context
/// (SSL_CTX_set_default_passwd_cb).
///
/// - `ctx`: the SSL_CTX
/// - `cert`: a PEM file: the certificate, then the rest of its chain in the order it is sent
/// - `key`: a PEM file with the private key of the first certificate
///
/// Returns 0 or -1.
///
/// Errors: a file cannot be read, holds no certificate or no key, or is larger than 16 MiB; the key does not belong to
/// the certificate; OpenSSL's security level refuses one of them.
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

/// Adds a certificate, with its chain and private key, for clients that ask for one of its DNS names (SNI). All others
/// are shown the certificate of dv_ssl_certificate(). Where several match, with the same type of key, the one that was
/// added first is shown.
///
/// It sets the context's certificate callback (SSL_CTX_set_cert_cb). The server name callback stays the program's; if
/// that calls SSL_set_SSL_CTX(), the certificates of the new context are used.
///
/// - `ctx`: the SSL_CTX
/// - `cert`: a PEM file as for dv_ssl_certificate(). Its names are the DNS names in subjectAltName; a wildcard can only
///   be the whole first label ("*.example.org")
/// - `key`: a PEM file with the private key of the first certificate
///
/// Returns 0 or -1.
///
/// Errors: those of dv_ssl_certificate(), and a certificate without a DNS name.
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

/// Encrypts a context's session tickets with keys derived from a file, so that servers which share the file resume each
/// other's sessions, and their own after a restart. A dv_server with a secret_file does this by itself.
///
/// - `ctx`: the SSL_CTX
/// - `secret_file`: a file of at least 16 random bytes, for instance the one that DV_COOKIE_SECRET_FILE names
///
/// Returns 0 or -1.
///
/// Errors: the file cannot be read, is too short, or is larger than 16 MiB.
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

/// Adds a descriptor to an epoll set, for input (EPOLLIN, level-triggered). One that is already there is left as it is.
///
/// - `epfd`: the epoll descriptor
/// - `ev`: receives the event that was asked for, with the descriptor in `data.fd`; may be NULL
/// - `fd`: the descriptor to watch
///
/// Errors: they go to the log only.
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

/// Sets the name or address that the server's certificate must have, and sends a name to the server (SNI). For clients,
/// before SSL_connect(). Without it, any certificate from a trusted CA is accepted.
///
/// - `s`: the SSL
/// - `name`: a DNS name such as "server.example.org", or an IPv4 or IPv6 address
///
/// Returns DV_OK or DV_ERROR. A later name replaces an earlier one.
///
/// Errors: the name is neither, or is longer than 255 bytes; the handshake has already begun.
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
