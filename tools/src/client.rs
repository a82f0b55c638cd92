//! One DTLS client: the system's libssl over a BIO of our own, on one connected UDP socket.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslSession, SslVerifyMode};
use openssl_sys as ffi;

use crate::sys;

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the client to the server.
    Out,
    /// From the server to the client.
    In,
}

/// Sees each datagram of a client; says whether it goes on.
pub type Hook = Box<dyn FnMut(&Link, Direction, &[u8]) -> bool>;

/// Brings the datagrams of a client to the server, and those for it back.
pub trait Carrier {
    /// Sends a datagram. What cannot leave is lost, as it might be on the way.
    fn send(&self, datagram: &[u8]);

    /// Takes the next datagram; `None` when none waits.
    fn receive(&self, buffer: &mut [u8]) -> Option<usize>;
}

/// A socket for one client, and what an experiment does to its datagrams.
pub struct Link {
    socket: UdpSocket,
    sent: Cell<u64>,
    received: Cell<u64>,
    hook: RefCell<Option<Hook>>,
}

impl Link {
    /// A socket on `source` (a free port) that talks to `to`.
    pub fn connect(source: SocketAddr, to: SocketAddr) -> io::Result<Rc<Self>> {
        let socket = sys::bind(source)?;
        socket.connect(to)?;
        Ok(Rc::new(Link { socket, sent: Cell::new(0), received: Cell::new(0), hook: RefCell::new(None) }))
    }

    /// Puts `hook` between libssl and the socket.
    pub fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.borrow_mut() = hook;
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Datagrams sent and received.
    pub fn datagrams(&self) -> (u64, u64) {
        (self.sent.get(), self.received.get())
    }

    /// Sends `datagram` past libssl and the hook: to the server it comes from this client.
    pub fn forge(&self, datagram: &[u8]) {
        // A full buffer and a closed port are the same as a loss on the way.
        let _ = self.socket.send(datagram);
    }

    fn passes(&self, direction: Direction, datagram: &[u8]) -> bool {
        // Taken out meanwhile, so that a hook may set another one.
        let Some(mut hook) = self.hook.take() else { return true };
        let passes = hook(self, direction, datagram);
        self.hook.borrow_mut().get_or_insert(hook);
        passes
    }
}

impl Carrier for Link {
    fn send(&self, datagram: &[u8]) {
        if self.passes(Direction::Out, datagram) {
            self.forge(datagram);
            self.sent.set(self.sent.get() + 1);
        }
    }

    /// A closed port is no error: datagrams to it are merely lost.
    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match self.socket.recv(buffer) {
                Ok(len) if self.passes(Direction::In, &buffer[..len]) => {
                    self.received.set(self.received.get() + 1);
                    return Some(len);
                }
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return None,
            }
        }
    }
}

/// When a client repeats its flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// As OpenSSL does it: after 1, 2, 4 s and so on.
    Openssl,
    /// After 100 ms, doubled up to 1 s.
    Fast,
}

impl std::str::FromStr for Timer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "openssl" => Ok(Timer::Openssl),
            "fast" => Ok(Timer::Fast),
            _ => Err("openssl or fast".to_owned()),
        }
    }
}

/// What all clients of a run share.
#[derive(Clone)]
pub struct Profile {
    context: SslContext,
    timer: Timer,
    session: Option<SslSession>,
    asks: bool,
}

impl Profile {
    /// Clients that trust `ca`, or anybody when there is none.
    pub fn new(ca: Option<&Path>, timer: Timer) -> Result<Self, String> {
        Self::with_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20", ca, timer)
    }

    /// The same with ciphers of their own.
    pub fn with_ciphers(ciphers: &str, ca: Option<&Path>, timer: Timer) -> Result<Self, String> {
        let build = || -> Result<SslContext, ErrorStack> {
            let mut builder = SslContext::builder(SslMethod::dtls_client())?;
            builder.set_cipher_list(ciphers)?;
            builder.set_verify(SslVerifyMode::NONE);
            if let Some(ca) = ca {
                builder.set_ca_file(ca)?;
                builder.set_verify(SslVerifyMode::PEER);
            }
            Ok(builder.build())
        };
        let context = build().map_err(|why| match ca {
            Some(ca) => format!("CA file {}: {why}", ca.display()),
            None => why.to_string(),
        })?;
        Ok(Profile { context, timer, session: None, asks: false })
    }

