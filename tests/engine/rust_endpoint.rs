//! The endpoint from Rust: an echo server on the safe API, with one socket and a loop of its own. The test program is it itself
//! when it is started again for that, so that no other program has to be built, and none can be out of date.

use std::error::Error;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use dv_dtls::{Config, CookieSecret, Endpoint, Event, Stats};
use openssl::ssl::{SslContext, SslFiletype, SslMethod, SslVerifyMode};

#[path = "../../examples/support/poll.rs"]
mod poll;

/// The first argument of a test program that is to be the server.
pub const ROLE: &str = "--as-endpoint";

/// Datagrams that are taken before something else is done.
const BATCH: usize = 16;

/// Is the server, for ever, if that is what the program was started for.
pub fn serve_if_asked() {
    if std::env::args().nth(1).is_some_and(|first| first == ROLE) {
        panic!("the server has ended: {:?}", serve(&Options::read()));
    }
}

/// The command line, which is that of the example server.
#[derive(Default)]
struct Options {
    host: Option<IpAddr>,
    port: u16,
    certificate: PathBuf,
    key: PathBuf,
    authority: Option<PathBuf>,
    openssl_records: bool,
}

impl Options {
    fn read() -> Options {
        let mut options = Options::default();
        let mut words = std::env::args().skip(2);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
            match &word[..] {
                "-a" => options.host = Some(value().parse().expect("an address")),
                "-p" => options.port = value().parse().expect("a port"),
                "-c" => options.certificate = value().into(),
                "-k" => options.key = value().into(),
                "-C" => options.authority = Some(value().into()),
                "-o" => options.openssl_records = true,
                _ => panic!("{word}?"),
            }
        }
        options
    }

    fn context(&self) -> Result<SslContext, Box<dyn Error>> {
        let mut context = SslContext::builder(SslMethod::dtls_server())?;
        context.set_certificate_chain_file(&self.certificate)?;
        context.set_private_key_file(&self.key, SslFiletype::PEM)?;
        context.set_cipher_list("ECDHE+AESGCM:ECDHE+CHACHA20")?;
        context.set_session_id_context(b"engine")?;
        if let Some(authority) = &self.authority {
            context.set_ca_file(authority)?;
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        Ok(context.build())
    }
}

/// A setting, by the name that it has in the environment of a program on the helpers.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn config(options: &Options, clock: &Clock) -> io::Result<Config> {
    let mut config = Config::default();
    let settings = &mut config.settings;
    settings.native_records = !options.openssl_records;
    settings.mtu = setting("DV_MTU").unwrap_or(settings.mtu);
    settings.release_buffers = setting("DV_RELEASE_BUFFERS").map_or(settings.release_buffers, |wanted: u8| wanted != 0);
    for (name, to) in [
        ("DV_MAX_CONNECTIONS", &mut settings.max_connections),
        ("DV_MAX_HANDSHAKES", &mut settings.max_handshakes),
        ("DV_MAX_CONNECTIONS_PER_SOURCE", &mut settings.max_connections_per_source),
        ("DV_MAX_HANDSHAKES_PER_SOURCE", &mut settings.max_handshakes_per_source),
        ("DV_MAX_CERTIFICATE_CHAIN", &mut settings.max_certificate_chain),
    ] {
        *to = setting(name).unwrap_or(*to);
    }
    for (name, to) in [
        ("DV_FIRST_TIMEOUT_MS", &mut settings.first_timeout),
        ("DV_LONGEST_TIMEOUT_MS", &mut settings.longest_timeout),
        ("DV_HANDSHAKE_TIMEOUT_MS", &mut settings.handshake_timeout),
        ("DV_IDLE_TIMEOUT_MS", &mut settings.idle_timeout),
    ] {
        *to = setting(name).map_or(*to, Duration::from_millis);
    }
    if let Some(path) = setting::<PathBuf>("DV_COOKIE_SECRET_FILE") {
        config.cookie_secret = Some(CookieSecret::new(std::fs::read(path)?, clock.to_unix()));
    }
    Ok(config)
}

/// Time as the endpoint counts it: microseconds since the start.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }

    /// What it lacks to Unix time.
    fn to_unix(&self) -> u64 {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        unix.as_micros() as u64 - self.now()
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let clock = Clock(Instant::now());
    let mut endpoint = Endpoint::new(options.context()?, config(options, &clock)?)?;
    let socket = UdpSocket::bind((options.host.ok_or("no -a")?, options.port))?;
    socket.set_nonblocking(true)?;
    let poll = poll::Poll::new()?;
    poll.add(&socket, 0)?;
    let mut told = Stats::default();
    let (mut datagram, mut message) = (vec![0; 1 << 16], Vec::new());
    loop {
        let due = endpoint.deadline();
        poll.wait((due != u64::MAX).then(|| Duration::from_micros(due.saturating_sub(clock.now()))))?;
        for _ in 0..BATCH {
            let Ok((len, from)) = socket.recv_from(&mut datagram) else { break };
            endpoint.receive(clock.now(), &datagram[..len], from, None);
        }
        endpoint.advance(clock.now());
        while let Some(event) = endpoint.event(&mut message) {
            match event {
                Event::Message { session } => {
                    if let Err(error) = endpoint.send(session, &message) {
                        println!("cannot answer: {error}");
                    }
                }
                Event::Closed { reason, .. } => println!("session closed: {reason:?}"),
                Event::Opened { .. } | Event::Moved { .. } => {}
            }
        }
        while let Some(transmit) = endpoint.transmit(1) {
            let _ = socket.send_to(transmit.bytes, transmit.to);
        }
        tell(&mut told, endpoint.stats());
    }
}

/// The endpoint only counts whom it refuses, and why. Says what is new in the words of the helpers' log.
fn tell(told: &mut Stats, now: Stats) {
    for (told, now, words) in [
        (told.refused_handshakes, now.refused_handshakes, "max_handshakes is reached"),
        (told.refused_source, now.refused_source, "a source has reached its limit"),
        (told.refused_connections, now.refused_connections, "max_connections is reached and nobody is idle"),
        (told.evicted, now.evicted, "1 idle connections closed: a limit of connections is reached"),
        (told.handshakes_failed, now.handshakes_failed, "a handshake has failed"),
        (told.records_taken_over, now.records_taken_over, "records are made by the library"),
    ] {
        if now > told {
            println!("{words}");
        }
    }
    *told = now;
}
