//! The helper family: the functions of a hand-written DTLS program, with the same names, types and return values.
//!
//! The `cfg(not(dv_omit = ...))` on each function is never set: it only makes cbindgen write the guard that lets a C file
//! keep its own version (`#define DV_OMIT_<NAME>` before the include).

pub mod connection;
pub mod context;
pub mod cookies;
pub mod table;
pub mod types;

pub use connection::*;
pub use context::*;
pub use cookies::*;
pub use table::*;
pub use types::*;
