//! How quickly sessions go to another process, and what they take up on the way. `cargo bench --bench export [SESSIONS]`
//!
//! Each session is a client's handshake with an ECDSA certificate, and a message and its answer. Told is wall-clock time and
//! the time that the thread had a processor: on a busy machine they differ.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use dv_dtls::{Config, Connect, Endpoint, Event, Export, ExportKey};
use openssl::ssl::{SslContext, SslFiletype, SslMethod};

const ROUNDS: usize = 7;

fn certificate(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("certs/out").join(name)
}

fn server_context() -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_certificate_chain_file(certificate("server-ecdsa.pem")).unwrap();
    context.set_private_key_file(certificate("server-ecdsa.key"), SslFiletype::PEM).unwrap();
    context.build()
}

/// Lets a client in, and answers it.
fn talk(server: &mut Endpoint, context: &SslContext, from: SocketAddr, now: u64) {
    let to = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5684));
    let config = Config { verify_server: false, ..Config::default() };
    let mut client = Endpoint::new(context.clone(), config).unwrap();
    let session = client.connect(now, &Connect::to(to)).unwrap();
    let mut message = Vec::new();
    loop {
        while let Some(transmit) = client.transmit(1) {
            server.receive(now, transmit.bytes, from, Some(to.ip()));
        }
        while let Some(event) = server.event(&mut message) {
            if let Event::Message { session } = event {
                server.send(session, &message).unwrap();
            }
        }
        while let Some(transmit) = server.transmit(1) {
            client.receive(now, transmit.bytes, to, None);
        }
        while let Some(event) = client.event(&mut message) {
            match event {
                Event::Opened { .. } => client.send(session, &[7; 64]).unwrap(),
                Event::Message { .. } => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Seconds for which this thread had a processor.
fn processor_time() -> f64 {
    // SAFETY: the time is filled by the call.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time), 0);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }
}

/// The best of some rounds: seconds on the wall and on the processor.
struct Best(f64, f64);

impl Best {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (wall, processor) = (Instant::now(), processor_time());
        let result = work();
        *self = Best(self.0.min(wall.elapsed().as_secs_f64()), self.1.min(processor_time() - processor));
        result
    }

    fn print(&self, what: &str, sessions: usize) {
        let each = |seconds: f64| sessions as f64 / seconds;
        println!(
            "{what:<32} {:>10.0} sessions a second, {:>10.0} a second of processor time",
            each(self.0),
            each(self.1)
        );
    }
}

fn main() {
    assert!(Command::new(certificate("../make-certs.sh")).status().unwrap().success());
    let sessions = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let context = server_context();
    let client_context = SslContext::builder(SslMethod::dtls()).unwrap().build();
    let mut server = Endpoint::new(context.clone(), Config::default()).unwrap();
    for number in 0..sessions as u32 {
        let from = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 4000));
        talk(&mut server, &client_context, from, u64::from(number) * 100);
    }
    let key = ExportKey::new([7; ExportKey::LEN]);
    let never = || Best(f64::MAX, f64::MAX);
    let (mut export, mut read, mut import) = (never(), never(), never());
    let mut len = 0;
    for _ in 0..ROUNDS {
        let mut bytes = Vec::with_capacity(len);
        let exported = export.measure(|| server.export(&key, &mut bytes)).unwrap();
        assert_eq!((exported.sessions, exported.left), (sessions, 0));
        len = bytes.len();
        let whole = read.measure(|| Export::read(&mut &bytes[..], &key)).unwrap();
        let mut new = Endpoint::new(context.clone(), Config::default()).unwrap();
        let imported = import.measure(|| new.import(1, whole)).unwrap();
        assert_eq!(imported.sessions, sessions);
        server.commit_export();
        server = new;
        while server.event(&mut Vec::new()).is_some() {}
    }
    println!("{sessions} sessions of a server, without a client's certificate: {} bytes each", len.div_ceil(sessions));
    export.print("exported", sessions);
    read.print("opened and checked", sessions);
    import.print("taken in", sessions);
    Best(read.0 + import.0, read.1 + import.1).print("imported, both together", sessions);
}
