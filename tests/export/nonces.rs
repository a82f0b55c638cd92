//! No nonce twice under one key, over all that a session can go through: its handshake, exports of either side to the next
//! process and the one after that, an old process that goes on against all promises, an export that two import, and the end
//! of the numbers.

use std::collections::HashSet;

use dv_dtls::engine::export::{Entry, Packed};
use dv_dtls::engine::records::{Records, Secrets, Suite, Used};
use dv_dtls::wire::record::{Record, content_type, records_with};
use dv_dtls::{Config, Connect, ConnectionIds, Endpoint, Export, Session};
use openssl::ssl::SslContext;

use crate::contexts::*;
use crate::net::*;
use crate::{export, import, key};

const SUITES: [(&str, Suite); 3] = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", Suite::Aes128Gcm),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", Suite::Aes256Gcm),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", Suite::Chacha20Poly1305),
];

/// Sequence numbers have 48 bits.
const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// The most numbers that an import leaves out.
const SKIPPED_MAX: u64 = (1 << 20) + (1 << 31);

/// The nonces under the keys of one session, by the node that seals with them.
struct Nonces {
    suite: Suite,
    id_len: usize,
    used: [HashSet<u64>; 2],
}

impl Nonces {
    /// Of a record that `side` has sealed.
    fn note(&mut self, side: usize, record: &Record<'_>) {
        let nonce = match self.suite {
            // OpenSSL's Finished has a random one.
            Suite::Aes128Gcm | Suite::Aes256Gcm => u64::from_be_bytes(*record.fragment().first_chunk().unwrap()),
            Suite::Chacha20Poly1305 => 1 << 48 | record.sequence,
        };
        assert!(self.used[side].insert(nonce), "{:?}: nonce {nonce:x} of side {side} twice", self.suite);
    }

    /// Of the protected records of a datagram.
    fn note_all(&mut self, side: usize, datagram: &[u8]) {
        records_with(datagram, self.id_len)
            .filter(|record| record.epoch == 1)
            .for_each(|record| self.note(side, &record));
    }

    /// Of all that an endpoint has sealed and that has not left yet.
    fn note_leaving(&mut self, side: usize, endpoint: &mut Endpoint) {
        while let Some(transmit) = endpoint.transmit(1) {
            self.note_all(side, transmit.bytes);
        }
    }

    /// An endpoint says so much, to nobody.
    fn note_sending(&mut self, side: usize, endpoint: &mut Endpoint, session: Session, messages: usize) {
        for _ in 0..messages {
            endpoint.send(session, b"and so on").unwrap();
            self.note_leaving(side, endpoint);
        }
    }
}

/// A session, whose two sides have a key each.
struct Life {
    world: World,
    ids: Option<ConnectionIds>,
    /// By node, as the next.
    contexts: [SslContext; 2],
    sessions: [Session; 2],
    nonces: Nonces,
}

/// The nodes: a server and a client.
const SIDES: [usize; 2] = [0, 1];

impl Life {
    /// Begins with a handshake that resumes an earlier session, or with a full one.
    fn new((name, suite): (&str, Suite), ids: Option<ConnectionIds>, resumed: bool) -> Life {
        let contexts = [server_with("server-ecdsa", |context| context.set_cipher_list(name).unwrap()), client()];
        let config = || Config { connection_ids: ids.clone(), ..Config::default() };
        let mut world = World::new(1);
        let [server, client] = contexts.each_ref().map(|context| world.add(context.clone(), config()));
        let ticket = resumed.then(|| {
            let ticket = world.talk_and_part(client, server);
            world.nodes.iter_mut().for_each(|node| node.events.clear());
            world.sent.clear();
            ticket
        });
        let connect =
            Connect { resume: ticket.as_ref(), ..Connect::to_named(world.nodes[server].address, "localhost") };
        let ours = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        assert!(world.run(30 * SECOND, |world| world.nodes.iter().all(|node| !node.opened().is_empty())));
        assert_eq!(world.nodes[client].endpoint.info(ours).unwrap().is_resumed(), resumed);
        let theirs = world.nodes[server].opened()[0];
        let id_len = ids.as_ref().map_or(0, |ids| ids.len);
        let nonces = Nonces { suite, id_len, used: Default::default() };
        Life { world, ids, contexts, sessions: [theirs, ours], nonces }
    }

