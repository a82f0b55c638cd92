//! How sessions end, and in which order a program hears of it.

use std::time::Duration;

use dv_dtls::{CloseReason, Config, Connect, Error, Event, State};

use crate::contexts::*;
use crate::net::*;

#[test]
fn close_notify_from_either_side() {
    for client_closes in [true, false] {
        let (mut world, server, client) = World::pair(1);
        let (at_client, at_server) = world.open(client, server);
        world.send(client, at_client, b"one");
        world.send(server, at_server, b"two");
        world.settle();
        let ((closer, ours), (other, theirs)) = match client_closes {
            true => ((client, at_client), (server, at_server)),
            false => ((server, at_server), (client, at_client)),
        };
        world.nodes[closer].endpoint.close(ours).unwrap();
        world.settle();
        assert_eq!(world.nodes[closer].closed(), [(ours, CloseReason::Local)]);
        assert_eq!(world.nodes[other].closed(), [(theirs, CloseReason::ByPeer)]);
        let closed_by_peer = |node: &Node| node.endpoint.stats().closed_by_peer;
        assert_eq!((closed_by_peer(&world.nodes[closer]), closed_by_peer(&world.nodes[other])), (0, 1));
        for node in &world.nodes {
            assert_eq!(node.endpoint.sessions().count(), 0);
            assert_eq!(node.endpoint.deadline(), u64::MAX);
        }
    }
}

#[test]
fn a_session_is_stale_once_its_end_was_told() {
    let (mut world, server, client) = World::pair(2);
    let (session, _) = world.open(client, server);
    let endpoint = &mut world.nodes[client].endpoint;
    endpoint.set_user(session, 7).unwrap();
    endpoint.close(session).unwrap();
    // Until its end is told it can be asked, but no longer used.
    assert_eq!(endpoint.send(session, b"late"), Err(Error::NotEstablished));
    assert_eq!(endpoint.close(session), Ok(()));
    let mut message = Vec::new();
    assert_eq!(endpoint.event(&mut message), Some(Event::Closed { session, reason: CloseReason::Local }));
    let info = endpoint.info(session).unwrap();
    assert_eq!((info.user(), info.state()), (7, State::Closed(CloseReason::Local)));
    assert!(info.peer_certificate().is_some());
    assert_eq!(endpoint.event(&mut message), None);
    assert_eq!(endpoint.info(session).err(), Some(Error::Stale));
    assert_eq!(endpoint.send(session, b"late"), Err(Error::Stale));
    assert_eq!(endpoint.close(session), Err(Error::Stale));
    assert_eq!(endpoint.set_user(session, 1), Err(Error::Stale));

    // The place is taken again, by another session.
    let (next, _) = world.open(client, server);
    assert_ne!(next, session);
    assert_eq!(world.nodes[client].endpoint.send(session, b"late"), Err(Error::Stale));
    assert_eq!(world.nodes[client].endpoint.info(next).unwrap().user(), 0);
}

/// In a resumed handshake the last flight is the client's. When it is lost, messages come before the session is open.
#[test]
fn messages_that_overtake_the_handshake_wait_for_it() {
    let (mut world, server, client) = World::pair(3);
    let ticket = world.talk_and_part(client, server);
    world.nodes[server].events.clear();

    let (from, to) = (world.nodes[client].address, world.nodes[server].address);
    let mut lost = 0;
    world.pass = Box::new(move |(f, _, bytes)| {
        let last_flight = *f == from && bytes[0] == 20;
        lost += u64::from(last_flight);
        !last_flight || lost > 1
    });
    let connect = Connect { resume: Some(&ticket), ..Connect::to_named(to, "localhost") };
    let session = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
    assert!(world.run(SECOND, |world| world.nodes[client].opened().contains(&session)));
    world.send(client, session, b"one");
    world.send(client, session, b"two");
    world.settle();
    assert_eq!(world.nodes[server].events, []);
    world.pass_time(2 * SECOND);
    let node = &world.nodes[server];
    let theirs = node.opened()[0];
    assert!(node.endpoint.info(theirs).unwrap().is_resumed());
    let (opened, message) = (Event::Opened { session: theirs }, Event::Message { session: theirs });
    assert_eq!(node.events, [(opened, vec![]), (message, b"one".to_vec()), (message, b"two".to_vec())]);
}

#[test]
fn an_idle_session_ends() {
    let mut world = World::new(4);
    let server = world.add(server(), settings(|s| s.idle_timeout = Duration::from_secs(60)));
    let client = world.add(client(), Config::default());
    let (ours, theirs) = world.open(client, server);
    // What is heard counts, what is sent does not, nor what others send in the peer's name.
    for _ in 0..3 {
        world.pass_time(50 * SECOND);
        world.send(client, ours, b"still here");
        world.settle();
    }
    world.pass_time(50 * SECOND);
    world.send(server, theirs, b"are you?");
    world.settle();
    let mut forged = world.sent_by(world.nodes[client].address).last().unwrap().clone();
    *forged.last_mut().unwrap() ^= 1;
    world.inject(world.nodes[client].address, server, &forged);
    assert_eq!(world.nodes[server].closed(), []);
    world.pass_time(11 * SECOND);
    assert_eq!(world.nodes[server].closed(), [(theirs, CloseReason::IdleTimeout)]);
    assert_eq!(world.nodes[client].closed(), [(ours, CloseReason::ByPeer)]);
    assert_eq!(world.nodes[server].endpoint.stats().idle_timed_out, 1);
}

