//! The table of connections, by peer address.

use libc::c_uint;
use md5::{Digest, Md5};

use super::errno::refuse_inside;
use super::shared::{Entry, local, shared};
use super::state::{STATE, State};
use super::types::*;
use super::{address, due, in_use};
use crate::engine::connection::State as Phase;
use crate::engine::registry::Kind;
use crate::guard::guard;
use crate::log::log;
use crate::net::sys;

/// Sets up the table. Never needed, as the first use of the table does it too; harmless at any time: no connection is
/// lost.
#[cfg(not(dv_omit = "dtls_conn_table_init"))]
#[unsafe(no_mangle)]
pub extern "C" fn dv_dtls_conn_table_init() {
    guard((), || {
        shared();
    });
}

/// Hashes a key: the MD5 of all its bytes, as four words in native byte order that are XORed into one, modulo 65535.
///
/// The library's table does not use it, since peers can choose addresses that collide. It is there for programs that
/// do.
///
/// - `key`: a key that was cleared before the address was written into it; NULL gives 0
///
/// Returns a number from 0 to 65534.
///
/// # Safety
/// `key` is NULL or valid.
#[cfg(not(dv_omit = "dtls_conn_hash"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_hash(key: *mut dv_udp_conn_key_t) -> c_uint {
    guard(0, || {
        const SIZE: usize = size_of::<dv_udp_conn_key_t>();
        if key.is_null() {
            return 0;
        }
        // SAFETY: the caller vouches for the key, and that all of it was written to.
        let bytes = unsafe { &*key.cast::<[u8; SIZE]>() };
        let digest: [u8; 16] = Md5::digest(bytes).into();
        digest.as_chunks::<4>().0.iter().fold(0, |folded, word| folded ^ u32::from_ne_bytes(*word)) % 65535
    })
}

/// Adds a connection to the table, under its `key`.
///
/// A connection of dv_dtls_conn_new() is in the table from the start; adding one that is there changes nothing. Where
/// several have the same key, dv_dtls_conn_find() finds the oldest. A connection that the program allocated counts
/// towards no limit, and the library never gives it up.
///
/// - `conn`: a connection that the program allocated, or that dv_dtls_conn_del() has taken out. It must live until it
///   is taken out again
///
/// Errors: a NULL, or a key without an IPv4 or IPv6 address, is only logged.
///
/// # Safety
/// `conn` is NULL or valid until it is taken out.
#[cfg(not(dv_omit = "dtls_conn_add"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_add(conn: *mut dv_udp_conn_t) {
    guard((), || {
        // SAFETY: the caller vouches for the struct.
        let Some(peer) = (unsafe { conn.as_ref() }).and_then(|conn| address::peer(&conn.key)) else {
            log!(Error, "dv_dtls_conn_add: conn is NULL or its key holds no address");
            return;
        };
        if shared().table().id_of(conn, None).is_some() {
            return;
        }
        // SAFETY: as above.
        let Some(_in_use) = (unsafe { in_use::begin(conn) }) else { return refuse_inside("dv_dtls_conn_add") };
        shared().forget_given_up(conn);
        // SAFETY: as above.
        let state = unsafe { state(conn) };
        let kind = match state.map(|state| state.connection.borrow().state()) {
            None => Kind::Foreign,
            Some(Phase::Handshaking) => Kind::Handshaking,
            Some(_) => Kind::Established,
        };
        // In one step: another thread may find it from then on, use it and free it.
        let local = local();
        let mut table = local.shared.table();
        let id = table.insert(peer, Entry::new(conn, state.is_some(), true), kind);
        if let Some(state) = state {
            state.id.set(Some(id));
            local.timers.borrow_mut().set(id, sys::now());
        }
    });
}

/// What the library keeps of a connection, if it has made its SSL. Of a caller's struct that is all that is known: its SSL may
/// come later, and stand for nothing yet.
///
/// # Safety
/// `conn` is valid.
unsafe fn state<'a>(conn: *mut dv_udp_conn_t) -> Option<&'a State> {
    // SAFETY: by contract; an SSL of the library's that is alive is followed, and nothing else.
    unsafe {
        let ssl = (*conn).ssl;
        if shared().table().ssls.contains(&(ssl as usize)) { STATE.get(ssl.cast()) } else { None }
    }
}

/// Takes a connection out of the table. Only the pointer counts: its SSL may already have been freed.
///
/// In a callback of OpenSSL's, while another thread does what is due for `conn`, nothing is done and errno is set to
/// EBUSY.
///
/// - `conn`: the connection, which stays the caller's; NULL, or one that is not in the table, is fine
///
/// # Safety
/// `conn` is NULL or valid.
#[cfg(not(dv_omit = "dtls_conn_del"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_del(conn: *mut dv_udp_conn_t) {
    guard((), || {
        if !conn.is_null() {
            if !shared().remove(&local(), conn) {
                return refuse_inside("dv_dtls_conn_del");
            }
            // The library will not free what the caller may free next.
            shared().forget_given_up(conn);
        }
    });
}

/// Finds the connection of a peer. What is due is done first.
///
/// - `key`: the peer's address; NULL finds nothing
///
/// Returns the connection, or NULL. errno has no meaning.
///
/// Ownership: the connection stays in the table. It can be read until dv_dtls_conn_free(), even if the library gives it
/// up in the meantime.
///
/// Threads: any may search. As long as another thread was the last to use a connection, that thread may give it up.
/// dv_dtls_read(), dv_dtls_write() and dv_dtls_shutdown() make it the calling thread's: look at its `ssl` only after
/// one of these.
///
/// # Safety
/// `key` is NULL or valid.
#[cfg(not(dv_omit = "dtls_conn_find"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_conn_find(key: *mut dv_udp_conn_key_t) -> *mut dv_udp_conn_t {
    guard(std::ptr::null_mut(), || {
        let local = local();
        due::run_now(&local, std::ptr::null_mut());
        // SAFETY: the caller vouches for the key.
        let peer = unsafe { key.as_ref() }.and_then(address::peer);
        let found = peer.map_or(std::ptr::null_mut(), |peer| local.shared.find(&peer));
        local.last.set(found);
        found
    })
}
