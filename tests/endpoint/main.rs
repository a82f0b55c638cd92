//! The sans-IO endpoint, proved on a simulated network, with records of its own. The same with OpenSSL's is in
//! openssl_records.rs, with connection IDs in connection_ids.rs.

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod cookies;
mod handover;
mod handshake;
mod hostile;
mod interop;
mod last_flight;
mod lifetime;
mod lost_finished;
#[path = "../common/net.rs"]
mod net;
mod records;

use common::contexts;

/// Whether endpoints make records themselves.
const NATIVE_RECORDS: bool = true;

/// Bytes of their connection IDs; 0: they want none.
const CID_LEN: usize = 0;
