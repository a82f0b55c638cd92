//! The programs of examples/, run as somebody who tries them out would run them.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Once;

/// Where cargo puts the examples that it builds together with the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("examples").join(name)
}

fn certs() {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make-certs.sh");
        assert!(Command::new(script).status().unwrap().success());
    });
}

/// A program that runs until it is dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(name: &str, args: &[&str]) -> Running {
        certs();
        let mut command = Command::new(example(name));
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap());
        Running { child, output }
    }

    /// A server, and the port that it says it listens on.
    fn serve(name: &str, args: &[&str]) -> (Running, String) {
        let mut server = Running::start(name, &[&["--host", "127.0.0.1", "--port", "0"], args].concat());
        let line = server.line();
        let port = line.strip_prefix("listening on 127.0.0.1:").unwrap_or_else(|| panic!("{name}: {line}"));
        (server, port.to_owned())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the client prints, and whether it was content.
fn client(port: &str, args: &[&str]) -> (String, bool) {
    certs();
    let mut command = Command::new(example("echo_client"));
    command.args(["--port", port]).args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

#[test]
fn each_has_a_help_and_refuses_what_it_does_not_know() {
    for name in ["echo_server", "echo_client", "event_loop", "chat", "dtls_proxy"] {
        let help = Command::new(example(name)).arg("-h").output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(help.status.success() && text.starts_with(name), "{name} -h");
        assert!(text.lines().skip(1).all(|line| line.starts_with("  ") && line.len() <= 120), "{text}");
        let wrong = Command::new(example(name)).args(["--backend", "127.0.0.1:9", "--no-such-word"]).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{name} --no-such-word");
    }
}

#[test]
fn echo() {
    let key = "000102030405060708090a0b0c0d0e0f";
    let (_server, port) = Running::serve("echo_server", &["--workers", "2", "--psk", key]);
    let (text, content) = client(&port, &["--name", "localhost", "--message", "hello there", "--count", "3"]);
    assert!(content && text.matches("\nhello there").count() == 3, "{text}");
    let (text, content) = client(&port, &["--psk", key]);
    assert!(content && text.contains("PSK-"), "{text}");
    assert!(!client(&port, &["--name", "somebody.else"]).1);
    assert!(!client(&port, &["--ca", "certs/out/other-ca.pem"]).1);
}

#[test]
fn echo_with_certificates_of_clients() {
    let (_server, port) = Running::serve("echo_server", &["--ca", "certs/out/ca.pem", "--require-client-cert"]);
    let mine = ["--cert", "certs/out/client.pem", "--key", "certs/out/client.key"];
    assert!(client(&port, &mine).1);
    assert!(!client(&port, &["--timeout", "5"]).1);
}

#[test]
fn event_loop() {
    let (mut server, port) = Running::serve("event_loop", &[]);
    let asks = std::thread::spawn(move || client(&port, &["--message", "anybody there?", "--count", "2"]));
    assert!(server.line().ends_with("is here"));
    assert!(server.line().ends_with("anybody there?"));
    let mut terminal = server.child.stdin.take().unwrap();
    terminal.write_all(b"yes\nI am\n").unwrap();
    let (text, content) = asks.join().unwrap();
    assert!(content && text.contains("yes\\n\nI am\\n"), "{text}");
    assert!(server.line().ends_with("anybody there?"));
    assert!(server.line().ends_with("is gone: ByPeer"));
    drop(terminal);
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn chat() {
    let (_server, port) = Running::serve("chat", &[]);
    let mut first = Running::start("echo_client", &["--port", &port, "--count", "3", "--message", "I am here"]);
    assert!(first.line().starts_with("connected"));
    // It hears nothing for what it says itself, so it is this one that hears the other one come, speak and go.
    client(&port, &["--message", "hello all", "--timeout", "3"]);
    assert!(first.line().ends_with("has come"));
    assert!(first.line().ends_with(": hello all"));
}

#[test]
fn dtls_proxy() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap().to_string();
    let (_proxy, port) = Running::serve("dtls_proxy", &["--backend", &address]);
    let asks: Vec<_> = ["one", "two", "three"]
        .map(|message| {
            let port = port.clone();
            std::thread::spawn(move || client(&port, &["--message", message]).0)
        })
        .into();
    let mut peers = Vec::new();
    for _ in &asks {
        let mut datagram = [0; 100];
        let (len, peer) = backend.recv_from(&mut datagram).unwrap();
        assert!(!peers.contains(&peer), "two sessions have one socket");
        peers.push(peer);
        backend.send_to(&[b"answer to ", &datagram[..len]].concat(), peer).unwrap();
    }
    for (message, asks) in ["one", "two", "three"].iter().zip(asks) {
        assert!(asks.join().unwrap().contains(&format!("answer to {message}")));
    }
}
