//! Servers that share a secret file: behind a load balancer that knows nothing of DTLS, and whatever doors they have.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use dv_dtls::{Config, Connect, CookieSecret, Endpoint};

use crate::Proof;
use crate::common::process::{PATIENCE, Process, free_port, is_bound, pause};
use crate::common::{cert, directory};
use crate::contexts;
use crate::examples::{Language, build, file};

pub const PROOFS: &[Proof] = &[
    Proof { name: "clients_of_a_killed_server_resume", needs: &["nginx"], run: clients_of_a_killed_server_resume },
    Proof { name: "sessions_go_on_behind_it", needs: &["nginx"], run: sessions_go_on_behind_it },
    Proof { name: "hellos_change_doors", needs: &[], run: hellos_change_doors },
];

/// The module that lets nginx balance datagrams.
pub const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

const CLIENTS: usize = 500;

fn secret(name: &str) -> String {
    let mut bytes = [0; 32];
    openssl::rand::rand_bytes(&mut bytes).expect("random bytes");
    file(name, bytes)
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn wait_for(process: &Process, address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while !is_bound(address) {
        pause(deadline, || process.output());
    }
}

/// Starts nginx in front of servers: it balances by the clients' addresses and ports, as docs/operations.md has it.
fn balance(servers: &[SocketAddr]) -> (Process, SocketAddr) {
    let balanced = free_address();
    let servers: String = servers.iter().map(|server| format!("server {server} max_fails=0;\n")).collect();
    let configuration = format!(
        "load_module {NGINX_STREAM};
         daemon off;
         master_process off;
         pid {}.pid;
         events {{ worker_connections 8192; }}
         stream {{
             upstream fleet {{
                 hash $remote_addr$remote_port consistent;
                 {servers}
             }}
             server {{ listen {balanced} udp; proxy_pass fleet; }}
         }}\n",
        balanced.port()
    );
    let mut nginx = Command::new("nginx");
    // In a folder that a user's PATH may lack.
    nginx.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    let file = file(&format!("nginx-{}.conf", balanced.port()), configuration);
    nginx.arg("-p").arg(directory()).args(["-e", "stderr", "-c", &file]);
    let nginx = Process::start(nginx, Stdio::null());
    wait_for(&nginx, balanced);
    (nginx, balanced)
}

/// Two servers behind nginx. One is killed and started again.
fn clients_of_a_killed_server_resume() {
    let secret = secret("nginx.secret");
    let tool = build(&["--release", "--package", "dv-load"], "release").join("dv-load");
    let serve = |at| Language::C.serve_at("echo_server", at, &["--secret", &secret, "--workers", "2"]);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (killed, other) = (serve(any), serve(any));

    let (_nginx, balanced) = balance(&[killed.address, other.address]);

    let mut clients = Command::new(tool);
    clients.args(["failover", "--to", &balanced.to_string(), "--clients", &CLIENTS.to_string()]);
    // Each of the two has a good part of them.
    clients.args(["--at-least-lost", &(CLIENTS / 5).to_string(), "--ca", &cert("ca.pem")]);
    let mut clients = Process::start(clients, Stdio::piped());
    let mut go_on = clients.child.stdin.take().expect("piped");
    clients.until(|output| output.contains("clients are served").then_some(()));
    let address = killed.address;
    drop(killed);
    let _restarted = serve(address);
    go_on.write_all(b"\n").expect("it waits for that");

    let ended = clients.wait_for(PATIENCE * 6);
    assert!(ended.status.success(), "{}", ended.output);
    assert!(ended.output.contains(&format!("\"clients\": {CLIENTS}")), "{}", ended.output);
}

/// A server behind nginx leaves its sessions to the next process.
fn sessions_go_on_behind_it() {
    for language in Language::BOTH {
        let name = |what| format!("{language:?}.{what}");
        let options = ["--upgrade", &file(&name("sessions"), ""), "--upgrade-key", &secret(&name("key"))];
        let old = language.serve("echo_server", &options);
        let (_nginx, balanced) = balance(&[old.address]);

        let mut client = Command::new("openssl");
        client.args(["s_client", "-dtls1_2", "-quiet", "-connect", &balanced.to_string()]);
        let mut client = Process::start(client, Stdio::piped());
        let mut terminal = client.child.stdin.take().expect("piped");
        let mut echoed = |line: &str| {
            writeln!(terminal, "{line}").expect("it reads");
            client.until(|output| output.lines().any(|echo| echo == line).then_some(()));
        };
        echoed("before");
        let address = old.address;
        old.process.signal(libc::SIGUSR2);
        let said = old.process.wait().output;
        assert!(said.contains("1 sessions are left to the next process"), "{said}");
        let next = language.serve_at("echo_server", address, &options);
        assert!(next.process.output().contains("1 sessions go on"), "{}", next.process.output());
        echoed("afterwards");
    }
}

/// A hello that one has answered is completed by another one, with a door of another kind.
fn hellos_change_doors() {
    let secret = secret("doors.secret");
    let mut servers: Vec<(&str, SocketAddr)> = Vec::new();
    let c = Language::C.serve("echo_server", &["--secret", &secret]);
    let rust = Language::Rust.serve("echo_server", &["--secret", &secret]);
    let (helpers_at, stranger_at) = (free_address(), free_address());
    let helpers = |at: SocketAddr, secret: &str| {
        let mut command = Language::C.program("dtls_server");
        command.args(["-a", "127.0.0.1", "-p", &at.port().to_string()]).env("DV_COOKIE_SECRET_FILE", secret);
        let process = Process::start(command, Stdio::null());
        wait_for(&process, at);
        process
    };
    let _helpers = helpers(helpers_at, &secret);
    let _stranger = helpers(stranger_at, &self::secret("stranger.secret"));
    let endpoint_at = endpoint(std::fs::read(&secret).expect("a secret"));
    servers.extend([("server in C", c.address), ("server in Rust", rust.address)]);
    servers.extend([("helpers", helpers_at), ("endpoint", endpoint_at)]);

    for (from, challenger) in &servers {
        for (to, other) in &servers {
            assert_eq!(answer_to_cookie(*challenger, *other), SERVER_HELLO, "from {from} to {to}");
        }
        assert_eq!(answer_to_cookie(*challenger, stranger_at), HELLO_VERIFY_REQUEST, "from {from} to a stranger");
    }
}

const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// Takes a cookie from one server to another one. Gives the kind of the handshake message that comes back.
fn answer_to_cookie(challenger: SocketAddr, other: SocketAddr) -> u8 {
    let mut client =
        Endpoint::new(contexts::client(), Config { accept: false, ..Config::default() }).expect("an endpoint");
    client.connect(1, &Connect::to(challenger)).expect("begun");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut datagram = [0; 2048];
    let mut ask = |to: SocketAddr| {
        socket.connect(to).expect("an address");
        socket.send(client.transmit(1).expect("a hello").bytes).expect("sent");
        let len = socket.recv(&mut datagram).expect("an answer");
        client.receive(1, &datagram[..len], challenger, None);
        // Behind the header of the record.
        datagram[13]
    };
    assert_eq!(ask(challenger), HELLO_VERIFY_REQUEST);
    ask(other)
}

/// An endpoint on a socket of its own, in a thread that ends with the tests.
fn endpoint(secret: Vec<u8>) -> SocketAddr {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_micros() as u64;
    let cookie_secret = Some(CookieSecret::new(secret, unix));
    let config = Config { cookie_secret, ..Config::default() };
    let mut endpoint = Endpoint::new(contexts::server(), config).expect("an endpoint");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("not zero");
    let address = socket.local_addr().expect("bound");
    let (began, mut datagram) = (Instant::now(), [0; 2048]);
    thread::spawn(move || {
        loop {
            let received = socket.recv_from(&mut datagram);
            let now = began.elapsed().as_micros() as u64;
            if let Ok((len, from)) = received {
                endpoint.receive(now, &datagram[..len], from, None);
            }
            endpoint.advance(now);
            while let Some(transmit) = endpoint.transmit(1) {
                let _ = socket.send_to(transmit.bytes, transmit.to);
            }
        }
    });
    address
}
