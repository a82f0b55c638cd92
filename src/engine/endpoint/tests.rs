//! What can be seen only from inside: keys, and sequence numbers that nobody has the time to count up to.

mod established;
mod secrets;

use std::collections::HashMap;
use std::sync::Mutex;

use openssl::ssl::{SslContextBuilder, SslMethod, SslOptions};

use super::*;
use crate::engine::records::tests::seal;
use crate::engine::records::{Digest, Records, SEQUENCE_MAX, Secrets, Suite, Used};
use crate::engine::settings::Settings;
use crate::log::{self, Level};
use crate::tls::resumption::Resumption;
use crate::wire::datagrams::Datagrams;
use crate::wire::handshake::{Fragment, message_type};
use crate::wire::record::{HEADER_LEN, Record, content_type, records, records_with};

const SUITES: [&str; 3] = ["PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384", "PSK-CHACHA20-POLY1305"];

fn context(suite: &str, server: bool, set: impl FnOnce(&mut SslContextBuilder)) -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
    context.set_cipher_list(suite).unwrap();
    if server {
        context.set_psk_server_callback(|_, _, key| {
            key[..16].fill(1);
            Ok(16)
        });
    } else {
        context.set_psk_client_callback(|_, _, identity, key| {
            identity[..2].copy_from_slice(b"a\0");
            key[..16].fill(1);
            Ok(16)
        });
    }
    set(&mut context);
    context.build()
}

/// A client and a server, and all that went from one to the other.
struct Pair {
    now: u64,
    sides: [Side; 2],
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

struct Side {
    endpoint: Endpoint,
    session: Option<Session>,
    messages: usize,
    closed: Option<CloseReason>,
    sent: Vec<Vec<u8>>,
}

impl Pair {
    fn new(suite: &str) -> Pair {
        Pair::of(context(suite, false, |_| {}), context(suite, true, |_| {}), Config::default())
    }

    fn of(client: SslContext, server: SslContext, config: Config) -> Pair {
        let side = |context| Side {
            endpoint: Endpoint::new(context, config.clone()).unwrap(),
            session: None,
            messages: 0,
            closed: None,
            sent: Vec::new(),
        };
        Pair { now: 0, sides: [side(client), side(server)] }
    }

    /// Both sides are established.
    fn open(mut self, resume: Option<&Resumption>) -> Pair {
        let to = address(SERVER);
        self.sides[CLIENT].endpoint.connect(0, &Connect { resume, ..Connect::to(to) }).unwrap();
        self.carry();
        assert!(self.sides.iter().all(|side| side.session.is_some()));
        self
    }

    /// Carries what there is, until there is no more.
    fn carry(&mut self) {
        let mut message = Vec::new();
        let mut quiet = 0;
        while quiet < 2 {
            quiet += 1;
            for from in [CLIENT, SERVER] {
                self.now += 1000;
                while let Some(transmit) = self.sides[from].endpoint.transmit(1) {
                    let datagram = transmit.bytes.to_vec();
                    self.sides[1 - from].endpoint.receive(self.now, &datagram, address(from), None);
                    self.sides[from].sent.push(datagram);
                    quiet = 0;
                }
                let side = &mut self.sides[from];
                while let Some(event) = side.endpoint.event(&mut message) {
                    match event {
                        Event::Opened { session } => side.session = Some(session),
                        Event::Message { .. } => side.messages += 1,
                        Event::Moved { .. } => panic!("nobody moves"),
                        Event::Closed { reason, .. } => side.closed = Some(reason),
                    }
                }
            }
        }
    }

    fn send(&mut self, from: usize, message: &[u8]) -> Result<(), Error> {
        let side = &mut self.sides[from];
        side.endpoint.send(side.session.unwrap(), message)
    }

    fn connection(&mut self, side: usize) -> &mut Connection {
        let side = &mut self.sides[side];
        &mut side.endpoint.seats.get_mut(side.session.unwrap()).unwrap().connection
    }

    fn records(&mut self, side: usize) -> &mut Records {
        self.connection(side).protection().records_mut()
    }

    /// The server gets this as if the client had sent it.
    fn inject(&mut self, datagram: &[u8]) {
        self.sides[SERVER].endpoint.receive(self.now, datagram, address(CLIENT), None);
    }

    /// A record under the client's keys.
    fn sealed(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        seal(self.records(CLIENT), content_type, content)
    }
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side as u8 + 1], 5684))
}

