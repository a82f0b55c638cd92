//! What surrounds the body of each exported function: no panic leaves it, and the log goes out at its end. A panic leaves
//! nothing half done, so locks ignore that it happened.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};

use crate::log::{self, log};
use crate::net::sys;
use crate::tls::fork::Once;

thread_local! {
    /// How many exported functions and callbacks of ours this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs `body`; a panic in it becomes `error` and a log line. Every exported function and every callback that C calls
/// consists of one call of this.
#[inline]
pub fn guard<R>(error: R, body: impl FnOnce() -> R) -> R {
    quiet_hook();
    #[cfg(feature = "test-hooks")]
    let body = || {
        hooks::panic_if_asked();
        body()
    };
    // One look for the thread's own variable, not four: in a shared library each is a call.
    DEPTH.with(|depth| {
        depth.set(depth.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or(error);
        depth.set(depth.get() - 1);
        if depth.get() == 0 && log::waiting() {
            // errno is what the caller looks at next, and a callback that writes somewhere changes it. The callback is the
            // program's: if it is Rust and panics, that must not cross into C either.
            sys::keep_errno(|| drop(sys::not_cancelled(|| catch_unwind(log::flush))));
        }
        result
    })
}

/// [`guard`] around what may come to a point of cancellation, in a system call or in OpenSSL: there pthread_cancel would unwind
/// our frames, which ends the process. It is put off until the function returns. What is called for each message, and comes to
/// none, does without.
#[inline]
pub fn guard_uncancelled<R>(error: R, body: impl FnOnce() -> R) -> R {
    guard(error, || sys::not_cancelled(body))
}

/// Locks. A panic leaves nothing half done, so the data behind a poisoned lock is as good as any.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether the exported function that runs was called by a callback that libssl calls, inside another one.
pub fn is_nested() -> bool {
    DEPTH.get() > 1
}

/// Panics of ours are a log line, not a message on stderr; those of the rest of the program go where they always went.
fn quiet_hook() {
    static ONCE: Once<()> = Once::new();
    // The hook cannot be changed from a thread that panics, where a destructor of a Rust program may be the first to call.
    if ONCE.get().is_some() || std::thread::panicking() {
        return;
    }
    ONCE.get_or_init(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() > 0 {
                log!(Error, "internal error, please report it: {info}");
            } else {
                previous(info);
            }
        }));
    });
}

/// What the project's own tests ask of the guard.
#[cfg(feature = "test-hooks")]
pub mod hooks {
    use std::cell::Cell;

    thread_local! {
        static PANIC_NEXT: Cell<bool> = const { Cell::new(false) };
    }

    /// Makes the next exported function that this thread calls panic inside.
    #[unsafe(no_mangle)]
    pub extern "C" fn dv_test_panic_next() {
        PANIC_NEXT.set(true);
    }

    pub(super) fn panic_if_asked() {
        assert!(!PANIC_NEXT.replace(false), "asked for by a test");
    }
}
