//! A connection: made from a hello, read, written, shut down, freed.

use std::io;
use std::ptr;

use libc::{EAGAIN, EBUSY, EINVAL, EIO, EMSGSIZE, ENOTCONN, c_char, c_int, c_void, size_t, socklen_t};
use openssl_sys::{BIO, SSL, SSL_free};

use super::accept::{Begun, begin, restart};
use super::in_use::{self, InUse};
use super::shared::{Local, local, shared};
use super::state::{STATE, State, settle};
use super::types::*;
use super::{address, due, foreign};
use crate::engine::connection::{CloseReason, Connection, SendError, State as Phase};
use crate::engine::stats::Counters;
use crate::guard::guard;
use crate::log::log;
use crate::net::sys;
use crate::tls::bio;
use crate::wire::datagrams::Datagrams;
use crate::wire::hello::ClientHello;

/// Sends what waits. The first error is given, but what comes after it is sent all the same: it is UDP.
///
/// # Safety
/// `key` holds a peer's address.
pub unsafe fn send_waiting(
    connection: &mut Connection,
    key: &dv_udp_conn_key_t,
    fd: c_int,
    flags: c_int,
    local: &Local,
) -> io::Result<()> {
    let length = address::length(key);
    let mut result = Ok(());
    while let Some(datagram) = connection.transmit() {
        // SAFETY: the key is a sockaddr of that length.
        let sent = unsafe { sys::send_to(fd, datagram, flags, (&raw const *key).cast(), length) };
        local.counters.datagrams_out.add(sent.is_ok().into());
        result = result.and(sent);
    }
    connection.leave_room(&local.room);
    result
}