/// Of what a side has sent under its keys: the numbers and explicit nonces, none of which may stand for two records.
fn assert_no_nonce_twice(sent: &[Vec<u8>], explicit: bool) -> usize {
    let mut seen = HashMap::new();
    for record in sent.iter().flat_map(|datagram| records(datagram)).filter(|record| record.epoch == 1) {
        let nonce = if explicit { &record.fragment()[..8] } else { &record.bytes[3..11] };
        assert_eq!(*seen.entry(nonce).or_insert(record.bytes), record.bytes, "another record with the same nonce");
    }
    seen.len()
}

#[test]
fn sequence_numbers_end_with_a_goodbye() {
    for suite in SUITES {
        let mut pair = Pair::new(suite).open(None);
        pair.send(SERVER, b"before").unwrap();
        // Three messages may still be sent. The rest is for alerts.
        pair.records(SERVER).skip_to(SEQUENCE_MAX - (1 << 16) - 2);
        for _ in 0..3 {
            pair.send(SERVER, b"one of the last").unwrap();
        }
        assert_eq!(pair.send(SERVER, b"too much"), Err(Error::NotEstablished));
        pair.carry();
        assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Exhausted));
        assert_eq!((pair.sides[CLIENT].messages, pair.sides[CLIENT].closed), (4, Some(CloseReason::ByPeer)));
        // The Finished, four messages and the goodbye.
        assert_eq!(assert_no_nonce_twice(&pair.sides[SERVER].sent, !suite.contains("CHACHA")), 6);
    }
}

/// What may still be said when there is no number left for it is not said.
#[test]
fn not_even_a_goodbye_gets_a_number_twice() {
    let mut pair = Pair::new(SUITES[0]).open(None);
    pair.records(SERVER).skip_to(SEQUENCE_MAX);
    let session = pair.sides[SERVER].session.unwrap();
    pair.connection(SERVER).protection().shutdown();
    let sent = |pair: &mut Pair| pair.connection(SERVER).outbound().waiting();
    let one = sent(&mut pair);
    assert!(one > 0);
    pair.connection(SERVER).protection().shutdown();
    assert_eq!(sent(&mut pair), one);
    pair.sides[SERVER].endpoint.close(session).unwrap();
    pair.carry();
    assert_eq!(pair.sides[CLIENT].closed, Some(CloseReason::ByPeer));
}

#[test]
fn a_key_that_has_sealed_enough_is_given_up() {
    let mut pair = Pair::new(SUITES[1]).open(None);
    pair.records(CLIENT).seal_no_more_than(1);
    pair.send(CLIENT, b"the last").unwrap();
    assert_eq!(pair.send(CLIENT, b"too much"), Err(Error::NotEstablished));
    pair.carry();
    assert_eq!(pair.sides[CLIENT].closed, Some(CloseReason::Exhausted));
    assert_eq!((pair.sides[SERVER].messages, pair.sides[SERVER].closed), (1, Some(CloseReason::ByPeer)));
}

#[test]
fn a_key_that_was_tried_too_often_is_given_up() {
    let mut pair = Pair::new(SUITES[2]).open(None);
    pair.records(SERVER).fail_no_more_than(2);
    pair.send(CLIENT, b"authentic").unwrap();
    let authentic = pair.sides[CLIENT].endpoint.transmit(1).unwrap().bytes.to_vec();
    let mut forged = authentic.clone();
    *forged.last_mut().unwrap() ^= 1;
    for datagram in [&forged, &forged, &authentic, &authentic] {
        pair.inject(datagram);
        pair.carry();
        assert_eq!(pair.sides[SERVER].closed, None);
    }
    assert_eq!(pair.sides[SERVER].messages, 1);
    // A replay is not tried, a forgery that is new is.
    forged[10] += 1;
    pair.inject(&forged);
    pair.carry();
    assert_eq!(pair.sides[SERVER].closed, Some(CloseReason::Exhausted));
    assert_eq!(pair.sides[CLIENT].closed, Some(CloseReason::ByPeer));
}

/// Whether a connection drops a record of epoch 1 without a look inside, which has `cid`, if it is of the type with one.
fn drops(connection: &mut Connection, content_type: u8, cid: &[u8]) -> bool {
    let header = [content_type, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 1, 0];
    let bytes = [&header[..], cid, &[0, 32], &[7; 32]].concat();
    let record = records_with(&bytes, cid.len()).next().unwrap();
    assert_eq!(record.cid, cid);
    let counters = Counters::default();
    assert!(!connection.receive_record(0, &record, &mut Datagrams::new(), &counters).authentic);
    counters.records_dropped.get() == 1
}

