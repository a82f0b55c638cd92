//! How connections begin: from a stranger's hello, or from the hello of a peer who is connected already and has restarted.

use foreign_types::ForeignTypeRef;
use libc::{c_int, c_void};
use openssl::ssl::{SslContext, SslContextRef};

use super::connection::send_waiting;
use super::cookies::{dv_dtls_generate_cookie_callback, dv_dtls_verify_cookie_callback};
use super::shared::{Entry, Local, Table, shared};
use super::state::{STATE, State, into_struct, moved, publish};
use super::types::{dv_udp_conn_key_t, dv_udp_conn_t};
use super::{address, due, in_use};
use crate::engine::connection::{Connection, State as Phase, Terms};
use crate::engine::gate::{self, Verdict};
use crate::engine::registry::{Kind, Refusal};
use crate::log::log;
use crate::net::sys;
use crate::tls::context::bound_session_cache;
use crate::tls::cookie::{Cookies, cookies, exchanges_cookies};
use crate::tls::scratch::Word;
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;
use crate::wire::record::records;

/// What a hello led to.
pub enum Begun {
    /// A connection, in the table.
    Connection(*mut dv_udp_conn_t),
    /// An answer, or nothing at all.
    Nothing,
}

/// The caller's SSL_CTX, with a reference of our own.
///
/// # Safety
/// `ctx` is a live SSL_CTX.
pub unsafe fn context(ctx: *mut c_void) -> SslContext {
    // SAFETY: by contract.
    unsafe { SslContextRef::from_ptr(ctx.cast()).to_owned() }
}

/// Begins a connection with the datagram of a stranger, or answers it, or drops it.
///
/// # Safety
/// `key` holds `peer`.
pub unsafe fn begin(
    local: &Local,
    now: u64,
    context: &SslContextRef,
    datagram: &[u8],
    fd: c_int,
    key: &dv_udp_conn_key_t,
    peer: std::net::SocketAddr,
) -> Begun {
    let exchange = exchanges_cookies(context);
    let answer = |answer: &[u8]| {
        // SAFETY: the key is a sockaddr of that length.
        let sent = unsafe { sys::send_to(fd, answer, 0, (&raw const *key).cast(), address::length(key)) };
        local.counters.datagrams_out.add(sent.is_ok().into());
        if let Err(error) = sent {
            log!(Debug, "dv_dtls_conn_new: sendto {peer}: {error}");
        }
    };
    let (generate, verify) = (dv_dtls_generate_cookie_callback, dv_dtls_verify_cookie_callback);
    let ours = exchange && cookies(context, peer, generate, verify) == Cookies::Ours;
    let hello = if ours {
        let verdict = gate::examine(&mut shared().jar(), now, &peer, datagram, &local.counters);
        match verdict {
            Verdict::Drop => return Begun::Nothing,
            Verdict::Answer(verify) => {
                answer(verify.as_bytes());
                return Begun::Nothing;
            }
            Verdict::Proven(hello) => hello,
        }
    } else if let Some(hello) = ClientHello::parse(datagram) {
        if exchange && !ask_program(local, context, peer, &hello, datagram, answer) {
            return Begun::Nothing;
        }
        hello
    } else {
        local.counters.strangers_dropped.add(1);
        return Begun::Nothing;
    };
    if let Err(why) = admit(local, now, peer) {
        local.counters.count_refusal(why);
        return Begun::Nothing;
    }
    bound_session_cache(context);
    let settings = shared().settings();
    let terms = Terms { listen: exchange, own: None };
    let Some(begun) = Connection::accept(context, &settings, peer, &hello, datagram, terms, now) else {
        local.counters.strangers_dropped.add(1);
        return Begun::Nothing;
    };
    let mut connection = *begun;
    local.counters.handshakes_begun.add(1);
    let mut messages = Datagrams::new();
    connection.receive(now, &datagram[hello.record_len..], &mut messages, &local.counters);
    // SAFETY: by contract.
    let sent = unsafe { send_waiting(&mut connection, key, fd, 0, local) };
    if let Err(error) = sent {
        log!(Warn, "dv_dtls_conn_new: sendto {peer}: {error}");
    }
    if let Phase::Closed(_) = connection.state() {
        let why = connection.why().map(|why| why.to_string()).unwrap_or_default();
        log!(Info, "{peer}: handshake failed: {why}");
        local.counters.handshakes_failed.add(1);
        return Begun::Nothing;
    }
    let deadline = connection.deadline();
    let conn = into_struct(connection, context.to_owned(), key);
    // SAFETY: it was made just now.
    let Some(state) = (!conn.is_null()).then(|| unsafe { STATE.get((*conn).ssl.cast()) }).flatten() else {
        log!(Error, "dv_dtls_conn_new: out of memory");
        return Begun::Nothing;
    };
    state.note_descriptor(fd, true);
    publish(local, peer, Entry::new(conn, true, false), Kind::Handshaking, Some(state), deadline);
    Begun::Connection(conn)
}

/// The program makes its cookies itself: whether that of `hello`, at the start of `datagram`, is good. If not, and if the
/// program says so, it is answered; never with more than what came in.
fn ask_program(
    local: &Local,
    context: &SslContextRef,
    peer: std::net::SocketAddr,
    hello: &ClientHello<'_>,
    datagram: &[u8],
    answer: impl FnOnce(&[u8]),
) -> bool {
    let word = shared().ask_program(context, peer, &datagram[..hello.record_len]);
    if !matches!(word, Word::Proven) && !hello.cookie.is_empty() {
        local.counters.cookies_refused.add(1);
    }
    match word {
        Word::Proven => return true,
        Word::Answer(verify) if verify.len() <= datagram.len() => {
            local.counters.hellos_answered.add(1);
            answer(&verify);
        }
        Word::Answer(_) | Word::Nothing => {
            local.counters.strangers_dropped.add(1);
            log!(Debug, "{peer}: no answer from the program's cookie callbacks, or one that is longer than the hello");
        }
    }
    false
}

