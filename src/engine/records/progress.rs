//! How far the records of a connection have come, for another process that goes on from there.

use super::{EPOCH, Records, SEQUENCE_MAX, Secrets, Suite, Used, Window};

/// Sequence numbers that are left out when somebody else goes on: so many messages the two would have to send, if both
/// went on against all promises, before a nonce came twice.
pub const SKIPPED: u64 = 1 << 20;

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
            window: (self.window.next, self.window.seen),
        }
    }

    /// Goes on with a connection that has come so far elsewhere, [`SKIPPED`] numbers further on.
    pub fn resume(suite: Suite, secrets: &Secrets, server: bool, progress: Progress) -> Records {
        let used = Used { next: progress.next + SKIPPED, nonces: progress.taken, opened: None };
        let mut records = Records::new(suite, secrets, server, used);
        records.sealed_blocks = progress.sealed_blocks;
        records.failed = progress.failed;
        records.window = Window { next: progress.window.0, seen: progress.window.1 };
        records
    }
}
