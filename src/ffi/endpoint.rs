//! The endpoint: DTLS for any number of peers without a socket. Datagrams and time go in; datagrams, events and the next
//! deadline come out, and nothing is called back.
//!
//! An endpoint is used by one thread at a time; different endpoints need no lock between them.

use std::cell::Cell;
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU64;

use foreign_types::ForeignTypeRef;
use libc::{AF_UNSPEC, c_char, c_int, c_void, size_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use openssl::ssl::SslContextRef;
use openssl_sys::SSL_CTX;

use super::address::{address_from, address_of, address_of_ip, sockaddr_from};
use super::config::dv_config;
use super::error::{Failure, guard_result, guard_result_uncancelled, invalid};
use super::running::{live, own};
use super::version::check_openssl;
use crate::engine::connection::CloseReason;
use crate::engine::endpoint::{Connect, Endpoint, Error, Event, Session};
use crate::guard::guard;
use crate::log::log;
use crate::tls::resumption::Resumption;

/// An endpoint: a DTLS server, a client, or both, for any number of peers.
#[allow(non_camel_case_types)]
pub struct dv_endpoint {
    /// Each call takes it out and puts it back: a callback of libssl that calls again in the middle finds nothing.
    pub(super) endpoint: Cell<Option<NonNull<Endpoint>>>,
    /// The worker's thread, of a handle that is [lent](dv_endpoint::lend): no other one looks into it.
    pub(super) lent_on: AtomicU64,
}

/// A session with one peer: a number, not a pointer. The number of a session that is over gives DV_ERR_STALE; 0
/// is none. It means something to its own endpoint or server alone.
#[allow(non_camel_case_types)]
pub type dv_session = u64;

/// What a client keeps of a session, to resume it later without certificates.
#[allow(non_camel_case_types)]
pub struct dv_resumption(pub(super) Resumption);

/// The address of a peer, or one of ours. The family says which member counts; all zero is no address.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub union dv_address {
    /// The address family.
    pub any: sockaddr,
    /// The address, when the family is AF_INET.
    pub v4: sockaddr_in,
    /// The address, when the family is AF_INET6.
    pub v6: sockaddr_in6,
}

/// A datagram that came in, or one that has to leave; or several of one length, as UDP_GRO and UDP_SEGMENT take them.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_datagram {
    /// The bytes.
    pub data: *const c_void,
    /// How many.
    pub len: size_t,
    /// 0: one datagram. Else the length of each, of which the last may be shorter.
    pub segment_size: size_t,
    /// From whom it came, or to whom it goes.
    pub peer: dv_address,
    /// Our address that it came to, or must leave from (its port is not looked at); all zero where that is not known.
    pub local: dv_address,
}

/// The handshake has finished: messages can be sent.
pub const DV_EVENT_OPENED: c_int = 1;
/// A message has come.
pub const DV_EVENT_MESSAGE: c_int = 2;
/// The session is over, for the reason that is given. Each session that was opened or connected has one such event.
pub const DV_EVENT_CLOSED: c_int = 3;
/// The peer has another address. dv_session_addresses gives it; dv_session_is_peer_proven says whether it has shown that it
/// receives there. Only with connection_ids.
pub const DV_EVENT_MOVED: c_int = 4;

/// The peer closed the session.
pub const DV_CLOSED_BY_PEER: c_int = 1;
/// The program closed it.
pub const DV_CLOSED_LOCALLY: c_int = 2;
/// The handshake failed, or the peer sent a fatal alert; see dv_session_failure.
pub const DV_CLOSED_FAILED: c_int = 3;
/// The handshake took too long.
pub const DV_CLOSED_HANDSHAKE_TIMEOUT: c_int = 4;
/// Nothing was heard for too long.
pub const DV_CLOSED_IDLE_TIMEOUT: c_int = 5;
/// The peer has begun anew, and finished another handshake from the same address.
pub const DV_CLOSED_RESTARTED: c_int = 6;
/// It made room for another session.
pub const DV_CLOSED_EVICTED: c_int = 7;
/// Its keys have protected as much as they may. Connect again.
pub const DV_CLOSED_EXHAUSTED: c_int = 8;
/// It was exported and goes on in another process.
pub const DV_CLOSED_EXPORTED: c_int = 9;

