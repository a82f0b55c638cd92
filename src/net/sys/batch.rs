//! Many datagrams with one system call: recvmmsg and sendmmsg, with UDP_GRO and UDP_SEGMENT.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{ptr, slice};

use libc::{c_int, c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr};

use super::address::Address;
use super::udp::check;

/// Messages in one system call, at most. With GRO or GSO each can be many datagrams.
pub const BATCH: usize = 64;

/// No UDP payload is longer, and no train of datagrams that GRO has joined.
const ROOM: usize = 1 << 16;

/// From the beginning of one message to that of the next. With exactly 64 KiB all of them would compete for the same lines of
/// the processor's caches.
const STRIDE: usize = ROOM + 5 * 64;

/// Room for the control messages of one datagram, aligned as they want it. On the way out a source address and a segment's
/// length; on the way in also a count, and what a program may have asked for at a socket that it hands in.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 256]);

/// Datagrams that came in.
///
/// What the kernel is to write to is described once: `headers` points into the rest, which stays where it is.
pub struct Inbound {
    memory: Vec<u8>,
    from: Vec<Address>,
    controls: Vec<Control>,
    /// Only `headers` knows of them.
    _parts: Vec<iovec>,
    headers: Vec<mmsghdr>,
    /// How many of them the last call has written to.
    used: usize,
}

// SAFETY: the pointers in it point to what it owns itself.
unsafe impl Send for Inbound {}

/// One datagram, or several of one length from one peer.
pub struct Received<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of ours that it was sent to, where the socket tells.
    pub to: Option<IpAddr>,
    /// How many datagrams the kernel has dropped at this socket so far because its buffer was full, if it says.
    pub dropped: Option<u32>,
    bytes: &'a [u8],
    segment: usize,
}

impl<'a> Received<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment)
    }
}

impl Inbound {
    /// Room for [`BATCH`] messages.
    pub fn new() -> Inbound {
        let (mut memory, mut from) = (vec![0u8; BATCH * STRIDE], vec![Address::EMPTY; BATCH]);
        let mut controls = vec![Control([0; 256]); BATCH];
        let room = memory.as_mut_ptr();
        let part = |i| iovec { iov_base: room.wrapping_add(i * STRIDE).cast(), iov_len: ROOM };
        let mut parts: Vec<iovec> = (0..BATCH).map(part).collect();
        let (names, rooms, controls_at) = (from.as_mut_ptr(), parts.as_mut_ptr(), controls.as_mut_ptr());
        let header = |i| {
            // SAFETY: a plain C struct for which zeros are valid.
            let mut header: mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_name = names.wrapping_add(i).cast();
            header.msg_hdr.msg_iov = rooms.wrapping_add(i);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls_at.wrapping_add(i).cast();
            header
        };
        let headers = (0..BATCH).map(header).collect();
        Inbound { memory, from, controls, _parts: parts, headers, used: BATCH }
    }

    /// Takes what waits at a socket, up to [`BATCH`] messages, and returns how many. It does not block.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for header in &mut self.headers[..self.used] {
            header.msg_hdr.msg_namelen = size_of::<Address>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: each header points at a name, a part and room for control messages that no other header points at and that
        // nobody else uses during the call; each part points at ROOM bytes of its own.
        let n = check(unsafe {
            let (headers, none) = (self.headers.as_mut_ptr(), ptr::null_mut());
            libc::recvmmsg(socket.as_raw_fd(), headers, BATCH as u32, libc::MSG_DONTWAIT, none)
        })?;
        self.used = n as usize;
        Ok(self.used)
    }

    /// The message `i` of those that [`Inbound::receive`] took; `None` when the kernel does not say who sent it.
    pub fn get(&self, i: usize) -> Option<Received<'_>> {
        let (len, header) = (self.headers[i].msg_len as usize, &self.headers[i].msg_hdr);
        let bytes = &self.memory[i * STRIDE..][..len];
        #[allow(clippy::unnecessary_cast, reason = "other C libraries have another type here")]
        let control_len = header.msg_controllen as usize;
        let mut received = Received { from: self.from[i].get()?, to: None, dropped: None, bytes, segment: len.max(1) };
        each_control(&self.controls[i], control_len, |level, kind, data| match (level, kind) {
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.dropped = read(data),
            (libc::SOL_UDP, libc::UDP_GRO) => {
                received.segment = read::<c_int>(data).map_or(received.segment, |segment| segment.max(1) as usize);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = read::<in_pktinfo>(data);
                received.to = info.map(|info| Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                received.to = read::<in6_pktinfo>(data).map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            _ => {}
        });
        Some(received)
    }
}

