//! What is on the wire: records, handshake fragments, ClientHello and HelloVerifyRequest as pure functions over byte slices.
//!
//! Nothing here trusts a length. Only [`datagrams`], [`queue`] and [`backlog`], which hold what waits, allocate or keep state.
//! The rules are those of RFC 6347, and of RFC 5246 where it refers to that.
#![forbid(unsafe_code)]

pub mod backlog;
pub mod datagrams;
pub mod handshake;
pub mod hello;
pub mod hello_verify;
pub mod queue;
pub mod record;
pub mod refragment;
pub mod routability;
