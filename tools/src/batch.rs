//! Many datagrams with one system call, sendmmsg and recvmmsg, each from or to an address of 127.0.0.0/8 of its own. Those of
//! one length and address travel as a train (UDP_SEGMENT, UDP_GRO), as network cards join and cut them.

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use crate::sys::{self, check};

/// Trains in one system call, at most.
pub const BATCH: usize = 64;

/// Datagrams in a train, at most (UDP_MAX_SEGMENTS), and bytes.
pub const SEGMENTS: usize = 64;
/// Room for what one system call gives of a train.
const ROOM: usize = 1 << 16;
/// From one train's room to the next one's: at 64 KiB exactly they would compete for the same lines of the cache.
const STRIDE: usize = ROOM + 5 * 64;

/// Datagrams of one length (but the last one, which may be shorter) from one source.
#[derive(Clone, Copy)]
pub struct Train<'a> {
    /// Where they come from.
    pub source: Ipv4Addr,
    /// One behind the other.
    pub bytes: &'a [u8],
    /// Bytes of each.
    pub segment: usize,
}

/// The control messages of a train, laid out and aligned as cmsghdr wants it: its source, and the length of its datagrams.
#[repr(C)]
#[derive(Clone, Copy)]
struct Leaving {
    source_header: libc::cmsghdr,
    source: libc::in_pktinfo,
    _fill: u32,
    segment_header: libc::cmsghdr,
    segment: u16,
    _rest: [u8; 6],
}

/// Room for those of a train that arrives.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Arriving([u8; 128]);

/// A socket without an address of its own, that says where datagrams were sent to and takes trains whole.
pub fn bind() -> io::Result<UdpSocket> {
    let socket = sys::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    sys::set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    Ok(socket)
}

/// Sends trains to `to`; how many the kernel took, 0 when its buffer is full.
pub fn send(socket: &UdpSocket, to: SocketAddrV4, trains: &[Train]) -> io::Result<usize> {
    let n = trains.len().min(BATCH);
    // SAFETY: all of these are plain C structs for which zeros are valid.
    let (mut name, mut parts, mut controls, mut headers): (
        libc::sockaddr_in,
        [libc::iovec; BATCH],
        [Leaving; BATCH],
        [libc::mmsghdr; BATCH],
    ) = unsafe { (zeroed(), zeroed(), zeroed(), zeroed()) };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = to.port().to_be();
    name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    for (i, train) in trains[..n].iter().enumerate() {
        parts[i] = libc::iovec { iov_base: train.bytes.as_ptr().cast_mut().cast(), iov_len: train.bytes.len() };
        let control = &mut controls[i];
        control.source_header.cmsg_level = libc::IPPROTO_IP;
        control.source_header.cmsg_type = libc::IP_PKTINFO;
        // SAFETY: CMSG_LEN only computes.
        control.source_header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<libc::in_pktinfo>() as u32) } as _;
        control.source.ipi_spec_dst.s_addr = u32::from_ne_bytes(train.source.octets());
        control.segment_header.cmsg_level = libc::SOL_UDP;
        control.segment_header.cmsg_type = libc::UDP_SEGMENT;
        // SAFETY: CMSG_LEN only computes.
        control.segment_header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<u16>() as u32) } as _;
        control.segment = train.segment as u16;
        let alone = train.bytes.len() <= train.segment;
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[i];
        header.msg_iovlen = 1;
        header.msg_control = ptr::from_mut(control).cast();
        let controls = if alone { std::mem::offset_of!(Leaving, segment_header) } else { size_of::<Leaving>() };
        header.msg_controllen = controls as _;
    }
    // SAFETY: the first `n` headers point at names, parts and control messages that live during the call; the kernel
    // does not write to any of them but the headers' msg_len.
    let sent = check(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), n as u32, libc::MSG_DONTWAIT) });
    match sent {
        Err(why) if matches!(why.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => Ok(0),
        sent => Ok(sent? as usize),
    }
}

/// Trains that came in.
pub struct Inbox {
    memory: Box<[u8]>,
    controls: Box<[Arriving; BATCH]>,
    /// Of each train its bytes, the bytes of each datagram, and where it was sent to.
    trains: Vec<(usize, usize, Ipv4Addr)>,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Self {
        let controls = Box::new([Arriving([0; 128]); BATCH]);
        Inbox { memory: vec![0; BATCH * STRIDE].into(), controls, trains: Vec::with_capacity(BATCH) }
    }

