//! Rust values that hang on an SSL or an SSL_CTX and are freed with it.

use std::marker::PhantomData;
use std::sync::Mutex;

use libc::{c_int, c_long, c_void};
use openssl_sys::*;

use super::fork::Once;
use crate::guard::guard;

/// Held while a value on a context that other threads may use as well is read or set: setting the first value in a slot may
/// make libcrypto move all the others. Not held while a callback of the program may run.
pub static CONTEXTS: Mutex<()> = Mutex::new(());

/// What values can hang on.
pub trait Holder {
    /// CRYPTO_EX_INDEX_*.
    const CLASS: c_int;
    /// SSL_get_ex_data and the like.
    ///
    /// # Safety
    /// `holder` is live.
    unsafe fn get(holder: *const Self, index: c_int) -> *mut c_void;
    /// SSL_set_ex_data and the like.
    ///
    /// # Safety
    /// `holder` is live.
    unsafe fn set(holder: *mut Self, index: c_int, value: *mut c_void) -> bool;
}

impl Holder for SSL {
    const CLASS: c_int = CRYPTO_EX_INDEX_SSL;
    unsafe fn get(holder: *const SSL, index: c_int) -> *mut c_void {
        // SAFETY: the caller vouches for the SSL.
        unsafe { SSL_get_ex_data(holder, index) }
    }
    unsafe fn set(holder: *mut SSL, index: c_int, value: *mut c_void) -> bool {
        // SAFETY: the caller vouches for the SSL.
        unsafe { SSL_set_ex_data(holder, index, value) == 1 }
    }
}

impl Holder for SSL_CTX {
    const CLASS: c_int = CRYPTO_EX_INDEX_SSL_CTX;
    unsafe fn get(holder: *const SSL_CTX, index: c_int) -> *mut c_void {
        // SAFETY: the caller vouches for the SSL_CTX.
        unsafe { SSL_CTX_get_ex_data(holder, index) }
    }
    unsafe fn set(holder: *mut SSL_CTX, index: c_int, value: *mut c_void) -> bool {
        // SAFETY: the caller vouches for the SSL_CTX.
        unsafe { SSL_CTX_set_ex_data(holder, index, value) == 1 }
    }
}

/// One place on each `H` where a `T` can hang. Make it a `static`: the number behind it is taken once and never given back.
pub struct Slot<H, T> {
    index: Once<c_int>,
    holds: PhantomData<fn(H) -> T>,
}

// `Send`: the value is dropped by whichever thread frees the holder.
impl<H: Holder, T: Send + 'static> Slot<H, T> {
    pub const fn new() -> Slot<H, T> {
        Slot { index: Once::new(), holds: PhantomData }
    }

    fn index(&self) -> c_int {
        *self.index.get_or_init(|| {
            // SAFETY: a plain call; the functions take what `set` puts there.
            unsafe { CRYPTO_get_ex_new_index(H::CLASS, 0, std::ptr::null_mut(), None, Some(dup), Some(free::<T>)) }
        })
    }

    /// What hangs there.
    ///
    /// # Safety
    /// `holder` is live for as long as the reference is used, and nobody calls [`Slot::set`] with it meanwhile. Where several
    /// threads use it, as they do a context, `T` can be shared between them.
    pub unsafe fn get<'a>(&self, holder: *const H) -> Option<&'a T> {
        // SAFETY: the caller vouches for the holder; what hangs there was put by `set` as a Box<T>.
        unsafe { H::get(holder, self.index()).cast::<T>().as_ref() }
    }

    /// Hangs `value` there, in place of what hung there; returns whether that worked.
    ///
    /// # Safety
    /// `holder` is live, no other thread is in `get` or `set` with it (of a context that is shared: see [`CONTEXTS`]), and
    /// nothing that `get` gave is still in use.
    pub unsafe fn set(&self, holder: *mut H, value: T) -> bool {
        // SAFETY: the caller vouches for the holder; a box that hangs there came from an earlier call.
        unsafe {
            let old = H::get(holder, self.index());
            let new = Box::into_raw(Box::new(value));
            if H::set(holder, self.index(), new.cast()) {
                free_box::<T>(old);
                true
            } else {
                free_box::<T>(new.cast());
                false
            }
        }
    }

    /// Frees what hangs there.
    ///
    /// # Safety
    /// As for [`Slot::set`].
    pub unsafe fn clear(&self, holder: *mut H) {
        // SAFETY: the caller vouches for the holder; a box that hangs there came from `set`, and hangs there no more.
        unsafe {
            let old = H::get(holder, self.index());
            if H::set(holder, self.index(), std::ptr::null_mut()) {
                free_box::<T>(old);
            }
        }
    }
}

/// # Safety
/// `value` is NULL or a boxed `T` that nobody else will free.
unsafe fn free_box<T>(value: *mut c_void) {
    if !value.is_null() {
        // SAFETY: by contract.
        drop(unsafe { Box::from_raw(value.cast::<T>()) });
    }
}

/// SSL_dup makes a copy without what hangs here, which has one owner.
unsafe extern "C" fn dup(
    _to: *mut CRYPTO_EX_DATA,
    _from: *const CRYPTO_EX_DATA,
    value: *mut *mut c_void,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) -> c_int {
    // SAFETY: libcrypto keeps for the copy what it finds at `value` afterwards.
    guard(0, || unsafe {
        *value = std::ptr::null_mut();
        1
    })
}

unsafe extern "C" fn free<T>(
    _holder: *mut c_void,
    value: *mut c_void,
    _all: *mut CRYPTO_EX_DATA,
    _index: c_int,
    _long: c_long,
    _arg: *mut c_void,
) {
    // SAFETY: libcrypto calls this once for each holder that is freed, with what `set` put there, or NULL.
    guard((), || unsafe { free_box::<T>(value) });
}
