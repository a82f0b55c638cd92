//! The helpers that work on an SSL_CTX and on a peer's certificate, proved by real DTLS handshakes in memory.

// A test calls C functions with what it made itself on the line above.
#![allow(clippy::undocumented_unsafe_blocks)]

mod certificate;
mod ciphers;
#[path = "../common/mod.rs"]
mod common;
mod epoll;
mod names;
mod peer_name;
mod support;
mod tickets;
mod verify;
mod version;