    /// The same, offering `session` for resumption. Each of them gets a copy: libssl lets nobody resume any more what a
    /// client had that vanished without a goodbye.
    pub fn resuming(self, session: SslSession) -> Self {
        Profile { session: Some(copy(&session)), ..self }
    }

    /// The same, for whom a handshake is not over before a message was answered.
    pub fn asking(self) -> Self {
        Profile { asks: true, ..self }
    }

    /// Whether they ask.
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// The timer of these clients.
    pub fn timer(&self) -> Timer {
        self.timer
    }
}

/// A session that shares nothing with this one.
fn copy(session: &SslSession) -> SslSession {
    // SAFETY: the session is valid; what comes of it is the caller's.
    let copy = unsafe { SSL_SESSION_dup(session.as_ptr()) };
    assert!(!copy.is_null(), "no memory for a session");
    // SAFETY: it is owned by nobody else.
    unsafe { SslSession::from_ptr(copy) }
}

/// How far a handshake has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is finished.
    Done,
    /// The peer has the word.
    Waiting,
    /// libssl gave it up, and why.
    Failed(String),
}

/// What a look into the socket gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A message of that length.
    Message(usize),
    /// Nothing more for now.
    Nothing,
    /// The connection has ended, and why.
    Ended(String),
}

/// A DTLS client; dropping it says nothing to the server.
pub struct Client<C = Link> {
    ssl: Ssl,
    link: Rc<C>,
}

