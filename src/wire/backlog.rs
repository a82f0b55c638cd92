//! Datagrams, or messages, that wait until somebody asks for them one by one.

use std::collections::VecDeque;

/// What waits, oldest first. It is almost always empty, and then no larger than a pointer.
#[derive(Default)]
pub struct Backlog(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting(VecDeque<Box<[u8]>>);

impl Backlog {
    /// Appends one, unless `most` wait already. Returns whether there was room for it.
    pub fn push(&mut self, bytes: &[u8], most: usize) -> bool {
        let room = self.0.as_ref().map_or(0, |waiting| waiting.0.len()) < most;
        if room {
            self.0.get_or_insert_default().0.push_back(bytes.into());
        }
        room
    }

    /// Takes the oldest out.
    #[inline]
    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        let oldest = self.0.as_mut()?.0.pop_front();
        self.0.take_if(|waiting| waiting.0.is_empty());
        oldest
    }

    /// How many bytes wait.
    pub fn total_len(&self) -> usize {
        self.0.iter().flat_map(|waiting| &waiting.0).map(|bytes| bytes.len()).sum()
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first_and_the_newest_finds_no_room() {
        const MOST: usize = 5;
        let mut backlog = Backlog::default();
        assert!(!backlog.push(b"where there is no room at all", 0));
        for round in 0..3 {
            assert!(backlog.0.is_none() && backlog.pop().is_none());
            assert!((0..MOST).all(|number| backlog.push(&[round, number as u8], MOST)));
            assert!(!backlog.push(b"one more", MOST));
            assert_eq!(backlog.total_len(), 2 * MOST);
            assert!((0..MOST).all(|number| backlog.pop().as_deref() == Some(&[round, number as u8][..])));
        }
        assert!(backlog.push(b"forgotten", MOST));
        backlog.clear();
        assert!(backlog.0.is_none() && backlog.pop().is_none());
        assert_eq!(size_of::<Backlog>(), size_of::<usize>());
    }
}
