//! How much of a worker's time goes to handshakes.

/// While established peers talk, handshakes get one part in this many.
const PARTS: i64 = 4;

/// Established peers count as talking if one of them was heard within this time, in microseconds.
const TALKING: u64 = 20_000;

/// The most unused credit that handshakes can save up.
const SAVED_AT_MOST: i64 = 2000 * PARTS;

/// The account of the handshakes: each microsecond that passes is credited, and one of theirs costs [`PARTS`] of them.
pub struct TimeShare {
    credit: i64,
    counted: u64,
    heard: u64,
}

impl TimeShare {
    /// The account at `now`.
    pub fn new(now: u64) -> TimeShare {
        TimeShare { credit: 0, counted: now, heard: now.saturating_sub(TALKING) }
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
        self.credit = if talking { self.credit + passed } else { SAVED_AT_MOST }.min(SAVED_AT_MOST);
        if self.credit > 0 { 0 } else { (1 - self.credit) as u64 }
    }

    /// Handshakes have had so much time.
    pub fn spent(&mut self, time: u64) {
        self.credit -= time as i64 * PARTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What handshakes that want all they can get have of a second, when the worker's rounds take so long.
    fn theirs(talking: bool, round: u64) -> u64 {
        let (mut share, mut now, mut theirs) = (TimeShare::new(0), 0, 0);
        while now < 1_000_000 {
            if talking {
                share.heard(now);
            }
            now += round;
            if share.wait(now) == 0 {
                share.spent(100);
                theirs += 100;
                now += 100;
            }
        }
        theirs
    }

    #[test]
    fn handshakes_get_a_quarter_while_peers_talk() {
        for round in [1, 3, 50, 1000] {
            let theirs = theirs(true, round);
            let most = 250_000.min(1_000_000 / (round + 100) * 100);
            assert!(theirs > most * 9 / 10 && theirs < most * 11 / 10 + 2000, "{theirs} in rounds of {round}");
        }
    }

    #[test]
    fn they_get_all_of_it_while_nobody_talks() {
        assert!(theirs(false, 1) > 950_000);
    }

    #[test]
    fn they_are_told_when_their_turn_comes() {
        let mut share = TimeShare::new(0);
        share.heard(0);
        share.spent(10_000);
        let wait = share.wait(10);
        share.heard(10 + wait);
        assert!(wait > 1000);
        assert!(share.wait(10 + wait - 1) > 0);
        assert_eq!(share.wait(10 + wait), 0);
    }
}