/// Plain C data of the kernel's: any bytes are a value, and none of them is padding.
trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for c_int {}
impl Plain for in_pktinfo {}
impl Plain for in6_pktinfo {}

fn read<T: Plain>(data: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, at any alignment, and any bytes are a `T`.
    (data.len() >= size_of::<T>()).then(|| unsafe { data.as_ptr().cast::<T>().read_unaligned() })
}

/// Shows the control messages in the first `len` bytes: level, type and data of each.
fn each_control(controls: &Control, len: usize, mut show: impl FnMut(c_int, c_int, &[u8])) {
    // SAFETY: CMSG_LEN only computes.
    let header_len = unsafe { libc::CMSG_LEN(0) } as usize;
    let mut rest = &controls.0[..len.min(controls.0.len())];
    while rest.len() >= header_len {
        // SAFETY: there are enough bytes, at any alignment, and any bytes are a cmsghdr.
        let header = unsafe { rest.as_ptr().cast::<cmsghdr>().read_unaligned() };
        #[allow(clippy::unnecessary_cast, reason = "other C libraries have another type here")]
        let len = header.cmsg_len as usize;
        if len < header_len || len > rest.len() {
            break;
        }
        show(header.cmsg_level, header.cmsg_type, &rest[header_len..len]);
        // SAFETY: CMSG_SPACE only computes.
        let whole = unsafe { libc::CMSG_SPACE((len - header_len) as u32) } as usize;
        rest = &rest[whole.min(rest.len())..];
    }
}

/// A batch of datagrams that is about to leave, in their order. The next one begins when all have left.
#[derive(Default)]
pub struct Outbound {
    memory: Vec<u8>,
    messages: Vec<Message>,
    /// How many have left.
    left: usize,
}

struct Message {
    bytes: Range<usize>,
    to: Address,
    from: Option<IpAddr>,
    segment: Option<u16>,
}

impl Outbound {
    /// Adds one datagram or, with `segment`, as many of that length as `bytes` make. `from`: the address of ours to send
    /// from, at a socket that has several.
    pub fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, segment: Option<usize>, bytes: &[u8]) {
        let begin = self.memory.len();
        self.memory.extend_from_slice(bytes);
        let segment = segment.map(|segment| segment as u16);
        self.messages.push(Message { bytes: begin..self.memory.len(), to: Address::new(to), from, segment });
    }

    /// Whether a whole batch waits.
    pub fn is_full(&self) -> bool {
        self.messages.len() >= BATCH
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Gives the kernel what waits, up to [`BATCH`] messages; returns how many datagrams it has taken. An error is about the
    /// first message, which goes on waiting.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut parts = [const { MaybeUninit::<iovec>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<mmsghdr>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
        let waiting = &self.messages[self.left..];
        let n = waiting.len().min(BATCH);
        for (i, message) in waiting[..n].iter().enumerate() {
            let bytes = &self.memory[message.bytes.clone()];
            let part = parts[i].write(iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
            // SAFETY: a plain C struct for which zeros are valid.
            let header = &mut headers[i].write(unsafe { zeroed() }).msg_hdr;
            header.msg_name = (&raw const message.to).cast_mut().cast();
            header.msg_namelen = message.to.len();
            header.msg_iov = part;
            header.msg_iovlen = 1;
            if message.from.is_some() || message.segment.is_some() {
                let control = controls[i].write(Control([0; 256]));
                header.msg_controllen = message.write_control(control) as _;
                header.msg_control = ptr::from_mut(control).cast();
            }
        }
        // SAFETY: the first `n` headers point at names, parts and control messages that live during the call; the kernel
        // writes to nothing but the headers' msg_len.
        let sent = check(unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr().cast(), n as u32, libc::MSG_DONTWAIT)
        })?;
        Ok(self.advance(sent as usize))
    }

    /// Drops the first message that waits. Returns how many datagrams it had.
    pub fn skip(&mut self) -> usize {
        self.advance(1)
    }

    /// Splits the first message that waits into single datagrams, if the kernel was to do so. Returns whether it was.
    pub fn cut(&mut self) -> bool {
        let Some(&Message { ref bytes, to, from, segment: Some(segment) }) = self.messages.get(self.left) else {
            return false;
        };
        let (all, segment) = (bytes.clone(), usize::from(segment));
        let single = |begin: usize| Message { bytes: begin..all.end.min(begin + segment), to, from, segment: None };
        self.messages.splice(self.left..=self.left, all.clone().step_by(segment).map(single));
        true
    }

    fn advance(&mut self, messages: usize) -> usize {
        let datagrams = self.messages.iter().skip(self.left).take(messages).map(Message::datagrams).sum();
        self.left += messages;
        if self.left == self.messages.len() {
            self.memory.clear();
            self.messages.clear();
            self.left = 0;
        }
        datagrams
    }
}

