//! Records of our own: the change from OpenSSL's at each point where something can come in between.

use std::time::Duration;

use dv_dtls::wire::record::{content_type, records_with};
use dv_dtls::{CloseReason, Config, Connect, Event, Session};
use openssl::ssl::{SslContext, SslOptions};

use crate::CID_LEN;
use crate::contexts::*;
use crate::last_flight::LastFlightLost;
use crate::net::*;

/// The content type that an alert seems to have.
const ALERT: u8 = if CID_LEN != 0 { content_type::TLS12_CID } else { content_type::ALERT };

/// A client and a server that have talked before, so that their next handshake is resumed and its last flight the client's.
struct Resumed {
    world: World,
    server: usize,
    client: usize,
    session: Session,
}

impl Resumed {
    /// The client's side is open; its last flight, and all that it sends after it, is withheld.
    fn new(server: SslContext) -> Resumed {
        let mut world = World::new(1);
        let server = world.add(server, Config::default());
        let client = world.add(client(), Config::default());
        let ticket = world.talk_and_part(client, server);
        world.nodes[server].events.clear();
        world.sent.clear();
        let from = world.nodes[client].address;
        let mut withheld = false;
        world.pass = Box::new(move |(sender, _, bytes)| {
            withheld |= *sender == from && bytes[0] == content_type::CHANGE_CIPHER_SPEC;
            !(withheld && *sender == from)
        });
        let connect = Connect { resume: Some(&ticket), ..Connect::to_named(world.nodes[server].address, "localhost") };
        let session = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        assert!(world.run(SECOND, |world| world.nodes[client].opened().contains(&session)));
        Resumed { world, server, client, session }
    }

    /// What was withheld, and all that goes through from now on is not.
    fn withheld(&mut self) -> Vec<Vec<u8>> {
        self.world.settle();
        self.world.pass = Box::new(|_| true);
        let from = self.world.nodes[self.client].address;
        let sent = self.world.sent_by(from);
        sent.skip_while(|bytes| bytes[0] != content_type::CHANGE_CIPHER_SPEC).cloned().collect()
    }

    fn inject(&mut self, datagram: &[u8]) {
        self.world.inject(self.world.nodes[self.client].address, self.server, datagram);
        self.world.settle();
    }

    /// The server's side has told all this, and the session is resumed.
    fn assert_events(&self, messages: &[&[u8]], closed: bool) -> Session {
        let node = &self.world.nodes[self.server];
        let session = node.opened()[0];
        let mut expected = vec![(Event::Opened { session }, vec![])];
        expected.extend(messages.iter().map(|message| (Event::Message { session }, message.to_vec())));
        if closed {
            expected.push((Event::Closed { session, reason: CloseReason::ByPeer }, vec![]));
        } else {
            assert!(node.endpoint.info(session).unwrap().is_resumed());
        }
        assert_eq!(node.events, expected);
        assert_eq!(node.endpoint.stats().records_taken_over, 2);
        session
    }
}

#[test]
fn messages_in_the_datagram_of_the_finished() {
    let mut resumed = Resumed::new(server());
    resumed.world.send(resumed.client, resumed.session, b"one");
    resumed.world.send(resumed.client, resumed.session, b"two");
    let datagram = resumed.withheld().concat();
    resumed.inject(&datagram);
    let theirs = resumed.assert_events(&[b"one", b"two"], false);
    // All of it comes again: nothing is new.
    resumed.inject(&datagram);
    resumed.assert_events(&[b"one", b"two"], false);
    resumed.world.send(resumed.server, theirs, b"three");
    resumed.world.settle();
    assert_eq!(resumed.world.nodes[resumed.client].messages(resumed.session), [b"three"]);
}

