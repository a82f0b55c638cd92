//! What comes out of a connection's datagrams, and what goes into them.

use std::ptr;

use libc::{EAGAIN, EBUSY, EINVAL, EIO, EMSGSIZE, ENOTCONN, c_char, c_int, size_t, socklen_t};
use openssl_sys::BIO;

use super::errno::fail;
use super::restart::{restart, share};
use super::send::{make_room, send_from, send_waiting};
use super::shared::{Local, local};
use super::state::{STATE, State, note_change};
use super::types::*;
use super::{due, foreign, in_use};
use crate::engine::connection::{CloseReason, Connection, SendError, State as Phase};
use crate::engine::stats::Counters;
use crate::guard::guard_uncancelled;
use crate::log::log;
use crate::net::sys;
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;

/// Takes a datagram from the peer and returns the next message.
///
/// During the handshake the datagram moves it on, and the answer is sent before the function returns. A datagram may
/// hold several messages: they are queued (at most max_queued_messages, 64 by default; the rest are dropped and
/// counted) and returned one by one, before those that arrive later. A message longer than `out_len` is truncated, as
/// by recvfrom().
///
/// A forged or damaged record never ends an established connection of dv_dtls_conn_new().
///
/// - `conn`: the connection
/// - `in_buf`: the datagram; NULL only takes the next queued message
/// - `in_len`: its length in bytes; 0 with NULL
/// - `fd`: the UDP socket that it came in on
/// - `out_buf`: receives the message; it may be `in_buf`
/// - `out_len`: the size of `out_buf` in bytes
/// - `addrlen`: the length of the peer's address in bytes
///
/// Returns the length of the message in bytes; 0 while the handshake goes on or when there is no message; -1 on error;
/// -2 when the connection is over: the peer has closed it or has replaced it with a new one, or the library has given
/// it up. Free it then.
///
/// Errors: errno is EIO when the handshake failed or the peer sent a fatal alert (the log has the cause): the
/// connection is over, free it. With the others nothing has happened: EINVAL for a NULL, an `out_len` of 0, or an
/// `in_len` that is the -1 of a failed recvfrom(); ENOTCONN in the child of a fork; EBUSY in a callback of OpenSSL's,
/// in the middle of a call about `conn`. A failure to send is only logged.
///
/// # Safety
/// The pointers are NULL or valid for as many bytes as is said.
#[cfg(not(dv_omit = "dtls_read"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_read(
    conn: *mut dv_udp_conn_t,
    in_buf: *mut c_char,
    in_len: size_t,
    fd: c_int,
    out_buf: *mut c_char,
    out_len: size_t,
    addrlen: socklen_t,
) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        let _ = addrlen;
        if conn.is_null() || out_buf.is_null() || out_len == 0 || in_len > isize::MAX as size_t {
            log!(Error, "dv_dtls_read: conn or out_buf is NULL, out_len is 0, or in_len is the -1 of an error");
            return fail(EINVAL);
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, conn);
        // SAFETY: the caller vouches for the struct.
        let Some(_in_use) = (unsafe { in_use::take(&local, conn) }) else { return fail(EBUSY) };
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            // No references yet: the program may want the message where the datagram is.
            let datagram: *const [u8] =
                if in_buf.is_null() { &[] } else { ptr::slice_from_raw_parts(in_buf.cast::<u8>(), in_len) };
            let out = ptr::slice_from_raw_parts_mut(out_buf.cast::<u8>(), out_len.min(c_int::MAX as usize));
            if (*conn).ssl.is_null() {
                return DV_CLOSED;
            }
            match STATE.get((*conn).ssl.cast()) {
                Some(state) => read(&local, now, conn, state, datagram, fd, out),
                None => foreign::read(conn, datagram, fd, out),
            }
        }
    })
}

/// # Safety
/// `conn` is valid and `state` is its; `datagram` is readable; `out` is writable, and may be where `datagram` is.
unsafe fn read(
    local: &Local,
    now: u64,
    conn: *mut dv_udp_conn_t,
    state: &State,
    datagram: *const [u8],
    fd: c_int,
    out: *mut [u8],
) -> c_int {
    // Taken and not borrowed: a callback of libssl may read from another connection.
    let mut messages = local.messages.take().unwrap_or_default();
    messages.clear();
    let superseded = state.superseded.get();
    // SAFETY: by contract.
    let taken_in = unsafe { take_in(local, now, conn, state, datagram, fd, &mut messages) };
    let Some((before, after)) = taken_in else { return fail(ENOTCONN) };
    note_change(local, now, state, before, after);
    if !superseded && state.superseded.get() {
        match before.0 {
            Phase::Handshaking => local.counters.superseded.add(1),
            _ => local.counters.restarted.add(1),
        }
    }
    if before.0 != after.0 {
        state.note_descriptor(fd, true);
    }
    // SAFETY: by contract; there is no reference to the datagram any more.
    let delivered = deliver(state, &messages, unsafe { &mut *out }, &local.counters);
    local.messages.set(Some(messages));
    let Some(len) = delivered else { return without_message(state, after.0) };
    if let Some(id) = state.id.get() {
        local.shared.table().touch(id);
    }
    len
}

