//! Sending what waits.

use std::io;

use libc::{EAGAIN, EINVAL, EIO, c_int};
use openssl_sys::BIO;

use super::errno::fail;
use super::shared::{Local, local, shared};
use super::types::*;
use super::{address, foreign};
use crate::engine::connection::Connection;
use crate::log::log;
use crate::net::sys;
use crate::tls::bio;
use crate::wire::datagrams::Datagrams;

/// Sends what waits. The first error is given, but what comes after it is sent all the same: it is UDP.
///
/// # Safety
/// `key` holds a peer's address.
#[inline]
pub unsafe fn send_waiting(
    connection: &mut Connection,
    key: &dv_udp_conn_key_t,
    fd: c_int,
    flags: c_int,
    local: &Local,
) -> io::Result<()> {
    // As after most messages that come in.
    if connection.outbound().is_empty() {
        return Ok(());
    }
    // SAFETY: by contract.
    unsafe { send_all(connection, key, fd, flags, local) }
}

/// # Safety
/// As for [`send_waiting`].
unsafe fn send_all(
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
    connection.outbound().leave_room(&local.room);
    result
}

/// What the program has written with SSL_write and nobody has sent goes before what is written now: it may have
/// left no room.
///
/// # Safety
/// As for [`send_waiting`].
#[inline]
pub unsafe fn make_room(connection: &mut Connection, key: &dv_udp_conn_key_t, fd: c_int, local: &Local) {
    if connection.outbound().waits() {
        // SAFETY: by contract. An error is told of the next datagram, if it lasts.
        let _ = unsafe { send_waiting(connection, key, fd, 0, local) };
    }
}

/// [`dv_dtls_msg_send`](super::dv_dtls_msg_send).
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
