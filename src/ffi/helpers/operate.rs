//! For programs that can add a line: time, and what the fleet shares.

use libc::{c_int, c_void, size_t};

use super::due;
use super::shared::{local, shared};
use super::types::*;
use crate::engine::cookie::CookieJar;
use crate::guard::guard;
use crate::log::log;
use crate::net::sys;

/// Says how long the calling thread may sleep until something is due for its connections: pass it to epoll_wait().
///
/// Returns milliseconds, rounded up; 0 when something is due now; -1 when nothing will be.
///
/// Threads: each has its own answer.
#[unsafe(no_mangle)]
pub extern "C" fn dv_dtls_next_timeout() -> c_int {
    guard(-1, || match local().timers.borrow().next() {
        u64::MAX => -1,
        due => c_int::try_from(due.saturating_sub(sys::now()).div_ceil(1000)).unwrap_or(c_int::MAX),
    })
}

/// Does what is due for the connections that the calling thread used last: sends flights again, gives up handshakes that
/// take too long and connections that are idle for too long. Call it when dv_dtls_next_timeout() has passed; every other
/// helper does a part of it too.
///
/// Returns how many connections were looked after.
#[unsafe(no_mangle)]
pub extern "C" fn dv_dtls_handle_timeouts() -> c_int {
    const ROUNDS: usize = 64;
    guard(0, || {
        let (local, now) = (local(), sys::now());
        // No call is about a connection now, so none is spared.
        local.last.set(std::ptr::null_mut());
        let rounds = (0..ROUNDS).map(|_| due::run(&local, now, std::ptr::null_mut())).take_while(|done| *done > 0);
        c_int::try_from(rounds.sum::<usize>()).unwrap_or(c_int::MAX)
    })
}

/// Sets the secret that cookies are made with, for several processes or machines that answer for each other. Without it
/// each process has a random one; the environment variable DV_COOKIE_SECRET_FILE names a file for a program that cannot be
/// changed. Cookies made with the old secret are not good any more. The clocks of the machines may be a minute apart.
///
/// - `secret`: the secret, of which a copy is made
/// - `len`: its length in bytes, at least 16
///
/// Returns DV_OK, or DV_ERROR for a NULL or too short a secret.
///
/// # Safety
/// `secret` is NULL or has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_set_cookie_secret(secret: *const c_void, len: size_t) -> c_int {
    const LEAST: usize = 16;
    guard(DV_ERROR, || {
        if secret.is_null() || len < LEAST {
            log!(Error, "dv_dtls_set_cookie_secret: {len} bytes, but at least {LEAST} are needed");
            return DV_ERROR;
        }
        // SAFETY: the caller vouches for the pointer.
        let secret = unsafe { std::slice::from_raw_parts(secret.cast::<u8>(), len) };
        *shared().jar() = CookieJar::new(secret, sys::unix_offset());
        DV_OK
    })
}
