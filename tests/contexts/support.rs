//! Certificates, log lines, the helpers as a test calls them, and a handshake in memory.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::Once;

use dv_dtls::*;
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    ErrorCode, ShutdownState, Ssl, SslContext, SslContextBuilder, SslMethod, SslRef, SslSession, SslStream,
};
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};
use openssl_sys::{SSL_VERIFY_FAIL_IF_NO_PEER_CERT, SSL_VERIFY_PEER};

use crate::common;
use crate::common::pipe::Pipe;

pub const VERIFY_BOTH: c_int = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
pub const CIPHERS: &CStr = c"ECDHE+AESGCM";

/// Files that hold no certificate, and a word of what is said of each.
pub const BAD_FILES: [(&str, &str); 6] = [
    ("no-such-file.pem", "No such file"),
    (".", "Is a directory"),
    ("empty.pem", "the file is empty"),
    ("garbage.pem", "bad base64 decode"),
    ("server-ecdsa.der", "looks like DER"),
    ("client.key", "no PEM certificate"),
];

/// The path of a file that certs/make-certs.sh makes.
pub fn cert(name: &str) -> CString {
    CString::new(common::cert(name)).unwrap()
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" fn collect(_level: c_int, line: *const c_char, _user: *mut c_void) {
    let line = unsafe { CStr::from_ptr(line) }.to_string_lossy().into_owned();
    LINES.with_borrow_mut(|lines| lines.push(line));
}

/// What `call` returns, and the log lines that it made: they come on the thread of the call.
pub fn logged<R>(call: impl FnOnce() -> R) -> (R, String) {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| unsafe { dv_set_log_callback(4, Some(collect), null_mut()) });
    let before = LINES.take();
    let result = call();
    (result, LINES.replace(before).join("\n"))
}

/// Asserts that a call fails with all of `words` in the log, and that OpenSSL's queue is empty after it.
#[track_caller]
pub fn fails(call: impl FnOnce() -> c_int, words: &[&str]) {
    let (result, lines) = logged(call);
    assert_eq!(result, DV_ERROR, "{lines}");
    for word in words {
        assert!(lines.contains(word), "{word:?} is not in {lines:?}");
    }
    assert!(ErrorStack::get().errors().is_empty());
}

/// Asserts that a call succeeds, has nothing to say, and leaves OpenSSL's queue empty.
#[track_caller]
pub fn works(call: impl FnOnce() -> c_int) {
    assert_eq!(logged(call), (DV_OK, String::new()));
    assert!(ErrorStack::get().errors().is_empty());
}

/// What a helper takes as `void *`.
pub trait Raw {
    fn raw(&self) -> *mut c_void;
}

impl Raw for SslContextBuilder {
    fn raw(&self) -> *mut c_void {
        self.as_ptr().cast()
    }
}

impl Raw for SslContext {
    fn raw(&self) -> *mut c_void {
        self.as_ptr().cast()
    }
}

impl Raw for SslRef {
    fn raw(&self) -> *mut c_void {
        self.as_ptr().cast()
    }
}

pub fn set_ciphers(ctx: &impl Raw, list: &CStr) -> c_int {
    unsafe { dv_openssl_ctx_set_ciphers(ctx.raw(), list.as_ptr().cast_mut()) }
}

/// It returns nothing: that it failed shows in the log, and in every handshake after it.
pub fn set_verify(ctx: &impl Raw, mode: c_int, file: &str) -> c_int {
    let path = cert(file);
    let ((), lines) = logged(|| unsafe { dv_openssl_set_verify(ctx.raw(), mode, path.as_ptr().cast_mut()) });
    if lines.is_empty() { DV_OK } else { DV_ERROR }
}

pub fn load(ctx: &impl Raw, certificate: &str, key: &str) -> c_int {
    let (certificate, key) = (cert(certificate), cert(key));
    unsafe { dv_ssl_certificate(ctx.raw(), certificate.as_ptr().cast_mut(), key.as_ptr().cast_mut()) }
}

pub fn peer_name(ssl: &SslRef, name: &CStr) -> c_int {
    unsafe { dv_openssl_set_peer_name(ssl.raw(), name.as_ptr()) }
}

