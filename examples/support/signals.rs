//! Signals, which std lacks: a program waits for them as for anything else that comes in.

#![allow(dead_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::ptr::null_mut;
use std::thread;

/// Signals that are waited for.
pub struct Signals(File);

impl Signals {
    /// Before there are other threads: they too leave these signals to whoever waits.
    pub fn block(numbers: &[libc::c_int]) -> io::Result<Signals> {
        // SAFETY: the set is made empty before anything is put into it, and lives during the calls.
        let fd = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for number in numbers {
                libc::sigaddset(&mut set, *number);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, null_mut());
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made above and belongs to nobody else.
        Ok(Signals(unsafe { File::from_raw_fd(fd) }))
    }

    /// Those that ask a program to end.
    pub fn that_end() -> io::Result<Signals> {
        Signals::block(&[libc::SIGINT, libc::SIGTERM])
    }

    /// Waits for the next one, and gives its number.
    pub fn wait(&self) -> io::Result<libc::c_int> {
        let mut told = [0; size_of::<libc::signalfd_siginfo>()];
        (&self.0).read_exact(&mut told)?;
        let (number, _) = told.split_first_chunk().expect("its first member");
        Ok(i32::from_ne_bytes(*number))
    }

    /// Lets a thread wait for one, which then does this.
    pub fn then(self, what: impl FnOnce() + Send + 'static) {
        thread::spawn(move || self.wait().map(|_| what()));
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
