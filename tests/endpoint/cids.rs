//! Connection IDs (RFC 9146): who carries which, what is done with those that are not as they should be.

use std::net::SocketAddr;
use std::sync::RwLock;

use dv_dtls::wire::record::{Record, content_type, records, records_with};
use dv_dtls::{CloseReason, Config, Connect, ConnectionIds, Endpoint, Error, Event, Session};
use openssl::ssl::{ExtensionContext, SslContext};

use crate::contexts::*;
use crate::net::*;

const SUITES: [&str; 3] =
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];

pub fn ids(len: usize) -> Config {
    with_ids(|ids| ids.len = len)
}

pub fn with_ids(set: impl FnOnce(&mut ConnectionIds)) -> Config {
    let mut ids = ConnectionIds::default();
    set(&mut ids);
    Config { connection_ids: Some(ids), ..Config::default() }
}

pub fn without() -> Config {
    Config::default()
}

pub fn with_suite(suite: &str) -> (SslContext, SslContext) {
    (
        server_with("server-ecdsa", |context| context.set_cipher_list(suite).unwrap()),
        client_with(|context| context.set_cipher_list(suite).unwrap()),
    )
}

/// All records that went from one address, for a receiver whose IDs are so long.
fn records_from(world: &World, from: SocketAddr, cid_len: usize) -> Vec<(u8, u16, u64, Vec<u8>)> {
    let of = |record: Record<'_>| (record.content_type, record.epoch, record.sequence, record.cid.to_vec());
    world.sent_by(from).flat_map(|bytes| records_with(bytes, cid_len).map(of)).collect()
}

fn cids(endpoint: &Endpoint, session: Session) -> (Vec<u8>, Vec<u8>) {
    let info = endpoint.info(session).unwrap();
    (info.connection_id().to_vec(), info.peer_connection_id().to_vec())
}

/// Messages of several lengths both ways.
pub fn talk(world: &mut World, (client, ours): (usize, Session), (server, theirs): (usize, Session)) {
    for (from, at, to, there) in [(client, ours, server, theirs), (server, theirs, client, ours)] {
        let most = world.nodes[from].endpoint.info(at).unwrap().message_max();
        for len in [1, 15, 16, 17, most - 1, most] {
            let message: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            world.send(from, at, &message);
            world.settle();
            assert_eq!(*world.nodes[to].messages(there).last().unwrap(), message, "{len} of {most}");
        }
        let error = world.nodes[from].endpoint.send(at, &vec![0; most + 1]).unwrap_err();
        assert_eq!(error, Error::TooLong { max: most });
    }
    assert!(world.sent.iter().all(|(.., bytes)| bytes.len() <= 1280 - 28));
}

#[test]
fn each_suite_with_ids_of_each_length_and_padding() {
    for suite in SUITES {
        for (at_client, at_server, padding) in
            [(0, 8, 0), (8, 0, 0), (0, 0, 0), (1, 1, 1), (8, 8, 0), (32, 32, 0), (1, 32, 16), (8, 8, 64), (0, 8, 37)]
        {
            let (server, client) = with_suite(suite);
            let padded = |len| {
                with_ids(|ids| {
                    ids.len = len;
                    ids.padding = padding;
                })
            };
            let mut world = World::new(1);
            let server = world.add(server, padded(at_server));
            let client = world.add(client, padded(at_client));
            let (ours, theirs) = world.open(client, server);
            assert_eq!(world.nodes[client].endpoint.info(ours).unwrap().cipher(), Some(suite));
            let (own, peers) = cids(&world.nodes[client].endpoint, ours);
            assert_eq!((own.len(), peers.len()), (at_client, at_server));
            assert_eq!(cids(&world.nodes[server].endpoint, theirs), (peers.clone(), own.clone()));
            talk(&mut world, (client, ours), (server, theirs));
            for (from, cid) in [(client, &peers), (server, &own)] {
                let sent = records_from(&world, world.nodes[from].address, cid.len());
                let mut protected = sent.iter().filter(|(_, epoch, ..)| *epoch == 1).peekable();
                assert!(protected.peek().is_some());
                for (record_type, _, _, carried) in protected {
                    assert_eq!(carried, cid);
                    assert_eq!(*record_type == content_type::TLS12_CID, !cid.is_empty());
                }
                assert!(sent.iter().all(|(_, epoch, _, carried)| *epoch == 1 || carried.is_empty()));
            }
            if padding > 1 && at_server > 0 {
                let overhead = 13 + at_server + if suite.contains("CHACHA20") { 16 } else { 24 };
                let from = world.nodes[client].address;
                let single = world.sent_by(from).filter(|bytes| bytes[0] == content_type::TLS12_CID);
                let lens: Vec<_> = single.map(|bytes| bytes.len() - overhead).collect();
                assert!(lens.len() >= 6 && lens.iter().all(|len| len % usize::from(padding) == 0), "{lens:?}");
            }
            world.nodes[client].endpoint.close(ours).unwrap();
            world.settle();
            assert_eq!(world.nodes[server].closed(), [(theirs, CloseReason::ByPeer)]);
        }
    }
}

