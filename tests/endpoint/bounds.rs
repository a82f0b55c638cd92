//! Everything is bounded: each limit is reached, refuses what it must and is counted.

use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use dv_dtls::{CloseReason, Config, Connect, ConnectionIds, CookieSecret, Endpoint, Error, Event, ExportKey, Transmit};

use crate::contexts::*;
use crate::net::*;
use crate::{CID_LEN, NATIVE_RECORDS};

/// A server and `count` clients, of which the first `same_source` have one IP address.
fn crowd(config: Config, count: u16, same_source: u16) -> (World, usize, Vec<usize>) {
    let mut world = World::new(1);
    let server = world.add(server(), config);
    let context = client();
    let clients = (0..count)
        .map(|number| {
            let host = if number < same_source { 1 } else { 2 + (number % 200) as u8 };
            world.add_at(SocketAddr::from(([10, 1, 0, host], 1000 + number)), context.clone(), Config::default())
        })
        .collect();
    (world, server, clients)
}

fn connect_all(world: &mut World, clients: &[usize], server: usize) {
    for client in clients {
        world.connect(*client, server);
    }
}

#[test]
fn handshakes_in_all_and_of_one_source() {
    for (same_source, refused) in [(0, (2, 0)), (6, (0, 3))] {
        let config = settings(|s| {
            s.max_handshakes = 4;
            s.max_handshakes_per_source = 3;
        });
        let (mut world, server, clients) = crowd(config, 6, same_source);
        // Nobody goes on behind the hello with the cookie.
        let to = world.nodes[server].address;
        world.pass = Box::new(move |(_, t, bytes)| *t != to || bytes[13] == 1);
        connect_all(&mut world, &clients, server);
        world.pass_time(100 * MS);
        let endpoint = &world.nodes[server].endpoint;
        let stats = endpoint.stats();
        assert_eq!((stats.refused_handshakes, stats.refused_source), refused);
        assert_eq!(endpoint.handshakes() as u64, 6 - stats.refused_handshakes - stats.refused_source);
        // Those who were refused come again, and get in when there is room.
        world.pass = Box::new(|_| true);
        world.pass_time(30 * SECOND);
        assert_eq!(world.nodes[server].opened().len(), 6);
    }
}

/// Clients at one address, one after the other, each of which has brought its cookie back and goes no further.
fn at_one_address(world: &mut World, server: usize, count: usize) -> Vec<usize> {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    let clients: Vec<_> = (0..count).map(|_| world.add_at(address, client(), Config::default())).collect();
    let now = world.now;
    for &client in &clients {
        world.connect(client, server);
        let hello = world.nodes[client].endpoint.transmit(1).unwrap().bytes.to_vec();
        let at_server = world.nodes[server].address;
        let endpoint = &mut world.nodes[server].endpoint;
        endpoint.receive(now, &hello, address, None);
        let answers = iter::from_fn(|| endpoint.transmit(1).map(|transmit| transmit.bytes.to_vec()));
        // Before it stands what the server repeats for those before this one.
        let cookie = answers.last().unwrap();
        let of_client = &mut world.nodes[client].endpoint;
        of_client.receive(now, &cookie, at_server, None);
        let hello = of_client.transmit(1).unwrap().bytes.to_vec();
        world.nodes[server].endpoint.receive(now, &hello, address, None);
    }
    clients
}

#[test]
fn handshakes_of_one_address() {
    let (mut world, server, _) = World::pair(20);
    at_one_address(&mut world, server, 10);
    let endpoint = &world.nodes[server].endpoint;
    assert_eq!((endpoint.handshakes(), endpoint.stats().handshakes_begun, endpoint.stats().superseded), (4, 10, 6));
}

