//! One SSL over the datagram BIO: the handshake, and application records under OpenSSL's protection.

mod hellos;

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::ptr::{self, NonNull};

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_long, c_uint};
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslCipherRef, SslContextRef, SslRef};
use openssl_sys::*;

pub use self::hellos::{Asked, Callback, NOBODY, Probe, cookie_asked, peer_bytes};
use super::bio::{self, Inbound, Outbound};
use super::cause;
use super::ex_data::Slot;
use super::sys::*;
use crate::guard::guard;
use crate::wire::datagrams::Datagrams;
use crate::wire::handshake::{fragments, message_type::CERTIFICATE};
use crate::wire::record::content_type::HANDSHAKE;
use crate::wire::record::{FRAGMENT_MAX, PLAINTEXT_MAX, Record};
use crate::wire::routability::Check;

/// The smallest UDP payload that libssl works with (256 bytes less IPv6 and UDP headers).
pub const PAYLOAD_MIN: usize = 256 - 48;

/// The least that libssl takes for the length of its longest record.
const FRAGMENT_MIN: usize = 512;

/// How often libssl's own timer may expire before it is stopped: at the thirteenth time libssl gives the handshake up.
const EXPIRIES_MAX: u32 = 10;

/// libssl takes its timer to have run out 15 ms before it has. With so many microseconds more it runs out just before ours. And
/// it is never told 0, with which it asks at the beginning of a flight.
const TOO_EARLY: c_uint = 14_000;

/// libssl repeats no flight before its own timer has run out. Where our timer says when, its own is set to so many
/// microseconds.
const REPEATABLE_AFTER: c_uint = 40_000;

/// It runs out early so many times; later only together with ours. Anybody can send the records at which it is found to have
/// run out, and would use up [`EXPIRIES_MAX`] within half a second.
const EARLY_EXPIRIES: u32 = 3;

/// What a session is made with.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// Bytes of UDP payload of the largest datagram.
    pub payload: usize,
    /// Bytes of the peer's certificate chain that are taken in.
    pub max_certificate_chain: u32,
    /// Wait before the first repetition of a flight, in microseconds, and the longest wait.
    pub first_timeout: u64,
    pub longest_timeout: u64,
    /// OpenSSL's buffers are freed whenever the session is idle.
    pub release_buffers: bool,
    /// Nobody else writes on the SSL, so that its write buffer need not be larger than a datagram.
    pub sole_writer: bool,
}

/// What a step of a handshake has come to.
#[derive(Clone, Debug)]
pub enum Step {
    Finished,
    Waiting,
    Failed(ErrorStack),
}

/// What a protected record turned out to be.
#[derive(Clone, Debug)]
pub enum Opened {
    /// A message, pushed to the messages.
    Message,
    /// Authentic, but nothing for the program: it has no content, say, or asks for a renegotiation.
    Empty,
    /// Nothing for the program: not authentic, a replay, or part of a handshake.
    Nothing,
    /// The peer's Finished again: our last flight has not arrived.
    Finished,
    /// A message about the peer's address (RFC 9853).
    Check(Check),
    CloseNotify,
    Failed(ErrorStack),
}

/// What libssl's callbacks need to know of an SSL, hung on it until its handshake is over.
#[derive(Default)]
struct Mark {
    /// Our own stateless stage has verified the cookie of this SSL's hello.
    cookie_proven: Cell<bool>,
    /// In a probe: the first of our callbacks that was called.
    asked: Cell<Option<Callback>>,
    first_timeout: Cell<c_uint>,
    longest_timeout: Cell<c_uint>,
    expiries: Cell<c_uint>,
    /// It is we who run libssl, and no C caller with SSL_accept and the like: our timer says when a flight is repeated, and
    /// has so many microseconds left.
    ours_has_left: Cell<Option<c_uint>>,
}

static MARK: Slot<SSL, Mark> = Slot::new();

