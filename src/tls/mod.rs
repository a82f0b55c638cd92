//! The only room that calls libssl and libcrypto: contexts, sessions, the datagram BIO.

pub mod context;
pub mod sys;