/// Of two that have begun the younger one may be the client's: it goes on when the older one has finished.
#[test]
fn a_handshake_that_has_finished_ends_no_younger_one() {
    let (mut world, server, _) = World::pair(21);
    let clients = at_one_address(&mut world, server, 2);
    let later = world.now + 1100 * MS;
    let [older, server] = world.nodes.get_disjoint_mut([clients[0], server]).unwrap();
    // What was for the younger one is lost; the older one repeats what it has said.
    while server.endpoint.transmit(1).is_some() {}
    older.endpoint.advance(later);
    for _ in 0..5 {
        carry(later, older.address, &mut older.endpoint, &mut server.endpoint);
        carry(later, server.address, &mut server.endpoint, &mut older.endpoint);
    }
    let stats = server.endpoint.stats();
    assert_eq!((stats.handshakes_finished, stats.superseded, server.endpoint.handshakes()), (1, 0, 1));
}

/// Whoever begins handshakes and does not go on has what others do not need.
#[test]
fn handshakes_of_one_source_keep_nobody_else_out() {
    let (mut world, server, clients) = crowd(settings(|s| s.max_handshakes = 4), 6, 5);
    let silent = world.nodes[clients[0]].address.ip();
    world.pass = Box::new(move |(from, _, bytes)| from.ip() != silent || bytes[13] == 1);
    connect_all(&mut world, &clients[..5], server);
    world.pass_time(100 * MS);
    let endpoint = &world.nodes[server].endpoint;
    assert_eq!((endpoint.handshakes(), endpoint.stats().refused_handshakes), (4, 1));
    world.open(clients[5], server);
    let endpoint = &world.nodes[server].endpoint;
    assert_eq!((endpoint.handshakes(), endpoint.stats().refused_handshakes, endpoint.stats().evicted), (3, 2, 0));
}

/// At its limit a source's own sessions make room, the longest idle one first, and nobody else's. Handshakes in progress
/// do not.
#[test]
fn sessions_of_one_source() {
    let (mut world, server, clients) = crowd(settings(|s| s.max_connections_per_source = 3), 6, 5);
    let (_, of_another) = world.open(clients[5], server);
    connect_all(&mut world, &clients[..4], server);
    world.pass_time(100 * MS);
    assert_eq!(world.nodes[server].opened().len(), 4);
    assert_eq!(world.nodes[server].endpoint.stats().refused_source, 1);
    // Who was refused comes again.
    world.pass_time(10 * SECOND);
    let opened = world.nodes[server].opened();
    assert_eq!((opened.len(), opened[0]), (5, of_another));
    assert_eq!(world.nodes[server].closed(), [(opened[1], CloseReason::Evicted)]);
    // It is the longest idle one that goes next.
    let from = |session| world.nodes[server].endpoint.info(session).unwrap().peer();
    let client = clients.iter().find(|client| world.nodes[**client].address == from(opened[2])).copied().unwrap();
    let ours = world.nodes[client].opened()[0];
    world.send(client, ours, b"not idle");
    world.settle();
    world.open(clients[4], server);
    world.settle();
    let evicted = [opened[1], opened[3]].map(|session| (session, CloseReason::Evicted));
    assert_eq!(world.nodes[server].closed(), evicted);
    assert_eq!((world.nodes[server].endpoint.stats().evicted, world.nodes[server].endpoint.sessions().count()), (2, 4));
}

#[test]
fn the_longest_idle_session_makes_room() {
    let (mut world, server, clients) = crowd(settings(|s| s.max_connections = 4), 5, 0);
    let sessions: Vec<_> = clients[..4].iter().map(|client| world.open(*client, server)).collect();
    // Neither who is heard is idle, nor who is spoken to.
    world.send(clients[0], sessions[0].0, b"not idle");
    world.settle();
    world.send(server, sessions[1].1, b"nor this one");
    world.settle();
    let (_, newest) = world.open(clients[4], server);
    world.settle();
    let (ours, theirs) = sessions[2];
    assert_eq!(world.nodes[server].closed(), [(theirs, CloseReason::Evicted)]);
    assert_eq!(world.nodes[clients[2]].closed(), [(ours, CloseReason::ByPeer)]);
    assert_eq!(world.nodes[server].endpoint.stats().evicted, 1);
    assert!(world.nodes[server].endpoint.info(newest).is_ok());
    assert_eq!(world.nodes[server].endpoint.sessions().count(), 4);
}