#[test]
fn both_must_want_them() {
    for (at_client, at_server) in [(true, false), (false, true)] {
        let mut world = World::new(2);
        let config = |wanted: bool| Config { connection_ids: wanted.then(ConnectionIds::default), ..Config::default() };
        let server = world.add_plain(server(), config(at_server));
        let client = world.add_plain(client(), config(at_client));
        let (ours, theirs) = world.open(client, server);
        assert_eq!(cids(&world.nodes[server].endpoint, theirs), (vec![], vec![]));
        assert_eq!(cids(&world.nodes[client].endpoint, ours), (vec![], vec![]));
        talk(&mut world, (client, ours), (server, theirs));
        assert!(world.sent.iter().all(|(.., bytes)| records(bytes).all(|r| r.content_type != content_type::TLS12_CID)));
    }
}

/// Of suites that records with IDs cannot be made for: a client that wants IDs does not offer them, and a server that wants
/// them agrees to none with such a suite.
#[test]
fn only_with_suites_that_fit() {
    let ccm = "ECDHE-ECDSA-AES128-CCM";
    let offered = |list: &str| client_with(|context| context.set_cipher_list(list).unwrap());
    let mut world = World::new(3);
    let picky = server_with("server-ecdsa", |context| {
        context.set_cipher_list(&format!("{ccm}:{}", SUITES[0])).unwrap();
        context.set_options(openssl::ssl::SslOptions::CIPHER_SERVER_PREFERENCE);
    });
    let server = world.add(picky, ids(8));
    let client = world.add(offered(&format!("{ccm}:{}", SUITES[0])), ids(8));
    let (ours, _) = world.open(client, server);
    assert_eq!(world.nodes[client].endpoint.info(ours).unwrap().cipher(), Some(SUITES[0]));
    assert_eq!(cids(&world.nodes[client].endpoint, ours).0.len(), 8);
    // Nothing that fits: no IDs, and a handshake all the same.
    let client = world.add(offered(ccm), ids(8));
    let session = world.connect(client, server);
    assert!(world.run(SECOND, |world| world.nodes[client].opened() == [session]));
    let info = world.nodes[client].endpoint.info(session).unwrap();
    assert_eq!((info.cipher(), info.connection_id()), (Some(ccm), &[][..]));
}

#[test]
fn resumed_sessions_have_ids_of_their_own() {
    let mut world = World::new(4);
    let server = world.add(server(), ids(8));
    let client = world.add(client(), ids(8));
    let mut seen = Vec::new();
    let mut ticket = None;
    for round in 0..3 {
        let connect =
            Connect { resume: ticket.as_ref(), ..Connect::to_named(world.nodes[server].address, "localhost") };
        let ours = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        world.settle();
        let theirs = *world.nodes[server].opened().last().unwrap();
        let info = world.nodes[client].endpoint.info(ours).unwrap();
        assert_eq!(info.is_resumed(), round > 0);
        ticket = info.resumption();
        let (own, peers) = cids(&world.nodes[client].endpoint, ours);
        assert!(own.len() == 8 && peers.len() == 8 && !seen.contains(&own) && !seen.contains(&peers));
        seen.extend([own, peers]);
        talk(&mut world, (client, ours), (server, theirs));
        world.nodes[client].endpoint.close(ours).unwrap();
        world.settle();
    }
}

