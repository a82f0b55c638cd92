//! What somebody without keys can send changes nothing.

use std::time::Duration;

use dv_dtls::wire::record::{HEADER_LEN, content_type, records_with};
use dv_dtls::{CloseReason, Config, Session};

use crate::CID_LEN;
use crate::contexts::*;
use crate::net::*;

/// A record that anybody can write.
fn record(content_type: u8, epoch: u16, sequence: u64, fragment: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 0xfe, 0xfd];
    record.extend_from_slice(&epoch.to_be_bytes());
    record.extend_from_slice(&sequence.to_be_bytes()[2..]);
    record.extend_from_slice(&(fragment.len() as u16).to_be_bytes());
    record.extend_from_slice(fragment);
    record
}

/// Junk, forged alerts and messages in both epochs, and what was seen on the wire, whole, cut and bent.
fn forgeries(seen: &[Datagram], node: &Node) -> Vec<Vec<u8>> {
    let mut all = vec![vec![], vec![22], vec![23; 13], vec![0xff; 1400], b"GET / HTTP/1.1\r\n".to_vec()];
    for content_type in [0, 20, 21, 22, 23, 24, 25, 26, 255] {
        for epoch in [0, 1, 2, 65535] {
            for sequence in [0, 1, 2, 5, 1 << 40] {
                for fragment in [&[2, 40][..], &[1, 0], &[1], &[], &[0; 40], &[14, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]] {
                    all.push(record(content_type, epoch, sequence, fragment));
                }
            }
        }
    }
    for (_, to, bytes) in seen {
        if *to == node.address {
            all.push(bytes.clone());
            all.push(bytes[..bytes.len() - 1].to_vec());
            let mut bent = bytes.clone();
            *bent.last_mut().unwrap() ^= 1;
            all.push(bent);
            // A later sequence number on the same protected bytes.
            let mut bent = bytes.clone();
            bent[9] ^= 0x40;
            all.push(bent);
        }
    }
    all
}

#[test]
fn an_established_session_survives_forgeries_and_replays() {
    let (mut world, server, client) = World::pair(1);
    let (ours, theirs) = world.open(client, server);
    world.send(client, ours, b"before");
    world.send(server, theirs, b"before");
    world.settle();
    for (node, from) in [(server, client), (client, server)] {
        let (from, forgeries) = (world.nodes[from].address, forgeries(&world.sent, &world.nodes[node]));
        assert!(forgeries.len() > 1000);
        for forgery in &forgeries {
            world.inject(from, node, forgery);
        }
    }
    world.pass_time(SECOND);
    world.send(client, ours, b"after");
    world.send(server, theirs, b"after");
    world.settle();
    for (node, session) in [(server, theirs), (client, ours)] {
        assert_eq!(world.nodes[node].messages(session), [&b"before"[..], b"after"]);
        assert_eq!(world.nodes[node].closed(), []);
    }
}

#[test]
fn a_handshake_survives_forged_alerts_and_junk() {
    let mut world = World::new(2);
    let server = world.add(server_with_client_verification(), Config::default());
    let client = world.add(client_with_certificate(), Config::default());
    let session = world.connect(client, server);
    let addresses = [world.nodes[server].address, world.nodes[client].address];
    let mut steps = 0;
    // Before each step of the clock both sides get what anybody could send: no handshake messages that libssl would take.
    while world.nodes[client].opened().is_empty() || world.nodes[server].opened().is_empty() {
        for (node, from) in [(server, addresses[1]), (client, addresses[0])] {
            // Of another version, so that none of them stands for the peer's.
            for version in [0x00, 0xfe, 0xff] {
                let mut early = record(20, 0, 1 << 30, &[1]);
                early[2] = version;
                world.inject(from, node, &early);
            }
            for content_type in [20, 21, 23, 24, 25] {
                for epoch in [0, 1, 2] {
                    for fragment in [&[2, 40][..], &[1, 0], &[1], &[0; 40]] {
                        world.inject(from, node, &record(content_type, epoch, 1 << 30, fragment));
                    }
                }
            }
            // Fragments with nothing of their message: libssl would take each for all of it.
            for message_type in [1, 2, 11, 12, 15, 16, 20] {
                for message_seq in 0..8 {
                    let empty = [message_type, 0, 1, 0, 0, message_seq, 0, 0, 0, 0, 0, 0];
                    world.inject(from, node, &record(22, 0, 1 << 30, &empty));
                }
            }
        }
        world.pass_time(MS);
        steps += 1;
        assert!(steps < 10_000);
    }
    assert!(world.nodes[server].endpoint.stats().records_dropped > 0);
    world.send(client, session, b"after");
    world.settle();
    let theirs = world.nodes[server].opened()[0];
    assert_eq!(world.nodes[server].messages(theirs), [b"after"]);
}

