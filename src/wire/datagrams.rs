//! Datagrams in one buffer, as a flight is kept and as messages wait.

use std::ops::Range;

use super::record::{self, Record};

/// Datagrams back to back in one buffer, as a flight is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    bytes: Vec<u8>,
    /// Where each datagram ends.
    ends: Vec<usize>,
}

impl Datagrams {
    /// None yet.
    pub const fn new() -> Datagrams {
        Datagrams { bytes: Vec::new(), ends: Vec::new() }
    }

    /// Adds a datagram.
    pub fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    /// Adds a datagram of at most `room` bytes: `write` fills them in and returns its length, or `None` to add nothing.
    /// Returns whether one was added.
    pub fn push_with(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let begin = self.bytes.len();
        self.bytes.resize(begin + room, 0);
        let written = write(&mut self.bytes[begin..]);
        self.bytes.truncate(begin + written.unwrap_or(0));
        if written.is_some() {
            self.ends.push(self.bytes.len());
        }
        written.is_some()
    }

    /// Forgets all of them and keeps the room that they took.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The datagrams in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// Gives the epoch-0 records the numbers from `next` on: a record that is sent again is a new record, or the peer
    /// takes it for a replay (RFC 6347 4.2.4). Protected records keep their numbers, which their protection covers.
    pub fn renumber(&mut self, next: &mut u64) {
        let mut begin = 0;
        for &end in &self.ends {
            renumber(&mut self.bytes[begin..end], next);
            begin = end;
        }
    }

    /// Appends bytes, given as a head and the rest, to the last datagram if they fit or it is empty, and otherwise begins a
    /// new one with them.
    pub fn pack(&mut self, head: &[u8], rest: &[u8], limit: usize) {
        let is_empty = self.ends.last().is_some_and(|end| *end == self.begin(self.len() - 1));
        if is_empty || head.len() + rest.len() <= self.room(limit) {
            self.ends.pop();
        }
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(rest);
        self.ends.push(self.bytes.len());
    }

    /// The datagram with this number.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let end = *self.ends.get(number)?;
        Some(&self.bytes[self.begin(number)..end])
    }

    /// Where the datagram with this number begins: how many bytes are in those before it.
    pub fn begin(&self, number: usize) -> usize {
        number.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// These bytes of all of them back to back.
    pub fn slice(&self, bytes: Range<usize>) -> &[u8] {
        &self.bytes[bytes]
    }

    /// How many bytes are in all of them.
    pub fn total_len(&self) -> usize {
        self.bytes.len()
    }

    /// Everything from datagram `from` on, back to back.
    pub fn tail_mut(&mut self, from: usize) -> &mut [u8] {
        let begin = self.begin(from);
        &mut self.bytes[begin..]
    }

    /// Forgets all but the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.begin(count));
        self.ends.truncate(count);
    }

    /// Forgets the first `count`.
    pub fn drop_first(&mut self, count: usize) {
        self.remove(0..count);
    }

    /// Forgets those with these numbers.
    pub fn remove(&mut self, numbers: Range<usize>) {
        let (begin, end) = (self.begin(numbers.start), self.begin(numbers.end));
        self.bytes.drain(begin..end);
        self.ends.drain(numbers.clone());
        self.ends[numbers.start..].iter_mut().for_each(|later| *later -= end - begin);
    }

    /// Gives back the room that is not used.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// How much more the last datagram can take.
    pub fn room(&self, limit: usize) -> usize {
        let [.., start, end] = self.ends[..] else { return limit.saturating_sub(self.bytes.len()) };
        limit.saturating_sub(end - start)
    }
}

/// Gives the epoch-0 records of one datagram the numbers from `next` on.
pub fn renumber(mut bytes: &mut [u8], next: &mut u64) {
    while let Some((Record { epoch, bytes: record, .. }, _)) = Record::parse(bytes) {
        let (record, rest) = bytes.split_at_mut(record.len());
        if epoch == 0 {
            record::set_sequence(record, *next);
            *next += 1;
        }
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_goes_into_the_last_one() {
        let mut all = Datagrams::default();
        assert!(all.is_empty() && all.room(10) == 10);
        all.push(&[]);
        // Into an empty one whatever its length, and then as much as there is room for.
        all.pack(b"elev", b"en bytes", 10);
        all.pack(b"1234", b"56", 10);
        assert_eq!(all.room(10), 4);
        all.pack(b"7890", b"", 10);
        assert_eq!((all.len(), all.room(10), all.room(9)), (2, 0, 0));
        all.pack(b"0", b"", 10);
        let expected = [&b"eleven bytes"[..], b"1234567890", b"0"];
        assert!(all.iter().eq(expected) && !all.is_empty());
        assert_eq!((all.get(1), all.get(3), all.begin(2), all.total_len()), (Some(expected[1]), None, 22, 23));
        assert_eq!(all.tail_mut(1), b"12345678900");
        all.remove(1..2);
        assert!(all.iter().eq([expected[0], expected[2]]));
        all.truncate(1);
        assert!(all.iter().eq([expected[0]]) && all.total_len() == 12);
        all.shrink();
        assert_eq!((all.bytes.capacity(), all.ends.capacity()), (12, 1));
    }
}
