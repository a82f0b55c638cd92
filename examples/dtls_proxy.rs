//! DTLS on one side, plain UDP on the other: a UDP service gets DTLS and does not notice.
//!
//! Each session has a socket of its own towards the backend, so that the backend sees as many peers as there are clients,
//! and its answers find their way back.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroU16;
use std::sync::{Arc, RwLock};
use std::thread;

use dv_dtls::{CloseReason, Context, Handler, Server, ServerConfig, Session};
use signals::{ENDING, Signals};

#[macro_use]
mod support;
#[path = "support/poll.rs"]
mod poll;
#[path = "support/signals.rs"]
mod signals;

const HELP: &str = concat!(
    "\
dtls_proxy --backend HOST:PORT [OPTIONS]
  Takes DTLS and speaks plain UDP to the backend, with one socket for each session. SIGINT and SIGTERM end the program.
  --backend HOST:PORT    the UDP service
  --host ADDR            the address to listen on (::, which takes IPv4 as well)
  --port N               the UDP port; 0 picks a free one (4433)
  --workers N            worker threads (1)
  --idle S               end sessions that are silent for longer, in seconds (300)
",
    identity_help!()
);

/// The sockets towards the backend, by session.
struct Backend {
    address: SocketAddr,
    sockets: RwLock<HashMap<Session, UdpSocket>>,
    poll: poll::Poll,
}

impl Backend {
    fn connect(&self, session: Session) -> io::Result<()> {
        let socket = UdpSocket::bind(if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(self.address)?;
        socket.set_nonblocking(true)?;
        self.poll.add(&socket, session.as_u64())?;
        self.sockets.write().unwrap().insert(session, socket);
        Ok(())
    }

    /// Takes answers to their sessions, for ever.
    fn bring_back(&self, server: &Server) -> io::Result<()> {
        let mut datagram = [0; 1 << 16];
        loop {
            for session in self.poll.wait(None)?.into_iter().filter_map(Session::from_u64) {
                let sockets = self.sockets.read().unwrap();
                let Some(socket) = sockets.get(&session) else { continue };
                // Not all at once: the next session has its turn.
                for _ in 0..16 {
                    let Ok(len) = socket.recv(&mut datagram) else { break };
                    // Nothing, or more than fits in a datagram: the server counts it.
                    let _ = server.send(session, &datagram[..len]);
                }
            }
        }
    }
}

/// The side of the clients.
struct Clients(Arc<Backend>);

impl Handler for Clients {
    fn open(&self, context: &mut Context<'_>, session: Session) {
        if let Err(error) = self.0.connect(session) {
            eprintln!("no socket for a session: {error}");
            let _ = context.close(session);
        }
    }

    fn message(&self, _context: &mut Context<'_>, session: Session, message: &[u8]) {
        if let Some(socket) = self.0.sockets.read().unwrap().get(&session) {
            // Lost, or refused because nobody listens there: what is sent over UDP may be lost.
            let _ = socket.send(message);
        }
    }

    fn close(&self, _context: &mut Context<'_>, session: Session, _reason: CloseReason) {
        self.0.sockets.write().unwrap().remove(&session);
    }
}

fn main() -> Result<(), support::Failure> {
    let mut args = support::Args::new(HELP);
    let backend: String = args.option("--backend").unwrap_or_else(|| args.refuse("--backend is missing"));
    let well_formed = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<NonZeroU16>().is_ok();
    if !backend.rsplit_once(':').is_some_and(well_formed) {
        args.refuse(format_args!("--backend {backend}: must be HOST:PORT"));
    }
    let address: (IpAddr, u16) =
        (args.or("--host", [0u16; 8].into()), args.number("--port", 0..=65535).unwrap_or(4433));
    let mut config =
        ServerConfig { workers: args.number("--workers", 1..=256).unwrap_or(1), ..ServerConfig::default() };
    config.endpoint.settings.idle_timeout =
        std::time::Duration::from_secs(args.number("--idle", 0..=4_000_000).unwrap_or(300));
    let identity = support::Identity::take(&mut args);
    args.finish();

    let ending = Signals::block(&ENDING)?;
    let found = backend.to_socket_addrs().map_err(|why| format!("--backend {backend}: {why}"))?.next();
    let backend = Arc::new(Backend {
        address: found.ok_or("no such backend")?,
        sockets: RwLock::default(),
        poll: poll::Poll::new()?,
    });
    let server = Arc::new(Server::new(identity.context()?, config, Clients(backend.clone()))?);
    println!("listening on {}", server.bind(address)?);
    let answers = server.clone();
    thread::spawn(move || {
        if let Err(error) = backend.bring_back(&answers) {
            eprintln!("no answers any more: {error}");
            answers.stop();
        }
    });
    ending.then_stop(server.clone());
    Ok(server.run()?)
}
