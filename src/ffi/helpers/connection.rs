//! How connections are made from a ClientHello, shut down and freed.

use std::ptr;

use libc::{EINVAL, c_char, c_int, c_void, size_t, socklen_t};
use openssl_sys::{SSL, SSL_free};

use super::accept::{Arrival, begin};
use super::errno::refuse_inside;
use super::send::{make_room, send_waiting};
use super::shared::{local, shared};
use super::state::STATE;
use super::types::*;
use super::{address, due, foreign, in_use};
use crate::guard::{guard, guard_uncancelled};
use crate::log::log;
use crate::net::sys;
use crate::tls::version::runtime_matches;

/// Takes a datagram from a peer that dv_dtls_conn_find() does not know, and makes a connection once the peer has proved
/// its address.
///
/// With SSL_OP_COOKIE_EXCHANGE on `ctx`, a ClientHello without a valid cookie is answered with a HelloVerifyRequest,
/// and nothing is kept (RFC 6347 4.2.1). The ClientHello that brings the cookie back makes the connection; any other
/// datagram is dropped. Without the option, the first ClientHello makes one. The server's first flight is sent before
/// the function returns.
///
/// A ClientHello makes one connection: while that is in the table, where dv_dtls_conn_find() finds it, a copy of the
/// ClientHello gives NULL, on any thread.
///
/// If `ctx` has cookie callbacks of the program's own, these are used. No answer is longer than the datagram, so
/// cookies of more than about 150 bytes are not sent, and the log says so.
///
/// - `ctx`: an SSL_CTX for servers
/// - `buf`: the datagram
/// - `len`: its length in bytes
/// - `fd`: the UDP socket that it came in on
/// - `key`: the peer's address
/// - `addrlen`: the length of the address in `key`, in bytes
///
/// Returns the connection, or NULL if the datagram was answered or dropped, or a limit or an error prevented a
/// connection (see the log and dv_dtls_stats()).
///
/// Errors: errno is EINVAL for a NULL, or if `len` is the -1 of a failed recvfrom(). Otherwise errno has no meaning.
///
/// Ownership: the connection is in the table, and the caller frees it with dv_dtls_conn_free(). At a deadline or a
/// limit the library may give it up: it is then taken out of the table and its `ssl`, `rbio` and `wbio` are NULL, but
/// the struct can be read until it is freed. The library keeps at most 65,536 structs that it gave up and nobody freed;
/// beyond that it frees the oldest. The SSL_CTX may be freed before the connection.
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
    guard_uncancelled(ptr::null_mut(), || {
        let _ = addrlen;
        if ctx.is_null() || buf.is_null() || key.is_null() || len > isize::MAX as size_t {
            log!(Error, "dv_dtls_conn_new: ctx, buf or key is NULL, or len is the -1 of an error");
            sys::set_errno(EINVAL);
            return ptr::null_mut();
        }
        if !runtime_matches() {
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
        let begun = begin(&local, now, &Arrival { context: &context, datagram, fd, key, peer, shown: true });
        local.refusals.tell(now, &local.counters);
        let Some(conn) = begun else { return ptr::null_mut() };
        local.last.set(conn);
        conn
    })
}

/// Says goodbye to the peer: sends a close_notify alert, if the peer could understand one.
///
/// - `conn`: the connection, which must still be freed with dv_dtls_conn_free(); NULL is fine
/// - `fd`: the UDP socket
/// - `addrlen`: the length of the peer's address in bytes
///
/// # Safety
/// `conn` is NULL or valid.
#[cfg(not(dv_omit = "dtls_shutdown"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_shutdown(conn: *mut dv_udp_conn_t, fd: c_int, addrlen: socklen_t) {
    guard_uncancelled((), || {
        let _ = addrlen;
        if conn.is_null() {
            return;
        }
        let (local, now) = (local(), sys::now());
        due::run(&local, now, conn);
        // SAFETY: the caller vouches for the struct.
        let Some(_in_use) = (unsafe { in_use::take(&local, conn) }) else { return refuse_inside("dv_dtls_shutdown") };
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
            make_room(&mut connection, &(*conn).key, fd, &local);
            connection.close(now);
            let _ = send_waiting(&mut connection, &(*conn).key, fd, 0, &local);
            let phase = connection.state();
            drop(connection);
            due::rearm(&local, now, state, phase, u64::MAX);
        }
    });
}

/// Frees a connection: takes it out of the table, unlinks its `list` member if that is in a list, and frees its SSL and
/// the struct. Nothing is sent; see dv_dtls_shutdown().
///
/// - `conn`: a connection of dv_dtls_conn_new(), whether or not the library has given it up, or one that the program
///   made itself, with malloc() or calloc() and an SSL of its own; NULL is fine
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
        let Some(in_use) = (unsafe { in_use::take(&local, conn) }) else { return refuse_inside("dv_dtls_conn_free") };
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
