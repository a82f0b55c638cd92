//! Peers whose address changes (RFC 9146 6), and others that only make it seem so.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use dv_dtls::wire::record::{content_type, records_with};
use dv_dtls::{CloseReason, Config, Endpoint, Error, Event, Export, ExportKey, Session};
use openssl::ssl::SslContext;

use crate::cids::with_ids;
use crate::contexts::*;
use crate::net::*;

pub fn checks(wanted: bool) -> Config {
    with_ids(|ids| ids.routability_checks = wanted)
}

/// A server and a client with an open session.
pub struct Pair {
    pub world: World,
    pub server: usize,
    pub client: usize,
    pub ours: Session,
    pub theirs: Session,
}

impl Pair {
    pub fn new(at_server: Config, at_client: Config) -> Pair {
        Pair::of((server(), at_server), (client(), at_client))
    }

    pub fn of(server: (SslContext, Config), client: (SslContext, Config)) -> Pair {
        let mut world = World::new(1);
        let server = world.add(server.0, server.1);
        let client = world.add(client.0, client.1);
        let (ours, theirs) = world.open(client, server);
        world.nodes.iter_mut().for_each(|node| node.events.clear());
        world.sent.clear();
        Pair { world, server, client, ours, theirs }
    }

    pub fn rebind(&mut self, port: u16) -> SocketAddr {
        self.world.nodes[self.client].address.set_port(port);
        self.world.nodes[self.client].address
    }

    pub fn client_says(&mut self, message: &[u8]) {
        self.world.send(self.client, self.ours, message);
        self.world.settle();
    }

    /// A datagram of the client's that the network loses, for somebody to have seen.
    pub fn seen(&mut self, message: &[u8]) -> Vec<u8> {
        self.world.pass = Box::new(|_| false);
        self.client_says(message);
        self.world.pass = Box::new(|_| true);
        self.world.sent.pop().unwrap().2
    }

    pub fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.world.nodes[self.server].endpoint.send(self.theirs, message)
    }

    /// The server says as much as may go to where the client seems to be.
    pub fn use_up(&mut self) {
        assert!((0..500).any(|_| {
            self.world.settle();
            self.send(b"x") == Err(Error::Unproven)
        }));
    }

    /// Where the server thinks that the client is, and whether it knows.
    pub fn peer(&self) -> (SocketAddr, bool) {
        let info = self.world.nodes[self.server].endpoint.info(self.theirs).unwrap();
        (info.peer(), info.is_peer_proven())
    }

    pub fn events(&self) -> Vec<Event> {
        self.world.nodes[self.server].events.iter().map(|(event, _)| *event).collect()
    }

    /// Bytes that the server has sent to an address.
    pub fn sent_to(&self, to: SocketAddr) -> usize {
        let from = self.world.nodes[self.server].address;
        self.world.sent.iter().filter(|(f, t, _)| (*f, *t) == (from, to)).map(|(.., bytes)| bytes.len()).sum()
    }
}

pub fn elsewhere(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 99], port))
}

#[test]
fn a_client_moves_and_goes_on() {
    let mut pair = Pair::new(checks(true), checks(true));
    pair.world.nodes[pair.server].echo = true;
    for port in 1..=20 {
        let address = pair.rebind(port);
        pair.client_says(b"here I am");
        pair.world.settle();
        assert_eq!(pair.peer(), (address, true));
        assert_eq!(pair.world.nodes[pair.client].messages(pair.ours).len(), usize::from(port));
    }
    let session = pair.theirs;
    let one_move = [Event::Moved { session }, Event::Message { session }];
    assert_eq!(pair.events(), one_move.repeat(20));
    let stats = pair.world.nodes[pair.server].endpoint.stats();
    assert_eq!((stats.peers_moved, stats.addresses_proven, stats.addresses_refused), (20, 20, 0));
    assert_eq!((stats.handshakes_begun, stats.datagrams_withheld), (1, 0));
    // The client noticed nothing of it.
    assert_eq!(pair.world.nodes[pair.client].endpoint.stats().peers_moved, 0);
}

