#![no_main]

#[path = "../bodies/common.rs"]
mod common;
#[path = "../bodies/endpoint.rs"]
mod endpoint;
#[path = "../bodies/sides.rs"]
mod sides;

libfuzzer_sys::fuzz_target!(init: common::spare_openssl(), |data: &[u8]| common::forgets(|| endpoint::run(data)));
