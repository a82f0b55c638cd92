//! openssl-for-tests SERIES DIR HOST: builds OpenSSL of a series (3.6 or 4.0), static libraries, in DIR/install.

use std::env;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [series, into, host] = &arguments[..] else { panic!("usage: openssl-for-tests SERIES DIR HOST") };
    let carried = [openssl_src_3::version(), openssl_src_4::version()];
    // What comes behind the plus is OpenSSL's own version.
    let number = carried.iter().position(|version| version.contains(&format!("+{series}.")));
    match number {
        Some(0) => drop(openssl_src_3::Build::new().out_dir(into).target(host).host(host).build()),
        Some(1) => drop(openssl_src_4::Build::new().out_dir(into).target(host).host(host).build()),
        _ => panic!("no crate here carries OpenSSL {series}, only {carried:?}"),
    }
}