/// A server may move as well.
#[test]
fn a_server_moves_and_goes_on() {
    let mut pair = Pair::new(checks(true), checks(true));
    pair.world.nodes[pair.server].address.set_port(9);
    let address = pair.world.nodes[pair.server].address;
    pair.send(b"from elsewhere").unwrap();
    pair.world.settle();
    let info = pair.world.nodes[pair.client].endpoint.info(pair.ours).unwrap();
    assert_eq!((info.peer(), info.is_peer_proven()), (address, true));
    pair.client_says(b"I see");
    assert_eq!(pair.world.nodes[pair.server].messages(pair.theirs), [b"I see"]);
}

/// A session that goes to and fro while the program looks elsewhere is told of once: others decide how often it moves.
#[test]
fn many_moves_are_one_event() {
    let mut pair = Pair::new(checks(false), checks(true));
    let datagrams = [(); 10].map(|_| pair.seen(b"x"));
    for (port, datagram) in (1..).zip(&datagrams) {
        pair.world.inject(elsewhere(port), pair.server, datagram);
    }
    let moves = |pair: &Pair| pair.events().into_iter().filter(|event| matches!(event, Event::Moved { .. })).count();
    pair.world.settle();
    assert_eq!((pair.peer().0, moves(&pair)), (elsewhere(10), 1));
    let datagram = pair.seen(b"x");
    pair.world.inject(elsewhere(11), pair.server, &datagram);
    pair.world.settle();
    assert_eq!(moves(&pair), 2);
}

/// A server may have several addresses: what it says leaves from the one that the client has spoken to last.
#[test]
fn answers_leave_from_the_address_that_a_client_that_moves_has_spoken_to() {
    let mut pair = Pair::new(checks(false), checks(true));
    for host in [7, 8] {
        let (there, ours) = (elsewhere(host.into()), IpAddr::from([10, 0, 0, host]));
        let datagram = pair.seen(&[0; 100]);
        let (now, endpoint) = (pair.world.now, &mut pair.world.nodes[pair.server].endpoint);
        endpoint.receive(now, &datagram, there, Some(ours));
        endpoint.send(pair.theirs, b"y").unwrap();
        let transmit = endpoint.transmit(1).unwrap();
        assert_eq!((transmit.to, transmit.from), (there, Some(ours)));
    }
}

/// Copies of what the client has sent, from elsewhere: those that came already, that are older than what came, or forged.
#[test]
fn a_copy_moves_nothing() {
    let mut pair = Pair::new(checks(true), checks(true));
    let before = pair.peer();
    let late = pair.seen(b"late");
    pair.client_says(b"newer");
    let newer = pair.world.sent.pop().unwrap().2;
    for port in 1..50 {
        pair.world.inject(elsewhere(port), pair.server, &newer);
    }
    assert_eq!(pair.peer(), before);
    // An older one that is new to us is delivered, and moves nothing.
    pair.world.inject(elsewhere(50), pair.server, &late);
    pair.world.settle();
    assert_eq!(pair.peer(), before);
    assert_eq!(pair.world.nodes[pair.server].messages(pair.theirs), [&b"newer"[..], b"late"]);
    let mut forged = pair.seen(b"next");
    forged[10] += 100;
    pair.world.inject(elsewhere(51), pair.server, &forged);
    assert_eq!(pair.peer(), before);
    assert_eq!(pair.world.nodes[pair.server].endpoint.stats().peers_moved, 0);
    assert!((1..52).all(|port| pair.sent_to(elsewhere(port)) == 0));
}

/// A session that is over is nowhere else any more.
#[test]
fn a_goodbye_from_elsewhere_moves_nothing() {
    let mut pair = Pair::new(checks(true), checks(true));
    pair.world.pass = Box::new(|_| false);
    pair.world.nodes[pair.client].endpoint.close(pair.ours).unwrap();
    pair.world.settle();
    let goodbye = pair.world.sent.pop().unwrap().2;
    pair.world.inject(elsewhere(1), pair.server, &goodbye);
    pair.world.settle();
    assert_eq!(pair.events(), [Event::Closed { session: pair.theirs, reason: CloseReason::ByPeer }]);
    assert_eq!((pair.world.nodes[pair.server].endpoint.stats().peers_moved, pair.sent_to(elsewhere(1))), (0, 0));
}

