//! How often this process and its ancestors have forked since the library was used first.
//!
//! A child has the keys and sequence numbers of its parent; if both went on, they would repeat nonces. So what was made
//! before the fork refuses to send after it.
//!
//! The kernel tells, by a page that each child finds empty: libc's handlers are not called when a program uses `_Fork` or
//! `clone`. Before Linux 4.14, which cannot do that, they are all there is.
//!
//! The handlers also see to it that a child finds nothing half done that another thread of its parent was doing: see [`Once`].

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use libc::{MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE};

use super::ex_data::CONTEXTS;
use crate::guard::lock;
use crate::log;

/// One more than the generation, in the page that is empty in a child; NULL before anybody has asked. No [`Once`]: a fork
/// that comes before its handlers are known would leave it half made.
static HERE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// No number above this one has stood there, in this process or before it.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Changes in a child; 0 in a process that is none.
#[inline]
pub fn generation() -> u32 {
    // Whoever compares generations has asked for one before, so no fork since then is missed.
    let here = here().unwrap_or_else(watch);
    match here.load(Ordering::Relaxed) {
        0 => begin(here),
        number => number - 1,
    }
}

#[inline]
fn here() -> Option<&'static AtomicU32> {
    // SAFETY: NULL, or a page that `watch` has made and that stays.
    unsafe { HERE.load(Ordering::Acquire).as_ref() }
}

/// The first look in a child. Several threads may look at once.
#[cold]
fn begin(here: &AtomicU32) -> u32 {
    // In this order: no child of this process begins with the same number.
    let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    here.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|first| first, |_| next) - 1
}

/// The first look of all. If several threads look at once, the handlers are registered, and called, several times.
#[cold]
fn watch() -> &'static AtomicU32 {
    // What another thread had locked would stay locked in the child.
    thread_local! {
        static HELD: RefCell<Option<[MutexGuard<'static, ()>; 2]>> = const { RefCell::new(None) };
    }
    unsafe extern "C" fn before_fork() {
        // In the order in which they are taken by who needs more than one.
        let _ = HELD.try_with(|held| {
            held.borrow_mut().get_or_insert_with(|| [lock(&CONTEXTS), lock(&MAKING)]);
        });
        log::hold();
    }
    unsafe extern "C" fn after_fork() {
        log::release();
        let _ = HELD.try_with(|held| held.take());
    }
    /// It may do nothing that is not safe in a signal handler.
    unsafe extern "C" fn after_fork_in_child() {
        here().into_iter().for_each(|here| here.store(0, Ordering::Relaxed));
        // SAFETY: as in the parent.
        unsafe { after_fork() };
    }
    const FAILED: &str = "no memory to watch for forks: parent and child would repeat nonces";
    // SAFETY: the handlers only write to an atomic, and lock and unlock; the library stays loaded.
    let watched = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork_in_child)) };
    assert_eq!(watched, 0, "{FAILED}");
    let len = size_of::<AtomicU32>();
    // SAFETY: a new page that nobody else knows, aligned, and zero at first and after each fork, which are values of an atomic.
    // It is taken away only where another thread's has become the one that all look at.
    unsafe {
        let page = libc::mmap(ptr::null_mut(), len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ne!(page, MAP_FAILED, "{FAILED}");
        libc::madvise(page, len, MADV_WIPEONFORK);
        let here = page.cast::<AtomicU32>();
        LAST.fetch_max(1, Ordering::Relaxed);
        (*here).store(1, Ordering::Relaxed);
        match HERE.compare_exchange(ptr::null_mut(), here, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => &*here,
            Err(others) => {
                libc::munmap(page, len);
                &*others
            }
        }
    }
}

/// Held while a [`Once`] is made. Nothing is locked meanwhile but the log, and nothing else is made.
static MAKING: Mutex<()> = Mutex::new(());

/// What a process makes once. As std's, but that a fork on another thread waits until it is made: a child would find std's
/// half made, and wait for ever for a thread that it does not have.
pub struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    /// Not made yet.
    pub const fn new() -> Once<T> {
        Once(OnceLock::new())
    }

    /// It, if it is made.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// It, made now if nobody has made it yet.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.get().unwrap_or_else(|| self.init(make))
    }

    #[cold]
    fn init(&self, make: impl FnOnce() -> T) -> &T {
        // So that forks are watched from now on.
        generation();
        let _alone = lock(&MAKING);
        self.0.get_or_init(make)
    }
}
