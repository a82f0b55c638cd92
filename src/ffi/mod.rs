//! The C ABI and nothing else: check arguments, convert, catch panics, call one engine function.

pub mod helpers;
mod log;
mod version;

pub use helpers::*;
pub use log::*;
pub use version::*;
