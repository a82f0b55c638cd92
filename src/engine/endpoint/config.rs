//! How an endpoint is to behave.

use std::fmt;
use std::hint::black_box;

use openssl::ssl::SslContextRef;

use super::Error;
use crate::engine::settings::Settings;
use crate::tls;

/// How an endpoint is to behave. The defaults are those of a server that is open to the world.
#[derive(Clone, Debug)]
pub struct Config {
    /// Limits, deadlines, sizes.
    pub settings: Settings,
    /// Whether handshakes of others are accepted. Without it the endpoint only connects.
    pub accept: bool,
    /// The secret behind the cookies; without one a random one is taken.
    pub cookie_secret: Option<CookieSecret>,
    /// Whether a server that is connected to must have a certificate that the context trusts, whatever its verify mode says.
    pub verify_server: bool,
    /// Bytes that may wait for the program to read them, and bytes that may wait for it to send them. Beyond that messages
    /// are dropped and counted, beyond half of it no new handshakes begin, and [`Endpoint::send`](super::Endpoint::send) gives [`Error::Again`].
    pub max_waiting_bytes: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            settings: Settings { release_buffers: true, native_records: true, ..Settings::default() },
            accept: true,
            cookie_secret: None,
            verify_server: true,
            max_waiting_bytes: 16 << 20,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let least = Settings::MTU_MIN;
        if self.settings.mtu < least {
            return Err(Error::Invalid(format!("an mtu of {} bytes: at least {least} are needed", self.settings.mtu)));
        }
        Ok(())
    }
}

/// Whether sessions can be made with a context, those of clients of ours too (`accept`).
pub(crate) fn check_context(context: &SslContextRef, accept: bool) -> Result<(), Error> {
    if !tls::context::is_for_dtls(context) {
        return Err(Error::Invalid("the context is not one for DTLS".into()));
    }
    if accept && !tls::cookie::trust_the_gate(context) {
        return Err(Error::Invalid("the context has cookie callbacks of the program's own".into()));
    }
    Ok(())
}

/// The secret of a fleet: what one machine has challenged with a cookie, another one accepts.
#[derive(Clone)]
pub struct CookieSecret {
    pub(super) secret: Vec<u8>,
    pub(super) unix_offset: u64,
}

impl CookieSecret {
    /// `secret` is the same on all machines, 20 random bytes for instance. `unix_offset_us` is what the time that the
    /// endpoint is given lacks to Unix time, in microseconds: their clocks may be a minute apart.
    pub fn new(secret: impl Into<Vec<u8>>, unix_offset_us: u64) -> CookieSecret {
        CookieSecret { secret: secret.into(), unix_offset: unix_offset_us }
    }
}

impl CookieSecret {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.secret
    }
}

impl Drop for CookieSecret {
    fn drop(&mut self) {
        self.secret.fill(0);
        black_box(&self.secret);
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}