impl<C: Carrier + 'static> Client<C> {
    /// A client on `link` that has not sent anything yet. Two on one link are to the server one peer that starts anew.
    pub fn new(profile: &Profile, link: Rc<C>) -> Result<Self, String> {
        let mut ssl = Ssl::new(&profile.context).map_err(|why| why.to_string())?;
        ssl.set_connect_state();
        if let Some(session) = &profile.session {
            // SAFETY: the session was made by a client with this very context.
            unsafe { ssl.set_session(&copy(session)) }.map_err(|why| why.to_string())?;
        }
        let method = bio_method();
        // The BIO's data is a thin pointer to a carrier of any kind.
        let carrier: Box<Rc<dyn Carrier>> = Box::new(link.clone());
        // SAFETY: the method lives for ever; SSL_set_bio takes the one reference to the BIO, and with it the box that
        // its destroy callback gives back.
        unsafe {
            let bio = ffi::BIO_new(method);
            if bio.is_null() {
                return Err(ErrorStack::get().to_string());
            }
            ffi::BIO_set_data(bio, Box::into_raw(carrier).cast());
            ffi::BIO_set_init(bio, 1);
            ffi::SSL_set_bio(ssl.as_ptr(), bio, bio);
            if profile.timer == Timer::Fast {
                DTLS_set_timer_cb(ssl.as_ptr(), Some(fast_timer));
            }
        }
        Ok(Client { ssl, link })
    }

    /// The link below.
    pub fn link(&self) -> &Rc<C> {
        &self.link
    }

    /// Goes on with the handshake as far as it goes.
    pub fn handshake(&mut self) -> Step {
        ErrorStack::get();
        // SAFETY: the SSL is valid and used by nobody else meanwhile.
        let result = unsafe { ffi::SSL_do_handshake(self.ssl.as_ptr()) };
        match self.outcome(result) {
            ffi::SSL_ERROR_NONE => Step::Done,
            ffi::SSL_ERROR_WANT_READ | ffi::SSL_ERROR_WANT_WRITE => Step::Waiting,
            code => Step::Failed(reason(code)),
        }
    }

    /// How long until the flight is to be repeated; `None` when no timer runs.
    pub fn timeout(&self) -> Option<Duration> {
        let mut left = libc::timeval { tv_sec: 0, tv_usec: 0 };
        // SAFETY: DTLSv1_get_timeout writes one timeval.
        let running =
            unsafe { ffi::SSL_ctrl(self.ssl.as_ptr(), DTLS_CTRL_GET_TIMEOUT, 0, (&raw mut left).cast::<c_void>()) };
        (running == 1).then(|| Duration::new(left.tv_sec as u64, left.tv_usec as u32 * 1000))
    }

    /// Repeats the flight when it is time; an error when libssl has repeated it often enough.
    pub fn handle_timeout(&mut self) -> Result<(), String> {
        ErrorStack::get();
        // SAFETY: DTLSv1_handle_timeout takes no argument.
        let result = unsafe { ffi::SSL_ctrl(self.ssl.as_ptr(), DTLS_CTRL_HANDLE_TIMEOUT, 0, std::ptr::null_mut()) };
        if result < 0 { Err(reason(ffi::SSL_ERROR_SSL)) } else { Ok(()) }
    }

    /// Sends one message.
    pub fn write(&mut self, message: &[u8]) -> Result<(), String> {
        ErrorStack::get();
        // SAFETY: libssl reads `message.len()` bytes of `message`.
        let result = unsafe { ffi::SSL_write(self.ssl.as_ptr(), message.as_ptr().cast(), message.len() as c_int) };
        match self.outcome(result) {
            ffi::SSL_ERROR_NONE => Ok(()),
            code => Err(reason(code)),
        }
    }

    /// Takes the next message out of what the socket holds.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        ErrorStack::get();
        // SAFETY: libssl writes at most `buffer.len()` bytes into `buffer`.
        let result = unsafe { ffi::SSL_read(self.ssl.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len() as c_int) };
        match self.outcome(result) {
            ffi::SSL_ERROR_NONE => Read::Message(result as usize),
            ffi::SSL_ERROR_WANT_READ | ffi::SSL_ERROR_WANT_WRITE => Read::Nothing,
            ffi::SSL_ERROR_ZERO_RETURN => Read::Ended("closed by the server".to_owned()),
            code => Read::Ended(reason(code)),
        }
    }

    /// Says close_notify, so that the server can let go.
    pub fn close(self) {
        // SAFETY: the SSL is valid. What the call says matters to nobody any more.
        unsafe { ffi::SSL_shutdown(self.ssl.as_ptr()) };
    }

    /// The session, once the handshake is finished.
    pub fn session(&self) -> Option<SslSession> {
        self.ssl.session().map(|session| session.to_owned())
    }

    /// Whether a session was resumed.
    pub fn resumed(&self) -> bool {
        self.ssl.session_reused()
    }

    fn outcome(&self, result: c_int) -> c_int {
        if result > 0 {
            return ffi::SSL_ERROR_NONE;
        }
        // SAFETY: the SSL is valid and `result` is what its last function returned.
        unsafe { ffi::SSL_get_error(self.ssl.as_ptr(), result) }
    }
}

/// What libssl says about an error, in its own words.
fn reason(code: c_int) -> String {
    let errors = ErrorStack::get();
    errors.errors().first().map_or(format!("SSL error {code}"), |error| error.reason().unwrap_or("unknown").to_owned())
}

/// The first flight of a client that has no cookie: one ClientHello as OpenSSL makes it.
pub fn client_hello(profile: &Profile) -> Result<Vec<u8>, String> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let link = Link::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), nowhere).map_err(|why| why.to_string())?;
    let hello = Rc::new(RefCell::new(Vec::new()));
    let caught = hello.clone();
    link.set_hook(Some(Box::new(move |_, direction, datagram| {
        if direction == Direction::Out {
            *caught.borrow_mut() = datagram.to_vec();
        }
        false
    })));
    Client::new(profile, link)?.handshake();
    Ok(hello.take())
}

unsafe extern "C" {
    fn SSL_SESSION_dup(session: *const ffi::SSL_SESSION) -> *mut ffi::SSL_SESSION;
    fn DTLS_set_timer_cb(ssl: *mut ffi::SSL, cb: Option<unsafe extern "C" fn(*mut ffi::SSL, c_uint) -> c_uint>);
}

