//! Endpoints on a simulated network: datagrams are lost, doubled and delayed by seed, time is virtual.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dv_dtls::{CloseReason, Config, Connect, ConnectionIds, Endpoint, Error, Event, Resumption, Session};
use openssl::ssl::SslContext;

use crate::common::contexts;
use crate::{CID_LEN, NATIVE_RECORDS};

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;

/// One way through the network, in microseconds.
const LATENCY: u64 = 1_000;

/// What the network does to datagrams, in percent.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplicate: u64,
    pub reorder: u64,
}

pub struct Node {
    pub address: SocketAddr,
    pub endpoint: Endpoint,
    pub events: Vec<(Event, Vec<u8>)>,
    /// What is known of each session at its end.
    pub failures: Vec<Option<String>>,
    /// Sends each message back.
    pub echo: bool,
}

impl Node {
    pub fn opened(&self) -> Vec<Session> {
        self.events.iter().filter(|(e, _)| matches!(e, Event::Opened { .. })).map(|(e, _)| e.session()).collect()
    }

    pub fn closed(&self) -> Vec<(Session, CloseReason)> {
        let closed = |event: &Event| match *event {
            Event::Closed { session, reason } => Some((session, reason)),
            _ => None,
        };
        self.events.iter().filter_map(|(event, _)| closed(event)).collect()
    }

    pub fn messages(&self, of: Session) -> Vec<&[u8]> {
        let is = Event::Message { session: of };
        self.events.iter().filter(|(event, _)| *event == is).map(|(_, bytes)| &bytes[..]).collect()
    }
}

/// A datagram, from whom and to whom.
pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

