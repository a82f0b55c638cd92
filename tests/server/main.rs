//! The server door on loopback: its sockets, its workers, and what a program can ask of it while it runs.

#[path = "../common/mod.rs"]
mod common;
mod fleet;
mod handler;
mod kernel;
mod moving;
mod operation;
mod panics;
mod sockets;
mod workers;

use common::{clients, contexts};
