//! The endpoint that imports them: what it knows of a session, and goes on with.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use dv_dtls::engine::records::SKIPPED;
use dv_dtls::wire::record::{content_type, records};
use dv_dtls::{
    CloseReason, Config, Connect, ConnectionIds, Endpoint, Error, Event, Exported, Imported, Info, Session, State,
};
use openssl::ssl::SslContextBuilder;

use crate::contexts::*;
use crate::net::*;
use crate::pair::{Pair, assert_no_number_twice, told};
use crate::{export, import};

/// Clients that talk all the time hear nothing but answers, on a network that loses nothing, whoever answers them.
#[test]
fn clients_notice_nothing() {
    const CLIENTS: usize = 200;
    let mut world = World::new(1);
    let server_context = server();
    let server = world.add(server_context.clone(), Config::default());
    world.nodes[server].echo = true;
    let clients: Vec<usize> = (0..CLIENTS).map(|_| world.add(client(), Config::default())).collect();
    let sessions: Vec<_> = clients.iter().map(|client| world.open(*client, server)).collect();
    for (user, (_, theirs)) in sessions.iter().enumerate() {
        world.nodes[server].endpoint.set_user(*theirs, user as u64).unwrap();
    }
    let mut numbers = 0_u32;
    for round in 0..5 {
        // The exports come in the middle of it: some of what was sent is on its way, to the server and from it.
        for burst in 0..6 {
            for (client, (ours, _)) in clients.iter().zip(&sessions) {
                world.send(*client, *ours, &numbers.to_be_bytes());
            }
            numbers += 1;
            let step = if burst == 3 { 1500 } else { 100 * (burst + 1) };
            world.pass_time(step);
        }
        let (bytes, exported) = export(&mut world.nodes[server].endpoint);
        assert_eq!(exported, Exported { sessions: CLIENTS, left: 0 });
        assert!(bytes.len() <= 300 * CLIENTS, "{} bytes each", bytes.len() / CLIENTS);
        let mut new = Endpoint::new(server_context.clone(), Config::default()).unwrap();
        assert_eq!(import(&mut new, world.now, &bytes), Imported { sessions: CLIENTS, skipped: 0 });
        let node = &mut world.nodes[server];
        let mut old = std::mem::replace(&mut node.endpoint, new);
        old.commit_export().unwrap();
        let closed = told(&mut old);
        assert_eq!(closed.len(), CLIENTS, "round {round}");
        assert!(closed.iter().all(|event| matches!(event, Event::Closed { reason: CloseReason::Exported, .. })));
        assert_eq!(old.transmit(64), None);
        let peers: HashSet<SocketAddr> =
            node.endpoint.sessions().map(|session| node.endpoint.info(session).unwrap().peer()).collect();
        assert_eq!(peers.len(), CLIENTS);
        let users: HashSet<u64> =
            node.endpoint.sessions().map(|session| node.endpoint.info(session).unwrap().user()).collect();
        assert_eq!(users, (0..CLIENTS as u64).collect());
    }
    world.pass_time(SECOND);
    for (client, (ours, _)) in clients.iter().zip(&sessions) {
        let node = &world.nodes[*client];
        let mut answers: Vec<u32> =
            node.messages(*ours).iter().map(|bytes| u32::from_be_bytes((*bytes).try_into().unwrap())).collect();
        answers.sort_unstable();
        assert_eq!(answers, (0..numbers).collect::<Vec<_>>());
        assert_eq!(node.events.len(), 1 + answers.len(), "nothing but being open, and answers");
    }
    assert!(assert_no_number_twice(&world) > 2 * CLIENTS * numbers as usize);
}

/// The new one goes on so far ahead that the old one could have said a million things more.
#[test]
fn numbers_are_left_out() {
    let mut pair = Pair::new();
    let theirs = pair.theirs;
    pair.world.send(pair.server, theirs, b"old");
    pair.world.settle();
    pair.move_node(pair.server, server());
    pair.talk();
    let from = pair.world.nodes[pair.server].address;
    let records = pair.world.sent_by(from).flat_map(|bytes| records(bytes));
    let numbers: Vec<u64> = records.filter(|record| record.epoch == 1).map(|record| record.sequence).collect();
    // The Finished, a message, and the one of the new endpoint.
    assert_eq!(numbers[..2], [0, 1]);
    assert!(numbers.len() == 3 && numbers[2] >= 2 + SKIPPED, "{numbers:?}");
    assert_no_number_twice(&pair.world);
}

