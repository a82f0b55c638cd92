//! How far the records of a connection have come, for another process that continues from there.

use super::{EPOCH, Records, SEQUENCE_MAX, Used, Window};
use crate::tls;

/// The least sequence numbers that are skipped when another process continues. If the old one goes on against all promises, it
/// can send this many messages before a nonce is used twice.
pub const SKIPPED: u64 = 1 << 20;

/// In addition, a random number below this is skipped: if two processes continue from the same point, because somebody has
/// imported a copy, they hardly meet. It is not larger because some peers accept nothing that is 2^32 numbers ahead.
const SCATTERED: u64 = 1 << 31;

/// More than the blocks of all records of one key, and more than the records that can fail to open.
const COUNT_MAX: u64 = 1 << 60;

/// How far the records of a connection have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The sequence number of the next record to seal.
    pub next: u64,
    /// Explicit nonces of OpenSSL's that our numbers have not passed yet.
    pub taken: Vec<u64>,
    /// Blocks that were sealed.
    pub sealed_blocks: u64,
    /// Records that failed to open.
    pub failed: u64,
    /// The number of the peer's last Finished.
    pub finished: Option<u64>,
    /// The replay window: one more than the highest number that has come, and which of those behind it have.
    pub window: (u64, u128),
}

impl Progress {
    /// Whether records can have come so far.
    pub fn is_possible(&self) -> bool {
        let (next, seen) = self.window;
        let seen_first = u128::MAX.checked_shr(128_u32.saturating_sub(next.try_into().unwrap_or(128))).unwrap_or(0);
        self.next <= SEQUENCE_MAX + 1
            && next <= SEQUENCE_MAX + 1
            && self.finished.is_none_or(|number| number <= SEQUENCE_MAX)
            && self.sealed_blocks.max(self.failed) <= COUNT_MAX
            && seen & !seen_first == 0
            && self.taken.iter().all(|nonce| nonce >> 48 == EPOCH)
    }
}

impl Records {
    /// How far they have come.
    pub fn progress(&self) -> Progress {
        Progress {
            next: self.next,
            taken: self.taken.clone(),
            sealed_blocks: self.sealed_blocks,
            failed: self.failed,
            finished: self.finished,
            window: (self.window.next, self.window.seen),
        }
    }

    /// Goes on with a connection that has come so far elsewhere, [`SKIPPED`] numbers further on or more.
    pub fn go_on_elsewhere(&mut self, progress: Progress) {
        let random = u64::from_ne_bytes(tls::random());
        self.go_on_behind(SKIPPED + random % SCATTERED, progress);
    }

    fn go_on_behind(&mut self, skipped: u64, progress: Progress) {
        // There is no number beyond the last: progress that has come further would be refused at the next import.
        let next = (progress.next + skipped).min(SEQUENCE_MAX + 1);
        self.go_on_from(Used { next, nonces: progress.taken, opened: None });
        self.sealed_blocks = progress.sealed_blocks;
        self.failed = progress.failed;
        self.finished = progress.finished;
        self.window = Window { next: progress.window.0, seen: progress.window.1 };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::tests::secrets;
    use super::*;
    use crate::engine::records::{HEADER_LEN, Suite};
    use crate::wire::record::content_type;

    /// All nonces of a key over a handover from OpenSSL and some from one process to the next, some of which do not stop when
    /// they should.
    #[test]
    fn no_nonce_comes_twice() {
        let secrets = secrets();
        for suite in [Suite::Aes128Gcm, Suite::Chacha20Poly1305] {
            // OpenSSL's own nonces, where ours will come by, in this process and in others.
            let own = [1 << 48 | 3, 1 << 48 | (20_000 + SKIPPED + 7), 1 << 48 | (3 * SKIPPED), 5];
            let used = Used { next: 1, nonces: own.to_vec(), opened: Some(0) };
            let mut records = Records::new(suite, &secrets, true, used);
            let mut seen: HashSet<u64> = if suite == Suite::Aes128Gcm { own.into() } else { HashSet::new() };
            let mut sealed = vec![0; records.sealed_len(1)];
            let mut seal = |records: &mut Records, count: u64| {
                for _ in 0..count {
                    records.seal(content_type::APPLICATION_DATA, &[0], &mut sealed).unwrap();
                    let at = if suite == Suite::Aes128Gcm { HEADER_LEN } else { 3 };
                    let nonce = u64::from_be_bytes(sealed[at..at + 8].try_into().unwrap());
                    assert!(seen.insert(nonce), "{nonce:x}");
                }
            };
            for _ in 0..5 {
                seal(&mut records, 20_000);
                let progress = records.progress();
                assert!(progress.is_possible());
                let mut next = Records::new(suite, &secrets, true, Used::default());
                next.go_on_behind(SKIPPED, progress);
                seal(&mut next, 1);
                seal(&mut records, 20_000);
                records = next;
            }
            assert!(records.progress().next > 5 * SKIPPED);
        }
    }

    /// Behind all numbers of whoever went on before, at random, and not as far on as some peers would not follow.
    #[test]
    fn two_that_go_on_from_the_same_point_hardly_meet() {
        let secrets = secrets();
        let begins: HashSet<u64> = (0..200)
            .map(|_| {
                let mut records = Records::new(Suite::Aes128Gcm, &secrets, true, Used::default());
                records.go_on_elsewhere(Progress { next: 7, ..Progress::default() });
                records.progress().next
            })
            .collect();
        assert!(begins.iter().all(|next| (7 + SKIPPED..1 << 32).contains(next)));
        assert!(begins.len() > 190 && begins.iter().max().unwrap() - begins.iter().min().unwrap() > 1 << 30);
    }

    #[test]
    fn at_the_end_of_the_numbers_there_is_no_going_on() {
        let secrets = secrets();
        for next in [SEQUENCE_MAX - SKIPPED, SEQUENCE_MAX, SEQUENCE_MAX + 1] {
            let progress = Progress { next, ..Progress::default() };
            assert!(progress.is_possible());
            let mut records = Records::new(Suite::Aes128Gcm, &secrets, true, Used::default());
            records.go_on_behind(SKIPPED, progress);
            assert!(records.are_exhausted());
            let left = records.seal(content_type::ALERT, &[1, 0], &mut [0; 100]).is_some();
            assert_eq!(left, next + SKIPPED <= SEQUENCE_MAX);
            assert!(records.progress().is_possible(), "another process would refuse it, and all that came with it");
        }
    }
}
