//! A DTLS server that sends each message back: the server door.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dv_dtls::{Config, Context, Export, ExportKey, Server, ServerConfig, Session};

use signals::Signals;

#[macro_use]
mod support;
#[path = "support/signals.rs"]
mod signals;

const HELP: &str = concat!(
    "\
echo_server [OPTIONS]
  Sends each message back to its sender. SIGHUP reloads the certificate; SIGINT and SIGTERM end the program.
  --host ADDR            the address to listen on (::, which takes IPv4 as well)
  --port N               the UDP port; 0 picks a free one (4433)
  --workers N            worker threads (1)
  --secret FILE          random bytes that several servers share, to accept each other's cookies and session tickets
  --upgrade FILE         SIGUSR2 writes all sessions to this file and ends; the next server goes on with them
  --upgrade-key FILE     32 random bytes that this file is sealed with
  --metrics PORT         statistics for Prometheus, on this TCP port of 127.0.0.1; 0 picks a free one
  --max-sessions N       at most so many sessions at once (100000)
  --idle-timeout MS      close sessions that are silent for longer; 0: never (0)
  --handshake-timeout MS give up handshakes that take longer (120000)
  --no-offload           do without UDP_GRO and UDP_SEGMENT
  --openssl-records      let OpenSSL make the records, not only the handshakes
  --no-steering          let handshakes and messages share a socket
",
    identity_help!()
);

fn main() -> Result<(), support::Failure> {
    let mut args = support::Args::new(HELP);
    let host: IpAddr = args.or("--host", IpAddr::from([0u16; 8]));
    let port: u16 = args.number("--port", 0..=65535).unwrap_or(4433);
    let mut endpoint = Config::default();
    endpoint.settings.native_records = !args.flag("--openssl-records");
    endpoint.settings.max_connections = args.number("--max-sessions", 1..=u32::MAX).unwrap_or(100_000);
    endpoint.settings.idle_timeout =
        Duration::from_millis(args.number("--idle-timeout", 0..=u32::MAX.into()).unwrap_or(0));
    endpoint.settings.handshake_timeout =
        Duration::from_millis(args.number("--handshake-timeout", 0..=u32::MAX.into()).unwrap_or(120_000));
    let config = ServerConfig {
        endpoint,
        workers: args.number("--workers", 1..=256).unwrap_or(1),
        offload: !args.flag("--no-offload"),
        secret_file: args.option("--secret"),
        steer_handshakes: !args.flag("--no-steering"),
        ..ServerConfig::default()
    };
    let metrics: Option<u16> = args.number("--metrics", 0..=65535);
    let upgrade = match (args.option::<String>("--upgrade"), args.option::<String>("--upgrade-key")) {
        (Some(path), Some(key)) => Some((path, key)),
        (None, None) => None,
        _ => args.refuse("--upgrade and --upgrade-key go together"),
    };
    let identity = support::Identity::take(&mut args);
    args.finish();

    let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| {
        // A message that does not leave is lost like any datagram.
        let _ = context.send(session, message);
    };
    let signals = Signals::block(&[libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGUSR2])?;
    let server = Arc::new(Server::new(identity.context()?, config, echo)?);
    let address = server.bind((host, port))?;
    let upgrade = upgrade.map(|(path, key)| Upgrade::new(path, &key)).transpose()?;
    if let Some(upgrade) = &upgrade {
        upgrade.take_over(&server)?;
    }
    println!("listening on {address}");
    if let Some(port) = metrics {
        let (listener, server) = (TcpListener::bind(("127.0.0.1", port))?, server.clone());
        println!("metrics at http://{}/", listener.local_addr()?);
        thread::spawn(move || listener.incoming().flatten().for_each(|asks| drop(answer(asks, &server))));
    }
    let asked = server.clone();
    thread::spawn(move || while !obey(&signals, &asked, &identity, upgrade.as_ref()) {});
    Ok(server.run()?)
}

/// Does what the next signal asks for. Returns whether that is the end of the server.
fn obey(signals: &Signals, server: &Server, identity: &support::Identity, upgrade: Option<&Upgrade>) -> bool {
    match (signals.take(), upgrade) {
        (Ok(libc::SIGHUP), _) => {
            if let Err(why) = reload(server, identity) {
                eprintln!("the old certificate stays: {why:?}");
            }
            false
        }
        (Ok(libc::SIGUSR2), None) => false,
        (Ok(libc::SIGUSR2), Some(upgrade)) => {
            upgrade.hand_over(server).inspect_err(|why| eprintln!("the sessions go on here: {why:?}")).is_ok()
        }
        _ => {
            server.stop();
            true
        }
    }
}

/// Begins sessions with what is in the certificate's files now.
fn reload(server: &Server, identity: &support::Identity) -> Result<(), support::Failure> {
    Ok(server.reload(identity.context()?)?)
}

/// Where sessions wait for the next process, and what they are sealed with.
struct Upgrade {
    path: String,
    key: ExportKey,
}

impl Upgrade {
    fn new(path: String, key_file: &str) -> Result<Upgrade, support::Failure> {
        let key = fs::read(key_file).map_err(|why| format!("{key_file}: {why}"))?;
        let key = key.try_into().map_err(|_| format!("{key_file}: must hold 32 random bytes"))?;
        Ok(Upgrade { path, key: ExportKey::new(key) })
    }

    /// Goes on with the sessions of the process before this one, if there are some.
    fn take_over(&self, server: &Server) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|file| file.len() > 0) {
            let file = File::options().read(true).write(true).open(&self.path)?;
            let export = Export::take(file, &self.key, Duration::from_secs(10));
            match export.and_then(|export| server.import(export)) {
                Ok(imported) => println!("{} sessions go on", imported.sessions),
                Err(why) => eprintln!("all clients have to begin anew: {why}"),
            }
        }
        Ok(())
    }

    /// Leaves the sessions to the next process.
    fn hand_over(&self, server: &Server) -> Result<(), support::Failure> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        let exported = server.export_to(&self.key, &file)?;
        println!("{} sessions are left to the next process, {} are over", exported.sessions, exported.left);
        Ok(server.commit_export()?)
    }
}

/// Answers whatever is asked with all statistics, in the text format of Prometheus.
fn answer(mut asks: TcpStream, server: &Server) -> io::Result<()> {
    asks.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = asks.read(&mut [0; 4096])?;
    let stats = server.stats();
    let now = [("sessions", stats.sessions), ("handshakes", stats.handshakes)];
    let mut page: String = now.map(|(name, now)| format!("# TYPE dv_{name} gauge\ndv_{name} {now}\n")).concat();
    for (name, count) in stats.endpoints.named().chain(stats.sockets.named()) {
        page += &format!("# TYPE dv_{name}_total counter\ndv_{name}_total {count}\n");
    }
    let (kind, len) = ("text/plain; version=0.0.4", page.len());
    write!(asks, "HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n{page}")
}
