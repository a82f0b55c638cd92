//! What an established session takes, and what it keeps and for how long.

use super::*;
use crate::wire::routability::Check;

const SECOND: u64 = 1_000_000;

impl Pair {
    /// So much time passes for the server, which does what is due.
    fn pass_time(&mut self, time: u64) {
        self.now += time;
        self.sides[SERVER].endpoint.advance(self.now);
    }

    /// Whether the server has its last flight still.
    fn keeps_flight(&mut self) -> bool {
        self.connection(SERVER).protection().outbound().flight().1.count() > 0
    }
}

/// Each use wakes them again, but nothing that only seems to be of the peer.
#[test]
fn keys_rest_while_their_session_is_idle() {
    let mut pair = pair_with(true);
    let at_rest = |pair: &mut Pair| pair.records(SERVER).are_at_rest();
    let forged = [&[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 40][..], &[7; 40]].concat();
    for side in [CLIENT, SERVER, CLIENT] {
        pair.send(side, b"wakes them").unwrap();
        pair.carry();
        pair.inject(&forged);
        pair.pass_time(SECOND / 2);
        assert!(!at_rest(&mut pair));
        pair.pass_time(SECOND);
        assert!(at_rest(&mut pair));
        pair.inject(&forged);
        assert!(at_rest(&mut pair));
    }
}

/// Twice the maximum segment lifetime (RFC 6347 4.2.4), or until the client shows that it has it.
#[test]
fn the_last_flight_is_kept_for_240_seconds() {
    let ccs = [20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1];
    for native in [true, false] {
        let mut pair = pair_with(native);
        for (time, again) in [(239, 1), (2, 0)] {
            pair.pass_time(time * SECOND);
            let before = pair.sides[SERVER].endpoint.stats().flights_resent_on_repeat;
            pair.inject(&ccs);
            assert_eq!(pair.sides[SERVER].endpoint.stats().flights_resent_on_repeat - before, again);
        }
        assert!(!pair.keeps_flight());

        let mut pair = pair_with(native);
        assert!(pair.keeps_flight());
        pair.send(CLIENT, b"got it").unwrap();
        pair.carry();
        assert!(!pair.keeps_flight());
    }
}

/// It is the peer's all the same, who has got the last flight. From 3.2 on libssl passes over it and says nothing of it.
#[test]
fn an_empty_record_is_no_message() {
    for native in [true, false] {
        let mut pair = pair_with(native);
        let bytes = pair.sealed(content_type::APPLICATION_DATA, b"");
        let (record, _) = Record::parse(&bytes).unwrap();
        let (now, mut messages, counters) = (pair.now, Datagrams::new(), Counters::default());
        let is_told_of = native || openssl::version::number() < 0x3020_0000;
        let heard = pair.connection(SERVER).receive_record(now, &record, &mut messages, &counters);
        assert!(messages.is_empty());
        assert_eq!((heard.authentic, !pair.keeps_flight()), (is_told_of, is_told_of), "{native}");
    }
}

/// libssl does not get to see some alerts: see [`warnings_end_nothing`].
#[test]
fn a_message_may_have_the_bytes_of_a_warning() {
    for native in [true, false] {
        let mut pair = pair_with(native);
        pair.send(CLIENT, &[1, 90]).unwrap();
        pair.carry();
        assert_eq!(pair.sides[SERVER].messages, 1);
    }
}

/// Of other epochs there are none, as nobody gets new keys. libssl would keep some of these until they come.
#[test]
fn records_of_other_epochs_are_dropped() {
    for native in [true, false] {
        let mut pair = pair_with(native);
        let before = pair.sides[SERVER].endpoint.stats().records_dropped;
        for content_type in 21..=23 {
            for epoch in [0, 2, 0xff] {
                let header = [content_type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9, 0, 40];
                pair.inject(&[&header[..], &[7; 40]].concat());
            }
        }
        assert_eq!(pair.sides[SERVER].endpoint.stats().records_dropped - before, 9, "records of our own: {native}");
    }
}

/// A session that goes to another process seals nothing more, or that would take the same number again.
#[test]
fn nothing_is_said_about_addresses_while_a_session_stands_still() {
    let mut pair = pair_with(true);
    let connection = pair.connection(SERVER);
    assert!(connection.seal_check(Check::Challenge(1)).is_some());
    connection.stand_still();
    assert!(connection.seal_check(Check::Challenge(1)).is_none());
    connection.go_on(0);
    assert!(connection.seal_check(Check::Challenge(1)).is_some());
}

/// What a record with a connection ID is about is told by its inside only.
#[test]
fn checks_that_were_not_agreed_on_are_none() {
    for agreed in [true, false] {
        let of = |server| context(SUITES[0], server, |_| {});
        let ids = |routability_checks| Some(ConnectionIds { routability_checks, ..ConnectionIds::default() });
        let config = Config { connection_ids: ids(true), ..Config::default() };
        let mut pair = Pair::of(of(false), of(true), config);
        pair.sides[CLIENT].endpoint.config.connection_ids = ids(agreed);
        let mut pair = pair.open(None);
        let bytes = pair.sealed(content_type::RETURN_ROUTABILITY_CHECK, &Check::Challenge(7).to_bytes());
        let (now, ours) = (pair.now, pair.connection(SERVER).cid().len());
        let record = records_with(&bytes, ours).next().unwrap();
        let heard = pair.connection(SERVER).receive_record(now, &record, &mut Datagrams::new(), &Counters::default());
        assert_eq!((heard.authentic, heard.check), (true, agreed.then_some(Check::Challenge(7))));
    }
}

/// Whoever has the keys may still not be where it says: the answer must be what was asked for there.
#[test]
fn a_wrong_answer_to_a_check_proves_nothing() {
    let config = Config { connection_ids: Some(ConnectionIds::default()), ..Config::default() };
    let of = |server| context(SUITES[0], server, |_| {});
    let mut pair = Pair::of(of(false), of(true), config).open(None);
    let (elsewhere, session) = (address(9), pair.sides[SERVER].session.unwrap());
    let receive = |pair: &mut Pair, content_type, content: &[u8]| {
        let datagram = pair.sealed(content_type, content);
        pair.sides[SERVER].endpoint.receive(pair.now, &datagram, elsewhere, None);
    };
    receive(&mut pair, content_type::APPLICATION_DATA, &[0; 100]);
    let datagram = pair.sides[SERVER].endpoint.transmit(1).unwrap().bytes.to_vec();
    let record = records_with(&datagram, pair.connection(CLIENT).cid().len()).next().unwrap();
    let mut content = vec![0; record.fragment().len()];
    let len = pair.records(CLIENT).open(&record, &mut content).unwrap().len;
    let Some(Check::Challenge(cookie)) = Check::parse(&content[..len]) else { panic!("{content:?}") };
    for (cookie, proves) in [(!cookie, false), (cookie, true)] {
        receive(&mut pair, content_type::RETURN_ROUTABILITY_CHECK, &Check::Response(cookie).to_bytes());
        let info = pair.sides[SERVER].endpoint.info(session).unwrap();
        assert_eq!((info.peer(), info.is_peer_proven()), (elsewhere, proves));
    }
}