#[test]
fn a_full_house_of_handshakes_refuses() {
    let (mut world, server, clients) = crowd(settings(|s| s.max_connections = 2), 3, 0);
    let to = world.nodes[server].address;
    world.pass = Box::new(move |(_, t, bytes)| *t != to || bytes[13] == 1);
    connect_all(&mut world, &clients, server);
    world.pass_time(100 * MS);
    assert_eq!(world.nodes[server].endpoint.stats().refused_connections, 1);
}

#[test]
fn a_client_has_a_limit_too() {
    let mut world = World::new(2);
    let servers = [world.add(server(), Config::default()), world.add(server(), Config::default())];
    let client = world.add(client(), settings(|s| s.max_connections = 1));
    world.connect(client, servers[0]);
    assert_eq!(world.try_connect(client, servers[1], None), Err(Error::Limit));
}

#[test]
fn messages_that_nobody_reads() {
    let mut world = World::new(3);
    let server = world.add(server(), settings(|s| s.max_queued_messages = 5));
    let client = world.add(client(), Config::default());
    let (session, theirs) = world.open(client, server);
    let (from, now) = (world.nodes[client].address, world.now);
    for number in 0..8u8 {
        world.send(client, session, &[number]);
    }
    let mut sent = Vec::new();
    while let Some(transmit) = world.nodes[client].endpoint.transmit(1) {
        sent.push(transmit.bytes.to_vec());
    }
    let endpoint = &mut world.nodes[server].endpoint;
    sent.iter().for_each(|datagram| endpoint.receive(now, datagram, from, None));
    let mut message = Vec::new();
    for number in 0..5u8 {
        assert_eq!(endpoint.event(&mut message), Some(Event::Message { session: theirs }));
        assert_eq!(message, [number]);
    }
    assert_eq!(endpoint.event(&mut message), None);
    assert_eq!(endpoint.stats().messages_dropped, 3);
    // With the queue empty there is room again.
    world.send(client, session, b"again");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"again"]);
}

#[test]
fn bytes_that_nobody_reads() {
    let mut world = World::new(4);
    let server_context = server();
    let server =
        world.add(server_context, Config { max_waiting_bytes: 10_000, ..settings(|s| s.max_queued_messages = 1000) });
    let client = world.add(client(), Config::default());
    let (session, _) = world.open(client, server);
    let other = world.add(crate::contexts::client(), Config::default());
    let (from, now) = (world.nodes[client].address, world.now);
    for _ in 0..30 {
        world.send(client, session, &[1; 1000]);
    }
    while let Some(transmit) = world.nodes[client].endpoint.transmit(1) {
        let datagram = transmit.bytes.to_vec();
        world.nodes[server].endpoint.receive(now, &datagram, from, None);
    }
    let dropped = world.nodes[server].endpoint.stats().messages_dropped;
    assert!((19..=21).contains(&dropped), "{dropped}");

    // Strangers are not let in while that is so.
    world.connect(other, server);
    let mut hellos = 0;
    for _ in 0..2 {
        while let Some(transmit) = world.nodes[other].endpoint.transmit(1) {
            let datagram = transmit.bytes.to_vec();
            let from = world.nodes[other].address;
            world.nodes[server].endpoint.receive(now, &datagram, from, None);
            hellos += 1;
        }
        while let Some(transmit) = world.nodes[server].endpoint.transmit(1) {
            let (datagram, from) = (transmit.bytes.to_vec(), world.nodes[server].address);
            world.nodes[other].endpoint.receive(now, &datagram, from, None);
        }
    }
    let stats = world.nodes[server].endpoint.stats();
    assert_eq!((hellos, stats.refused_unread, stats.handshakes_begun), (2, 1, 1));
    world.pass_time(5 * SECOND);
    assert_eq!(world.nodes[server].opened().len(), 2);
}

