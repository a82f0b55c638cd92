//! A kept flight goes out in smaller datagrams, and again with new record numbers.

mod samples;

use dv_dtls::wire::datagrams::{Datagrams, renumber};
use dv_dtls::wire::handshake::{Fragment, fragments};
use dv_dtls::wire::record::{self, Record, records, records_with};
use dv_dtls::wire::refragment::{LIMIT_MIN, refragment};
use proptest::prelude::*;
use samples::Random;

/// One message after the other, each in a record of its own and packed as libssl does it.
fn flight(message_lens: &[usize], random: &mut Random) -> Datagrams {
    let mut flight = Datagrams::new();
    for (n, &len) in message_lens.iter().enumerate() {
        let body = random.bytes(len);
        let message = message(n as u16, &body);
        flight.push(&samples::record(22, 0xfefd, 0, n as u64, &message));
    }
    flight
}

fn message(message_seq: u16, body: &[u8]) -> Vec<u8> {
    let whole = Fragment { message_type: 11, length: body.len(), message_seq, offset: 0, body };
    [&whole.header()[..], body].concat()
}

/// The messages that the fragments of a flight add up to, in order, each with its number.
fn messages(flight: &Datagrams) -> Vec<(u16, Vec<u8>)> {
    let mut messages: Vec<(u16, Vec<u8>)> = Vec::new();
    for record in flight.iter().flat_map(records).filter(|r| r.content_type == 22 && r.epoch == 0) {
        for fragment in fragments(record.fragment()) {
            if fragment.offset == 0 {
                messages.push((fragment.message_seq, Vec::new()));
            }
            let (message_seq, body) = messages.last_mut().unwrap();
            assert_eq!((*message_seq, body.len()), (fragment.message_seq, fragment.offset), "in order, without a gap");
            body.extend_from_slice(fragment.body);
        }
    }
    messages
}

fn longest(flight: &Datagrams) -> usize {
    flight.iter().map(<[u8]>::len).max().unwrap_or(0)
}

#[test]
fn a_certificate_flight_fits_a_small_mtu() {
    let before = flight(&[80, 2400, 300, 0], &mut Random(1));
    for limit in [208, 228, 512, 1200] {
        let mut after = Datagrams::new();
        refragment(&before, limit, &mut after);
        assert!(longest(&after) <= limit);
        assert_eq!(messages(&after), messages(&before));
        let carried = limit - record::HEADER_LEN - 12;
        assert!(after.len() <= 2780_usize.div_ceil(carried) + 1, "{} datagrams of {limit}", after.len());
    }
}

/// Up to the last byte: of a message with nothing in it the headers are all.
#[test]
fn an_empty_message_fits_where_there_is_room_for_its_headers() {
    let headers = LIMIT_MIN - 1;
    let before = flight(&[40, 0], &mut Random(1));
    for (room, datagrams) in [(headers, 1), (headers - 1, 2)] {
        let mut after = Datagrams::new();
        refragment(&before, headers + 40 + room, &mut after);
        assert_eq!(after.len(), datagrams);
        assert_eq!(messages(&after), messages(&before));
    }
}

#[test]
fn no_limit_is_smaller_than_a_message_needs() {
    let before = flight(&[3], &mut Random(1));
    let mut after = Datagrams::new();
    // What was there before goes.
    for _ in 0..2 {
        refragment(&before, 0, &mut after);
        assert_eq!((after.len(), longest(&after)), (3, LIMIT_MIN));
        assert_eq!(messages(&after), messages(&before));
    }
}

#[test]
fn small_messages_share_a_datagram() {
    let before = flight(&[40, 40, 0], &mut Random(1));
    let mut after = Datagrams::new();
    refragment(&before, 1200, &mut after);
    assert_eq!((before.len(), after.len()), (3, 1));
    assert_eq!(messages(&after), messages(&before));
}

#[test]
fn a_record_with_several_messages_is_taken_apart() {
    let mut before = Datagrams::new();
    let content = [message(1, &[1; 100]), message(2, &[2; 300]), message(3, &[])].concat();
    before.push(&samples::record(22, 0xfefd, 0, 7, &content));
    let mut after = Datagrams::new();
    refragment(&before, 208, &mut after);
    assert!(longest(&after) <= 208);
    assert_eq!(messages(&after), messages(&before));
    assert!(after.iter().flat_map(records).all(|record| fragments(record.fragment()).count() == 1));
}

#[test]
fn what_is_not_a_message_in_clear_stays_whole_and_in_its_place() {
    let change_cipher_spec = samples::record(20, 0xfefd, 0, 1, &[1]);
    // Even where what is protected looks like a message.
    let finished = samples::record(22, 0xfefd, 1, 0, &message(6, &[9; 300]));
    let odd = samples::record(22, 0xfefd, 0, 2, &[1, 2, 3]);
    let mut before = Datagrams::new();
    let message = samples::record(22, 0xfefd, 0, 0, &message(5, &[4; 200]));
    before.push(&[&message[..], &change_cipher_spec, &finished, &odd].concat());
    let mut after = Datagrams::new();
    refragment(&before, 208, &mut after);

    let kept: Vec<&[u8]> = after.iter().flat_map(records).skip(2).map(|record| record.bytes).collect();
    assert_eq!(kept, [&change_cipher_spec[..], &finished, &odd]);
    let longer: Vec<&[u8]> = after.iter().filter(|datagram| datagram.len() > 208).collect();
    assert_eq!(longer, [&finished[..]], "the one record that cannot be split");
}

