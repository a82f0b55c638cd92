//! Who is connected and what happens next. Bytes and time are arguments: nothing here touches a socket or a clock.
#![forbid(unsafe_code)]

pub mod connection;
pub mod cookie;
pub mod endpoint;
pub mod export;
pub mod gate;
mod protection;
pub mod records;
pub mod registry;
pub mod settings;
pub mod stats;
pub mod timers;
