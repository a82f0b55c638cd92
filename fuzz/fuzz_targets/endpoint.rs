#![no_main]

#[path = "../bodies/common.rs"]
mod common;
#[path = "../bodies/endpoint.rs"]
mod endpoint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| endpoint::run(data));
