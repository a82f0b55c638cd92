//! Who the peer is: the name that its certificate must carry, and the verdict on it.

use std::ffi::CStr;
use std::net::IpAddr;
use std::ptr;

use foreign_types::ForeignTypeRef;
use libc::c_int;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::verify::X509CheckFlags;
use openssl::x509::{X509Ref, X509StoreContext, X509VerifyResult};
use openssl_sys::X509_STORE_CTX;

use super::cause::{Cause, quoted, with_clean_queue};
use super::sys;

/// The longest DNS name.
const NAME_AT_MOST: usize = 255;
/// The longest part of a DNS name between two dots.
const LABEL_AT_MOST: usize = 63;

/// What a certificate can be asked to carry.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Dns(&'a str),
    Ip(IpAddr),
}

impl<'a> Name<'a> {
    fn parse(name: &'a CStr) -> Result<Name<'a>, &'static str> {
        if name.count_bytes() > NAME_AT_MOST {
            return Err("a DNS name has at most 255 characters");
        }
        let name = name.to_str().map_err(|_| "neither a DNS name nor an IP address")?;
        if let Ok(address) = name.parse() {
            return Ok(Name::Ip(address));
        }
        // The dot of the root is in no certificate.
        let dns = name.strip_suffix('.').unwrap_or(name);
        let label_fits = |label: &str| {
            (1..=LABEL_AT_MOST).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !dns.split('.').all(label_fits) {
            return Err("neither a DNS name nor an IP address");
        }
        // No top-level domain is a number: what looks so is an address with a mistake in it.
        if dns.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err("a malformed IP address");
        }
        Ok(Name::Dns(dns))
    }
}

/// Sets the DNS name or IP address that the certificate of the server must carry, in place of an earlier one. A DNS name is
/// also told to the server (SNI).
pub fn set_name(ssl: &mut SslRef, name: &CStr) -> Result<(), Cause> {
    let wanted = Name::parse(name).map_err(|why| Cause::from(why).about(format_args!("peer name {}", quoted(name))))?;
    // SAFETY: the SSL is alive.
    if unsafe { sys::SSL_in_before(ssl.as_ptr()) } == 0 {
        return Err("the handshake has already begun: the name must be set before".into());
    }
    with_clean_queue(|| {
        let raw = ssl.as_ptr();
        let param = ssl.param_mut();
        param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        match wanted {
            Name::Dns(dns) => {
                param.set_host(dns)?;
                // SAFETY: the parameters belong to the SSL and are alive; NULL takes back the address that was wanted.
                unsafe { openssl_sys::X509_VERIFY_PARAM_set1_ip(param.as_ptr(), ptr::null(), 0) };
                ssl.set_hostname(dns)?;
            }
            Name::Ip(address) => {
                param.set_ip(address)?;
                // SAFETY: as above, for the name. A server is not told an address (RFC 6066 3).
                unsafe {
                    openssl_sys::X509_VERIFY_PARAM_set1_host(param.as_ptr(), ptr::null(), 0);
                    openssl_sys::SSL_ctrl(raw, openssl_sys::SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, ptr::null_mut());
                }
            }
        }
        Ok(())
    })
}

/// Whether the peer is who it has to be: the handshake is finished, its certificate, if any, is good whatever the mode, and
/// there is one if the mode requires it.
pub fn verdict(ssl: &SslRef) -> Result<(), Cause> {
    // Nothing here touches OpenSSL's error queue: the caller may still want to print what his handshake left there.
    if !ssl.is_init_finished() {
        return Err("the handshake is not finished".into());
    }
    let result = ssl.verify_result();
    if result != X509VerifyResult::OK {
        return Err(format!("the peer's certificate is not good: {result} ({})", result.as_raw()).into());
    }
    // SAFETY: the SSL is alive. (The crate's verify_mode panics at SSL_VERIFY_CLIENT_ONCE.)
    let mode = unsafe { openssl_sys::SSL_get_verify_mode(ssl.as_ptr()) };
    if mode & openssl_sys::SSL_VERIFY_FAIL_IF_NO_PEER_CERT != 0 && ssl.peer_certificate().is_none() {
        return Err("the peer sent no certificate".into());
    }
    if ssl.session_reused() && ssl.peer_certificate().is_some_and(|shown| !is_named(ssl, &shown)) {
        return Err("the certificate of the session that was resumed carries another name".into());
    }
    Ok(())
}

