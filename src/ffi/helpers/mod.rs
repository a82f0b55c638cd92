//! The helper family: the functions of a hand-written DTLS program, with the same names, types and return values.

pub mod types;
pub use types::*;