#[test]
fn a_session_is_idle_only_once_it_is_open() {
    let mut world = World::new(8);
    let server = world.add(server(), settings(|s| s.idle_timeout = Duration::from_secs(5)));
    let client = world.add(client(), Config::default());
    let (from, begun) = (world.nodes[server].address, world.now);
    // The first flights of the server are lost.
    let mut lost = 0;
    world.pass = Box::new(move |(sender, _, bytes)| {
        lost += usize::from(*sender == from && bytes[13] == 2);
        *sender != from || bytes[13] != 2 || lost > 2
    });
    world.open(client, server);
    let opened = world.now;
    assert!(opened - begun > 2 * SECOND);
    world.pass_time(4 * SECOND);
    assert_eq!(world.nodes[server].closed(), []);
    world.pass_time(2 * SECOND);
    assert_eq!(world.nodes[server].closed().len(), 1);
}

#[test]
fn a_handshake_without_an_answer_ends() {
    let mut world = World::new(5);
    let server = world.add(server(), settings(|s| s.handshake_timeout = Duration::from_secs(20)));
    let client = world.add(client(), settings(|s| s.handshake_timeout = Duration::from_secs(10)));
    // The server's flight is lost each time.
    let from_server = world.nodes[server].address;
    world.pass = Box::new(move |(from, _, bytes)| *from != from_server || bytes.len() < 100);
    let session = world.connect(client, server);
    world.pass_time(9 * SECOND);
    assert_eq!(world.nodes[server].endpoint.handshakes(), 1);
    assert_eq!(world.nodes[client].closed(), []);
    world.pass_time(2 * SECOND);
    assert_eq!(world.nodes[client].closed(), [(session, CloseReason::HandshakeTimeout)]);
    world.pass_time(20 * SECOND);
    let endpoint = &world.nodes[server].endpoint;
    assert_eq!((endpoint.handshakes(), endpoint.deadline()), (0, u64::MAX));
    assert_eq!(endpoint.stats().handshakes_timed_out, 1);
    assert!(endpoint.stats().flights_resent_on_timeout >= 3);
    // The program never heard of it.
    assert_eq!(world.nodes[server].events, []);
}

#[test]
fn a_peer_that_is_connected_to_is_not_connected_to_twice() {
    let (mut world, server, client) = World::pair(6);
    let session = world.connect(client, server);
    assert_eq!(world.try_connect(client, server, None), Err(Error::Busy));
    world.nodes[client].endpoint.close(session).unwrap();
    world.open(client, server);
}

/// One endpoint is client and server at once, for the same peer even.
#[test]
fn two_endpoints_connect_to_each_other() {
    let both = || {
        server_with("server-ecdsa", |context| {
            context.set_ca_file(cert("ca.pem")).unwrap();
        })
    };
    let mut world = World::new(7);
    let (a, b) = (world.add(both(), Config::default()), world.add(both(), Config::default()));
    let from_a = world.connect(a, b);
    world.pass_time(SECOND);
    let from_b = world.connect(b, a);
    world.pass_time(SECOND);
    assert_eq!((world.nodes[a].opened().len(), world.nodes[b].opened().len()), (2, 2));
    world.send(a, from_a, b"by a");
    world.send(b, from_b, b"by b");
    world.settle();
    let at = |node: &Node, not| *node.opened().iter().find(|session| **session != not).unwrap();
    assert_eq!(world.nodes[b].messages(at(&world.nodes[b], from_b)), [b"by a"]);
    assert_eq!(world.nodes[a].messages(at(&world.nodes[a], from_a)), [b"by b"]);
}

/// What has begun goes on: sessions, and a handshake of which the server knows.
#[test]
fn an_endpoint_that_stops_accepting_goes_on_with_what_has_begun() {
    let (mut world, server, client) = World::pair(17);
    let [halfway, late] = [(); 2].map(|_| world.add(crate::contexts::client(), Config::default()));
    let (session, theirs) = world.open(client, server);
    let begun = world.connect(halfway, server);
    assert!(world.run(SECOND, |world| world.nodes[server].endpoint.handshakes() == 1));
    world.nodes[server].endpoint.stop_accepting();
    let refused = world.connect(late, server);
    world.pass_time(5 * SECOND);
    assert!(world.nodes[halfway].opened().contains(&begun) && !world.nodes[late].opened().contains(&refused));
    world.send(client, session, b"still here");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"still here"]);
}
