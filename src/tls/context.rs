//! What is set on an SSL_CTX.

use std::ffi::CStr;
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use libc::{c_int, c_void};
use openssl::sha::Sha256;
use openssl::ssl::{Ssl, SslContextBuilder, SslContextRef};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Name};
use openssl_sys::{SSL, SSL_CTX, X509_STORE_CTX};

use super::cause::{Cause, quoted, with_clean_queue};
use super::certificate::Contents;
use super::ex_data::Slot;
use super::sys;
use crate::guard::guard;

/// A cipher list is longer than this only by mistake.
const CIPHERS_AT_MOST: usize = 16 << 10;

/// The groups for the key exchange, the fastest first. A client whose certificate has a curve that is not listed is refused,
/// which is why P-521 is here.
const GROUPS: &CStr = c"X25519:P-256:P-384:P-521";

/// The most certificates between the peer's own and the trusted one.
const CHAIN_DEPTH: c_int = 10;

/// How many sessions a context keeps for clients without tickets: OpenSSL's default, and ours. Each takes a kilobyte or more,
/// and outlives its connection.
const SESSION_CACHE_DEFAULT: i64 = 1024 * 20;
const SESSION_CACHE: i64 = 256;

/// All SSL_VERIFY_* there are.
const VERIFY_MODES: c_int = 0x0f;

/// The type of a verify callback.
pub type VerifyCallback = unsafe extern "C" fn(c_int, *mut X509_STORE_CTX) -> c_int;

/// Whether it is a context for DTLS. libssl can only be asked this about an SSL, so one is made.
pub fn is_for_dtls(ctx: &SslContextRef) -> bool {
    // SAFETY: the SSL is alive.
    Ssl::new(ctx).is_ok_and(|ssl| unsafe { sys::SSL_is_dtls(ssl.as_ptr()) } == 1)
}

/// The context that is being built.
pub fn of(builder: &mut SslContextBuilder) -> &SslContextRef {
    // SAFETY: the builder has it, and for as long as it is borrowed nobody else does.
    unsafe { SslContextRef::from_ptr(builder.as_ptr()) }
}

/// Lowers the number of sessions to keep, unless the program has set one itself.
pub fn bound_session_cache(ctx: &SslContextRef) {
    // SAFETY: the context is alive.
    unsafe {
        if openssl_sys::SSL_CTX_sess_get_cache_size(ctx.as_ptr()) == SESSION_CACHE_DEFAULT {
            openssl_sys::SSL_CTX_sess_set_cache_size(ctx.as_ptr(), SESSION_CACHE);
        }
    }
}

/// Sets the cipher list, the groups and DTLS 1.2 as the only version. On an error the context is as it was.
pub fn set_ciphers(ctx: &SslContextRef, ciphers: &CStr) -> Result<(), Cause> {
    let len = ciphers.count_bytes();
    if len > CIPHERS_AT_MOST {
        return Err(format!("a cipher list of {len} bytes; {CIPHERS_AT_MOST} are the most").into());
    }
    with_clean_queue(|| {
        // libssl may have changed the list by the time it refuses it, so it is tried on an SSL of the context first.
        let trial = Ssl::new(ctx)?;
        // SAFETY: both are alive and the strings outlive the calls.
        let set = unsafe {
            let list = ciphers.as_ptr();
            openssl_sys::SSL_set_cipher_list(trial.as_ptr(), list) == 1
                && set_groups_and_version(|cmd, n, at| openssl_sys::SSL_ctrl(trial.as_ptr(), cmd, n, at))
                && openssl_sys::SSL_CTX_set_cipher_list(ctx.as_ptr(), list) == 1
                // Otherwise each SSL would get a copy of the list for TLS 1.3, which DTLS 1.2 has no use for.
                && openssl_sys::SSL_CTX_set_ciphersuites(ctx.as_ptr(), c"".as_ptr()) == 1
                && set_groups_and_version(|cmd, n, at| openssl_sys::SSL_CTX_ctrl(ctx.as_ptr(), cmd, n, at))
        };
        if set { Ok(()) } else { Err(Cause::openssl().about(format_args!("cipher list {}", quoted(ciphers)))) }
    })
}

/// The highest version is set too: cookies work differently in DTLS 1.3, which later versions of libssl may offer.
fn set_groups_and_version(control: impl Fn(c_int, libc::c_long, *mut c_void) -> libc::c_long) -> bool {
    let version = openssl_sys::DTLS1_2_VERSION.into();
    control(openssl_sys::SSL_CTRL_SET_GROUPS_LIST, 0, GROUPS.as_ptr().cast_mut().cast()) == 1
        && control(openssl_sys::SSL_CTRL_SET_MIN_PROTO_VERSION, version, ptr::null_mut()) == 1
        && control(openssl_sys::SSL_CTRL_SET_MAX_PROTO_VERSION, version, ptr::null_mut()) == 1
}

/// Sets how the peer is verified, and against which CA certificates. Undoes [`refuse_handshakes`].
pub fn set_verify(ctx: &SslContextRef, mode: c_int, callback: VerifyCallback, ca: &CStr) -> Result<(), Cause> {
    if mode & !VERIFY_MODES != 0 {
        return Err(format!("mode {mode:#x} is not made of SSL_VERIFY_*").into());
    }
    with_clean_queue(|| {
        let trust = Trust::load(mode, ca).map_err(|cause| cause.about(format_args!("CA file {}", quoted(ca))))?;
        trust.give_to(ctx, callback)
    })?;
    permit_handshakes(ctx);
    Ok(())
}

