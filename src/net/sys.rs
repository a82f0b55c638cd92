//! The system calls: the one file of this room with `unsafe`.

use std::io;
use std::ptr;

use libc::c_int;

/// Watches `fd` for input. A descriptor that is watched already stays as it is: only the kernel knows, as a number may
/// have been closed and given out again.
///
/// `event` receives what is watched for, with the descriptor in `data.fd`; NULL is fine.
///
/// # Safety
/// `event` is NULL or writable.
pub unsafe fn epoll_add(epfd: c_int, event: *mut libc::epoll_event, fd: c_int) -> io::Result<()> {
    let mut own = libc::epoll_event { events: 0, u64: 0 };
    let event = if event.is_null() { &raw mut own } else { event };
    // SAFETY: `event` is the caller's or our own, writable either way; its `u64` stands for the union that `data.fd` is
    // the first bytes of. The kernel only reads it.
    let added = unsafe {
        (*event).events = libc::EPOLLIN as u32;
        ptr::write_unaligned((&raw mut (*event).u64).cast::<c_int>(), fd);
        libc::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, fd, event)
    };
    match io::Error::last_os_error() {
        _ if added == 0 => Ok(()),
        error if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        error => Err(error),
    }
}
