//! Peers that others wrote, in several languages, against our servers and clients. README.md says what is needed for which.
//!
//! Not a part of `make test`: the peers come from registries, and building them takes minutes.

#[path = "../common/mod.rs"]
mod common;
#[path = "../original/document.rs"]
#[allow(dead_code)]
mod document;
#[path = "../engine/door.rs"]
#[allow(dead_code)]
mod door;
#[path = "../original/program.rs"]
#[allow(dead_code)]
mod program;
#[path = "../engine/rust_endpoint.rs"]
mod rust_endpoint;

mod peers;

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

use common::process::{Process, is_bound, pause};
use common::tool::Proxy;
use common::{certificates, library};
use document::Document;
use door::{Door, Setup};
use peers::{Can, Peer};

/// With ends before, on and behind the edges of blocks, and up to what the default MTU lets through.
const SIZES: [usize; 8] = [12, 15, 16, 17, 100, 500, 1000, 1200];
const MESSAGES: usize = 100;
const MESSAGES_UNDER_LOSS: usize = 20;

/// Long enough for a handshake under loss with the timers of any peer.
const LIMIT: Duration = Duration::from_secs(90);
/// When a message, or the answer to it, counts as lost.
const AGAIN: Duration = Duration::from_millis(300);

/// The key of the identity "client", in hex digits.
const PSK: &str = "00112233445566778899aabbccddeeff";

