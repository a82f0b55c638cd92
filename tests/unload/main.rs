//! The shared library opened and closed while the program runs.

#[path = "../common/mod.rs"]
mod common;

use std::process::Command;

#[test]
fn survives_dlclose() {
    let object = common::scratch("unload").join("unload.o");
    let program = object.with_extension("program");
    let shared_headers = format!("-I{}", common::root().join("tests/c").display());
    common::compile(&common::root().join("tests/unload/unload.c"), &object, &[&shared_headers]);
    common::link_without_library(&object, &program);
    let library = common::library().join("libdv_dtls.so.0");
    common::succeed(Command::new("timeout").arg("60").arg(&program).arg(library).arg(common::certificates()));
}