/// Shows the connection a datagram, and sends what it has to say to that. Gives its phase and deadline before and after; None
/// in the child of a fork.
///
/// # Safety
/// As for [`read`].
unsafe fn take_in(
    local: &Local,
    now: u64,
    conn: *mut dv_udp_conn_t,
    state: &State,
    datagram: *const [u8],
    fd: c_int,
    messages: &mut Datagrams,
) -> Option<((Phase, u64), (Phase, u64))> {
    let (mut connection, counters) = (state.connection.borrow_mut(), &local.counters);
    if connection.is_forked() {
        return None;
    }
    // SAFETY: by contract. A reference that is an argument would have to be good until `read` returns: this one is gone
    // before `out` is written.
    let (key, datagram) = unsafe { (&(*conn).key, &*datagram) };
    if !datagram.is_empty() {
        counters.datagrams_in.add(1);
    }
    let before = (connection.state(), connection.deadline());
    if before.0 == Phase::Handshaking {
        connection.outbound().use_room(&local.room);
    }
    // What the caller wrote to rbio with his own hand came before this datagram.
    while let Some(written) = connection.take_inbound() {
        connection.receive(now, &written, messages, counters);
    }
    let hello = ClientHello::parse(datagram).filter(|hello| !connection.is_begun_by(hello));
    // SAFETY: the key is that of the connection.
    unsafe {
        match hello {
            Some(hello) => {
                restart(local, now, state, &hello, datagram, fd, key);
                if state.successor.get() {
                    connection.await_the_peer();
                }
            }
            None if state.successor.get() => share(local, now, state, &mut connection, datagram, fd, messages),
            None => connection.receive(now, datagram, messages, counters),
        }
        if let Err(error) = send_waiting(&mut connection, key, fd, 0, local) {
            log!(Warn, "dv_dtls_read: sendto {}: {error}", connection.peer());
        }
    }
    Some((before, (connection.state(), connection.deadline())))
}

/// What dv_dtls_read returns where there is no message.
fn without_message(state: &State, phase: Phase) -> c_int {
    if state.superseded.get() {
        return DV_CLOSED;
    }
    match phase {
        Phase::Handshaking | Phase::Established => 0,
        Phase::Closed(CloseReason::Failed) => {
            let connection = state.connection.borrow();
            log!(Info, "{}: connection failed: {}", connection.peer(), connection.why_text());
            fail(EIO)
        }
        Phase::Closed(_) => DV_CLOSED,
    }
}

/// Gives the oldest message that waits, and queues the others.
fn deliver(state: &State, messages: &Datagrams, out: &mut [u8], counters: &Counters) -> Option<c_int> {
    let oldest = state.dequeue();
    let alone = oldest.is_none() && messages.len() <= 1;
    let mut fresh = messages.iter();
    let mut give = |message: &[u8]| {
        let len = message.len().min(out.len());
        if len < message.len() {
            counters.messages_cut.add(1);
        }
        counters.messages_in.add(1);
        out[..len].copy_from_slice(&message[..len]);
        Some(len as c_int)
    };
    let given = match oldest {
        Some(oldest) => give(&oldest),
        None => fresh.next().and_then(&mut give),
    };
    if !alone {
        state.enqueue(fresh, counters);
    }
    given
}

