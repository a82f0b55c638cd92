//! A server with two sessions that exist, handshakes that go on, and somebody who bends, cuts, glues and repeats what he has
//! seen on the wire, to either side and from any address, while the sessions' clients move and either side goes to another
//! process. Whatever he does, the sessions still answer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use dv_dtls::wire::record::content_type;
use dv_dtls::{Connect, Endpoint, Error, Event, Export, ExportKey, Session};

use crate::common::{Script, Seen, heap, pass, seed};
use crate::sides::{Kind, PEERS, Sides, address};

/// The most that the Rust side holds for all of this.
const HEAP_MAX: isize = 4 << 20;
/// Things done for one input.
const STEPS_MAX: usize = 100;
/// Other clients.
const OTHERS: usize = 3;
/// Addresses of whoever has no part in anything, and of clients that have moved.
const STRANGERS: [u8; 2] = [7, 8];
const ELSEWHERE: u8 = 20;

/// What was said and not heard yet.
struct Said {
    message: Vec<u8>,
    /// It went to where the other side is, and nothing there keeps it from arriving.
    certainly: bool,
}

/// The client of a session, and both ends of it.
struct Peer {
    client: Endpoint,
    at: SocketAddr,
    /// As the client knows it, and as the server does.
    ours: Session,
    theirs: Session,
    /// What the server and the client have to hear.
    to_server: VecDeque<Said>,
    to_client: VecDeque<Said>,
}

struct World {
    kind: Kind,
    now: u64,
    server: Endpoint,
    server_at: SocketAddr,
    peers: Vec<Peer>,
    /// They have addresses of their own, and are made when they are first needed.
    others: Vec<Option<Endpoint>>,
    seen_by_server: Seen,
    seen_by_clients: Seen,
    /// What the other clients, or those of the sessions, say reaches the server only by the script.
    others_held: bool,
    peers_held: bool,
    /// A record of the sessions did not arrive: somebody can have been quicker with it than its sender. Sessions may be
    /// anywhere then, and messages come late or not at all; still none comes twice, or bent.
    intercepted: bool,
    handshakes_left: u32,
    said: u32,
    /// What the strangers have sent, and what went to them.
    of_strangers: [(usize, usize); STRANGERS.len()],
}

/// The first two bytes say what kind of server it is, then come the things to do.
pub fn run(input: &[u8]) {
    let mut script = Script(input);
    let kind = Kind::from([script.byte(), script.byte()]);
    let mut world = World::new(kind);
    let before = heap();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.exchange();
        assert!(heap() - before < HEAP_MAX);
    }
    world.end();
}

