//! What the tests of both sides need: a client and a server that have talked, and a look at what was sent.

use std::collections::HashSet;

use dv_dtls::wire::record::{content_type, records};
use dv_dtls::{Config, Endpoint, Event, Exported, Imported, Session};
use openssl::ssl::SslContext;

use crate::contexts::*;
use crate::net::*;
use crate::{export, import};

/// A client and a server that have talked.
pub struct Pair {
    pub world: World,
    pub server: usize,
    pub client: usize,
    /// As the server knows it, and as the client does.
    pub theirs: Session,
    pub ours: Session,
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(server(), client())
    }

    pub fn with(server: SslContext, client: SslContext) -> Pair {
        let mut world = World::new(1);
        let server = world.add(server, Config::default());
        let client = world.add(client, Config::default());
        let (ours, theirs) = world.open(client, server);
        world.send(client, ours, b"before");
        world.settle();
        Pair { world, server, client, theirs, ours }
    }

    pub fn server(&mut self) -> &mut Endpoint {
        &mut self.world.nodes[self.server].endpoint
    }

    /// Lets a new endpoint go on with what the node has; gives the old one.
    pub fn move_node(&mut self, node: usize, context: SslContext) -> Endpoint {
        let node = &mut self.world.nodes[node];
        let (bytes, exported) = export(&mut node.endpoint);
        let mut new = Endpoint::new(context, Config::default()).unwrap();
        let imported = import(&mut new, self.world.now, &bytes);
        assert_eq!((exported, imported), (Exported { sessions: 1, left: 0 }, Imported { sessions: 1, skipped: 0 }));
        node.events.clear();
        std::mem::replace(&mut node.endpoint, new)
    }

    /// Both sides hear each other, the server under the number of the last session that it has opened.
    pub fn talk(&mut self) {
        self.world.settle();
        if let Some(theirs) = self.world.nodes[self.server].opened().last() {
            self.theirs = *theirs;
        }
        for (from, of, to, at) in
            [(self.client, self.ours, self.server, self.theirs), (self.server, self.theirs, self.client, self.ours)]
        {
            let before = self.world.nodes[to].messages(at).len();
            self.world.send(from, of, b"are you there?");
            self.world.settle();
            assert_eq!(self.world.nodes[to].messages(at)[before..], [b"are you there?"]);
        }
    }
}

/// Events that wait.
pub fn told(endpoint: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| endpoint.event(&mut Vec::new())).collect()
}

/// The numbers of all records that were protected, and who sent them: one that comes twice is a nonce that does.
pub fn assert_no_number_twice(world: &World) -> usize {
    let mut seen = HashSet::new();
    for (from, to, bytes) in &world.sent {
        if bytes[0] == content_type::TLS12_CID {
            // Alone in its datagram. The peer may have been elsewhere before.
            let number: [u8; 8] = bytes[3..11].try_into().unwrap();
            assert!(seen.insert((*from, *from, number)), "{from}: {number:?}");
            continue;
        }
        for record in records(bytes).filter(|record| record.epoch == 1) {
            // The explicit nonce: OpenSSL's own is a random one.
            let nonce: [u8; 8] = record.fragment()[..8].try_into().unwrap();
            assert!(seen.insert((*from, *to, nonce)), "{from} to {to}: {nonce:?}");
        }
    }
    seen.len()
}
