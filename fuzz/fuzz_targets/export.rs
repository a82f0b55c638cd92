#![no_main]

#[path = "../bodies/export.rs"]
mod export;

libfuzzer_sys::fuzz_target!(|data: &[u8]| export::run(data));