pub struct World {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub faults: Faults,
    /// Time passes on the wall clock too: libssl's own timer goes by that.
    pub real: bool,
    /// All that was sent, lost or not.
    pub sent: Vec<Datagram>,
    /// Decides on single datagrams: false, and it is lost.
    pub pass: Box<dyn FnMut(&Datagram) -> bool>,
    wire: BTreeMap<(u64, u64), Datagram>,
    random: u64,
    count: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            now: SECOND,
            nodes: Vec::new(),
            faults: Faults::default(),
            real: false,
            sent: Vec::new(),
            pass: Box::new(|_| true),
            wire: BTreeMap::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            count: 0,
        }
    }

    /// A network with a server and a client that are as they are without settings; gives their numbers too.
    pub fn pair(seed: u64) -> (World, usize, usize) {
        let mut world = World::new(seed);
        let server = world.add(contexts::server(), Config::default());
        let client = world.add(contexts::client(), Config::default());
        (world, server, client)
    }

    /// Adds an endpoint with an address of its own; gives its number.
    pub fn add(&mut self, context: SslContext, config: Config) -> usize {
        self.add_at(self.next_address(), context, config)
    }

    fn next_address(&self) -> SocketAddr {
        let host = u8::try_from(self.nodes.len() + 1).unwrap();
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, host), 5684))
    }

    pub fn add_at(&mut self, address: SocketAddr, context: SslContext, mut config: Config) -> usize {
        if CID_LEN != 0 {
            config.connection_ids.get_or_insert(ConnectionIds { len: CID_LEN, ..ConnectionIds::default() });
        }
        self.add_plain_at(address, context, config)
    }

    /// With connection IDs only if `config` says so.
    pub fn add_plain(&mut self, context: SslContext, config: Config) -> usize {
        self.add_plain_at(self.next_address(), context, config)
    }

    fn add_plain_at(&mut self, address: SocketAddr, context: SslContext, mut config: Config) -> usize {
        config.settings.native_records = NATIVE_RECORDS;
        let endpoint = Endpoint::new(context, config).unwrap();
        self.nodes.push(Node { address, endpoint, events: Vec::new(), failures: Vec::new(), echo: false });
        self.nodes.len() - 1
    }

    pub fn connect(&mut self, from: usize, to: usize) -> Session {
        self.try_connect(from, to, Some("localhost")).unwrap()
    }

    pub fn try_connect(&mut self, from: usize, to: usize, name: Option<&str>) -> Result<Session, Error> {
        let (now, to) = (self.now, self.nodes[to].address);
        self.nodes[from].endpoint.connect(now, &Connect { name, ..Connect::to(to) })
    }

    /// Connects and waits until both sides are open; gives the session as the client and as the server know it.
    pub fn open(&mut self, client: usize, server: usize) -> (Session, Session) {
        let ours = self.connect(client, server);
        let (before, address) = (self.nodes[server].opened().len(), self.nodes[client].address);
        assert!(self.run(30 * SECOND, |world| {
            world.nodes[client].opened().contains(&ours) && world.nodes[server].opened().len() > before
        }));
        let theirs = *self.nodes[server].opened().last().unwrap();
        for node in [client, server] {
            assert_eq!(self.nodes[node].endpoint.stats().records_taken_over > 0, NATIVE_RECORDS);
        }
        assert_eq!(self.nodes[server].endpoint.info(theirs).unwrap().peer(), address);
        (ours, theirs)
    }

    /// Opens a session and closes it; gives what the client may resume.
    pub fn talk_and_part(&mut self, client: usize, server: usize) -> Resumption {
        let (session, _) = self.open(client, server);
        let endpoint = &mut self.nodes[client].endpoint;
        let ticket = endpoint.info(session).unwrap().resumption().unwrap();
        endpoint.close(session).unwrap();
        self.settle();
        ticket
    }

    /// The datagrams that somebody has sent, lost or not.
    pub fn sent_by(&self, address: SocketAddr) -> impl Iterator<Item = &Vec<u8>> {
        self.sent.iter().filter(move |(from, ..)| *from == address).map(|(.., bytes)| bytes)
    }

    pub fn send(&mut self, node: usize, session: Session, message: &[u8]) {
        self.nodes[node].endpoint.send(session, message).unwrap();
    }

    /// Gives a datagram to a node as if it came from somewhere, past the network.
    pub fn inject(&mut self, from: SocketAddr, node: usize, datagram: &[u8]) {
        let now = self.now;
        self.nodes[node].endpoint.receive(now, datagram, from, None);
    }

    /// Lets things happen until `done`, for `limit` microseconds at most. Says whether it was done.
    pub fn run(&mut self, limit: u64, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now.saturating_add(limit);
        loop {
            self.collect();
            if done(self) {
                return true;
            }
            let due = self.nodes.iter().map(|node| node.endpoint.deadline()).min().unwrap_or(u64::MAX);
            let arrival = self.wire.keys().next().map_or(u64::MAX, |(at, _)| *at);
            let next = due.min(arrival).max(self.now);
            if next > end {
                return false;
            }
            if self.real {
                std::thread::sleep(Duration::from_micros(next - self.now));
            }
            self.now = next;
            while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= next) {
                let (from, to, bytes) = entry.remove();
                if let Some(node) = self.nodes.iter_mut().find(|node| node.address == to) {
                    node.endpoint.receive(next, &bytes, from, Some(to.ip()));
                }
            }
            for node in &mut self.nodes {
                node.endpoint.advance(next);
            }
        }
    }

    /// Lets `time` pass.
    pub fn pass_time(&mut self, time: u64) {
        let end = self.now + time;
        self.run(time, |_| false);
        self.now = end;
        for node in &mut self.nodes {
            node.endpoint.advance(end);
        }
        self.collect();
    }

    /// Until nothing is on its way any more.
    pub fn settle(&mut self) {
        self.run(20 * LATENCY, |world| world.wire.is_empty());
    }

    /// Takes events and datagrams from all nodes.
    fn collect(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let mut message = Vec::new();
            while let Some(event) = node.endpoint.event(&mut message) {
                if let (Event::Message { session }, true) = (event, node.echo) {
                    let _ = node.endpoint.send(session, &message);
                }
                if let Event::Closed { session, .. } = event {
                    node.failures.push(node.endpoint.info(session).unwrap().failure());
                }
                let bytes = if matches!(event, Event::Message { .. }) { message.clone() } else { Vec::new() };
                node.events.push((event, bytes));
            }
            let from = node.address;
            let mut leaving = Vec::new();
            while let Some(transmit) = node.endpoint.transmit(64) {
                leaving.extend(transmit.datagrams().map(|bytes| (from, transmit.to, bytes.to_vec())));
            }
            leaving.into_iter().for_each(|datagram| self.put_on_the_wire(datagram));
        }
    }

    fn put_on_the_wire(&mut self, datagram: Datagram) {
        self.sent.push(datagram.clone());
        let copies = 1 + u64::from(self.chance(self.faults.duplicate));
        for _ in 0..copies {
            if self.chance(self.faults.loss) || !(self.pass)(&datagram) {
                continue;
            }
            let late = if self.chance(self.faults.reorder) { self.random() % (4 * LATENCY) } else { 0 };
            self.count += 1;
            self.wire.insert((self.now + LATENCY + late, self.count), datagram.clone());
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}
