//! Descriptors of any kind as streams: files, pipes, stream sockets, blocking or not.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, sigset_t};

use super::precise_now;
use super::udp::check;

/// How long nobody asks whether a [`Sink`] is to be given up, in milliseconds.
const LOOK: c_int = 50;

/// A descriptor that is read. Where nothing comes it is waited for, whether it would wait itself or not, up to a time.
pub struct Source<'a> {
    pub fd: BorrowedFd<'a>,
    /// How long there may come nothing, in microseconds; `u64::MAX`: there is no limit.
    pub patience: u64,
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let by = precise_now().saturating_add(self.patience);
        loop {
            let left = by.saturating_sub(precise_now()).div_ceil(1000);
            let timeout = if by == u64::MAX { -1 } else { c_int::try_from(left).unwrap_or(c_int::MAX) };
            if !is_ready(self.fd, libc::POLLIN, timeout) {
                if precise_now() >= by {
                    return Err(io::Error::new(ErrorKind::TimedOut, "nobody has written it in time"));
                }
                continue;
            }
            // SAFETY: the slice is as long as is said.
            let read = unsafe { libc::read(self.fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
            let Err(error) = usize::try_from(read).map_err(|_| io::Error::last_os_error()) else {
                return Ok(read as usize);
            };
            if !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) {
                return Err(error);
            }
        }
    }
}

/// A descriptor that is written without a surprise: a reader who is gone, or a file that may not grow, is an error and no
/// signal, and a reader who does not read is waited for until that is given up. Whether the descriptor itself would wait is of
/// no account: it may be shared with somebody who needs it as it is.
pub struct Sink<'a> {
    pub fd: BorrowedFd<'a>,
    /// Whether there has been waiting enough.
    pub given_up: &'a dyn Fn() -> bool,
}

impl Sink<'_> {
    /// Writes what there is room for. Does not wait, if the kernel has said before that there is some.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let (fd, bytes_at) = (self.fd.as_raw_fd(), bytes.as_ptr().cast());
        let _quiet = Quiet::new();
        // SAFETY: the slice is as long as is said.
        let mut written = unsafe { libc::send(fd, bytes_at, bytes.len(), libc::MSG_DONTWAIT) };
        if written < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOTSOCK) {
            // A pipe with room has room for so much.
            // SAFETY: the slice is at least as long as is said.
            written = unsafe { libc::write(fd, bytes_at, bytes.len().min(libc::PIPE_BUF)) };
        }
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if (self.given_up)() {
                return Err(io::Error::new(ErrorKind::TimedOut, "nobody has read it in time"));
            }
            if !is_ready(self.fd, libc::POLLOUT, LOOK) {
                continue;
            }
            match self.write_some(bytes) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for `events`, so many milliseconds at most. An error of the descriptor counts as well: it shows at the next try.
fn is_ready(fd: BorrowedFd<'_>, events: i16, timeout: c_int) -> bool {
    let mut waiting = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: `waiting` is one, and writable.
    unsafe { libc::poll(&mut waiting, 1, timeout) > 0 }
}

/// What writing may raise: nobody reads, or the file would be larger than RLIMIT_FSIZE.
const RAISED: [c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// While it lives, this thread gets none of these signals, which would end a program that has said nothing about them.
struct Quiet {
    before: sigset_t,
    /// Those that our writing may raise: one that waited already is the program's.
    ours: sigset_t,
}

impl Quiet {
    fn new() -> Quiet {
        // SAFETY: the sets are filled by the calls, which cannot fail with these arguments.
        unsafe {
            let mut before = MaybeUninit::uninit();
            libc::pthread_sigmask(libc::SIG_BLOCK, &set_of(RAISED), before.as_mut_ptr());
            let mut waiting = MaybeUninit::uninit();
            libc::sigpending(waiting.as_mut_ptr());
            let ours = RAISED.into_iter().filter(|signal| libc::sigismember(waiting.as_ptr(), *signal) == 0);
            Quiet { before: before.assume_init(), ours: set_of(ours) }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the sets and the time are initialised; NULL: what the signal says is not wanted.
        unsafe {
            libc::sigtimedwait(&self.ours, ptr::null_mut(), &now);
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut());
        }
    }
}

fn set_of(signals: impl IntoIterator<Item = c_int>) -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is made empty, and then has what is put into it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        signals.into_iter().for_each(|signal| {
            libc::sigaddset(set.as_mut_ptr(), signal);
        });
        set.assume_init()
    }
}

