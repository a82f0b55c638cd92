//! The Finished, which is the first record with a connection ID: lost, repeated, and an alert in its place.

use std::time::Duration;

use dv_dtls::wire::record::{Record, content_type, records, records_with};
use dv_dtls::{CloseReason, Connect};

use crate::cids::{ids, talk};
use crate::contexts::*;
use crate::last_flight::LastFlightLost;
use crate::net::*;

/// The server's last flight is lost so often; the client, whose repetitions are libssl's, gets it in the end.
#[test]
fn a_lost_last_flight() {
    for lost in 1..=2 {
        let quick = |len| {
            let mut config = ids(len);
            config.settings.first_timeout = Duration::from_millis(100);
            config
        };
        let mut world = World::new(7);
        world.real = true;
        let server = world.add(server(), quick(8));
        let client = world.add(client(), quick(8));
        let at_server = world.nodes[server].address;
        let mut losses = 0;
        world.pass = Box::new(move |(from, _, bytes)| {
            let last = *from == at_server && records(bytes).any(|record| record.epoch == 1);
            losses += usize::from(last);
            !last || losses > lost
        });
        let session = world.connect(client, server);
        assert!(world.run(3 * SECOND, |world| world.nodes[client].opened() == [session]), "{lost} lost");
        assert_eq!(world.nodes[server].endpoint.stats().flights_resent_on_repeat, lost as u64);
        let theirs = world.nodes[server].opened()[0];
        talk(&mut world, (client, session), (server, theirs));
    }
}

/// Some clients repeat their Finished under the number that it had before (pion does). It counts for a request to repeat the
/// last flight, not more often than one in clear would, and not once the flight has arrived.
#[test]
fn a_finished_under_its_old_number() {
    let mut world = World::new(8);
    let server = world.add(server(), ids(8));
    let client = world.add(client(), ids(8));
    let from = world.nodes[client].address;
    let (ours, theirs) = world.open(client, server);
    let is_finished = |record: &Record<'_>| record.content_type == content_type::TLS12_CID && record.sequence == 0;
    let is_flight = |bytes: &&Vec<u8>| records_with(bytes, 8).any(|record| is_finished(&record));
    let flight = world.sent_by(from).find(is_flight).unwrap().clone();
    let elsewhere = "192.0.2.99:9".parse().unwrap();
    let resent = |world: &World| world.nodes[server].endpoint.stats().flights_resent_on_repeat;
    world.sent.clear();
    world.inject(from, server, &flight);
    assert_eq!(resent(&world), 0);
    for round in 1..=3 {
        world.pass_time(60 * MS);
        // Its whole datagram, as a client sends it, and from anywhere: it is answered at the peer's address.
        world.inject(elsewhere, server, &flight);
        world.inject(from, server, &flight);
        world.settle();
        assert_eq!(resent(&world), round);
    }
    assert!(world.sent.iter().all(|(_, to, _)| *to == from));
    world.send(client, ours, b"arrived");
    world.settle();
    assert_eq!(world.nodes[server].messages(theirs), [b"arrived"]);
    world.pass_time(60 * MS);
    world.inject(from, server, &flight);
    assert_eq!(resent(&world), 3);
}

/// The last one counts: where libssl's timer is late the client sends what it has repeated before, as it was.
#[test]
fn a_repeated_finished_under_its_old_number() {
    let mut lost = LastFlightLost::new(Duration::from_millis(20));
    let repeated = lost.finished(2).swap_remove(1);
    let LastFlightLost { mut world, server, client, .. } = lost;
    world.real = false;
    let from = world.nodes[client].address;
    for round in 1..=2 {
        world.now += 60 * MS;
        world.inject(from, server, &repeated);
        assert_eq!(world.nodes[server].endpoint.stats().flights_resent_on_repeat, round);
    }
}

/// Who has sealed its Finished, which does not arrive, and then gives up: its alert is authentic, so nobody waits for the deadline.
#[test]
fn an_alert_in_the_place_of_the_finished() {
    let (server_hello_done, client_key_exchange) = ((14, 5), (16, 2));
    for (resumed, (message_type, message_seq)) in [(false, server_hello_done), (true, client_key_exchange)] {
        let mut world = World::new(6);
        let server = world.add(server(), ids(8));
        let client = world.add(client(), ids(8));
        let ticket = resumed.then(|| world.talk_and_part(client, server));
        let (gives_up, other) = if resumed { (server, client) } else { (client, server) };
        let [from, to] = [gives_up, other].map(|node| world.nodes[node].address);
        let has_finished = |bytes: &[u8]| records_with(bytes, 8).any(|record| record.epoch == 1);
        world.sent.clear();
        world.pass = Box::new(move |(sender, _, bytes)| *sender != from || !has_finished(bytes));
        let connect =
            Connect { resume: ticket.as_ref(), ..Connect::to_named(world.nodes[server].address, "localhost") };
        let now = world.now;
        let session = world.nodes[client].endpoint.connect(now, &connect).unwrap();
        world.pass_time(100 * MS);
        let flight = world.sent_by(from).find(|bytes| has_finished(bytes)).unwrap().clone();
        let in_clear = records_with(&flight, 8).filter(|record| record.epoch == 0);
        in_clear.for_each(|record| world.inject(from, other, record.bytes));

        // It gives up at a message that has no place there.
        world.sent.clear();
        world.pass = Box::new(|_| true);
        let header = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 9, 0, 0, 12];
        let message = [message_type, 0, 0, 0, 0, message_seq, 0, 0, 0, 0, 0, 0];
        world.inject(to, gives_up, &[&header[..], &message].concat());
        world.settle();
        let alert = world.sent_by(from).next().unwrap();
        assert!(records_with(alert, 8).map(|record| record.content_type).eq([content_type::TLS12_CID]));
        for node in [client, server] {
            let endpoint = &world.nodes[node].endpoint;
            assert_eq!((endpoint.stats().handshakes_failed, endpoint.handshakes()), (1, 0), "resumed: {resumed}");
        }
        assert_eq!(world.nodes[client].closed().last(), Some(&(session, CloseReason::Failed)));
        let failure = world.nodes[client].failures.last().unwrap().as_ref().unwrap();
        assert!(failure.contains("unexpected message"), "{failure}");
    }
}
