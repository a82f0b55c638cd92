//! The parts, what their tables are called, and what was aimed at.

use super::results::Aim;
use super::results::Bound::{AtLeast, AtMost};

/// The parts of a run, in this order; heap and find are left out when it is to be quick, and loss if nobody asks for it.
pub const PARTS: [&str; 9] =
    ["messages", "handshakes", "flood", "connections", "workers", "instructions", "heap", "find", "loss"];

/// The tables, each with what it shows.
pub const TITLES: [(&str, &str); 10] = [
    ("messages", "Server CPU per message there and back, kernel included, in µs"),
    ("handshakes", "Server CPU per handshake with a P-256 certificate and X25519, in µs"),
    (
        "flood",
        "A flood of hellos without cookies; of their throughput 64 clients keep so much of what they have while it goes to a closed port",
    ),
    ("memory", "Resident memory for each of so many idle connections, in kB"),
    ("growth", "Server CPU per message of 1,000 clients among so many connections, in µs"),
    ("workers", "One worker and two, with twice the load"),
    ("instructions", "User-space instructions per message of 64 B, 16 clients"),
    ("heap", "Heap for each of 2,000 idle connections"),
    ("find", "A look-up among so many connections, in ns"),
    ("loss", "Of 1,000 handshakes through so much loss, those complete in time"),
];

const SMALL: &str = "64 B, 64 clients";
const LARGE: &str = "1,000 B, 64 clients";
const BURSTS: &str = "64 B, bursts of 8";

const fn to_original(
    what: &'static str,
    part: &'static str,
    case: &'static str,
    server: &'static str,
    most: f64,
) -> Aim {
    Aim { what, value: (part, case, server), of: Some((part, case, "original")), bound: AtMost(most) }
}

const fn to_other(what: &'static str, case: &'static str, server: &'static str, other: &'static str, most: f64) -> Aim {
    Aim { what, value: ("messages", case, server), of: Some(("messages", case, other)), bound: AtMost(most) }
}

const fn kept(what: &'static str, case: &'static str, server: &'static str, least: f64) -> Aim {
    Aim { what, value: ("flood", case, server), of: None, bound: AtLeast(least) }
}

/// What was aimed at.
pub const AIMS: [Aim; 28] = [
    to_original("CPU per message, server : original", "messages", SMALL, "server", 0.42),
    to_other("CPU per message, server : UDP without DTLS", SMALL, "server", "udp", 1.2),
    to_original("CPU per message in bursts, server : original", "messages", BURSTS, "server", 0.2),
    to_original("CPU per message, server with OpenSSL's records : original", "messages", SMALL, "server-openssl", 0.58),
    to_other("CPU per message, server with OpenSSL's records : UDP without DTLS", SMALL, "server-openssl", "udp", 1.7),
    to_original(
        "CPU per message in bursts, server with OpenSSL's records : original",
        "messages",
        BURSTS,
        "server-openssl",
        0.3,
    ),
    to_other("CPU per message, server : OpenSSL", SMALL, "server", "openssl", 1.0),
    to_other("CPU per message, server : GnuTLS", SMALL, "server", "gnutls", 1.0),
    to_other("CPU per message, server : Mbed TLS", SMALL, "server", "mbedtls", 1.0),
    to_other("CPU per message, server : wolfSSL", SMALL, "server", "wolfssl", 1.0),
    to_other("CPU per message of 1,000 B, server : OpenSSL", LARGE, "server", "openssl", 1.0),
    to_other("CPU per message of 1,000 B, server : GnuTLS", LARGE, "server", "gnutls", 1.0),
    to_other("CPU per message of 1,000 B, server : Mbed TLS", LARGE, "server", "mbedtls", 1.0),
    to_other("CPU per message of 1,000 B, server : wolfSSL", LARGE, "server", "wolfssl", 1.0),
    to_original("CPU per full handshake, server : original", "handshakes", "full", "server", 0.9),
    Aim {
        what: "CPU per resumed handshake, server : the original's full one",
        value: ("handshakes", "resumed", "server"),
        of: Some(("handshakes", "full", "original")),
        bound: AtMost(0.3),
    },
    to_original("CPU per hello, server : original", "flood", "µs per hello", "server", 0.1),
    kept("throughput kept beside any number of hellos, server", "kept, any number of hellos", "server", 0.9),
    kept("throughput kept beside 20,000 hellos/s, helpers", "kept, 20,000 hellos/s", "helpers", 0.8),
    Aim {
        what: "memory per connection in kB at 100,000, server",
        value: ("memory", "100,000", "server"),
        of: None,
        bound: AtMost(1.5),
    },
    Aim {
        what: "messages a second, two workers : one",
        value: ("workers", "2 workers", "server"),
        of: Some(("workers", "messages a second, 1 worker", "server")),
        bound: AtLeast(1.8),
    },
    Aim {
        what: "CPU per message, two workers : one",
        value: ("workers", "µs, 2 workers", "server"),
        of: Some(("workers", "µs per message, 1 worker", "server")),
        bound: AtMost(1.1),
    },
    to_original("CPU per message, helpers : original", "messages", SMALL, "helpers", 0.77),
    to_original("instructions per message, helpers : original", "instructions", "as callgrind counts", "helpers", 0.6),
    to_original("CPU per hello, helpers : original", "flood", "µs per hello", "helpers", 1.0 / 6.0),
    to_original("heap per connection, helpers : original", "heap", "kB", "helpers", 1.0),
    Aim {
        what: "heap per connection in kB, helpers, buffers given back",
        value: ("heap", "kB, buffers given back", "helpers"),
        of: None,
        bound: AtMost(40.0),
    },
    to_original("look-up among 100,000, helpers : original", "find", "100,000", "helpers", 0.2),
];
