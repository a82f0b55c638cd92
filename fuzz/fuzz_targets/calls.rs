#![no_main]

#[path = "../bodies/calls.rs"]
mod calls;
#[path = "../bodies/common.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|data: &[u8]| calls::run(data));
