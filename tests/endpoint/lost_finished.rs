//! Whoever has the last word of a handshake goes on to messages; these come, and the Finished before them does not.

use std::thread::sleep;
use std::time::Duration;

use dv_dtls::wire::record::{content_type, records};
use dv_dtls::{Connect, Session};

use crate::CID_LEN;
use crate::net::*;

/// The one whose side of the handshake is over first has sent its last flight once, and that is lost.
struct LostFinished {
    world: World,
    first: usize,
    second: usize,
    /// The session at the first one.
    session: Session,
}

impl LostFinished {
    /// In a full handshake the server's side is over first, in a resumed one the client's. `times`: how often the flight is
    /// lost.
    fn new(resumed: bool, times: usize) -> LostFinished {
        let (mut world, server, client) = World::pair(4);
        let ticket = resumed.then(|| world.talk_and_part(client, server));
        let (first, second) = if resumed { (client, server) } else { (server, client) };
        world.nodes.iter_mut().for_each(|node| node.events.clear());
        // The wall clock is what libssl's timer goes by.
        world.real = true;
        let (from, mut lost) = (world.nodes[first].address, 0);
        world.pass = Box::new(move |(sender, _, bytes)| {
            let is_last = records(bytes).any(|record| record.content_type == content_type::CHANGE_CIPHER_SPEC);
            let passes = *sender != from || !is_last || lost == times;
            lost += usize::from(!passes);
            passes
        });
        let connect =
            Connect { resume: ticket.as_ref(), ..Connect::to_named(world.nodes[server].address, "localhost") };
        world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
        assert!(world.run(SECOND, |world| !world.nodes[first].opened().is_empty()));
        let session = world.nodes[first].opened()[0];
        LostFinished { world, first, second, session }
    }

    /// How often the second one has sent its flight again, because of its timer and before that.
    fn resent(&self) -> (u64, u64) {
        let stats = self.world.nodes[self.second].endpoint.stats();
        (stats.flights_resent_on_timeout, stats.flights_resent_on_repeat)
    }
}

#[test]
fn a_message_that_comes_without_the_finished_asks_for_it() {
    for resumed in [false, true] {
        let mut lost = LostFinished::new(resumed, 1);
        lost.world.send(lost.first, lost.session, b"already");
        let second = lost.second;
        assert!(lost.world.run(SECOND / 2, |world| !world.nodes[second].opened().is_empty()), "resumed: {resumed}");
        let session = lost.world.nodes[second].opened()[0];
        lost.world.settle();
        assert_eq!(lost.world.nodes[second].messages(session), [b"already"]);
        assert_eq!(lost.resent(), (0, 1), "resumed: {resumed}");
    }
}

/// The Finished was only overtaken.
#[test]
fn a_message_that_overtakes_the_finished_asks_for_nothing() {
    for resumed in [false, true] {
        let mut lost = LostFinished::new(resumed, 1);
        let from = lost.world.nodes[lost.first].address;
        let flight = lost.world.sent_by(from).last().unwrap().clone();
        lost.world.send(lost.first, lost.session, b"quick");
        lost.world.settle();
        lost.world.inject(from, lost.second, &flight);
        lost.world.pass_time(SECOND / 2);
        let second = &lost.world.nodes[lost.second];
        assert_eq!(second.messages(second.opened()[0]), [b"quick"], "resumed: {resumed}");
        assert_eq!(lost.resent(), (0, 0), "resumed: {resumed}");
    }
}

/// Anybody can send what looks like a message: one flight more for each timeout is all that he gets for it. With a connection
/// ID in it he cannot even do that.
#[test]
fn junk_in_the_place_of_messages_asks_once_between_two_timeouts() {
    for resumed in [false, true] {
        let mut lost = LostFinished::new(resumed, usize::MAX);
        lost.world.real = false;
        let (from, second) = (lost.world.nodes[lost.first].address, lost.second);
        let junk =
            [&[content_type::APPLICATION_DATA, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 40][..], &[7; 40]].concat();
        for _ in 0..3000 {
            lost.world.inject(from, second, &junk);
            lost.world.pass_time(10 * MS);
        }
        let (on_timeout, sooner) = lost.resent();
        assert!((5..10).contains(&on_timeout), "{on_timeout}");
        assert_eq!(sooner, if CID_LEN == 0 { on_timeout + 1 } else { 0 });
        // And the handshake is none the worse for it.
        lost.world.real = true;
        lost.world.pass = Box::new(|_| true);
        assert!(lost.world.run(20 * SECOND, |world| !world.nodes[second].opened().is_empty()), "resumed: {resumed}");
    }
}

/// libssl counts how often its timer was found to have run out, which any record of the handshake does.
#[test]
fn junk_in_clear_does_not_stop_the_repetitions() {
    let mut lost = LostFinished::new(true, 1);
    let (from, second) = (lost.world.nodes[lost.first].address, lost.second);
    let later_message = [
        &[content_type::HANDSHAKE, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 16][..],
        &[16, 0, 0, 4, 0, 3, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0],
    ]
    .concat();
    lost.world.sent.clear();
    for _ in 0..18 {
        lost.world.inject(from, second, &later_message);
        sleep(Duration::from_micros(50 * MS));
        lost.world.pass_time(50 * MS);
    }
    assert!(lost.world.run(SECOND, |world| !world.nodes[second].opened().is_empty()));
    // To a peer that has seen it, the copy of a record is a replay.
    let sent = lost.world.sent_by(lost.world.nodes[second].address);
    let finished = sent.flat_map(|bytes| records(bytes)).filter(|record| record.epoch == 1);
    let numbers: Vec<_> = finished.map(|record| record.sequence).collect();
    assert!(!numbers.is_empty() && !numbers.contains(&0), "{numbers:?}");
}

/// So that a flight can be repeated at any time, libssl's own timer runs out early; what it would send by itself then, at the
/// next record that comes, does not leave.
#[test]
fn nothing_is_repeated_because_the_way_is_long() {
    for resumed in [false, true] {
        let datagrams = [0, 50].map(|way| {
            let (mut world, server, client) = World::pair(5);
            let ticket = resumed.then(|| world.talk_and_part(client, server));
            world.sent.clear();
            world.pass = Box::new(move |_| {
                sleep(Duration::from_millis(way));
                true
            });
            let connect =
                Connect { resume: ticket.as_ref(), ..Connect::to_named(world.nodes[server].address, "localhost") };
            let session = world.nodes[client].endpoint.connect(world.now, &connect).unwrap();
            assert!(world.run(SECOND, |world| world.nodes[client].opened().contains(&session)));
            world.settle();
            world.sent.len()
        });
        assert_eq!(datagrams[0], datagrams[1], "resumed: {resumed}");
    }
}
