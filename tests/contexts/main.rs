//! The helpers that work on an SSL_CTX and on a peer's certificate, proved by real DTLS handshakes in memory.

mod certificate;
mod ciphers;
mod epoll;
mod peer_name;
mod support;
mod verify;
mod version;