/// libssl makes room for whatever is announced in the next ten messages: 330 KB for each handshake that anybody begins.
#[test]
fn messages_that_no_client_has_get_no_room() {
    let mut world = World::new(3);
    let server = world.add(server_with_client_verification(), Config::default());
    let client = world.add(client_with_certificate(), Config::default());
    world.connect(client, server);
    let is_server_hello = |(_, _, bytes): &Datagram| bytes[13] == 2;
    assert!(world.run(SECOND, |world| world.sent.iter().any(is_server_hello)));
    let from = world.nodes[client].address;
    let fragment = |message_type: u8, length: u16, message_seq: u16| {
        let [high, low] = length.to_be_bytes();
        vec![message_type, 0, high, low, 0, message_seq as u8, 0, high, low - 1, 0, 0, 1, 0]
    };
    let (hello, certificate, verify, key_exchange) = (1, 11, 15, 16);
    let mut count = 0;
    // Behind the hello, which is message 1, there may be a certificate, and two messages that are shorter.
    let ahead = (3..12).map(|message_seq| fragment(certificate, 30_000, message_seq));
    let short = (5..12).map(|message_seq| fragment(verify, 300, message_seq));
    let long = (2..5).map(|message_seq| fragment(key_exchange, 30_000, message_seq));
    let others = [0, 2, 3, 4, 12, 13, 14, 20, 67, 255].map(|message_type| fragment(message_type, 300, 3));
    let glued = [[fragment(verify, 300, 4), fragment(certificate, 30_000, 5)].concat(), [1; 20].to_vec(), vec![]];
    for fragment in ahead.chain(short).chain(long).chain(others).chain(glued) {
        world.inject(from, server, &record(22, 0, 1 << 30, &fragment));
        count += 1;
    }
    assert_eq!(world.nodes[server].endpoint.stats().records_dropped, count);
    // Nor does a client's handshake for those that no server has.
    for (message_type, message_seq) in [(hello, 0), (verify, 1), (key_exchange, 1)] {
        let fragment = fragment(message_type, 300, message_seq);
        world.inject(world.nodes[server].address, client, &record(22, 0, 1 << 30, &fragment));
    }
    assert_eq!(world.nodes[client].endpoint.stats().records_dropped, 3);
    world.settle();
    assert_eq!((world.nodes[client].opened().len(), world.nodes[server].opened().len()), (1, 1));
}

/// Of a message that comes whole libssl forgets what it had of it: fragments of another length, before it, are no harm. Were the
/// first length to count, as might be done about forged ones behind it, one such fragment would keep the message out.
#[test]
fn a_forged_fragment_of_another_length_before_the_message() {
    let forged = |message_type: u8, message_seq: u8| {
        // The eleventh byte of 256.
        let fragment = [message_type, 0, 1, 0, 0, message_seq, 0, 0, 10, 0, 0, 1, 7];
        record(content_type::HANDSHAKE, 0, 9, &fragment)
    };
    let (mut world, server, client) = World::pair(13);
    let addresses = [world.nodes[client].address, world.nodes[server].address];
    world.connect(client, server);
    assert!(world.run(SECOND, |world| world.sent.iter().any(|(_, _, bytes)| bytes[13] == 2)));
    world.inject(addresses[0], server, &forged(16, 2));
    world.inject(addresses[1], client, &forged(2, 1));
    let kept_from_libssl = [server, client].map(|node| world.nodes[node].endpoint.stats().records_dropped);
    assert_eq!(kept_from_libssl, [0, 0]);
    world.settle();
    assert_eq!((world.nodes[client].opened().len(), world.nodes[server].opened().len()), (1, 1));
}

