//! The server door on loopback: its sockets, its workers, and what a program can ask of it while it runs.

mod clients;
#[path = "../common/mod.rs"]
mod common;
#[path = "../endpoint/contexts.rs"]
#[allow(dead_code)]
mod contexts;
mod fleet;
mod handler;
mod kernel;
mod moving;
mod operation;
mod panics;
mod sockets;
mod workers;
