//! How often this process and its ancestors have forked since the library was used first.
//!
//! A child has the keys and sequence numbers of its parent; if both went on, they would repeat nonces. So what was made
//! before the fork refuses to send after it.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

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
    /// It may do nothing that is not safe in a signal handler.
    unsafe extern "C" fn forked() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic; the library stays loaded.
    let failed = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    assert_eq!(failed, 0, "no memory to watch for forks: parent and child would repeat nonces");
}
