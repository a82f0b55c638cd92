//! An endpoint while a call about it runs.
//!
//! A call may run callbacks that the program has set on its SSL_CTX, and these may call again. Each call takes the endpoint
//! out of its handle, so they find it empty.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use super::endpoint::dv_endpoint;
use super::error::{Failure, invalid};
use crate::engine::endpoint::Endpoint;
use crate::net::sys;

/// In the place of a thread, which are numbered from 1 on: the handle is the program's own, or was lent to nobody yet.
const OWN: u64 = 0;
const NOT_YET: u64 = u64::MAX;

impl dv_endpoint {
    /// The handle of a program's own endpoint.
    pub(super) fn new(endpoint: Endpoint) -> dv_endpoint {
        dv_endpoint {
            endpoint: Cell::new(Some(NonNull::from(Box::leak(Box::new(endpoint))))),
            lent_on: AtomicU64::new(OWN),
        }
    }

    /// A handle that is only good for what it is [lent](dv_endpoint::lend).
    pub(super) const fn empty() -> dv_endpoint {
        dv_endpoint { endpoint: Cell::new(None), lent_on: AtomicU64::new(NOT_YET) }
    }

    /// Lets `call` use `endpoint` by this handle, always on the same thread.
    pub(super) fn lend(&self, endpoint: &mut Endpoint, call: impl FnOnce(*mut dv_endpoint)) {
        self.lent_on.store(sys::thread(), Ordering::Relaxed);
        self.endpoint.set(Some(NonNull::from(endpoint)));
        call(ptr::from_ref(self).cast_mut());
        self.endpoint.set(None);
    }
}

/// An endpoint that a call of the program's is about. As long as it is here, its handle is empty.
pub(super) struct Running<'a> {
    handle: &'a dv_endpoint,
    pub(super) endpoint: NonNull<Endpoint>,
}

impl Running<'_> {
    /// The endpoint is not coming back.
    ///
    /// # Safety
    /// It came from dv_endpoint_new.
    pub(super) unsafe fn into_box(self) -> Box<Endpoint> {
        // SAFETY: by contract; nobody else has a way to it any more.
        unsafe { Box::from_raw(ManuallyDrop::new(self).endpoint.as_ptr()) }
    }
}

impl Deref for Running<'_> {
    type Target = Endpoint;
    fn deref(&self) -> &Endpoint {
        // SAFETY: what stands in a handle is live, and was taken out, so that nobody else finds it there.
        unsafe { self.endpoint.as_ref() }
    }
}

impl DerefMut for Running<'_> {
    fn deref_mut(&mut self) -> &mut Endpoint {
        // SAFETY: as above.
        unsafe { self.endpoint.as_mut() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.handle.endpoint.set(Some(self.endpoint));
    }
}

/// The endpoint of a handle, unless a call about it runs already.
///
/// # Safety
/// `endpoint` is NULL or live, and no other thread uses it. That of a server's callback may be anybody's.
#[inline]
pub(super) unsafe fn live<'a>(endpoint: *const dv_endpoint) -> Result<Running<'a>, Failure> {
    // SAFETY: by contract.
    let handle = unsafe { endpoint.as_ref() }.ok_or_else(|| invalid("endpoint is NULL"))?;
    // A program that has kept one may come by with it on the thread of another worker.
    let thread = handle.lent_on.load(Ordering::Relaxed);
    let endpoint = if thread == OWN || thread == sys::thread() { handle.endpoint.take() } else { None };
    let endpoint =
        endpoint.ok_or(Failure::Busy("in the middle of another call, or outside of the server's callback"))?;
    Ok(Running { handle, endpoint })
}

/// The same of an endpoint that is the program's own: that of a server's callback is driven by the server.
///
/// # Safety
/// As for [`live`].
#[inline]
pub(super) unsafe fn own<'a>(endpoint: *mut dv_endpoint) -> Result<Running<'a>, Failure> {
    // SAFETY: by contract.
    let endpoint = unsafe { live(endpoint) }?;
    if endpoint.is_numbered() { Err(invalid("the endpoint is the server's")) } else { Ok(endpoint) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use openssl::ssl::{SslContext, SslMethod};

    use super::*;
    use crate::engine::endpoint::Config;
    use crate::ffi::dv_endpoint_sessions;
    use crate::ffi::error::DV_ERR_BUSY;

    /// What a program sets on its SSL_CTX runs on the threads of all workers, and may have kept the handle of one of them.
    #[test]
    fn a_lent_endpoint_is_busy_on_other_threads() {
        let context = SslContext::builder(SslMethod::dtls()).unwrap().build();
        let mut endpoint = Endpoint::new(context, Config::default()).unwrap();
        let handle = dv_endpoint::empty();
        // SAFETY: the handle is live; its endpoint, where it is found, has no sessions.
        let sessions = |at: usize| unsafe { dv_endpoint_sessions(at as *const dv_endpoint, ptr::null_mut(), 0) };
        handle.lend(&mut endpoint, |lent| {
            let at = lent as usize;
            assert_eq!(sessions(at), 0);
            assert_eq!(thread::spawn(move || sessions(at)).join().unwrap(), DV_ERR_BUSY);
        });
        assert_eq!(sessions(ptr::from_ref(&handle) as usize), DV_ERR_BUSY);
    }
}
