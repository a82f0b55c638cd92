//! The change from OpenSSL's records to our own, by force: every order of what comes around it, and bad networks. What is
//! sent under one key is looked at record by record.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use dv_dtls::wire::record::{content_type, records};
use dv_dtls::{CloseReason, Connect, Event, Session};

use crate::contexts::*;
use crate::last_flight::LastFlightLost;
use crate::net::*;

const SUITES: [&str; 3] =
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];

/// All orders of `items`.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in 0..items.len() {
        let mut rest = items.to_vec();
        let item = rest.remove(first);
        all.extend(orders(&rest).into_iter().map(|order| [vec![item.clone()], order].concat()));
    }
    all
}

/// Two nodes; the one whose side of the handshake is over first has sent its last flight, two messages and a goodbye, none of
/// which has come.
struct Withheld {
    world: World,
    first: usize,
    second: usize,
    /// Record by record.
    records: Vec<Vec<u8>>,
}

impl Withheld {
    fn new(resumed: bool) -> Withheld {
        let (mut world, server, client) = World::pair(1);
        let ticket = resumed.then(|| world.talk_and_part(client, server));
        // In a full handshake the server's side is over first, in a resumed one the client's.
        let (first, second) = if resumed { (client, server) } else { (server, client) };
        world.nodes.iter_mut().for_each(|node| node.events.clear());
        world.sent.clear();
        let from = world.nodes[first].address;
        let mut withheld = false;
        world.pass = Box::new(move |(sender, _, bytes)| {
            let last = records(bytes).any(|record| record.content_type == content_type::CHANGE_CIPHER_SPEC);
            withheld |= *sender == from && last;
            !(withheld && *sender == from)
        });
        let to = world.nodes[server].address;
        let connect = Connect { resume: ticket.as_ref(), ..Connect::to_named(to, "localhost") };
        world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        assert!(world.run(SECOND, |world| !world.nodes[first].opened().is_empty()));
        let session = world.nodes[first].opened()[0];
        world.send(first, session, b"one");
        world.send(first, session, b"two");
        world.nodes[first].endpoint.close(session).unwrap();
        world.settle();
        world.pass = Box::new(|_| true);
        let sent: Vec<_> = world.sent_by(from).collect();
        let is_ccs = |bytes: &&Vec<u8>| records(bytes).any(|r| r.content_type == content_type::CHANGE_CIPHER_SPEC);
        let begin = sent.iter().position(is_ccs).unwrap();
        let records =
            sent[begin..].iter().flat_map(|bytes| records(bytes)).map(|record| record.bytes.to_vec()).collect();
        Withheld { world, first, second, records }
    }

    /// What the other side makes of `records`, and what it says to that.
    fn deliver(&mut self, records: &[Vec<u8>]) -> Vec<(Event, Vec<u8>)> {
        let from = self.world.nodes[self.first].address;
        for record in records {
            self.world.inject(from, self.second, record);
        }
        self.world.settle();
        std::mem::take(&mut self.world.nodes[self.second].events)
    }
}

/// ChangeCipherSpec, Finished, two messages and a goodbye in each order, each of them twice: what comes before the goodbye
/// is told in its order and once, and behind it nothing.
#[test]
fn the_last_flight_messages_and_a_goodbye_in_every_order() {
    for resumed in [false, true] {
        let types: Vec<u8> = Withheld::new(resumed).records.iter().map(|record| record[0]).collect();
        let ticket = if resumed { 0 } else { types.iter().position(|kind| *kind == 20).unwrap() };
        assert_eq!(types[ticket..], [20, 22, 23, 23, 21], "resumed: {resumed}");
        for order in orders(&[0, 1, 2, 3, 4]) {
            let mut withheld = Withheld::new(resumed);
            let all = withheld.records.clone();
            let mut records = all[..ticket].to_vec();
            records.extend(order.iter().flat_map(|place| [all[ticket + place].clone(), all[ticket + place].clone()]));
            let events = withheld.deliver(&records);

            let session = events.first().expect("it opens").0.session();
            let mut expected = vec![(Event::Opened { session }, vec![])];
            for place in &order {
                match place {
                    2 => expected.push((Event::Message { session }, b"one".to_vec())),
                    3 => expected.push((Event::Message { session }, b"two".to_vec())),
                    4 => {
                        expected.push((Event::Closed { session, reason: CloseReason::ByPeer }, vec![]));
                        break;
                    }
                    _ => {}
                }
            }
            assert_eq!(events, expected, "resumed: {resumed}, {order:?}");
            assert!(withheld.deliver(&all).is_empty(), "all of it once more, resumed: {resumed}, {order:?}");
            assert!(withheld.world.nodes[withheld.second].endpoint.stats().records_taken_over > 0);
        }
    }
}