/// Nobody should, but a copy of an export has been imported as well: the two do not meet.
#[test]
fn two_that_go_on_repeat_no_number() {
    let mut pair = Pair::new();
    let (now, (bytes, _)) = (pair.world.now, export(pair.server()));
    let mut numbers = HashSet::new();
    for _ in 0..2 {
        let mut new = Endpoint::new(server(), Config::default()).unwrap();
        import(&mut new, now, &bytes);
        let session = told(&mut new)[0].session();
        for _ in 0..1000 {
            new.send(session, b"hello").unwrap();
            let sent = new.transmit(1).unwrap();
            assert!(records(sent.bytes).all(|record| record.epoch == 1 && numbers.insert(record.sequence)));
        }
    }
    assert_eq!(numbers.len(), 2000);
}

fn psk(context: &mut SslContextBuilder) {
    context.set_cipher_list("PSK-AES256-GCM-SHA384").unwrap();
    context.set_psk_server_callback(|_, _, key| {
        key[..4].copy_from_slice(b"key!");
        Ok(4)
    });
    context.set_psk_client_callback(|_, _, identity, key| {
        identity[..6].copy_from_slice(b"alice\0");
        key[..4].copy_from_slice(b"key!");
        Ok(4)
    });
}

/// All that a program can read from a session.
fn facts(info: &Info<'_>) -> String {
    let mut exported = [0; 40];
    info.export("EXPORTER-test", Some(b"context"), &mut exported).unwrap();
    format!(
        "{:?}",
        (
            (info.peer(), info.local(), info.user(), info.is_server(), info.state(), info.message_max()),
            (
                info.alpn(),
                info.server_name(),
                info.cipher(),
                info.is_resumed(),
                info.psk_identity(),
                info.srtp_profile()
            ),
            info.peer_certificate().map(|certificate| certificate.to_der().unwrap()),
            info.verify_result(),
            exported,
        )
    )
}

#[test]
fn what_a_program_can_read_travels() {
    let alpn = |context: &mut SslContextBuilder| {
        context.set_alpn_select_callback(|_, _| Ok(b"coap"));
        context.set_tlsext_use_srtp("SRTP_AEAD_AES_128_GCM").unwrap();
    };
    let with_all = || {
        server_with("server-ecdsa", |context| {
            alpn(context);
            context.set_ca_file(cert("ca.pem")).unwrap();
            context.set_verify(openssl::ssl::SslVerifyMode::PEER);
            context.set_session_id_context(b"test").unwrap();
        })
    };
    let client_with_all = || {
        client_with(|context| {
            context.set_certificate_chain_file(cert("client.pem")).unwrap();
            context.set_private_key_file(cert("client.key"), openssl::ssl::SslFiletype::PEM).unwrap();
            context.set_alpn_protos(b"\x04coap").unwrap();
            context.set_tlsext_use_srtp("SRTP_AEAD_AES_128_GCM").unwrap();
            context.set_cipher_list("ECDHE-ECDSA-CHACHA20-POLY1305").unwrap();
        })
    };
    let with_psk = || server_with("server-ecdsa", psk);
    for (at_server, at_client, has_certificate) in
        [(with_all(), client_with_all(), true), (with_psk(), client_with(psk), false), (server(), client(), false)]
    {
        let mut pair = Pair::with(at_server.clone(), at_client.clone());
        let theirs = pair.theirs;
        pair.server().set_user(theirs, 42).unwrap();
        for (node, context) in [(pair.server, &at_server), (pair.client, &at_client)] {
            let session = if node == pair.server { pair.theirs } else { pair.ours };
            let info = pair.world.nodes[node].endpoint.info(session).unwrap();
            let before = facts(&info);
            assert!(!info.is_imported());
            assert!(node == pair.client || info.peer_certificate().is_some() == has_certificate, "{before}");
            let mut old = pair.move_node(node, context.clone());
            assert_eq!(old.info(session).unwrap().state(), State::Closed(CloseReason::Exported));
            old.commit_export().unwrap();
            assert_eq!(told(&mut old), [Event::Closed { session, reason: CloseReason::Exported }]);
            pair.world.settle();
            let new = pair.world.nodes[node].opened()[0];
            let info = pair.world.nodes[node].endpoint.info(new).unwrap();
            assert_eq!(facts(&info), before);
            assert!(info.is_imported());
            if node == pair.client {
                pair.ours = new;
            }
        }
        pair.talk();
        // A client can still resume its session.
        if !has_certificate {
            let ours = pair.ours;
            let Some(ticket) = pair.world.nodes[pair.client].endpoint.info(ours).unwrap().resumption() else {
                panic!("no ticket")
            };
            pair.world.nodes[pair.client].endpoint.close(ours).unwrap();
            pair.world.settle();
            let to = pair.world.nodes[pair.server].address;
            let connect = Connect { resume: Some(&ticket), ..Connect::to_named(to, "localhost") };
            let now = pair.world.now;
            let again = pair.world.nodes[pair.client].endpoint.connect(now, &connect).unwrap();
            assert!(pair.world.run(SECOND, |world| world.nodes[pair.client].opened().contains(&again)));
            assert!(pair.world.nodes[pair.client].endpoint.info(again).unwrap().is_resumed());
        }
    }
}