#[test]
fn bytes_that_nobody_sends() {
    let mut world = World::new(5);
    let server = world.add(server(), Config::default());
    let client = world.add(client(), Config { max_waiting_bytes: 10_000, ..Config::default() });
    let (session, theirs) = world.open(client, server);
    let endpoint = &mut world.nodes[client].endpoint;
    let refused = (0..30).filter(|_| endpoint.send(session, &[1; 1000]) == Err(Error::Again)).count();
    assert!((20..=22).contains(&refused), "{refused}");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs).len(), 30 - refused);
    world.send(client, session, b"again");
}

/// What a session leaves behind takes up room until it has left, and no longer.
#[test]
fn sessions_that_end_with_messages_waiting() {
    let mut world = World::new(19);
    let server = world.add(server(), Config { max_waiting_bytes: 10_000, ..Config::default() });
    let client = world.add(client(), Config::default());
    for _ in 0..10 {
        let (_, session) = world.open(client, server);
        (0..5).for_each(|_| world.send(server, session, &[1; 1000]));
        world.nodes[server].endpoint.close(session).unwrap();
        world.settle();
    }
}

#[test]
fn answers_that_nobody_sends() {
    let mut world = World::new(6);
    let server = world.add(server(), Config { max_waiting_bytes: 1000, ..Config::default() });
    let client = world.add(client(), Config::default());
    world.connect(client, server);
    let hello = world.nodes[client].endpoint.transmit(1).unwrap().bytes.to_vec();
    for port in 1..=100 {
        world.inject(SocketAddr::from(([192, 0, 2, 1], port)), server, &hello);
    }
    let stats = world.nodes[server].endpoint.stats();
    world.settle();
    let answered = world.sent.len() as u64;
    assert!((10..25).contains(&answered));
    assert_eq!((stats.hellos_answered, stats.datagrams_dropped), (100, 100 - answered));
}

#[test]
fn datagrams_of_one_length_leave_together() {
    let (mut world, server, client) = World::pair(7);
    let (session, _) = world.open(client, server);
    for len in [100, 100, 100, 50, 100, 200] {
        world.send(client, session, &vec![1; len]);
    }
    let endpoint = &mut world.nodes[client].endpoint;
    let before = endpoint.stats().datagrams_out;
    let shape = |transmit: Option<Transmit<'_>>| {
        transmit.map(|t| (t.datagrams().map(|d| d.len()).collect::<Vec<_>>(), t.segment_size))
    };
    let overhead = 13 + 8 + 16 + if CID_LEN != 0 { CID_LEN + 1 } else { 0 };
    let (long, short, longer) = (100 + overhead, 50 + overhead, 200 + overhead);
    assert_eq!(shape(endpoint.transmit(2)), Some((vec![long, long], Some(long))));
    assert_eq!(shape(endpoint.transmit(64)), Some((vec![long, short], Some(long))));
    assert_eq!(shape(endpoint.transmit(64)), Some((vec![long], None)));
    assert_eq!(shape(endpoint.transmit(64)), Some((vec![longer], None)));
    assert_eq!(shape(endpoint.transmit(64)), None);
    assert_eq!(endpoint.stats().datagrams_out - before, 6);
    // Not more than the kernel takes at once.
    for _ in 0..100 {
        world.send(client, session, &[1; 1100]);
    }
    let most = world.nodes[client].endpoint.transmit(1000).unwrap().bytes.len();
    assert!((60_000..=65_507).contains(&most), "{most}");
}

#[test]
fn replies_leave_from_the_address_that_the_peer_spoke_to() {
    let (mut world, server, client) = World::pair(8);
    let (_, theirs) = world.open(client, server);
    let ip = world.nodes[server].address.ip();
    let endpoint = &mut world.nodes[server].endpoint;
    endpoint.send(theirs, b"x").unwrap();
    assert_eq!(endpoint.transmit(1).unwrap().from, Some(ip));
    endpoint.close(theirs).unwrap();
    assert_eq!(endpoint.transmit(1).unwrap().from, Some(ip));
}

