//! The example servers, which leave their sessions to the next one that is started.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::common::examples::{Language, Server};
use crate::common::{Link, certificates, compile, directory, link, root};
use crate::crowd::Crowd;

fn upgrade(program: impl Fn() -> Command, name: &str) {
    const CLIENTS: usize = 20;
    let folder = directory().join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("key"), [7; 32]).unwrap();
    let [sessions, key] = ["sessions", "key"].map(|name| folder.join(name));
    let (sessions, key) = (sessions.to_str().unwrap(), key.to_str().unwrap());
    let start = |at| Server::start(program(), at, &["--workers", "2", "--upgrade", sessions, "--upgrade-key", key]);
    let mut server = start(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = server.address;
    let crowd = Crowd::of(CLIENTS, address);
    for _ in 0..3 {
        server.process.signal(libc::SIGUSR2);
        let ended = server.process.wait();
        assert!(ended.status.success(), "{}", ended.output);
        server = start(address);
        let said = server.process.output();
        assert!(said.contains(&format!("{CLIENTS} sessions go on")), "{said}");
        crowd.all_are_answered();
        crowd.assert_undisturbed();
    }
    assert_eq!(fs::metadata(sessions).unwrap().len(), 0);
    drop(server);
    // What somebody has left who died while he wrote it.
    fs::write(sessions, b"dv_dtls\x1a").unwrap();
    start(address);
}

#[test]
fn in_rust() {
    upgrade(|| Language::Rust.program("echo_server"), "rust");
}

#[test]
fn in_c() {
    certificates();
    for &how in Link::available() {
        let program = directory().join(format!("echo_server-{}", how.name()));
        let object = program.with_extension("o");
        compile(&root().join("c-examples/echo_server.c"), &object, &["-Wextra", "-Werror"]);
        link(&object, &program, how);
        let run = || {
            let mut command = Command::new(&program);
            command.current_dir(root());
            command
        };
        upgrade(run, how.name());
    }
}
