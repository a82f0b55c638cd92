//! Both sides of two sessions that exist. No handshake is made for them: they come from an export that was made once, as
//! sessions come that another process has had. Only where they could not travel, or an input says so, there is one.

use std::net::SocketAddr;
use std::time::Duration;

use dv_dtls::{Config, Connect, ConnectionIds, CookieSecret, Endpoint, Export, ExportKey, Session, Settings};
use openssl::ssl::SslContext;

use crate::common::{Proof, Seen, client_context, seed, server_context};

/// Sessions, and clients, of which each has one.
pub const PEERS: usize = 2;

/// What kind of server it is, and what its clients have in common.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    proof: Proof,
    release_buffers: bool,
    small_mtu: bool,
    by_handshake: bool,
    /// Bytes of the connection IDs of both sides.
    ids: Option<(usize, usize)>,
    checks: bool,
    padding: u16,
    /// Records of our own; without them sessions cannot travel.
    pub native: bool,
    /// Handshakes that others may begin: those are what takes time.
    pub handshakes: u32,
}

impl From<[u8; 2]> for Kind {
    fn from([first, second]: [u8; 2]) -> Kind {
        let flag = |byte: u8, bit: u32| byte >> bit & 1 == 1;
        let ids = [None, Some((8, 8)), Some((8, 0)), Some((0, 3))][usize::from(second & 3)];
        let native = ids.is_some() || second & 0x30 != 0x30;
        Kind {
            proof: if first & 0x11 == 0x11 { Proof::Certificates } else { Proof::Key },
            release_buffers: flag(first, 1),
            small_mtu: flag(first, 2),
            by_handshake: !native || first & 0x2a == 0x2a,
            ids,
            checks: flag(second, 2),
            padding: if flag(second, 3) { 16 } else { 0 },
            native,
            handshakes: [0, 1, 2, 4][usize::from(first >> 6)],
        }
    }
}

impl Kind {
    pub const MAX_HANDSHAKES: u32 = 8;
    pub const MAX_CONNECTIONS: u32 = 32;

    /// Bytes of the server's connection IDs.
    pub fn server_id(&self) -> usize {
        self.ids.map_or(0, |(server, _)| server)
    }

    pub fn server(&self) -> Endpoint {
        let context = if self.proof == Proof::Key { &BY_KEY } else { &BY_CERTIFICATES };
        let cookie_secret = Some(CookieSecret::new(*b"known to everybody", 0));
        let config = Config { cookie_secret, ..self.config(self.server_id()) };
        Endpoint::new(context.with(Clone::clone), config).unwrap()
    }

    pub fn client(&self) -> Endpoint {
        let config = Config { accept: false, ..self.config(self.ids.map_or(0, |(_, client)| client)) };
        Endpoint::new(OF_CLIENTS.with(Clone::clone), config).unwrap()
    }

    fn config(&self, id_len: usize) -> Config {
        let settings = Settings {
            max_handshakes: Kind::MAX_HANDSHAKES,
            max_handshakes_per_source: 4,
            max_connections: Kind::MAX_CONNECTIONS,
            handshake_timeout: Duration::from_secs(30),
            max_queued_messages: 8,
            release_buffers: self.release_buffers,
            native_records: self.native,
            mtu: if self.small_mtu { 256 } else { 1280 },
            ..Settings::default()
        };
        let connection_ids = self.ids.map(|_| ConnectionIds {
            len: id_len,
            padding: self.padding,
            routability_checks: self.checks,
            ..ConnectionIds::default()
        });
        Config { settings, connection_ids, verify_server: false, max_waiting_bytes: 1 << 16, ..Config::default() }
    }

    /// Where the export of such sessions is kept; what does not count for them is left out.
    fn place(&self) -> usize {
        let ids = match self.ids {
            None => 0,
            Some((8, 8)) => 1,
            Some((8, 0)) => 2,
            Some(_) => 3,
        };
        usize::from(self.proof == Proof::Certificates)
            | usize::from(self.small_mtu) << 1
            | usize::from(self.checks) << 2
            | ids << 3
    }
}

pub fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5684))
}

