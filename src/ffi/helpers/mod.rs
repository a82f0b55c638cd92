//! The helper family: the functions of a hand-written DTLS program, with the same names, types and return values.
//!
//! The `cfg(not(dv_omit = ...))` on each function is never set: it only makes cbindgen write the guard that lets a C file
//! keep its own version (`#define DV_OMIT_<NAME>` before the include).

mod accept;
mod address;
mod connection;
mod context;
mod cookies;
mod due;
mod environment;
mod errno;
mod foreign;
mod given_up;
mod in_use;
mod messages;
mod operate;
mod refusals;
mod restart;
mod send;
mod shared;
mod state;
mod table;
mod types;

pub use connection::{dv_dtls_conn_free, dv_dtls_conn_new, dv_dtls_shutdown};
pub use context::*;
pub use cookies::*;
pub use messages::{dv_dtls_msg_send, dv_dtls_read, dv_dtls_write};
pub use operate::*;
pub use table::*;
pub use types::*;
