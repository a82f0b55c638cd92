//! The cookie callbacks, for SSL_CTX_set_cookie_generate_cb() and SSL_CTX_set_cookie_verify_cb().
//!
//! Under dv_dtls_conn_new() they are only asked whether they are there: the library's own stateless stage makes and checks
//! the cookies, over the hello as well. Where a program runs DTLSv1_listen() or SSL_accept() itself, libssl shows no hello:
//! the cookie is made over the peer's address, or, where the BIO knows none, over a random value that hangs on the SSL.

use libc::{c_int, c_uchar, c_uint};
use openssl_sys::SSL;

use super::shared::shared;
use crate::guard::guard;
use crate::net::sys;
use crate::tls;
use crate::tls::ex_data::Slot;
use crate::tls::session::{Asked, Callback, cookie_asked, peer_bytes};

/// Stands for the peer's address where nobody knows it: the cookie is good for this SSL only.
static STAND_IN: Slot<SSL, Vec<u8>> = Slot::new();

/// Makes a 21-byte cookie for the peer of an SSL. For SSL_CTX_set_cookie_generate_cb().
///
/// dv_dtls_conn_new() does not call it. Where it is set, the library makes and checks the cookies itself, over the
/// ClientHello as well; also where it is a callback of the program's own that calls it, as the two cannot be told apart.
/// DTLSv1_listen() and SSL_accept() do call it: the cookie is then made over the address that the
/// SSL's rbio reports (BIO_dgram_get_peer), or, where there is none, is good for this SSL only.
///
/// - `ssl`: the SSL
/// - `cookie`: receives the cookie: room for 21 bytes (libssl provides 255)
/// - `cookie_len`: receives the length of the cookie in bytes
///
/// Returns 1, or 0 if an argument is NULL.
///
/// Threads: any; an SSL is used by one at a time.
///
/// # Safety
/// The pointers are NULL or valid.
#[cfg(not(dv_omit = "dtls_generate_cookie_callback"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_generate_cookie_callback(
    ssl: *mut SSL,
    cookie: *mut c_uchar,
    cookie_len: *mut c_uint,
) -> c_int {
    guard(0, || {
        if ssl.is_null() || cookie.is_null() || cookie_len.is_null() {
            return 0;
        }
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            cookie_asked(ssl, Callback::Generate);
            // The lock is not held while OpenSSL is asked.
            let subject = subject(ssl);
            let made = shared().jar().issue_for(sys::now(), &subject);
            std::ptr::copy_nonoverlapping(made.as_ptr(), cookie, made.len());
            *cookie_len = made.len() as c_uint;
        }
        1
    })
}

/// Checks a cookie made by dv_dtls_generate_cookie_callback(). For SSL_CTX_set_cookie_verify_cb().
///
/// - `ssl`: the SSL
/// - `cookie`: the cookie that the peer returned
/// - `cookie_len`: its length in bytes
///
/// Returns 1 if it was made for this peer and has not expired (it is good for at least four minutes), else 0.
///
/// Threads: any; an SSL is used by one at a time.
///
/// # Safety
/// The pointers are NULL or valid.
#[cfg(not(dv_omit = "dtls_verify_cookie_callback"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_verify_cookie_callback(
    ssl: *mut SSL,
    cookie: *const c_uchar,
    cookie_len: c_uint,
) -> c_int {
    guard(0, || {
        if ssl.is_null() || cookie.is_null() {
            return 0;
        }
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            match cookie_asked(ssl, Callback::Verify) {
                Asked::ByProbe => 0,
                Asked::Proven => 1,
                Asked::ByProgram => {
                    let cookie = std::slice::from_raw_parts(cookie, cookie_len as usize);
                    let subject = subject(ssl);
                    c_int::from(shared().jar().verify_for(sys::now(), &subject, cookie))
                }
            }
        }
    })
}

/// # Safety
/// `ssl` is live.
unsafe fn subject(ssl: *mut SSL) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe {
        if let Some(peer) = peer_bytes(ssl) {
            return peer;
        }
        if STAND_IN.get(ssl).is_none() {
            STAND_IN.set(ssl, tls::random::<32>().into());
        }
        STAND_IN.get(ssl).cloned().unwrap_or_default()
    }
}
