//! Datagrams, or messages, that wait in one buffer and are taken out in the order in which they came.

use std::collections::VecDeque;
use std::ops::Range;

use super::datagrams::Datagrams;

/// What was taken out stays in front of what waits until it is so much, and half of all: so each datagram is moved up at most
/// once, even if the queue is never empty.
const TAKEN_AT_MOST: usize = 256;

/// Datagrams, first in, first out.
#[derive(Default)]
pub struct Queue {
    datagrams: Datagrams,
    taken: usize,
}

impl Queue {
    /// Where to add datagrams. What was taken out before may not be read any more.
    #[inline]
    pub fn tail(&mut self) -> &mut Datagrams {
        if self.taken == self.datagrams.len() {
            self.datagrams.clear();
            self.taken = 0;
        } else if self.taken >= TAKEN_AT_MOST.max(self.datagrams.len() / 2) {
            self.datagrams.drop_first(self.taken);
            self.taken = 0;
        }
        &mut self.datagrams
    }

    /// Takes the oldest out. Says where it stands, for [`Queue::bytes`].
    #[inline]
    pub fn pop(&mut self) -> Option<Range<usize>> {
        if self.taken == self.datagrams.len() {
            return None;
        }
        self.taken += 1;
        Some(self.datagrams.begin(self.taken - 1)..self.datagrams.begin(self.taken))
    }

    /// What [`Queue::pop`] has pointed to.
    pub fn bytes(&self, of: Range<usize>) -> &[u8] {
        self.datagrams.slice(of)
    }

    /// How many there are, with those that were taken out and are still there.
    pub fn count(&self) -> usize {
        self.datagrams.len()
    }

    /// Forgets the youngest, so that [`Queue::count`] is `count`.
    pub fn truncate(&mut self, count: usize) {
        self.datagrams.truncate(count);
    }

    /// Bytes that wait.
    pub fn waiting_len(&self) -> usize {
        self.datagrams.total_len() - self.datagrams.begin(self.taken)
    }
}

/// Datagrams that wait, each with a tag, such as the address that it came from.
pub struct Tagged<T> {
    tags: VecDeque<T>,
    datagrams: Queue,
}

impl<T> Default for Tagged<T> {
    fn default() -> Tagged<T> {
        Tagged { tags: VecDeque::new(), datagrams: Queue::default() }
    }
}

impl<T> Tagged<T> {
    /// Bytes that each datagram takes up beside its own.
    pub const ASIDE: usize = size_of::<T>() + size_of::<usize>();

    /// Adds a datagram.
    pub fn push(&mut self, tag: T, datagram: &[u8]) {
        self.tags.push_back(tag);
        self.datagrams.tail().push(datagram);
    }

    /// Takes the oldest out.
    pub fn pop(&mut self) -> Option<(T, &[u8])> {
        let tag = self.tags.pop_front()?;
        let datagram = self.datagrams.pop()?;
        Some((tag, self.datagrams.bytes(datagram)))
    }

    /// Puts back what [`Tagged::pop`] gave last.
    pub fn put_back(&mut self, tag: T) {
        self.tags.push_front(tag);
        self.datagrams.taken -= 1;
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Bytes that those that wait take up.
    pub fn waiting_len(&self) -> usize {
        self.datagrams.waiting_len() + self.tags.len() * Self::ASIDE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in a flood, where one always waits: what was taken out takes up no more than a bounded room in front of it.
    #[test]
    fn what_was_taken_out_is_let_go_of() {
        let mut queue = Tagged::default();
        queue.push(0, b"0");
        for number in 1..10_000 {
            queue.push(number, number.to_string().as_bytes());
            let expected = (number - 1).to_string();
            assert_eq!(queue.pop(), Some((number - 1, expected.as_bytes())));
            assert!(queue.datagrams.count() <= TAKEN_AT_MOST + 2, "{}", queue.datagrams.count());
        }
        queue.put_back(9998);
        assert_eq!((queue.len(), queue.waiting_len()), (2, 8 + 2 * Tagged::<i32>::ASIDE));
        assert_eq!(queue.pop(), Some((9998, &b"9998"[..])));
        assert_eq!(queue.pop(), Some((9999, &b"9999"[..])));
        assert!(queue.pop().is_none() && queue.is_empty());
        assert_eq!(queue.datagrams.tail().len(), 0);
    }
}
