#![no_main]

#[path = "../bodies/hello.rs"]
mod hello;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hello::run(data));