// What the macros of <openssl/ssl.h> and <openssl/bio.h> stand for.
const DTLS_CTRL_GET_TIMEOUT: c_int = 73;
const DTLS_CTRL_HANDLE_TIMEOUT: c_int = 74;
const BIO_CTRL_DGRAM_GET_FALLBACK_MTU: c_int = 47;
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;

/// Payload of a datagram on a link of 1500 bytes, and what libssl falls back to after repeated loss.
const MTU: c_long = 1472;
const FALLBACK_MTU: c_long = 1200;

unsafe extern "C" fn fast_timer(_: *mut ffi::SSL, last_us: c_uint) -> c_uint {
    if last_us == 0 { 100_000 } else { last_us.saturating_mul(2).min(1_000_000) }
}

fn bio_method() -> *mut ffi::BIO_METHOD {
    struct Method(*mut ffi::BIO_METHOD);
    // SAFETY: the method is written to while it is made and only read afterwards.
    unsafe impl Send for Method {}
    // SAFETY: as above.
    unsafe impl Sync for Method {}
    static METHOD: OnceLock<Method> = OnceLock::new();
    const NAME: &CStr = c"dv-load link";
    METHOD
        .get_or_init(|| {
            // SAFETY: the callbacks have the types that libcrypto calls them with.
            unsafe {
                let method = ffi::BIO_meth_new(BIO_TYPE_SOURCE_SINK, NAME.as_ptr());
                assert!(!method.is_null(), "no memory for a BIO method");
                ffi::BIO_meth_set_write__fixed_rust(method, Some(bio_write));
                ffi::BIO_meth_set_read__fixed_rust(method, Some(bio_read));
                ffi::BIO_meth_set_ctrl__fixed_rust(method, Some(bio_ctrl));
                ffi::BIO_meth_set_destroy__fixed_rust(method, Some(bio_destroy));
                Method(method)
            }
        })
        .0
}

/// The carrier of a BIO.
///
/// # Safety
/// `bio` was made by [`Client::new`], and its destroy callback has not run.
unsafe fn carrier<'a>(bio: *mut ffi::BIO) -> &'a dyn Carrier {
    // SAFETY: the BIO's data is a box that the BIO owns.
    unsafe { &**ffi::BIO_get_data(bio).cast::<Rc<dyn Carrier>>() }
}

unsafe extern "C" fn bio_write(bio: *mut ffi::BIO, bytes: *const c_char, len: c_int) -> c_int {
    // SAFETY: libssl passes a BIO of ours and `len` readable bytes.
    unsafe { carrier(bio).send(std::slice::from_raw_parts(bytes.cast(), len as usize)) };
    len
}

unsafe extern "C" fn bio_read(bio: *mut ffi::BIO, bytes: *mut c_char, len: c_int) -> c_int {
    // SAFETY: libssl passes a BIO of ours and `len` writable bytes.
    unsafe {
        ffi::BIO_clear_retry_flags(bio);
        match carrier(bio).receive(std::slice::from_raw_parts_mut(bytes.cast(), len as usize)) {
            Some(n) => n as c_int,
            None => {
                ffi::BIO_set_retry_read(bio);
                -1
            }
        }
    }
}

unsafe extern "C" fn bio_ctrl(_: *mut ffi::BIO, command: c_int, _: c_long, _: *mut c_void) -> c_long {
    match command {
        ffi::BIO_CTRL_FLUSH => 1,
        ffi::BIO_CTRL_DGRAM_QUERY_MTU => MTU,
        BIO_CTRL_DGRAM_GET_FALLBACK_MTU => FALLBACK_MTU,
        _ => 0,
    }
}

unsafe extern "C" fn bio_destroy(bio: *mut ffi::BIO) -> c_int {
    // SAFETY: called once for each BIO, as the last thing; the box was given to the BIO in Client::new.
    unsafe { drop(Box::from_raw(ffi::BIO_get_data(bio).cast::<Rc<dyn Carrier>>())) };
    1
}