thread_local! {
    static BY_KEY: SslContext = server_context(Proof::Key, |_| {});
    static BY_CERTIFICATES: SslContext = server_context(Proof::Certificates, |_| {});
    static OF_CLIENTS: SslContext = client_context();
    static EXPORTED: Vec<Exported> = Exported::all();
}

/// What stands open, and what was seen on the wire before it did.
pub struct Sides {
    pub server: Endpoint,
    pub clients: Vec<Endpoint>,
    /// The sessions as the server knows them, and as the clients do.
    pub theirs: Vec<Session>,
    pub ours: Vec<Session>,
    pub seen_by_server: Seen,
    pub seen_by_clients: Seen,
}

struct Exported {
    server: Vec<u8>,
    clients: Vec<Vec<u8>>,
    seen_by_server: Seen,
    seen_by_clients: Seen,
}

fn key() -> ExportKey {
    ExportKey::new([8; ExportKey::LEN])
}

impl Sides {
    pub fn of(kind: Kind) -> Sides {
        if kind.by_handshake {
            return Sides::by_handshake(kind);
        }
        EXPORTED.with(|exported| {
            seed(2);
            let exported = &exported[kind.place()];
            let import = |mut endpoint: Endpoint, bytes: &[u8]| {
                endpoint.import(0, Export::read(&mut &*bytes, &key()).unwrap()).unwrap();
                while endpoint.event(&mut Vec::new()).is_some() {}
                endpoint
            };
            let server = import(kind.server(), &exported.server);
            let clients: Vec<_> = exported.clients.iter().map(|bytes| import(kind.client(), bytes)).collect();
            // Their numbers in the order of the clients.
            let mut theirs: Vec<_> = server.sessions().collect();
            theirs.sort_by_key(|session| server.info(*session).unwrap().user());
            let ours = clients.iter().map(|client| client.sessions().next().unwrap()).collect();
            let (seen_by_server, seen_by_clients) = (exported.seen_by_server.clone(), exported.seen_by_clients.clone());
            Sides { server, clients, theirs, ours, seen_by_server, seen_by_clients }
        })
    }

    /// Nothing happens to a handshake before it has finished.
    fn by_handshake(kind: Kind) -> Sides {
        let (mut server, at_server, mut message) = (kind.server(), address(1), Vec::new());
        let (mut clients, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut seen_by_server, mut seen_by_clients) = (Seen::default(), Seen::default());
        for number in 1..=PEERS {
            let (mut client, at_client) = (kind.client(), address(1 + number as u8));
            ours.push(client.connect(0, &Connect::to(at_server)).unwrap());
            let mut opened = false;
            while !(opened && theirs.len() == number) {
                while let Some(transmit) = client.transmit(1) {
                    seen_by_server.note(transmit.bytes);
                    server.receive(0, transmit.bytes, at_client, None);
                }
                while let Some(transmit) = server.transmit(1) {
                    seen_by_clients.note(transmit.bytes);
                    client.receive(0, transmit.bytes, at_server, None);
                }
                opened |= client.event(&mut message).is_some();
                theirs.extend(server.event(&mut message).map(|event| event.session()));
            }
            server.set_user(theirs[number - 1], number as u64).unwrap();
            clients.push(client);
        }
        Sides { server, clients, theirs, ours, seen_by_server, seen_by_clients }
    }
}

impl Exported {
    /// One for each [`Kind::place`].
    fn all() -> Vec<Exported> {
        let kinds = (0..32).map(|place: u8| {
            let first = 0x2a | ((place & 1) * 0x11) | ((place >> 1 & 1) << 2);
            Kind::from([first, (place >> 3) | ((place >> 2 & 1) << 2)])
        });
        kinds.map(Exported::new).collect()
    }

    fn new(kind: Kind) -> Exported {
        seed(2);
        let Sides { mut server, mut clients, seen_by_server, seen_by_clients, .. } = Sides::by_handshake(kind);
        let export = |endpoint: &mut Endpoint| {
            let mut bytes = Vec::new();
            endpoint.export(&key(), &mut bytes).unwrap();
            bytes
        };
        let clients = clients.iter_mut().map(export).collect();
        Exported { server: export(&mut server), clients, seen_by_server, seen_by_clients }
    }
}
