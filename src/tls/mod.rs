//! The only room that calls libssl and libcrypto: contexts, sessions, the datagram BIO.

pub mod cause;
pub mod certificate;
pub mod context;
pub mod peer;
pub mod sys;
pub mod version;
