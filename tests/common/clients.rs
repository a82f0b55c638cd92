//! Clients that are endpoints on sockets of their own, and servers for them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use dv_dtls::{CloseReason, Config, Connect, Context, Endpoint, Event, Handler, Info, Server, ServerConfig, Session};
use openssl::ssl::SslContext;

use super::contexts;

/// Nothing here takes so long, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a server's handler was told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Open { session: Session, worker: usize },
    Message { session: Session, worker: usize, message: Vec<u8> },
    Moved { session: Session, worker: usize },
    Close { session: Session, worker: usize, reason: CloseReason },
}

/// Sends each message back and tells the test what it was told.
struct Echo(Sender<Told>);

impl Handler for Echo {
    fn open(&self, context: &mut Context<'_>, session: Session) {
        let _ = self.0.send(Told::Open { session, worker: context.worker() });
    }

    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        context.send(session, message).unwrap();
        let _ = self.0.send(Told::Message { session, worker: context.worker(), message: message.to_vec() });
    }

    fn moved(&self, context: &mut Context<'_>, session: Session) {
        let _ = self.0.send(Told::Moved { session, worker: context.worker() });
    }

    fn close(&self, context: &mut Context<'_>, session: Session, reason: CloseReason) {
        let _ = self.0.send(Told::Close { session, worker: context.worker(), reason });
    }
}

/// An echo server that is bound to nothing yet.
pub fn echo(config: ServerConfig) -> (Server, Receiver<Told>) {
    let (tell, told) = channel();
    (Server::new(contexts::server(), config, Echo(tell)).unwrap(), told)
}

/// An echo server that runs.
pub fn running(config: ServerConfig) -> (Server, SocketAddr, Receiver<Told>) {
    let (server, told) = echo(config);
    let address = server.bind("127.0.0.1:0").unwrap();
    server.start().unwrap();
    (server, address, told)
}

pub struct Client {
    pub socket: UdpSocket,
    /// Whom the endpoint believes that it talks to.
    to: SocketAddr,
    endpoint: Endpoint,
    session: Session,
    began: Instant,
    events: Vec<(Event, Vec<u8>)>,
}

impl Client {
    /// A client that has sent its first hello.
    pub fn begin(context: &SslContext, to: SocketAddr) -> Client {
        Client::begin_with(context, Connect::to(to))
    }

    pub fn begin_with(context: &SslContext, connect: Connect<'_>) -> Client {
        let any = if connect.to.is_ipv4() { "0.0.0.0" } else { "::" };
        let config = Config { accept: false, ..Config::default() };
        Client::begin_as(context, connect, config, any.parse().unwrap())
    }

    pub fn begin_as(context: &SslContext, connect: Connect<'_>, config: Config, from: IpAddr) -> Client {
        let to = connect.to;
        let socket = UdpSocket::bind((from, 0)).unwrap();
        // Connected, it receives nothing that comes from another address than it has spoken to.
        socket.connect(to).unwrap();
        let mut endpoint = Endpoint::new(context.clone(), config).unwrap();
        let session = endpoint.connect(1, &connect).unwrap();
        let mut client = Client { socket, to, endpoint, session, began: Instant::now(), events: Vec::new() };
        client.transmit();
        client
    }

    /// A client with an established session.
    pub fn connect(context: &SslContext, to: SocketAddr) -> Client {
        let mut client = Client::begin(context, to);
        client.finish();
        client
    }

    /// Waits for the end of the handshake.
    pub fn finish(&mut self) {
        self.wait_for(|event| matches!(event, Event::Opened { .. }));
    }

    /// From now on the client's datagrams come from another port, and what goes to the old one is lost.
    pub fn rebind(&mut self) {
        let socket = UdpSocket::bind((self.socket.local_addr().unwrap().ip(), 0)).unwrap();
        socket.connect(self.to).unwrap();
        self.socket = socket;
    }

    /// From now on another server gets what the client sends, and the client does not know.
    pub fn divert(&mut self, to: SocketAddr) {
        self.socket.connect(to).unwrap();
    }

    pub fn send(&mut self, message: &[u8]) {
        self.endpoint.send(self.session, message).unwrap();
        self.transmit();
    }

