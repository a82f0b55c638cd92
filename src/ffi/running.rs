//! An endpoint while a call about it runs.
//!
//! A call may run callbacks that the program has set on its SSL_CTX, and these may call again. Each call takes the endpoint
//! out of its handle, so they find it empty.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use super::endpoint::dv_endpoint;
use super::error::{Failure, invalid};
use crate::engine::endpoint::Endpoint;

impl dv_endpoint {
    /// The handle of a program's own endpoint.
    pub(super) fn new(endpoint: Endpoint) -> dv_endpoint {
        dv_endpoint { endpoint: Cell::new(Some(NonNull::from(Box::leak(Box::new(endpoint))))) }
    }

    /// A handle that is only good for what it is [lent](dv_endpoint::lend).
    pub(super) const fn empty() -> dv_endpoint {
        dv_endpoint { endpoint: Cell::new(None) }
    }

    /// Lets `call` use `endpoint` by this handle.
    pub(super) fn lend(&self, endpoint: &mut Endpoint, call: impl FnOnce(*mut dv_endpoint)) {
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
/// `endpoint` is NULL or live, and no other thread uses it.
pub(super) unsafe fn live<'a>(endpoint: *const dv_endpoint) -> Result<Running<'a>, Failure> {
    // SAFETY: by contract.
    let handle = unsafe { endpoint.as_ref() }.ok_or_else(|| invalid("endpoint is NULL"))?;
    let endpoint = handle.endpoint.take();
    let endpoint =
        endpoint.ok_or(Failure::Busy("in the middle of another call, or outside of the server's callback"))?;
    Ok(Running { handle, endpoint })
}

/// The same of an endpoint that is the program's own: that of a server's callback is driven by the server.
///
/// # Safety
/// As for [`live`].
pub(super) unsafe fn own<'a>(endpoint: *mut dv_endpoint) -> Result<Running<'a>, Failure> {
    // SAFETY: by contract.
    let endpoint = unsafe { live(endpoint) }?;
    if endpoint.is_numbered() { Err(invalid("the endpoint is the server's")) } else { Ok(endpoint) }
}
