//! How an endpoint is to behave.

use std::fmt;
use std::time::Duration;

use openssl::ssl::SslContextRef;

use super::Error;
use crate::engine::cookie::CookieJar;
use crate::engine::registry::CID_MAX;
use crate::engine::settings::Settings;
use crate::tls::{self, connection_id};
use crate::wipe;

/// The largest multiple that records are padded to: there is room for it in the smallest packet.
const PADDING_MAX: u16 = 64;

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
    /// Whether sessions may be known by connection IDs instead of addresses, and how.
    pub connection_ids: Option<ConnectionIds>,
    /// An export that takes longer to write, since nobody reads it, fails, and the sessions go on; zero means that there is no
    /// limit. [`Endpoint::export`](super::Endpoint::export), which cannot know how long its `Write` waits, has none. For
    /// imports see [`Export::take`](crate::Export::take).
    pub export_timeout: Duration,
}

/// How sessions are known by connection IDs (RFC 9146): a peer whose address changes goes on without a handshake.
///
/// Both sides must want them, and each chooses the ID that it is sent. They need [`Settings::native_records`] and the cipher
/// suites that go with it: a client offers no others then.
///
/// The first endpoint that wants them changes the context, as OpenSSL can be told of extensions only there: no other thread
/// may be making sessions with the context meanwhile. A program whose endpoints share one makes them before it uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionIds {
    /// Bytes of ours, at most 32. With 0 ours are empty: the peer must be found by its address, as without them, and only
    /// its own IDs are used. All implementations can do with 8; some can with no more than 10.
    pub len: usize,
    /// What ours begin with, in clear, so that a load balancer can tell which server a datagram is for. The bytes behind it
    /// are random, at least one.
    pub server_id: Vec<u8>,
    /// Records with the peer's ID are filled up with zeros, so that what is sealed in them is as long as a multiple of so
    /// many bytes; 0 or 1: not at all.
    pub padding: u16,
    /// Whether a peer's new address is checked by asking the peer there (RFC 9853), if the peer can do so too.
    pub routability_checks: bool,
}

impl Default for ConnectionIds {
    fn default() -> ConnectionIds {
        ConnectionIds { len: 8, server_id: Vec::new(), padding: 0, routability_checks: true }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            settings: Settings { release_buffers: true, native_records: true, ..Settings::default() },
            accept: true,
            cookie_secret: None,
            verify_server: true,
            max_waiting_bytes: 16 << 20,
            connection_ids: None,
            export_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Whether sessions can be made with `context`, and prepares it for them.
    pub(crate) fn check_context(&self, context: &SslContextRef) -> Result<(), Error> {
        if !tls::context::is_for_dtls(context) {
            return Err(Error::Invalid("the context is not one for DTLS".into()));
        }
        if self.accept {
            tls::context::bound_session_cache(context);
            if !tls::cookie::trust_the_gate(context)? {
                return Err(Error::Invalid("the context has cookie callbacks of the program's own".into()));
            }
        }
        if self.connection_ids.is_some() {
            connection_id::prepare(context).map_err(|why| Error::Invalid(why.to_string()))?;
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let least = Settings::MTU_MIN;
        if self.settings.mtu < least {
            return Err(Error::Invalid(format!("an mtu of {} bytes: at least {least} are needed", self.settings.mtu)));
        }
        let Some(ConnectionIds { len, server_id, padding, .. }) = &self.connection_ids else { return Ok(()) };
        if !self.settings.native_records {
            return Err(Error::Invalid("connection IDs without native_records".into()));
        }
        if *len > CID_MAX || server_id.len() >= (*len).max(1) {
            let server_id = server_id.len();
            return Err(Error::Invalid(format!(
                "connection IDs of {len} bytes with a server's ID of {server_id}: at most {CID_MAX}, one of them random"
            )));
        }
        if *padding > PADDING_MAX {
            return Err(Error::Invalid(format!("padding to {padding} bytes: at most {PADDING_MAX}")));
        }
        Ok(())
    }
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

    /// What makes and checks cookies with it.
    pub(crate) fn jar(&self) -> CookieJar {
        CookieJar::new(&self.secret, self.unix_offset)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.secret
    }
}

impl Drop for CookieSecret {
    fn drop(&mut self) {
        wipe::bytes(&mut self.secret);
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}
