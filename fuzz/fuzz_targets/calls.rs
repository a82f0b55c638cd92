#![no_main]

#[path = "../bodies/calls.rs"]
mod calls;
#[path = "../bodies/common.rs"]
mod common;

libfuzzer_sys::fuzz_target!(init: common::spare_openssl(), |data: &[u8]| common::forgets(|| calls::run(data)));
