//! Build script: header generation, OpenSSL version cfgs, soname.
fn main() {}