/// An SSL with a pair of datagram BIOs.
///
/// It owns the SSL, unless [`Session::give_away_ssl`] gave it away: then whoever has it frees it, and this session must be
/// dropped or left alone from that moment on. Laid out in this order: no message needs what comes last.
#[repr(C)]
pub struct Session {
    ssl: NonNull<SSL>,
    /// What libssl takes for the largest datagram.
    payload: u16,
    owned: bool,
    buffers_released: bool,
    inbound: NonNull<Inbound>,
    outbound: NonNull<Outbound>,
    /// References of our own: a C caller may give the SSL other BIOs.
    bios: [*mut BIO; 2],
}

// SAFETY: an SSL may be used by any thread, one at a time, and `&mut self` sees to that.
unsafe impl Send for Session {}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session owns the SSL, unless it gave it away, and a reference to each BIO.
        unsafe {
            if self.owned {
                if self.is_finished() {
                    // libssl forgets the session of an SSL without close_notify, but it may be resumed (RFC 5246 7.2.1).
                    SSL_set_shutdown(self.ssl.as_ptr(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
                }
                SSL_free(self.ssl.as_ptr());
            }
            for bio in self.bios {
                BIO_free(bio);
            }
        }
    }
}

impl Session {
    /// A server's side.
    pub fn accept(context: &SslContextRef, peer: SocketAddr, with: &Parameters) -> Result<Session, ErrorStack> {
        let mut session = Session::new(context, peer, with)?;
        session.ssl_mut().set_accept_state();
        Ok(session)
    }

    /// A client's side. [`Session::handshake`] with an empty record writes the first hello.
    pub fn connect(context: &SslContextRef, peer: SocketAddr, with: &Parameters) -> Result<Session, ErrorStack> {
        let mut session = Session::new(context, peer, with)?;
        session.ssl_mut().set_connect_state();
        session.outbound().begin_handshake(0);
        session.inbound().begin_handshake(0);
        Ok(session)
    }

    fn new(context: &SslContextRef, peer: SocketAddr, with: &Parameters) -> Result<Session, ErrorStack> {
        let rbio = bio::new_inbound(Inbound::new(peer));
        let wbio = bio::new_outbound(Outbound::new(with.payload, peer));
        // SAFETY: the context is live. The SSL owns the BIOs once they are set, and the session a reference to each; until
        // then they are freed here.
        let mut session = unsafe {
            // Not SSL_new: callbacks of a Rust program find their closures by what the crate hangs on the SSL.
            let (Ok(ssl), Some(inbound), Some(outbound)) =
                (Ssl::new(context), bio::inbound_state(rbio), bio::outbound_state(wbio))
            else {
                BIO_free_all(rbio);
                BIO_free_all(wbio);
                return Err(ErrorStack::get());
            };
            let ssl = ManuallyDrop::new(ssl).as_ptr();
            BIO_up_ref(rbio);
            BIO_up_ref(wbio);
            SSL_set_bio(ssl, rbio, wbio);
            Session {
                ssl: NonNull::new_unchecked(ssl),
                bios: [rbio, wbio],
                inbound,
                outbound,
                payload: 0,
                owned: true,
                buffers_released: false,
            }
        };
        session.configure(with)?;
        Ok(session)
    }