#[test]
fn settings_that_make_no_sense() {
    let invalid = |config| matches!(Endpoint::new(server(), config), Err(Error::Invalid(_)));
    assert!(invalid(settings(|s| s.mtu = 255)));
    assert!(invalid(settings(|s| s.mtu = 0)));
    let theirs = server_with("server-ecdsa", |context| {
        context.set_cookie_generate_cb(|_, _| Ok(0));
        context.set_cookie_verify_cb(|_, _| true);
    });
    assert!(matches!(Endpoint::new(theirs.clone(), Config::default()), Err(Error::Invalid(_))));
    assert!(Endpoint::new(theirs.clone(), Config { accept: false, ..Config::default() }).is_ok());
    assert!(matches!(Endpoint::new(server(), Config::default()).unwrap().set_context(theirs), Err(Error::Invalid(_))));
}

#[test]
fn messages_that_cannot_be_sent() {
    let (mut world, server, client) = World::pair(9);
    let session = world.connect(client, server);
    let endpoint = &mut world.nodes[client].endpoint;
    assert_eq!(endpoint.send(session, b"early"), Err(Error::NotEstablished));
    assert_eq!(endpoint.info(session).unwrap().export("label", None, &mut [0; 8]), Err(Error::NotEstablished));
    world.settle();
    let endpoint = &mut world.nodes[client].endpoint;
    assert!(matches!(endpoint.send(session, b""), Err(Error::Invalid(_))));
    assert!(matches!(endpoint.send(session, &[0; 1280]), Err(Error::TooLong { .. })));
    assert_eq!(endpoint.stats().messages_too_long, 1);
}

/// What one server has challenged, another with the same secret accepts.
#[test]
fn a_fleet_shares_its_cookies() {
    let fleet = || Config {
        cookie_secret: Some(CookieSecret::new(*b"secret of the fleet.", 99 * SECOND)),
        ..Config::default()
    };
    let stranger = || Config::default();
    for (second, begun) in [(fleet(), 1), (stranger(), 0)] {
        let mut world = World::new(10);
        let (a, b) = (world.add(server(), fleet()), world.add(server(), second));
        let client = world.add(client(), Config::default());
        world.connect(client, a);
        let at_a = world.nodes[a].address;
        assert!(world.run(SECOND, |world| world.sent.iter().any(|(from, _, _)| *from == at_a)));
        // The rest goes to the other one.
        world.nodes[a].address = SocketAddr::from(([10, 0, 0, 99], 1));
        world.nodes[b].address = at_a;
        world.pass_time(10 * MS);
        assert_eq!(world.nodes[b].endpoint.stats().handshakes_begun, begun);
    }
    assert_eq!(format!("{:?}", fleet().cookie_secret), "Some(CookieSecret(..))");
}

#[test]
fn a_child_process_refuses_to_send() {
    let (mut world, server, client) = World::pair(11);
    let (session, theirs) = world.open(client, server);
    world.send(client, session, b"waits");
    let (address, key) = (world.nodes[server].address, ExportKey::new([7; ExportKey::LEN]));
    // At the server it is an answer to a stranger that waits.
    let mut stranger = Endpoint::new(client_with(|_| {}), Config::default()).unwrap();
    stranger.connect(0, &Connect::to(address)).unwrap();
    let hello = stranger.transmit(1).unwrap().bytes;
    world.inject(([10, 0, 0, 99], 1).into(), server, hello);
    // SAFETY: the child calls nothing but the endpoint, which takes no lock, and leaves without unwinding.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: the call takes no pointer. Should the child wait for something, it ends, and the test fails.
        unsafe { libc::alarm(20) };
        let endpoint = &mut world.nodes[client].endpoint;
        let refused = endpoint.send(session, b"child") == Err(Error::Forked)
            && endpoint.transmit(1).is_none()
            && matches!(endpoint.connect(0, &dv_dtls::Connect::to(address)), Err(Error::Forked))
            && matches!(endpoint.export(&key, &mut Vec::new()), Err(Error::Forked))
            && endpoint.close(session).is_ok()
            && endpoint.transmit(1).is_none();
        let answers = world.nodes[server].endpoint.transmit(1).is_some();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!refused || answers)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert!(world.nodes[server].endpoint.transmit(1).is_some());
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"waits"]);
}

