//! Running the programs: servers on addresses of their own, clients against them, every wait bounded.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::certificates;
use crate::common::others::s_client;
use crate::common::process::{Ended, PATIENCE, Process, is_bound, own_host, pause, wait_until};

/// What the client asks and the server answers; prelude.h has the same.
pub const REQUEST: &str = "ping from the client";
pub const RESPONSE: &str = "pong from the server";
/// What the server's main prints when it has seen a client go.
const CLOSED: &str = "connection closed";

/// The kind of the server's certificate.
#[derive(Clone, Copy, Debug)]
pub enum Identity {
    Ecdsa,
    Rsa,
}

impl Identity {
    pub const BOTH: [Identity; 2] = [Identity::Ecdsa, Identity::Rsa];

    pub fn name(self) -> &'static str {
        match self {
            Identity::Ecdsa => "ecdsa",
            Identity::Rsa => "rsa",
        }
    }
}

/// A server program that listens; killed when dropped.
pub struct Server {
    process: Process,
    pub ipv4: SocketAddr,
    pub ipv6: SocketAddr,
}

impl Server {
    /// Starts a server program on an address of 127.0.0.0/8 that no other test has, and on the same port of [::1].
    pub fn start(program: &Path, identity: Identity) -> Server {
        // Between finding a free port of [::1] and listening on it somebody else may have taken it.
        (0..5).find_map(|_| Server::try_start(program, identity)).expect("a free port")
    }

    fn try_start(program: &Path, identity: Identity) -> Option<Server> {
        let host = own_host();
        let port = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).ok()?.port();
        let certificate = certificates().join(format!("server-{}.pem", identity.name()));
        let mut command = Command::new(program);
        command.args(["server", "-6", "::1", "-a", &host.to_string(), "-p", &port.to_string()]);
        command.arg("-k").arg(certificate.with_extension("key")).arg("-c").arg(certificate);
        let mut server = Server {
            process: Process::start(command, Stdio::null()),
            ipv4: (host, port).into(),
            ipv6: (Ipv6Addr::LOCALHOST, port).into(),
        };
        let deadline = Instant::now() + PATIENCE;
        while !(is_bound(server.ipv4) && is_bound(server.ipv6)) {
            if server.process.ended().is_some() {
                assert!(server.output().contains("Address already in use"), "{}", server.output());
                return None;
            }
            pause(deadline, || server.output());
        }
        Some(server)
    }

    /// Runs a client program against it, which trusts the CA in `ca`.
    pub fn serve(&self, client: &Path, ca: &str) -> Ended {
        let mut command = Command::new(client);
        command.args(["client", "-a", &self.ipv4.ip().to_string(), "-p", &self.ipv4.port().to_string()]);
        command.arg("-P").arg(certificates().join(ca));
        Process::start(command, Stdio::null()).wait()
    }

    /// Runs `openssl s_client` against one of its addresses: one message there, one back.
    pub fn serve_s_client(&self, at: SocketAddr) -> Ended {
        let mut process = Process::start(s_client(at), Stdio::piped());
        let mut input = process.child.stdin.take().expect("piped");
        input.write_all(REQUEST.as_bytes()).expect("s_client reads");
        let deadline = Instant::now() + PATIENCE;
        while !process.output().contains(RESPONSE) && process.ended().is_none() {
            pause(deadline, || format!("{}{}", process.output(), self.output()));
        }
        drop(input);
        process.wait()
    }

    /// How many requests it has printed.
    pub fn requests(&self) -> usize {
        self.output().matches(REQUEST).count()
    }

    /// Waits until it has seen `clients` of them go, and asserts that it runs on.
    pub fn saw_go(&mut self, clients: usize) {
        wait_until(|| self.output().matches(CLOSED).count() >= clients, || self.output());
        assert_eq!(self.process.ended(), None, "the server ended: {}", self.output());
    }

    pub fn output(&self) -> String {
        self.process.output()
    }
}

impl Ended {
    /// Asserts that the client had its answer.
    pub fn complete(&self, server: &Server) {
        let answered = self.status.success() && self.output.contains(RESPONSE);
        assert!(answered, "client: {}\n{}\nserver:\n{}", self.status, self.output, server.output());
    }
}
