//! The structs of connections that the library gave up and that their owner has not freed yet. A program that forgets them
//! costs no more than so many.

use std::collections::{HashMap, VecDeque};

/// Beyond these the oldest are freed.
const MAX: usize = 65_536;

/// What its owner has freed stands in the queue until it is at the front, or until there is so much of it.
const SLACK: usize = 1024;

/// The structs by their addresses, the oldest first.
#[derive(Default)]
pub struct GivenUp {
    order: VecDeque<(u64, usize)>,
    number: HashMap<usize, u64>,
    next: u64,
}

impl GivenUp {
    /// Remembers a struct. Gives one that is to be freed instead, when there are too many.
    pub fn keep(&mut self, conn: usize) -> Option<usize> {
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, conn));
        self.number.insert(conn, number);
        while self.order.len() > MAX {
            let (number, conn) = self.order.pop_front()?;
            // The address may stand there twice: of one that was freed, and of another one that malloc put there.
            if self.number.get(&conn) == Some(&number) {
                self.number.remove(&conn);
                return Some(conn);
            }
        }
        None
    }

    /// The owner frees a struct.
    pub fn forget(&mut self, conn: usize) {
        let GivenUp { order, number, .. } = self;
        number.remove(&conn);
        // Not each time: what is looked at here was given up since the last time.
        if order.len() > 2 * number.len() + SLACK {
            order.retain(|(given_up, conn)| number.get(conn) == Some(given_up));
            order.shrink_to(2 * number.len());
        }
    }
}

#[cfg(test)]
impl GivenUp {
    pub fn has(&self, conn: usize) -> bool {
        self.number.contains_key(&conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_the_oldest_go_in_their_order() {
        let mut given_up = GivenUp::default();
        assert!((0..MAX).all(|conn| given_up.keep(conn).is_none()));
        assert!((0..1000).all(|conn| given_up.keep(MAX + conn) == Some(conn)));
        assert_eq!((given_up.order.len(), given_up.number.len()), (MAX, MAX));
    }

    #[test]
    fn what_its_owner_has_freed_is_not_freed_again() {
        let mut given_up = GivenUp::default();
        (0..MAX).for_each(|conn| assert_eq!(given_up.keep(conn), None));
        given_up.forget(0);
        given_up.forget(2);
        // At the address of the first one malloc has put another struct, which is now the youngest.
        assert_eq!(given_up.keep(0), None);
        assert_eq!(given_up.keep(MAX), Some(1));
        assert_eq!(given_up.keep(MAX + 1), None);
        assert_eq!(given_up.keep(MAX + 2), Some(3));
    }

    #[test]
    fn a_program_that_frees_all_leaves_nothing_behind() {
        let mut given_up = GivenUp::default();
        for conn in 0..100_000 {
            assert_eq!(given_up.keep(conn), None);
            given_up.forget(conn);
        }
        assert!(
            given_up.order.len() <= SLACK + 1 && given_up.order.capacity() <= 4 * SLACK && given_up.number.is_empty()
        );
    }
}
