//! The C ABI and nothing else: check arguments, convert, catch panics, call one engine function.

mod guard;
pub mod helpers;