#[test]
fn what_has_come_before_is_a_replay_afterwards() {
    let mut pair = Pair::new();
    let address = pair.world.nodes[pair.client].address;
    // One is late.
    let ours = pair.ours;
    pair.world.pass = Box::new(|_| false);
    pair.world.send(pair.client, ours, b"late");
    pair.world.settle();
    pair.world.pass = Box::new(|_| true);
    pair.world.send(pair.client, ours, b"in time");
    pair.world.settle();
    let sent: Vec<Vec<u8>> = pair.world.sent_by(address).cloned().collect();
    pair.move_node(pair.server, server());
    for bytes in &sent {
        pair.world.inject(address, pair.server, bytes);
    }
    pair.world.settle();
    let theirs = pair.world.nodes[pair.server].opened()[0];
    assert_eq!(pair.world.nodes[pair.server].messages(theirs), [b"late"]);
    pair.talk();
}

#[test]
fn idle_time_is_counted_on() {
    let mut pair = Pair::new();
    pair.world.pass_time(3 * SECOND);
    let (bytes, _) = export(pair.server());
    let config = settings(|settings| settings.idle_timeout = Duration::from_secs(5));
    let mut new = Endpoint::new(server(), config).unwrap();
    // Another process may have another clock.
    import(&mut new, 100 * SECOND, &bytes);
    let session = told(&mut new)[0].session();
    new.advance(101 * SECOND);
    assert_eq!(told(&mut new), []);
    new.advance(102 * SECOND + 1000);
    assert_eq!(told(&mut new), [Event::Closed { session, reason: CloseReason::IdleTimeout }]);
}

/// The client has not got it, and its Finished, repeated, finds another process.
#[test]
fn a_lost_last_flight_is_sent_by_the_new_one() {
    let quick = || {
        settings(|s| {
            s.first_timeout = Duration::from_millis(100);
            s.longest_timeout = Duration::from_millis(100);
        })
    };
    let mut world = World::new(3);
    // The client's repetition is libssl's, which goes by the wall clock.
    world.real = true;
    let at_server = world.add(server(), quick());
    let client = world.add(client(), quick());
    let address = world.nodes[at_server].address;
    world.pass = Box::new(move |(from, _, bytes)| {
        *from != address
            || records(bytes).all(|record| record.epoch == 0 && record.content_type != content_type::CHANGE_CIPHER_SPEC)
    });
    let ours = world.connect(client, at_server);
    assert!(world.run(SECOND, |world| !world.nodes[at_server].opened().is_empty()));
    assert_eq!(world.nodes[client].opened(), []);
    let (bytes, _) = export(&mut world.nodes[at_server].endpoint);
    let mut new = Endpoint::new(server(), quick()).unwrap();
    import(&mut new, world.now, &bytes);
    world.nodes[at_server].endpoint = new;
    world.nodes[at_server].events.clear();
    world.pass = Box::new(|_| true);
    assert!(world.run(SECOND, |world| world.nodes[client].opened() == [ours]));
    let mut pair = Pair { world, server: at_server, client, theirs: ours, ours };
    pair.talk();
    // And is not kept any longer.
    assert!(pair.server().stats().flights_resent_on_repeat > 0);
    assert!(export(pair.server()).0.len() < bytes.len());
}