    fn configure(&mut self, with: &Parameters) -> Result<(), ErrorStack> {
        let ssl = self.ssl.as_ptr();
        let mark = Mark {
            first_timeout: Cell::new(c_uint::try_from(with.first_timeout).unwrap_or(c_uint::MAX)),
            longest_timeout: Cell::new(c_uint::try_from(with.longest_timeout).unwrap_or(c_uint::MAX)),
            ..Mark::default()
        };
        // SAFETY: the SSL is live, and nobody else uses it.
        unsafe {
            // On an SSL for TLS, libssl's functions for DTLS write to memory that is not there.
            if SSL_is_dtls(ssl) == 0 {
                return Err(cause::not_for_dtls());
            }
            if !MARK.set(ssl, mark) {
                return Err(ErrorStack::get());
            }
            // With encrypt-then-MAC, libssl 3.0 gives the connection up at the first record that is not authentic. Empty
            // fragments are for TLS 1.0, but room would be kept for them.
            let options = SSL_OP_NO_QUERY_MTU
                | SSL_OP_NO_RENEGOTIATION
                | SSL_OP_NO_ENCRYPT_THEN_MAC
                | SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS;
            SSL_set_options(ssl, options);
            // RFC 8996 forbids DTLS 1.0, and DTLSv1_listen does not support 1.3.
            SSL_set_min_proto_version(ssl, DTLS1_2_VERSION);
            SSL_set_max_proto_version(ssl, DTLS1_2_VERSION);
            SSL_ctrl(ssl, SSL_CTRL_SET_MAX_CERT_LIST, with.max_certificate_chain as c_long, ptr::null_mut());
            // libssl gives the connection up at a longer record than this. What a program writes itself need not fit in a
            // datagram, and may have 16 KB, whatever the context says.
            let longest =
                if with.sole_writer { with.payload.clamp(FRAGMENT_MIN, PLAINTEXT_MAX) } else { PLAINTEXT_MAX };
            SSL_ctrl(ssl, SSL_CTRL_SET_MAX_SEND_FRAGMENT, longest as c_long, ptr::null_mut());
            if with.release_buffers {
                // OpenSSL 3.0 ignores it for DTLS. Since 3.2 it keeps buffers for each epoch, out of reach of SSL_free_buffers.
                SSL_ctrl(ssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, ptr::null_mut());
            }
            DTLS_set_timer_cb(ssl, Some(timer));
        }
        self.set_payload(with.payload);
        Ok(())
    }

    /// The SSL, for what the program may read from it.
    pub fn ssl(&self) -> &SslRef {
        // SAFETY: the SSL is live as long as the session is used.
        unsafe { SslRef::from_ptr(self.ssl.as_ptr()) }
    }

    /// The SSL, for what is to be set before the handshake.
    pub fn ssl_mut(&mut self) -> &mut SslRef {
        // SAFETY: as in `ssl`, and nobody else has it.
        unsafe { SslRef::from_ptr_mut(self.ssl.as_ptr()) }
    }

    /// Gives the SSL to somebody else, who frees it.
    pub fn give_away_ssl(&mut self) -> NonNull<SSL> {
        self.owned = false;
        self.outbound().give_away();
        self.ssl
    }

    /// What libssl reads.
    pub fn inbound(&mut self) -> &mut Inbound {
        // SAFETY: the state lives as long as the BIO, the BIO as long as the session, and libssl is not running.
        unsafe { self.inbound.as_mut() }
    }

    /// What has to leave.
    pub fn outbound(&mut self) -> &mut Outbound {
        // SAFETY: as in `inbound`.
        unsafe { self.outbound.as_mut() }
    }

    /// From here on flights are kept. `sequence` is that of the hello's record: our answer has it too.
    pub fn begin_handshake(&mut self, sequence: u64) {
        self.outbound().begin_handshake(sequence);
        self.inbound().begin_handshake(sequence + 1);
    }

    /// The handshake is over. Its last flight stays until the peer is known to have it.
    pub fn end_handshake(&mut self) {
        self.outbound().end_handshake();
        // SAFETY: the SSL is live, and no callback that looks at it runs now.
        unsafe { MARK.clear(self.ssl.as_ptr()) };
    }

    fn mark(&self) -> Option<&Mark> {
        // SAFETY: the SSL is live.
        unsafe { MARK.get(self.ssl.as_ptr()) }
    }

    /// Lets libssl read `record`, or nothing if it is empty, and go on with the handshake. Our timer has `left` microseconds.
    pub fn handshake(&mut self, record: &[u8], left: u64) -> Step {
        self.run_by_us(Some(left));
        // It repeats its flight at any record once its timer has run out.
        self.outbound().want_repetitions(false);
        self.outbound().mark();
        self.lend(record);
        clear_errors();
        // SAFETY: the SSL is live.
        let (result, error) = unsafe {
            let result = SSL_do_handshake(self.ssl.as_ptr());
            (result, SSL_get_error(self.ssl.as_ptr(), result))
        };
        self.inbound().take_back();
        self.outbound().want_repetitions(true);
        self.run_by_us(None);
        match (result, error) {
            (1, _) => Step::Finished,
            (_, SSL_ERROR_SSL | SSL_ERROR_SYSCALL | SSL_ERROR_ZERO_RETURN) => Step::Failed(self.why_failed(record)),
            _ => Step::Waiting,
        }
    }

