//! The system calls: the one place of this room with `unsafe`.

pub mod address;
pub mod batch;
pub mod stream;
pub mod udp;

use std::cell::Cell;
use std::ffi::{CStr, OsString};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use libc::{c_int, sockaddr, socklen_t};

/// Microseconds of the monotonic clock, to some milliseconds: the vDSO answers without reading a hardware clock.
pub fn now() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// The same clock to the microsecond.
pub fn precise_now() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

#[inline]
fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(clock, &mut time) };
    // Neither is ever negative.
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// What [`now`] lacks to Unix time, in microseconds.
pub fn unix_offset() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (unix.as_micros() as u64).saturating_sub(now())
}

/// Runs `call`, in which this thread is not cancelled: that would unwind our frames, which ends the process. It is put off.
pub fn not_cancelled<R>(call: impl FnOnce() -> R) -> R {
    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }
    const DISABLE: c_int = 1;
    let mut before = 0;
    // SAFETY: `before` is writable.
    unsafe { pthread_setcancelstate(DISABLE, &mut before) };
    let result = call();
    // SAFETY: nobody wants to know what it was.
    unsafe { pthread_setcancelstate(before, ptr::null_mut()) };
    result
}

/// Sends one datagram, also when a signal comes while the socket is full. A stream that a program has taken for its socket is
/// an error, not a SIGPIPE.
///
/// # Safety
/// `to` points to `len` readable bytes.
pub unsafe fn send_to(fd: c_int, datagram: &[u8], flags: c_int, to: *const sockaddr, len: socklen_t) -> io::Result<()> {
    let (bytes, flags) = (datagram.as_ptr().cast(), flags | libc::MSG_NOSIGNAL);
    loop {
        // SAFETY: the datagram is a slice, the caller vouches for the address.
        let sent = unsafe { libc::sendto(fd, bytes, datagram.len(), flags, to, len) };
        if sent >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

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
        error if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        error => Err(error),
    }
}

/// A descriptor together with what it stands for: numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// One more than the number, so that the table of connections needs no room for whether there is one.
    above: NonZeroU32,
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl Descriptor {
    /// What `fd` stands for now, if it is open.
    pub fn of(fd: c_int) -> Option<Descriptor> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: fstat fills what it is given when it returns 0.
        unsafe {
            let above = NonZeroU32::new(u32::try_from(fd).ok()? + 1)?;
            (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| {
                let stat = stat.assume_init();
                Descriptor { above, device: stat.st_dev, inode: stat.st_ino }
            })
        }
    }

    /// The number, while it still stands for the same thing.
    pub fn fd(&self) -> Option<c_int> {
        let fd = (self.above.get() - 1) as c_int;
        (Descriptor::of(fd) == Some(*self)).then_some(fd)
    }
}

/// An environment variable, unless the process runs with more rights than its user.
pub fn environment(name: &CStr) -> Option<OsString> {
    unsafe extern "C" {
        fn secure_getenv(name: *const libc::c_char) -> *mut libc::c_char;
    }
    // SAFETY: the name is NUL-terminated; the value is copied before anybody can change the environment from this thread.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null()).then(|| OsString::from_vec(CStr::from_ptr(value).to_bytes().to_vec()))
    }
}

/// Runs `call` and leaves errno as it was: for what is done behind the back of whoever looks at it next.
pub fn keep_errno(call: impl FnOnce()) {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    call();
    set_errno(errno);
}

/// Sets errno, by which the helpers tell why they failed.
pub fn set_errno(errno: c_int) {
    // SAFETY: every thread has an errno of its own.
    unsafe { *libc::__errno_location() = errno };
}

/// A number that no other thread has or had: what an ended one left undone is not taken for this one's.
#[inline]
pub fn thread() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    thread_local! { static HERE: Cell<u64> = const { Cell::new(0) }; }
    if HERE.get() == 0 {
        HERE.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    }
    HERE.get()
}

/// Writes a line to the operator's terminal: only where he has asked for the log with an environment variable.
pub fn write_stderr(line: &str) {
    // SAFETY: the line is a slice. What could not be written is lost: there is nobody to tell.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}
