//! The log, for C.

use std::ffi::CString;

use libc::{c_char, c_int, c_void};

use crate::guard::guard;
use crate::log::{Level, listen};

/// Receives one log line. `level` is one of DV_LOG_*; `line` is NUL-terminated text, valid during the call.
#[allow(non_camel_case_types)]
pub type dv_log_fn = Option<unsafe extern "C" fn(level: c_int, line: *const c_char, user: *mut c_void)>;

/// Sets what receives the log lines of `level` and more important ones; NULL turns the log off.
///
/// # Safety
/// `callback` must stay callable with `user`, from any thread that calls this library, until another one is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dv_set_log_callback(level: c_int, callback: dv_log_fn, user: *mut c_void) {
    guard((), || {
        struct User(*mut c_void);
        // SAFETY: the pointer is only handed back to the program, whose contract is to take it on any thread.
        unsafe impl Send for User {}
        // SAFETY: as above.
        unsafe impl Sync for User {}
        let user = User(user);
        let level = match level {
            i32::MIN..=0 => None,
            1 => Some(Level::Error),
            2 => Some(Level::Warn),
            3 => Some(Level::Info),
            4.. => Some(Level::Debug),
        };
        let sink = callback.map(|callback| -> crate::log::Sink {
            Box::new(move |level, line| {
                let user = &user;
                let line = CString::new(line.replace('\0', " ")).unwrap_or_default();
                // SAFETY: the program promised that the callback may be called with its pointer; the line outlives the call.
                unsafe { callback(level as c_int, line.as_ptr(), user.0) }
            })
        });
        listen(level, sink);
    });
}
