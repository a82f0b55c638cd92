//! The tests of main.rs with connection IDs on both sides, and what only they can do.

mod anew;
mod bounds;
mod cids;
mod cids_finished;
#[path = "../common/mod.rs"]
mod common;
mod handshake;
mod hostile;
mod last_flight;
mod lifetime;
mod lost_finished;
mod moving;
#[path = "../common/net.rs"]
mod net;
mod records;
mod unproven;

use common::contexts;

/// Whether endpoints make records themselves.
const NATIVE_RECORDS: bool = true;

/// Bytes of their connection IDs; 0: they want none.
const CID_LEN: usize = 8;
