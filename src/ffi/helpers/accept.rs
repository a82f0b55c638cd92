//! How connections begin: from the hello of a stranger, or of a peer who is connected already and has restarted.

use std::net::SocketAddr;
use std::ptr;

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_void};
use openssl::ssl::{SslContext, SslContextRef};
use openssl_sys::SSL_free;

use super::cookies::{dv_dtls_generate_cookie_callback, dv_dtls_verify_cookie_callback};
use super::due::Work;
use super::send::send_waiting;
use super::shared::{Local, shared};
use super::state::{STATE, into_struct};
use super::types::{dv_udp_conn_key_t, dv_udp_conn_t};
use super::{address, due};
use crate::engine::connection::{Connection, State as Phase, Terms};
use crate::engine::gate::{self, Verdict};
use crate::engine::registry::Refusal;
use crate::engine::settings::Settings;
use crate::log::log;
use crate::net::sys;
use crate::tls::cause::Cause;
use crate::tls::context::bound_session_cache;
use crate::tls::cookie::{Cookies, cookies, exchanges_cookies};
use crate::tls::scratch::Word;
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;

/// The caller's SSL_CTX, with a reference of our own.
///
/// # Safety
/// `ctx` is a live SSL_CTX.
pub unsafe fn context(ctx: *mut c_void) -> SslContext {
    // SAFETY: by contract.
    unsafe { SslContextRef::from_ptr(ctx.cast()).to_owned() }
}

/// A datagram that may begin a connection, and where it came from.
pub struct Arrival<'a> {
    pub context: &'a SslContextRef,
    pub datagram: &'a [u8],
    pub fd: c_int,
    pub key: &'a dv_udp_conn_key_t,
    /// Who is in the key.
    pub peer: SocketAddr,
    /// The caller gets the connection, and not only the table.
    pub shown: bool,
}

/// Begins a connection with the datagram of a stranger, or answers it, or drops it. The connection is in the table then.
pub fn begin(local: &Local, now: u64, arrival: &Arrival<'_>) -> Option<*mut dv_udp_conn_t> {
    let exchange = exchanges_cookies(arrival.context);
    let hello = prove(local, now, arrival, exchange)?;
    if let Err(why) = admit(local, now, arrival.peer) {
        local.counters.count_refusal(why);
        return None;
    }
    let settings = shared().settings();
    let connection = take_first_flight(local, now, arrival, &hello, exchange, &settings)?;
    enter(local, now, arrival, &hello, connection, &settings)
}

/// The stateless stage: the hello of a stranger who has shown that he receives where he says he is. What asks for a cookie is
/// answered, all else is dropped, and nothing is kept.
fn prove<'a>(local: &Local, now: u64, arrival: &Arrival<'a>, exchange: bool) -> Option<ClientHello<'a>> {
    let Arrival { context, datagram, peer, .. } = *arrival;
    if exchange && is_ours(context, peer)? {
        return match gate::examine(&mut shared().jar(), now, &peer, datagram, &local.counters) {
            Verdict::Drop => None,
            Verdict::Answer(verify) => {
                answer(local, arrival, verify.as_bytes());
                None
            }
            Verdict::Proven(hello) => Some(hello),
        };
    }
    let Some(hello) = ClientHello::parse(datagram) else {
        local.counters.strangers_dropped.add(1);
        return None;
    };
    (!exchange || ask_program(local, now, arrival, &hello)).then_some(hello)
}

/// Whether the cookies of `context` are the library's; None where that cannot be found out.
fn is_ours(context: &SslContextRef, peer: SocketAddr) -> Option<bool> {
    match cookies(context, peer, dv_dtls_generate_cookie_callback, dv_dtls_verify_cookie_callback) {
        Ok(whose) => Some(whose == Cookies::Ours),
        Err(why) => {
            log!(Error, "dv_dtls_conn_new: {peer}: {}", Cause::from(why));
            None
        }
    }
}