#[test]
fn ids_begin_with_the_number_of_the_server() {
    let mut world = World::new(5);
    let numbered = || {
        with_ids(|ids| {
            ids.len = 10;
            ids.server_id = vec![0xab, 0xcd, 0xef];
        })
    };
    let server = world.add(server(), numbered());
    let mut found = Vec::new();
    for _ in 0..3 {
        let client = world.add(client(), ids(0));
        let (ours, _) = world.open(client, server);
        let (_, peers) = cids(&world.nodes[client].endpoint, ours);
        assert!(peers.len() == 10 && peers.starts_with(&[0xab, 0xcd, 0xef]) && !found.contains(&peers));
        found.push(peers);
    }
}

#[test]
fn settings_that_make_no_sense() {
    let of = |set: fn(&mut ConnectionIds)| Endpoint::new(server(), with_ids(set)).map(drop);
    assert!(of(|ids| ids.len = 32).is_ok() && of(|ids| ids.len = 0).is_ok());
    assert!(matches!(of(|ids| ids.len = 33), Err(Error::Invalid(_))));
    assert!(matches!(of(|ids| ids.server_id = vec![0; 8]), Err(Error::Invalid(_))));
    assert!(matches!(of(|ids| ids.padding = 65), Err(Error::Invalid(_))));
    let mut config = ids(8);
    config.settings.native_records = false;
    assert!(matches!(Endpoint::new(server(), config).map(drop), Err(Error::Invalid(_))));
    // One context for several endpoints, with IDs and without.
    let context = server();
    for config in [ids(8), without(), ids(4)] {
        Endpoint::new(context.clone(), config).unwrap();
    }
}

/// A client of OpenSSL's that sends this extension, and does not care for the answer.
fn with_extension(body: &'static [u8]) -> SslContext {
    let place = ExtensionContext::CLIENT_HELLO | ExtensionContext::TLS1_2_SERVER_HELLO;
    client_with(|context| {
        context.add_custom_ext(54, place, move |_, _, _| Ok(Some(body)), |_, _, _, _| Ok(())).unwrap();
    })
}

#[test]
fn extensions_that_make_no_sense() {
    for body in [&[][..], &[1], &[0, 7], &[3, 1, 2], &[3, 1, 2, 3, 4]] {
        let mut world = World::new(14);
        let server = world.add(server(), ids(8));
        let client = world.add_plain(with_extension(body), without());
        world.connect(client, server);
        world.pass_time(100 * MS);
        let (_, _, answer) = world.sent.iter().rfind(|(from, ..)| *from == world.nodes[server].address).unwrap();
        let alert = records(answer).last().unwrap();
        const DECODE_ERROR: u8 = 50;
        assert_eq!((alert.content_type, alert.fragment()), (content_type::ALERT, &[2, DECODE_ERROR][..]), "{body:?}");
        assert_eq!(world.nodes[server].endpoint.stats().handshakes_failed, 1);
    }
}

/// The longest that a peer can have, and the shortest.
#[test]
fn ids_of_255_bytes_and_of_none() {
    static LONGEST: [u8; 256] = [255; 256];
    for body in [&LONGEST[..], &[0]] {
        let mut world = World::new(15);
        let server = world.add(server(), ids(8));
        let client = world.add_plain(with_extension(body), without());
        world.connect(client, server);
        world.pass_time(100 * MS);
        // This client cannot speak so: its own Finished has no ID, and is no Finished.
        assert_eq!(world.nodes[server].opened(), []);
        assert_eq!(world.nodes[server].endpoint.handshakes(), 1);
    }
}

/// A session is found by the end of its ID alone; what is its own, the whole of it tells.
#[test]
fn an_id_that_is_only_like_the_session_s() {
    let mut world = World::new(19);
    let server = world.add_plain(server(), ids(16));
    let client = world.add_plain(client(), ids(16));
    world.open(client, server);
    world.pass_time(100 * MS);
    let from = world.nodes[client].address;
    let finished = |bytes: &Vec<u8>| records_with(bytes, 16).find(|r| r.epoch == 1).map(|r| r.bytes.to_vec());
    let finished = world.sent_by(from).find_map(finished).unwrap();
    let mut other = finished.clone();
    other[11] ^= 1;
    for (record, repeats) in [(other, 0), (finished, 1)] {
        world.inject(from, server, &record);
        assert_eq!(world.nodes[server].endpoint.stats().flights_resent_on_repeat, repeats);
    }
}

