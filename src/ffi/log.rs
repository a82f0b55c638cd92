//! Lines about what the library does, and about what it refuses.

use std::ffi::CString;
use std::sync::Arc;

use libc::{c_char, c_int, c_void};

use crate::guard::guard;
use crate::log::{Level, listen};

/// A call failed because of something that the program or the operator provided.
pub const DV_LOG_ERROR: c_int = 1;
/// Something was refused or given up that somebody may miss.
pub const DV_LOG_WARN: c_int = 2;
/// Connections come and go.
pub const DV_LOG_INFO: c_int = 3;
/// Single datagrams.
pub const DV_LOG_DEBUG: c_int = 4;

/// Receives a line of the log.
///
/// Its arguments are the level (one of DV_LOG_*), the text without a newline, which is valid during the call, and the
/// pointer that was set with the callback. The callback may call the helpers; functions that return DV_ERR_* give
/// DV_ERR_BUSY.
#[allow(non_camel_case_types)]
pub type dv_log_callback = Option<unsafe extern "C" fn(level: c_int, line: *const c_char, user: *mut c_void)>;

/// Sets the callback that receives the log. Without one there is no log, unless the operator has set DV_LOG (error,
/// warn, info or debug) in the environment: then the helpers write it to stderr, from the first one that is called.
///
/// Lines are delivered at the end of the call that caused them, on its thread, while the library holds no lock. What
/// the callback does adds no lines.
///
/// - `level`: the least important level to deliver, one of DV_LOG_*; 0 turns the log off
/// - `callback`: the callback; NULL turns the log off
/// - `user`: passed to the callback; may be NULL
///
/// Ownership: `callback` and `user` must stay valid until another callback was set and no other thread is still in a
/// call of the library.
///
/// Threads: any, at any time. The callback is called on every thread that uses the library, possibly on several at
/// once.
///
/// # Safety
/// `callback` must stay callable with `user`, from any thread that calls this library, until another one is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_set_log_callback(level: c_int, callback: dv_log_callback, user: *mut c_void) {
    guard((), || {
        struct User(*mut c_void);
        // SAFETY: the pointer is only handed back to the program, whose contract is to take it on any thread.
        unsafe impl Send for User {}
        // SAFETY: as above.
        unsafe impl Sync for User {}
        let user = User(user);
        let level = match level {
            i32::MIN..=0 => None,
            DV_LOG_ERROR => Some(Level::Error),
            DV_LOG_WARN => Some(Level::Warn),
            DV_LOG_INFO => Some(Level::Info),
            DV_LOG_DEBUG.. => Some(Level::Debug),
        };
        let sink = callback.map(|callback| -> crate::log::Sink {
            Arc::new(move |level, line| {
                let user = &user;
                let line = CString::new(line).unwrap_or_default();
                // SAFETY: the program promised that the callback may be called with its pointer; the line outlives the call.
                unsafe { callback(level as c_int, line.as_ptr(), user.0) }
            })
        });
        listen(level, sink);
    });
}
