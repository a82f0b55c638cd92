//! What an operator can set without a line of code: environment variables, read once, when the table is first used.
//!
//! They are ignored in a program that runs with more rights than its user (secure_getenv).

use std::ffi::{CStr, OsString};
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::engine::endpoint::CookieSecret;
use crate::engine::settings::Settings;
use crate::log::{self, Level, log};
use crate::net::sys;
use crate::tls;
use crate::tls::secret::FleetSecret;

/// The settings: defaults, and what the environment says.
pub fn settings() -> Settings {
    listen();
    let mut settings = Settings::default();
    let milliseconds = |name, value: &mut Duration| {
        if let Some(number) = number(name, 0, u64::from(u32::MAX)) {
            *value = Duration::from_millis(number);
        }
    };
    let count = |name, value: &mut u32, least| {
        if let Some(number) = number(name, least, u64::from(u32::MAX)) {
            *value = number as u32;
        }
    };
    if let Some(mtu) = number(c"DV_MTU", u64::from(Settings::MTU_MIN), 65_535) {
        settings.mtu = mtu as u16;
    }
    count(c"DV_MAX_CONNECTIONS", &mut settings.max_connections, 1);
    count(c"DV_MAX_HANDSHAKES", &mut settings.max_handshakes, 1);
    count(c"DV_MAX_CONNECTIONS_PER_SOURCE", &mut settings.max_connections_per_source, 1);
    count(c"DV_MAX_HANDSHAKES_PER_SOURCE", &mut settings.max_handshakes_per_source, 1);
    count(c"DV_MAX_CERTIFICATE_CHAIN", &mut settings.max_certificate_chain, 1024);
    milliseconds(c"DV_FIRST_TIMEOUT_MS", &mut settings.first_timeout);
    milliseconds(c"DV_LONGEST_TIMEOUT_MS", &mut settings.longest_timeout);
    milliseconds(c"DV_HANDSHAKE_TIMEOUT_MS", &mut settings.handshake_timeout);
    milliseconds(c"DV_IDLE_TIMEOUT_MS", &mut settings.idle_timeout);
    if let Some(release) = number(c"DV_RELEASE_BUFFERS", 0, 1) {
        settings.release_buffers = release == 1;
    }
    settings
}

/// The secret of the cookies: what the file named by DV_COOKIE_SECRET_FILE holds, or random bytes.
pub fn cookie_secret() -> CookieSecret {
    if let Some(path) = sys::environment(c"DV_COOKIE_SECRET_FILE") {
        match FleetSecret::read(Path::new(&path)) {
            Ok(secret) => return CookieSecret::new(secret.for_cookies(), sys::unix_offset()),
            Err(why) => log!(Error, "DV_COOKIE_SECRET_FILE is not used: {why}"),
        }
    }
    CookieSecret::new(tls::random::<32>(), sys::unix_offset())
}

/// DV_LOG=error|warn|info|debug shows the log on stderr, until the program sets a callback. Each helper that can be a
/// program's first one asks for it.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(name) = sys::environment(c"DV_LOG") else { return };
        let level = match name.to_str() {
            Some("error") => Level::Error,
            Some("warn") => Level::Warn,
            Some("info") => Level::Info,
            Some("debug") => Level::Debug,
            _ => return,
        };
        let show = |level, line: &str| sys::write_stderr(&format!("dv_dtls {level:?}: {line}\n"));
        log::listen_by_default(level, Arc::new(show));
    });
}

fn number(name: &CStr, least: u64, most: u64) -> Option<u64> {
    let value: OsString = sys::environment(name)?;
    let number = value.to_str().and_then(|value| value.parse().ok()).filter(|number| (least..=most).contains(number));
    if number.is_none() {
        let (name, value) = (name.to_string_lossy(), value.display());
        log!(Error, "{name}={value}: not a number from {least} to {most}, ignored");
    }
    number
}