impl Message {
    fn datagrams(&self) -> usize {
        self.segment.map_or(1, |segment| self.bytes.len().div_ceil(segment.into()))
    }

    /// Writes the control messages that it needs; returns how many bytes they are.
    fn write_control(&self, controls: &mut Control) -> usize {
        let mut len = 0;
        match self.from {
            Some(IpAddr::V4(ip)) => {
                let spec_dst = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec_dst, ipi_addr: libc::in_addr { s_addr: 0 } };
                append(controls, &mut len, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(ip)) => {
                let info = in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                append(controls, &mut len, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if let Some(segment) = self.segment {
            append(controls, &mut len, libc::SOL_UDP, libc::UDP_SEGMENT, &segment);
        }
        len
    }
}

/// Appends one control message to those in the first `len` bytes.
fn append<T: Plain>(controls: &mut Control, len: &mut usize, level: c_int, kind: c_int, data: &T) {
    // SAFETY: both only compute.
    let (own, space) = unsafe { (libc::CMSG_LEN(size_of::<T>() as u32), libc::CMSG_SPACE(size_of::<T>() as u32)) };
    let mut header: cmsghdr = {
        // SAFETY: zeros are valid.
        unsafe { zeroed() }
    };
    header.cmsg_len = own as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    let place = &mut controls.0[*len..*len + space as usize];
    let data_begin = own as usize - size_of::<T>();
    // SAFETY: cmsghdr has no padding on the platforms of this library's, nor has a Plain; the slices are used up before the
    // values go.
    unsafe {
        place[..size_of::<cmsghdr>()]
            .copy_from_slice(slice::from_raw_parts((&raw const header).cast(), size_of::<cmsghdr>()));
        place[data_begin..own as usize]
            .copy_from_slice(slice::from_raw_parts(ptr::from_ref(data).cast::<c_void>().cast(), size_of::<T>()));
    }
    *len += space as usize;
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    /// What a kernel without UDP_SEGMENT refuses leaves as single datagrams, in the order of all.
    #[test]
    fn what_is_cut_leaves_as_single_datagrams() {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let at = to.local_addr().unwrap();
        let mut outbound = Outbound::default();
        outbound.push(at, None, None, b"first");
        outbound.push(at, None, Some(4), b"one.two.end");
        outbound.push(at, None, None, b"last");
        // The first one is no train: it stays as it is.
        assert!(!outbound.cut());
        outbound.advance(1);
        assert!(outbound.cut() && !outbound.cut());
        while !outbound.is_empty() {
            outbound.send(from.as_fd()).unwrap();
        }
        for expected in ["one.", "two.", "end", "last"] {
            let mut buffer = [0; 16];
            let len = to.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected.as_bytes());
        }
        assert!(!outbound.cut());
    }
}
