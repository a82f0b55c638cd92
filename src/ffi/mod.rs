//! The C ABI and nothing else: check arguments, convert, catch panics, call one engine function.

mod address;
mod config;
mod connection_ids;
mod endpoint;
mod error;
mod export;
pub mod helpers;
mod log;
mod running;
mod server;
mod session;
mod stats;
mod version;

pub use config::*;
pub use connection_ids::*;
pub use endpoint::*;
pub use error::*;
pub use export::*;
pub use helpers::*;
pub use log::*;
pub use server::*;
pub use session::*;
pub use stats::*;
pub use version::*;
