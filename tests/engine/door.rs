//! The doors of the library that a server can stand behind. A proof is written once and holds for each of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use crate::common::process::{PATIENCE, Process, is_bound, own_host, pause, udp_socket};
use crate::common::{Link, certificates, library, root, succeed};
use crate::document::Document;
use crate::program::{Program, Taken};

/// What the original main answers, whatever it was asked; tests/original/prelude.h has the same.
const RESPONSE: &[u8] = b"pong from the server\0";

/// A kind of server program.
pub struct Door {
    pub name: &'static str,
    /// Whether the program sends each message back. The original main says the same to everything.
    pub echoes: bool,
    /// Whether it reads on until a datagram has no more messages. The original main reads once.
    pub drains: bool,
    program: fn(&Door) -> PathBuf,
    arguments: fn(&mut Command, SocketAddr, Ipv4Addr),
    authority: Option<&'static str>,
    document: Option<Arc<Document>>,
}

impl Door {
    /// All that this machine has; the original main needs the original document.
    pub fn all(document: Option<Arc<Document>>) -> Vec<Door> {
        let original = Door {
            name: "original_main",
            echoes: false,
            drains: false,
            program: |door| {
                let document = door.document.as_ref().expect("only run with --ignored when there is a document");
                Program::server(Taken::ALL, Link::Shared).build(document)
            },
            arguments: |command, at, ipv4| {
                // Its IPv6 address is the second one: it always listens on one of IPv4.
                command.args(["server", "-a", &ipv4.to_string(), "-p", &at.port().to_string()]);
                if at.is_ipv6() {
                    command.args(["-6", &at.ip().to_string()]);
                }
            },
            authority: None,
            document,
        };
        let example = Door {
            name: "example_server",
            echoes: true,
            drains: true,
            program: |_| {
                if std::env::var_os("DV_LIBDIR").is_none() {
                    succeed(Command::new("make").args(["--silent", "examples"]).current_dir(root()));
                }
                library().join("dtls_server")
            },
            arguments: |command, at, _| {
                command.args(["-a", &at.ip().to_string(), "-p", &at.port().to_string()]);
            },
            authority: Some("-C"),
            document: None,
        };
        vec![original, example]
    }

    /// Whether its program can be built here.
    pub fn is_there(&self) -> bool {
        self.echoes || self.document.is_some()
    }

    /// Whether it can ask clients for certificates.
    pub fn has_authority(&self) -> bool {
        self.authority.is_some()
    }

    /// What the server answers to `message`.
    pub fn reply(&self, message: &[u8]) -> Vec<u8> {
        if self.echoes { message.to_vec() } else { RESPONSE.to_vec() }
    }
}

/// How a server is to be started.
#[derive(Clone)]
pub struct Setup {
    environment: Vec<(&'static str, String)>,
    identity: &'static str,
    authority: bool,
    /// None: an address of IPv4 that no other test has.
    host: Option<Ipv6Addr>,
}

impl Setup {
    /// With an ECDSA certificate and the library's defaults.
    pub fn new() -> Setup {
        Setup { environment: vec![("DV_LOG", "warn".into())], identity: "server-ecdsa", authority: false, host: None }
    }

    /// With an environment variable of the operator's.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Setup {
        self.environment.push((name, value.to_string()));
        self
    }

    /// With another certificate of certs/out.
    pub fn identity(self, identity: &'static str) -> Setup {
        Setup { identity, ..self }
    }

    /// With clients that must show a certificate.
    pub fn asking_for_certificates(self) -> Setup {
        Setup { authority: true, ..self }
    }

    /// On this address of IPv6.
    pub fn at(self, host: Ipv6Addr) -> Setup {
        Setup { host: Some(host), ..self }
    }

    /// Starts a server behind `door`, on a port that no other test has.
    pub fn start(&self, door: &Door) -> Server {
        let ipv4 = own_host();
        let host = self.host.map_or(IpAddr::V4(ipv4), IpAddr::V6);
        let socket = UdpSocket::bind(SocketAddr::new(host, 0)).expect("a port");
        let address = socket.local_addr().expect("bound");
        drop(socket);
        let mut command = Command::new((door.program)(door));
        (door.arguments)(&mut command, address, ipv4);
        let certificate = certificates().join(self.identity).with_extension("pem");
        command.arg("-k").arg(certificate.with_extension("key")).arg("-c").arg(certificate);
        if self.authority {
            command.arg(door.authority.expect("a door with an authority")).arg(certificates().join("ca.pem"));
        }
        command.envs(self.environment.iter().cloned());
        let mut server = Server { address, ipv4, process: Process::start(command, Stdio::null()) };
        let deadline = Instant::now() + PATIENCE;
        while !is_bound(address) {
            assert!(server.process.ended().is_none(), "{}", server.process.output());
            pause(deadline, || server.process.output());
        }
        server
    }
}

/// A server that runs. It is killed when dropped.
pub struct Server {
    pub address: SocketAddr,
    ipv4: Ipv4Addr,
    process: Process,
}

impl Server {
    /// A server with the library's defaults.
    pub fn start(door: &Door) -> Server {
        Setup::new().start(door)
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Its IPv4 address, where `address` is the other one of two.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::from((self.ipv4, self.address.port()))
    }

    /// What it has printed, its log included.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits until its output has `text`.
    pub fn says(&self, text: &str) {
        self.process.until(|output| output.contains(text).then_some(()));
    }

    /// Datagrams that found its socket full.
    pub fn lost_in_socket(&self) -> f64 {
        let line = udp_socket(self.address).expect("its socket");
        line.split_whitespace().last().and_then(|drops| drops.parse().ok()).expect("the last column of /proc/net/udp")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a process of ours").count()
    }

    /// The CPU time that it has used, in nanoseconds.
    pub fn cpu(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.pid());
        let line = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        line.split_whitespace().next().and_then(|spent| spent.parse().ok()).expect("a number")
    }

    /// Resident memory in kilobytes.
    pub fn resident(&self) -> i64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).expect("a number")
    }
}