/// Whether the certificate of the session that `ssl` is about to resume would be accepted in a full handshake today: it was
/// good when it was shown, and would be found good again for this name, with these CAs, revocation lists and rules. True if
/// the mode does not ask for a certificate. The program's own verify callback is not called: if it had to accept
/// something that OpenSSL does not, there is a full handshake.
pub fn would_do(ssl: &SslRef) -> bool {
    if !asks_for_certificate(ssl) {
        return true;
    }
    let Some(shown) = ssl.peer_certificate() else { return true };
    ssl.verify_result() == X509VerifyResult::OK && with_clean_queue(|| verify(ssl, &shown).unwrap_or(false))
}

/// What libssl does with a certificate that a server shows. A session that comes from another process has no chain: its
/// certificate is good only where nothing stands between it and a CA.
fn verify(ssl: &SslRef, certificate: &X509Ref) -> Result<bool, ErrorStack> {
    let none = Stack::new()?;
    let chain = ssl.peer_cert_chain().unwrap_or(&none);
    X509StoreContext::new()?.init(ssl.ssl_context().cert_store(), certificate, chain, |check| {
        // SAFETY: the SSL, the check and their parameters are alive; what is set is copied.
        let set = unsafe {
            let param = sys::X509_STORE_CTX_get0_param(check.as_ptr());
            openssl_sys::X509_VERIFY_PARAM_set_auth_level(param, sys::SSL_get_security_level(ssl.as_ptr()));
            sys::X509_STORE_CTX_set_default(check.as_ptr(), c"ssl_server".as_ptr()) == 1
                && sys::X509_VERIFY_PARAM_set1(param, openssl_sys::SSL_get0_param(ssl.as_ptr())) == 1
        };
        Ok(set && check.verify_cert()?)
    })
}

/// Whether the mode of `ssl` wants a certificate of the peer: a server has to ask for it.
pub fn asks_for_certificate(ssl: &SslRef) -> bool {
    // SAFETY: the SSL is alive.
    let mode = unsafe { openssl_sys::SSL_get_verify_mode(ssl.as_ptr()) };
    mode & openssl_sys::SSL_VERIFY_PEER != 0
}

/// Whether a certificate carries the name or the address that `ssl` wants of its peer. libssl checks that when a certificate
/// is shown, but not when a session is resumed.
fn is_named(ssl: &SslRef, certificate: &X509Ref) -> bool {
    let certificate = certificate.as_ptr();
    // SAFETY: the SSL, what it wants and the certificate are alive; a length of 0 stands for a text's own. The address is
    // freed as OpenSSL's texts are.
    unsafe {
        // Asking for an address that was never set leaves an error, which must not stay in the caller's queue.
        sys::ERR_set_mark();
        let wanted = openssl_sys::SSL_get0_param(ssl.as_ptr());
        let flags = sys::X509_VERIFY_PARAM_get_hostflags(wanted);
        let mut names =
            (0..).map(|n| sys::X509_VERIFY_PARAM_get0_host(wanted, n)).take_while(|name| !name.is_null()).peekable();
        let named = names.peek().is_none()
            || names.any(|name| openssl_sys::X509_check_host(certificate, name, 0, flags, ptr::null_mut()) == 1);
        let address = sys::X509_VERIFY_PARAM_get1_ip_asc(wanted);
        let addressed = address.is_null() || openssl_sys::X509_check_ip_asc(certificate, address, 0) == 1;
        openssl_sys::OPENSSL_free(address.cast());
        sys::ERR_pop_to_mark();
        named && addressed
    }
}

/// What OpenSSL calls the outcome of a check with this number.
pub fn verify_result(number: c_int) -> X509VerifyResult {
    // SAFETY: any number is fine, it is only made into words.
    unsafe { X509VerifyResult::from_raw(number) }
}

/// The identity that the client gave with a pre-shared key.
pub fn psk_identity(ssl: &SslRef) -> Option<&[u8]> {
    // SAFETY: the SSL is alive and so is the text, which belongs to its session; NULL means that there is none.
    unsafe {
        let identity = openssl_sys::SSL_get_psk_identity(ssl.as_ptr());
        (!identity.is_null()).then(|| CStr::from_ptr(identity).to_bytes())
    }
}

/// What is wrong with the chain that a verify callback is told about.
///
/// # Safety
/// `store` is the argument of a verify callback that runs.
pub unsafe fn chain_error(store: *mut X509_STORE_CTX) -> String {
    // SAFETY: the caller's promise; both only read.
    let (error, depth): (c_int, c_int) =
        unsafe { (openssl_sys::X509_STORE_CTX_get_error(store), openssl_sys::X509_STORE_CTX_get_error_depth(store)) };
    format!("the peer's chain is not good at depth {depth}: {} ({error})", verify_result(error))
}
