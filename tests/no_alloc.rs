//! A stranger costs no memory: the stateless stage does not allocate, not even for a moment, and neither do the helpers and
//! OpenSSL around it. (tests/endpoint_no_alloc.rs has the endpoint.)

#[path = "common/allocations.rs"]
mod allocations;
mod samples;

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use dv_dtls::engine::cookie::{BUCKET_SECONDS, CookieJar};
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::Counters;
use dv_dtls::{dv_dtls_conn_find, dv_dtls_conn_new, dv_udp_conn_key_t};
use foreign_types::ForeignType;
use openssl::ssl::{SslContext, SslMethod, SslOptions};
use samples::{Hello, Random, peer};

thread_local! {
    static OF_OPENSSL: Cell<u64> = const { Cell::new(0) };
}

fn allocations(work: impl FnOnce()) -> u64 {
    let count = || allocations::count() + OF_OPENSSL.get();
    let before = count();
    work();
    count() - before
}

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(
        malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    OF_OPENSSL.set(OF_OPENSSL.get() + 1);
    // SAFETY: a plain call.
    unsafe { libc::malloc(size) }
}

unsafe extern "C" fn realloc(at: *mut c_void, size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    OF_OPENSSL.set(OF_OPENSSL.get() + 1);
    // SAFETY: what `malloc` gave.
    unsafe { libc::realloc(at, size) }
}

unsafe extern "C" fn free(at: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: what `malloc` gave.
    unsafe { libc::free(at) }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn hellos_and_junk_allocate_nothing() {
    let mut jar = CookieJar::new(b"secret", 0);
    let counters = Counters::default();
    let mut random = Random(1);
    let hellos: Vec<Vec<u8>> = (0..10_000)
        .map(|n| {
            let random = std::array::from_fn(|_| random.next() as u8);
            let cookie = if n % 2 == 0 { vec![] } else { vec![0; 21] };
            Hello { random, message_seq: n % 2, cookie, ..Hello::default() }.datagram()
        })
        .collect();
    let junk: Vec<Vec<u8>> = (0..10_000).map(|n| random.bytes(n % 1500)).collect();
    let peers = [peer("192.0.2.1:40000"), peer("[2001:db8::1]:40000")];

    // The time runs through several buckets, so deriving a bucket's key is part of it.
    let second = 1_000_000;
    let allocated = allocations(|| {
        for (n, hello) in (0..).zip(&hellos) {
            let now = n * BUCKET_SECONDS * second / 1000;
            assert!(matches!(examine(&mut jar, now, &peers[n as usize % 2], hello, &counters), Verdict::Answer(_)));
        }
        for datagram in &junk {
            assert!(matches!(examine(&mut jar, 0, &peers[0], datagram, &counters), Verdict::Drop));
        }
    });
    assert_eq!(allocated, 0);
}

/// What the original main does with the datagram of a peer that it does not know.
#[test]
fn strangers_at_the_helpers_allocate_nothing() {
    // SAFETY: the functions are those that libcrypto asks for, and it has taken nothing yet: no other test here uses it.
    assert_eq!(unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) }, 1);
    let mut context = SslContext::builder(SslMethod::dtls_server()).unwrap();
    context.set_options(SslOptions::COOKIE_EXCHANGE);
    let context = context.build();
    let [server, peer] = [(); 2].map(|()| UdpSocket::bind("0.0.0.0:0").unwrap());
    let port = peer.local_addr().unwrap().port();
    let mut random = Random(2);
    let mut datagrams: Vec<Vec<u8>> = (0..20_000)
        .map(|n| match n % 4 {
            0 => random.bytes(n % 1500),
            1 => Hello { random: [7; 32], message_seq: 1, cookie: random.bytes(21), ..Hello::default() }.datagram(),
            _ => Hello { random: std::array::from_fn(|_| random.next() as u8), ..Hello::default() }.datagram(),
        })
        .collect();
    let meet = |from: usize, datagram: &mut [u8]| {
        // SAFETY: all zeros is a key of no address.
        let mut key: dv_udp_conn_key_t = unsafe { std::mem::zeroed() };
        key.addr4.sin_family = libc::AF_INET as u16;
        key.addr4.sin_port = port.to_be();
        key.addr4.sin_addr.s_addr = (0x7f00_0001 + from as u32).to_be();
        let (len, buffer) = (datagram.len(), datagram.as_mut_ptr().cast());
        // SAFETY: all arguments are live, and the lengths are theirs.
        unsafe {
            assert!(dv_dtls_conn_find(&mut key).is_null());
            let context = context.as_ptr().cast();
            assert!(dv_dtls_conn_new(context, buffer, len, server.as_raw_fd(), &mut key, 16).is_null());
        }
    };
    // The table itself, and whose cookie callbacks the context has.
    assert!(allocations(|| meet(0, &mut datagrams[2])) > 0);
    assert_eq!(allocations(|| datagrams.iter_mut().enumerate().for_each(|(n, datagram)| meet(n, datagram))), 0);
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = [0; 64];
    peer.recv(&mut answer).unwrap();
    assert_eq!((answer[0], answer[13]), (22, 3), "a HelloVerifyRequest");
}