/// Sends what waits in `wbio` to `key`, one sendto() a datagram.
///
/// What libssl wrote to a plain memory BIO is cut at record boundaries into datagrams of at most the MTU.
///
/// - `wbio`: the `wbio` of a connection, or a memory BIO
/// - `fd`: a UDP socket
/// - `key`: the peer's address
/// - `addrlen`: the length of the peer's address in bytes; where it does not fit the family, the family's is used
///
/// Returns 0 when all was sent, or -1 when nothing waited or an error occurred.
///
/// Errors: errno is EAGAIN when nothing waited, EINVAL for a NULL or a key without an address, EBUSY in a callback of OpenSSL's
/// in the middle of a call about the connection of `wbio`, or else that of sendto(); what waited is gone then.
///
/// Threads: one at a time for a BIO.
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
    guard(DV_ERROR, || {
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

/// [`dv_dtls_msg_send`].
///
/// # Safety
/// `wbio` is live, and libssl does not use it now.
pub unsafe fn send_from(wbio: *mut BIO, fd: c_int, key: &dv_udp_conn_key_t) -> c_int {
    let Some(peer) = address::peer(key) else {
        log!(Error, "dv_dtls_msg_send: the key holds no IPv4 or IPv6 address");
        return fail(EINVAL);
    };
    let local = local();
    // SAFETY: by contract; the state lives as long as the BIO.
    let sent = match unsafe { bio::outbound_state(wbio) } {
        // SAFETY: by contract.
        Some(mut outbound) => unsafe {
            let outbound = outbound.as_mut();
            let mut waiting = Datagrams::new();
            while let Some(datagram) = outbound.pop() {
                waiting.push(datagram);
            }
            outbound.expect_new_flight();
            outbound.leave_room(&local.room);
            waiting
        },
        // SAFETY: by contract.
        None => unsafe { foreign::datagrams(wbio, shared().settings().mtu, peer) },
    };
    if sent.is_empty() {
        return fail(EAGAIN);
    }
    for datagram in sent.iter() {
        // SAFETY: the key is a sockaddr of that length.
        let sent = unsafe { sys::send_to(fd, datagram, 0, (&raw const *key).cast(), address::length(key)) };
        local.counters.datagrams_out.add(sent.is_ok().into());
        if let Err(error) = sent {
            log!(Error, "dv_dtls_msg_send: sendto {peer}: {error}");
            return fail(error.raw_os_error().unwrap_or(EIO));
        }
    }
    DV_OK
}

/// Looks at a datagram of a peer that conn_find does not know, and makes a connection when the time has come.
///
/// With SSL_OP_COOKIE_EXCHANGE on `ctx`, a ClientHello without a valid cookie is answered with a HelloVerifyRequest and
/// nothing is kept (RFC 6347 4.2.1); anything else from a stranger is dropped. The hello that brings the cookie back makes
/// the connection. Without the option any ClientHello makes one. The first flight is sent before this returns.
///
/// - `ctx`: an SSL_CTX for servers
/// - `buf`: the datagram
/// - `len`: its length in bytes
/// - `fd`: the UDP socket that it came through
/// - `key`: the peer's address
/// - `addrlen`: the length of the peer's address in bytes; where it does not fit the family, the family's is used
///
/// Returns the connection, or NULL: the datagram was answered or dropped, or a limit or a failure stood against it (the
/// log and the statistics tell).
///
/// Ownership: the connection is in the table, and the caller frees it with dv_dtls_conn_free(). The library may give it up
/// at a deadline or a limit: then it is not in the table any more and its `ssl`, `rbio` and `wbio` are NULL, but the
/// struct stays readable until it is freed.
///
/// # Safety
/// The pointers are NULL or valid; `buf` has `len` bytes.
#[cfg(not(dv_omit = "dtls_conn_new"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_new(
    ctx: *mut c_void,
    buf: *mut c_char,
    len: size_t,
    fd: c_int,
    key: *mut dv_udp_conn_key_t,
    addrlen: socklen_t,
) -> *mut dv_udp_conn_t {
    guard(ptr::null_mut(), || {
        let _ = addrlen;
        if ctx.is_null() || buf.is_null() || key.is_null() || len > isize::MAX as size_t {
            log!(Error, "dv_dtls_conn_new: ctx, buf or key is NULL, or len is the -1 of an error");
            sys::set_errno(EINVAL);
            return ptr::null_mut();
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, ptr::null_mut());
        local.counters.datagrams_in.add(1);
        // SAFETY: the caller vouches for the pointers.
        let (datagram, key) = unsafe { (std::slice::from_raw_parts(buf.cast::<u8>(), len), &*key) };
        let Some(peer) = address::peer(key) else {
            local.counters.strangers_dropped.add(1);
            return ptr::null_mut();
        };
        // SAFETY: as above.
        let context = unsafe { super::accept::context(ctx) };
        // SAFETY: as above.
        let begun = unsafe { begin(&local, now, &context, datagram, fd, key, peer) };
        local.refusals.tell(now, &local.counters);
        match begun {
            Begun::Connection(conn) => {
                shared().show(conn);
                local.last.set(conn);
                conn
            }
            Begun::Nothing => ptr::null_mut(),
        }
    })
}

/// Frees a connection: takes it out of the table, frees its SSL and the struct. NULL is fine.
///
/// If its `list` member hangs in a list of the caller's, it is unlinked there. Nothing is sent: see dv_dtls_shutdown().
///
/// In a callback of OpenSSL's in the middle of a call about `conn`, errno becomes EBUSY and nothing is freed.
///
/// - `conn`: a connection of dv_dtls_conn_new(), given up by the library or not, or one that the caller allocated with
///   malloc() or calloc() and whose SSL he made
///
/// Threads: the one that uses the connection.
///
/// # Safety
/// `conn` is NULL or valid and is not used any more.
#[cfg(not(dv_omit = "dtls_conn_free"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_free(conn: *mut dv_udp_conn_t) {
    guard((), || {
        if conn.is_null() {
            return;
        }
        let local = local();
        // SAFETY: the caller vouches for the struct.
        let Some(in_use) = (unsafe { take(&local, conn) }) else { return refuse_inside("dv_dtls_conn_free") };
        // SAFETY: the caller vouches for the struct, and gives up whatever belongs to it.
        unsafe {
            if !shared().remove(&local, conn) {
                return refuse_inside("dv_dtls_conn_free");
            }
            shared().forget_given_up(conn);
            unlink(&raw mut (*conn).list);
            SSL_free((*conn).ssl.cast());
            libc::free(conn.cast());
        }
        drop(in_use);
        due::run_now(&local, ptr::null_mut());
    });
}

/// Begins a call about `conn`, which is this thread's from now on. Not in a callback in the middle of another call about it,
/// on this thread or on another one.
///
/// # Safety
/// `conn` is live.
#[inline]
unsafe fn take(local: &Local, conn: *mut dv_udp_conn_t) -> Option<InUse> {
    // In this order: as long as another thread does what is due for it, nothing of the struct can be looked at.
    // SAFETY: by contract.
    local.shared.claim(local, conn).then(|| unsafe { in_use::begin(conn) }).flatten()
}

/// Of a function that gives nothing: it was called by a callback, in the middle of a call about the same connection.
pub fn refuse_inside(name: &str) {
    log!(Error, "{name}: called by a callback while the connection is in use");
    sys::set_errno(EBUSY);
}