/// Whoever has brought them there: a session with an ID takes no record without it, nor one with another, and none has one
/// before that is agreed on. An empty ID is none.
#[test]
fn records_with_an_id_and_without() {
    for len in [None, Some(0), Some(8)] {
        let connection_ids = len.map(|len| ConnectionIds { len, ..ConnectionIds::default() });
        let config = Config { connection_ids, ..Config::default() };
        let of = |server| context(SUITES[0], server, |_| {});
        let mut pair = Pair::of(of(false), of(true), config);
        let has_one = len == Some(8);
        pair.sides[CLIENT].session = pair.sides[CLIENT].endpoint.connect(0, &Connect::to(address(SERVER))).ok();
        let connection = pair.connection(CLIENT);
        let ours = connection.cid().to_vec();
        assert_eq!(ours.len(), len.unwrap_or(0));
        assert!(drops(connection, content_type::TLS12_CID, &ours));
        assert!(!drops(connection, content_type::HANDSHAKE, &[]));
        pair.carry();
        for side in [CLIENT, SERVER] {
            let connection = pair.connection(side);
            let ours = connection.cid().to_vec();
            assert_eq!(drops(connection, content_type::APPLICATION_DATA, &[]), has_one);
            assert_eq!(drops(connection, content_type::TLS12_CID, &ours), !has_one);
            assert!(drops(connection, content_type::TLS12_CID, &[]));
            assert!(drops(connection, content_type::TLS12_CID, &[ours.first().map_or(0, |byte| !byte); 8]));
        }
    }
}

/// Whoever sends a fatal alert has given the session up for good (RFC 5246 7.2.2).
#[test]
fn a_session_that_ended_with_a_fatal_alert_is_not_resumed() {
    let contexts = || {
        let without_tickets = |context: &mut SslContextBuilder| {
            context.set_options(SslOptions::NO_TICKET);
            context.set_session_id_context(b"test").unwrap();
        };
        (context(SUITES[0], false, |_| {}), context(SUITES[0], true, without_tickets))
    };
    for (from, native) in [(None, true), (Some(CLIENT), true), (Some(SERVER), true), (None, false)] {
        let (client, server) = contexts();
        let mut config = Config::default();
        config.settings.native_records = native;
        let mut pair = Pair::of(client.clone(), server.clone(), config.clone()).open(None);
        let session = pair.sides[CLIENT].session.unwrap();
        let kept = pair.sides[CLIENT].endpoint.info(session).unwrap().resumption().unwrap();
        if let Some(from) = from {
            pair.connection(from).protection().alert_fatally();
            let (endpoint, session) = (&mut pair.sides[from].endpoint, pair.sides[from].session.unwrap());
            endpoint.follow_up(session);
            pair.carry();
            assert_eq!(pair.sides[1 - from].closed, Some(CloseReason::Failed));
        }
        // Endpoints that end without a word do not end their sessions.
        drop(pair);
        let mut again = Pair::of(client, server, config).open(Some(&kept));
        let session = again.sides[CLIENT].session.unwrap();
        assert_eq!(again.sides[CLIENT].endpoint.info(session).unwrap().is_resumed(), from.is_none(), "{from:?}");
        again.send(CLIENT, b"hello").unwrap();
        again.carry();
        assert_eq!(again.sides[SERVER].messages, 1);
    }
}

