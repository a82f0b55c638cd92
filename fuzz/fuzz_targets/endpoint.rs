#![no_main]

#[path = "../bodies/endpoint.rs"]
mod endpoint;
#[path = "../bodies/common.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|data: &[u8]| endpoint::run(data));