#[test]
fn who_has_begun_anew_keeps_that() {
    let mut pair = Pair::new();
    let (bytes, _) = export(pair.server());
    pair.world.nodes[pair.server].endpoint = Endpoint::new(server(), Config::default()).unwrap();
    pair.world.nodes[pair.server].events.clear();
    let address = pair.world.nodes[pair.client].address;
    pair.world.nodes[pair.client].endpoint = Endpoint::new(client(), Config::default()).unwrap();
    pair.world.nodes[pair.client].events.clear();
    let (ours, theirs) = pair.world.open(pair.client, pair.server);
    let now = pair.world.now;
    assert_eq!(import(pair.server(), now, &bytes), Imported { sessions: 0, skipped: 1 });
    assert_eq!(pair.server().sessions().collect::<Vec<_>>(), [theirs]);
    pair.ours = ours;
    pair.talk();
    assert_eq!(pair.server().info(theirs).unwrap().peer(), address);
}

/// A handshake that has begun before the import ends the session that came in with it, as one from afterwards would.
#[test]
fn who_was_about_to_begin_anew_keeps_that() {
    let mut pair = Pair::new();
    let (bytes, _) = export(pair.server());
    for (node, context) in [(pair.server, server()), (pair.client, client())] {
        pair.world.nodes[node].endpoint = Endpoint::new(context, Config::default()).unwrap();
        pair.world.nodes[node].events.clear();
    }
    let (server, client) = (pair.server, pair.client);
    let ours = pair.world.connect(client, server);
    assert!(pair.world.run(SECOND, |world| world.nodes[server].endpoint.handshakes() == 1));
    let now = pair.world.now;
    assert_eq!(import(pair.server(), now, &bytes), Imported { sessions: 1, skipped: 0 });
    assert!(pair.world.run(30 * SECOND, |world| world.nodes[client].opened() == [ours]));
    pair.world.settle();
    let [imported, begun] = pair.world.nodes[server].opened()[..] else { panic!("two sessions") };
    assert_eq!(pair.world.nodes[server].closed(), [(imported, CloseReason::Restarted)]);
    assert_eq!(pair.server().sessions().collect::<Vec<_>>(), [begun]);
    pair.ours = ours;
    pair.talk();
}

#[test]
fn more_than_there_may_be_are_refused_whole() {
    let mut world = World::new(1);
    let server_node = world.add(server(), Config::default());
    for _ in 0..3 {
        let client = world.add(client(), Config::default());
        world.open(client, server_node);
    }
    let (bytes, _) = export(&mut world.nodes[server_node].endpoint);
    let read = || dv_dtls::Export::read(&mut &bytes[..], &crate::key()).unwrap();
    let mut small = Endpoint::new(server(), settings(|settings| settings.max_connections = 2)).unwrap();
    assert_eq!(small.import(world.now, read()), Err(Error::Limit));
    assert_eq!(told(&mut small), []);
    let mut enough = Endpoint::new(server(), settings(|settings| settings.max_connections = 3)).unwrap();
    assert_eq!(enough.import(world.now, read()), Ok(Imported { sessions: 3, skipped: 0 }));
    assert_eq!(told(&mut enough).len(), 3);
}

/// From one to the next, and to the next.
#[test]
fn again_and_again() {
    let mut pair = Pair::new();
    for _ in 0..20 {
        let mut old = pair.move_node(pair.server, server());
        old.commit_export().unwrap();
        pair.talk();
        let mut old = pair.move_node(pair.client, client());
        old.commit_export().unwrap();
        pair.world.settle();
        pair.ours = pair.world.nodes[pair.client].opened()[0];
        pair.talk();
    }
    assert_no_number_twice(&pair.world);
}

