//! What a cookie-less hello costs in user space: the gate against three ways that libssl offers.
//!
//! `cargo bench --bench hello` runs all of them in turns and prints medians. With one of their names it runs that one
//! alone, 10,000 hellos, for a profiler that counts instructions.

#[path = "../tests/samples/mod.rs"]
mod samples;

use std::ffi::{c_int, c_uint, c_void};
use std::hint::black_box;
use std::time::Instant;

use dv_dtls::engine::cookie::CookieJar;
use dv_dtls::engine::gate::{Verdict, examine};
use dv_dtls::engine::stats::Counters;
use openssl_sys as ffi;
use samples::{Hello, peer};

const ROUNDS: usize = 15;
const HELLOS: usize = 200;

unsafe extern "C" {
    fn DTLSv1_listen(ssl: *mut ffi::SSL, client: *mut c_void) -> c_int;
    fn BIO_ADDR_new() -> *mut c_void;
    fn HMAC(
        digest: *const ffi::EVP_MD,
        key: *const c_void,
        key_len: c_int,
        data: *const u8,
        data_len: usize,
        mac: *mut u8,
        mac_len: *mut c_uint,
    ) -> *mut u8;
}

/// Something that answers hellos; gives the answer's length.
type Contender = (&'static str, Box<dyn FnMut(&[u8]) -> usize>);

fn gate() -> Contender {
    let mut jar = CookieJar::new(b"secret", 0);
    let counters = Counters::default();
    let from = peer("192.0.2.1:40000");
    let answer = move |hello: &[u8]| match examine(&mut jar, 1, &from, hello, &counters) {
        Verdict::Answer(answer) => black_box(answer).as_bytes().len(),
        other => panic!("{other:?}"),
    };
    ("gate", Box::new(answer))
}

/// One SSL for all hellos: the least that a program with DTLSv1_listen can do.
fn listen_reused() -> Contender {
    let context = context();
    // SAFETY: the SSL and the address live as long as the process.
    let (ssl, client) = unsafe { (new_ssl(context), BIO_ADDR_new()) };
    // SAFETY: `ssl` has memory BIOs and is used by this thread alone.
    (
        "listen-reused",
        Box::new(move |hello| unsafe {
            feed(ssl, hello);
            assert_eq!(DTLSv1_listen(ssl, client), 0);
            drain(ssl)
        }),
    )
}

/// An SSL for each hello.
fn listen_new() -> Contender {
    let context = context();
    // SAFETY: as above.
    let client = unsafe { BIO_ADDR_new() };
    // SAFETY: the SSL is freed once and not used after that.
    (
        "listen-new",
        Box::new(move |hello| unsafe {
            let ssl = new_ssl(context);
            feed(ssl, hello);
            assert_eq!(DTLSv1_listen(ssl, client), 0);
            let len = drain(ssl);
            ffi::SSL_free(ssl);
            len
        }),
    )
}

/// What a program does that begins the handshake with each hello and keeps what it began, as the original: an SSL for
/// each hello, in memory that nobody gives back.
fn kept() -> Contender {
    let context = context();
    let mut kept = Vec::new();
    (
        "kept",
        Box::new(move |hello| {
            // SAFETY: the SSL is never freed.
            unsafe {
                let ssl = new_ssl(context);
                feed(ssl, hello);
                ffi::SSL_set_accept_state(ssl);
                assert!(ffi::SSL_do_handshake(ssl) < 0);
                kept.push(ssl);
                drain(ssl)
            }
        }),
    )
}

/// A server's context whose cookies are an HMAC-SHA1 over 16 bytes, the least that can be called a cookie.
fn context() -> *mut ffi::SSL_CTX {
    extern "C" fn generate(_: *mut ffi::SSL, cookie: *mut u8, len: *mut c_uint) -> c_int {
        // SAFETY: libssl gives room for 255 bytes, and an HMAC-SHA1 has 20.
        let mac =
            unsafe { HMAC(ffi::EVP_sha1(), [0_u8; 16].as_ptr().cast(), 16, [0_u8; 16].as_ptr(), 16, cookie, len) };
        c_int::from(!mac.is_null())
    }
    extern "C" fn verify(_: *mut ffi::SSL, _: *const u8, _: c_uint) -> c_int {
        1
    }
    // SAFETY: a new context, which lives as long as the process; the callbacks keep libssl's contract.
    unsafe {
        let context = ffi::SSL_CTX_new(ffi::DTLS_server_method());
        assert!(!context.is_null());
        ffi::SSL_CTX_set_options(context, ffi::SSL_OP_COOKIE_EXCHANGE);
        ffi::SSL_CTX_set_cookie_generate_cb(context, Some(generate));
        ffi::SSL_CTX_set_cookie_verify_cb(context, Some(verify));
        context
    }
}

/// # Safety
/// `context` must be alive.
unsafe fn new_ssl(context: *mut ffi::SSL_CTX) -> *mut ffi::SSL {
    // SAFETY: the SSL takes both BIOs over.
    unsafe {
        let ssl = ffi::SSL_new(context);
        assert!(!ssl.is_null());
        ffi::SSL_set_bio(ssl, ffi::BIO_new(ffi::BIO_s_mem()), ffi::BIO_new(ffi::BIO_s_mem()));
        ssl
    }
}

/// # Safety
/// `ssl` must be alive and have memory BIOs.
unsafe fn feed(ssl: *mut ffi::SSL, hello: &[u8]) {
    // SAFETY: the BIO copies the bytes.
    let written = unsafe { ffi::BIO_write(ffi::SSL_get_rbio(ssl), hello.as_ptr().cast(), hello.len() as c_int) };
    assert_eq!(written, hello.len() as c_int);
}

/// # Safety
/// `ssl` must be alive and have memory BIOs.
unsafe fn drain(ssl: *mut ffi::SSL) -> usize {
    let mut answer = [0_u8; 256];
    // SAFETY: the BIO writes at most as much as `answer` has room for.
    let len = unsafe { ffi::BIO_read(ffi::SSL_get_wbio(ssl), answer.as_mut_ptr().cast(), answer.len() as c_int) };
    black_box(&answer);
    assert!(len > 0, "no answer");
    len as usize
}

fn main() {
    // As long as libssl's own client makes it, and each with another random.
    let hellos: Vec<Vec<u8>> = (0..HELLOS)
        .map(|n| {
            let random = std::array::from_fn(|i| (n >> (8 * (i % 2))) as u8);
            let rest = [&[0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0, 132, 0, 21, 0, 128][..], &[0; 128]].concat();
            Hello { random, rest, ..Hello::default() }.datagram()
        })
        .collect();
    ffi::init();
    let mut contenders = [gate(), listen_reused(), listen_new(), kept()];

    if let Some(alone) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) {
        let (_, answer) = contenders.iter_mut().find(|(name, _)| *name == alone).expect("one of the names");
        (0..10_000).for_each(|n| assert!(answer(&hellos[n % HELLOS]) > 0));
        return;
    }

    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, answer), times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for hello in &hellos {
                black_box(answer(hello));
            }
            times.push(start.elapsed().as_nanos() as f64 / HELLOS as f64);
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let median = |n: usize| times[n][ROUNDS / 2];
    for (n, (name, _)) in contenders.iter().enumerate() {
        println!("{name:14} {:8.0} ns per hello, {:6.1} times the gate", median(n), median(n) / median(0));
    }
}