/// What has happened to a session.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_event {
    /// One of DV_EVENT_*.
    pub kind: c_int,
    /// One of DV_CLOSED_* with DV_EVENT_CLOSED, else 0.
    pub reason: c_int,
    /// The session.
    pub session: dv_session,
    /// What dv_session_set_user has attached to it.
    pub user: *mut c_void,
    /// The message with DV_EVENT_MESSAGE, else NULL. It stands there until the next dv_endpoint_event or dv_endpoint_receive,
    /// to which it must not be given; of a server, as long as the callback runs.
    pub data: *const c_void,
    /// Bytes of the message; 0 without one.
    pub len: size_t,
}

/// Makes an endpoint.
///
/// - `ctx`: the SSL_CTX that the sessions are made with: one for DTLS, with all set that they need (keys, certificates,
///   verify mode, ALPN and so on). Cookies are the endpoint's own matter: it sets the context's cookie callbacks
/// - `config`: how it is to behave; NULL: the defaults
/// - `endpoint`: receives the endpoint, or NULL
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a setting that makes no sense, for a context that is not for DTLS, and
/// for one with cookie callbacks of the program's own, unless `accept` is 0; DV_ERR_TLS when OpenSSL fails.
///
/// Ownership: the endpoint is the caller's, to be freed with dv_endpoint_free. It keeps a reference of its own to the
/// SSL_CTX.
///
/// # Safety
/// `ctx` is NULL or live; `config` is NULL or as dv_config_init left it or better; `endpoint` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_new(
    ctx: *mut SSL_CTX,
    config: *const dv_config,
    endpoint: *mut *mut dv_endpoint,
) -> c_int {
    guard_result_uncancelled("dv_endpoint_new", || {
        if endpoint.is_null() {
            return Err(invalid("endpoint is NULL"));
        }
        // SAFETY: the caller's promise.
        unsafe {
            *endpoint = ptr::null_mut();
            if ctx.is_null() {
                return Err(invalid("ctx is NULL"));
            }
            check_openssl()?;
            let config = dv_config::read(config)?;
            let made = Endpoint::new(SslContextRef::from_ptr(ctx).to_owned(), config)?;
            *endpoint = Box::into_raw(Box::new(dv_endpoint::new(made)));
        }
        Ok(0)
    })
}

/// Frees an endpoint. Its sessions are gone, and nothing is sent to their peers: to say goodbye, close the sessions and
/// transmit before.
///
/// In a callback of OpenSSL's in the middle of another call about the endpoint, nothing is freed; the log says so.
///
/// - `endpoint`: the endpoint, or NULL
///
/// # Safety
/// `endpoint` is NULL or came from dv_endpoint_new and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_free(endpoint: *mut dv_endpoint) {
    guard((), || {
        // SAFETY: the caller's promise.
        match unsafe { own(endpoint) } {
            // SAFETY: the caller's promise; it is none of a server's, so it came from dv_endpoint_new. The handle goes last:
            // callbacks that run while the sessions are freed find it empty.
            Ok(running) => unsafe {
                drop(running.into_box());
                drop(Box::from_raw(endpoint));
            },
            Err(_) if endpoint.is_null() => {}
            Err(why) => log!(Error, "dv_endpoint_free: {why}"),
        }
    });
}

/// Takes datagrams that have come in.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time in microseconds, of any clock that never goes back, such as CLOCK_MONOTONIC; it is the same one for
///   all calls, and a time before that of an earlier call counts as that
/// - `datagrams`: the datagrams
/// - `count`: how many
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when an address makes no sense or data is NULL; none of the datagrams was
/// taken then. What peers send is never an error: it is counted, or ends a session.
///
/// # Safety
/// `endpoint` is NULL or live; `datagrams` has `count` datagrams with their bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_receive(
    endpoint: *mut dv_endpoint,
    now_us: u64,
    datagrams: *const dv_datagram,
    count: size_t,
) -> c_int {
    guard_result_uncancelled("dv_endpoint_receive", || {
        // SAFETY: the caller's promise.
        let (mut endpoint, datagrams) = unsafe { (own(endpoint)?, array(datagrams, count, "datagrams")?) };
        // SAFETY: as above.
        let read = |datagram| unsafe { read(datagram) };
        // None is taken unless all make sense.
        datagrams.iter().try_for_each(|datagram| read(datagram).map(drop))?;
        for datagram in datagrams {
            let (peer, local, bytes) = read(datagram)?;
            let segment = if datagram.segment_size == 0 { datagram.len } else { datagram.segment_size };
            for datagram in bytes.chunks(segment.max(1)) {
                endpoint.receive(now_us, datagram, peer, local);
            }
        }
        Ok(0)
    })
}

