//! The tests of main.rs with OpenSSL's records, which other cipher suites always have.

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod handshake;
mod hostile;
mod interop;
mod lifetime;
mod lost_finished;
#[path = "../common/net.rs"]
mod net;

use common::contexts;

/// Whether endpoints make records themselves.
const NATIVE_RECORDS: bool = false;

/// They have no connection IDs.
const CID_LEN: usize = 0;