    /// Why libssl has given up at `record`. Of a message that is longer than the certificate chain may be it says no more than
    /// that, and nothing at all when the message comes in pieces.
    fn why_failed(&self, record: &[u8]) -> ErrorStack {
        let why = cause::errors();
        // SAFETY: the SSL is live.
        let most = unsafe { SSL_ctrl(self.ssl.as_ptr(), SSL_CTRL_GET_MAX_CERT_LIST, 0, ptr::null_mut()) };
        let in_clear =
            Record::parse(record).filter(|(record, _)| record.content_type == HANDSHAKE && record.epoch == 0);
        let too_long = in_clear
            .and_then(|(record, _)| fragments(record.fragment()).find(|found| found.message_type == CERTIFICATE))
            .filter(|certificate| certificate.length > most as usize);
        match (too_long, why.errors().iter().all(|error| error.reason_code() == SSL_R_EXCESSIVE_MESSAGE_SIZE)) {
            (Some(certificate), true) => cause::certificates_too_long(certificate.length, most as usize),
            _ => why,
        }
    }

    /// Whether the peer's ChangeCipherSpec has come and its Finished has not.
    pub fn awaits_finished(&self) -> bool {
        // libssl's numbers for states differ between versions, its texts do not.
        self.ssl().state_string() == "TRCCS"
    }

    /// Whether the server's hello has come, and not all of its certificate.
    pub fn awaits_certificate(&self) -> bool {
        self.ssl().state_string() == "TRSH"
    }

    /// Whether flights need libssl to be repeated: they hold a Finished that the peer must answer, and the copy of a
    /// record that the peer has seen is a replay to it. [`Session::write_again`] makes new records.
    pub fn repeats_by_libssl(&self) -> bool {
        repeats_by_libssl(self.ssl())
    }

    /// Whether the handshake is over.
    pub fn is_finished(&self) -> bool {
        self.ssl().is_init_finished()
    }

    /// Lets libssl write its last flight again. Where it has done so a moment ago, or the wall clock, which its timer goes by,
    /// was set back, nothing is written.
    pub fn write_again(&mut self, left: u64) -> bool {
        self.run_by_us(Some(left));
        self.outbound().mark();
        clear_errors();
        // SAFETY: the SSL is live.
        unsafe { SSL_ctrl(self.ssl.as_ptr(), DTLS_CTRL_HANDLE_TIMEOUT, 0, ptr::null_mut()) };
        clear_errors();
        self.run_by_us(None);
        self.outbound().waits()
    }

    fn run_by_us(&self, left: Option<u64>) {
        let left = left.map(|left| c_uint::try_from(left).unwrap_or(c_uint::MAX).saturating_add(TOO_EARLY));
        self.mark().iter().for_each(|mark| mark.ours_has_left.set(left));
    }

    /// Opens one protected record.
    pub fn open(&mut self, record: &[u8], messages: &mut Datagrams) -> Opened {
        self.acquire_buffers();
        self.lend(record);
        let mut result = 0;
        // A message is never longer than its record.
        let len = messages.push_with(record.len().min(FRAGMENT_MAX), |room| {
            // SAFETY: the SSL is live, the room is as long as is said.
            result = unsafe { SSL_read(self.ssl.as_ptr(), room.as_mut_ptr().cast(), room.len() as c_int) };
            (result > 0).then_some(result as usize)
        });
        self.inbound().take_back();
        if len { Opened::Message } else { self.not_opened(result) }
    }

    /// Why SSL_read gave no message, as the SSL itself tells it: to see to it that the queue of errors is empty before each
    /// SSL_read, as SSL_get_error needs it, would cost more than all else that we do for a message.
    #[cold]
    fn not_opened(&mut self, result: c_int) -> Opened {
        let ssl = self.ssl.as_ptr();
        // Emptied in any case: the program would take what is left there for the cause of its own failures.
        let why = cause::errors();
        // SAFETY: the SSL is live.
        unsafe {
            if SSL_want(ssl) != SSL_NOTHING {
                return Opened::Nothing;
            }
            // A fatal error has taken libssl back into the handshake, in which it waits for nothing any more. Its function for
            // the state gives the last one before the error.
            if SSL_is_init_finished(ssl) == 0 {
                return Opened::Failed(why);
            }
            if SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN != 0 {
                return Opened::CloseNotify;
            }
        }
        // SSL_read has no other word for no bytes (openssl#27316).
        if result == 0 { Opened::Empty } else { Opened::Failed(why) }
    }

