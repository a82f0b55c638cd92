//! A flight for a smaller MTU (RFC 6347 4.1.1.1, 4.2.3).

use super::datagrams::Datagrams;
use super::handshake::{self, Fragment, fragments};
use super::record::{self, Record, content_type, records};

const HEADERS_LEN: usize = record::HEADER_LEN + handshake::HEADER_LEN;

/// The smallest datagram that a handshake message can be split into: both headers and one byte.
pub const LIMIT_MIN: usize = HEADERS_LEN + 1;

/// Packs `flight` into datagrams of at most `limit` bytes (at least [`LIMIT_MIN`]) in `out`, whose old content goes.
///
/// Handshake messages in clear are split as far as necessary. Everything else stays whole and in its place, so a datagram is
/// longer than `limit` only if a protected record alone is. All pieces of a record have its number, so that
/// [`Datagrams::renumber`] must follow.
pub fn refragment(flight: &Datagrams, limit: usize, out: &mut Datagrams) {
    out.clear();
    let limit = limit.max(LIMIT_MIN);
    let mut behind_id = false;
    for record in flight.iter().flat_map(records) {
        // How long a connection ID is, is not known here, so that nothing behind a record with one could be found.
        if std::mem::replace(&mut behind_id, record.content_type == content_type::TLS12_CID) {
            out.push(&[]);
        }
        if !is_splittable(&record) {
            out.pack(record.bytes, &[], limit);
            continue;
        }
        for fragment in fragments(record.fragment()) {
            split(&record, fragment, limit, out);
        }
    }
}

fn is_splittable(record: &Record<'_>) -> bool {
    let whole: usize = fragments(record.fragment()).map(|fragment| handshake::HEADER_LEN + fragment.body.len()).sum();
    record.content_type == content_type::HANDSHAKE && record.epoch == 0 && whole == record.fragment().len()
}

fn split(record: &Record<'_>, mut fragment: Fragment<'_>, limit: usize, out: &mut Datagrams) {
    loop {
        let least = LIMIT_MIN.min(HEADERS_LEN + fragment.body.len());
        let room = Some(out.room(limit)).filter(|&room| room >= least).unwrap_or(limit);
        let (body, rest) = fragment.body.split_at(fragment.body.len().min(room - HEADERS_LEN));
        out.pack(&headers(record, &Fragment { body, ..fragment }), body, limit);
        if rest.is_empty() {
            return;
        }
        fragment = Fragment { offset: fragment.offset + body.len(), body: rest, ..fragment };
    }
}

/// The two headers of a record like `record` that carries `fragment` alone.
fn headers(record: &Record<'_>, fragment: &Fragment<'_>) -> [u8; HEADERS_LEN] {
    let mut headers = [0; HEADERS_LEN];
    let (of_record, of_fragment) = headers.split_at_mut(record::HEADER_LEN);
    of_record.copy_from_slice(&record.bytes[..record::HEADER_LEN]);
    of_record[11..].copy_from_slice(&((handshake::HEADER_LEN + fragment.body.len()) as u16).to_be_bytes());
    of_fragment.copy_from_slice(&fragment.header());
    headers
}