fn with_ids(len: usize, padding: u16) -> Config {
    let ids = ConnectionIds { len, padding, server_id: vec![7; len.min(1)], ..ConnectionIds::default() };
    Config { connection_ids: Some(ids), ..Config::default() }
}

/// Sessions with connection IDs are known by them in the new process, wherever their peers are by then.
#[test]
fn connection_ids_travel() {
    for (at_server, at_client) in [(8, 8), (8, 0), (0, 5)] {
        let mut world = World::new(1);
        let node = world.add(server(), with_ids(at_server, 16));
        let client = world.add(client(), with_ids(at_client, 0));
        let (ours, theirs) = world.open(client, node);
        let ids = |endpoint: &Endpoint, session: Session| {
            let info = endpoint.info(session).unwrap();
            (info.connection_id().to_vec(), info.peer_connection_id().to_vec())
        };
        let before = ids(&world.nodes[node].endpoint, theirs);
        assert_eq!((before.0.len(), before.1.len()), (at_server, at_client));
        let (bytes, _) = export(&mut world.nodes[node].endpoint);

        // Who has IDs of another length would never find its sessions.
        let mut other = Endpoint::new(server(), with_ids(4, 0)).unwrap();
        let read = || dv_dtls::Export::read(&mut &bytes[..], &crate::key()).unwrap();
        let refused = other.import(world.now, read());
        assert_eq!(refused.is_err(), at_server > 0, "{refused:?}");
        assert!(at_server == 0 || matches!(refused, Err(Error::Invalid(why)) if why.contains("8 bytes")));

        let mut new = Endpoint::new(server(), with_ids(at_server, 16)).unwrap();
        assert_eq!(import(&mut new, world.now, &bytes), Imported { sessions: 1, skipped: 0 });
        assert_eq!(import(&mut new, world.now, &bytes), Imported { sessions: 0, skipped: 1 }, "somebody has that ID");
        world.nodes[node].endpoint = new;
        world.nodes[node].events.clear();
        let mut pair = Pair { world, server: node, client, theirs, ours };
        pair.talk();
        let theirs = pair.theirs;
        assert_eq!(ids(pair.server(), theirs), before);
        if at_server > 0 {
            let elsewhere = SocketAddr::from(([10, 0, 1, 1], 1));
            pair.world.nodes[client].address = elsewhere;
            pair.talk();
            assert_eq!(pair.server().info(theirs).unwrap().peer(), elsewhere);
        }
        assert_no_number_twice(&pair.world);
    }
}

/// An address that has not shown that it receives is none that somebody else is told of.
#[test]
fn an_unproven_address_does_not_travel() {
    let mut world = World::new(1);
    let node = world.add(server(), with_ids(8, 0));
    let client = world.add(client(), with_ids(8, 0));
    let (ours, theirs) = world.open(client, node);
    let home = world.nodes[client].address;
    let elsewhere = SocketAddr::from(([10, 0, 1, 1], 1));
    // The server's questions get no answer.
    world.pass = Box::new(move |(_, to, _)| *to != elsewhere);
    world.nodes[client].address = elsewhere;
    world.send(client, ours, b"here I am");
    world.settle();
    let info = world.nodes[node].endpoint.info(theirs).unwrap();
    assert_eq!((info.peer(), info.is_peer_proven()), (elsewhere, false));
    let (bytes, _) = export(&mut world.nodes[node].endpoint);
    let mut new = Endpoint::new(server(), with_ids(8, 0)).unwrap();
    import(&mut new, world.now, &bytes);
    let session = new.sessions().next().unwrap();
    let info = new.info(session).unwrap();
    assert_eq!((info.peer(), info.is_peer_proven()), (home, true));
    // Where it is, it can say again.
    world.pass = Box::new(|_| true);
    world.nodes[node].endpoint = new;
    world.nodes[node].events.clear();
    let mut pair = Pair { world, server: node, client, theirs: session, ours };
    pair.talk();
    let info = pair.world.nodes[node].endpoint.info(session).unwrap();
    assert_eq!((info.peer(), info.is_peer_proven()), (elsewhere, true));
}
