//! A line in the log, not more than once a second, that says that strangers are refused and why.

use std::cell::Cell;

use crate::engine::registry::Refusal;
use crate::engine::stats::Counters;
use crate::log::log;

const EVERY: u64 = 1_000_000;

/// When the last line was written, and how many were refused since.
#[derive(Default)]
pub struct Refusals {
    next_line: Cell<u64>,
    since: Cell<u64>,
}

impl Refusals {
    /// Counts a refusal and logs it, unless another one was logged just before.
    pub fn note(&self, now: u64, why: Refusal, counters: &Counters) {
        let (counter, limit) = match why {
            Refusal::Handshakes => (&counters.refused_handshakes, "max_handshakes is reached"),
            Refusal::Source => (&counters.refused_source, "a source has reached its limit"),
            Refusal::Connections => (&counters.refused_connections, "max_connections is reached and nobody is idle"),
        };
        counter.add(1);
        self.since.set(self.since.get() + 1);
        if now >= self.next_line.get() {
            self.next_line.set(now + EVERY);
            log!(Warn, "{} new peers refused: {limit}", self.since.take());
        }
    }
}
