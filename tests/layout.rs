//! The public types have one layout in C and in Rust.

mod common;

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

use dv_dtls::{dv_list_node, dv_udp_conn_key_t, dv_udp_conn_t};

macro_rules! layout {
    ($lines:ident, $type:ident: $($member:ident),*) => {
        let _ = writeln!($lines, "{} {}", stringify!($type), size_of::<$type>());
        $(let _ = writeln!($lines, "{}.{} {}", stringify!($type), stringify!($member), offset_of!($type, $member));)*
    };
}

#[test]
fn of_c_and_rust_are_equal() {
    let mut rust = String::new();
    layout!(rust, dv_list_node: next, prev);
    layout!(rust, dv_udp_conn_key_t: addr, addr4, addr6);
    layout!(rust, dv_udp_conn_t: list, key, ssl, rbio, wbio);

    let object = common::scratch("layout").join("layout.o");
    let program = object.with_extension("program");
    common::compile(&common::root().join("tests/c/layout.c"), &object, &[]);
    common::link_without_library(&object, &program);
    let c = common::succeed(&mut Command::new(&program)).stdout;
    assert_eq!(String::from_utf8(c).expect("text"), rust);

    // A type that the header gets one day is not forgotten here.
    let header = std::fs::read_to_string(common::header().join("dv_dtls.h")).expect("the header");
    let types = header.lines().filter_map(|line| line.strip_prefix("} ")?.strip_suffix(';'));
    let compared = |name: &str| rust.lines().any(|line| line.starts_with(&format!("{name} ")));
    assert_eq!(types.filter(|name| !compared(name)).collect::<Vec<_>>(), [""; 0]);
}
