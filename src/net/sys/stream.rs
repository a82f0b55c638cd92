//! Descriptors of any kind as streams: files, pipes, sockets, blocking or not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, sigset_t};

use super::udp::check;

/// A descriptor, read and written without a surprise: it is waited for where it does not wait itself, and a reader who is
/// gone is an error and no signal.
pub struct Stream<'a>(pub BorrowedFd<'a>);

impl Stream<'_> {
    /// Waits for `events` when `error` says that this is what lacks.
    fn wait(&self, error: io::Error, events: i16) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => {
                let mut waiting = libc::pollfd { fd: self.0.as_raw_fd(), events, revents: 0 };
                // SAFETY: `waiting` is one, and writable. Whatever comes of it shows at the next try.
                unsafe { libc::poll(&mut waiting, 1, -1) };
                Ok(())
            }
            _ => Err(error),
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            // SAFETY: the slice is as long as is said.
            let read = unsafe { libc::read(self.0.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
            match usize::try_from(read) {
                Ok(len) => return Ok(len),
                Err(_) => self.wait(io::Error::last_os_error(), libc::POLLIN)?,
            }
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let quiet = Quiet::new();
            // SAFETY: the slice is as long as is said.
            let written = unsafe { libc::write(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
            let error = io::Error::last_os_error();
            drop(quiet);
            match usize::try_from(written) {
                Ok(len) => return Ok(len),
                Err(_) => self.wait(error, libc::POLLOUT)?,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// While it lives, this thread gets no SIGPIPE, which would end a program that has said nothing about it.
struct Quiet {
    before: sigset_t,
    /// One waited already: it is the program's.
    waited: bool,
}

impl Quiet {
    fn new() -> Quiet {
        // SAFETY: the sets are filled by the calls, which cannot fail with these arguments.
        unsafe {
            let mut before = MaybeUninit::uninit();
            libc::pthread_sigmask(libc::SIG_BLOCK, &sigpipe(), before.as_mut_ptr());
            let mut waiting = MaybeUninit::uninit();
            libc::sigpending(waiting.as_mut_ptr());
            Quiet { before: before.assume_init(), waited: libc::sigismember(waiting.as_ptr(), libc::SIGPIPE) == 1 }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the sets and the time are initialised; NULL: what the signal says is not wanted.
        unsafe {
            if !self.waited {
                libc::sigtimedwait(&sigpipe(), ptr::null_mut(), &now);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut());
        }
    }
}

/// The set of that one signal.
fn sigpipe() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is made empty, and then has what is put into it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

/// A file that nobody else reads in this way at the same time.
pub struct Held(File);

impl Held {
    /// Takes it, where it is a file and not a pipe or a socket, which is empty once it is read.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Option<Held>> {
        let file = File::from(fd.try_clone_to_owned()?);
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        lock(&file, libc::LOCK_EX | libc::LOCK_NB)?;
        Ok(Some(Held(file)))
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

impl Drop for Held {
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
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// Much more than the socket holds, so that both sides have to wait for the other one.
    #[test]
    fn a_descriptor_that_does_not_wait_is_waited_for() {
        let (near, far) = UnixStream::pair().unwrap();
        [&near, &far].map(|end| end.set_nonblocking(true).unwrap());
        let sent: Vec<u8> = (0..4_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut received = Vec::new();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                Stream(near.as_fd()).write_all(&sent).unwrap();
                drop(near.shutdown(std::net::Shutdown::Write));
            });
            Stream(far.as_fd()).read_to_end(&mut received).unwrap();
            writer.join().unwrap();
        });
        assert!(received == sent);
    }

    #[test]
    fn a_reader_that_is_gone_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        assert_eq!(Stream(near.as_fd()).write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