/// The side that has heard the last word does not answer its repetition: two sides that both did would go on for long.
#[test]
fn a_last_flight_that_comes_twice_is_not_answered() {
    let (mut world, server, client) = World::pair(2);
    let (from, to) = (world.nodes[server].address, world.nodes[client].address);
    let (session, _) = world.open(client, server);
    world.settle();
    let is_last = |bytes: &[u8]| records(bytes).any(|r| r.content_type == content_type::CHANGE_CIPHER_SPEC);
    let last = world.sent.iter().find(|(sender, _, bytes)| *sender == from && is_last(bytes)).unwrap().2.clone();
    let before = world.sent.len();
    for _ in 0..100 {
        world.pass_time(100 * MS);
        world.inject(from, client, &last);
    }
    world.settle();
    assert_eq!(world.sent.len(), before, "{:?}", world.sent.last());
    assert_eq!(world.nodes[client].address, to);
    world.send(client, session, b"still here");
    world.settle();
    assert_eq!(world.nodes[server].messages(world.nodes[server].opened()[0]), [b"still here"]);
}

/// Nobody but the client can write its Finished anew; however often it does, the answer comes at most every 50 ms.
#[test]
fn a_client_that_repeats_its_finished_is_answered_at_intervals() {
    let mut lost = LastFlightLost::new(Duration::from_millis(20));
    let repeated = lost.finished(9);
    let LastFlightLost { mut world, server, client, .. } = lost;
    let at_client = world.nodes[client].address;
    world.real = false;
    let resent = |world: &World| world.nodes[server].endpoint.stats().flights_resent_on_repeat;
    for record in &repeated[1..5] {
        world.inject(at_client, server, record);
    }
    assert_eq!(resent(&world), 1);
    world.now += 60 * MS;
    for record in &repeated[5..] {
        world.inject(at_client, server, record);
    }
    assert_eq!(resent(&world), 2);
}

/// What one side has sent in one session, by nonce: with AES-GCM that stands in the record, with ChaCha20-Poly1305 it is the
/// record's number. A flight that is sent again is the same record; another one with its nonce would be the end of the key.
#[derive(Default)]
struct Nonces(HashMap<(SocketAddr, SocketAddr, u64), Vec<u8>>);

impl Nonces {
    fn take(&mut self, sent: &mut Vec<Datagram>, explicit: bool) {
        for (from, to, bytes) in sent.drain(..) {
            for record in records(&bytes).filter(|record| record.epoch == 1) {
                let nonce = if explicit { &record.fragment()[..8] } else { &record.bytes[3..11] };
                let key = (from, to, u64::from_be_bytes(nonce.try_into().unwrap()));
                let first = self.0.entry(key).or_insert_with(|| record.bytes.to_vec());
                assert_eq!(first, record.bytes, "two records with one nonce");
            }
        }
    }
}

