//! A new address that has not shown that it receives (RFC 9146 6, RFC 9853): what goes there meanwhile, and how it does show
//! that, or does not.

use std::net::SocketAddr;

use dv_dtls::{CloseReason, Error, Event};

use crate::cids::{with_ids, with_suite};
use crate::contexts::*;
use crate::moving::{Pair, checks, elsewhere};
use crate::net::*;

/// While the new address is not proven, three times what came from there goes there and no more: not for messages, not for
/// alerts, not for checks.
#[test]
fn at_most_three_times_what_came_goes_to_an_unproven_address() {
    for checked in [false, true] {
        let mut pair = Pair::new(checks(true), checks(checked));
        let before = pair.peer().0;
        let address = elsewhere(1);
        let mut came = 0;
        for round in 0..5u8 {
            // Somebody is quicker than the client, again and again. What goes to him, he does not get.
            let datagram = pair.seen(&[round; 100]);
            came += datagram.len();
            pair.world.inject(address, pair.server, &datagram);
            assert_eq!(pair.peer(), (address, false));
            let mut refused = 0;
            for _ in 0..10 {
                refused += usize::from(pair.send(&[0; 90]) == Err(Error::Unproven));
                pair.world.settle();
            }
            assert!(refused > 0);
            let sent = pair.sent_to(address);
            assert!(sent <= 3 * came && sent > 2 * came, "{sent} for {came}");
        }
        assert_eq!(pair.sent_to(before), 0);
        // The session's end does not get through either, where there is no room for it.
        pair.use_up();
        pair.world.nodes[pair.server].endpoint.close(pair.theirs).unwrap();
        pair.world.settle();
        assert!(pair.sent_to(address) <= 3 * came);
        assert_eq!(pair.world.nodes[pair.server].endpoint.stats().datagrams_withheld, 1);
    }
}

/// A challenge is answered where it came from, and the answer counts as what goes there.
#[test]
fn an_answer_to_a_challenge_counts_at_an_unproven_address() {
    let mut pair = Pair::new(checks(true), checks(true));
    // The server seems to move, so the client asks it to show that it is there; somebody sees that.
    pair.world.nodes[pair.server].address.set_port(9);
    let asked = pair.world.nodes[pair.client].address;
    pair.world.pass = Box::new(move |(from, ..)| *from != asked);
    pair.send(b"from elsewhere").unwrap();
    pair.world.settle();
    let challenge = pair.world.sent_by(asked).last().unwrap().clone();
    pair.world.inject(elsewhere(1), pair.server, &challenge);
    pair.world.settle();
    let sent = pair.sent_to(elsewhere(1));
    assert!(sent > challenge.len(), "the answer, and a challenge as well: {sent} for {}", challenge.len());
    pair.use_up();
    assert!(pair.sent_to(elsewhere(1)) <= 3 * challenge.len());
}

/// What still arrives from the old address earns the new one nothing: or whoever has records of the client's held up could have
/// somebody else flooded.
#[test]
fn what_comes_from_the_old_address_does_not_count_for_the_new_one() {
    let mut pair = Pair::new(checks(false), checks(false));
    let home = pair.peer().0;
    let held_up = [(); 5].map(|_| pair.seen(&[0; 1000]));
    let datagram = pair.seen(&[1; 100]);
    pair.world.inject(elsewhere(1), pair.server, &datagram);
    held_up.iter().for_each(|datagram| pair.world.inject(home, pair.server, datagram));
    pair.use_up();
    assert_eq!((pair.peer().0, pair.world.nodes[pair.server].messages(pair.theirs).len()), (elsewhere(1), 6));
    assert!(pair.sent_to(elsewhere(1)) <= 3 * datagram.len());
}

