//! A server with a session that exists, handshakes that go on, and somebody who bends, cuts, glues and repeats what he has
//! seen on the wire, to either side. Whatever he does, the session still answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use dv_dtls::{Config, Connect, CookieSecret, Endpoint, Event, Session, Settings};
use openssl::ssl::SslContext;

use crate::common::{Proof, Script, Seen, client_context, heap, seed, server_context};

/// The most that the Rust side holds for all of this.
const HEAP_MAX: isize = 4 << 20;
/// Things done for one input, and handshakes among them: those are what takes time.
const STEPS_MAX: usize = 100;
const HANDSHAKES_MAX: u32 = 4;

const MAX_HANDSHAKES: u32 = 8;
const MAX_CONNECTIONS: u32 = 32;

/// One side of the session.
struct Side {
    endpoint: Endpoint,
    at: SocketAddr,
    session: Session,
    /// What the other side has said and this one has not heard yet.
    expected: VecDeque<Vec<u8>>,
    /// What goes to it.
    seen: Seen,
}

impl Side {
    /// Takes what has happened. The session never ends, and hears what was said, once and in order.
    fn settle(&mut self) {
        let mut message = Vec::new();
        while let Some(event) = self.endpoint.event(&mut message) {
            if event.session() == self.session {
                match event {
                    Event::Message { .. } => assert_eq!(self.expected.pop_front().as_ref(), Some(&message)),
                    Event::Opened { .. } | Event::Moved { .. } | Event::Closed { .. } => panic!("{event:?}"),
                }
            }
        }
    }
}

struct World {
    now: u64,
    server: Side,
    client: Side,
    /// Other clients, each at an address of its own; what they say reaches the server at once, or only by the script.
    others: Vec<(SocketAddr, Endpoint)>,
    held: bool,
    handshakes: u32,
}

/// The first byte says what kind of server it is, then come the things to do.
pub fn run(input: &[u8]) {
    let mut script = Script(input);
    let flags = script.byte();
    let mut world = World::new(flags);
    let before = heap();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.exchange();
        assert!(heap() - before < HEAP_MAX);
    }
    world.pass(1_000_000);
    world.exchange();
    for to_server in [true, false] {
        world.say(to_server, b"still there?");
        world.exchange();
    }
    assert!(world.server.expected.is_empty() && world.client.expected.is_empty());
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5684))
}

/// Of the server; made when it is first needed.
fn server(proof: Proof) -> &'static SslContext {
    static KEY: OnceLock<SslContext> = OnceLock::new();
    static CERTIFICATES: OnceLock<SslContext> = OnceLock::new();
    let context = if proof == Proof::Key { &KEY } else { &CERTIFICATES };
    context.get_or_init(|| server_context(proof, |_| {}))
}

/// Of all clients.
fn client() -> &'static SslContext {
    static CLIENT: OnceLock<SslContext> = OnceLock::new();
    CLIENT.get_or_init(client_context)
}