/// What is forged and has to wait takes all the places there are, but not the way of what comes after it.
#[test]
fn a_handshake_whose_places_for_what_waits_are_taken() {
    let (mut world, server, client) = World::pair(12);
    let addresses = [world.nodes[client].address, world.nodes[server].address];
    let session = world.connect(client, server);
    let is_server_hello = |(_, _, bytes): &Datagram| bytes[13] == 2;
    assert!(world.run(SECOND, |world| world.sent.iter().any(is_server_hello)));
    for sequence in 0..20 {
        world.inject(addresses[0], server, &record(23, 1, sequence, &[0; 40]));
        world.inject(addresses[1], client, &record(23, 1, sequence, &[0; 40]));
    }
    assert!(world.run(SECOND / 2, |world| world.nodes[client].opened() == [session]));
}

/// A session with a connection ID has left the address to others: there it is anybody's.
#[test]
fn a_hello_that_comes_again_begins_nothing() {
    let (mut world, server, client) = World::pair(14);
    world.open(client, server);
    let from = world.nodes[client].address;
    let hello = world.sent_by(from).filter(|bytes| bytes[0] == content_type::HANDSHAKE && bytes[13] == 1).last();
    let hello = hello.unwrap().clone();
    world.inject(from, server, &hello);
    assert_eq!(world.nodes[server].endpoint.handshakes() == 0, CID_LEN == 0);
}

/// Numbers in clear are not authentic: who copies a record with a higher one makes no replay of what comes after it.
#[test]
fn a_handshake_survives_copies_with_high_numbers() {
    const CLIENT_HELLO: u8 = 1;
    let (mut world, server, client) = World::pair(13);
    let at_server = world.nodes[server].address;
    let session = world.connect(client, server);
    let mut copied = 0;
    for _ in 0..20 {
        for (from, _, mut bytes) in std::mem::take(&mut world.sent) {
            let to = if from == at_server { client } else { server };
            if bytes[0] == content_type::HANDSHAKE && bytes[13] != CLIENT_HELLO {
                bytes[5] = 0x7f;
                world.inject(from, to, &bytes);
                copied += 1;
            }
        }
        world.pass_time(MS / 2);
    }
    assert!(copied >= 2);
    assert_eq!(world.nodes[client].opened(), [session]);
}

/// DTLSv1_listen of OpenSSL 3.2 and later takes in the whole datagram: <https://github.com/openssl/openssl/pull/28815>.
#[test]
fn an_alert_glued_behind_the_hello_ends_nothing() {
    let (mut world, server, client) = World::pair(9);
    world.connect(client, server);
    let is_proven = |bytes: &[u8]| bytes[13] == 1 && bytes[18] == 1;
    world.pass = Box::new(move |(_, _, bytes)| !is_proven(bytes));
    assert!(world.run(SECOND, |world| world.sent.iter().any(|(_, _, bytes)| is_proven(bytes))));
    let (from, _, mut glued) = world.sent.pop().unwrap();
    glued.extend(record(21, 0, 2, &[2, 40]));
    world.pass = Box::new(|_| true);
    world.inject(from, server, &glued);
    world.settle();
    assert_eq!((world.nodes[client].opened().len(), world.nodes[server].opened().len()), (1, 1));
    let stats = world.nodes[server].endpoint.stats();
    assert_eq!((stats.handshakes_begun, stats.handshakes_failed), (1, 0));
}

