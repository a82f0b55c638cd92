//! Build script: header generation, OpenSSL version cfgs, soname.
fn main() {
    openssl_version();
}

/// Tells the library which OpenSSL it is built against, for the comparison with the one that is loaded.
fn openssl_version() {
    let number = std::env::var("DEP_OPENSSL_VERSION_NUMBER").expect("openssl-sys tells its dependents the version");
    println!("cargo::rustc-env=DV_OPENSSL_VERSION_NUMBER={number}");
}
