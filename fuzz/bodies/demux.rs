//! Datagrams taken apart into records and fragments, and put together again for another MTU.

use dv_dtls::wire::datagrams::Datagrams;
use dv_dtls::wire::handshake::{Fragment, HEADER_LEN, fragments};
use dv_dtls::wire::record::{HEADER_LEN as RECORD_HEADER_LEN, Record, content_type, records, records_with};
use dv_dtls::wire::refragment::{LIMIT_MIN, refragment};

/// What a flight says, however it is cut.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    /// A byte of a message in clear: type, length and number of the message, and where in it the byte stands.
    Byte(u8, usize, u16, usize, u8),
    /// A fragment without any.
    Empty(u8, usize, u16, usize),
    /// A record that is not to be cut.
    Whole(&'a [u8]),
}

/// `data` is the limit (2 bytes), the first record number (1 byte), then datagrams behind their lengths (2 bytes each).
pub fn run(data: &[u8]) {
    let Some((&[high, low, first], mut data)) = data.split_first_chunk::<3>() else { return };
    let mut flight = Datagrams::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (datagram, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        let walked: Vec<&[u8]> = records(datagram).map(|record| record.bytes).collect();
        assert!(datagram.starts_with(&walked.concat()));
        // As its receiver, whose connection IDs have some length.
        let cid_len = usize::from(first % 40);
        let mut known = 0;
        for record in records_with(datagram, cid_len) {
            let with_id = record.content_type == content_type::TLS12_CID;
            assert_eq!(record.cid.len(), if with_id { cid_len } else { 0 });
            assert_eq!(record.bytes.len(), RECORD_HEADER_LEN + record.cid.len() + record.fragment().len());
            known += record.bytes.len();
        }
        assert!(known <= datagram.len());
        flight.push(datagram);
        data = rest;
    }

    let limit = usize::from(u16::from_be_bytes([high, low]));
    let mut cut = Datagrams::new();
    refragment(&flight, limit, &mut cut);
    for datagram in cut.iter().filter(|datagram| datagram.len() > limit.max(LIMIT_MIN)) {
        let (record, rest) = Record::parse(datagram).expect("datagrams are made of records");
        assert!(
            rest.is_empty() && messages(&record).is_none(),
            "a longer datagram is a single record that cannot be cut"
        );
    }
    assert_eq!(pieces(&cut), pieces(&flight));

    let mut renumbered = cut.clone();
    let mut next = u64::from(first);
    renumbered.renumber(&mut next);
    let mut expected = u64::from(first);
    for (before, after) in cut.iter().flat_map(records).zip(renumbered.iter().flat_map(records)) {
        if before.epoch == 0 {
            assert_eq!(after.sequence, expected);
            assert_eq!(after.fragment(), before.fragment());
            expected += 1;
        } else {
            assert_eq!(after, before);
        }
    }
    assert_eq!(next, expected);
}

fn pieces(flight: &Datagrams) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for record in flight.iter().flat_map(records) {
        let Some(messages) = messages(&record) else {
            pieces.push(Piece::Whole(record.bytes));
            continue;
        };
        for Fragment { message_type, length, message_seq, offset, body } in messages {
            if body.is_empty() {
                pieces.push(Piece::Empty(message_type, length, message_seq, offset));
            }
            let bytes = (offset..).zip(body);
            pieces.extend(bytes.map(|(at, &byte)| Piece::Byte(message_type, length, message_seq, at, byte)));
        }
    }
    pieces
}

/// The fragments of a record in clear that has nothing else in it.
fn messages<'a>(record: &Record<'a>) -> Option<Vec<Fragment<'a>>> {
    let messages: Vec<Fragment<'_>> = fragments(record.fragment()).collect();
    let whole: usize = messages.iter().map(|fragment| HEADER_LEN + fragment.body.len()).sum();
    let in_clear = record.content_type == content_type::HANDSHAKE && record.epoch == 0;
    (in_clear && whole == record.fragment().len()).then_some(messages)
}