/// A client that begins again at an address that is known already.
struct Restart {
    world: World,
    server: usize,
    first: usize,
    at_first: Session,
    at_server: Session,
    second: usize,
}

impl Restart {
    fn new(seed: u64) -> Restart {
        let mut world = World::new(seed);
        let timeout = |s: &mut dv_dtls::Settings| s.handshake_timeout = Duration::from_secs(30);
        let server = world.add(server(), settings(timeout));
        let first = world.add(client(), Config::default());
        let (at_first, at_server) = world.open(first, server);
        // Another program on the same address and port: datagrams go to the first node that has the address.
        let address = world.nodes[first].address;
        let second = world.add_at(address, client(), Config::default());
        Restart { world, server, first, at_first, at_server, second }
    }
}

#[test]
fn a_client_restarts_on_its_port() {
    if CID_LEN != 0 {
        // Who is known by an ID may be anywhere: see cids.rs.
        return;
    }
    let Restart { mut world, server, first, at_server, second, .. } = Restart::new(3);
    // The old program is gone.
    world.nodes[first].address.set_port(1);
    let (ours, theirs) = world.open(second, server);
    assert_ne!(theirs, at_server);
    assert_eq!(world.nodes[server].closed(), [(at_server, CloseReason::Restarted)]);
    world.send(second, ours, b"new");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"new"]);
    let stats = world.nodes[server].endpoint.stats();
    assert_eq!((stats.restarted, stats.superseded), (1, 0));
    assert_eq!(world.nodes[server].endpoint.sessions().collect::<Vec<_>>(), [theirs]);
}

#[test]
fn a_restart_that_is_never_finished_leaves_the_old_session_as_it_was() {
    let Restart { mut world, server, first, at_first, at_server, second } = Restart::new(4);
    // Somebody replays a whole handshake's beginning in the client's name, with a good cookie, but cannot read the answers.
    world.connect(second, server);
    world.pass_time(100 * MS);
    // The first node has the address, and got the answers. They are nothing to it.
    assert_eq!(world.nodes[server].endpoint.stats().hellos_answered, 2);
    assert_eq!(world.nodes[server].endpoint.handshakes(), 0);
    world.send(first, at_first, b"one");
    world.send(server, at_server, b"two");
    world.settle();
    assert_eq!(world.nodes[server].messages(at_server), [b"one"]);
    assert_eq!(world.nodes[first].messages(at_first), [b"two"]);

    // Now with a cookie: the second program sees the HelloVerifyRequest, then nothing more.
    let (at, other) = (world.nodes[first].address, std::net::SocketAddr::from(([10, 9, 9, 9], 9)));
    world.nodes[first].address = other;
    assert!(world.run(10 * SECOND, |world| world.nodes[server].endpoint.handshakes() == 1));
    world.nodes[first].address = at;
    world.nodes[second].address = other;
    for round in 0..20u8 {
        world.send(first, at_first, &[round]);
        world.send(server, at_server, &[round]);
        world.pass_time(SECOND);
    }
    assert_eq!(world.nodes[server].messages(at_server).len(), 21);
    assert_eq!(world.nodes[first].messages(at_first).len(), 21);
    world.pass_time(30 * SECOND);
    assert_eq!(world.nodes[server].endpoint.handshakes(), 0);
    assert_eq!(world.nodes[server].endpoint.stats().handshakes_timed_out, 1);
    assert_eq!((world.nodes[server].closed(), world.nodes[first].closed()), (vec![], vec![]));
    world.send(first, at_first, b"end");
    world.settle();
    assert_eq!(world.nodes[server].messages(at_server).len(), 22);
}