    /// Protects one message: one record, one datagram. It must not be longer than [`Session::message_max`].
    pub fn seal(&mut self, message: &[u8]) -> Result<(), ErrorStack> {
        self.acquire_buffers();
        self.outbound().mark();
        // SAFETY: the SSL is live, the message is as long as is said.
        let written = unsafe { SSL_write(self.ssl.as_ptr(), message.as_ptr().cast(), message.len() as c_int) };
        if written > 0 { Ok(()) } else { Err(cause::errors()) }
    }

    /// Bytes of the longest message that fits in a datagram and that libssl takes, once the handshake is over. The client
    /// may have asked for short records (RFC 6066 4): libssl gives the connection up at a longer one.
    pub fn message_max(&self) -> usize {
        // SAFETY: the SSL is live, and its session as long as nobody changes that.
        let (data_mtu, length_code) = unsafe {
            let session = SSL_get_session(self.ssl.as_ptr());
            let code = if session.is_null() { 0 } else { SSL_SESSION_get_max_fragment_length(session) };
            (DTLS_get_data_mtu(self.ssl.as_ptr()), code)
        };
        data_mtu.min(match length_code {
            code @ 1..=4 => 256 << code,
            _ => PLAINTEXT_MAX,
        })
    }

    /// See [`fragment_min`]; 0 before the cipher is known.
    pub fn fragment_min(&self) -> usize {
        fragment_min(self.ssl())
    }

    /// Writes a close_notify alert.
    pub fn shutdown(&mut self) {
        self.acquire_buffers();
        clear_errors();
        // SAFETY: the SSL is live.
        unsafe { SSL_shutdown(self.ssl.as_ptr()) };
        clear_errors();
    }

    /// Datagrams have at most `payload` bytes from now on, if that is less than before, those of the last flight too.
    pub fn lower_payload(&mut self, payload: usize) {
        let payload = payload.min(self.payload.into());
        self.set_payload(payload);
        self.outbound().set_mtu(payload);
    }

    /// Gives back the 33 KB that an idle SSL of OpenSSL 3.0 holds. A direct SSL_write by the program would crash then.
    pub fn release_buffers(&mut self) {
        if !self.buffers_released {
            // SAFETY: the SSL is live; with data waiting libssl refuses and says so.
            self.buffers_released = unsafe { SSL_free_buffers(self.ssl.as_ptr()) == 1 };
        }
    }

    #[inline]
    fn acquire_buffers(&mut self) {
        if self.buffers_released {
            // SAFETY: the SSL is live.
            self.buffers_released = unsafe { SSL_alloc_buffers(self.ssl.as_ptr()) != 1 };
        }
    }

    fn lend(&mut self, record: &[u8]) {
        if !record.is_empty() {
            self.inbound().lend(record);
        }
    }

    fn set_payload(&mut self, payload: usize) {
        self.payload = u16::try_from(payload.max(PAYLOAD_MIN)).unwrap_or(u16::MAX);
        // SAFETY: the SSL is live.
        unsafe { SSL_set_mtu(self.ssl.as_ptr(), self.payload.into()) };
    }
}

/// Bytes of the shortest protected fragment that is safe to show to libssl: it gives the connection up at one that has no
/// room for nonce and tag. 0 before the cipher is known.
pub fn fragment_min(ssl: &SslRef) -> usize {
    const TAG: usize = 16;
    const NONCE: usize = 8;
    // SAFETY: ciphers are static.
    let is_aead = |cipher: &&SslCipherRef| unsafe { SSL_CIPHER_is_aead(cipher.as_ptr()) == 1 };
    ssl.current_cipher().filter(is_aead).map_or(0, |cipher| {
        // ChaCha20-Poly1305 sends no nonce, CCM8 half a tag.
        let shorter = ["CHACHA20", "CCM8"].iter().any(|part| cipher.name().contains(part));
        if shorter { TAG } else { NONCE + TAG }
    })
}

