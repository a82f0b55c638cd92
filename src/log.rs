//! Log lines: collected while a call runs, handed to the program's callback when nothing is borrowed or locked any more.
//!
//! A line is formatted only when somebody listens at its level. The `ffi` guard calls [`flush`] as the last thing of each
//! exported function, so a callback may call any helper again.
//!
//! A line stays one line. It may contain text from a peer, such as what a program's verify callback says about a certificate,
//! and that must neither look like further lines nor tell a terminal what to do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::guard::lock;
use crate::tls::fork;

/// How much a line matters; a listener names the least level that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// A call failed because of what the program or the operator gave.
    Error = 1,
    /// Something was refused or given up that somebody may miss.
    Warn = 2,
    /// Connections come and go.
    Info = 3,
    /// Single datagrams.
    Debug = 4,
}

/// What receives the lines.
pub type Sink = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Lines that wait for the end of the call on one thread, at most; the oldest goes first.
const WAITING_AT_MOST: usize = 64;

/// The least important level that is listened to. Read without a lock: one line more or less while it changes does not
/// matter.
static WANTED: AtomicU8 = AtomicU8::new(0);
static SINK: Mutex<Option<Sink>> = Mutex::new(None);

thread_local! {
    static WAITING: RefCell<VecDeque<(Level, String)>> = const { RefCell::new(VecDeque::new()) };
    static IN_SINK: Cell<bool> = const { Cell::new(false) };
    /// While this thread forks.
    static HELD: RefCell<Option<MutexGuard<'static, Option<Sink>>>> = const { RefCell::new(None) };
}

/// Sets what receives the lines of `level` and more important ones; `None` turns the log off.
pub fn listen(level: Option<Level>, sink: Option<Sink>) {
    set(&mut watched(), level, sink);
}

/// [`listen`], unless the program has set a sink itself.
pub fn listen_by_default(level: Level, sink: Sink) {
    let mut current = watched();
    if current.is_none() {
        set(&mut current, Some(level), Some(sink));
    }
}

/// Who listens; forks are watched from now on.
fn watched() -> MutexGuard<'static, Option<Sink>> {
    // In this order: a fork that goes on waits for the lock, and to watch for forks may mean to wait for that fork.
    fork::generation();
    lock(&SINK)
}

fn set(current: &mut Option<Sink>, level: Option<Level>, sink: Option<Sink>) {
    WANTED.store(if sink.is_some() { level.map_or(0, |level| level as u8) } else { 0 }, Ordering::Relaxed);
    *current = sink;
}

/// Before a fork: if another thread held the lock at that moment, it would stay locked in the child for ever.
pub fn hold() {
    let _ = HELD.try_with(|held| {
        held.borrow_mut().get_or_insert_with(|| lock(&SINK));
    });
}

/// After a fork, in parent and child.
pub fn release() {
    let _ = HELD.try_with(|held| held.take());
}

/// Whether anybody wants lines of this level.
#[inline]
pub fn wanted(level: Level) -> bool {
    level as u8 <= WANTED.load(Ordering::Relaxed)
}

/// Whether this thread is inside the program's log callback.
pub fn in_sink() -> bool {
    IN_SINK.get()
}

/// Adds a line to those that wait. Lines that come from inside the callback are dropped: they could go on for ever; and
/// those of a thread that is ending, whose storage is gone while destructors of the program still call helpers.
pub fn push(level: Level, line: String) {
    if in_sink() {
        return;
    }
    let _ = WAITING.try_with(|waiting| {
        let mut waiting = waiting.borrow_mut();
        if waiting.len() == WAITING_AT_MOST {
            waiting.pop_front();
        }
        waiting.push_back((level, in_one_line(line)));
    });
}

/// The text with spaces in the place of control characters.
pub fn in_one_line(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// Whether a line waits on this thread.
#[inline]
pub fn waiting() -> bool {
    WANTED.load(Ordering::Relaxed) != 0 && WAITING.try_with(|waiting| !waiting.borrow().is_empty()).unwrap_or(false)
}

/// Hands the waiting lines to the callback. Call it with nothing borrowed and no lock held.
pub fn flush() {
    if in_sink() || !waiting() {
        return;
    }
    let sink = lock(&SINK).clone();
    let lines = WAITING.take();
    if let Some(sink) = sink {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                IN_SINK.set(false);
            }
        }
        let _leave = Leave;
        IN_SINK.set(true);
        for (level, line) in &lines {
            sink(*level, line);
        }
    }
}

/// `log!(Error, "certificate {path}: {why}")`: a line for whoever listens; costs one load when nobody does.
macro_rules! log {
    ($level:ident, $($format:tt)+) => {
        if $crate::log::wanted($crate::log::Level::$level) {
            $crate::log::push($crate::log::Level::$level, format!($($format)+));
        }
    };
}
pub(crate) use log;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(in_one_line("größer als \u{1F980}".to_owned()), "größer als \u{1F980}");
        assert_eq!(in_one_line("CN=a\r\nbeside it: \x1b[2J\0\u{9b}1m".to_owned()), "CN=a  beside it:  [2J  1m");
    }
}
