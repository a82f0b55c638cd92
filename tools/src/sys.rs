//! The system calls that std lacks: epoll, batches of datagrams from chosen source addresses, socket buffers, limits.

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use libc::{c_int, c_void};

/// The result of a system call that says -1 when it fails.
fn check(result: c_int) -> io::Result<c_int> {
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

fn set_option(socket: &UdpSocket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
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

/// Datagrams in one system call, at most.
pub const BATCH: usize = 64;

/// The control message that names the source address of a datagram (IP_PKTINFO), aligned as cmsghdr wants it.
#[repr(C)]
struct SourceControl {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
}

/// Sends `datagrams` to `to`, each from the source address beside it, through a socket that is bound to no address.
/// How many the kernel took; 0 when its buffer is full.
pub fn send_from(socket: &UdpSocket, to: SocketAddrV4, datagrams: &[(Ipv4Addr, &[u8])]) -> io::Result<usize> {
    let n = datagrams.len().min(BATCH);
    // SAFETY: all of these are plain C structs for which zeros are valid.
    let (mut name, mut parts, mut controls, mut headers): (
        libc::sockaddr_in,
        [libc::iovec; BATCH],
        [SourceControl; BATCH],
        [libc::mmsghdr; BATCH],
    ) = unsafe { (zeroed(), zeroed(), zeroed(), zeroed()) };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = to.port().to_be();
    name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    for (i, (source, bytes)) in datagrams[..n].iter().enumerate() {
        parts[i] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        controls[i].header.cmsg_level = libc::IPPROTO_IP;
        controls[i].header.cmsg_type = libc::IP_PKTINFO;
        // SAFETY: CMSG_LEN only computes.
        controls[i].header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) } as _;
        controls[i].info.ipi_spec_dst.s_addr = u32::from_ne_bytes(source.octets());
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[i];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[i]).cast();
        header.msg_controllen = size_of::<SourceControl>() as _;
    }
    // SAFETY: the first `n` headers point at names, parts and control messages that live during the call; the kernel
    // does not write to any of them but the headers' msg_len.
    let sent = check(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), n as u32, libc::MSG_DONTWAIT) });
    match sent {
        Err(why) if matches!(why.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => Ok(0),
        sent => Ok(sent? as usize),
    }
}

/// The first bytes of each datagram that waits at a socket.
pub struct Inbox {
    heads: Box<[[u8; 64]; BATCH]>,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Self {
        Inbox { heads: Box::new([[0; 64]; BATCH]) }
    }

    /// Takes up to [`BATCH`] datagrams: of each its first bytes, at most 64, and its whole length.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<impl ExactSizeIterator<Item = (&[u8], usize)>> {
        // SAFETY: plain C structs for which zeros are valid.
        let (mut parts, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { (zeroed(), zeroed()) };
        for (i, head) in self.heads.iter_mut().enumerate() {
            parts[i] = libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() };
            headers[i].msg_hdr.msg_iov = &raw mut parts[i];
            headers[i].msg_hdr.msg_iovlen = 1;
        }
        // MSG_TRUNC: msg_len is the datagram's length, not that of what was kept of it.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: each header points at a part, and each part at 64 writable bytes; all live during the call.
        let n = check(unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, flags, std::ptr::null_mut())
        });
        let n = match n {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => 0,
            n => n? as usize,
        };
        Ok(self.heads[..n].iter().zip(headers).map(|(head, header)| {
            let len = header.msg_len as usize;
            (&head[..len.min(head.len())], len)
        }))
    }
}
