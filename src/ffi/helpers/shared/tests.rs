use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use foreign_types::ForeignType;
use openssl::ssl::{SslContext, SslMethod};

use super::super::address;
use super::super::connection::{dv_dtls_conn_free, dv_dtls_conn_new};
use super::super::due;
use super::super::messages::dv_dtls_read;
use super::super::table::{dv_dtls_conn_add, dv_dtls_conn_del, dv_dtls_conn_find};
use super::super::types::dv_udp_conn_key_t;
use super::*;
use crate::engine::endpoint::{Config, Connect, Endpoint};

/// A server with a key in the place of a certificate, whose clients need no cookie.
fn context() -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
    context.set_psk_server_callback(|_, _, key| {
        key[..16].fill(1);
        Ok(16)
    });
    context.set_psk_client_callback(|_, _, _, key| {
        key[..16].fill(1);
        Ok(16)
    });
    context.build()
}

/// The first hello of a client of its own.
fn hello(context: &SslContext, to: SocketAddr) -> Vec<u8> {
    let mut client = Endpoint::new(context.clone(), Config::default()).unwrap();
    client.connect(sys::now(), &Connect::to(to)).unwrap();
    client.transmit(1).unwrap().bytes.to_vec()
}

/// A peer begins, begins anew beside that, and his first connection is freed. Gives his key, and the second one.
fn restart_and_free(port: u16) -> (dv_udp_conn_key_t, *mut dv_udp_conn_t) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (fd, context) = (socket.as_raw_fd(), context());
    let to = socket.local_addr().unwrap();
    // SAFETY: zeroed, it is an address of no family; a member is then written whole.
    let mut key: dv_udp_conn_key_t = unsafe { std::mem::zeroed() };
    key.addr4.sin_family = libc::AF_INET as libc::sa_family_t;
    key.addr4.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    key.addr4.sin_port = port.to_be();
    let (mut first, mut second, mut out) = (hello(&context, to), hello(&context, to), [0u8; 64]);
    // SAFETY: all pointers are valid, with the lengths that are said; the connection is freed once.
    unsafe {
        let (at, len) = (first.as_mut_ptr().cast(), first.len());
        let conn = dv_dtls_conn_new(context.as_ptr().cast(), at, len, fd, &mut key, 0);
        assert!(!conn.is_null());
        let (at, len) = (second.as_mut_ptr().cast(), second.len());
        assert_eq!(dv_dtls_read(conn, at, len, fd, out.as_mut_ptr().cast(), out.len(), 0), 0);
        dv_dtls_conn_free(conn);
    }
    (key, oldest(&key).expect("he has begun anew"))
}

/// The connection that conn_find would give next.
fn oldest(key: &dv_udp_conn_key_t) -> Option<*mut dv_udp_conn_t> {
    let table = shared().table();
    let oldest = table.find(&address::peer(key)?)?;
    table.get(oldest).map(|entry| entry.conn)
}

/// A day passes.
fn give_up_all() {
    // SAFETY: NULL finds nothing. From here on no connection is the last that was found.
    unsafe { dv_dtls_conn_find(ptr::null_mut()) };
    let later = sys::now() + 86_400_000_000;
    while due::run(&local(), later, ptr::null_mut()) > 0 {}
}

#[test]
fn only_what_somebody_knows_waits_for_its_owner_when_it_is_given_up() {
    // Nobody has heard of the second connection: nobody will free it.
    let (key, second) = restart_and_free(40_000);
    give_up_all();
    assert!(oldest(&key).is_none() && !shared().has_given_up(second));

    let (mut key, second) = restart_and_free(40_001);
    // SAFETY: the key is valid.
    assert_eq!(unsafe { dv_dtls_conn_find(&mut key) }, second);
    give_up_all();
    assert!(oldest(&key).is_none() && shared().has_given_up(second));
    // SAFETY: it was given up, and is there until it is freed.
    unsafe {
        assert!((*second).ssl.is_null());
        dv_dtls_conn_free(second);
    }
    assert!(!shared().has_given_up(second));
}

/// It is in the program's hands again: one day the library would free what the program uses, or has freed.
#[test]
fn what_was_given_up_and_is_taken_up_again_is_only_its_owner_s() {
    for (port, take_up) in [(40_002, dv_dtls_conn_add as unsafe extern "C" fn(_)), (40_003, dv_dtls_conn_del)] {
        let (mut key, conn) = restart_and_free(port);
        // SAFETY: the key is valid.
        assert_eq!(unsafe { dv_dtls_conn_find(&mut key) }, conn);
        give_up_all();
        assert!(shared().has_given_up(conn));
        // SAFETY: it was given up, and is there until it is freed.
        unsafe { take_up(conn) };
        assert!(!shared().has_given_up(conn));
        // SAFETY: as above.
        unsafe { dv_dtls_conn_free(conn) };
    }
}

/// In destructors of a thread that ends each call has a [`Local`] of its own, and a callback in the middle of it another one:
/// when that goes, what the thread works with is not yet anybody's.
#[test]
fn a_thread_is_there_until_the_last_of_its_calls_is_over() {
    let is_there = || shared().table().threads.contains_key(&sys::thread());
    let thread = std::thread::spawn(move || {
        let outer = Local::new();
        drop(Local::new());
        let between = is_there();
        drop(outer);
        (between, is_there())
    });
    assert_eq!(thread.join().unwrap(), (true, false));
}
