//! The only room that calls libssl and libcrypto: contexts, sessions, the datagram BIO.

pub mod bio;
pub mod context;
pub mod cookie;
pub mod ex_data;
pub mod session;
pub mod sys;