fn main() {
    rust_endpoint::serve_if_asked();
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    arguments.test_threads = arguments.test_threads.or(Some(8));
    let doors: Vec<Arc<Door>> = Door::all(Document::read().map(Arc::new)).into_iter().map(Arc::new).collect();
    let mut trials = Vec::new();
    for peer in peers::PEERS {
        let lacks = peer.lacks();
        if let Some(lacks) = &lacks {
            eprintln!("{}: {lacks}: its tests are ignored", peer.name);
        }
        let mut add = |name: String, there: bool, run: Box<dyn FnOnce() + Send>| {
            let run = || {
                run();
                Ok(())
            };
            trials.push(Trial::test(name, run).with_ignored_flag(!there || lacks.is_some()));
        };
        for door in doors.iter().filter(|_| peer.can(Can::Client)) {
            for (name, needs, run) in AS_CLIENT {
                if peer.can(*needs) && (*needs != Can::Certificate || door.has_authority()) {
                    let (name, door) = (format!("{}::client::{name}::{}", peer.name, door.name), door.clone());
                    add(name, door.is_there(), Box::new(move || run(peer, &door)));
                }
            }
        }
        for (name, needs, run) in OF_EXAMPLES {
            if peer.can(*needs) {
                add(format!("{}::{name}", peer.name), true, Box::new(move || run(peer)));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// What a peer does as a client of each of our servers, and what it must be able to for that.
type AsClient = (&'static str, Can, fn(&Peer, &Door));
const AS_CLIENT: &[AsClient] = &[
    ("talk", Can::Client, |peer, door| talk(peer, door, &[], None)),
    ("talk_under_loss", Can::Client, |peer, door| talk(peer, door, &[], Some(1))),
    ("hello_in_fragments", Can::Fragment, |peer, door| talk(peer, door, &["-mtu", "150"], None)),
    ("restart", Can::Client, restart),
    ("resume", Can::Resume, resume),
    ("certificate", Can::Certificate, certificate),
];

/// What is done with the examples.
type OfExamples = (&'static str, Can, fn(&Peer));
const OF_EXAMPLES: &[OfExamples] = &[
    ("server::echo_client", Can::Server, |peer| ask(peer, "echo_client", &[], &[])),
    ("server::dtls_client", Can::Server, |peer| ask(peer, "dtls_client", &[], &[])),
    ("server::certificate", Can::AskForCertificate, |peer| {
        let (pem, key) = (file("client.pem"), file("client.key"));
        ask(peer, "echo_client", &["-ca", &file("ca.pem")], &["--cert", &pem, "--key", &key]);
    }),
    ("client::psk", Can::Psk, psk),
];

fn file(name: &str) -> String {
    certificates().join(name).to_string_lossy().into_owned()
}

/// A client at work.
struct Client {
    process: Process,
    answers: usize,
}

impl Client {
    fn start(peer: &Peer, to: SocketAddr, options: &[&str]) -> Client {
        let mut command = peer.command();
        command.arg("client").args(options).arg(to.to_string());
        Client { process: Process::start(command, Stdio::piped()), answers: 0 }
    }

    /// With the certificates that its session with a server of ours needs.
    fn connect(peer: &Peer, to: SocketAddr, options: &[&str]) -> Client {
        let (ca, pem, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
        Client::start(peer, to, &[&["-ca", &ca, "-cert", &pem, "-key", &key], options].concat())
    }

    fn line(&mut self, line: &str) {
        let input = self.process.child.stdin.as_mut().expect("piped");
        input.write_all(format!("{line}\n").as_bytes()).expect("the client reads");
    }

    /// So many messages, each one answered before the next; what is lost is sent again.
    fn ask(&mut self, peer: &Peer, echoes: bool, lossy: bool, count: usize) {
        let deadline = Instant::now() + LIMIT;
        for _ in 0..count {
            let number = self.answers;
            let message = format!("message {number:03}{:x<1$}", "", SIZES[number % SIZES.len()].max(11) - 11);
            let answered = |output: &str| match echoes {
                true => output.lines().any(|line| line == message),
                false => output.matches("pong from the server").count() > number,
            };
            let mut sent = None;
            while !answered(&self.process.output()) {
                assert!(self.process.ended().is_none(), "the client ended: {}", self.process.output());
                let lost = (lossy || peer.can(Can::Lose)) && sent.is_some_and(|at: Instant| at.elapsed() > AGAIN);
                if sent.is_none() || lost {
                    self.line(&message);
                    sent = Some(Instant::now());
                }
                pause(deadline, || self.process.output());
            }
            self.answers += 1;
        }
    }

    /// The end of its input is the end of the conversation.
    fn close(mut self) {
        drop(self.process.child.stdin.take());
        let ended = self.process.wait();
        assert!(ended.status.success(), "{}: {}", ended.status, ended.output);
    }
}

/// A hundred messages, perhaps at 20 % loss by this seed, and a goodbye.
fn talk(peer: &Peer, door: &Door, options: &[&str], loss: Option<u32>) {
    let server = Setup::new().start(door);
    let proxy = loss.map(|seed| Proxy::start(server.address, &format!("--drop 0.2 --seed {seed}")));
    let to = proxy.as_ref().map_or(server.address, |proxy| proxy.address);
    let mut client = Client::connect(peer, to, options);
    client.ask(peer, door.echoes, loss.is_some(), if loss.is_some() { MESSAGES_UNDER_LOSS } else { MESSAGES });
    client.close();
    if loss.is_none() && peer.can(Can::Close) {
        server.says("closed");
    }
}

/// Killed, and there again on the same port.
fn restart(peer: &Peer, door: &Door) {
    let server = Setup::new().start(door);
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let port = free.port().to_string();
    for _ in 0..2 {
        let mut client = Client::connect(peer, server.address, &["-local", &port]);
        client.ask(peer, door.echoes, false, 5);
    }
}

/// A session that goes on from the one before.
fn resume(peer: &Peer, door: &Door) {
    let server = Setup::new().start(door);
    let mut client = Client::connect(peer, server.address, &[]);
    client.ask(peer, door.echoes, false, 5);
    client.line(".");
    client.process.until(|output| output.contains("open resumed=true").then_some(()));
    client.ask(peer, door.echoes, false, 5);
    client.close();
}

/// A server that asks for a certificate: with the right one, and with none.
fn certificate(peer: &Peer, door: &Door) {
    let server = Setup::new().asking_for_certificates().start(door);
    let mut client = Client::connect(peer, server.address, &[]);
    client.ask(peer, door.echoes, false, 5);
    client.close();
    if peer.can(Can::BeNobody) {
        let nobody = Client::start(peer, server.address, &["-ca", &file("ca.pem")]);
        assert!(!nobody.process.wait().status.success());
    }
}

/// The example server with a key in the place of certificates, with records of both kinds.
fn psk(peer: &Peer) {
    for records in [&[][..], &["--openssl-records"]] {
        let mut command = Command::new(library().join("echo_server"));
        command.current_dir(common::root()).args(["--host", "127.0.0.1", "--port", "0", "--psk", PSK]).args(records);
        let server = Process::start(command, Stdio::null());
        let port = server.until(|output| output.split("port ").nth(1)?.lines().next()?.parse().ok());
        let mut client = Client::start(peer, SocketAddr::from(([127, 0, 0, 1], port)), &["-psk", PSK]);
        client.ask(peer, true, false, 20);
        client.close();
    }
}

/// An example client of ours, and the peer as a server.
fn ask(peer: &Peer, example: &str, options: &[&str], ours: &[&str]) {
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let (pem, key) = (file("server-ecdsa.pem"), file("server-ecdsa.key"));
    let mut command = peer.command();
    command.arg("server").args(["-cert", &pem, "-key", &key]).args(options).arg(free.to_string());
    let server = Process::start(command, Stdio::piped());
    let deadline = Instant::now() + LIMIT;
    while !is_bound(free) {
        pause(deadline, || server.output());
    }
    let mut client = Command::new(library().join(example));
    let (port, ca) = (free.port().to_string(), file("ca.pem"));
    match example {
        "echo_client" => client.args(["--port", &port, "--ca", &ca, "--name", "localhost", "--count"]),
        _ => client.args(["-p", &port, "-C", &ca, "-N", "localhost", "-n"]),
    };
    // A lost message is not sent again by these clients.
    let count = if peer.can(Can::Lose) { "3" } else { "100" };
    let ended = Process::start(
        {
            client.arg(count).args(ours);
            client
        },
        Stdio::null(),
    )
    .wait();
    assert!(ended.status.success(), "{}\nserver: {}", ended.output, server.output());
}