/// SSL_get_error is only right when the queue was empty before; to look is ten times as quick as to clear it.
#[inline]
fn clear_errors() {
    // SAFETY: both are about this thread's queue alone.
    unsafe {
        if ERR_peek_error() != 0 {
            ERR_clear_error();
        }
    }
}

fn repeats_by_libssl(ssl: &SslRef) -> bool {
    !ssl.is_server() || ssl.session_reused()
}

/// Sets libssl's timer. Where we repeat the flights ourselves it must not run out: libssl sends one message a datagram
/// and goes by the wall clock.
unsafe extern "C" fn timer(ssl: *mut SSL, last: c_uint) -> c_uint {
    guard(c_uint::MAX, || {
        // SAFETY: libssl calls this with a live SSL.
        let Some(mark) = (unsafe { MARK.get(ssl) }) else { return c_uint::MAX };
        // SAFETY: as above.
        if !repeats_by_libssl(unsafe { SslRef::from_ptr(ssl) }) {
            return c_uint::MAX;
        }
        mark.expiries.set(if last == 0 { 0 } else { mark.expiries.get() + 1 });
        let (first, longest) = (mark.first_timeout.get(), mark.longest_timeout.get());
        match (mark.expiries.get(), mark.ours_has_left.get()) {
            (expiries, _) if expiries > EXPIRIES_MAX => c_uint::MAX,
            (expiries, Some(_)) if expiries < EARLY_EXPIRIES => first.min(REPEATABLE_AFTER),
            (_, Some(left)) => left,
            (0, None) => first,
            // The last one may have been one of ours.
            (_, None) => last.saturating_mul(2).max(first).min(longest),
        }
    })
}

#[cfg(test)]
mod tests {
    use openssl::ssl::{SslContext, SslMethod};

    use super::*;

    /// Only where we run libssl does our timer stand behind its own.
    #[test]
    fn a_c_caller_who_runs_libssl_has_the_timer_that_was_asked_for() {
        const DTLS_CTRL_GET_TIMEOUT: c_int = 73;
        const ASKED_FOR: i64 = 1_000_000;
        let context = SslContext::builder(SslMethod::dtls()).unwrap().build();
        let with = Parameters { first_timeout: ASKED_FOR as u64, longest_timeout: 8_000_000, ..Parameters::FOR_HELLOS };
        let left_after = |run: fn(&mut Session)| {
            let mut session = Session::connect(&context, NOBODY, &with).unwrap();
            run(&mut session);
            let mut left = libc::timeval { tv_sec: 0, tv_usec: 0 };
            // SAFETY: the SSL is live, and a timeval is what this writes.
            let runs = unsafe { SSL_ctrl(session.ssl.as_ptr(), DTLS_CTRL_GET_TIMEOUT, 0, (&raw mut left).cast()) };
            assert_eq!(runs, 1);
            left.tv_sec * 1_000_000 + left.tv_usec
        };
        // SAFETY: the SSL is live.
        let by_hand = left_after(|session| unsafe { assert_eq!(SSL_do_handshake(session.ssl.as_ptr()), -1) });
        let by_us = left_after(|session| assert!(matches!(session.handshake(&[], ASKED_FOR as u64), Step::Waiting)));
        assert!((i64::from(REPEATABLE_AFTER) + 1..=ASKED_FOR).contains(&by_hand), "{by_hand}");
        assert!((0..=i64::from(REPEATABLE_AFTER)).contains(&by_us), "{by_us}");
    }

    /// Records that come when our timer has run out, and nothing was done about that yet, do not make libssl give up.
    #[test]
    fn however_often_its_timer_is_found_to_have_run_out_libssl_goes_on() {
        let context = SslContext::builder(SslMethod::dtls()).unwrap().build();
        let with = Parameters { first_timeout: 1, longest_timeout: 1, ..Parameters::FOR_HELLOS };
        let mut session = Session::connect(&context, NOBODY, &with).unwrap();
        for _ in 0..40 {
            assert!(matches!(session.handshake(&[], 0), Step::Waiting));
        }
    }
}