/// One that comes late moves nothing: it is answered where it came from, but with no more than three times as much.
#[test]
fn a_late_challenge_is_answered_where_it_came_from() {
    for (padding, answers) in [(0, 1), (64, 0)] {
        let (server, client) = with_suite("ECDHE-ECDSA-CHACHA20-POLY1305");
        let at_server = with_ids(|ids| (ids.len, ids.padding) = (1, padding));
        let mut pair = Pair::of((server, at_server), (client, with_ids(|ids| ids.len = 32)));
        pair.world.nodes[pair.server].address.set_port(9);
        let asked = pair.world.nodes[pair.client].address;
        pair.world.pass = Box::new(move |(from, ..)| *from != asked);
        pair.send(b"from elsewhere").unwrap();
        pair.world.settle();
        let challenge = pair.world.sent_by(asked).last().unwrap().clone();
        // What goes to where the session seems to be is used up meanwhile, and has nothing to do with it.
        let datagram = pair.seen(b"newer");
        pair.world.inject(elsewhere(1), pair.server, &datagram);
        pair.use_up();
        pair.world.inject(elsewhere(2), pair.server, &challenge);
        pair.world.settle();
        assert_eq!(pair.world.sent.iter().filter(|(_, to, _)| *to == elsewhere(2)).count(), answers);
        assert_eq!(pair.peer(), (elsewhere(1), false));
    }
}

/// Whatever the program has to say to the new address, the check goes first: otherwise there would be no room for it.
#[test]
fn the_check_leaves_before_what_the_program_says() {
    let mut pair = Pair::new(checks(true), checks(true));
    let address = pair.rebind(7);
    let datagram = pair.seen(&[1; 100]);
    pair.world.inject(address, pair.server, &datagram);
    while pair.send(&[2]).is_ok() {}
    pair.world.settle();
    assert_eq!(pair.peer(), (address, true));
}

/// They are not kept for later either: what they took of the room for what waits is free again.
#[test]
fn messages_that_waited_for_the_old_address_are_withheld_from_the_new_one() {
    let mut at_server = checks(false);
    at_server.max_waiting_bytes = 40_000;
    let mut pair = Pair::new(at_server, checks(false));
    for round in 1..=5 {
        let datagram = pair.seen(b"x");
        for _ in 0..20 {
            pair.send(&[1; 1000]).unwrap();
        }
        pair.world.inject(elsewhere(1), pair.server, &datagram);
        pair.world.settle();
        assert!(pair.sent_to(elsewhere(1)) <= 3 * datagram.len());
        assert_eq!(pair.world.nodes[pair.server].endpoint.stats().datagrams_withheld, 20 * round);
        // The client brings its session back.
        pair.client_says(b"still here");
        pair.world.sent.clear();
    }
}

/// Nor do those for which there is room take others along, in one call of the system.
#[test]
fn what_waits_leaves_one_by_one_while_it_counts() {
    let mut pair = Pair::new(checks(false), checks(false));
    let datagram = pair.seen(&[0; 100]);
    for _ in 0..20 {
        pair.send(&[1; 100]).unwrap();
    }
    pair.world.inject(elsewhere(1), pair.server, &datagram);
    pair.world.settle();
    assert_eq!(pair.sent_to(elsewhere(1)), 3 * datagram.len());
}

/// Without checks, only the program can know.
#[test]
fn the_program_confirms_the_address() {
    let mut pair = Pair::new(checks(false), checks(true));
    let address = pair.rebind(7);
    pair.client_says(b"x");
    assert_eq!(pair.peer(), (address, false));
    assert_eq!(pair.send(&[0; 1000]), Err(Error::Unproven));
    pair.world.pass_time(10 * SECOND);
    assert_eq!(pair.peer(), (address, false));
    let endpoint = &mut pair.world.nodes[pair.server].endpoint;
    endpoint.confirm_peer(pair.theirs).unwrap();
    assert_eq!(pair.peer(), (address, true));
    pair.send(&[0; 1000]).unwrap();
    pair.world.settle();
    assert_eq!(pair.world.nodes[pair.client].messages(pair.ours), [[0; 1000]]);
    let stats = pair.world.nodes[pair.server].endpoint.stats();
    assert_eq!((stats.peers_moved, stats.addresses_proven), (1, 1));
    let endpoint = &mut pair.world.nodes[pair.server].endpoint;
    endpoint.close(pair.theirs).unwrap();
    assert_eq!(endpoint.confirm_peer(pair.theirs), Err(Error::Stale));
}

