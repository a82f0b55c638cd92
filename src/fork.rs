//! How often this process and its ancestors have forked since they loaded the library.
//!
//! A child has the keys and sequence numbers of its parent; if both went on, they would repeat nonces. So what was made
//! before the fork refuses to send after it.

use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Changes in a child.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// For the fork handler, which may do nothing that is not safe in a signal handler.
pub extern "C" fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