/// Takes the next event.
///
/// - `endpoint`: the endpoint
/// - `event`: receives the event
///
/// Returns 1, or 0 when there is none, or a negative DV_ERR_*. After DV_EVENT_CLOSED the session can be asked until the
/// next event is taken.
///
/// # Safety
/// `endpoint` is NULL or live; `event` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_event(endpoint: *mut dv_endpoint, event: *mut dv_event) -> c_int {
    guard_result("dv_endpoint_event", || {
        // SAFETY: the caller's promise.
        let mut endpoint = unsafe { own(endpoint) }?;
        if event.is_null() {
            return Err(invalid("event is NULL"));
        }
        let Some((next, range)) = endpoint.next_event() else { return Ok(0) };
        let session = next.session();
        let user = endpoint.info(session).map_or(0, |info| info.user());
        let (kind, reason) = match next {
            Event::Opened { .. } => (DV_EVENT_OPENED, 0),
            Event::Message { .. } => (DV_EVENT_MESSAGE, 0),
            Event::Moved { .. } => (DV_EVENT_MOVED, 0),
            Event::Closed { reason, .. } => (DV_EVENT_CLOSED, reason_number(reason)),
        };
        let message = endpoint.message(range);
        let data = if kind == DV_EVENT_MESSAGE { message.as_ptr().cast() } else { ptr::null() };
        let user = ptr::with_exposed_provenance_mut(user as usize);
        // SAFETY: the caller's promise.
        unsafe { *event = dv_event { kind, reason, session: session.as_u64(), user, data, len: message.len() } };
        Ok(1)
    })
}

/// Gives the datagrams that have to leave, those of each session in their order. Call it until it gives 0, or whenever the
/// socket can be written to. What is given counts as sent: what the kernel does not take is lost, as any datagram may be.
///
/// - `endpoint`: the endpoint
/// - `out`: receives the datagrams; their bytes stand there until a function other than this one is called on the endpoint,
///   to which they must not be given
/// - `max`: how many fit at `out`
/// - `segments`: how many datagrams of one length to one peer may be joined into one of `out` (UDP_SEGMENT takes 64); 1
///   for a program that sends them one by one
///
/// Returns how many of `out` are filled, or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has room for `max` datagrams.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_transmit(
    endpoint: *mut dv_endpoint,
    out: *mut dv_datagram,
    max: size_t,
    segments: size_t,
) -> c_int {
    guard_result("dv_endpoint_transmit", || {
        // SAFETY: the caller's promise.
        let mut endpoint = unsafe { own(endpoint) }?;
        if (out.is_null() && max > 0) || segments == 0 {
            return Err(invalid("out is NULL, or segments is 0"));
        }
        let max = max.min(c_int::MAX as usize);
        let mut count = 0;
        // What is transmitted stays where it is until its connection is used for something else, or another datagram
        // is queued that no connection keeps: neither happens while this goes on.
        while count < max
            && let Some(transmit) = endpoint.transmit(segments)
        {
            let datagram = dv_datagram {
                data: transmit.bytes.as_ptr().cast(),
                len: transmit.bytes.len(),
                segment_size: transmit.segment_size.unwrap_or(0),
                peer: address_of(transmit.to),
                local: address_of_ip(transmit.from),
            };
            // SAFETY: the caller's promise; `count` is below `max`.
            unsafe { out.add(count).write(datagram) };
            count += 1;
        }
        Ok(count as c_int)
    })
}

