//! The server's own records and the clients of others: OpenSSL's s_client, gnutls-cli, and a small one on Mbed TLS.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::process::{PATIENCE, Process, pause};
use common::{certificates, directory, root, succeed};
use dv_dtls::{Context, Server, ServerConfig, Session};
use openssl::ssl::{SslContext, SslFiletype, SslMethod};

/// OpenSSL's names of the suites whose records we make, and GnuTLS's of their ciphers.
const SUITES: [(&str, &str); 3] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "AES-128-GCM"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "AES-256-GCM"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "CHACHA20-POLY1305"),
];

const MESSAGES: u64 = 50;

/// A server that sends each message back, with this suite only.
fn server(suite: &str) -> (Server, SocketAddr) {
    let mut context = SslContext::builder(SslMethod::dtls()).expect("a context");
    context.set_certificate_chain_file(certificates().join("server-ecdsa.pem")).expect("a certificate");
    context.set_private_key_file(certificates().join("server-ecdsa.key"), SslFiletype::PEM).expect("a key");
    context.set_cipher_list(suite).expect("a suite");
    let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| {
        let _ = context.send(session, message);
    };
    let server = Server::new(context.build(), ServerConfig::default(), echo).expect("a server");
    let address = server.bind("127.0.0.1:0").expect("a port");
    server.start().expect("started");
    (server, address)
}

/// A handshake, messages that are all answered, and a goodbye. A client sends each line of its input as a message and
/// prints what it gets.
fn talk(suite: &str, client: impl FnOnce(SocketAddr) -> Command) {
    let (server, address) = server(suite);
    let mut process = Process::start(client(address), Stdio::piped());
    let mut input = process.child.stdin.take().expect("piped");
    let deadline = Instant::now() + PATIENCE;
    for number in 1..=MESSAGES {
        // Up to what Mbed TLS's client takes for a line, and with ends on, before and behind the edges of blocks.
        let len = if number % 5 == 0 { 900 - number as usize } else { 11 + number as usize };
        let message = format!("message {number:03}{:x<1$}", "", len - 11);
        input.write_all(format!("{message}\n").as_bytes()).expect("the client reads");
        while !process.output().contains(&message) {
            assert!(process.ended().is_none(), "the client ended: {}", process.output());
            pause(deadline, || process.output());
        }
    }
    // The end of its input is the end of the conversation.
    drop(input);
    let ended = process.wait();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.output);
    while server.stats().endpoints.closed_by_peer == 0 {
        pause(deadline, || format!("{suite}: the client's close_notify did not come"));
    }
    let stats = server.stats().endpoints;
    assert_eq!((stats.records_taken_over, stats.handshakes_finished), (1, 1), "{suite}");
    assert_eq!((stats.messages_in, stats.messages_out), (MESSAGES, MESSAGES), "{suite}");
    server.stop();
    server.join().expect("in order");
}

#[test]
fn openssl_s_client() {
    for (suite, _) in SUITES {
        talk(suite, |to| {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-dtls1_2", "-quiet", "-no_ign_eof", "-verify_return_error"]);
            command.args(["-connect", &to.to_string()]).arg("-CAfile").arg(certificates().join("ca.pem"));
            command
        });
    }
}

#[test]
fn gnutls_cli() {
    for (suite, cipher) in SUITES {
        talk(suite, |to| {
            let mut command = Command::new("gnutls-cli");
            command.args(["--udp", "--logfile=/dev/null", "--verify-hostname=localhost"]);
            command.arg(format!("--priority=NORMAL:-CIPHER-ALL:+{cipher}"));
            command.arg("--x509cafile").arg(certificates().join("ca.pem"));
            command.args(["--port", &to.port().to_string(), &to.ip().to_string()]);
            command
        });
    }
}

#[test]
fn mbed_tls() {
    let program = directory().join("mbedtls_client");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=gnu11", "-O1", "-o"]).arg(&program).arg(root().join("tests/c-clients/mbedtls_client.c"));
    succeed(cc.args(["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]));
    for (suite, _) in SUITES {
        talk(suite, |to| {
            let mut command = Command::new(&program);
            command.args([to.ip().to_string(), to.port().to_string()]).arg(certificates().join("ca.pem"));
            command
        });
    }
}
