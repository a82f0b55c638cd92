//! A peer on dimpl: DTLS 1.2, ECDSA certificates, which it leaves to the program to check. As a server, one client at a time.

use std::io::BufRead;
use std::net::{SocketAddr, UdpSocket};
use std::process::exit;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate, Output};
use interop_peers::Options;

/// How long the answer to a goodbye is waited for.
const GOODBYE: Duration = Duration::from_secs(1);

fn der(file: &[u8]) -> Vec<u8> {
    match rustls_pemfile::read_one(&mut &file[..]).expect("PEM").expect("an item") {
        rustls_pemfile::Item::X509Certificate(der) => der.to_vec(),
        rustls_pemfile::Item::Pkcs8Key(der) => der.secret_pkcs8_der().to_vec(),
        rustls_pemfile::Item::Sec1Key(der) => der.secret_sec1_der().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn session(options: &Options) -> Dtls {
    let mut config = Config::builder().require_client_certificate(options.is_server() && options.get("-ca").is_some());
    if let Some(mtu) = options.number("-mtu") {
        config = config.mtu(mtu);
    }
    let file = |name| der(&options.read_file(name).expect("dimpl always has a certificate"));
    let certificate = DtlsCertificate { certificate: file("-cert"), private_key: file("-key") };
    let mut dtls = Dtls::new_12(Arc::new(config.build().expect("a configuration")), certificate, Instant::now());
    dtls.set_active(!options.is_server());
    dtls.handle_timeout(Instant::now()).expect("it begins");
    dtls
}

fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            sender.send(line.expect("text")).expect("the receiver is there until the end");
        }
    });
    lines
}

fn main() {
    let options = Options::read();
    let server = options.is_server();
    let address: SocketAddr = options.address().parse().expect("an address");
    let socket = UdpSocket::bind(if server { address.to_string() } else { options.local() }).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(5))).expect("not zero");
    println!("listening {}", socket.local_addr().expect("bound"));
    let lines = lines();
    let (mut peer, mut dtls) = ((!server).then_some(address), session(&options));
    let (mut open, mut closing) = (false, None);
    let (mut input, mut output) = (vec![0; 65536], vec![0; 16384]);
    loop {
        let (mut echo, mut over) = (Vec::new(), false);
        let due = loop {
            match dtls.poll_output(&mut output) {
                Output::Packet(datagram) => drop(peer.map(|peer| socket.send_to(datagram, peer))),
                Output::Timeout(at) => break at,
                Output::Connected => {
                    open = true;
                    println!("open");
                }
                Output::ApplicationData(message) if server => echo.push(message.to_vec()),
                Output::ApplicationData(message) => println!("{}", String::from_utf8_lossy(message)),
                Output::CloseNotify => over = true,
                _ => {}
            }
        };
        for message in echo {
            dtls.send_application_data(&message).expect("room");
        }
        while open && closing.is_none() && !server {
            match lines.try_recv() {
                Ok(line) => drop(dtls.send_application_data(line.as_bytes()).expect("room")),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    dtls.close().expect("open");
                    closing = Some(Instant::now());
                }
            }
        }
        if closing.is_some_and(|began| over || began.elapsed() > GOODBYE) {
            exit(0);
        }
        if let Ok((len, from)) = socket.recv_from(&mut input) {
            if *peer.get_or_insert(from) == from {
                over |= dtls.handle_packet(&input[..len]).inspect_err(|e| println!("error {e:?}")).is_err();
            }
        }
        if Instant::now() >= due {
            over |= dtls.handle_timeout(Instant::now()).inspect_err(|e| println!("error {e:?}")).is_err();
        }
        if over && !server {
            exit(1);
        } else if over {
            (peer, dtls) = (None, session(&options));
        }
    }
}
