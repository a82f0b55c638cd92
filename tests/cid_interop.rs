//! Connection IDs with an implementation that others wrote: wolfSSL, as a client that changes its port (RFC 9146), and as a
//! server for a client of ours. OpenSSL has none: <https://github.com/openssl/openssl/issues/18724>.
//!
//! Debian's wolfSSL has no connection IDs for DTLS 1.2. So its source comes from a crate that
//! tests/c-clients/wolfssl/Cargo.toml names, and is compiled here. Where that cannot be had the tests are ignored.

mod common;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dv_dtls::{Config, Connect, ConnectionIds, Context, Endpoint, Event, Server, ServerConfig, Session};
use libtest_mimic::{Arguments, Trial};
use openssl::ssl::{SslContext, SslFiletype, SslMethod};

use common::{certificates, root, succeed};

/// The parts of wolfSSL that a client needs, those first that take the compiler long.
const PARTS: &str = "src/internal src/tls wolfcrypt/src/sp_int src/ssl wolfcrypt/src/asn wolfcrypt/src/ecc src/dtls \
    src/keys src/wolfio wolfcrypt/src/aes wolfcrypt/src/chacha wolfcrypt/src/chacha20_poly1305 wolfcrypt/src/coding \
    wolfcrypt/src/curve25519 wolfcrypt/src/dh wolfcrypt/src/error wolfcrypt/src/fe_low_mem \
    wolfcrypt/src/fe_operations wolfcrypt/src/ge_low_mem wolfcrypt/src/ge_operations wolfcrypt/src/hash \
    wolfcrypt/src/hmac wolfcrypt/src/kdf wolfcrypt/src/logging wolfcrypt/src/md5 wolfcrypt/src/memory \
    wolfcrypt/src/poly1305 wolfcrypt/src/pwdbased wolfcrypt/src/random wolfcrypt/src/rsa wolfcrypt/src/sha \
    wolfcrypt/src/sha256 wolfcrypt/src/sha512 wolfcrypt/src/signature wolfcrypt/src/wc_encrypt \
    wolfcrypt/src/wc_port wolfcrypt/src/wolfmath";

const SUITES: [&str; 3] =
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];

/// How often the client changes its port in each of its two sessions.
const MOVES: u64 = 5;