#[test]
fn messages_and_a_close_before_the_finished() {
    let mut resumed = Resumed::new(server());
    resumed.world.send(resumed.client, resumed.session, b"one");
    resumed.world.nodes[resumed.client].endpoint.close(resumed.session).unwrap();
    let withheld = resumed.withheld();
    assert_eq!(withheld.len(), 3);
    for late in [&withheld[1], &withheld[2]] {
        resumed.inject(late);
    }
    assert_eq!(resumed.world.nodes[resumed.server].events, []);
    resumed.inject(&withheld[0]);
    resumed.assert_events(&[b"one"], true);
    // It answered in kind, with a record that is the client's and nobody else's business: it is gone.
    let address = resumed.world.nodes[resumed.server].address;
    let last = resumed.world.sent_by(address).last().unwrap();
    assert_eq!(
        records_with(last, CID_LEN).map(|record| (record.content_type, record.epoch)).collect::<Vec<_>>(),
        [(ALERT, 1)]
    );
}

#[test]
fn a_close_before_the_finished_of_a_session_that_sent_nothing() {
    let mut resumed = Resumed::new(server());
    resumed.world.nodes[resumed.client].endpoint.close(resumed.session).unwrap();
    let withheld = resumed.withheld();
    resumed.inject(&withheld[1]);
    resumed.inject(&withheld[0]);
    resumed.assert_events(&[], true);
}

#[test]
fn a_finished_that_comes_before_its_change_cipher_spec() {
    for messages in [&[][..], &[&b"one"[..]]] {
        let mut resumed = Resumed::new(server());
        messages.iter().for_each(|message| resumed.world.send(resumed.client, resumed.session, message));
        let datagram = resumed.withheld().concat();
        let backwards: Vec<&[u8]> = records_with(&datagram, CID_LEN).map(|record| record.bytes).collect();
        for record in backwards.into_iter().rev() {
            resumed.inject(record);
        }
        resumed.assert_events(messages, false);
    }
}

#[test]
fn the_client_s_flight_backwards() {
    let mut world = World::new(2);
    let server = world.add(server_with_client_verification(), Config::default());
    let client = world.add(client_with_certificate(), Config::default());
    let from = world.nodes[client].address;
    // After two hellos the client has a flight of its own.
    world.pass = Box::new(move |(sender, _, bytes)| *sender != from || bytes[0] == 22 && bytes[13] == 1);
    let session = world.connect(client, server);
    world.settle();
    world.settle();
    let flight: Vec<Vec<u8>> = world.sent_by(from).filter(|bytes| bytes[0] != 22 || bytes[13] != 1).cloned().collect();
    world.pass = Box::new(|_| true);
    let datagrams = flight.concat();
    let mut backwards: Vec<&[u8]> = records_with(&datagrams, CID_LEN).map(|record| record.bytes).collect();
    assert!(backwards.len() >= 4 && backwards.last().unwrap()[4] == 1);
    backwards.reverse();
    for record in backwards {
        world.inject(from, server, record);
    }
    assert_eq!(world.nodes[server].endpoint.stats().handshakes_finished, 1);
    assert!(world.run(30 * SECOND, |world| world.nodes[client].opened() == [session]));
    let theirs = world.nodes[server].opened()[0];
    world.send(client, session, b"one");
    world.send(server, theirs, b"two");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"one"]);
    assert_eq!(world.nodes[client].messages(session), [b"two"]);
}

