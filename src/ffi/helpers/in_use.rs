//! The connections that the calls on this thread are about. A callback of libssl, in the middle of one, may call helpers about
//! all others.
//!
//! Kept for the thread and not with the connection: one that a C caller has made has no place for it, and one that is being
//! freed must still be recognised. Nothing has to be destroyed at the end of the thread, when destructors still call helpers.
//!
//! To begin is part of each function that does: in a shared library the look for a thread's own variables is a call, and one is
//! enough for all of them in a function.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use openssl_sys::BIO;

use super::shared::Local;
use super::types::dv_udp_conn_t;

/// Calls inside of callbacks inside of calls; one more is refused.
const DEPTH_MAX: usize = 16;

/// A connection, and its `wbio`: while its SSL is being freed, the struct may be freed by its owner, on another thread.
type Connection = (*mut dv_udp_conn_t, *mut BIO);

struct Calls {
    about: [Cell<Connection>; DEPTH_MAX],
    depth: Cell<usize>,
}

thread_local! {
    static CALLS: Calls = const {
        Calls { about: [const { Cell::new((ptr::null_mut(), ptr::null_mut())) }; DEPTH_MAX], depth: Cell::new(0) }
    };
}

impl Calls {
    fn any(&self, is: impl Fn(Connection) -> bool) -> bool {
        self.about[..self.depth.get()].iter().any(|conn| is(conn.get()))
    }
}

/// A call about a connection runs. The last one that has begun is the first one that ends.
pub struct InUse(PhantomData<*mut dv_udp_conn_t>);

/// Begins a call about `conn`, unless one runs on this thread already.
///
/// # Safety
/// `conn` is live now, and no other thread does what is due for it.
#[inline(always)]
pub unsafe fn begin(conn: *mut dv_udp_conn_t) -> Option<InUse> {
    CALLS.with(|calls| {
        let depth = calls.depth.get();
        if depth == DEPTH_MAX || calls.any(|(other, _)| other == conn) {
            return None;
        }
        // SAFETY: by contract.
        calls.about[depth].set((conn, unsafe { (*conn).wbio }.cast()));
        calls.depth.set(depth + 1);
        Some(InUse(PhantomData))
    })
}

/// Begins a call about `conn`, which is this thread's from now on. Not in a callback in the middle of another call about it,
/// on this thread or on another one.
///
/// # Safety
/// `conn` is live.
#[inline(always)]
pub unsafe fn take(local: &Local, conn: *mut dv_udp_conn_t) -> Option<InUse> {
    // In this order: as long as another thread does what is due for it, nothing of the struct can be looked at.
    // SAFETY: by contract.
    local.shared.claim(local, conn).then(|| unsafe { begin(conn) }).flatten()
}

impl Drop for InUse {
    #[inline]
    fn drop(&mut self) {
        CALLS.with(|calls| calls.depth.set(calls.depth.get() - 1));
    }
}

/// Whether `wbio` is that of a connection that a call is about.
pub fn has_wbio(wbio: *mut BIO) -> bool {
    CALLS.with(|calls| calls.any(|(_, other)| other == wbio))
}
