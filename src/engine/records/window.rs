//! Which records have come already (RFC 6347 4.1.2.6).

/// A record so far behind the newest cannot be told from a replay.
const WIDTH: u64 = u128::BITS as u64;

/// The replay window of one epoch. A record is marked once it has proved authentic, never before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// One more than the highest number that is marked.
    pub(super) next: u64,
    /// Bit `n`: the record `n` behind the highest has come.
    pub(super) seen: u128,
}

impl Window {
    /// Whether a record with this number may be new.
    #[inline]
    pub fn is_new(&self, sequence: u64) -> bool {
        match self.next.checked_sub(sequence + 1) {
            None => true,
            Some(behind) => behind < WIDTH && self.seen >> behind & 1 == 0,
        }
    }

    /// Whether no record with this number or a higher one has come.
    #[inline]
    pub fn is_newest(&self, sequence: u64) -> bool {
        sequence >= self.next
    }

    /// The record with this number has come, and is authentic.
    #[inline]
    pub fn mark(&mut self, sequence: u64) {
        match self.next.checked_sub(sequence + 1) {
            None => {
                let ahead = sequence + 1 - self.next;
                self.seen = if ahead < WIDTH { self.seen << ahead | 1 } else { 1 };
                self.next = sequence + 1;
            }
            Some(behind) if behind < WIDTH => self.seen |= 1 << behind,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a note of each record since `first`.
    struct Naive {
        first: u64,
        came: Vec<bool>,
        highest: Option<u64>,
    }

    impl Naive {
        fn is_new(&self, sequence: u64) -> bool {
            let came = self.came.get((sequence - self.first) as usize).is_some_and(|came| *came);
            !came && self.highest.is_none_or(|highest| sequence + WIDTH > highest)
        }

        fn mark(&mut self, sequence: u64) {
            let at = (sequence - self.first) as usize;
            self.came.resize(self.came.len().max(at + 1), false);
            self.came[at] = true;
            self.highest = self.highest.max(Some(sequence));
        }
    }

    #[test]
    fn agrees_with_a_naive_one() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
        };
        let (mut new, mut old) = (0, 0);
        for round in 0..1000 {
            let last = (1 << 48) - 1;
            let mut middle = if round % 4 == 0 { last - 400 } else { next() % 1000 };
            let first = middle.saturating_sub(1000);
            let (mut window, mut naive) = (Window::default(), Naive { first, came: Vec::new(), highest: None });
            for _ in 0..10_000 {
                let spread = [4, 64, 2 * WIDTH, 400][(next() % 4) as usize];
                middle = (middle + next() % 3 * u64::from(next() % 64 == 0) * (next() % 300)).min(last);
                let sequence = (middle + next() % spread).saturating_sub(spread / 2).min(last);
                assert_eq!(window.is_new(sequence), naive.is_new(sequence), "{sequence}: {window:?}");
                if naive.is_new(sequence) {
                    new += 1;
                    // Not all that look new prove authentic.
                    if next() % 8 != 0 {
                        window.mark(sequence);
                        naive.mark(sequence);
                    }
                } else {
                    old += 1;
                }
            }
        }
        assert!(new > 100_000 && old > 1_000_000, "{new} new, {old} old");
    }

    #[test]
    fn marking_what_has_left_the_window_changes_nothing() {
        let mut window = Window::default();
        window.mark(1000);
        window.mark(1);
        assert!(!window.is_new(1) && !window.is_new(1000) && window.is_new(999) && window.is_new(1001));
        // The oldest that is in it, and the one before that.
        window.mark(1000 - WIDTH);
        assert_eq!(window.seen, 1);
        window.mark(1001 - WIDTH);
        assert_eq!(window.seen, 1 | 1 << (WIDTH - 1));
    }
}
