//! dv_version, dv_version_num, dv_check_version with the right OpenSSL; tests/openssl_mismatch.rs has a wrong one.

use std::ffi::CStr;

use dv_dtls::*;

use crate::support::{fails, works};

#[test]
fn the_version_is_cargos() {
    let text = unsafe { CStr::from_ptr(dv_version()) }.to_str().unwrap();
    assert_eq!(text, env!("CARGO_PKG_VERSION"));
    let number = text.split('.').fold(0, |sum, part| sum << 8 | part.parse::<u32>().unwrap());
    assert_eq!(dv_version_num(), number);
    works(|| dv_check_version(0));
    works(|| dv_check_version(number));
    fails(|| dv_check_version(number + 1), &["is wanted", text]);
    fails(|| dv_check_version(u32::MAX), &["65535.255.255 is wanted"]);
}
