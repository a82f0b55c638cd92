//! The tests of main.rs with connection IDs on both sides, and what only they can do.

mod anew;
mod bounds;
mod cids;
mod contexts;
mod handshake;
mod hostile;
mod last_flight;
mod lifetime;
mod moving;
mod net;
mod records;

/// Whether endpoints make records themselves.
const NATIVE_RECORDS: bool = true;

/// Bytes of their connection IDs; 0: they want none.
const CID_LEN: usize = 8;