/// A file that this process has locked: nobody else reads an export from it at the same time.
pub struct LockedFile(File);

impl LockedFile {
    /// Takes it, where it is a file and not a pipe or a socket, which is empty once it is read.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Option<LockedFile>> {
        let file = File::from(fd.try_clone_to_owned()?);
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        lock(&file, libc::LOCK_EX | libc::LOCK_NB)?;
        Ok(Some(LockedFile(file)))
    }

    /// Makes it empty.
    pub fn empty(&self) -> io::Result<()> {
        self.0.set_len(0)?;
        // A machine that fails now must not find it full when it starts again. Where that cannot be had, what was in it is
        // gone all the same.
        let _ = self.0.sync_all();
        Ok(())
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // It belongs to the open file, which the program may keep.
        let _ = lock(&self.0, libc::LOCK_UN);
    }
}

fn lock(file: &impl AsRawFd, how: c_int) -> io::Result<()> {
    // SAFETY: the call takes no pointer.
    check(unsafe { libc::flock(file.as_raw_fd(), how) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, FromRawFd};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// Much more than the socket holds, so that both sides have to wait for the other one. Each has its end alone: one that
    /// fails keeps nobody waiting.
    #[test]
    fn a_descriptor_that_does_not_wait_is_waited_for() {
        let (near, far) = UnixStream::pair().unwrap();
        [&near, &far].iter().for_each(|end| end.set_nonblocking(true).unwrap());
        let sent: Vec<u8> = (0..4_000_000u32).map(|i| (i % 251) as u8).collect();
        let writes = {
            let sent = sent.clone();
            thread::spawn(move || Sink { fd: near.as_fd(), given_up: &|| false }.write_all(&sent))
        };
        let mut received = Vec::new();
        Source { fd: far.as_fd(), patience: u64::MAX }.read_to_end(&mut received).unwrap();
        writes.join().unwrap().unwrap();
        assert!(received == sent);
    }

    /// Nobody reads any more: the program gets no signal for that, loses none that waits for it, and is left as it was.
    #[test]
    fn a_reader_who_is_gone_is_an_error_and_no_signal() {
        static GOT: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn got(_: c_int) {
            GOT.fetch_add(1, Ordering::Relaxed);
        }
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let write = || Sink { fd: writer.as_fd(), given_up: &|| false }.write(b"x").unwrap_err().kind();
        let mask = |how| {
            let mut before = set_of([]);
            // SAFETY: both sets are initialised, and `before` is writable.
            unsafe { libc::pthread_sigmask(how, &set_of([libc::SIGPIPE]), &mut before) };
            // SAFETY: the set is initialised.
            unsafe { libc::sigismember(&before, libc::SIGPIPE) }
        };
        // SAFETY: the handler does no more than a handler may.
        let before = unsafe { libc::signal(libc::SIGPIPE, got as *const () as libc::sighandler_t) };
        assert_eq!((write(), GOT.load(Ordering::Relaxed)), (ErrorKind::BrokenPipe, 0));
        assert_eq!(mask(libc::SIG_BLOCK), 0);
        // SAFETY: the signal waits, for this thread.
        unsafe { libc::raise(libc::SIGPIPE) };
        assert_eq!((write(), GOT.load(Ordering::Relaxed)), (ErrorKind::BrokenPipe, 0));
        assert_eq!((mask(libc::SIG_UNBLOCK), GOT.load(Ordering::Relaxed)), (1, 1));
        // SAFETY: what was there before.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }

    /// It is locked where it is open, which it may remain.
    #[test]
    fn a_file_is_nobody_else_s_until_it_is_let_go() {
        // SAFETY: the name ends with a zero.
        let fd = check(unsafe { libc::memfd_create(c"export".as_ptr(), libc::MFD_CLOEXEC) }).unwrap();
        // SAFETY: it was opened here and is nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        let other = File::open(format!("/proc/self/fd/{fd}")).unwrap();
        let locked = LockedFile::of(file.as_fd()).unwrap();
        assert!(locked.is_some() && LockedFile::of(other.as_fd()).is_err());
        drop(locked);
        assert!(LockedFile::of(other.as_fd()).unwrap().is_some());
    }
}
