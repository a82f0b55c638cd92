//! How often this process and its ancestors have forked since the library was used first.
//!
//! A child has the keys and sequence numbers of its parent; if both went on, they would repeat nonces. So what was made
//! before the fork refuses to send after it.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::log;

/// A child begins with the one thread that adds to it: there is nothing to order.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Changes in a child.
#[inline]
pub fn generation() -> u32 {
    static WATCHED: Once = Once::new();
    // Whoever compares generations has asked for one before, so no fork since then is missed.
    WATCHED.call_once(watch);
    GENERATION.load(Ordering::Relaxed)
}

#[cold]
fn watch() {
    unsafe extern "C" fn before_fork() {
        log::hold();
    }
    unsafe extern "C" fn after_fork() {
        log::release();
    }
    /// It may do nothing that is not safe in a signal handler.
    unsafe extern "C" fn after_fork_in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        log::release();
    }
    // SAFETY: the handlers only add to an atomic, and lock and unlock; the library stays loaded.
    let failed = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork_in_child)) };
    assert_eq!(failed, 0, "no memory to watch for forks: parent and child would repeat nonces");
}