/// A client that has not got the last flight gives up and comes again from its port. What it says in clear then is its new
/// handshake's, and no repetition to which the old session's last flight would be an answer: its NewSessionTicket is another.
#[test]
fn a_client_that_begins_anew_does_not_get_the_last_flight_that_it_has_missed() {
    let (mut world, server, first) = World::pair(6);
    let (at, from) = (world.nodes[first].address, world.nodes[server].address);
    const NEW_SESSION_TICKET: u8 = 4;
    world.pass = Box::new(move |(f, _, bytes)| *f != from || bytes[13] != NEW_SESSION_TICKET);
    world.connect(first, server);
    world.pass_time(100 * MS);
    assert_eq!((world.nodes[server].opened().len(), world.nodes[first].opened().len()), (1, 0));
    world.nodes[first].address.set_port(1);
    world.pass = Box::new(|_| true);

    let second = world.add_at(at, client(), Config::default());
    let session = world.connect(second, server);
    world.pass_time(SECOND / 2);
    assert_eq!((world.nodes[second].opened(), world.nodes[second].closed()), (vec![session], vec![]));
    assert_eq!(world.nodes[server].endpoint.stats().flights_resent_on_repeat, 0);
}

/// The same in the middle: the new hello is not answered with the flight that was for the old one.
#[test]
fn a_client_that_begins_anew_does_not_get_the_flight_for_its_old_hello() {
    let (mut world, server, first) = World::pair(7);
    let (at, from) = (world.nodes[first].address, world.nodes[server].address);
    const SERVER_HELLO: u8 = 2;
    world.pass = Box::new(move |(f, _, bytes)| *f != from || bytes[13] != SERVER_HELLO);
    world.connect(first, server);
    world.pass_time(SECOND / 2);
    world.nodes[first].address.set_port(1);
    let second = world.add_at(at, client(), Config::default());
    let session = world.connect(second, server);
    world.pass_time(SECOND / 4);
    assert_eq!(world.nodes[server].endpoint.handshakes(), 2);
    // Now the timer of the old handshake runs out, long before that of the new one.
    world.pass = Box::new(|_| true);
    assert!(world.run(5 * SECOND, |world| world.nodes[second].opened() == [session]));
    assert_eq!(world.nodes[second].closed(), []);
}

/// Hellos with cookies that are still good can be replayed by an observer, from the client's own address.
#[test]
fn replayed_hellos_do_not_keep_a_client_from_its_handshake() {
    let mut world = World::new(5);
    let server = world.add(server_with_client_verification(), Config::default());
    let client = world.add(client_with_certificate(), Config::default());
    let mut hellos = Vec::new();
    for _ in 0..4 {
        let (session, _) = world.open(client, server);
        let from = world.nodes[client].address;
        let is_proven = |(f, _, bytes): &Datagram| *f == from && bytes[13] == 1 && bytes[18] == 1;
        hellos.extend(world.sent.drain(..).filter(is_proven).map(|(_, _, bytes)| bytes));
        world.nodes[client].endpoint.close(session).unwrap();
        world.settle();
    }
    assert_eq!(hellos.len(), 4);
    let from = world.nodes[client].address;
    hellos.iter().for_each(|hello| world.inject(from, server, hello));
    assert_eq!(world.nodes[server].endpoint.handshakes(), 4);
    world.settle();

    // One of them goes for it, and sees what was meant for it; the others go when it has finished.
    let (session, theirs) = world.open(client, server);
    let stats = world.nodes[server].endpoint.stats();
    assert_eq!((stats.superseded + stats.handshakes_failed, stats.restarted), (4, 0));
    assert_eq!(world.nodes[server].endpoint.handshakes(), 0);

    // And now that it is established.
    hellos.iter().for_each(|hello| world.inject(from, server, hello));
    world.send(client, session, b"through");
    world.pass_time(SECOND);
    assert_eq!(world.nodes[server].messages(theirs), [b"through"]);
    assert_eq!(world.nodes[server].closed().len(), 4);
}