/// The server's last flight is lost. Its SSL is gone, but the flight is kept, and the client's next Finished, which nobody
/// but the client can write, brings it back.
#[test]
fn a_repeated_finished_is_answered_with_the_last_flight() {
    let mut lost = LastFlightLost::new(Duration::from_millis(100));
    let finished = lost.finished(3);
    let LastFlightLost { mut world, server, client, session } = lost;
    let (at_client, at_server) = (world.nodes[client].address, world.nodes[server].address);
    let resent = |world: &World| world.nodes[server].endpoint.stats().flights_resent_on_repeat;
    // Those that were seen already, forged ones, and one that is new. (With connection IDs the first is sent again by some
    // clients as it was: see cids.rs.)
    if CID_LEN == 0 {
        world.inject(at_client, server, &finished[0]);
    }
    let mut forged = finished[1].clone();
    *forged.last_mut().unwrap() ^= 1;
    world.inject(at_client, server, &forged);
    assert_eq!(resent(&world), 0);
    world.pass = Box::new(move |(from, ..)| *from == at_server);
    world.inject(at_client, server, &finished[1]);
    assert_eq!(resent(&world), 1);
    assert!(world.run(SECOND, |world| world.nodes[client].opened() == [session]));
    world.inject(at_client, server, &finished[1]);
    assert_eq!(resent(&world), 1);

    // The first message shows that it has arrived: from then on there is nothing to repeat.
    world.pass = Box::new(|_| true);
    world.send(client, session, b"hello");
    world.settle();
    let theirs = world.nodes[server].opened()[0];
    assert_eq!(world.nodes[server].messages(theirs), [b"hello"]);
    world.inject(at_client, server, &finished[2]);
    assert_eq!(resent(&world), 1);
}

/// Sessions without tickets are in OpenSSL's cache, from which an SSL that is freed unclosed takes its own.
#[test]
fn a_session_of_the_cache_is_resumed_again_and_again() {
    let server = server_with("server-ecdsa", |context| {
        context.set_options(SslOptions::NO_TICKET);
        context.set_session_id_context(b"test").unwrap();
    });
    let mut world = World::new(4);
    let server = world.add(server, Config::default());
    let client = world.add(client(), Config::default());
    let ticket = world.talk_and_part(client, server);
    for round in 0..3 {
        let connect = Connect { resume: Some(&ticket), ..Connect::to_named(world.nodes[server].address, "localhost") };
        let session = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        world.settle();
        let theirs = *world.nodes[server].opened().last().unwrap();
        assert!(world.nodes[server].endpoint.info(theirs).unwrap().is_resumed(), "round {round}");
        world.send(client, session, b"hello");
        world.settle();
        assert_eq!(world.nodes[server].messages(theirs), [b"hello"]);
        world.nodes[server].endpoint.close(theirs).unwrap();
        world.settle();
    }
    assert_eq!(world.nodes[server].endpoint.stats().records_taken_over, 4);
}

#[test]
fn a_master_secret_that_is_not_bound_to_its_handshake() {
    const SSL_OP_NO_EXTENDED_MASTER_SECRET: u64 = 1;
    let without = || {
        client_with(|context| {
            context.set_options(SslOptions::from_bits_retain(SSL_OP_NO_EXTENDED_MASTER_SECRET as _));
        })
    };
    for (context, required, opens) in [(client(), true, true), (without(), false, true), (without(), true, false)] {
        let mut world = World::new(5);
        let server = world.add(server(), settings(|s| s.require_extended_master_secret = required));
        let client = world.add(context, Config::default());
        let session = world.connect(client, server);
        world.pass_time(SECOND);
        let stats = world.nodes[server].endpoint.stats();
        assert_eq!((stats.handshakes_finished, stats.handshakes_failed), (opens.into(), (!opens).into()));
        if opens {
            let theirs = world.nodes[server].opened()[0];
            world.send(client, session, b"hello");
            world.settle();
            assert_eq!(world.nodes[server].messages(theirs), [b"hello"]);
        } else {
            assert_eq!(world.nodes[server].events, []);
            assert_eq!(world.nodes[client].closed(), [(session, CloseReason::ByPeer)]);
        }
    }

    // A client that requires it is told why it gets no session.
    let mut world = World::new(5);
    let server = world.add(server(), Config::default());
    let client = world.add(without(), settings(|s| s.require_extended_master_secret = true));
    let session = world.connect(client, server);
    world.pass_time(SECOND);
    assert_eq!(world.nodes[client].closed(), [(session, CloseReason::Failed)]);
    let failure = world.nodes[client].failures[0].as_ref().unwrap();
    assert!(failure.contains("inconsistent extms"), "{failure}");
}