/// Takes `node` out of the list that it hangs in, if any.
///
/// # Safety
/// `node` is valid; its links are NULL, poison, or valid.
pub unsafe fn unlink(node: *mut dv_list_node) {
    // Lists like the Linux kernel's put small numbers into the links of what they have unlinked.
    const POISON_MAX: usize = 4096;
    // SAFETY: by contract; the neighbours are only written to when they really are neighbours.
    unsafe {
        let (next, prev) = ((*node).next, (*node).prev);
        if (next as usize) < POISON_MAX || (prev as usize) < POISON_MAX {
            return;
        }
        if (*next).prev == node && (*prev).next == node {
            (*next).prev = prev;
            (*prev).next = next;
        }
        (*node).next = ptr::null_mut();
        (*node).prev = ptr::null_mut();
    }
}

/// Takes a datagram of the peer and gives the next message.
///
/// During the handshake the datagram moves it on, and what the library has to say is sent before this returns. A datagram
/// may hold several records: their messages are queued (at most 64, then the newest is dropped and counted) and come out
/// one a call, before what arrives later. A message longer than `out_len` is cut, as recvfrom() does.
///
/// A forged or broken record never ends an established connection.
///
/// - `conn`: the connection
/// - `in_buf`: the datagram; NULL takes the next queued message without one
/// - `in_len`: its length in bytes
/// - `fd`: the UDP socket that it came through
/// - `out_buf`: receives the message; it may be `in_buf`
/// - `out_len`: how many bytes there is room for
/// - `addrlen`: the length of the peer's address in bytes; where it does not fit the family, the family's is used
///
/// Returns the length of the message in bytes; 0 when the handshake goes on or no message is there yet; -2 when the peer has
/// closed the connection, or has restarted so that a new one takes its place, or the library has given it up: free it; -1
/// for an error.
///
/// Errors: errno is EINVAL for a NULL or no room, EIO when the handshake failed or the peer sent a fatal alert (the log has
/// the cause), ENOTCONN in the child of a fork, EBUSY in a callback of OpenSSL's in the middle of a call about `conn`.
///
/// Threads: one at a time for a connection.
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
    guard(DV_ERROR, || {
        let _ = addrlen;
        if conn.is_null() || out_buf.is_null() || out_len == 0 || in_len > isize::MAX as size_t {
            log!(Error, "dv_dtls_read: conn or out_buf is NULL, out_len is 0, or in_len is the -1 of an error");
            return fail(EINVAL);
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, conn);
        // SAFETY: the caller vouches for the struct.
        let Some(_in_use) = (unsafe { take(&local, conn) }) else { return fail(EBUSY) };
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
    if !datagram.is_empty() {
        local.counters.datagrams_in.add(1);
    }
    // SAFETY: the caller vouches for the struct.
    let key = unsafe { &(*conn).key };
    let superseded = state.superseded.get();
    // Taken and not borrowed: a callback of libssl may read from another connection.
    let mut messages = local.messages.take();
    messages.clear();
    let (before, after);
    {
        let mut connection = state.connection.borrow_mut();
        if connection.is_forked() {
            return fail(ENOTCONN);
        }
        before = (connection.state(), connection.deadline());
        let (connection, counters) = (&mut *connection, &local.counters);
        if before.0 == Phase::Handshaking {
            connection.use_room(&local.room);
        }
        // SAFETY: by contract. The compiler may count on what a reference is to for as long as it is there, and that of an
        // argument is there until the function returns: this one is gone before `out` is written.
        let datagram = unsafe { &*datagram };
        // What the caller wrote to rbio with his own hand came before this datagram.
        while let Some(written) = connection.take_inbound() {
            connection.receive(now, &written, &mut messages, counters);
        }
        let hello = ClientHello::parse(datagram).filter(|hello| !connection.is_begun_by(hello));
        // SAFETY: as above.
        unsafe {
            match hello {
                Some(hello) => {
                    restart(local, now, state, &hello, datagram, fd, key);
                    if state.successor.get() {
                        connection.await_the_peer();
                    }
                }
                None if state.successor.get() => {
                    super::accept::share(local, now, state, connection, datagram, fd, &mut messages);
                }
                None => connection.receive(now, datagram, &mut messages, counters),
            }
            if let Err(error) = send_waiting(connection, key, fd, 0, local) {
                log!(Warn, "dv_dtls_read: sendto {}: {error}", connection.peer());
            }
        }
        after = (connection.state(), connection.deadline());
    }
    settle(local, now, state, before, after);
    let phase = after.0;
    if !superseded && state.superseded.get() {
        match before.0 {
            Phase::Handshaking => local.counters.superseded.add(1),
            _ => local.counters.restarted.add(1),
        }
    }
    if before.0 != phase {
        state.note_descriptor(fd, true);
    }
    // SAFETY: by contract; there is no reference to the datagram any more.
    let delivered = deliver(state, &messages, unsafe { &mut *out }, &local.counters);
    local.messages.replace(messages);
    if let Some(len) = delivered {
        if let Some(id) = state.id.get() {
            local.shared.table().touch(id);
        }
        return len;
    }
    if state.superseded.get() {
        return DV_CLOSED;
    }
    match phase {
        Phase::Handshaking | Phase::Established => 0,
        Phase::Closed(CloseReason::Failed) => {
            let connection = state.connection.borrow();
            let why = connection.why().map(|why| why.to_string()).unwrap_or_default();
            log!(Info, "{}: connection failed: {why}", connection.peer());
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

/// Sends one message: one record, one datagram.
///
/// - `conn`: the connection
/// - `in_buf`: the message
/// - `in_len`: its length in bytes, at least 1
/// - `fd`: the UDP socket
/// - `out_buf`: not used
/// - `out_len`: not used
/// - `addrlen`: the length of the peer's address in bytes; where it does not fit the family, the family's is used
///
/// Returns `in_len`, or -1.
///
/// Errors: errno is EMSGSIZE when the message does not fit in a datagram of the MTU, EAGAIN while the handshake goes on,
/// ENOTCONN when the connection is over, EINVAL for a NULL or an empty message, EBUSY in a callback of OpenSSL's in the
/// middle of a call about `conn`, or else that of sendto().
///
/// Threads: one at a time for a connection.
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
    guard(DV_ERROR, || {
        let _ = (out_buf, out_len, addrlen);
        if conn.is_null() || in_buf.is_null() || in_len == 0 || in_len > isize::MAX as size_t {
            log!(Error, "dv_dtls_write: conn or in_buf is NULL, or in_len is 0 or the -1 of an error");
            return fail(EINVAL);
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, conn);
        // SAFETY: the caller vouches for the struct.
        let Some(_in_use) = (unsafe { take(&local, conn) }) else { return fail(EBUSY) };
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
            connection.use_room(&local.room);
            if let Err(error) = connection.send(now, message, &local.counters) {
                return refuse(&connection, error, in_len);
            }
            if let Err(error) = send_waiting(&mut connection, &(*conn).key, fd, 0, &local) {
                log!(Warn, "dv_dtls_write: sendto {}: {error}", connection.peer());
                return fail(error.raw_os_error().unwrap_or(EIO));
            }
            let after = (connection.state(), connection.deadline());
            drop(connection);
            settle(&local, now, state, before, after);
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
            log!(Error, "dv_dtls_write: {peer}: {}", connection.why().map(|why| why.to_string()).unwrap_or_default());
            fail(EIO)
        }
    }
}

/// Says goodbye to the peer: sends a close_notify alert, if there is somebody who would understand it.
///
/// In a callback of OpenSSL's in the middle of a call about `conn`, errno becomes EBUSY and nothing is sent.
///
/// - `conn`: the connection, which stays to be freed with dv_dtls_conn_free(); NULL is fine
/// - `fd`: the UDP socket
/// - `addrlen`: the length of the peer's address in bytes; where it does not fit the family, the family's is used
///
/// Threads: one at a time for a connection.
///
/// # Safety
/// `conn` is NULL or valid.
#[cfg(not(dv_omit = "dtls_shutdown"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_shutdown(conn: *mut dv_udp_conn_t, fd: c_int, addrlen: socklen_t) {
    guard((), || {
        let _ = addrlen;
        if conn.is_null() {
            return;
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, conn);
        // SAFETY: the caller vouches for the struct.
        let Some(_in_use) = (unsafe { take(&local, conn) }) else { return refuse_inside("dv_dtls_shutdown") };
        // SAFETY: the caller vouches for the struct.
        unsafe {
            if (*conn).ssl.is_null() {
                return;
            }
            let Some(state) = STATE.get((*conn).ssl.cast::<SSL>()) else {
                return foreign::shutdown(conn, fd);
            };
            // The peer has a new connection and would not understand the old one's alert.
            if state.superseded.get() {
                return;
            }
            let mut connection = state.connection.borrow_mut();
            // In the child of a fork nothing is sent, and the connection's number is another one's there.
            if connection.is_forked() {
                return;
            }
            connection.close(now);
            let _ = send_waiting(&mut connection, &(*conn).key, fd, 0, &local);
            let phase = connection.state();
            drop(connection);
            due::rearm(&local, now, state, phase, u64::MAX);
        }
    });
}

/// Sets errno and gives DV_ERROR.
pub fn fail(errno: c_int) -> c_int {
    sys::set_errno(errno);
    DV_ERROR
}