/// Whether a handshake with `peer` may begin; makes room where a limit is reached, of its source and of all.
fn admit(local: &Local, now: u64, peer: std::net::SocketAddr) -> Result<(), Refusal> {
    let admit = || shared().table().admit(peer);
    let make_room = |why| if due::evict(local, now, peer, why) { admit() } else { Err(why) };
    admit().or_else(make_room).or_else(make_room)
}

/// A peer who is connected says hello again: he has restarted, or somebody pretends to be him (RFC 6347 4.2.8). His new
/// connection stands behind the old one until its handshake has finished.
///
/// # Safety
/// `key` holds the peer of `state`.
pub unsafe fn restart(
    local: &Local,
    now: u64,
    state: &State,
    hello: &ClientHello<'_>,
    datagram: &[u8],
    fd: c_int,
    key: &dv_udp_conn_key_t,
) {
    // SAFETY: by contract.
    unsafe {
        if let Some(successor) = successor(state) {
            let Some(_in_use) = in_use::begin(successor) else { return };
            let Some(of_successor) = STATE.get((*successor).ssl.cast()) else { return };
            if of_successor.connection.borrow().is_begun_by(hello) {
                let mut messages = Datagrams::new();
                return advance_successor(local, now, state, of_successor, datagram, fd, key, &mut messages);
            }
        }
        let Some(peer) = address::peer(key) else { return };
        let begun = begin(local, now, &state.context, datagram, fd, key, peer);
        local.refusals.tell(now, &local.counters);
        if let Begun::Connection(conn) = begun {
            // He has restarted twice: only the last one matters.
            if let Some(earlier) = successor(state)
                && earlier != conn
                && let Some(_in_use) = in_use::begin(earlier)
            {
                let of_earlier = STATE.get((*earlier).ssl.cast());
                if of_earlier.is_some_and(|state| state.connection.borrow().state() == Phase::Handshaking) {
                    local.counters.superseded.add(1);
                }
                due::give_up(earlier);
            }
            state.successor.set(true);
        }
    }
}

/// The connection that stands behind this one; this thread's from now on.
fn successor(state: &State) -> Option<*mut dv_udp_conn_t> {
    if !state.successor.get() {
        return None;
    }
    let behind = |table: &Table| state.id.get().and_then(|id| table.next(id));
    let mut table = shared().settled(behind)?;
    let next = behind(&table).and_then(|id| table.get_mut(id)).filter(|entry| entry.alive).map(|entry| {
        entry.thread = sys::thread();
        entry.conn
    });
    state.successor.set(next.is_some());
    next
}

/// Shares a datagram between an old connection and the new one behind it: what is in clear is the new one's, what the old
/// one can open is its own, the rest may be the new one's.
///
/// # Safety
/// `old` is borrowed from `state`.
pub unsafe fn share(
    local: &Local,
    now: u64,
    state: &State,
    old: &mut Connection,
    datagram: &[u8],
    fd: c_int,
    messages: &mut Datagrams,
) {
    let Some(successor) = successor(state) else {
        return old.receive(now, datagram, messages, &local.counters);
    };
    // In a callback in the middle of a call about the new one the datagram is lost, as it may be on its way.
    // SAFETY: it is in the table, so it is live, and it is this thread's.
    let Some(_in_use) = (unsafe { in_use::begin(successor) }) else { return };
    // SAFETY: as above.
    let Some(of_successor) = (unsafe { STATE.get((*successor).ssl.cast()) }) else { return };
    let mut for_successor = Datagrams::new();
    for record in records(datagram) {
        // A handshake that goes on is not proven either: whose the record is tells only the Finished.
        let of_the_old_one = (record.epoch > 0 || old.state() == Phase::Handshaking)
            && old.receive_record(now, &record, messages, &local.counters).authentic;
        if !of_the_old_one {
            // SAFETY: as above.
            unsafe {
                let key = &(*successor).key;
                advance_successor(local, now, state, of_successor, record.bytes, fd, key, &mut for_successor);
            }
        }
    }
}

/// # Safety
/// `key` holds the peer.
#[allow(clippy::too_many_arguments)]
unsafe fn advance_successor(
    local: &Local,
    now: u64,
    state: &State,
    of_successor: &State,
    datagram: &[u8],
    fd: c_int,
    key: &dv_udp_conn_key_t,
    messages: &mut Datagrams,
) {
    let mut connection = of_successor.connection.borrow_mut();
    let before = connection.state();
    messages.clear();
    connection.receive(now, datagram, messages, &local.counters);
    // SAFETY: by contract.
    let _ = unsafe { send_waiting(&mut connection, key, fd, 0, local) };
    let (phase, deadline) = (connection.state(), connection.deadline());
    drop(connection);
    if before != phase {
        moved(local, of_successor, before, phase);
    }
    due::rearm(local, now, of_successor, phase, deadline);
    of_successor.enqueue(messages.iter(), &local.counters);
    if phase == Phase::Established {
        state.superseded.set(true);
    }
}
