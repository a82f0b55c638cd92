//! Connections that a C caller made himself, with an SSL over plain memory BIOs.

use std::net::SocketAddr;

use foreign_types::ForeignTypeRef;
use libc::{EAGAIN, EINVAL, EIO, EMSGSIZE, c_int, c_long};
use openssl::ssl::SslRef;
use openssl_sys::*;

use super::address;
use super::errno::fail;
use super::send::send_from;
use super::shared::{local, shared};
use super::types::*;
use crate::engine::connection::payload;
use crate::tls::session::fragment_min;
use crate::tls::sys::*;
use crate::wire::datagrams::Datagrams;
use crate::wire::record::{Record, records};

/// What a record adds to a message at most: header, and IV, MAC and padding of the CBC suites. libssl is not asked, as it
/// assumes the smallest MTU where the caller has set none, and would refuse what always went through.
const RECORD_OVERHEAD_MAX: usize = 13 + 16 + 48 + 16;

/// Bytes that wait in a memory BIO for the program to read the messages in them. About as many as a socket's buffer has: a
/// peer may put a hundred into each datagram, and a program may take one for each.
const WAITING_MAX: c_long = 256 << 10;

/// What waits in a memory BIO, cut at record boundaries into datagrams of at most the MTU.
///
/// # Safety
/// `wbio` is a live BIO.
pub unsafe fn datagrams(wbio: *mut BIO, mtu: u16, peer: SocketAddr) -> Datagrams {
    let mut datagrams = Datagrams::new();
    // SAFETY: by contract; as much is read as is said to wait.
    let bytes = unsafe {
        let mut bytes = vec![0; usize::try_from(pending(wbio)).unwrap_or(0)];
        let read = BIO_read(wbio, bytes.as_mut_ptr().cast(), bytes.len() as c_int);
        bytes.truncate(usize::try_from(read).unwrap_or(0));
        bytes
    };
    let mut rest = &bytes[..];
    for record in records(&bytes) {
        datagrams.pack(record.bytes, &[], payload(mtu, peer));
        rest = &rest[record.bytes.len()..];
    }
    if !rest.is_empty() {
        datagrams.push(rest);
    }
    datagrams
}

/// # Safety
/// `conn` is valid and has an SSL and BIOs; `datagram` is readable; `out` is writable, and may be where `datagram` is.
pub unsafe fn read(conn: *mut dv_udp_conn_t, datagram: *const [u8], fd: c_int, out: *mut [u8]) -> c_int {
    // SAFETY: by contract. The reference to the datagram is none of an argument: it is gone before `out` is written.
    unsafe {
        let (ssl, datagram) = ((*conn).ssl.cast::<SSL>(), &*datagram);
        let shortest = fragment_min(SslRef::from_ptr(ssl));
        let ends_it = |record: Record<'_>| record.epoch > 0 && record.fragment().len() < shortest;
        let rbio = (*conn).rbio.cast();
        if !datagram.is_empty() && !records(datagram).any(ends_it) {
            if pending(rbio) <= WAITING_MAX {
                BIO_write(rbio, datagram.as_ptr().cast(), datagram.len() as c_int);
            } else {
                local().counters.messages_dropped.add(1);
            }
        }
        ERR_clear_error();
        let len = SSL_read(ssl, out.cast(), out.len() as c_int);
        let error = SSL_get_error(ssl, len);
        flush(conn, fd);
        match error {
            _ if len > 0 => len,
            SSL_ERROR_ZERO_RETURN => DV_CLOSED,
            SSL_ERROR_WANT_READ => 0,
            // A record without content (openssl#27316).
            SSL_ERROR_SYSCALL if len == 0 => 0,
            _ => fail(EIO),
        }
    }
}

/// # Safety
/// As for [`read`].
pub unsafe fn write(conn: *mut dv_udp_conn_t, message: &[u8], fd: c_int) -> c_int {
    // SAFETY: by contract.
    unsafe {
        let ssl = (*conn).ssl.cast::<SSL>();
        let Some(peer) = address::peer(&(*conn).key) else { return fail(EINVAL) };
        if message.len() + RECORD_OVERHEAD_MAX > payload(shared().settings().mtu, peer) {
            return fail(EMSGSIZE);
        }
        let written = SSL_write(ssl, message.as_ptr().cast(), message.len() as c_int);
        if written <= 0 {
            return fail(if SSL_is_init_finished(ssl) == 1 { EIO } else { EAGAIN });
        }
        match send_from((*conn).wbio.cast(), fd, &(*conn).key) {
            DV_OK => written,
            error => error,
        }
    }
}

/// # Safety
/// As for [`read`].
pub unsafe fn shutdown(conn: *mut dv_udp_conn_t, fd: c_int) {
    // SAFETY: by contract.
    unsafe {
        SSL_shutdown((*conn).ssl.cast());
        ERR_clear_error();
        flush(conn, fd);
    }
}

/// # Safety
/// As for [`read`].
unsafe fn flush(conn: *mut dv_udp_conn_t, fd: c_int) {
    // SAFETY: by contract.
    unsafe {
        let wbio = (*conn).wbio.cast();
        if pending(wbio) > 0 {
            send_from(wbio, fd, &(*conn).key);
        }
    }
}

/// # Safety
/// `bio` is a live BIO.
unsafe fn pending(bio: *mut BIO) -> c_long {
    // SAFETY: by contract.
    unsafe { BIO_ctrl(bio, BIO_CTRL_PENDING, 0, std::ptr::null_mut()) }
}