impl World {
    fn new(flags: u8) -> World {
        // Certificates take ten times as long.
        let of_server = server(if flags & 0x11 == 0x11 { Proof::Certificates } else { Proof::Key });
        let of_client = client();
        seed(2);
        let settings = Settings {
            max_handshakes: MAX_HANDSHAKES,
            max_handshakes_per_source: 4,
            max_connections: MAX_CONNECTIONS,
            handshake_timeout: Duration::from_secs(30),
            max_queued_messages: 8,
            release_buffers: flags & 2 == 2,
            mtu: if flags & 4 == 4 { 256 } else { 1280 },
            ..Settings::default()
        };
        let config = Config { settings, verify_server: false, max_waiting_bytes: 1 << 16, ..Config::default() };
        let cookie_secret = Some(CookieSecret::new(*b"known to everybody", 0));
        let of_client = || Endpoint::new(of_client.clone(), Config { accept: false, ..config.clone() }).unwrap();
        let mut server = Endpoint::new(of_server.clone(), Config { cookie_secret, ..config.clone() }).unwrap();
        let (mut client, at_server, at_client) = (of_client(), address(1), address(2));

        // Nothing happens to the session before it is open.
        let mut seen = [Seen::default(), Seen::default()];
        let session = client.connect(0, &Connect::to(at_server)).unwrap();
        let (mut opened, mut accepted, mut message) = (false, None, Vec::new());
        while !(opened && accepted.is_some()) {
            while let Some(transmit) = client.transmit(1) {
                seen[0].note(transmit.bytes);
                server.receive(0, transmit.bytes, at_client, None);
            }
            while let Some(transmit) = server.transmit(1) {
                seen[1].note(transmit.bytes);
                client.receive(0, transmit.bytes, at_server, None);
            }
            opened |= client.event(&mut message).is_some();
            accepted = accepted.or_else(|| server.event(&mut message).map(|event| event.session()));
        }
        let [to_server, to_client] = seen;
        let side = |endpoint, at, session, seen| Side { endpoint, at, session, expected: VecDeque::new(), seen };
        World {
            now: 0,
            server: side(server, at_server, accepted.unwrap(), to_server),
            client: side(client, at_client, session, to_client),
            others: (3..6).map(|last| (address(last), of_client())).collect(),
            held: false,
            handshakes: 0,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 8 {
            0..3 => {
                // In the client's name, or another's.
                let from = address(2 + script.below(4) as u8);
                let datagram = script.datagram(&self.server.seen.datagrams);
                self.server.endpoint.receive(self.now, &datagram, from, None);
            }
            3 => {
                let datagram = script.datagram(&self.client.seen.datagrams);
                self.client.endpoint.receive(self.now, &datagram, self.server.at, None);
            }
            4 => self.pass(1 << script.below(36)),
            5 => {
                let (to_server, len) = (script.flag(), 1 + script.below(150));
                self.say(to_server, &vec![b'm'; len]);
            }
            6 => {
                let (number, what) = (script.below(self.others.len()), script.byte());
                let (at, endpoint) = &mut self.others[number];
                let mine = endpoint.sessions().next();
                match (mine, what % 4) {
                    (None, _) if self.handshakes == HANDSHAKES_MAX => {}
                    (None, _) => {
                        self.handshakes += 1;
                        drop(endpoint.connect(self.now, &Connect::to(self.server.at)));
                    }
                    // Gone without a word, and back on the same port.
                    (Some(_), 0) => {
                        let config = Config { accept: false, verify_server: false, ..Config::default() };
                        *endpoint = Endpoint::new(client().clone(), config).unwrap();
                    }
                    (Some(session), 1) => drop(endpoint.close(session)),
                    (Some(session), _) => drop(endpoint.send(session, at.to_string().as_bytes())),
                }
            }
            _ => self.held = script.flag(),
        }
    }

    fn say(&mut self, to_server: bool, message: &[u8]) {
        let (from, to) =
            if to_server { (&mut self.client, &mut self.server) } else { (&mut self.server, &mut self.client) };
        from.endpoint.send(from.session, message).unwrap();
        to.expected.push_back(message.to_vec());
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        self.server.endpoint.advance(self.now);
        self.client.endpoint.advance(self.now);
        self.others.iter_mut().for_each(|(_, endpoint)| endpoint.advance(self.now));
    }

    /// Everything that wants to leave leaves, and arrives.
    fn exchange(&mut self) {
        let (now, server, client) = (self.now, &mut self.server, &mut self.client);
        // What goes in circles is no business of this test: after each round something new must have been said.
        for _ in 0..16 {
            let mut quiet = true;
            while let Some(transmit) = server.endpoint.transmit(1) {
                quiet = false;
                if transmit.to == client.at {
                    client.seen.note(transmit.bytes);
                    client.endpoint.receive(now, transmit.bytes, server.at, None);
                } else if let Some((_, other)) = self.others.iter_mut().find(|(at, _)| *at == transmit.to) {
                    other.receive(now, transmit.bytes, server.at, None);
                }
            }
            while let Some(transmit) = client.endpoint.transmit(1) {
                quiet = false;
                server.seen.note(transmit.bytes);
                server.endpoint.receive(now, transmit.bytes, client.at, None);
            }
            for (at, other) in &mut self.others {
                while let Some(transmit) = other.transmit(1) {
                    server.seen.note(transmit.bytes);
                    if !self.held {
                        quiet = false;
                        server.endpoint.receive(now, transmit.bytes, *at, None);
                    }
                }
                while other.event(&mut Vec::new()).is_some() {}
            }
            server.settle();
            client.settle();
            if quiet {
                break;
            }
        }
        assert!(server.endpoint.handshakes() <= MAX_HANDSHAKES as usize);
        assert!(server.endpoint.sessions().count() <= MAX_CONNECTIONS as usize);
    }
}