/// Carries what one has to say to the other.
fn carry(now: u64, from: SocketAddr, one: &mut Endpoint, other: &mut Endpoint) {
    while let Some(transmit) = one.transmit(1) {
        other.receive(now, transmit.bytes, from, None);
    }
}

/// A clock that comes to its end stands still: nothing overflows, and nothing is due before its time.
#[test]
fn at_the_end_of_time() {
    let addresses = [1, 2, 3].map(|host| SocketAddr::from(([10, 2, 0, host], 5684)));
    for begin in [u64::MAX - 2 * SECOND, u64::MAX - 5 * MS, u64::MAX] {
        let mut config = settings(|s| s.native_records = NATIVE_RECORDS);
        config.connection_ids = (CID_LEN != 0).then(|| ConnectionIds { len: CID_LEN, ..ConnectionIds::default() });
        let (mut client, mut server) =
            (Endpoint::new(client(), config.clone()).unwrap(), Endpoint::new(server(), config).unwrap());
        let session = client.connect(begin, &Connect::to_named(addresses[1], "localhost")).unwrap();
        let mut heard = Vec::new();
        for step in 0..20 {
            let now = begin.saturating_add(step * MS);
            // At last from somewhere else, with connection IDs.
            let from = addresses[if step > 15 && CID_LEN != 0 { 2 } else { 0 }];
            carry(now, from, &mut client, &mut server);
            carry(now, addresses[1], &mut server, &mut client);
            for endpoint in [&mut client, &mut server] {
                endpoint.advance(now);
                assert!(endpoint.deadline() > now || now == u64::MAX);
            }
            let mut message = Vec::new();
            while let Some(event) = server.event(&mut message) {
                match event {
                    Event::Message { session } => {
                        heard.push(message.clone());
                        assert!(matches!(server.send(session, &message), Ok(()) | Err(Error::Unproven)));
                    }
                    Event::Closed { reason, .. } => panic!("{reason:?}"),
                    _ => {}
                }
            }
            while let Some(event) = client.event(&mut message) {
                assert!(!matches!(event, Event::Closed { .. }), "{event:?}");
            }
            if step > 10 {
                client.send(session, &[step as u8]).unwrap();
            }
        }
        assert_eq!(heard, (11..19).map(|step| vec![step]).collect::<Vec<_>>());
        assert_eq!(server.stats().peers_moved, u64::from(CID_LEN != 0));
        server.advance(u64::MAX);
        assert_eq!(server.deadline(), u64::MAX);
    }
}

/// A program's clock may stand still, go back, begin at zero or jump by years: nothing overflows, no call does more than there
/// is to do, and each deadline comes, counted from the latest time that there was.
#[test]
fn whatever_the_clock_does() {
    const YEAR: u64 = 365 * 24 * 3600 * SECOND;
    let (ours, theirs) = ("10.2.0.1:5684".parse().unwrap(), "10.2.0.2:5684".parse().unwrap());
    let (context, server_context) = (client(), server());
    for seed in 1..=40u64 {
        let mut config = settings(|s| {
            s.native_records = NATIVE_RECORDS;
            s.idle_timeout = Duration::from_secs(30);
        });
        config.connection_ids = (CID_LEN != 0).then(|| ConnectionIds { len: CID_LEN, ..ConnectionIds::default() });
        let (mut client, mut server) = (
            Endpoint::new(context.clone(), config.clone()).unwrap(),
            Endpoint::new(server_context.clone(), config).unwrap(),
        );
        let (mut now, mut latest, mut random) = (0u64, 0, seed);
        let mut message = Vec::new();
        for step in 0..60u16 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            now = match random >> 60 {
                0 => 0,
                1 => now.saturating_sub(SECOND),
                2 => now + 10 * YEAR,
                3 => now + SECOND,
                4..8 => now,
                _ => now + MS,
            };
            latest = latest.max(now);
            // One that answers, and others that never do.
            let _ = client.connect(now, &Connect::to_named(theirs, "localhost"));
            client.connect(now, &Connect::to(SocketAddr::from(([192, 0, 2, 1], step + 1)))).unwrap();
            for _ in 0..4 {
                carry(now, ours, &mut client, &mut server);
                carry(now, theirs, &mut server, &mut client);
            }
            for endpoint in [&mut client, &mut server] {
                // What falls due is at most a repetition or an end of each.
                let mut calls = 0;
                while endpoint.deadline() <= latest {
                    endpoint.advance(now);
                    calls += 1;
                    assert!(calls < 10, "seed {seed}, at {now}");
                }
                while endpoint.event(&mut message).is_some() {}
            }
        }
        assert!(server.stats().handshakes_finished > 0, "seed {seed}");
        for endpoint in [&mut client, &mut server] {
            for second in 0..200 {
                endpoint.advance(latest + second * SECOND);
                while endpoint.event(&mut message).is_some() {}
                while endpoint.transmit(64).is_some() {}
            }
            assert_eq!((endpoint.sessions().count(), endpoint.handshakes()), (0, 0), "seed {seed}");
            assert_eq!(endpoint.deadline(), u64::MAX);
        }
    }
}

