//! dv_add_epoll_event

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;

use dv_dtls::*;
use libc::epoll_event;

use crate::support::logged;

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Epoll {
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0);
        Epoll(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Adds, and gives what is logged.
    fn add(&self, ev: *mut epoll_event, fd: RawFd) -> String {
        logged(|| unsafe { dv_add_epoll_event(self.0.as_raw_fd(), ev, fd) }).1
    }

    /// The descriptors that are ready now.
    fn ready(&self) -> Vec<RawFd> {
        let mut events = [epoll_event { events: 0, u64: 0 }; 8];
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 8, 0) };
        events[..n as usize].iter().map(data_fd).collect()
    }
}

/// `data.fd`
fn data_fd(ev: &epoll_event) -> RawFd {
    unsafe { (&raw const ev.u64).cast::<RawFd>().read_unaligned() }
}

#[test]
fn a_socket_is_watched_once_however_often_it_is_added() {
    let epoll = Epoll::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fd = socket.as_raw_fd();
    let mut ev = epoll_event { events: 0, u64: 0 };
    for _ in 0..3 {
        assert_eq!(epoll.add(&raw mut ev, fd), "");
        assert_eq!((ev.events, data_fd(&ev)), (libc::EPOLLIN as u32, fd));
    }
    assert_eq!(epoll.add(null_mut(), fd), "");
    assert!(epoll.ready().is_empty());
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    assert_eq!(epoll.ready(), [fd]);
}

#[test]
fn the_kernel_is_asked_each_time() {
    let epoll = Epoll::new();
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fd = first.as_raw_fd();
    assert_eq!(epoll.add(null_mut(), fd), "");
    // Another socket under the same number: the kernel forgot the first one when that was closed.
    let second = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(unsafe { libc::dup2(second.as_raw_fd(), fd) }, fd);
    assert_eq!(epoll.add(null_mut(), fd), "");
    second.send_to(b"x", second.local_addr().unwrap()).unwrap();
    assert_eq!(epoll.ready(), [fd]);
}

#[test]
fn what_the_kernel_refuses_is_logged() {
    let epoll = Epoll::new();
    let mut ev = epoll_event { events: 0, u64: 0 };
    assert!(epoll.add(&raw mut ev, -1).contains("descriptor -1"));
    assert!(epoll.add(null_mut(), -1).contains("Bad file descriptor"));
    let ((), lines) = logged(|| unsafe { dv_add_epoll_event(-1, null_mut(), 0) });
    assert!(lines.contains("epoll descriptor -1: Bad file descriptor"), "{lines}");
    // A file is always ready, so there is nothing to watch.
    let file = std::fs::File::open(env!("CARGO_MANIFEST_PATH")).unwrap();
    assert!(epoll.add(null_mut(), file.as_raw_fd()).contains("Operation not permitted"));
}
