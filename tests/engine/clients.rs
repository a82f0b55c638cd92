//! Clients that others wrote: OpenSSL's s_client, gnutls-cli, and a small one on Mbed TLS.
//!
//! OpenSSL repeats a flight with other fragment boundaries, which strict clients do not take
//! (<https://github.com/pion/dtls/pull/1099>, <https://github.com/OvenMediaLabs/OvenMediaEngine/issues/2329>); here what is
//! repeated is what was sent.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::Proof;
use crate::common::process::{Process, pause};
use crate::common::{certificates, directory, root, succeed};
use crate::door::{Door, Server};
use crate::tool::Proxy;

pub const PROOFS: &[Proof] = &[
    Proof::new("openssl_s_client", |door| talk(door, s_client, None)),
    Proof::new("openssl_s_client_under_loss", |door| talk(door, s_client, Some(1))),
    Proof::new("gnutls_cli", |door| talk(door, gnutls_cli, None)),
    Proof::new("gnutls_cli_under_loss", |door| talk(door, gnutls_cli, Some(2))),
    Proof::new("mbedtls", |door| talk(door, mbedtls, None)),
    Proof::new("mbedtls_under_loss", |door| talk(door, mbedtls, Some(3))),
];

const MESSAGES: usize = 100;

/// Long enough for a handshake under loss with the client's own timers.
const LIMIT: Duration = Duration::from_secs(60);
/// When a message, or the answer to it, counts as lost.
const AGAIN: Duration = Duration::from_millis(300);

fn s_client(to: SocketAddr) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-dtls1_2", "-quiet", "-no_ign_eof", "-verify_return_error"]);
    command.args(["-connect", &to.to_string()]).arg("-CAfile").arg(certificates().join("ca.pem"));
    command
}

fn gnutls_cli(to: SocketAddr) -> Command {
    let mut command = Command::new("gnutls-cli");
    command.args(["--udp", "--logfile=/dev/null", "--verify-hostname=localhost"]);
    command.arg("--x509cafile").arg(certificates().join("ca.pem"));
    command.args(["--port", &to.port().to_string(), &to.ip().to_string()]);
    command
}

fn mbedtls(to: SocketAddr) -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = directory().join("mbedtls_client");
        let source: &Path = &root().join("tests/c-clients/mbedtls_client.c");
        let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source);
        succeed(cc.args(["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]));
        program
    });
    let mut command = Command::new(program);
    command.args([to.ip().to_string(), to.port().to_string()]).arg(certificates().join("ca.pem"));
    command
}

/// A handshake, a hundred messages that are all answered, and a goodbye; perhaps at 20 % loss, by this seed. A client
/// sends each line of its input as a message and prints what it gets.
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
