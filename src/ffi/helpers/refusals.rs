//! Lines in the log that say whom the helpers turn away, and why: of each kind one a second at most.

use std::cell::Cell;

use crate::engine::stats::{Counter, Counters};
use crate::log::log;

const EVERY: u64 = 1_000_000;

/// A kind of line: what it counts, and what it says behind the number.
struct Kind {
    counter: fn(&Counters) -> &Counter,
    text: &'static str,
    /// The operator has to do something about it, or is to know that it is happening: it is not a stranger's own fault.
    warns: bool,
}

impl Kind {
    const fn new(counter: fn(&Counters) -> &Counter, text: &'static str, warns: bool) -> Kind {
        Kind { counter, text, warns }
    }
}

const KINDS: [Kind; 6] = [
    Kind::new(|c| &c.refused_handshakes, "new peers refused: max_handshakes is reached", true),
    Kind::new(|c| &c.refused_source, "new peers refused: a source has reached its limit", true),
    Kind::new(|c| &c.refused_connections, "new peers refused: max_connections is reached and nobody is idle", true),
    Kind::new(|c| &c.evicted, "idle connections closed: a limit of connections is reached", true),
    Kind::new(|c| &c.cookies_refused, "hellos had no good cookie: too old, or not of this secret", false),
    Kind::new(|c| &c.hellos_too_short, "hellos dropped: the first fragment ends before the cookie", false),
];

#[derive(Default)]
pub struct Refusals {
    /// For each kind: when its next line may be written, and how far the last one has counted.
    kinds: [Cell<(u64, u64)>; KINDS.len()],
    /// When the next line about cookies that are too long may be written.
    long_cookie: Cell<u64>,
}

impl Refusals {
    /// Logs what was counted since the last lines.
    #[inline]
    pub fn tell(&self, now: u64, counters: &Counters) {
        for (kind, last) in KINDS.iter().zip(&self.kinds) {
            let ((next, told), count) = (last.get(), (kind.counter)(counters).get());
            if count != told && now >= next {
                last.set((now + EVERY, count));
                log(kind, count - told);
            }
        }
    }

    /// The program's cookie makes an answer that is longer than the hello. It is not sent: whoever gives the address of
    /// somebody else would have the library send him more than he sends himself.
    #[cold]
    pub fn tell_of_long_cookie(&self, now: u64, answer: usize, hello: usize) {
        if now >= self.long_cookie.get() {
            self.long_cookie.set(now + EVERY);
            log!(
                Warn,
                "a hello of {hello} bytes is not answered: with the cookie that the program's callback makes, the answer \
                 would have {answer}, and it must not be longer than the hello. Make shorter cookies"
            );
        }
    }
}

#[cold]
fn log(kind: &Kind, count: u64) {
    match kind.warns {
        true => log!(Warn, "{count} {}", kind.text),
        false => log!(Info, "{count} {}", kind.text),
    }
}