/// Each client has one session, so that who speaks to whom names the key. Half of the sessions are resumed, all lose
/// datagrams at random before, in and after the change, and some are closed in the middle of it.
fn storm(seed: u64, suite: &str, clients: usize, messages: usize) -> usize {
    let quick = |context| {
        let config = settings(|s| {
            s.first_timeout = Duration::from_millis(20);
            s.longest_timeout = Duration::from_millis(80);
        });
        (context, config)
    };
    let mut world = World::new(seed);
    let (context, config) = quick(server_with("server-ecdsa", |context| context.set_cipher_list(suite).unwrap()));
    let server = world.add(context, config);
    let (context, config) = quick(client());
    let before = world.add(context.clone(), config.clone());
    let ticket = world.talk_and_part(before, server);
    world.nodes[server].events.clear();
    world.sent.clear();
    world.faults = Faults { loss: 20, duplicate: 10, reorder: 30 };
    let to = world.nodes[server].address;
    let clients: Vec<usize> = (0..clients).map(|_| world.add(context.clone(), config.clone())).collect();
    for (number, client) in clients.iter().enumerate() {
        let resume = (number % 2 == 0).then_some(&ticket);
        let connect = Connect { resume, ..Connect::to_named(to, "localhost") };
        let now = world.now;
        world.nodes[*client].endpoint.connect(now, &connect).unwrap();
    }

    let mut nonces = Nonces::default();
    let explicit = !suite.contains("CHACHA");
    let mut spoken: HashMap<(usize, Session), usize> = HashMap::new();
    let open = |world: &World, node: usize| -> Vec<Session> {
        let node = &world.nodes[node];
        let closed: Vec<Session> = node.closed().iter().map(|(session, _)| *session).collect();
        node.opened().into_iter().filter(|session| !closed.contains(session)).collect()
    };
    let nodes: Vec<usize> = clients.iter().copied().chain([server]).collect();
    let end = world.now + 60 * SECOND;
    while world.now < end && clients.iter().any(|client| world.nodes[*client].opened().is_empty()) {
        std::thread::sleep(Duration::from_millis(5));
        world.pass_time(5 * MS);
        // Whoever is open speaks at once, and every tenth client goes again in the middle of it.
        for node in &nodes {
            for session in open(&world, *node) {
                let said = spoken.entry((*node, session)).or_default();
                if *said < 3 {
                    world.send(*node, session, format!("{said} of {node}").as_bytes());
                    *said += 1;
                } else if *node != server && node % 10 == 0 {
                    world.nodes[*node].endpoint.close(session).unwrap();
                }
            }
        }
        nonces.take(&mut world.sent, explicit);
    }
    world.faults = Faults::default();
    world.pass_time(100 * MS);
    for client in &clients {
        assert_eq!(world.nodes[*client].opened().len(), 1, "client {client} is not open");
        assert!(world.nodes[*client].closed().iter().all(|(_, reason)| *reason == CloseReason::Local));
    }
    let mut heard: Vec<(Session, Vec<u8>)> = Vec::new();
    for (event, bytes) in &world.nodes[server].events {
        if let Event::Message { session } = event {
            let heard_before = heard.iter().any(|(from, message)| from == session && message == bytes);
            assert!(!heard_before && bytes[1..].starts_with(b" of "), "{}", String::from_utf8_lossy(bytes));
            heard.push((*session, bytes.clone()));
        }
    }
    // From here on the two ends of each session only seal.
    world.pass = Box::new(|_| false);
    let server_sessions = open(&world, server);
    let each = messages / (2 * server_sessions.len().max(1));
    for _ in 0..each {
        for session in &server_sessions {
            world.send(server, *session, b"and so on");
        }
        for client in &clients {
            for session in open(&world, *client) {
                world.send(*client, session, b"and so on");
            }
        }
        world.run(0, |_| false);
        nonces.take(&mut world.sent, explicit);
    }
    nonces.0.len()
}

#[test]
fn no_nonce_comes_twice_on_a_bad_network() {
    for (seed, suite) in SUITES.iter().enumerate() {
        let nonces = storm(seed as u64 + 1, suite, 20, 3_000);
        assert!(nonces > 2_500, "{nonces}");
    }
}

/// A million records behind some hundred handshakes.
#[test]
#[ignore = "takes minutes"]
fn a_million_records_and_no_nonce_twice() {
    let mut nonces = 0;
    for seed in 1..=6 {
        nonces += storm(seed, SUITES[seed as usize % 3], 50, 180_000);
    }
    println!("{nonces} nonces");
    assert!(nonces > 1_000_000, "{nonces}");
}