/// A client that has the keys can send its Finished in clear, before it is due. libssl would keep it, find it too early once all
/// before it has come, and fail the handshake: it does not get to see it.
#[test]
fn a_finished_in_clear_before_its_time() {
    let mut pair = Pair::new(SUITES[0]);
    let session = pair.sides[CLIENT].endpoint.connect(0, &Connect::to(address(SERVER))).unwrap();
    pair.sides[CLIENT].session = Some(session);
    let mut flight = Vec::new();
    while flight.is_empty() {
        pair.now += 1000;
        while let Some(transmit) = pair.sides[CLIENT].endpoint.transmit(1) {
            let datagram = transmit.bytes.to_vec();
            if records(&datagram).any(|record| record.content_type == content_type::CHANGE_CIPHER_SPEC)
                || !flight.is_empty()
            {
                flight.extend(datagram);
            } else {
                pair.inject(&datagram);
            }
        }
        while let Some(transmit) = pair.sides[SERVER].endpoint.transmit(1) {
            let datagram = transmit.bytes.to_vec();
            pair.sides[CLIENT].endpoint.receive(pair.now, &datagram, address(SERVER), None);
        }
    }
    let ssl = pair.connection(CLIENT).protection().session().ssl();
    let mut secrets =
        Secrets { master: [0; 48], client_random: [0; 32], server_random: [0; 32], digest: Digest::Sha256 };
    ssl.session().unwrap().master_key(&mut secrets.master);
    ssl.client_random(&mut secrets.client_random);
    ssl.server_random(&mut secrets.server_random);
    let mut reader = Records::new(Suite::Aes128Gcm, &secrets, true, Used { next: 1, ..Used::default() });
    let records: Vec<Record<'_>> = records(&flight).collect();
    let [exchange, ccs, finished] = records[..] else { panic!("{records:?}") };
    let mut message = vec![0; finished.fragment().len()];
    let len = reader.open(&finished, &mut message).unwrap().len;
    let mut in_clear = finished.bytes[..3].to_vec();
    in_clear.extend([0; 8]);
    in_clear.extend((len as u16).to_be_bytes());
    in_clear.extend(&message[..len]);
    // Nor a second ChangeCipherSpec, nor what is too short to be protected, at which libssl would fail, too.
    let mut short = finished.bytes[..HEADER_LEN + 1].to_vec();
    short[11..].copy_from_slice(&[0, 1, 0]);
    let until_ccs = [&in_clear, exchange.bytes, ccs.bytes];
    for record in until_ccs.into_iter().chain([ccs.bytes, &in_clear, &short, finished.bytes, finished.bytes]) {
        pair.inject(record);
    }
    pair.carry();
    let stats = pair.sides[SERVER].endpoint.stats();
    assert_eq!((stats.handshakes_failed, stats.handshakes_finished, stats.records_dropped), (0, 1, 3));
}

/// A handshake message of no content under the client's keys.
fn say(pair: &mut Pair, message_type: u8, message_seq: u16) {
    let message = Fragment { message_type, length: 0, message_seq, offset: 0, body: &[] }.header();
    let record = pair.sealed(content_type::HANDSHAKE, &message);
    pair.inject(&record);
}

/// A client with records of ours, and a server with them or with OpenSSL's.
fn pair_with(native_server: bool) -> Pair {
    pair_of(SUITES[0], native_server)
}

fn pair_of(suite: &str, native_server: bool) -> Pair {
    let mut pair = Pair::new(suite);
    pair.sides[SERVER].endpoint.config.settings.native_records = native_server;
    pair.open(None)
}

/// Each request for a renegotiation is refused, but not each in a record of its own that waits: the client decides how many it
/// sends, and the program when they leave.
#[test]
fn refusals_of_renegotiations_do_not_pile_up() {
    use message_type::{CLIENT_HELLO, HELLO_REQUEST};
    for (native, request) in [(true, HELLO_REQUEST), (true, CLIENT_HELLO), (false, CLIENT_HELLO)] {
        let mut pair = pair_with(native);
        let before = pair.sides[SERVER].endpoint.outbox.waiting;
        (0..1000).for_each(|number| say(&mut pair, request, number));
        let waiting = pair.sides[SERVER].endpoint.outbox.waiting - before;
        assert!((1..100).contains(&waiting), "{waiting} bytes, records of our own: {native}");
        pair.carry();
        pair.send(CLIENT, b"after").unwrap();
        pair.carry();
        assert_eq!((pair.sides[SERVER].messages, pair.sides[SERVER].closed), (1, None));
    }
}

/// Warnings end nothing (RFC 5246 7.2.2): the client's user does not want, it wants no new keys, or nobody knows what. Other
/// alerts do: close_notify, whatever its level says, and what is fatal.
#[test]
fn warnings_end_nothing() {
    const USER_CANCELED: u8 = 90;
    const NO_RENEGOTIATION: u8 = 100;
    const UNKNOWN: u8 = 255;
    for suite in SUITES {
        for native in [true, false] {
            let open = || pair_of(suite, native);
            let mut pair = open();
            for (number, description) in [USER_CANCELED, NO_RENEGOTIATION, UNKNOWN].repeat(4).into_iter().enumerate() {
                alert(&mut pair, [1, description]);
                pair.send(CLIENT, b"after").unwrap();
                pair.carry();
                let server = &pair.sides[SERVER];
                assert_eq!((server.messages, server.closed), (number + 1, None), "{suite} {native} {description}");
            }
            for (said, reason) in [
                ([1, 0], CloseReason::ByPeer),
                ([2, 0], CloseReason::ByPeer),
                ([2, USER_CANCELED], CloseReason::Failed),
            ] {
                let mut pair = open();
                alert(&mut pair, said);
                pair.carry();
                // libssl does not take a fatal close_notify for one.
                let closed = pair.sides[SERVER].closed;
                assert!(
                    closed == Some(reason) || said == [2, 0] && closed.is_some(),
                    "{suite} {native} {said:?} {closed:?}"
                );
            }
        }
    }
}

