//! The key log: what Wireshark makes of an exchange with it, and that nobody writes one unasked.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::Proof;
use crate::common::{directory, succeed};
use crate::examples::{Language, unasked_keys};

pub const PROOFS: &[Proof] = &[
    Proof { name: "of_the_c_server", needs: &["tshark"], run: || of_the_server(Language::C, &[]) },
    Proof { name: "of_the_rust_server", needs: &["tshark"], run: || of_the_server(Language::Rust, &[]) },
    Proof {
        name: "with_openssls_records",
        needs: &["tshark"],
        run: || of_the_server(Language::Rust, &["--openssl-records"]),
    },
    Proof { name: "of_the_clients", needs: &["tshark"], run: of_the_clients },
];

const MESSAGE: &str = "nobody else shall know this";

fn keys(name: &str) -> String {
    let path = directory().join(format!("{name}.keys"));
    let _ = std::fs::remove_file(&path);
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn of_the_server(language: Language, options: &[&str]) {
    let keys = keys(&format!("{language:?}-server{}", options.concat()));
    let server = language.serve("echo_server", &[&["--keylog", &keys], options].concat());
    reads_with(&keys, server.address, |to| language.asks(to, &["--message", MESSAGE, "--count", "3"]));
}

fn of_the_clients() {
    let server = Language::C.serve("echo_server", &[]);
    for language in Language::BOTH {
        let keys = keys(&format!("{language:?}-client"));
        let options = ["--message", MESSAGE, "--count", "3", "--keylog", &keys];
        reads_with(&keys, server.address, |to| language.asks(to, &options));
    }
}

/// Captures what a client and a server exchange, and lets tshark read it.
fn reads_with(keys: &str, server: SocketAddr, exchange: impl FnOnce(SocketAddr) -> (String, bool)) {
    let capture = Capture::before(server);
    let at = capture.address;
    let (output, answered) = exchange(at);
    assert!(answered, "{output}");
    let pcap = format!("{keys}.pcap");
    std::fs::write(&pcap, capture.stop()).expect("written");
    let read = |options: &[&str]| {
        let mut tshark = Command::new("tshark");
        tshark.args(["-r", &pcap, "-d", &format!("udp.port=={},dtls", at.port())]);
        tshark.args(["-o", "data.show_as_text:TRUE", "-Y", "data", "-T", "fields", "-e", "data.text"]);
        String::from_utf8_lossy(&succeed(tshark.args(options)).stdout).into_owned()
    };
    assert!(!read(&[]).contains(MESSAGE));
    let text = read(&["-o", &format!("tls.keylog_file:{keys}")]);
    assert_eq!(text.matches(MESSAGE).count(), 6, "three messages in each direction: {text}");
    assert!(std::fs::metadata(keys).expect("a file").permissions().mode() & 0o077 == 0, "others may read the keys");
    assert!(!unasked_keys().exists(), "SSLKEYLOGFILE was set, but nobody asked for it");
}

/// Stands between a client and a server and takes down what they say.
struct Capture {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    packets: thread::JoinHandle<Vec<u8>>,
}

impl Capture {
    fn before(server: SocketAddr) -> Capture {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("not zero");
        let (address, over) = (socket.local_addr().expect("bound"), Arc::new(AtomicBool::new(false)));
        let stop = over.clone();
        let packets = thread::spawn(move || {
            // A pcap file of raw IP packets.
            let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 101u32];
            let mut file: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
            let (mut client, mut datagram) = (None, [0; 1 << 16]);
            while !stop.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut datagram) else { continue };
                let to = if from == server { client.expect("it has spoken first") } else { server };
                if from != server {
                    client = Some(from);
                }
                let seen_as = |peer| if peer == server { address } else { peer };
                file.extend(packet(seen_as(from), seen_as(to), &datagram[..len]));
                let _ = socket.send_to(&datagram[..len], to);
            }
            file
        });
        Capture { address, over, packets }
    }

    fn stop(self) -> Vec<u8> {
        self.over.store(true, Ordering::Relaxed);
        self.packets.join().expect("no panic")
    }
}

/// A packet as a pcap file has it: when (it does not matter), how long, and IPv4 and UDP headers without checksums.
fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv6") };
    let len = (28 + payload.len()) as u16;
    let mut bytes: Vec<u8> = [0, 0, len.into(), len.into()].into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend([[0x45, 0], len.to_be_bytes(), [0, 0], [0, 0], [64, 17], [0, 0]].concat());
    bytes.extend([from.ip().octets(), to.ip().octets()].concat());
    bytes.extend([from.port(), to.port(), len - 20, 0].into_iter().flat_map(u16::to_be_bytes));
    bytes.extend(payload);
    bytes
}
