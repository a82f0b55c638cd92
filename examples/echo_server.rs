//! A DTLS server that sends each message back: the server door.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dv_dtls::{Config, Context, Export, ExportKey, Server, ServerConfig, Session};

#[macro_use]
mod support;

const HELP: &str = concat!(
    "\
echo_server [OPTIONS]
  Sends each message back to whom it came from, until it is killed.
  --host ADDR            the address to listen on (::, which takes IPv4 as well)
  --port N               the UDP port; 0 takes a free one (4433)
  --workers N            threads (1)
  --secret FILE          random bytes that several servers share: each goes on with what another has begun
  --upgrade FILE         SIGUSR2 writes all sessions to this file and ends; those that are in it go on at the start
  --upgrade-key FILE     32 random bytes that it is sealed with
  --metrics PORT         statistics for Prometheus, at that TCP port of 127.0.0.1; 0 takes a free one
  --max-sessions N       sessions at once (100000)
  --idle-timeout MS      close sessions that are silent for so long; 0: never (0)
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
    let port: u16 = args.or("--port", 4433);
    let mut endpoint = Config::default();
    endpoint.settings.native_records = !args.flag("--openssl-records");
    endpoint.settings.max_connections = args.or("--max-sessions", endpoint.settings.max_connections);
    endpoint.settings.idle_timeout = Duration::from_millis(args.or("--idle-timeout", 0));
    endpoint.settings.handshake_timeout = Duration::from_millis(args.or("--handshake-timeout", 120_000));
    let config = ServerConfig {
        endpoint,
        workers: args.or("--workers", 1),
        offload: !args.flag("--no-offload"),
        secret_file: args.option("--secret"),
        steer_handshakes: !args.flag("--no-steering"),
        ..ServerConfig::default()
    };
    let metrics: Option<u16> = args.option("--metrics");
    let upgrade: Option<String> = args.option("--upgrade");
    let key_file: Option<String> = args.option("--upgrade-key");
    let identity = support::Identity::take(&mut args);
    args.finish();

    let echo = |context: &mut Context<'_>, session: Session, message: &[u8]| {
        // A message that does not leave is lost like any datagram.
        let _ = context.send(session, message);
    };
    let patience = config.endpoint.export_timeout;
    let server = Arc::new(Server::new(identity.context()?, config, echo)?);
    let address = server.bind((host, port))?;
    if let Some(path) = upgrade {
        let key =
            ExportKey::new(fs::read(key_file.unwrap_or_default())?.try_into().map_err(|_| "32 bytes are wanted")?);
        if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            let export = Export::take(File::options().read(true).write(true).open(&path)?, &key, patience);
            match export.and_then(|export| server.import(export)) {
                Ok(imported) => println!("{} sessions go on", imported.sessions),
                Err(error) => eprintln!("all clients have to begin anew: {error}"),
            }
        }
        // Blocked before there are threads, so that all of them leave it to this one.
        let upgrade = Signal::block(libc::SIGUSR2);
        let server = server.clone();
        thread::spawn(move || {
            while let Err(error) = upgrade.wait_and(|| hand_over(&server, &path, &key)) {
                eprintln!("the sessions go on here: {error}");
            }
        });
    }
    println!("listening on {address}");
    if let Some(port) = metrics {
        let (listener, server) = (TcpListener::bind(("127.0.0.1", port))?, server.clone());
        println!("metrics at http://{}/", listener.local_addr()?);
        thread::spawn(move || listener.incoming().flatten().for_each(|asks| drop(answer(asks, &server))));
    }
    Ok(server.run()?)
}

/// Leaves the sessions to the next process.
fn hand_over(server: &Server, path: &str, key: &ExportKey) -> Result<(), Box<dyn std::error::Error>> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let exported = server.export_to(key, &file)?;
    println!("{} sessions are left to the next process, {} are over", exported.sessions, exported.left);
    Ok(server.commit_export()?)
}

/// A signal that is waited for.
struct Signal(libc::sigset_t);

impl Signal {
    fn block(number: libc::c_int) -> Signal {
        // SAFETY: the set is made empty before anything is put into it.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, number);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            Signal(set)
        }
    }

    fn wait_and<T>(&self, then: impl FnOnce() -> T) -> T {
        let mut number = 0;
        // SAFETY: the set was made in `block`.
        unsafe { libc::sigwait(&self.0, &mut number) };
        then()
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
