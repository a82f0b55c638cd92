//! How often this process and its ancestors have forked since the library was used first.
//!
//! A child has the keys and sequence numbers of its parent; if both went on, they would repeat nonces. So what was made
//! before the fork refuses to send after it.
//!
//! It is the kernel that tells, with a page that each child finds empty: libc's handlers are not called where a program uses
//! `_Fork` or `clone`. Where the kernel cannot (before 4.14), they are all there is.

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, OnceLock};

use libc::{MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE};

use super::ex_data::CONTEXTS;
use crate::guard::lock;
use crate::log;

/// One more than the generation, in the page that is empty in a child.
static HERE: OnceLock<&AtomicU32> = OnceLock::new();

/// No number above this one has stood there, in this process or before it.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Changes in a child; 0 in a process that is none.
#[inline]
pub fn generation() -> u32 {
    // Whoever compares generations has asked for one before, so no fork since then is missed.
    let here = HERE.get_or_init(watch);
    match here.load(Ordering::Relaxed) {
        0 => begin(here),
        number => number - 1,
    }
}

/// The first look in a process. Several threads may look at once.
#[cold]
fn begin(here: &AtomicU32) -> u32 {
    // In this order: no child of this process begins with the same number.
    let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    here.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|first| first, |_| next) - 1
}

#[cold]
fn watch() -> &'static AtomicU32 {
    // What another thread had locked would stay locked in the child.
    thread_local! {
        static HELD: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
    }
    unsafe extern "C" fn before_fork() {
        let _ = HELD.try_with(|held| held.replace(Some(lock(&CONTEXTS))));
        log::hold();
    }
    unsafe extern "C" fn after_fork() {
        log::release();
        let _ = HELD.try_with(|held| held.take());
    }
    /// It may do nothing that is not safe in a signal handler.
    unsafe extern "C" fn after_fork_in_child() {
        HERE.get().into_iter().for_each(|here| here.store(0, Ordering::Relaxed));
        // SAFETY: as in the parent.
        unsafe { after_fork() };
    }
    const FAILED: &str = "no memory to watch for forks: parent and child would repeat nonces";
    // SAFETY: the handlers only write to an atomic, and lock and unlock; the library stays loaded.
    let watched = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork_in_child)) };
    assert_eq!(watched, 0, "{FAILED}");
    let len = size_of::<AtomicU32>();
    // SAFETY: a new page that nobody else knows and nobody takes away, aligned, and zero at first and after each fork, which
    // are values of an atomic.
    let here: &AtomicU32 = unsafe {
        let page = libc::mmap(ptr::null_mut(), len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ne!(page, MAP_FAILED, "{FAILED}");
        libc::madvise(page, len, MADV_WIPEONFORK);
        &*page.cast()
    };
    begin(here);
    here
}
