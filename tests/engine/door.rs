//! The doors of the library that a server can stand behind. A proof is written once and holds for each of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::common::process::{PATIENCE, Process, free_port, is_bound, own_host, pause, udp_sockets};
use crate::common::{Link, certificates, compile, directory, examples, link, root};
use crate::document::Document;
use crate::program::{Program, Taken};
use crate::rust_endpoint;

/// What the original main answers, whatever it was asked; tests/original/prelude.h has the same.
const RESPONSE: &[u8] = b"pong from the server\0";

/// A kind of server program.
#[derive(Clone)]
pub struct Door {
    pub name: &'static str,
    /// Whether the program sends each message back. The original main says the same to everything.
    pub echoes: bool,
    /// Whether it reads on until a datagram has no more messages. The original main reads once.
    pub drains: bool,
    /// Messages of one datagram that are kept: 64 wait, and the helpers give the first one to the program at once.
    pub keeps: usize,
    program: fn(&Door) -> PathBuf,
    arguments: fn(&mut Command, SocketAddr, Ipv4Addr),
    /// Whether records are made by the library, where it is a door that can.
    pub native_records: Option<bool>,
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
            keeps: 65,
            program: |door| {
                let document = door.document.as_ref().expect("only run with --ignored when there is a document");
                Program::server(Taken::ALL, Link::preferred()).build(document)
            },
            arguments: |command, at, ipv4| {
                // Its IPv6 address is the second one: it always listens on one of IPv4.
                command.args(["server", "-a", &ipv4.to_string(), "-p", &at.port().to_string()]);
                if at.is_ipv6() {
                    command.args(["-6", &at.ip().to_string()]);
                }
            },
            native_records: None,
            authority: None,
            document,
        };
        let example = Door {
            name: "example_server",
            echoes: true,
            drains: true,
            keeps: 65,
            program: |_| examples().join("dtls_server"),
            arguments: |command, at, _| listen_at(command, at),
            native_records: None,
            authority: Some("-C"),
            document: None,
        };
        let endpoint = Door {
            name: "endpoint",
            keeps: 64,
            program: |_| c_server("endpoint"),
            native_records: Some(true),
            ..example.clone()
        };
        let server = Door { name: "server", program: |_| c_server("server"), ..endpoint.clone() };
        let rust_endpoint = Door {
            name: "rust_endpoint",
            program: |_| std::env::current_exe().expect("the path of this program"),
            arguments: |command, at, _| listen_at(command.arg(rust_endpoint::ROLE), at),
            ..endpoint.clone()
        };
        let on_openssl = |name, door: &Door| Door { name, native_records: Some(false), ..door.clone() };
        let endpoint_on_openssl = on_openssl("endpoint_on_openssl", &endpoint);
        let server_on_openssl = on_openssl("server_on_openssl", &server);
        vec![original, example, endpoint, rust_endpoint, server, endpoint_on_openssl, server_on_openssl]
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

/// Where a server is to listen, in the words of all but the original main.
fn listen_at(command: &mut Command, at: SocketAddr) {
    command.args(["-a", &at.ip().to_string(), "-p", &at.port().to_string()]);
}

/// A program of tests/c-servers, compiled when it is first needed.
fn c_server(name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let build = || {
        let source = root().join("tests/c-servers").join(name).with_extension("c");
        let (object, program) = (directory().join(name).with_extension("o"), directory().join(name));
        compile(&source, &object, &["-Wextra", "-Werror"]);
        link(&object, &program, Link::preferred());
        program
    };
    built.entry(name).or_insert_with(build).clone()
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

    /// With a setting, by the name that it has in the environment of a program on the helpers.
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
        let address = SocketAddr::new(host, free_port());
        let mut command = Command::new((door.program)(door));
        (door.arguments)(&mut command, address, ipv4);
        command.args((door.native_records == Some(false)).then_some("-o"));
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

    /// Datagrams that found its sockets full.
    pub fn lost_in_socket(&self) -> f64 {
        let drops = |line: &String| line.split_whitespace().last().and_then(|drops| drops.parse::<f64>().ok());
        udp_sockets(self.address).iter().map(|line| drops(line).expect("the last column of /proc/net/udp")).sum()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a process of ours").count()
    }

    /// The CPU time that its threads have used, in nanoseconds.
    pub fn cpu(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a process of ours");
        let spent = |thread: std::io::Result<std::fs::DirEntry>| -> u64 {
            let path = thread.expect("an entry").path().join("schedstat");
            let line = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            line.split_whitespace().next().and_then(|spent| spent.parse().ok()).expect("a number")
        };
        threads.map(spent).sum()
    }

    /// Resident memory in kilobytes.
    pub fn resident(&self) -> i64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).expect("a number")
    }
}