pub fn verdict(ssl: &SslRef) -> c_int {
    unsafe { dv_openssl_get_verify_result(ssl.raw()) }
}

/// A server's context.
pub fn server(certificate: &str) -> SslContextBuilder {
    let ctx = SslContextBuilder::new(SslMethod::dtls_server()).unwrap();
    works(|| load(&ctx, &format!("{certificate}.pem"), &format!("{certificate}.key")));
    works(|| set_ciphers(&ctx, CIPHERS));
    ctx
}

/// A client's context that trusts `ca`.
pub fn client(mode: c_int, ca: &str) -> SslContextBuilder {
    let ctx = SslContextBuilder::new(SslMethod::dtls_client()).unwrap();
    assert_eq!(set_verify(&ctx, mode, ca), DV_OK);
    works(|| set_ciphers(&ctx, CIPHERS));
    ctx
}

/// Two that have tried to shake hands.
pub struct Met {
    pub client: Side,
    pub server: Side,
}

/// One of them.
pub struct Side {
    stream: SslStream<Pipe>,
    /// What has become of the handshake: finished, not yet, or an error.
    outcome: Result<bool, String>,
}

impl Side {
    fn new(ssl: Ssl, wire: Pipe) -> Side {
        Side { stream: SslStream::new(ssl, wire).unwrap(), outcome: Ok(false) }
    }

    fn step(&mut self) {
        if self.outcome == Ok(false) {
            self.outcome = match self.stream.do_handshake() {
                Ok(()) => Ok(true),
                Err(error) if error.code() == ErrorCode::WANT_READ => Ok(false),
                Err(error) => Err(error.to_string()),
            };
        }
    }

    pub fn ssl(&self) -> &SslRef {
        self.stream.ssl()
    }

    pub fn done(&self) -> bool {
        self.outcome == Ok(true)
    }

    /// What made the handshake fail here; empty when nothing did.
    pub fn error(&self) -> &str {
        self.outcome.as_ref().err().map_or("", String::as_str)
    }
}

impl Met {
    pub fn both_done(&self) -> bool {
        self.client.done() && self.server.done()
    }

    /// What the client may resume. Both have shut down, as libssl forgets the session of a connection that was cut.
    pub fn session(&mut self) -> SslSession {
        for side in [&mut self.client, &mut self.server] {
            side.stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        }
        self.client.ssl().session().unwrap().to_owned()
    }

    /// The certificate that the server showed.
    pub fn shown(&self) -> Vec<u8> {
        self.client.ssl().peer_certificate().unwrap().to_der().unwrap()
    }
}

pub fn meet_with(mut client: Ssl, mut server: Ssl) -> Met {
    client.set_connect_state();
    server.set_accept_state();
    let (here, there) = Pipe::pair();
    let mut met = Met { client: Side::new(client, here), server: Side::new(server, there) };
    // Nothing is lost on this wire, so no flight is repeated: a handshake takes a handful of rounds or never ends.
    for _ in 0..10 {
        met.client.step();
        met.server.step();
    }
    met
}

pub fn meet(client: &SslContext, server: &SslContext) -> Met {
    meet_with(Ssl::new(client).unwrap(), Ssl::new(server).unwrap())
}

/// The client tries to resume what it had.
pub fn meet_again(client: &SslContext, server: &SslContext, session: &SslSession) -> Met {
    let mut ssl = Ssl::new(client).unwrap();
    unsafe { ssl.set_session(session).unwrap() };
    meet_with(ssl, Ssl::new(server).unwrap())
}

/// A certificate with a key on this curve, for these names, that is its own CA.
pub fn self_signed(curve: Nid, names: &[&str]) -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(curve).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", "self").unwrap();
    let subject = subject.build();
    let mut made = X509::builder().unwrap();
    made.set_version(2).unwrap();
    made.set_subject_name(&subject).unwrap();
    made.set_issuer_name(&subject).unwrap();
    made.set_pubkey(&key).unwrap();
    made.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    made.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    let mut alternatives = SubjectAlternativeName::new();
    for name in names {
        alternatives.dns(name);
    }
    let alternatives = alternatives.build(&made.x509v3_context(None, None)).unwrap();
    made.append_extension(alternatives).unwrap();
    made.sign(&key, MessageDigest::sha256()).unwrap();
    (made.build(), key)
}