fn main() {
    let arguments = Arguments::from_args();
    let source = source();
    if source.is_none() {
        eprintln!("the source of wolfSSL is not here and cannot be fetched: what needs it is ignored");
    }
    let mut trials = Vec::new();
    for suite in SUITES {
        let of_server =
            [(0, 8, 0), (8, 8, 0), (8, 10, 16), (10, 2, 64)].map(|lens| ("client", with_client as Run, lens));
        let of_client = [(8, 0, 0), (8, 8, 0), (0, 10, 0), (5, 5, 16)].map(|lens| ("server", with_server as Run, lens));
        for (part, run, lens) in of_server.into_iter().chain(of_client) {
            let there = source.is_some();
            // Asked for what is ignored, we do not run what cannot run.
            if there || !(arguments.ignored || arguments.include_ignored) {
                let source = source.clone().unwrap_or_default();
                let name = format!("wolfssl_{part}::{suite}::{lens:?}");
                let run = move || {
                    run(&source, suite, lens);
                    Ok(())
                };
                trials.push(Trial::test(name, run).with_ignored_flag(!there));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test with this source and suite, and with so many bytes of wolfSSL's ID, of ours, and that we pad to.
type Run = fn(&Path, &str, (usize, usize, u16));

/// Two sessions of its client, the second one resumed, each from several ports: no handshake but those two.
fn with_client(source: &Path, suite: &str, (theirs, ours, padding): (usize, usize, u16)) {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_certificate_chain_file(certificates().join("server-ecdsa.pem")).unwrap();
    context.set_private_key_file(certificates().join("server-ecdsa.key"), SslFiletype::PEM).unwrap();
    let ids = ConnectionIds { len: ours, padding, ..ConnectionIds::default() };
    let endpoint = Config { connection_ids: Some(ids), ..Config::default() };
    let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| context.send(session, message).unwrap();
    let server = Server::new(context.build(), ServerConfig { endpoint, workers: 2, ..ServerConfig::default() }, echo);
    let server = server.unwrap();
    let port = server.bind("127.0.0.1:0").unwrap().port();
    server.start().unwrap();

    let mut client = Command::new("timeout");
    client.arg("60").arg(program(source, "wolfssl_client")).arg(port.to_string()).arg(certificates().join("ca.pem"));
    let printed = succeed(client.args([suite, &theirs.to_string(), &MOVES.to_string()])).stdout;
    let printed = String::from_utf8(printed).unwrap();
    let sessions: Vec<_> = printed.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let expected = ["0", "1"].map(|resumed| format!("resumed={resumed} received={theirs} sent={ours}"));
    assert_eq!(sessions, expected, "{printed}");

    // The last goodbye may still be on its way.
    let began = Instant::now();
    while server.stats().endpoints.closed_by_peer < 2 && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let stats = server.stats().endpoints;
    assert_eq!((stats.handshakes_begun, stats.handshakes_finished, stats.connection_ids_used), (2, 2, 2));
    // Each session's goodbye comes from one more port, and moves nothing any more.
    assert_eq!((stats.messages_in, stats.peers_moved), (2 * (MOVES + 1), 2 * MOVES));
    assert_eq!((stats.strangers_dropped, stats.closed_by_peer), (0, 2));
    // wolfSSL does no routability checks: of the echo and the answer to the goodbye, the second may be too much to an address
    // from which one short record has come.
    assert!(stats.datagrams_withheld <= if padding == 64 { 2 } else { 0 }, "{stats:?}");
}

/// Two sessions with its server, the second one resumed.
fn with_server(source: &Path, suite: &str, (theirs, ours, padding): (usize, usize, u16)) {
    let mut server = Command::new("timeout");
    server.arg("60").arg(program(source, "wolfssl_server"));
    server.arg(certificates().join("server-ecdsa.pem")).arg(certificates().join("server-ecdsa.key"));
    let mut server = server.args([suite, &theirs.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    let to = SocketAddr::from(([127, 0, 0, 1], printed.next().unwrap().parse().unwrap()));

    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_ca_file(certificates().join("ca.pem")).unwrap();
    let ids = ConnectionIds { len: ours, padding, ..ConnectionIds::default() };
    let config = Config { accept: false, connection_ids: Some(ids), ..Config::default() };
    let mut endpoint = Endpoint::new(context.build(), config).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let began = Instant::now();
    let now = || began.elapsed().as_micros() as u64;
    let (mut datagram, mut message, mut ticket) = ([0; 2048], Vec::new(), None);
    for round in 0..2 {
        let connect = Connect { resume: ticket.as_ref(), ..Connect::to_named(to, "localhost") };
        let session = endpoint.connect(now(), &connect).unwrap();
        let mut answers = 0;
        while answers < 20 {
            assert!(began.elapsed() < Duration::from_secs(50), "{answers} answers");
            while let Some(transmit) = endpoint.transmit(1) {
                socket.send_to(transmit.bytes, transmit.to).unwrap();
            }
            if let Ok((len, from)) = socket.recv_from(&mut datagram) {
                endpoint.receive(now(), &datagram[..len], from, None);
            }
            endpoint.advance(now());
            while let Some(event) = endpoint.event(&mut message) {
                match event {
                    Event::Opened { .. } => {}
                    Event::Message { .. } => {
                        assert_eq!(message, [answers; 100]);
                        answers += 1;
                    }
                    other => panic!("{other:?}: {:?}", endpoint.info(session).unwrap().failure()),
                }
                endpoint.send(session, &[answers; 100]).unwrap();
            }
        }
        let info = endpoint.info(session).unwrap();
        assert_eq!((info.connection_id().len(), info.peer_connection_id().len()), (ours, theirs));
        ticket = info.resumption();
        endpoint.close(session).unwrap();
        while let Some(transmit) = endpoint.transmit(1) {
            socket.send_to(transmit.bytes, transmit.to).unwrap();
        }
        let line = printed.next().unwrap();
        let expected = format!("resumed={round} received={theirs} sent={ours}");
        assert_eq!(line.split_once(' ').map(|(_, rest)| rest), Some(&*expected));
        // Its goodbye.
        std::thread::sleep(Duration::from_millis(50));
        while socket.recv_from(&mut datagram).is_ok() {}
        while endpoint.event(&mut message).is_some() {}
    }
    assert!(server.wait().unwrap().success());
}

/// Where wolfSSL's source is, fetched if it is not there yet.
fn source() -> Option<PathBuf> {
    let manifest = root().join("tests/c-clients/wolfssl/Cargo.toml");
    let metadata = |offline: &[&str]| {
        let mut cargo = Command::new("timeout");
        cargo.arg("300").arg(env!("CARGO")).args(["metadata", "--locked", "--format-version", "1", "--manifest-path"]);
        let output = cargo.arg(&manifest).args(offline).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let packages = metadata(&["--offline"]).or_else(|| metadata(&[]))?;
    let manifests = packages.split("\"manifest_path\":\"").filter_map(|rest| rest.split('"').next());
    let manifest = manifests.map(Path::new).find(|path| path.to_string_lossy().contains("/wolfssl-sys-"))?;
    Some(manifest.with_file_name("wolfssl-src"))
}

/// A program of ours on wolfSSL.
fn program(source: &Path, name: &str) -> PathBuf {
    built(source).join(name)
}

/// Where the programs are, compiled when one is first needed. wolfSSL's part is kept for the next run.
fn built(source: &Path) -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let ours = root().join("tests/c-clients/wolfssl");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wolfssl");
        std::fs::create_dir_all(&directory).unwrap();
        let compiler = || {
            let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
            cc.args(["-O1", "-DWOLFSSL_USER_SETTINGS", "-I"]).arg(&ours).arg("-I").arg(source);
            cc
        };
        let object = |part: &&str| directory.join(part.replace('/', "-")).with_extension("o");
        let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        let settings = time(&ours.join("user_settings.h"));
        let parts: Vec<_> = PARTS.split_whitespace().collect();
        std::thread::scope(|scope| {
            for third in 0..3 {
                let (parts, object, compiler, time) = (&parts, &object, &compiler, &time);
                scope.spawn(move || {
                    for part in parts.iter().skip(third).step_by(3).filter(|part| time(&object(part)) <= settings) {
                        let unfinished = object(part).with_extension("unfinished");
                        succeed(
                            compiler()
                                .args(["-w", "-c", "-o"])
                                .arg(&unfinished)
                                .arg(source.join(part).with_extension("c")),
                        );
                        std::fs::rename(unfinished, object(part)).unwrap();
                    }
                });
            }
        });
        for name in ["wolfssl_client", "wolfssl_server"] {
            let (program, main) = (directory.join(name), ours.join(name).with_extension("c"));
            let mut cc = compiler();
            cc.args(["-Wall", "-Wextra", "-o"]).arg(program).arg(main).args(parts.iter().map(object));
            succeed(cc.arg("-lm"));
        }
        directory
    })
}
