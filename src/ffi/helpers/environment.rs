//! What an operator can set without a line of code: environment variables, read once, when the table is first used.
//!
//! They are ignored in a program that runs with more rights than its user (secure_getenv).

use std::ffi::{CStr, OsStr};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::endpoint::CookieSecret;
use crate::engine::settings::Settings;
use crate::log::{self, Level, log};
use crate::net::sys;
use crate::tls;
use crate::tls::fork::Once;
use crate::tls::secret::FleetSecret;

/// The settings: defaults, and what the environment says.
pub fn settings() -> Settings {
    listen();
    let mut settings = Settings::default();
    number(c"DV_MTU", &mut settings.mtu, Settings::MTU_MIN..=u16::MAX);
    for (name, value, range) in [
        (c"DV_MAX_CONNECTIONS", &mut settings.max_connections, 1..=u32::MAX),
        (c"DV_MAX_HANDSHAKES", &mut settings.max_handshakes, 1..=u32::MAX),
        (c"DV_MAX_CONNECTIONS_PER_SOURCE", &mut settings.max_connections_per_source, 1..=u32::MAX),
        (c"DV_MAX_HANDSHAKES_PER_SOURCE", &mut settings.max_handshakes_per_source, 1..=u32::MAX),
        (c"DV_MAX_CERTIFICATE_CHAIN", &mut settings.max_certificate_chain, 1024..=u32::MAX),
    ] {
        number(name, value, range);
    }
    for (name, value, least) in [
        (c"DV_FIRST_TIMEOUT_MS", &mut settings.first_timeout, 10),
        (c"DV_LONGEST_TIMEOUT_MS", &mut settings.longest_timeout, 10),
        (c"DV_HANDSHAKE_TIMEOUT_MS", &mut settings.handshake_timeout, 1),
        (c"DV_IDLE_TIMEOUT_MS", &mut settings.idle_timeout, 0),
    ] {
        let mut milliseconds = value.as_millis() as u32;
        number(name, &mut milliseconds, least..=u32::MAX);
        *value = Duration::from_millis(milliseconds.into());
    }
    let mut release = u8::from(settings.release_buffers);
    number(c"DV_RELEASE_BUFFERS", &mut release, 0..=1);
    settings.release_buffers = release == 1;
    settings
}

/// Sets `value` to the number that a variable holds. One that makes no sense leaves it as it is, and the log says so.
fn number<T: FromStr + PartialOrd + Display>(name: &CStr, value: &mut T, range: RangeInclusive<T>) {
    let Some(text) = sys::environment(name) else { return };
    match text.to_str().and_then(|text| text.parse().ok()).filter(|number| range.contains(number)) {
        Some(number) => *value = number,
        None => {
            let (least, most) = range.into_inner();
            not_used(name, &text, format_args!("not a number from {least} to {most}; it stays {value}"));
        }
    }
}

/// The operator has given a variable a value that makes no sense. It may hold anything, but the log has lines.
fn not_used(name: &CStr, value: &OsStr, instead: impl Display) {
    log!(Error, "{}={}: {instead}", name.to_string_lossy(), value.to_string_lossy().escape_debug());
}

/// The secret of the cookies: what the file named by DV_COOKIE_SECRET_FILE holds, or random bytes.
pub fn cookie_secret() -> CookieSecret {
    if let Some(path) = sys::environment(c"DV_COOKIE_SECRET_FILE") {
        match FleetSecret::read(Path::new(&path)) {
            Ok(secret) => return CookieSecret::new(secret.for_cookies(), sys::unix_offset()),
            Err(why) => not_used(c"DV_COOKIE_SECRET_FILE", &path, format_args!("{why}; the secret is random")),
        }
    }
    CookieSecret::new(tls::random::<32>(), sys::unix_offset())
}

/// DV_LOG=error|warn|info|debug shows the log on stderr, until the program sets a callback. Each helper that can be a
/// program's first one asks for it.
pub fn listen() {
    static ONCE: Once<()> = Once::new();
    ONCE.get_or_init(|| {
        let Some(name) = sys::environment(c"DV_LOG").filter(|name| !name.is_empty()) else { return };
        let known = [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
        let level = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, level)| *level);
        let show = |level, line: &str| sys::write_stderr(&format!("dv_dtls {level:?}: {line}\n"));
        // Who sets it wants a log.
        log::listen_by_default(level.unwrap_or(Level::Warn), Arc::new(show));
        if level.is_none() {
            not_used(c"DV_LOG", &name, "none of error, warn, info and debug; it is warn");
        }
    });
}
