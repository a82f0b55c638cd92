//! Running the programs: servers on addresses of their own, clients against them, every wait bounded.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::certificates;
use crate::program::directory;

/// What the client asks and the server answers; prelude.h has the same.
pub const REQUEST: &str = "ping from the client";
pub const RESPONSE: &str = "pong from the server";
/// What the server's main prints when it has seen a client go.
const CLOSED: &str = "connection closed";

/// An exchange takes milliseconds; this is for a machine that is busy, and for a hello that had to be repeated.
const PATIENCE: Duration = Duration::from_secs(20);

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
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let [.., high, low] = STARTED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let host = Ipv4Addr::new(127, 1 + (std::process::id() % 250) as u8, 1 + high, low);
        let port = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).ok()?.port();
        let certificate = certificates().join(format!("server-{}.pem", identity.name()));
        let mut command = Command::new(program);
        command.args(["server", "-6", "-a", &host.to_string(), "-p", &port.to_string()]);
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
    pub fn serve(&self, client: &Path, ca: &str) -> Outcome {
        let mut command = Command::new(client);
        command.args(["client", "-a", &self.ipv4.ip().to_string(), "-p", &self.ipv4.port().to_string()]);
        command.arg("-P").arg(certificates().join(ca));
        Process::start(command, Stdio::null()).wait()
    }

    /// Runs `openssl s_client` against one of its addresses: one message there, one back.
    pub fn serve_s_client(&self, at: SocketAddr) -> Outcome {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-dtls1_2", "-quiet", "-no_ign_eof", "-verify_return_error"]);
        command.args(["-connect", &at.to_string()]).arg("-CAfile").arg(certificates().join("ca.pem"));
        let mut process = Process::start(command, Stdio::piped());
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
        let deadline = Instant::now() + PATIENCE;
        while self.output().matches(CLOSED).count() < clients {
            pause(deadline, || self.output());
        }
        assert_eq!(self.process.ended(), None, "the server ended: {}", self.output());
    }

    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// How a client ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub output: String,
}

impl Outcome {
    /// Asserts that the client had its answer.
    pub fn complete(&self, server: &Server) {
        let answered = self.status.success() && self.output.contains(RESPONSE);
        assert!(answered, "client: {}\n{}\nserver:\n{}", self.status, self.output, server.output());
    }
}

/// A process that writes into a file, so that it can be read at any time and never has to wait for a reader.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, input: Stdio) -> Process {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let log = directory().join(format!("{}.log", STARTED.fetch_add(1, Ordering::Relaxed)));
        let mut file = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        writeln!(file, "{command:?}").expect("written");
        command.stdin(input).stdout(file.try_clone().expect("a descriptor")).stderr(file);
        Process { child: command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")), log }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    fn wait(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return Outcome { status, output: self.output() };
            }
            pause(deadline, || self.output());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives the other processes a moment; past the deadline the test fails.
fn pause(deadline: Instant, output: impl Fn() -> String) {
    assert!(Instant::now() < deadline, "nothing happened for {PATIENCE:?}; so far:\n{}", output());
    std::thread::sleep(Duration::from_millis(5));
}

/// Whether a UDP socket is bound to exactly this address.
fn is_bound(at: SocketAddr) -> bool {
    let word = |octets: &[u8]| format!("{:08X}", u32::from_ne_bytes(octets.try_into().expect("four octets")));
    let (table, host) = match at.ip() {
        IpAddr::V4(ip) => ("/proc/net/udp", word(&ip.octets())),
        IpAddr::V6(ip) => ("/proc/net/udp6", ip.octets().chunks(4).map(word).collect()),
    };
    let sockets = std::fs::read_to_string(table).unwrap_or_default();
    sockets.contains(&format!(" {host}:{:04X} ", at.port()))
}