/// Sends one message, as one record in one datagram.
///
/// - `conn`: the connection
/// - `in_buf`: the message
/// - `in_len`: its length in bytes, at least 1
/// - `fd`: the UDP socket
/// - `out_buf`: not used
/// - `out_len`: not used
/// - `addrlen`: the length of the peer's address in bytes
///
/// Returns `in_len`, or -1.
///
/// Errors: errno is EMSGSIZE when the message does not fit into a datagram of the MTU, EAGAIN while the handshake goes
/// on, ENOTCONN when the connection is over, EINVAL for a NULL or an empty message, EBUSY in a callback of OpenSSL's in
/// the middle of a call about `conn`, EIO when OpenSSL failed, or what sendto() set. In none of these cases was the
/// message sent.
///
/// # Safety
/// The pointers are NULL or valid for as many bytes as is said.
#[cfg(not(dv_omit = "dtls_write"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_write(
    conn: *mut dv_udp_conn_t,
    in_buf: *mut c_char,
    in_len: size_t,
    fd: c_int,
    out_buf: *mut c_char,
    out_len: size_t,
    addrlen: socklen_t,
) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        let _ = (out_buf, out_len, addrlen);
        if conn.is_null() || in_buf.is_null() || in_len == 0 || in_len > isize::MAX as size_t {
            log!(Error, "dv_dtls_write: conn or in_buf is NULL, or in_len is 0 or the -1 of an error");
            return fail(EINVAL);
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, conn);
        // SAFETY: the caller vouches for the struct.
        let Some(_in_use) = (unsafe { in_use::take(&local, conn) }) else { return fail(EBUSY) };
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            if (*conn).ssl.is_null() {
                return fail(ENOTCONN);
            }
            let message = std::slice::from_raw_parts(in_buf.cast::<u8>(), in_len);
            let Some(state) = STATE.get((*conn).ssl.cast()) else { return foreign::write(conn, message, fd) };
            let mut connection = state.connection.borrow_mut();
            if state.superseded.get() {
                return fail(ENOTCONN);
            }
            let before = (connection.state(), connection.deadline());
            make_room(&mut connection, &(*conn).key, fd, &local);
            connection.outbound().use_room(&local.room);
            if let Err(error) = connection.send(now, message, &local.counters) {
                return refuse(&connection, error, in_len);
            }
            if let Err(error) = send_waiting(&mut connection, &(*conn).key, fd, 0, &local) {
                log!(Warn, "dv_dtls_write: sendto {}: {error}", connection.peer());
                return fail(error.raw_os_error().unwrap_or(EIO));
            }
            let after = (connection.state(), connection.deadline());
            drop(connection);
            note_change(&local, now, state, before, after);
        }
        in_len as c_int
    })
}

fn refuse(connection: &Connection, error: SendError, len: usize) -> c_int {
    let peer = connection.peer();
    match error {
        SendError::TooLong { max } => {
            log!(Error, "dv_dtls_write: {len} bytes to {peer}, but the MTU leaves room for {max}");
            fail(EMSGSIZE)
        }
        SendError::NotEstablished if connection.state() == Phase::Handshaking => fail(EAGAIN),
        SendError::NotEstablished => fail(ENOTCONN),
        SendError::Forked => {
            log!(Error, "dv_dtls_write: {peer}: the connection belongs to the process that forked this one");
            fail(ENOTCONN)
        }
        SendError::Failed => {
            log!(Error, "dv_dtls_write: {peer}: {}", connection.why_text());
            fail(EIO)
        }
    }
}

/// Sends the datagrams that wait in a BIO, with one sendto() for each.
///
/// What libssl wrote to a plain memory BIO is cut between records into datagrams of at most the MTU.
///
/// - `wbio`: the `wbio` of a connection, or a memory BIO
/// - `fd`: a UDP socket
/// - `key`: the peer's address
/// - `addrlen`: the length of the address in `key`, in bytes
///
/// Returns 0 when everything was sent, or -1.
///
/// Errors: errno is EAGAIN when nothing waited, EINVAL for a NULL or a key without an address, EBUSY in a callback of
/// OpenSSL's in the middle of a call about the connection of `wbio`, or what sendto() set: what waited is then lost.
///
/// Threads: a BIO is used by one at a time.
///
/// # Safety
/// The pointers are NULL or valid.
#[cfg(not(dv_omit = "dtls_msg_send"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_msg_send(
    wbio: *mut BIO,
    fd: c_int,
    key: *mut dv_udp_conn_key_t,
    addrlen: socklen_t,
) -> c_int {
    guard_uncancelled(DV_ERROR, || {
        let _ = addrlen;
        if wbio.is_null() || key.is_null() {
            log!(Error, "dv_dtls_msg_send: wbio or key is NULL");
            return fail(EINVAL);
        }
        if in_use::has_wbio(wbio) {
            return fail(EBUSY);
        }
        // SAFETY: the caller vouches for the pointers, and libssl is not running on this BIO.
        unsafe { send_from(wbio, fd, &*key) }
    })
}
