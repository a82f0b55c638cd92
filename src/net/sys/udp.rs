//! UDP sockets, their options, and waiting for them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_void, socklen_t};

use super::address::Address;
use super::{keep_errno, not_cancelled};

/// The result of a system call that says -1 when it fails.
pub(super) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A new UDP socket for addresses like this one, bound to nothing.
pub fn socket(like: SocketAddr) -> io::Result<OwnedFd> {
    let domain = if like.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no pointer; the descriptor that it makes belongs to nobody else.
    unsafe {
        let fd = check(libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Gives a socket its address.
pub fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let address = Address::new(address);
    // SAFETY: the pointer and the length describe `address`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), address.len()) }).map(drop)
}

/// The address that a UDP socket is bound to.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut address = Address::EMPTY;
    let mut len = size_of::<Address>() as socklen_t;
    // SAFETY: the pointer and the length describe `address`.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &mut len) })?;
    let kind = [libc::SO_TYPE, libc::SO_PROTOCOL].map(|name| option(socket, libc::SOL_SOCKET, name).ok());
    match address.get() {
        Some(address) if kind == [Some(libc::SOCK_DGRAM), Some(libc::IPPROTO_UDP)] => Ok(address),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no UDP socket")),
    }
}

/// Whether a UDP socket has one peer (connect), and takes nothing from anybody else.
pub fn is_connected(socket: BorrowedFd<'_>) -> bool {
    let mut peer = Address::EMPTY;
    let mut len = size_of::<Address>() as socklen_t;
    // SAFETY: the pointer and the length describe `peer`.
    unsafe { libc::getpeername(socket.as_raw_fd(), (&raw mut peer).cast(), &mut len) == 0 }
}

/// Sets an option whose value is a number.
pub fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let value = &raw const value;
    // SAFETY: the pointer and the length describe the value.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, value.cast::<c_void>(), size_of::<c_int>() as socklen_t)
    })
    .map(drop)
}

/// An option whose value is a number.
pub fn option(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as socklen_t;
    // SAFETY: the pointers describe `value` and its length.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast::<c_void>(), &mut len) })?;
    Ok(value)
}

/// Lets a program choose the socket for each datagram that comes to the group (SO_REUSEPORT) of this one.
pub fn attach_group_program(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    /// sock_fprog, with a name for what lies between its members: the kernel copies that too.
    #[repr(C)]
    struct Program {
        len: u16,
        zero: [u16; size_of::<*const ()>() / 2 - 1],
        filter: *const libc::sock_filter,
    }
    const _: () = assert!(size_of::<Program>() == size_of::<libc::sock_fprog>());
    let all =
        Program { len: program.len() as u16, zero: [0; size_of::<*const ()>() / 2 - 1], filter: program.as_ptr() };
    // SAFETY: `all` points to as many instructions as it says; the kernel copies them, and writes to none.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const all).cast::<c_void>(),
            size_of::<Program>() as socklen_t,
        )
    })
    .map(drop)
}

/// Descriptors that are waited for, by their number among them.
///
/// With poll, not epoll: epoll stays registered at a socket, and is called for each datagram that leaves by it, which costs
/// more than looking at a few sockets once for many datagrams.
pub struct Waiting {
    all: Vec<libc::pollfd>,
}

impl Waiting {
    /// For all of these, of which nothing is wanted yet. They must stay open as long as this is used.
    pub fn on<'a>(all: impl Iterator<Item = BorrowedFd<'a>>) -> Waiting {
        Waiting { all: all.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 }).collect() }
    }

    /// What to wait for from now on: for something to read, for room to write, or for both.
    pub fn want(&mut self, number: usize, to_read: bool, to_write: bool) {
        self.all[number].events = if to_read { libc::POLLIN } else { 0 } | if to_write { libc::POLLOUT } else { 0 };
    }

    /// Waits until one of them is ready, or for so many microseconds, to the millisecond; `u64::MAX`: for ever.
    pub fn wait(&mut self, timeout: u64) -> io::Result<()> {
        let milliseconds = if timeout == u64::MAX { -1 } else { timeout.div_ceil(1000).min(1 << 30) as c_int };
        // SAFETY: the pointer and the length describe `all`, of which the kernel writes the `revents`.
        let found = check(unsafe { libc::poll(self.all.as_mut_ptr(), self.all.len() as libc::nfds_t, milliseconds) });
        match found {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.all.iter_mut().for_each(|one| one.revents = 0);
                Ok(())
            }
            found => found.map(drop),
        }
    }

    /// Whether there is something to read, or an error to take.
    pub fn readable(&self, number: usize) -> bool {
        self.all[number].revents & (libc::POLLIN | libc::POLLERR) != 0
    }
}

/// A descriptor that becomes readable when somebody rings.
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent one.
    pub fn new() -> io::Result<Bell> {
        // SAFETY: the call takes no pointer; the descriptor that it makes belongs to nobody else.
        unsafe { Ok(Bell(OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?))) }
    }

    /// Rings. It may be called from a signal handler.
    pub fn ring(&self) {
        let one = 1u64;
        keep_errno(|| {
            // SAFETY: the pointer and the length describe `one`. It can only fail when it rings already.
            not_cancelled(|| unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) });
        });
    }

    /// Silences it.
    pub fn hear(&self) {
        let mut count = 0u64;
        // SAFETY: the pointer and the length describe `count`. It fails only when it does not ring.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