/// The program makes its cookies itself: whether that of `hello` is good. If not, and if the program says so, it is answered;
/// never with more than what came in.
fn ask_program(local: &Local, now: u64, arrival: &Arrival<'_>, hello: &ClientHello<'_>) -> bool {
    let Arrival { context, datagram, peer, .. } = *arrival;
    let word = shared().ask_program(context, peer, &datagram[..hello.record_len]);
    if !matches!(word, Word::Proven) && !hello.cookie.is_empty() {
        local.counters.cookies_refused.add(1);
    }
    match word {
        Word::Proven => return true,
        Word::Answer(verify) if verify.len() <= datagram.len() => {
            local.counters.hellos_answered.add(1);
            answer(local, arrival, &verify);
        }
        Word::Answer(verify) => {
            local.counters.strangers_dropped.add(1);
            local.refusals.tell_of_long_cookie(now, verify.len(), datagram.len());
        }
        Word::Nothing => {
            local.counters.strangers_dropped.add(1);
            log!(Debug, "{peer}: no answer from the program's cookie callbacks");
        }
    }
    false
}

/// Sends a HelloVerifyRequest.
fn answer(local: &Local, arrival: &Arrival<'_>, verify: &[u8]) {
    let Arrival { fd, key, peer, .. } = *arrival;
    // SAFETY: the key is a sockaddr of that length.
    let sent = unsafe { sys::send_to(fd, verify, 0, ptr::from_ref(key).cast(), address::length(key)) };
    local.counters.datagrams_out.add(sent.is_ok().into());
    if let Err(error) = sent {
        log!(Debug, "dv_dtls_conn_new: sendto {peer}: {error}");
    }
}

/// The server's side of a handshake with `hello`, which has taken in its whole datagram. What it has to say waits, but for
/// the alert of one that has failed at once.
fn take_first_flight(
    local: &Local,
    now: u64,
    arrival: &Arrival<'_>,
    hello: &ClientHello<'_>,
    exchange: bool,
    settings: &Settings,
) -> Option<Connection> {
    let Arrival { context, datagram, fd, key, peer, .. } = *arrival;
    bound_session_cache(context);
    let terms = Terms { listen: exchange, own: None };
    let Some(begun) = Connection::accept(context, settings, peer, hello, datagram, terms, now) else {
        local.counters.strangers_dropped.add(1);
        return None;
    };
    let mut connection = *begun;
    local.counters.handshakes_begun.add(1);
    connection.receive(now, &datagram[hello.record_len..], &mut Datagrams::new(), &local.counters);
    let Phase::Closed(_) = connection.state() else { return Some(connection) };
    // SAFETY: the key holds the peer.
    let _ = unsafe { send_waiting(&mut connection, key, fd, 0, local) };
    log!(Info, "{peer}: handshake failed: {}", connection.why_text());
    local.counters.handshakes_failed.add(1);
    None
}

/// Puts a connection into the table, then lets it speak: of two threads with the same hello only one may be heard, as the
/// client would take a piece of each flight.
fn enter(
    local: &Local,
    now: u64,
    arrival: &Arrival<'_>,
    hello: &ClientHello<'_>,
    connection: Connection,
    settings: &Settings,
) -> Option<*mut dv_udp_conn_t> {
    let Arrival { context, fd, key, peer, shown, .. } = *arrival;
    let conn = into_struct(connection, context.to_owned(), key, settings);
    if conn.is_null() {
        log!(Error, "dv_dtls_conn_new: out of memory");
        return None;
    }
    // SAFETY: it was made just now, and until it is in the table nobody else has it.
    unsafe {
        let ssl = (*conn).ssl.cast();
        let (Some(state), Some(work)) = (STATE.get(ssl), Work::begin_newcomer(conn, peer, hello, shown)) else {
            local.counters.superseded.add(1);
            SSL_free(ssl);
            libc::free(conn.cast());
            return None;
        };
        state.id.set(Some(work.id));
        state.note_descriptor(fd, true);
        let mut connection = state.connection.borrow_mut();
        if let Err(error) = send_waiting(&mut connection, key, fd, 0, local) {
            log!(Warn, "dv_dtls_conn_new: sendto {peer}: {error}");
        }
        due::rearm(local, now, state, connection.state(), connection.deadline());
    }
    Some(conn)
}

/// Whether a handshake with `peer` may begin; makes room where a limit is reached, of its source and of all.
fn admit(local: &Local, now: u64, peer: SocketAddr) -> Result<(), Refusal> {
    let admit = || shared().table().admit(peer);
    let make_room = |why| if due::evict(local, now, peer, why) { admit() } else { Err(why) };
    admit().or_else(make_room).or_else(make_room)
}