#[test]
fn records_in_clear_get_new_numbers_and_others_keep_theirs() {
    let finished = samples::record(22, 0xfefd, 1, 0, &[9; 40]);
    let mut flight = flight(&[500, 10], &mut Random(1));
    flight.push(&[&samples::record(20, 0xfefd, 0, 1, &[1])[..], &finished].concat());
    let mut next = 5;
    flight.renumber(&mut next);
    let numbers: Vec<(u16, u64)> = flight.iter().flat_map(records).map(|r| (r.epoch, r.sequence)).collect();
    assert_eq!(numbers, [(0, 5), (0, 6), (0, 7), (1, 0)]);
    assert_eq!(next, 8);
    assert_eq!(flight.iter().last().unwrap()[14..], finished);
}

#[test]
fn renumbering_leaves_bytes_that_are_no_record_alone() {
    let mut bytes = [samples::record(22, 0xfefd, 0, 3, &[0; 5]), vec![0xaa; 40]].concat();
    let mut next = 1 << 40;
    renumber(&mut bytes, &mut next);
    assert_eq!(bytes[5..11], [1, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[18..], [0xaa; 40]);
}

proptest! {
    #[test]
    fn any_flight_fits_any_limit(
        lens in proptest::collection::vec(0..5000_usize, 0..6),
        first in LIMIT_MIN..1500,
        second in LIMIT_MIN..1500,
    ) {
        let before = flight(&lens, &mut Random(1));
        let (mut once, mut twice) = (Datagrams::new(), Datagrams::new());
        refragment(&before, first, &mut once);
        prop_assert!(longest(&once) <= first);
        prop_assert_eq!(messages(&once), messages(&before));
        // Fragments are split again when the path turns out smaller still.
        refragment(&once, second, &mut twice);
        prop_assert!(longest(&twice) <= second);
        prop_assert_eq!(messages(&twice), messages(&before));
    }
}

/// How long its connection ID is, only the peer knows: what stood behind such a record in its datagram would be lost to us.
#[test]
fn nothing_is_put_behind_a_record_with_a_connection_id() {
    let mut random = Random(4);
    let in_clear = |number| samples::record(22, 0xfefd, 0, number, &message(number as u16, &[7; 30]));
    let with_id = samples::record(25, 0xfefd, 1, 0, &random.bytes(60));
    let long = samples::record(23, 0xfefd, 1, 1, &random.bytes(300));
    let mut before = Datagrams::new();
    for datagram in [[in_clear(0), with_id.clone()].concat(), in_clear(1), with_id.clone(), long.clone(), in_clear(2)] {
        before.push(&datagram);
    }
    let mut after = Datagrams::new();
    refragment(&before, 200, &mut after);
    let expected = [[in_clear(0), with_id.clone()].concat(), [in_clear(1), with_id].concat(), long, in_clear(2)];
    assert_eq!(after.iter().collect::<Vec<_>>(), expected);
    let mut next = 40;
    after.renumber(&mut next);
    assert_eq!(next, 43);
    // As its receiver knows it.
    let with_ids: Vec<_> = after.iter().flat_map(|d| records_with(d, 5)).filter(|r| r.content_type == 25).collect();
    assert!(with_ids.is_empty(), "these have no length behind five bytes");
}

#[test]
fn a_record_with_a_connection_id_and_its_receiver() {
    let id = [1, 2, 3, 4, 5];
    let record = [&[25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9][..], &id, &[0, 3], b"abc"].concat();
    let ordinary = samples::record(23, 0xfefd, 1, 10, b"defg");
    let datagram = [&record[..], &ordinary, &record].concat();
    let walked: Vec<_> = records_with(&datagram, id.len()).collect();
    assert_eq!(walked.iter().map(|r| r.bytes).collect::<Vec<_>>(), [&record[..], &ordinary, &record]);
    assert_eq!(
        walked.iter().map(|r| (r.cid, r.fragment())).collect::<Vec<_>>(),
        [(&id[..], &b"abc"[..]), (&[], b"defg"), (&id, b"abc")]
    );
    assert_eq!(walked.iter().map(|r| (r.epoch, r.sequence)).collect::<Vec<_>>(), [(1, 9), (1, 10), (1, 9)]);
    // Cut anywhere, it is none; to others it reaches to the end.
    for end in 0..record.len() {
        assert_eq!(records_with(&record[..end], id.len()).count(), 0);
    }
    assert_eq!(records(&datagram).map(|r| (r.cid, r.bytes)).collect::<Vec<_>>(), [(&[][..], &datagram[..])]);
    let (parsed, rest) = Record::parse(&datagram).unwrap();
    assert_eq!((parsed.cid, parsed.bytes, rest), (&[][..], &datagram[..], &[][..]));
}