/// Somebody was quicker than the client with a copy of its record: the address does not answer the check, and the session
/// returns to where the client is.
#[test]
fn an_address_that_does_not_answer_is_left_again() {
    let mut pair = Pair::new(checks(true), checks(true));
    let before = pair.peer();
    let datagram = pair.seen(b"overtaken");
    pair.world.inject(elsewhere(1), pair.server, &datagram);
    assert_eq!(pair.peer(), (elsewhere(1), false));
    pair.world.pass_time(SECOND + 100 * MS);
    assert_eq!(pair.peer(), before);
    let session = pair.theirs;
    assert_eq!(pair.events(), [Event::Moved { session }, Event::Message { session }, Event::Moved { session }]);
    let stats = pair.world.nodes[pair.server].endpoint.stats();
    assert_eq!((stats.peers_moved, stats.addresses_refused, stats.addresses_proven), (1, 1, 0));
    assert!(pair.sent_to(elsewhere(1)) <= 3 * datagram.len());
    pair.send(&[0; 1000]).unwrap();
    pair.world.settle();
    assert_eq!(pair.world.nodes[pair.client].messages(pair.ours), [[0; 1000]]);
}

/// The client's next record from its own address brings the session back at once, and that address needs no proof.
#[test]
fn the_client_itself_brings_the_session_back() {
    for checked in [false, true] {
        let mut pair = Pair::new(checks(checked), checks(true));
        let before = pair.peer();
        let datagram = pair.seen(b"overtaken");
        pair.world.inject(elsewhere(1), pair.server, &datagram);
        assert_eq!(pair.peer(), (elsewhere(1), false));
        pair.client_says(b"still here");
        assert_eq!(pair.peer(), before);
        pair.send(&[0; 1000]).unwrap();
        pair.world.pass_time(5 * SECOND);
        assert_eq!(pair.peer(), before);
        assert_eq!(pair.world.nodes[pair.client].messages(pair.ours), [[0; 1000]]);
    }
}

/// Whoever writes other addresses on its datagrams has no more sessions for that, and takes nobody's place away: it still
/// counts where it was.
#[test]
fn only_who_receives_there_counts_at_an_address() {
    for proven in [false, true] {
        let mut at_server = checks(false);
        at_server.settings.max_connections_per_source = 1;
        let mut pair = Pair::new(at_server, checks(true));
        let home = pair.world.nodes[pair.client].address;
        let datagram = pair.seen(b"from elsewhere");
        pair.world.inject(elsewhere(1), pair.server, &datagram);
        assert_eq!(pair.peer(), (elsewhere(1), false));
        if proven {
            pair.world.nodes[pair.server].endpoint.confirm_peer(pair.theirs).unwrap();
        }
        let places = [SocketAddr::new(home.ip(), 77), elsewhere(2)];
        let [there, counts] = if proven { places } else { [places[1], places[0]] };
        for (place, closed) in [(there, 0), (counts, 1)] {
            let more = pair.world.add_at(place, client(), checks(true));
            pair.world.open(more, pair.server);
            assert_eq!(pair.world.nodes[pair.server].closed().len(), closed);
        }
        assert_eq!(pair.world.nodes[pair.server].closed(), [(pair.theirs, CloseReason::Evicted)]);
    }
}

/// Answers to checks that were not asked, from wherever, prove nothing.
#[test]
fn answers_that_were_seen_before_prove_nothing() {
    let mut pair = Pair::new(checks(true), checks(true));
    let home = pair.world.nodes[pair.client].address;
    pair.rebind(7);
    pair.client_says(b"moved");
    let checks: Vec<_> = pair.world.sent.iter().map(|(from, to, bytes)| (*from, *to, bytes.clone())).collect();
    assert!(pair.peer().1);
    let datagram = pair.seen(b"overtaken");
    pair.world.inject(elsewhere(1), pair.server, &datagram);
    for (_, _, bytes) in checks.iter().filter(|(from, ..)| from.ip() == home.ip()) {
        pair.world.inject(elsewhere(1), pair.server, bytes);
    }
    assert_eq!(pair.peer(), (elsewhere(1), false));
    // And challenges that were answered already are not answered again.
    let answered = pair.world.sent.len();
    for (from, _, bytes) in checks.iter().filter(|(from, ..)| from.ip() != home.ip()) {
        pair.world.inject(*from, pair.client, bytes);
        pair.world.inject(elsewhere(2), pair.client, bytes);
    }
    pair.world.settle();
    let to_anybody = pair.world.sent[answered..].iter().filter(|(_, to, _)| *to == elsewhere(2)).count();
    assert_eq!(to_anybody, 0);
}
