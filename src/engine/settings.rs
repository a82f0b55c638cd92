//! What an operator can set, with its default and its unit.

use std::time::Duration;

/// Microseconds, the engine's unit of time. A duration that does not fit becomes the longest one: never.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Settings of one endpoint, or of the helpers' table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size of the largest IP packet to send, IP and UDP headers included. 1280 goes everywhere (RFC 8200 5).
    pub mtu: u16,
    /// Connections at once; at the limit the longest idle one of the fullest source goes.
    pub max_connections: u32,
    /// Handshakes in progress at once.
    pub max_handshakes: u32,
    /// Connections from one source (an IPv4 address or an IPv6 /64); at the limit its own longest idle one goes.
    pub max_connections_per_source: u32,
    /// Handshakes in progress from one source.
    pub max_handshakes_per_source: u32,
    /// Wait before a flight is sent again for the first time; doubles after that (RFC 6347 4.2.4.1).
    pub first_timeout: Duration,
    /// The longest wait between two repetitions.
    pub longest_timeout: Duration,
    /// A handshake that takes longer is given up.
    pub handshake_timeout: Duration,
    /// A connection that hears nothing for this long is closed; zero means never.
    pub idle_timeout: Duration,
    /// Messages of one connection that wait for the program to read them.
    pub max_queued_messages: u16,
    /// Bytes of the peer's certificate chain.
    pub max_certificate_chain: u32,
    /// Give back the memory that an idle connection needs only for traffic: OpenSSL's record buffers, expanded keys. Only
    /// where nobody else writes on the SSLs.
    pub release_buffers: bool,
    /// Make the records of DTLS 1.2 with an AEAD ourselves once OpenSSL has finished the handshake, and free its SSL. Only
    /// where nobody else uses the SSLs.
    pub native_records: bool,
    /// Refuse handshakes whose master secret is not bound to them (RFC 7627).
    pub require_extended_master_secret: bool,
}

impl Settings {
    /// The smallest MTU that libssl works with.
    pub const MTU_MIN: u16 = 256;
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mtu: 1280,
            max_connections: 100_000,
            max_handshakes: 8192,
            max_connections_per_source: 100_000,
            max_handshakes_per_source: 4096,
            first_timeout: Duration::from_secs(1),
            longest_timeout: Duration::from_secs(8),
            handshake_timeout: Duration::from_secs(120),
            idle_timeout: Duration::ZERO,
            max_queued_messages: 64,
            max_certificate_chain: 32 * 1024,
            release_buffers: false,
            native_records: false,
            require_extended_master_secret: false,
        }
    }
}