    /// Both hear each other. Notes this and what went through the world before, the handshake too.
    fn talk(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let before = self.world.nodes[to].messages(self.sessions[to]).len();
            self.world.send(from, self.sessions[from], b"are you there?");
            self.world.settle();
            assert_eq!(self.world.nodes[to].messages(self.sessions[to])[before..], [b"are you there?"]);
        }
        for (from, _, datagram) in std::mem::take(&mut self.world.sent) {
            let side = usize::from(from == self.world.nodes[1].address);
            self.nonces.note_all(side, &datagram);
        }
    }

    /// Another process of `side` with the session.
    fn import(&self, side: usize, bytes: &[u8]) -> (Endpoint, Session) {
        let config = Config { connection_ids: self.ids.clone(), ..Config::default() };
        let mut new = Endpoint::new(self.contexts[side].clone(), config).unwrap();
        assert_eq!(import(&mut new, self.world.now, bytes).sessions, 1);
        let session = new.event(&mut Vec::new()).unwrap().session();
        (new, session)
    }

    /// A new process takes over from an old one that does not stop, and perhaps somebody else takes over as well.
    fn hand_over(&mut self, side: usize, messages: usize, twice: bool) {
        let (bytes, exported) = export(&mut self.world.nodes[side].endpoint);
        assert_eq!(exported.sessions, 1);
        let (new, session) = self.import(side, &bytes);
        let copy = twice.then(|| self.import(side, &bytes));
        let node = &mut self.world.nodes[side];
        node.events.clear();
        let mut old = std::mem::replace(&mut node.endpoint, new);
        let of_old = std::mem::replace(&mut self.sessions[side], session);
        old.cancel_export().unwrap();
        self.nonces.note_sending(side, &mut old, of_old, messages);
        self.nonces.note_sending(side, &mut node.endpoint, session, messages);
        if let Some((mut copy, session)) = copy {
            self.nonces.note_sending(side, &mut copy, session, messages);
        }
    }

    /// The last of its numbers, through processes that take over from each other until there are none left.
    fn run_out(&mut self, side: usize, messages: usize) {
        let (bytes, _) = export(&mut self.world.nodes[side].endpoint);
        let mut bytes = further(&bytes, SEQUENCE_MAX - 4 * SKIPPED_MAX);
        for process in 0.. {
            let (mut new, session) = self.import(side, &bytes);
            if new.send(session, b"one more").is_err() {
                // It has said goodbye, if there was a number for it.
                self.nonces.note_leaving(side, &mut new);
                assert!((3..100).contains(&process), "{process} processes");
                break;
            }
            self.nonces.note_leaving(side, &mut new);
            self.nonces.note_sending(side, &mut new, session, messages);
            bytes = export(&mut new).0;
        }
    }

    /// The same keys, sealing up to the last number that there is.
    fn use_up(&mut self, side: usize, records: u64) {
        let (bytes, _) = export(&mut self.world.nodes[side].endpoint);
        self.world.nodes[side].endpoint.cancel_export().unwrap();
        let export = Export::read(&mut &bytes[..], &key()).unwrap();
        let entry = export.entries().next().unwrap();
        let secrets = Secrets {
            master: *entry.master,
            client_random: *entry.client_random,
            server_random: *entry.server_random,
            digest: entry.suite.digest(),
        };
        let mut sealer = Records::with_cid(entry.suite, &secrets, entry.server, entry.peer_id.into(), 0);
        sealer.go_on_from(Used {
            next: SEQUENCE_MAX + 1 - records,
            nonces: entry.progress.taken.clone(),
            opened: None,
        });
        let id_len = entry.peer_id.len();
        for number in 0.. {
            let mut sealed = vec![0; sealer.sealed_len(2)];
            let Some(len) = sealer.seal(content_type::ALERT, &[1, 0], &mut sealed) else {
                assert!(number == records && sealer.are_exhausted());
                break;
            };
            let (record, _) = Record::parse_with(&sealed[..len], id_len).unwrap();
            self.nonces.note(side, &record);
        }
    }
}

/// The export of a session that has used all numbers below `next`.
fn further(bytes: &[u8], next: u64) -> Vec<u8> {
    let export = Export::read(&mut &*bytes, &key()).unwrap();
    let mut entry: Entry<'_> = export.entries().next().unwrap();
    assert!(entry.progress.next < next);
    entry.progress.next = next;
    let (mut packed, mut further) = (Packed::default(), Vec::new());
    assert!(packed.push(&entry));
    packed.write(&key(), &mut further, || true).unwrap();
    further
}

/// Gives how many nonces there were.
fn lives(handovers: usize, messages: usize, last: u64) -> usize {
    let mut nonces = 0;
    for (number, suite) in SUITES.into_iter().enumerate() {
        for ids in [None, Some(ConnectionIds::default())] {
            let resumed = (number % 2 == 0) == ids.is_some();
            let mut life = Life::new(suite, ids, resumed);
            life.talk();
            for round in 0..handovers {
                life.hand_over(SIDES[round % 2], messages, round < 4);
                life.talk();
            }
            for side in SIDES {
                life.use_up(side, last);
                life.run_out(side, messages / 10);
            }
            nonces += life.nonces.used.iter().map(HashSet::len).sum::<usize>();
        }
    }
    nonces
}

#[test]
fn no_nonce_comes_twice_in_a_long_life() {
    let nonces = lives(10, 350, 1_000);
    assert!(nonces > 50_000, "{nonces}");
}

#[test]
#[ignore = "takes minutes"]
fn a_million_records_of_long_lives() {
    let nonces = lives(16, 3_000, 70_000);
    println!("{nonces} nonces");
    assert!(nonces > 1_000_000, "{nonces}");
}
