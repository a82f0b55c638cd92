//! A connection: made from a hello, shut down, freed.

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

/// Looks at a datagram of a peer that conn_find does not know, and makes a connection when the time has come.
///
/// With SSL_OP_COOKIE_EXCHANGE on `ctx`, a ClientHello without a valid cookie is answered with a HelloVerifyRequest and
/// nothing is kept (RFC 6347 4.2.1); anything else from a stranger is dropped. The hello that brings the cookie back makes
/// the connection. Without the option any ClientHello makes one. The first flight is sent before this returns.
///
/// A hello makes one connection: a copy of it, from the network or on another thread, gives NULL as long as the connection is
/// in the table, where dv_dtls_conn_find() finds it.
///
/// Cookie callbacks of the program's own are asked, where `ctx` has some. No answer is longer than the datagram: cookies of
/// more than some 150 bytes are not sent, and the log says so.
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
/// Errors: errno is EINVAL for a NULL, or a `len` that is the -1 of recvfrom(); in all other cases it says nothing.
///
/// Ownership: the connection is in the table, and the caller frees it with dv_dtls_conn_free(). The library may give it up
/// at a deadline or a limit: then it is not in the table any more and its `ssl`, `rbio` and `wbio` are NULL, but the
/// struct stays readable until it is freed. Of those that are never freed the library keeps 65,536, and frees the oldest
/// beyond that. The SSL_CTX may be freed before.
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
