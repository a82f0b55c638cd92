//! The system calls that std lacks: epoll, socket buffers, limits, processors.

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_void};

/// The result of a system call that says -1 when it fails.
pub fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Waits for many sockets at once.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    /// Waits for nothing yet.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointer.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        // SAFETY: an epoll_event of zeros is a valid value.
        Ok(Poll { epoll, events: vec![unsafe { zeroed() }; 256] })
    }

    /// Reports `token` whenever something can be read from `socket`, until it is closed.
    pub fn add(&self, socket: &impl AsRawFd, token: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token as u64 };
        // SAFETY: `event` lives during the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Reports `socket` no more.
    pub fn remove(&self, socket: &impl AsRawFd) {
        // SAFETY: the call reads nothing but its numbers.
        unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, socket.as_raw_fd(), std::ptr::null_mut())
        };
    }

    /// The tokens of what can be read, after at most `wait`.
    pub fn wait(&mut self, wait: Duration) -> io::Result<impl Iterator<Item = usize> + use<>> {
        // Rounded up: a wait that ends a little before the deadline would be taken up again and again.
        let ms = wait.as_micros().div_ceil(1000).min(i32::MAX as u128) as c_int;
        // SAFETY: the kernel writes at most `events.len()` events into `events`.
        let n = check(unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), self.events.len() as c_int, ms)
        });
        let n = match n {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => 0,
            n => n? as usize,
        };
        let tokens: Vec<usize> = self.events[..n].iter().map(|event| event.u64 as usize).collect();
        Ok(tokens.into_iter())
    }
}

/// A socket that does not block, with large buffers, bound to a free port of `source`.
pub fn bind(source: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(source)?;
    socket.set_nonblocking(true)?;
    for buffer in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        // The kernel gives what its limits allow; less is no error.
        let _ = set_option(&socket, libc::SOL_SOCKET, buffer, 4 << 20);
    }
    Ok(socket)
}

/// Sets an option that is a number.
pub fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives during the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Datagrams that found this socket full.
pub fn overflowed(socket: &UdpSocket) -> io::Result<u64> {
    // SK_MEMINFO_DROPS and SK_MEMINFO_VARS of <linux/sock_diag.h>.
    const DROPS: usize = 8;
    let mut info = [0u32; DROPS + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `info`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast::<c_void>(),
            &mut len,
        )
    })?;
    Ok(info[DROPS].into())
}

/// As many open files as the system lets us have.
pub fn raise_open_files() {
    // SAFETY: both calls only read or write `limit`, which is a plain struct.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// A descriptor that can be read once SIGINT or SIGTERM came; neither ends the process any more.
pub fn termination() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before anything reads it, and the descriptor is ours alone.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGINT);
        libc::sigaddset(&mut set, libc::SIGTERM);
        check(libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        Ok(OwnedFd::from_raw_fd(check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC))?))
    }
}

/// Ticks of the process clock a second, the unit of /proc/PID/stat.
pub fn clock_ticks() -> f64 {
    // SAFETY: the call takes no pointer.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// The processors that this process may run on.
pub fn processors() -> Vec<usize> {
    // SAFETY: the call writes into `set`, which is a plain struct, and CPU_ISSET only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        match libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) {
            0 => (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect(),
            _ => Vec::new(),
        }
    }
}

/// Keeps the calling thread, and the threads and processes that it begins, on these processors.
pub fn stay_on(processors: &[usize]) -> io::Result<()> {
    // SAFETY: CPU_SET writes into `set`, which is a plain struct, for numbers below its size; the call reads it.
    check(unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        processors.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    })?;
    Ok(())
}

/// Lets `command` begin on these processors.
pub fn begin_on(command: &mut std::process::Command, processors: Vec<usize>) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec there is only a system call; nothing is allocated.
    unsafe { command.pre_exec(move || stay_on(&processors)) };
}
