#![no_main]

#[path = "../bodies/demux.rs"]
mod demux;

libfuzzer_sys::fuzz_target!(|data: &[u8]| demux::run(data));
