//! Sessions of a process with other settings than those of the one that imports them.

use dv_dtls::engine::export::Entry;
use dv_dtls::{CloseReason, Config, Endpoint, Error, Export, Imported};
use openssl::ssl::{SslContextBuilder, SslOptions};

use crate::contexts::*;
use crate::net::*;
use crate::{export, import, key};

/// Clients with a master secret that is not bound to the handshake (RFC 7627), and with one that is: where it is required, the
/// first is told that its session is over, and the program hears of the second alone.
#[test]
fn without_the_extended_master_secret() {
    const SSL_OP_NO_EXTENDED_MASTER_SECRET: u64 = 1;
    let unbound = |context: &mut SslContextBuilder| {
        context.set_options(SslOptions::from_bits_retain(SSL_OP_NO_EXTENDED_MASTER_SECRET as _));
    };
    for required in [false, true] {
        let mut world = World::new(1);
        let node = world.add(server(), Config::default());
        let clients = [client_with(unbound), client()].map(|context| world.add(context, Config::default()));
        let sessions = clients.map(|client| world.open(client, node).0);
        let (bytes, _) = export(&mut world.nodes[node].endpoint);
        let config = settings(|settings| settings.require_extended_master_secret = required);
        let mut new = Endpoint::new(server(), config).unwrap();
        let skipped = usize::from(required);
        assert_eq!(import(&mut new, world.now, &bytes), Imported { sessions: 2 - skipped, skipped });
        // What an import brings can go on to yet another process.
        assert_eq!(export(&mut new).1.sessions, 2 - skipped);
        new.cancel_export().unwrap();
        world.nodes[node].events.clear();
        world.nodes[node].endpoint = new;
        for (client, session) in clients.into_iter().zip(sessions) {
            world.send(client, session, b"hello");
            world.settle();
        }
        let closed = [(sessions[0], CloseReason::ByPeer)];
        assert_eq!(world.nodes[clients[0]].closed(), closed[..skipped]);
        assert_eq!(world.nodes[clients[1]].closed(), []);
        let opened = world.nodes[node].opened();
        assert_eq!((opened.len(), world.nodes[node].closed()), (2 - skipped, vec![]));
        assert!(opened.iter().all(|session| world.nodes[node].messages(*session) == [b"hello"]));
    }
}

/// A peer's connection ID may be longer than ours: in small packets it leaves no room for messages.
#[test]
fn an_mtu_that_leaves_no_room_for_messages() {
    let (mut world, node, client) = World::pair(2);
    world.open(client, node);
    let (bytes, _) = export(&mut world.nodes[node].endpoint);
    let one = Export::read(&mut &bytes[..], &key()).unwrap();
    for (len, fits) in [(180, true), (189, true), (190, false), (255, false)] {
        let mut plain = Vec::new();
        let id = vec![9; len];
        one.entries().for_each(|entry| Entry { peer_id: &id, ..entry }.encode(&mut plain));
        let mut new = Endpoint::new(server(), settings(|settings| settings.mtu = 256)).unwrap();
        let imported = new.import(world.now, Export::from_plain(&plain).unwrap());
        if fits {
            assert_eq!(imported, Ok(Imported { sessions: 1, skipped: 0 }));
            let session = new.sessions().next().unwrap();
            assert!(new.info(session).unwrap().message_max() > 0, "{len}");
        } else {
            assert!(matches!(imported, Err(Error::Invalid(why)) if why.contains("no room")), "{len}");
            assert_eq!(new.sessions().count(), 0);
        }
    }
}
