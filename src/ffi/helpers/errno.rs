//! How the helpers say why a call has failed.

use libc::{EBUSY, c_int};

use super::types::DV_ERROR;
use crate::log::log;
use crate::net::sys;

/// Sets errno and gives DV_ERROR.
pub fn fail(errno: c_int) -> c_int {
    sys::set_errno(errno);
    DV_ERROR
}

/// Of a function that gives nothing: it was called by a callback, in the middle of a call about the same connection.
pub fn refuse_inside(name: &str) {
    log!(Error, "{name}: called by a callback while the connection is in use");
    sys::set_errno(EBUSY);
}
