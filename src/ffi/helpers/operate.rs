//! Timeouts, settings and counters of the helpers, for programs that can add a line or two.

use libc::{c_int, size_t};

use super::due;
use super::shared::{local, shared};
use crate::engine::endpoint::{CookieSecret, Error};
use crate::engine::settings::Settings;
use crate::ffi::config::{dv_config, fill};
use crate::ffi::error::{guard_result, guard_result_uncancelled, invalid};
use crate::ffi::stats::dv_stats;
use crate::guard::guard;
use crate::net::server::ServerConfig;
use crate::net::sys;
use crate::tls::secret::FleetSecret;

/// Gets the time until something is due for the connections of the calling thread, to be passed to epoll_wait().
///
/// Returns milliseconds, rounded up; 0 when something is due now; -1 when nothing will be. Any helper may change it.
///
/// Threads: the answer is about the calling thread.
#[unsafe(no_mangle)]
pub extern "C" fn dv_dtls_next_timeout() -> c_int {
    guard(-1, || match due::next(&local()) {
        u64::MAX => -1,
        due => c_int::try_from(due.saturating_sub(sys::now()).div_ceil(1000)).unwrap_or(c_int::MAX),
    })
}

/// Does what is due for the connections that the calling thread was the last to use: retransmits flights, and gives up
/// handshakes and connections that took too long or were idle for too long. Call it when the time of
/// dv_dtls_next_timeout() is over; all other helpers do a part of it too. What it sends does not block.
///
/// Returns how many connections were handled. If very many are due, dv_dtls_next_timeout() returns 0 afterwards, and
/// another call does more.
#[unsafe(no_mangle)]
pub extern "C" fn dv_dtls_handle_timeouts() -> c_int {
    guard(0, || {
        const ROUNDS: usize = 64;
        let (local, now) = (local(), sys::now());
        // No call is about a connection now, so none is spared.
        local.last.set(std::ptr::null_mut());
        let rounds = (0..ROUNDS).map(|_| due::run(&local, now, std::ptr::null_mut())).take_while(|done| *done > 0);
        c_int::try_from(rounds.sum::<usize>()).unwrap_or(c_int::MAX)
    })
}

/// Gets the settings of the helpers: the defaults, as changed by environment variables (DV_MTU, DV_MAX_CONNECTIONS,
/// DV_MAX_HANDSHAKES, DV_MAX_CONNECTIONS_PER_SOURCE, DV_MAX_HANDSHAKES_PER_SOURCE, DV_MAX_CERTIFICATE_CHAIN,
/// DV_FIRST_TIMEOUT_MS, DV_LONGEST_TIMEOUT_MS, DV_HANDSHAKE_TIMEOUT_MS, DV_IDLE_TIMEOUT_MS, DV_RELEASE_BUFFERS) and by
/// dv_dtls_set_config(). The environment is read once, when a helper first needs it. A variable that makes no sense is
/// reported in the log, and the default stays.
///
/// - `config`: receives the settings; those of endpoints and servers only are 0
/// - `size`: sizeof(dv_config)
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
///
/// # Safety
/// `config` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_config(config: *mut dv_config, size: size_t) -> c_int {
    guard_result_uncancelled("dv_dtls_config", || {
        // SAFETY: the caller vouches for `size` bytes.
        unsafe { fill(config, size, &dv_config { size, ..dv_config::from(&*shared().settings()) }) }?;
        Ok(0)
    })
}

/// Changes the settings of the helpers: limits, deadlines, MTU, and the secret that cookies are made with. They apply
/// to connections that begin from now on; a lower limit gives up none that exist. Let dv_dtls_config() fill the struct,
/// then change what should be different. Settings of endpoints and servers only, native_records among them, are
/// ignored.
///
/// Set `release_buffers`, which frees OpenSSL's buffers of idle connections, only if the program never calls
/// SSL_write() on the `ssl` of a connection itself. With a `secret_file`, which each call reads, or a `cookie_secret`,
/// cookies are valid in all processes that share the secret, as with the file that the environment variable
/// DV_COOKIE_SECRET_FILE names. Cookies that were already sent stay valid.
///
/// - `config`: the settings
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has, a setting that makes no sense,
/// or a secret_file that cannot be read.
///
/// Threads: any, at any time.
///
/// # Safety
/// `config` is NULL or as long as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_set_config(config: *const dv_config) -> c_int {
    guard_result_uncancelled("dv_dtls_set_config", || {
        if config.is_null() {
            return Err(invalid("config is NULL"));
        }
        // SAFETY: the caller's promise.
        let ServerConfig { endpoint, secret_file, .. } = unsafe { dv_config::read_for_server(config) }?;
        endpoint.check()?;
        let file = secret_file.as_deref().map(FleetSecret::read).transpose();
        let file = file.map_err(|why| Error::Invalid(why.to_string()))?;
        let secret = file.as_ref().map(FleetSecret::for_cookies);
        if let Some(secret) = secret.or(endpoint.cookie_secret.as_ref().map(CookieSecret::bytes)) {
            shared().jar().replace(sys::now(), secret, sys::unix_offset());
        }
        // The program may use the SSLs, and two writers on one key would repeat nonces.
        shared().set_settings(Settings { native_records: false, ..endpoint.settings });
        Ok(0)
    })
}

/// Gets the counters of the helpers' table since the program started, summed over all threads.
///
/// - `stats`: receives the counters
/// - `size`: sizeof(dv_stats)
///
/// Returns 0 or a negative DV_ERR_*: DV_ERR_INVALID for a size that no version of the struct has.
///
/// # Safety
/// `stats` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_dtls_stats(stats: *mut dv_stats, size: size_t) -> c_int {
    guard_result("dv_dtls_stats", || {
        let (established, handshakes) = {
            let table = shared().table();
            (table.established(), table.handshakes())
        };
        let (sessions, handshakes) = (established.into(), handshakes.into());
        let counted = dv_stats { sessions, handshakes, ..dv_stats::from(shared().stats()) };
        // SAFETY: the caller's promise.
        unsafe { fill(stats, size, &counted) }?;
        Ok(0)
    })
}