/// A packet to an IPv6 address has longer headers, and must not be longer than others for that.
#[test]
fn messages_are_shorter_where_headers_are_longer() {
    let mut pair = Pair::new(checks(true), checks(true));
    let most = |pair: &Pair| pair.world.nodes[pair.server].endpoint.info(pair.theirs).unwrap().message_max();
    let before = most(&pair);
    let address = "[2001:db8::1]:9".parse().unwrap();
    pair.world.nodes[pair.client].address = address;
    pair.client_says(b"here I am");
    assert_eq!((pair.peer(), most(&pair)), ((address, true), before - 20));
    pair.send(&vec![0; before - 20]).unwrap();
    pair.world.settle();
    assert_eq!(pair.world.sent.last().unwrap().2.len(), 1280 - 48);
    assert_eq!(pair.send(&vec![0; before]), Err(Error::TooLong { max: before - 20 }));
    pair.world.nodes[pair.client].address = elsewhere(1);
    pair.client_says(b"and here");
    assert_eq!((pair.peer().0, most(&pair)), (elsewhere(1), before));
}

/// The flow label of IPv6 is no part of who somebody is.
#[test]
fn another_flow_label_is_no_move() {
    let mut pair = Pair::new(checks(true), checks(true));
    let address = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 9, 0, 0);
    pair.world.nodes[pair.client].address = address.into();
    pair.client_says(b"here I am");
    for label in 1..=10 {
        let datagram = pair.seen(b"and here");
        let from = SocketAddrV6::new(*address.ip(), address.port(), label, 0);
        pair.world.inject(from.into(), pair.server, &datagram);
    }
    pair.world.settle();
    assert_eq!(pair.world.nodes[pair.server].messages(pair.theirs).len(), 11);
    assert_eq!(pair.world.nodes[pair.server].endpoint.stats().peers_moved, 1);
}

/// Nobody can be reached there, or many can: what comes from there is heard, and the session stays where it is.
#[test]
fn a_session_moves_to_no_address_that_is_nobody_s() {
    for address in ["192.0.2.9:0", "0.0.0.0:9", "255.255.255.255:9", "224.0.0.1:9", "[ff02::1]:9", "[::]:9"] {
        let mut pair = Pair::new(checks(true), checks(true));
        let before = pair.peer();
        let datagram = pair.seen(b"from nowhere");
        pair.world.inject(address.parse().unwrap(), pair.server, &datagram);
        pair.world.settle();
        assert_eq!(pair.peer(), before, "{address}");
        assert_eq!(pair.world.nodes[pair.server].messages(pair.theirs), [b"from nowhere"]);
        assert_eq!(pair.sent_to(address.parse().unwrap()), 0);
    }
}

/// A session that goes to another process is known there by the same IDs, wherever its client has come to meanwhile. It takes
/// the address along that is proven.
#[test]
fn a_client_moves_while_its_session_goes_to_another_process() {
    for checked in [true, false] {
        let mut pair = Pair::new(checks(true), checks(checked));
        let before = pair.peer().0;
        pair.rebind(7);
        let unproven = pair.seen(b"x");
        pair.world.inject(elsewhere(1), pair.server, &unproven);
        assert_eq!(pair.peer(), (elsewhere(1), false));

        let (mut bytes, key) = (Vec::new(), || ExportKey::new([7; 32]));
        let node = &mut pair.world.nodes[pair.server];
        let ids = |endpoint: &Endpoint, session: Session| {
            let info = endpoint.info(session).unwrap();
            (info.connection_id().to_vec(), info.peer_connection_id().to_vec())
        };
        let had = ids(&node.endpoint, pair.theirs);
        node.endpoint.export(&key(), &mut bytes).unwrap();
        // Where IDs have another length, or are not wanted, nobody would find it.
        for other in [with_ids(|ids| ids.len = 9), Config::default()] {
            let mut other = Endpoint::new(server(), other).unwrap();
            let export = Export::read(&mut &bytes[..], &key()).unwrap();
            assert!(matches!(other.import(pair.world.now, export), Err(Error::Invalid(_))));
        }
        node.endpoint = Endpoint::new(server(), checks(true)).unwrap();
        let export = Export::read(&mut &bytes[..], &key()).unwrap();
        assert_eq!(node.endpoint.import(pair.world.now, export).unwrap().sessions, 1);
        pair.theirs = node.endpoint.sessions().next().unwrap();
        assert_eq!(ids(&node.endpoint, pair.theirs), had);
        assert_eq!(pair.peer(), (before, true));

        // Meanwhile somebody else has got the address.
        let next = pair.world.add_at(before, client(), checks(checked));
        pair.world.open(next, pair.server);

        pair.client_says(b"I am somewhere else");
        assert_eq!(pair.peer(), (pair.world.nodes[pair.client].address, checked));
        assert_eq!(pair.world.nodes[pair.server].messages(pair.theirs).last().unwrap(), b"I am somewhere else");
        pair.send(b"short").unwrap();
        pair.world.settle();
        assert_eq!(pair.world.nodes[pair.client].messages(pair.ours), [b"short"]);
    }
}