impl World {
    fn new(kind: Kind) -> World {
        seed(2);
        let Sides { server, clients, theirs, ours, seen_by_server, seen_by_clients } = Sides::of(kind);
        let sessions = clients.into_iter().zip(ours.into_iter().zip(theirs));
        let peers = sessions.enumerate().map(|(number, (client, (ours, theirs)))| {
            let at = home(number);
            Peer { client, at, ours, theirs, to_server: VecDeque::new(), to_client: VecDeque::new() }
        });
        World {
            kind,
            now: 0,
            server,
            server_at: address(1),
            peers: peers.collect(),
            others: (0..OTHERS).map(|_| None).collect(),
            seen_by_server,
            seen_by_clients,
            others_held: false,
            peers_held: false,
            intercepted: false,
            handshakes_left: kind.handshakes,
            said: 0,
            of_strangers: Default::default(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 12 {
            0..3 => {
                let from = self.somewhere(script);
                let datagram = script.datagram(&self.seen_by_server.datagrams);
                if let Some(stranger) = STRANGERS.iter().position(|last| address(*last) == from) {
                    self.of_strangers[stranger].0 += datagram.len();
                }
                self.server.receive(self.now, &datagram, from, None);
            }
            3 => {
                let (to, from) = (script.below(PEERS), script.byte());
                let from = if from < 192 { self.server_at } else { address(STRANGERS[0]) };
                let datagram = script.datagram(&self.seen_by_clients.datagrams);
                self.peers[to].client.receive(self.now, &datagram, from, None);
            }
            4 => self.pass(1 << script.below(36)),
            5 | 6 => {
                let (peer, to_server, len) = (script.below(PEERS), script.flag(), 4 + script.below(147));
                self.say(peer, to_server, len);
            }
            7 | 8 => self.other(script),
            9 => {
                let held = script.byte();
                (self.others_held, self.peers_held) = (held & 1 == 1, held & 6 == 6);
            }
            10 => self.move_peer(script),
            _ => self.hand_over(script),
        }
    }

    /// An address that somebody may write on a datagram.
    fn somewhere(&self, script: &mut Script<'_>) -> SocketAddr {
        match script.below(2 * PEERS + OTHERS + STRANGERS.len()) {
            peer @ 0..PEERS => self.peers[peer].at,
            peer if peer < 2 * PEERS => home(peer - PEERS),
            other if other < 2 * PEERS + OTHERS => other_at(other - 2 * PEERS),
            stranger => address(STRANGERS[stranger - 2 * PEERS - OTHERS]),
        }
    }

    /// A client that is none of the two begins a handshake, says something, or goes.
    fn other(&mut self, script: &mut Script<'_>) {
        let (number, what) = (script.below(OTHERS), script.byte());
        let other = self.others[number].get_or_insert_with(|| self.kind.client());
        let mine = other.sessions().next();
        match (mine, what % 4) {
            (None, _) if self.handshakes_left == 0 => {}
            (None, _) => {
                self.handshakes_left -= 1;
                drop(other.connect(self.now, &Connect::to(self.server_at)));
            }
            // Gone without a word, and back on the same port.
            (Some(_), 0) => *other = self.kind.client(),
            (Some(session), 1) => drop(other.close(session)),
            (Some(session), _) => drop(other.send(session, b"from another")),
        }
    }

    /// A client has another address; one that is known by its address alone stays.
    fn move_peer(&mut self, script: &mut Script<'_>) {
        let (peer, to) = (script.below(PEERS), script.below(4) as u8);
        if self.kind.server_id() > 0 {
            self.peers[peer].at = if to == 0 { home(peer) } else { address(ELSEWHERE + 4 * peer as u8 + to) };
        }
        let peer = &self.peers[peer];
        // The program knows better.
        if script.flag() && self.server.info(peer.theirs).unwrap().peer() == peer.at {
            self.server.confirm_peer(peer.theirs).unwrap();
        }
    }

    /// One side exports its sessions; they go on in another process, or nothing comes of it.
    fn hand_over(&mut self, script: &mut Script<'_>) {
        let (who, what) = (script.below(1 + PEERS), script.byte());
        if !self.kind.native {
            return;
        }
        let (key, mut bytes) = (ExportKey::new([9; ExportKey::LEN]), Vec::new());
        let old = match who {
            0 => &mut self.server,
            client => &mut self.peers[client - 1].client,
        };
        let exported = old.export(&key, &mut bytes).unwrap();
        assert_eq!(exported.left, 0);
        if what & 3 != 3 {
            // What is damaged is refused whole.
            let (at, with) = (script.below(bytes.len()), script.byte());
            bytes[at] ^= with;
            match what & 3 {
                0 => assert_eq!(Export::read(&mut &bytes[..], &key).is_ok(), with == 0),
                1 => assert!(Export::read(&mut &bytes[..at], &key).is_err()),
                _ => {}
            }
            old.cancel_export().unwrap();
            return;
        }
        let mut new = if who == 0 { self.kind.server() } else { self.kind.client() };
        let imported = new.import(self.now, Export::read(&mut &bytes[..], &key).unwrap()).unwrap();
        assert_eq!((imported.sessions, imported.skipped), (exported.sessions, 0));
        old.commit_export().unwrap();
        while let Some(event) = new.event(&mut Vec::new()) {
            assert!(matches!(event, Event::Opened { .. }));
            let session = event.session();
            match (who, new.info(session).unwrap().user()) {
                (0, 0) => {}
                (0, peer) => self.peers[peer as usize - 1].theirs = session,
                (client, _) => self.peers[client - 1].ours = session,
            }
        }
        match who {
            0 => self.server = new,
            client => self.peers[client - 1].client = new,
        }
    }

    fn say(&mut self, peer: usize, to_server: bool, len: usize) {
        self.said += 1;
        let (mut message, peer) = (vec![b'm'; len], &mut self.peers[peer]);
        message[..4].copy_from_slice(&self.said.to_be_bytes());
        let (from, session, to, queue) = match to_server {
            true => (&mut peer.client, peer.ours, self.server_at, &mut peer.to_server),
            false => (&mut self.server, peer.theirs, peer.at, &mut peer.to_client),
        };
        let info = from.info(session).unwrap();
        let certainly = info.peer() == to && info.is_peer_proven();
        match from.send(session, &message) {
            Ok(()) => queue.push_back(Said { message, certainly }),
            Err(why) => assert!(why == Error::Unproven && !certainly, "{why}"),
        }
    }

    fn pass(&mut self, time: u64) {
        pass(time);
        self.now += time;
        self.server.advance(self.now);
        self.peers.iter_mut().for_each(|peer| peer.client.advance(self.now));
        self.others.iter_mut().flatten().for_each(|other| other.advance(self.now));
    }

    /// Everything that wants to leave leaves, and arrives.
    fn exchange(&mut self) {
        let (now, server_at) = (self.now, self.server_at);
        // What goes in circles is no business of this test: after each round something new must have been said.
        for _ in 0..16 {
            let mut quiet = true;
            while let Some(transmit) = self.server.transmit(1) {
                quiet = false;
                let (to, bytes) = (transmit.to, transmit.bytes);
                if let Some(other) = (0..OTHERS).find(|number| other_at(*number) == to) {
                    self.others[other].iter_mut().for_each(|other| other.receive(now, bytes, server_at, None));
                    continue;
                }
                self.seen_by_clients.note(bytes);
                match self.peers.iter_mut().find(|peer| peer.at == to) {
                    Some(peer) => peer.client.receive(now, bytes, server_at, None),
                    None => self.intercepted |= is_protected(bytes),
                }
                if let Some(stranger) = STRANGERS.iter().position(|last| address(*last) == to) {
                    self.of_strangers[stranger].1 += bytes.len();
                }
            }
            for peer in &mut self.peers {
                while let Some(transmit) = peer.client.transmit(1) {
                    self.seen_by_server.note(transmit.bytes);
                    if self.peers_held || transmit.to != server_at {
                        self.intercepted = true;
                    } else {
                        quiet = false;
                        self.server.receive(now, transmit.bytes, peer.at, None);
                    }
                }
            }
            for (number, other) in self.others.iter_mut().enumerate() {
                let Some(other) = other else { continue };
                while let Some(transmit) = other.transmit(1) {
                    self.seen_by_server.note(transmit.bytes);
                    if !self.others_held {
                        quiet = false;
                        self.server.receive(now, transmit.bytes, other_at(number), None);
                    }
                }
                while other.event(&mut Vec::new()).is_some() {}
            }
            self.settle();
            if quiet {
                break;
            }
        }
        assert!(self.server.handshakes() <= Kind::MAX_HANDSHAKES as usize);
        assert!(self.server.sessions().count() <= Kind::MAX_CONNECTIONS as usize);
        // Who has never shown that he receives is sent three times what came from him, at most.
        if self.server.stats().addresses_proven == 0 || !self.intercepted {
            assert!(self.of_strangers.iter().all(|(sent, got)| *got <= 3 * sent), "{:?}", self.of_strangers);
        }
    }

    /// Takes what has happened. The sessions never end, hear what was said, once and in order, and are where their clients
    /// are.
    fn settle(&mut self) {
        let (intercepted, mut message) = (self.intercepted, Vec::new());
        while let Some(event) = self.server.event(&mut message) {
            let Some(peer) = self.peers.iter_mut().find(|peer| peer.theirs == event.session()) else { continue };
            match event {
                Event::Message { .. } => hear(&mut peer.to_server, &message, intercepted),
                Event::Moved { session } => {
                    assert!(intercepted || self.server.info(session).unwrap().peer() == peer.at);
                }
                Event::Opened { .. } | Event::Closed { .. } => panic!("{event:?}"),
            }
        }
        for peer in &mut self.peers {
            while let Some(event) = peer.client.event(&mut message) {
                match event {
                    Event::Message { .. } => hear(&mut peer.to_client, &message, intercepted),
                    Event::Moved { .. } => assert!(intercepted),
                    Event::Opened { .. } | Event::Closed { .. } => panic!("{event:?}"),
                }
            }
        }
    }

    /// Each session still answers, once its two sides know again where the other one is.
    fn end(mut self) {
        (self.others_held, self.peers_held) = (false, false);
        self.pass(1_000_000);
        self.exchange();
        for number in 0..PEERS {
            if self.intercepted {
                self.find_each_other(number);
            }
            assert!(self.is_heard(number, true), "by the server");
            self.server.confirm_peer(self.peers[number].theirs).unwrap();
            assert!(self.is_heard(number, false), "by the client");
        }
        let mut waiting = self.peers.iter().flat_map(|peer| peer.to_server.iter().chain(&peer.to_client));
        assert!(self.intercepted || !waiting.any(|said| said.certainly));
    }

    fn is_heard(&mut self, number: usize, to_server: bool) -> bool {
        self.say(number, to_server, 40);
        let queue = |world: &World| match to_server {
            true => world.peers[number].to_server.len(),
            false => world.peers[number].to_client.len(),
        };
        let before = queue(self);
        self.exchange();
        before > queue(self)
    }

    /// The client speaks to where the server is, whatever it was made to think; after that it is heard where it is.
    fn find_each_other(&mut self, number: usize) {
        let ends = |world: &mut World| {
            let peer = &mut world.peers[number];
            peer.client.confirm_peer(peer.ours).unwrap();
            world.server.confirm_peer(peer.theirs).unwrap();
        };
        ends(self);
        self.say(number, true, 40);
        let peer = &mut self.peers[number];
        while let Some(transmit) = peer.client.transmit(1) {
            self.server.receive(self.now, transmit.bytes, peer.at, None);
        }
        self.exchange();
        ends(self);
        self.say(number, false, 40);
        self.exchange();
        ends(self);
    }
}

fn home(peer: usize) -> SocketAddr {
    address(2 + peer as u8)
}

fn other_at(other: usize) -> SocketAddr {
    address(2 + (PEERS + other) as u8)
}

/// Whether keys protect it: a message, a check or a goodbye, and no flight of a handshake.
fn is_protected(datagram: &[u8]) -> bool {
    datagram[0] == content_type::TLS12_CID || datagram[3..5] == [0, 1]
}

/// Something that was said is heard: once, and in its order unless somebody has held it back.
fn hear(queue: &mut VecDeque<Said>, message: &[u8], intercepted: bool) {
    let said = queue.iter().position(|said| said.message == message).expect("said, and not heard before");
    if intercepted {
        queue.remove(said);
    } else {
        assert!(!queue.drain(..=said).take(said).any(|missed| missed.certainly));
    }
}
