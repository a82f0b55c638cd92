//! What an idle session of a server holds in memory. `cargo bench --bench memory [SESSIONS] [RECORDS]`
//!
//! Each client makes a handshake, says something, hears the answer and is gone without a goodbye. Counted is what all of
//! malloc has given out, to OpenSSL and to Rust, and what of the process is resident.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use dv_dtls::{Config, Connect, Endpoint, Event};
use openssl::ssl::{SslContext, SslFiletype, SslMethod};

const SECOND: u64 = 1_000_000;

fn certificate(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("certs/out").join(name)
}

fn server_context() -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_certificate_chain_file(certificate("server-ecdsa.pem")).unwrap();
    context.set_private_key_file(certificate("server-ecdsa.key"), SslFiletype::PEM).unwrap();
    context.build()
}

fn client_context() -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_ca_file(certificate("ca.pem")).unwrap();
    context.build()
}

/// Bytes that malloc has given out and that were not freed, and bytes of the process that are resident.
fn memory() -> (usize, usize) {
    // SAFETY: plain calls.
    let given = unsafe {
        libc::malloc_trim(0);
        let info = libc::mallinfo2();
        info.uordblks + info.hblkhd
    };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (given, pages * 4096)
}

/// Carries what both have to say, until the client has its answer.
fn talk(server: &mut Endpoint, context: &SslContext, from: SocketAddr, now: &mut u64) {
    let config = Config { verify_server: false, ..Config::default() };
    let to = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5684));
    let mut client = Endpoint::new(context.clone(), config).unwrap();
    let session = client.connect(*now, &Connect::to(to)).unwrap();
    let mut message = Vec::new();
    loop {
        *now += 10;
        while let Some(transmit) = client.transmit(1) {
            server.receive(*now, transmit.bytes, from, None);
        }
        while let Some(event) = server.event(&mut message) {
            if let Event::Message { session } = event {
                server.send(session, &message).unwrap();
            }
        }
        while let Some(transmit) = server.transmit(1) {
            client.receive(*now, transmit.bytes, to, None);
        }
        while let Some(event) = client.event(&mut message) {
            match event {
                Event::Opened { .. } => client.send(session, &[7; 64]).unwrap(),
                Event::Message { .. } => return,
                Event::Moved { .. } | Event::Closed { .. } => panic!("{event:?}"),
            }
        }
    }
}

fn measure(name: &str, sessions: u32, set: fn(&mut Config)) {
    if !std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with('-') && it.parse::<u32>().is_err())
        .all(|it| name.contains(&it))
    {
        return;
    }
    let (server_context, client_context) = (server_context(), client_context());
    let mut config = Config::default();
    set(&mut config);
    let mut server = Endpoint::new(server_context, config).unwrap();
    let mut now = SECOND;
    let peer = |number: u32| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 4000));
    // What is made once for all.
    talk(&mut server, &client_context, peer(0), &mut now);
    let before = memory();
    for number in 1..=sessions {
        talk(&mut server, &client_context, peer(number), &mut now);
        // A hundred new sessions a second: those before them are idle meanwhile.
        now += SECOND / 100;
        server.advance(now);
    }
    now += 5 * SECOND;
    while server.deadline() <= now {
        server.advance(now);
    }
    let idle = memory();
    assert_eq!(server.sessions().count(), sessions as usize + 1);
    let each = |after: usize, before: usize| after.saturating_sub(before) / sessions as usize;
    println!("{name:<40} heap {:>6} B a session, resident {:>6} B", each(idle.0, before.0), each(idle.1, before.1));
}

fn main() {
    assert!(Command::new(certificate("../make-certs.sh")).status().unwrap().success());
    let sessions = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    println!("{sessions} sessions of a server");
    measure("our records", sessions, |_| {});
    measure("OpenSSL's records, buffers given back", sessions, |config| config.settings.native_records = false);
    measure("OpenSSL's records", sessions, |config| {
        config.settings.native_records = false;
        config.settings.release_buffers = false;
    });
}