/// Says when dv_endpoint_advance must be called.
///
/// - `endpoint`: the endpoint
///
/// Returns the time in microseconds, of the clock that the endpoint is given; UINT64_MAX: nothing will be due. For NULL, and in
/// a callback of OpenSSL's in the middle of another call about the endpoint, it is UINT64_MAX.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_deadline(endpoint: *const dv_endpoint) -> u64 {
    guard(u64::MAX, || {
        // SAFETY: the caller's promise.
        unsafe { live(endpoint) }.map_or(u64::MAX, |endpoint| endpoint.deadline())
    })
}

/// Does what is due: sends flights again, gives up handshakes and idle sessions. It takes a bounded time; where very much
/// is due, dv_endpoint_deadline is still not later than `now_us` after it, and another call does more.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time, as for dv_endpoint_receive
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_advance(endpoint: *mut dv_endpoint, now_us: u64) -> c_int {
    guard_result_uncancelled("dv_endpoint_advance", || {
        // SAFETY: the caller's promise.
        unsafe { own(endpoint) }?.advance(now_us);
        Ok(0)
    })
}

/// Begins a handshake with a server: its first datagram waits for dv_endpoint_transmit. DV_EVENT_OPENED tells when it has
/// finished, DV_EVENT_CLOSED that it did not.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time, as for dv_endpoint_receive
/// - `to`: the server's address
/// - `to_len`: its length in bytes
/// - `name`: the DNS name or IP address that the server's certificate must carry; a DNS name is told to the server (SNI).
///   NULL: any certificate will do that the SSL_CTX trusts
/// - `resume`: an earlier session with this server to resume, or NULL. When the server has forgotten it, or its certificate
///   would not do now, there is a whole handshake
/// - `session`: receives the session, or 0
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_EXISTS when there is a session that was connected to this server already,
/// DV_ERR_LIMIT at max_sessions, DV_ERR_INVALID for an address or a name that is none, DV_ERR_TLS when OpenSSL refuses, such as
/// with an SSL_CTX that is for servers only, DV_ERR_FORKED in the child of a fork.
///
/// # Safety
/// `endpoint` is NULL or live; `to` has `to_len` bytes; `name` is NULL or ends with NUL; `resume` is NULL or live;
/// `session` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_connect(
    endpoint: *mut dv_endpoint,
    now_us: u64,
    to: *const sockaddr,
    to_len: socklen_t,
    name: *const c_char,
    resume: *const dv_resumption,
    session: *mut dv_session,
) -> c_int {
    guard_result_uncancelled("dv_endpoint_connect", || {
        if session.is_null() {
            return Err(invalid("session is NULL"));
        }
        // SAFETY: the caller's promise.
        unsafe {
            *session = 0;
            let mut endpoint = own(endpoint)?;
            let to = sockaddr_from(to, to_len).ok_or_else(|| invalid("to is no address of a server"))?;
            let name = if name.is_null() {
                None
            } else {
                Some(
                    CStr::from_ptr(name)
                        .to_str()
                        .map_err(|_| invalid("name is neither a DNS name nor an IP address"))?,
                )
            };
            let resume = resume.as_ref().map(|resumption| &resumption.0);
            *session = endpoint.connect(now_us, &Connect { name, resume, ..Connect::to(to) })?.as_u64();
        }
        Ok(0)
    })
}

/// Sends one message: one record, in one datagram of its own, which then waits for dv_endpoint_transmit.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `data`: the message
/// - `len`: its length in bytes, at least 1
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_NOT_ESTABLISHED, DV_ERR_STALE, DV_ERR_TOO_LONG; DV_ERR_AGAIN when
/// max_waiting_bytes wait already; DV_ERR_UNPROVEN for a peer that has moved; DV_ERR_FORKED in the child of a fork.
///
/// # Safety
/// `endpoint` is NULL or live; `data` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_send(
    endpoint: *mut dv_endpoint,
    session: dv_session,
    data: *const c_void,
    len: size_t,
) -> c_int {
    guard_result("dv_endpoint_send", || {
        // SAFETY: the caller's promise.
        let (mut endpoint, message) = unsafe { (live(endpoint)?, array(data.cast::<u8>(), len, "data")?) };
        endpoint.send(session_from(session)?, message)?;
        Ok(0)
    })
}