#[test]
fn a_context_with_an_extension_of_its_own() {
    assert!(matches!(Endpoint::new(with_extension(&[0]), ids(8)).map(drop), Err(Error::Invalid(_))));
    assert!(Endpoint::new(with_extension(&[0]), without()).is_ok());
}

/// Each of them finds the extensions missing or there, never half there.
#[test]
fn endpoints_of_many_threads_with_one_context() {
    for _ in 0..50 {
        let context = client();
        let gate = RwLock::new(());
        std::thread::scope(|scope| {
            // They go through together when this is dropped, however that comes.
            let _closed = gate.write().unwrap();
            for _ in 0..4 {
                scope.spawn(|| {
                    drop(gate.read());
                    Endpoint::new(context.clone(), ids(8)).unwrap();
                });
            }
        });
    }
}

/// When all IDs of one byte are taken, a session gets none and works as ever.
#[test]
fn more_sessions_than_ids() {
    let mut world = World::new(6);
    let mut config = with_ids(|ids| {
        ids.len = 2;
        ids.server_id = vec![7];
    });
    config.settings.max_handshakes = 1000;
    let server = world.add(server(), config);
    let client = world.add(client(), ids(0));
    let mut with = 0;
    for number in 0..300u16 {
        world.nodes[client].address.set_port(10_000 + number);
        let (ours, theirs) = world.open(client, server);
        with += usize::from(!cids(&world.nodes[client].endpoint, ours).1.is_empty());
        world.send(client, ours, b"hello");
        world.settle();
        assert_eq!(world.nodes[server].messages(theirs), [b"hello"]);
        // The client forgets it, and the server does not hear of that.
        world.pass = Box::new(|_| false);
        world.nodes[client].endpoint.close(ours).unwrap();
        world.settle();
        world.pass = Box::new(|_| true);
    }
    assert!((200..=256).contains(&with), "{with}");
}

#[test]
fn records_of_several_sessions_in_one_datagram() {
    let mut world = World::new(9);
    let server = world.add(server(), ids(8));
    let sessions: Vec<_> = (0..4)
        .map(|number| {
            // One without an ID among them.
            let config = if number == 2 { without() } else { ids(8) };
            let client = world.add_plain(client(), config);
            let (ours, theirs) = world.open(client, server);
            (client, ours, theirs)
        })
        .collect();
    world.pass = Box::new(|_| false);
    world.sent.clear();
    for &(client, ours, _) in &sessions {
        world.send(client, ours, &[client as u8; 30]);
    }
    world.settle();
    let mut glued = world.sent.iter().map(|(.., bytes)| bytes.clone()).collect::<Vec<_>>();
    // What nobody has an ID for stands between them.
    let mut unknown = glued[0].clone();
    unknown[11] ^= 1;
    glued.insert(1, unknown);
    let without_id = world.nodes[sessions[2].0].address;
    world.pass = Box::new(|_| true);
    world.inject(without_id, server, &glued.concat());
    world.settle();
    for &(client, _, theirs) in &sessions {
        assert_eq!(world.nodes[server].messages(theirs), [[client as u8; 30]]);
    }
}