/// An alert under the client's keys.
fn alert(pair: &mut Pair, alert: [u8; 2]) {
    let record = pair.sealed(content_type::ALERT, &alert);
    pair.inject(&record);
}

/// What makes libssl give the session up ends it at once, with an alert for the client.
#[test]
fn a_message_that_makes_no_sense_is_the_end() {
    let mut pair = pair_with(false);
    say(&mut pair, message_type::HELLO_REQUEST, 0);
    pair.carry();
    assert_eq!(pair.sides.map(|side| side.closed), [Some(CloseReason::Failed); 2]);
}

/// Who sees a session's records on their way can have it move with each of them: there is one line a second.
#[test]
fn what_the_log_says_of_a_peer_that_is_here_and_there() {
    let ids = ConnectionIds { routability_checks: false, ..ConnectionIds::default() };
    let config = Config { connection_ids: Some(ids), ..Config::default() };
    let of = |server| context(SUITES[0], server, |_| {});
    let mut pair = Pair::of(of(false), of(true), config).open(None);
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    log::listen(Some(Level::Info), Some(Arc::new(move |_, line: &str| sink.lock().unwrap().push(line.to_owned()))));
    let (here, there) = (SocketAddr::from(([198, 51, 100, 1], 1)), SocketAddr::from(([198, 51, 100, 2], 2)));
    for time in 0..3001 {
        pair.send(CLIENT, b"x").unwrap();
        let datagram = pair.sides[CLIENT].endpoint.transmit(1).unwrap().bytes.to_vec();
        let from = if time % 2 == 0 { here } else { there };
        pair.sides[SERVER].endpoint.receive(pair.now + 1000 * time, &datagram, from, None);
    }
    log::flush();
    log::listen(None, None);
    // Other tests may have had something to say as well.
    let mut told = told.lock().unwrap().clone();
    told.retain(|line| line.contains("198.51.100."));
    let first = format!("{}: is at {here} now", address(CLIENT));
    let later = format!("{there}: is at {here} now; since the last such line 999 others have moved");
    assert_eq!(told, [first, later.clone(), later.clone(), later]);
}

/// A peer may want an ID so long that a small packet has no room for anything behind it.
#[test]
fn an_id_that_leaves_no_room_for_messages() {
    let suite = SUITES[0];
    let settings = Settings { mtu: Settings::MTU_MIN, native_records: true, ..Settings::default() };
    let config = Config { settings, connection_ids: Some(ConnectionIds::default()), ..Config::default() };
    let mut server = Endpoint::new(context(suite, true, |_| {}), config.clone()).unwrap();
    let context = context(suite, false, |_| {});
    config.check_context(&context).unwrap();
    let own = OwnId { cid: [7; 255].into(), padding: 0, checks: false };
    let prepare = |_: &mut _| Ok::<_, openssl::error::ErrorStack>(());
    let mut client = Connection::connect(&context, &config.settings, address(SERVER), Some(own), 0, prepare).unwrap();
    for now in 1..10 {
        while let Some(datagram) = client.transmit().map(<[u8]>::to_vec) {
            server.receive(now, &datagram, address(CLIENT), None);
        }
        while let Some(datagram) = server.transmit(1).map(|transmit| transmit.bytes.to_vec()) {
            for record in records_with(&datagram, 255) {
                client.receive_record(now, &record, &mut Datagrams::new(), &Counters::default());
            }
        }
    }
    assert_eq!(client.state(), State::Closed(CloseReason::ByPeer));
    let stats = server.stats();
    assert_eq!((server.handshakes(), stats.handshakes_finished, stats.handshakes_failed), (0, 0, 1));
    assert_eq!(server.sessions().next(), None);
}