/// A session that is always sent more than leaves keeps no other one from being served, and no newcomer from an answer. Nor
/// does a flood of newcomers keep the sessions waiting.
#[test]
fn nobody_waits_for_those_that_always_have_more() {
    let mut world = World::new(14);
    let server = world.add(server(), Config { max_waiting_bytes: 32 << 10, ..Config::default() });
    let context = client();
    let [greedy, modest, newcomer] = [0; 3].map(|_| world.add(context.clone(), Config::default()));
    let [(_, always), (_, once)] = [greedy, modest].map(|client| world.open(client, server));
    world.connect(newcomer, server);
    let now = world.now;
    let [of_greedy, of_modest, of_newcomer] = [greedy, modest, newcomer].map(|node| world.nodes[node].address);
    let hello = world.nodes[newcomer].endpoint.transmit(1).unwrap().bytes.to_vec();
    let endpoint = &mut world.nodes[server].endpoint;
    // To the last byte: a message of one byte is shorter than an answer to a hello.
    let fill = |endpoint: &mut Endpoint| [1000, 1].map(|len| while endpoint.send(always, &[0; 1000][..len]).is_ok() {});
    // The greedy one is the first whose turn it is.
    fill(endpoint);
    endpoint.send(once, b"hello").unwrap();
    (1..=20).for_each(|port| endpoint.receive(now, &hello, SocketAddr::new(of_newcomer.ip(), port), None));
    let mut served = Vec::new();
    for _ in 0..50 {
        fill(endpoint);
        served.push(endpoint.transmit(1).unwrap().to);
    }
    assert_eq!(served[..2], [of_greedy, of_modest]);
    let newcomers = served.iter().filter(|to| to.ip() == of_newcomer.ip()).count();
    assert!((2..5).contains(&newcomers), "{served:?}");
}

/// A session that takes all the room that it can get leaves some for the others, and these for each other.
#[test]
fn a_greedy_session_leaves_room_for_others() {
    let mut world = World::new(15);
    let server = world.add(server(), Config { max_waiting_bytes: 1 << 20, ..Config::default() });
    let context = client();
    let sessions: Vec<_> = (0..4)
        .map(|_| {
            let client = world.add(context.clone(), Config::default());
            world.open(client, server).1
        })
        .collect();
    let endpoint = &mut world.nodes[server].endpoint;
    let taken: Vec<usize> = sessions
        .iter()
        .map(|session| (0..).take_while(|_| endpoint.send(*session, &[0; 1000]).is_ok()).count())
        .collect();
    // The first has the most of it, and the last still has some.
    assert!(taken[0] > 800 && taken[0] < 1048, "{taken:?}");
    assert!(taken[1] > 10 && taken[2] > 0, "{taken:?}");
    endpoint.transmit(1).unwrap();
    endpoint.send(sessions[3], b"a word").unwrap();
}