/// Whom to trust. Once this exists, everything that can fail because of what the caller gave has succeeded.
struct Trust {
    mode: c_int,
    certificates: Vec<X509>,
    revocations: Vec<openssl::x509::X509Crl>,
    /// A server sends them, so that a client can tell which of its certificates will do.
    names: Stack<X509Name>,
    /// Keeps a session that was made under other rules from being resumed under these. It is the same in all processes with
    /// the same rules, so that those that share ticket keys can resume each other's sessions.
    session_id_context: [u8; 32],
}

impl Trust {
    fn load(mode: c_int, path: &CStr) -> Result<Trust, Cause> {
        let contents = Contents::of(path)?;
        let found = contents.certificates()?;
        let mut names = Stack::new()?;
        for certificate in &found.certificates {
            let name = certificate.subject_name().to_owned()?;
            if !names.iter().any(|known: &openssl::x509::X509NameRef| known.try_cmp(&name).is_ok_and(|o| o.is_eq())) {
                names.push(name)?;
            }
        }
        let mut digest = Sha256::new();
        digest.update(b"dv_dtls");
        digest.update(&mode.to_be_bytes());
        digest.update(contents.bytes());
        Ok(Trust {
            mode,
            certificates: found.certificates,
            revocations: found.revocations,
            names,
            session_id_context: digest.finish(),
        })
    }

    fn give_to(self, ctx: &SslContextRef, callback: VerifyCallback) -> Result<(), Cause> {
        let ctx = ctx.as_ptr();
        // SAFETY: the context and the certificates are alive; the store takes references of its own.
        unsafe {
            let store = openssl_sys::SSL_CTX_get_cert_store(ctx);
            for certificate in &self.certificates {
                if openssl_sys::X509_STORE_add_cert(store, certificate.as_ptr()) != 1 {
                    return Err(Cause::openssl());
                }
            }
            for revocation in &self.revocations {
                if sys::X509_STORE_add_crl(store, revocation.as_ptr()) != 1 {
                    return Err(Cause::openssl());
                }
            }
        }
        // SAFETY: the context is alive and takes the stack over. The transmute only drops the word `unsafe` from the type
        // that `openssl_sys` declares: libssl calls it with its own arguments, which is what the callback asks for.
        unsafe {
            let callback: extern "C" fn(c_int, *mut X509_STORE_CTX) -> c_int = std::mem::transmute(callback);
            openssl_sys::SSL_CTX_set_verify(ctx, self.mode, Some(callback));
            openssl_sys::SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH);
            // 32 bytes are the most that libssl takes; it copies them.
            openssl_sys::SSL_CTX_set_session_id_context(ctx, self.session_id_context.as_ptr(), 32);
            let names = self.names.as_ptr();
            std::mem::forget(self.names);
            openssl_sys::SSL_CTX_set_client_CA_list(ctx, names);
        }
        Ok(())
    }
}

/// The security callback that a context had before [`refuse`] came to stand in front of it.
static BEFORE_REFUSAL: Slot<SSL_CTX, sys::security_cb> = Slot::new();

/// Makes every handshake fail, of servers and clients alike, with or without certificates: a program that cannot be told of an
/// error must not run unprotected. libssl asks the security callback about the protocol version before anything else, and this
/// one says no. An SSL takes the callback from its context when it is made, so that those that exist are not affected.
pub fn refuse_handshakes(ctx: &SslContextRef) {
    if refuses_handshakes(ctx) {
        return;
    }
    // SAFETY: the context is alive.
    unsafe {
        if let Some(before) = sys::SSL_CTX_get_security_callback(ctx.as_ptr()) {
            BEFORE_REFUSAL.set(ctx.as_ptr(), before);
        }
        sys::SSL_CTX_set_security_callback(ctx.as_ptr(), Some(refuse));
    }
}

/// Undoes [`refuse_handshakes`].
fn permit_handshakes(ctx: &SslContextRef) {
    // SAFETY: the context is alive, and nobody else uses it.
    unsafe {
        if refuses_handshakes(ctx)
            && let Some(before) = BEFORE_REFUSAL.get(ctx.as_ptr())
        {
            sys::SSL_CTX_set_security_callback(ctx.as_ptr(), Some(*before));
        }
    }
}

fn refuses_handshakes(ctx: &SslContextRef) -> bool {
    // SAFETY: the context is alive.
    let now = unsafe { sys::SSL_CTX_get_security_callback(ctx.as_ptr()) };
    now.is_some_and(|now| ptr::fn_addr_eq(now, refuse as sys::security_cb))
}

/// The security callback of a context whose handshakes are all refused. Questions about anything but the version go to
/// the callback that was there before, so that a certificate can still be loaded.
unsafe extern "C" fn refuse(
    ssl: *const SSL,
    ctx: *const SSL_CTX,
    op: c_int,
    bits: c_int,
    nid: c_int,
    other: *mut c_void,
    user: *mut c_void,
) -> c_int {
    guard(0, || {
        if op == sys::SSL_SECOP_VERSION {
            return 0;
        }
        // SAFETY: libssl gives either the SSL, which has a context, or the context itself; the callback before us gets the
        // arguments that libssl would have given it.
        unsafe {
            let holder = if ctx.is_null() { openssl_sys::SSL_get_SSL_CTX(ssl) } else { ctx };
            BEFORE_REFUSAL.get(holder).map_or(0, |before| before(ssl, ctx, op, bits, nid, other, user))
        }
    })
}