#[test]
fn strangers_get_nothing_but_a_cookie() {
    let (mut world, server, client) = World::pair(6);
    world.open(client, server);
    let stranger = std::net::SocketAddr::from(([192, 0, 2, 1], 4000));
    let forgeries = forgeries(&world.sent, &world.nodes[server]);
    world.sent.clear();
    let mut received = 0;
    for forgery in &forgeries {
        world.inject(stranger, server, forgery);
        received += forgery.len();
    }
    world.settle();
    // Hellos that were seen elsewhere are answered with another cookie, never with more bytes than came.
    assert!(world.sent.iter().all(|(_, to, bytes)| *to == stranger && bytes[13] == 3));
    assert!(world.sent.len() >= 2);
    assert!(world.sent.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>() < received);
    let endpoint = &world.nodes[server].endpoint;
    assert_eq!((endpoint.handshakes(), endpoint.sessions().count()), (0, 1));
    assert!(endpoint.stats().strangers_dropped > 1000);
    assert!(endpoint.stats().cookies_refused >= 1);
}

#[test]
fn an_endpoint_that_only_connects_answers_nobody() {
    let mut world = World::new(7);
    let deaf = world.add(client(), Config { accept: false, ..Config::default() });
    let client = world.add(client(), Config::default());
    world.connect(client, deaf);
    world.pass_time(20 * SECOND);
    let from = world.nodes[deaf].address;
    assert!(world.sent.len() > 3 && world.sent.iter().all(|(f, _, _)| *f != from));
    assert_eq!(world.nodes[deaf].endpoint.stats().strangers_dropped, world.sent.len() as u64);
}

#[test]
fn several_messages_in_one_datagram() {
    let (mut world, server, client) = World::pair(8);
    let (session, theirs) = world.open(client, server);
    // Kept off the wire, glued together, and given to the server as one.
    world.pass = Box::new(|_| false);
    world.sent.clear();
    for number in 0..5u8 {
        world.send(client, session, &[number; 20]);
    }
    world.settle();
    let glued = world.sent.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect::<Vec<_>>();
    assert_eq!(records_with(&glued, CID_LEN).count(), 5);
    let from = world.nodes[client].address;
    // Cut in the middle of the last: the whole ones count.
    world.inject(from, server, &glued[..glued.len() - HEADER_LEN]);
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs).len(), 4);
    world.inject(from, server, &glued);
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), (0..5u8).map(|n| vec![n; 20]).collect::<Vec<_>>());
}

/// Bytes of real datagrams changed at random, at both sides, before, in and after a handshake. Nothing may panic, and an
/// established session stays.
#[test]
fn datagrams_bent_at_random() {
    for seed in 1..=20 {
        let mut world = World::new(seed);
        world.faults.reorder = 50;
        let server = world.add(server(), Config::default());
        let client = world.add(client(), Config::default());
        let addresses = [world.nodes[server].address, world.nodes[client].address];
        let (ours, theirs) = world.open(client, server);
        world.send(client, ours, b"seen");
        world.settle();
        let seen = world.sent.clone();
        let mut state = seed;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut bend = |world: &mut World, rounds| {
            for _ in 0..rounds {
                let (from, to, bytes) = &seen[random(seen.len())];
                let mut bent = bytes.clone();
                for _ in 0..1 + random(4) {
                    let at = random(bent.len());
                    bent[at] = random(256) as u8;
                }
                bent.truncate(random(2 * bent.len()) + 1);
                let node = if *to == addresses[0] { server } else { client };
                world.inject(*from, node, &bent);
            }
        };
        bend(&mut world, 2000);
        world.settle();
        world.send(client, ours, b"still here");
        world.send(server, theirs, b"so am I");
        world.settle();
        assert_eq!(world.nodes[server].messages(theirs).last(), Some(&&b"still here"[..]));
        assert_eq!(world.nodes[client].messages(ours), [b"so am I"]);

        // A handshake may fail of it, and only a handshake.
        world.nodes[client].endpoint.close(ours).unwrap();
        world.settle();
        world.connect(client, server);
        for _ in 0..10 {
            bend(&mut world, 20);
            world.pass_time(MS);
        }
    }
}