/// Nobody can move a session before it has keys to prove it with.
#[test]
fn a_handshake_stays_where_it_is() {
    let mut world = World::new(2);
    let server = world.add(server(), checks(true));
    let client = world.add(client(), checks(true));
    let from = world.nodes[client].address;
    let mut last = None;
    // The client's last flight comes from elsewhere.
    world.pass = Box::new(move |(sender, _, bytes)| {
        let finished = *sender == from && records_with(bytes, 8).any(|record| record.epoch == 1);
        last = finished.then(|| bytes.clone()).or(last.take());
        !finished
    });
    let session = world.connect(client, server);
    world.pass_time(100 * MS);
    let is_last = |bytes: &[u8]| records_with(bytes, 8).any(|r| r.content_type == content_type::TLS12_CID);
    let flight = world.sent.iter().find(|(sender, _, bytes)| *sender == from && is_last(bytes)).unwrap().2.clone();
    let (finished, before): (Vec<_>, Vec<_>) = records_with(&flight, 8).partition(|record| record.epoch == 1);
    before.iter().for_each(|record| world.inject(from, server, record.bytes));
    finished.iter().for_each(|record| world.inject(elsewhere(1), server, record.bytes));
    world.settle();
    assert_eq!(world.nodes[server].opened(), []);
    world.inject(from, server, &flight);
    world.settle();
    assert_eq!(world.nodes[server].opened().len(), 1);
    assert_eq!(world.nodes[client].opened(), [session]);
}

/// The port changes all the time, the network loses and doubles: no handshake, and what arrives is answered.
#[test]
fn ports_change_all_the_time_in_a_bad_network() {
    for checked in [true, false] {
        let mut world = World::new(3);
        let server = world.add(server(), checks(checked));
        world.nodes[server].echo = true;
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let client = world.add(client(), checks(true));
                let (ours, theirs) = world.open(client, server);
                (client, ours, theirs)
            })
            .collect();
        world.faults = Faults { loss: 5, duplicate: 5, reorder: 10 };
        let mut port = 10_000;
        for _ in 0..60 {
            for &(client, ours, _) in &clients {
                port += 1;
                world.nodes[client].address.set_port(port);
                for _ in 0..3 {
                    world.send(client, ours, b"where am I?");
                }
            }
            world.pass_time(SECOND);
        }
        world.faults = Faults::default();
        for &(client, ours, theirs) in &clients {
            world.send(client, ours, b"the last one");
            world.settle();
            assert_eq!(*world.nodes[client].messages(ours).last().unwrap(), b"the last one");
            let came = world.nodes[server].messages(theirs).len();
            // Of the answers, what left before the address changed again can be lost.
            let answered = world.nodes[client].messages(ours).len();
            assert!(came > 160 && answered * 100 > came * 90, "{answered} of {came}");
            assert_eq!(world.nodes[server].endpoint.info(theirs).unwrap().peer(), world.nodes[client].address);
        }
        let stats = world.nodes[server].endpoint.stats();
        assert_eq!((stats.handshakes_begun, stats.datagrams_withheld), (20, 0));
        assert!(stats.peers_moved > 20 * 59, "{}", stats.peers_moved);
    }
}
