//! How much of a worker's time handshakes get.

/// While established peers talk, handshakes get one part of so many.
const PARTS: i64 = 4;

/// Established peers talk when one of them was heard within this time, in microseconds.
const TALKING: u64 = 20_000;

/// Time that handshakes have not used and may make up for.
const SAVED_AT_MOST: i64 = 2000;

/// The account of the handshakes, in microseconds.
pub struct Share {
    credit: i64,
    counted: u64,
    heard: u64,
}

impl Share {
    /// The account at `now`.
    pub fn new(now: u64) -> Share {
        Share { credit: 0, counted: now, heard: now.saturating_sub(TALKING) }
    }

    /// An established peer was heard.
    pub fn heard(&mut self, now: u64) {
        self.heard = now;
    }

    /// How long handshakes have to wait for their turn: 0 when it has come.
    pub fn wait(&mut self, now: u64) -> u64 {
        let passed = now.saturating_sub(self.counted) as i64;
        self.counted = now;
        let talking = now < self.heard + TALKING;
        self.credit = if talking { self.credit + passed / PARTS } else { SAVED_AT_MOST }.min(SAVED_AT_MOST);
        if self.credit > 0 { 0 } else { ((1 - self.credit) * PARTS) as u64 }
    }

    /// Handshakes have had so much time.
    pub fn spent(&mut self, time: u64) {
        self.credit -= time as i64;
    }
}
