//! The C ABI and nothing else: check arguments, convert, catch panics, call one engine function.

mod guard;
pub mod helpers;
pub mod log;
pub mod version;

pub use helpers::*;
pub use log::*;
pub use version::*;
