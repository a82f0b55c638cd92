//! The example servers, which leave their sessions to the next one that is started.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::common::{Link, compile, directory, link, root};
use crate::contexts::cert;
use crate::crowd::Crowd;

/// A server that runs until it is dropped, and what it printed before it was ready.
struct Running {
    child: Child,
    /// It would be ended if it had nobody to talk to.
    _output: BufReader<ChildStdout>,
    said: String,
    port: u16,
}

impl Running {
    fn start(program: &Path, port: u16, folder: &Path) -> Running {
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "2"]);
        command.args(["--upgrade", &file("sessions"), "--upgrade-key", &file("key")]);
        let mut child = command.current_dir(root()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening on 127.0.0.1") {
            assert!(output.read_line(&mut said).unwrap() > 0, "{}: {said}", program.display());
        }
        let port = said.trim_end().rsplit([':', ' ']).next().unwrap().parse().unwrap();
        Running { child, _output: output, said, port }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn upgrade(program: &Path, name: &str) {
    const CLIENTS: usize = 20;
    // The certificate that the servers show if they are not told of another.
    cert("server-ecdsa.pem");
    let folder = directory().join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("key"), [7; 32]).unwrap();
    let mut server = Running::start(program, 0, &folder);
    let port = server.port;
    let crowd = Crowd::of(CLIENTS, SocketAddr::from(([127, 0, 0, 1], port)));
    for _ in 0..3 {
        let told = Command::new("kill").args(["-USR2", &server.child.id().to_string()]).status().unwrap();
        assert!(told.success() && server.child.wait().unwrap().success());
        server = Running::start(program, port, &folder);
        assert!(server.said.contains(&format!("{CLIENTS} sessions go on")), "{}", server.said);
        crowd.all_are_answered();
        crowd.assert_undisturbed();
    }
    assert_eq!(fs::metadata(folder.join("sessions")).unwrap().len(), 0);
    drop(server);
    // What somebody has left who died while he wrote it.
    fs::write(folder.join("sessions"), b"dv_dtls\x1a").unwrap();
    Running::start(program, port, &folder);
}

#[test]
fn in_rust() {
    let tests = std::env::current_exe().unwrap();
    let program: PathBuf = tests.ancestors().nth(2).unwrap().join("examples/echo_server");
    upgrade(&program, "rust");
}

#[test]
fn in_c() {
    for &how in Link::available() {
        let program = directory().join(format!("echo_server-{}", how.name()));
        let object = program.with_extension("o");
        compile(&root().join("c-examples/echo_server.c"), &object, &["-Wextra", "-Werror"]);
        link(&object, &program, how);
        upgrade(&program, how.name());
    }
}
