//! DTLS for any number of peers, without a socket. Datagrams and the time go in; datagrams, events and the next
//! deadline come out. An endpoint calls nothing back.
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

/// A session with one peer: a number, not a pointer, which has a meaning only to its own endpoint or server. 0 is no
/// session. The number of a session that is over gives DV_ERR_STALE, and is never used again.
#[allow(non_camel_case_types)]
pub type dv_session = u64;

/// What a client keeps of a session in order to resume it later, without certificates.
#[allow(non_camel_case_types)]
pub struct dv_resumption(pub(super) Resumption);

/// An address of a peer, or of our own. The family says which member is used; all zero is no address.
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

/// A datagram that was received, or that is to be sent; or several of one length, as with UDP_GRO and UDP_SEGMENT.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_datagram {
    /// The payload.
    pub data: *const c_void,
    /// Its length in bytes.
    pub len: size_t,
    /// 0: one datagram. Otherwise the length of each datagram in bytes; the last may be shorter.
    pub segment_size: size_t,
    /// The sender, or the receiver.
    pub peer: dv_address,
    /// Our address: where it was received, or is to be sent from. The port is ignored; all zero if unknown.
    pub local: dv_address,
}

/// The handshake is finished: messages can be sent.
pub const DV_EVENT_OPENED: c_int = 1;
/// A message was received.
pub const DV_EVENT_MESSAGE: c_int = 2;
/// The session is over; `reason` says why. Every session that was opened, or that the program has connected, gets this
/// event once.
pub const DV_EVENT_CLOSED: c_int = 3;
/// The peer has a new address, which dv_session_addresses() returns. dv_session_is_peer_proven() tells whether the peer
/// has proved it. Only with connection_ids.
pub const DV_EVENT_MOVED: c_int = 4;

/// The peer closed the session.
pub const DV_CLOSED_BY_PEER: c_int = 1;
/// The program closed the session.
pub const DV_CLOSED_LOCALLY: c_int = 2;
/// The handshake failed, or the peer sent a fatal alert; see dv_session_failure.
pub const DV_CLOSED_FAILED: c_int = 3;
/// The handshake took too long.
pub const DV_CLOSED_HANDSHAKE_TIMEOUT: c_int = 4;
/// Nothing was heard of the peer for too long.
pub const DV_CLOSED_IDLE_TIMEOUT: c_int = 5;
/// The peer started anew, and has finished another handshake from the same address.
pub const DV_CLOSED_RESTARTED: c_int = 6;
/// The session made room for another one.
pub const DV_CLOSED_EVICTED: c_int = 7;
/// The session's keys have protected as much as they may. Connect again.
pub const DV_CLOSED_EXHAUSTED: c_int = 8;
/// The session was exported and goes on in another process.
pub const DV_CLOSED_EXPORTED: c_int = 9;

/// Something that happened to a session.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct dv_event {
    /// One of DV_EVENT_*.
    pub kind: c_int,
    /// One of DV_CLOSED_* for DV_EVENT_CLOSED, otherwise 0.
    pub reason: c_int,
    /// The session.
    pub session: dv_session,
    /// The pointer that dv_session_set_user() has attached to the session.
    pub user: *mut c_void,
    /// The message for DV_EVENT_MESSAGE, otherwise NULL. It is valid until the next call of dv_endpoint_event() or
    /// dv_endpoint_receive(); do not pass it to these. In a server's callback it is valid until that returns.
    pub data: *const c_void,
    /// The length of the message in bytes; 0 without one.
    pub len: size_t,
}

/// Makes an endpoint.
///
/// - `ctx`: the SSL_CTX to make sessions with: one for DTLS that is completely set up (keys, certificates, verify mode,
///   ALPN and so on). The endpoint sets its cookie callbacks
/// - `config`: the configuration; NULL: the defaults
/// - `endpoint`: receives the endpoint, or NULL
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a setting that makes no sense, a context that is not for DTLS,
/// or, unless `accept` is 0, one with cookie callbacks of the program's own; DV_ERR_TLS when OpenSSL fails.
///
/// Ownership: the caller frees the endpoint with dv_endpoint_free(). It holds a reference to the SSL_CTX.
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