    /// Sends messages of one length with one system call (UDP_SEGMENT).
    pub fn send_burst(&mut self, messages: &[Vec<u8>]) {
        messages.iter().for_each(|message| self.endpoint.send(self.session, message).unwrap());
        while let Some(transmit) = self.endpoint.transmit(64) {
            let segment = transmit.segment_size.unwrap_or(0) as libc::c_int;
            let len = size_of::<libc::c_int>() as libc::socklen_t;
            let fd = self.socket.as_raw_fd();
            // SAFETY: the pointer and the length describe `segment`.
            let set =
                unsafe { libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const segment).cast(), len) };
            assert_eq!(set, 0);
            assert_eq!(self.socket.send(transmit.bytes).unwrap(), transmit.bytes.len());
        }
        self.transmit();
    }

    pub fn close(&mut self) {
        self.endpoint.close(self.session).unwrap();
        self.transmit();
    }

    pub fn info(&self) -> Info<'_> {
        self.endpoint.info(self.session).unwrap()
    }

    /// Sends a message and gives the answer.
    pub fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.send(message);
        self.message()
    }

    /// Sends a message again and again, until it is answered.
    pub fn ask_until_answered(&mut self, message: &[u8]) {
        let began = Instant::now();
        loop {
            self.send(message);
            let again = Instant::now() + Duration::from_millis(100);
            while Instant::now() < again {
                self.receive();
                let answer =
                    |(event, bytes): &(Event, Vec<u8>)| matches!(event, Event::Message { .. }) && bytes == message;
                if self.events.iter().any(answer) {
                    return self.events.retain(|(event, _)| !matches!(event, Event::Message { .. }));
                }
            }
            assert!(began.elapsed() < PATIENCE, "no answer has come");
        }
    }

    /// The next message.
    pub fn message(&mut self) -> Vec<u8> {
        self.wait_for(|event| matches!(event, Event::Message { .. })).1
    }

    /// The next message, if there is one in time.
    pub fn message_within(&mut self, time: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + time;
        while !self.events.iter().any(|(event, _)| matches!(event, Event::Message { .. })) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.receive_within(left);
        }
        Some(self.message())
    }

    /// Why the session has ended.
    pub fn end(&mut self) -> CloseReason {
        match self.wait_for(|event| matches!(event, Event::Closed { .. })) {
            (Event::Closed { reason, .. }, _) => reason,
            _ => unreachable!(),
        }
    }

    fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> (Event, Vec<u8>) {
        let waiting = Instant::now();
        loop {
            if let Some(at) = self.events.iter().position(|(event, _)| wanted(event)) {
                return self.events.remove(at);
            }
            assert!(waiting.elapsed() < PATIENCE, "nothing has come; there were {:?}", self.events);
            self.receive();
        }
    }

    /// Takes one datagram without answering.
    pub fn take_one(&mut self) {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut datagram = [0; 1 << 16];
        let len = self.socket.recv(&mut datagram).unwrap();
        self.endpoint.receive(self.now(), &datagram[..len], self.to, None);
    }

    fn receive(&mut self) {
        self.receive_within(Duration::from_millis(100));
    }

    /// Takes one datagram, or does what is due.
    fn receive_within(&mut self, time: Duration) {
        let due = Duration::from_micros(self.endpoint.deadline().saturating_sub(self.now()));
        self.socket.set_read_timeout(Some(due.min(time).max(Duration::from_millis(1)))).unwrap();
        let mut datagram = [0; 1 << 16];
        match self.socket.recv(&mut datagram) {
            Ok(len) => {
                self.endpoint.receive(self.now(), &datagram[..len], self.to, None);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // Nobody listens any more.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        self.endpoint.advance(self.now());
        let mut message = Vec::new();
        while let Some(event) = self.endpoint.event(&mut message) {
            self.events.push((event, message.clone()));
        }
        self.transmit();
    }

    pub fn transmit(&mut self) {
        while let Some(transmit) = self.endpoint.transmit(1) {
            let _ = self.socket.send(transmit.bytes);
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64 + 1
    }
}
