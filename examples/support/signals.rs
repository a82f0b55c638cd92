//! Signals as a descriptor that one can wait for, which std lacks.

#![allow(dead_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use dv_dtls::Server;

/// What asks a program to end.
pub const ENDING: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];

/// Signals that do nothing by themselves any more: they wait to be taken.
pub struct Signals(OwnedFd);

impl Signals {
    /// To be called before there are other threads, which then leave them alone as well.
    pub fn block(numbers: &[libc::c_int]) -> io::Result<Signals> {
        // SAFETY: the set is made empty before anything is put into it, and lives during the calls; the descriptor that is made
        // belongs to nobody else.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            numbers.iter().for_each(|number| _ = libc::sigaddset(&mut set, *number));
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            match libc::signalfd(-1, &set, libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Signals(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// The next signal; waits for it.
    pub fn take(&self) -> io::Result<libc::c_int> {
        // SAFETY: it is numbers alone, for which zero is one.
        let mut taken: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let len = size_of_val(&taken);
        // SAFETY: the kernel writes at most as many bytes as there are.
        match unsafe { libc::read(self.0.as_raw_fd(), (&raw mut taken).cast(), len) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(taken.ssi_signo as libc::c_int),
        }
    }

    /// Stops a server when a signal comes: its clients are sent a goodbye.
    pub fn then_stop(self, server: Arc<Server>) {
        thread::spawn(move || self.take().map(|_| server.stop()));
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