/// Frees an endpoint and its sessions. Their peers are sent nothing: to say goodbye, close the sessions and transmit
/// first.
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

/// Hands received datagrams to an endpoint.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time in microseconds, of a clock that never goes back, such as CLOCK_MONOTONIC, and the same one in
///   all calls. A time that is earlier than that of the previous call counts as the same
/// - `datagrams`: the datagrams
/// - `count`: how many there are
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID when an address makes no sense or data is NULL; then none of the
/// datagrams was taken. What a peer sends is never an error: it is counted, or ends a session.
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
        // None is taken unless all make sense: the first one says so below, the others now.
        datagrams.iter().skip(1).try_for_each(|datagram| read(datagram).map(drop))?;
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
/// Returns 1, 0 when there is no event, or a negative DV_ERR_*. After DV_EVENT_CLOSED the session can be queried until
/// the next event is taken.
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

/// Gets datagrams to send; those of one session are in order. Call it until it returns 0, or whenever the socket can be
/// written to. Datagrams that were returned count as sent: those that the kernel does not take are lost, as any
/// datagram may be.
///
/// - `endpoint`: the endpoint
/// - `out`: receives the datagrams. Their payload is valid until the next call of any other function about the
///   endpoint; do not pass it to that
/// - `max`: how many fit in `out`
/// - `segments`: how many datagrams of one length to one peer may be joined in one element of `out`, for UDP_SEGMENT
///   (at most 64 there); 1 for a program that sends each by itself
///
/// Returns how many elements of `out` were filled, or a negative DV_ERR_*.
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

/// Gets the time at which dv_endpoint_advance() must be called.
///
/// - `endpoint`: the endpoint
///
/// Returns the time in microseconds, of the clock whose time the endpoint is given; UINT64_MAX when nothing will be
/// due, or on error.
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

/// Does what is due: retransmits flights, gives up handshakes and closes idle sessions. It takes a bounded time: if
/// very much is due, dv_endpoint_deadline() is still not later than `now_us` afterwards, and another call does more.
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

/// Starts a handshake with a server. Its first datagram waits for dv_endpoint_transmit(). DV_EVENT_OPENED follows when
/// it has finished, or DV_EVENT_CLOSED.
///
/// - `endpoint`: the endpoint
/// - `now_us`: the time, as for dv_endpoint_receive
/// - `to`: the server's address
/// - `to_len`: the length of `to` in bytes
/// - `name`: the DNS name or IP address that the server's certificate must have; a DNS name is sent to the server
///   (SNI). NULL: accept any certificate that the SSL_CTX trusts
/// - `resume`: an earlier session with this server to resume, or NULL. If the server has forgotten it, or its
///   certificate would no longer be accepted, there is a full handshake
/// - `session`: receives the session, or 0
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_EXISTS when there already is a session that was connected to this server,
/// DV_ERR_LIMIT at max_sessions, DV_ERR_INVALID for something that is no address or no name, DV_ERR_TLS when OpenSSL
/// refuses, for instance an SSL_CTX that is only for servers.
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

/// Sends one message, as one record in a datagram of its own, which waits for dv_endpoint_transmit().
///
/// - `endpoint`: the endpoint
/// - `session`: the session
/// - `data`: the message
/// - `len`: its length in bytes, at least 1
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_NOT_ESTABLISHED, DV_ERR_STALE or DV_ERR_TOO_LONG; DV_ERR_AGAIN when
/// max_waiting_bytes already wait; DV_ERR_UNPROVEN for a peer that has moved.
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

/// Closes a session: the peer is sent a close_notify, and DV_EVENT_CLOSED follows. Closing one that is already over
/// changes nothing.
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

/// Lists the sessions that are open, or that the program has connected.
///
/// - `endpoint`: the endpoint
/// - `out`: receives the sessions, in any order
/// - `max`: how many fit in `out`
///
/// Returns how many there are, possibly more than `max`, or a negative DV_ERR_*.
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
