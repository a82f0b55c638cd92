//! Clients that others wrote.
//!
//! OpenSSL repeats a flight with other fragment boundaries, which strict clients do not take
//! (<https://github.com/pion/dtls/pull/1099>, <https://github.com/OvenMediaLabs/OvenMediaEngine/issues/2329>); here what is
//! repeated is what was sent.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Proof;
use crate::common::others::{gnutls_cli, mbedtls_client, s_client};
use crate::common::process::{Process, pause};
use crate::door::{Door, Server};
use crate::tool::Proxy;

pub const PROOFS: &[Proof] = &[
    Proof::new("openssl_s_client", |door| talk(door, s_client, None)),
    Proof::new("openssl_s_client_under_loss", |door| talk(door, s_client, Some(1))),
    Proof::new("gnutls_cli", |door| talk(door, |to| gnutls_cli(to, &[]), None)),
    Proof::new("gnutls_cli_under_loss", |door| talk(door, |to| gnutls_cli(to, &[]), Some(2))),
    Proof::new("mbedtls", |door| talk(door, mbedtls_client, None)),
    Proof::new("mbedtls_under_loss", |door| talk(door, mbedtls_client, Some(3))),
    Proof::new("mbedtls_resumes", mbedtls_resumes),
];

const MESSAGES: usize = 100;

/// Long enough for a handshake under loss with the client's own timers.
const LIMIT: Duration = Duration::from_secs(60);
/// When a message, or the answer to it, counts as lost.
const AGAIN: Duration = Duration::from_millis(300);

/// A handshake, a hundred messages that are all answered, and a goodbye; perhaps at 20 % loss, by this seed.
fn talk(door: &Door, client: fn(SocketAddr) -> Command, loss: Option<u32>) {
    let server = Server::start(door);
    let proxy = loss.map(|seed| Proxy::start(server.address, &format!("--drop 0.2 --seed {seed}")));
    let to = proxy.as_ref().map_or(server.address, |proxy| proxy.address);
    let mut process = Process::start(client(to), Stdio::piped());
    let mut input = process.child.stdin.take().expect("piped");
    let deadline = Instant::now() + LIMIT;
    for number in 1..=MESSAGES {
        let message = format!("message {number:03}\n");
        // What the original main says is always the same, so its answers are counted.
        let answered = |output: &str| match door.echoes {
            true => output.contains(message.trim_end()),
            false => output.matches("pong from the server").count() >= number,
        };
        let mut sent = None;
        while !answered(&process.output()) {
            assert!(process.ended().is_none(), "the client ended: {}", process.output());
            let lost = loss.is_some() && sent.is_some_and(|at: Instant| at.elapsed() > AGAIN);
            if sent.is_none() || lost {
                // During the handshake too: the pipe keeps what the client does not read yet, and libraries join it.
                input.write_all(message.as_bytes()).expect("the client reads");
                sent = Some(Instant::now());
            }
            pause(deadline, || format!("client: {}\nserver: {}", process.output(), server.output()));
        }
    }
    // The end of its input is the end of the conversation.
    drop(input);
    let ended = process.wait();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.output);
    if loss.is_none() {
        server.says("closed");
    }
}

/// By its session id, which Mbed TLS 2.28 keeps in the hello that returns the cookie only where it has no ticket.
fn mbedtls_resumes(door: &Door) {
    let server = Server::start(door);
    let mut process = Process::start(mbedtls_client(server.address), Stdio::piped());
    let mut input = process.child.stdin.take().expect("piped");
    for number in 1..=2 {
        input.write_all(b"message\n").expect("the client reads");
        process.until(|output| (output.lines().count() > number).then_some(()));
        if number == 1 {
            input.write_all(b".\n").expect("the client reads");
        }
    }
    drop(input);
    let ended = process.wait();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.output);
}