/// Ends a session: the peer is sent a close_notify, and DV_EVENT_CLOSED follows. One that is over already stays so.
///
/// - `endpoint`: the endpoint
/// - `session`: the session
///
/// Returns 0 or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_close(endpoint: *mut dv_endpoint, session: dv_session) -> c_int {
    guard_result("dv_endpoint_close", || {
        // SAFETY: the caller's promise.
        unsafe { live(endpoint) }?.close(session_from(session)?)?;
        Ok(0)
    })
}

/// Gives the sessions that are open, or that the program has connected.
///
/// - `endpoint`: the endpoint
/// - `out`: receives the sessions, in no order
/// - `max`: how many fit at `out`
///
/// Returns how many there are, which may be more than `max`; or a negative DV_ERR_*.
///
/// # Safety
/// `endpoint` is NULL or live; `out` has room for `max` sessions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_endpoint_sessions(
    endpoint: *const dv_endpoint,
    out: *mut dv_session,
    max: size_t,
) -> c_int {
    guard_result("dv_endpoint_sessions", || {
        // SAFETY: the caller's promise.
        let endpoint = unsafe { live(endpoint) }?;
        if out.is_null() && max > 0 {
            return Err(invalid("out is NULL"));
        }
        let mut count = 0;
        for session in endpoint.sessions() {
            if count < max {
                // SAFETY: the caller's promise.
                unsafe { out.add(count).write(session.as_u64()) };
            }
            count += 1;
        }
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}

pub(super) fn reason_number(reason: CloseReason) -> c_int {
    match reason {
        CloseReason::ByPeer => DV_CLOSED_BY_PEER,
        CloseReason::Local => DV_CLOSED_LOCALLY,
        CloseReason::Failed => DV_CLOSED_FAILED,
        CloseReason::HandshakeTimeout => DV_CLOSED_HANDSHAKE_TIMEOUT,
        CloseReason::IdleTimeout => DV_CLOSED_IDLE_TIMEOUT,
        CloseReason::Restarted => DV_CLOSED_RESTARTED,
        CloseReason::Evicted => DV_CLOSED_EVICTED,
        CloseReason::Exhausted => DV_CLOSED_EXHAUSTED,
        CloseReason::Exported => DV_CLOSED_EXPORTED,
    }
}

/// A number that was never given out is as stale as one that is not good any more.
pub(super) fn session_from(session: dv_session) -> Result<Session, Failure> {
    Session::from_u64(session).ok_or(Error::Stale.into())
}

/// Nothing in memory is longer. A length beyond it is, as a rule, the -1 of a call that has failed.
pub(super) const LEN_MAX: usize = isize::MAX as usize;

/// # Safety
/// `first` has `count` elements, or is NULL.
pub(super) unsafe fn array<'a, T>(first: *const T, count: size_t, name: &str) -> Result<&'a [T], Failure> {
    match (first.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid(&format!("{name} is NULL"))),
        (false, _) if count > LEN_MAX / size_of::<T>() => {
            Err(invalid(&format!("the length of {name} is the -1 of an error")))
        }
        // SAFETY: by contract.
        (false, _) => Ok(unsafe { slice::from_raw_parts(first, count) }),
    }
}

/// Who sent a datagram, to which address of ours, where that is known, and what is in it.
///
/// # Safety
/// It has its bytes, and the members of its addresses that their families name are initialised.
unsafe fn read(datagram: &dv_datagram) -> Result<(SocketAddr, Option<IpAddr>, &[u8]), Failure> {
    // SAFETY: by contract; the family is the first member of each address.
    unsafe {
        let peer = address_from(&datagram.peer).ok_or_else(|| invalid("a datagram's peer is no address"))?;
        let local = address_from(&datagram.local);
        if local.is_none() && c_int::from(datagram.local.any.sa_family) != AF_UNSPEC {
            return Err(invalid("a datagram's local is no address, and not all zero"));
        }
        let bytes = array(datagram.data.cast::<u8>(), datagram.len, "a datagram's data")?;
        Ok((peer, local.map(|local| local.ip()), bytes))
    }
}
