//! The server's own records and the clients of others.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::certificates;
use common::others::{gnutls_cli, mbedtls_client, s_client};
use common::process::{PATIENCE, Process, pause, wait_until};
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

/// A handshake, messages that are all answered, and a goodbye.
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
    wait_until(|| server.stats().endpoints.closed_by_peer > 0, || format!("{suite}: no close_notify of the client's"));
    let stats = server.stats().endpoints;
    assert_eq!((stats.records_taken_over, stats.handshakes_finished), (1, 1), "{suite}");
    assert_eq!((stats.messages_in, stats.messages_out), (MESSAGES, MESSAGES), "{suite}");
    server.stop();
    server.join().expect("in order");
}

#[test]
fn openssl_s_client() {
    SUITES.iter().for_each(|(suite, _)| talk(suite, s_client));
}

#[test]
fn gnutls() {
    for (suite, cipher) in SUITES {
        talk(suite, |to| gnutls_cli(to, &[&format!("--priority=NORMAL:-CIPHER-ALL:+{cipher}")]));
    }
}

#[test]
fn mbed_tls() {
    SUITES.iter().for_each(|(suite, _)| talk(suite, mbedtls_client));
}