    /// Takes what waits at a socket, up to [`BATCH`] trains; says how many. Only those of `peer` are kept: the socket has its
    /// port at every address of 127.0.0.0/8, and some server may still be sending to one who had the same port there.
    pub fn receive(&mut self, socket: &UdpSocket, peer: SocketAddrV4) -> io::Result<usize> {
        // SAFETY: plain C structs for which zeros are valid.
        let (mut names, mut parts, mut headers): (
            [libc::sockaddr_in; BATCH],
            [libc::iovec; BATCH],
            [libc::mmsghdr; BATCH],
        ) = unsafe { (zeroed(), zeroed(), zeroed()) };
        for (i, room) in self.memory.chunks_exact_mut(STRIDE).enumerate() {
            parts[i] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: ROOM };
            headers[i].msg_hdr.msg_name = (&raw mut names[i]).cast();
            headers[i].msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            headers[i].msg_hdr.msg_iov = &raw mut parts[i];
            headers[i].msg_hdr.msg_iovlen = 1;
            headers[i].msg_hdr.msg_control = (&raw mut self.controls[i]).cast();
            headers[i].msg_hdr.msg_controllen = size_of::<Arriving>() as _;
        }
        // SAFETY: each header points at a name, a part and room for control messages that no other header points at, each
        // part at ROOM writable bytes; all live during the call.
        let n = check(unsafe {
            let none = ptr::null_mut();
            libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, libc::MSG_DONTWAIT, none)
        });
        let n = match n {
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => 0,
            n => n? as usize,
        };
        self.trains.clear();
        for (header, name) in headers[..n].iter().zip(&names) {
            let (mut to, mut segment) = (Ipv4Addr::UNSPECIFIED, 0);
            // SAFETY: the header and its control messages are as the kernel has just written them.
            unsafe {
                let mut control = libc::CMSG_FIRSTHDR(&header.msg_hdr);
                while let Some(message) = control.as_ref() {
                    match (message.cmsg_level, message.cmsg_type) {
                        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                            let info = libc::CMSG_DATA(control).cast::<libc::in_pktinfo>().read_unaligned();
                            to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                        }
                        (libc::SOL_UDP, libc::UDP_GRO) => {
                            segment = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
                        }
                        _ => {}
                    }
                    control = libc::CMSG_NXTHDR(&header.msg_hdr, control);
                }
            }
            let from = SocketAddrV4::new(u32::from_be(name.sin_addr.s_addr).into(), u16::from_be(name.sin_port));
            let len = if from == peer { header.msg_len as usize } else { 0 };
            self.trains.push((len, if segment > 0 { segment as usize } else { len.max(1) }, to));
        }
        Ok(n)
    }

    /// What was received: each datagram, and the address that it was sent to.
    pub fn datagrams(&self) -> impl Iterator<Item = (Ipv4Addr, &[u8])> {
        self.trains
            .iter()
            .zip(self.memory.chunks_exact(STRIDE))
            .flat_map(|((len, segment, to), bytes)| bytes[..*len].chunks(*segment).map(move |datagram| (*to, datagram)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn trains_arrive_with_their_addresses() {
        let (here, there, stranger) = (bind().unwrap(), bind().unwrap(), bind().unwrap());
        let to = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 9), there.local_addr().unwrap().port());
        let source = Ipv4Addr::new(127, 0, 0, 2);
        let peer = SocketAddrV4::new(source, here.local_addr().unwrap().port());
        let (long, short, strange) = ([7; 250], [8; 3], [9; 2]);
        // Neither another port nor another address is the peer's.
        let elsewhere = Train { source: Ipv4Addr::new(127, 0, 0, 3), bytes: &strange, segment: 2 };
        assert_eq!(send(&stranger, to, &[Train { source, ..elsewhere }]).unwrap(), 1);
        let trains =
            [elsewhere, Train { source, bytes: &long, segment: 100 }, Train { source, bytes: &short, segment: 3 }];
        assert_eq!(send(&here, to, &trains).unwrap(), 3);
        let (mut inbox, mut lens, until) = (Inbox::new(), Vec::new(), Instant::now() + Duration::from_secs(5));
        while lens.len() < 4 && Instant::now() < until {
            inbox.receive(&there, peer).unwrap();
            lens.extend(inbox.datagrams().map(|(at, datagram)| (at == *to.ip(), datagram.len(), datagram[0])));
        }
        assert_eq!(lens, [(true, 100, 7), (true, 100, 7), (true, 50, 7), (true, 3, 8)]);
    }
}