#[test]
fn forged_and_mangled_records_change_nothing() {
    let mut world = World::new(10);
    let server = world.add(server(), ids(8));
    let client = world.add(client(), ids(8));
    let (ours, theirs) = world.open(client, server);
    let (from, elsewhere) = (world.nodes[client].address, SocketAddr::from(([192, 0, 2, 99], 9)));
    world.send(client, ours, b"one");
    world.settle();
    world.pass = Box::new(|_| false);
    world.sent.clear();
    world.send(client, ours, b"genuine");
    world.settle();
    let genuine = world.sent[0].2.clone();
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut record = genuine.clone();
        change(&mut record);
        record
    };
    let plain = |record: &[u8], content_type: u8| {
        // The same without the ID, in the ordinary format.
        let mut plain = [&[content_type], &record[1..11], &record[19..]].concat();
        plain[0] = content_type;
        plain
    };
    let mut forged = vec![
        changed(|record| record[11] ^= 1),                  // an unknown ID
        changed(|record| *record.last_mut().unwrap() ^= 1), // a bad tag
        changed(|record| record[10] += 1),                  // a higher number
        changed(|record| record[4] = 0),                    // epoch 0
        changed(|record| record[4] = 2),                    // epoch 2
        changed(|record| record[2] = 0xff),                 // another version
        changed(|record| record[1] = 3),                    // no DTLS
        changed(|record| record.truncate(30)),
        changed(|record| record.truncate(21)),
        changed(|record| record.truncate(1)),
        changed(|record| record[19..21].fill(0)),    // length 0
        changed(|record| record[19..21].fill(0xff)), // a length beyond the end
        plain(&genuine, content_type::APPLICATION_DATA),
        plain(&genuine, content_type::TLS12_CID),
        plain(&genuine, content_type::ALERT),
    ];
    forged.extend((0..genuine.len()).map(|at| {
        let mut record = genuine.clone();
        record[at] ^= 0x40;
        record
    }));
    world.sent.clear();
    world.nodes[server].events.clear();
    for record in &forged {
        for sender in [from, elsewhere] {
            world.inject(sender, server, record);
        }
    }
    world.settle();
    assert_eq!(
        (world.nodes[server].events.as_slice(), world.sent.len()),
        (&[][..], 0),
        "nothing happens, nothing is said"
    );
    assert_eq!(world.nodes[server].endpoint.info(theirs).unwrap().peer(), from);
    world.pass = Box::new(|_| true);
    world.inject(from, server, &genuine);
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"genuine"]);
    world.inject(from, server, &genuine);
    world.inject(elsewhere, server, &genuine);
    world.settle();
    assert_eq!(world.nodes[server].events.len(), 1, "replays");
}

/// An address is nobody's name any more: another client may get the port that one with an ID had.
#[test]
fn a_port_that_somebody_else_gets() {
    for later in [ids(8), without()] {
        let mut world = World::new(11);
        let server = world.add(server(), ids(8));
        let first = world.add(client(), ids(8));
        let address = world.nodes[first].address;
        let (ours, theirs) = world.open(first, server);
        world.nodes[first].address.set_port(9);
        let second = world.add_plain(client(), later);
        world.nodes[second].address = address;
        let (ours_2, theirs_2) = world.open(second, server);
        for (node, session, there) in [(first, ours, theirs), (second, ours_2, theirs_2), (first, ours, theirs)] {
            world.send(node, session, &[node as u8]);
            world.settle();
            assert_eq!(*world.nodes[server].messages(there).last().unwrap(), [node as u8]);
            world.send(server, there, b"answer");
            world.settle();
            assert_eq!(*world.nodes[node].messages(session).last().unwrap(), b"answer");
        }
        assert_eq!(world.nodes[server].closed(), []);
        assert_eq!(world.nodes[server].endpoint.sessions().count(), 2);
    }
}

#[test]
fn a_message_with_the_same_content_is_never_sealed_alike() {
    let mut world = World::new(12);
    let server = world.add(server(), ids(8));
    let client = world.add(client(), ids(0));
    let (ours, theirs) = world.open(client, server);
    for _ in 0..20 {
        world.send(client, ours, b"the same");
        world.send(server, theirs, b"the same");
    }
    world.settle();
    for (from, cid_len) in [(client, 8), (server, 0)] {
        let sent = records_from(&world, world.nodes[from].address, cid_len);
        let numbers: Vec<_> = sent.iter().filter(|(_, epoch, ..)| *epoch == 1).map(|(_, _, n, _)| *n).collect();
        // On a busy machine libssl may have repeated its Finished unasked: that has a number, but does not leave.
        assert!(numbers.len() == 21 && numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}

/// Event::Moved has nothing to say while nobody moves.
#[test]
fn nobody_moves_who_stays() {
    let mut world = World::new(13);
    let server = world.add(server(), ids(8));
    let client = world.add(client(), ids(8));
    let (ours, theirs) = world.open(client, server);
    talk(&mut world, (client, ours), (server, theirs));
    for node in [client, server] {
        assert!(!world.nodes[node].events.iter().any(|(event, _)| matches!(event, Event::Moved { .. })));
        assert_eq!(world.nodes[node].endpoint.stats().peers_moved, 0);
    }
}
