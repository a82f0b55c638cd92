//! The sockets of one address: a group with one or more for each worker.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::c_int;

use super::shared::SocketCounters;
use super::steer::{self, Owners, Steering};
use super::sys::batch::Outbound;
use super::sys::udp::{self, set_option};
use crate::engine::endpoint::serves;
use crate::engine::stats::Counter;

/// How sockets are opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many workers there are to share an address.
    pub workers: usize,
    /// Bytes of the kernel's buffers of each socket.
    pub buffer: usize,
    /// Whether the kernel may join and cut datagrams (UDP_GRO, UDP_SEGMENT).
    pub offload: bool,
    /// Whether handshakes get sockets of their own.
    pub steer: bool,
    /// Where a connection ID of ours tells whose session it is.
    pub owners: Option<Owners>,
}

/// What one worker has of an address: where its datagrams come in and leave.
pub struct Port {
    /// The address.
    pub local: SocketAddr,
    /// Receives what is not for `handshakes`, and sends everything.
    pub data: Socket,
    /// Receive what belongs to handshakes, the more important first, where the kernel steers that here.
    pub handshakes: Vec<Socket>,
    /// What could not leave yet.
    pub outbound: Outbound,
    /// Datagrams of one length to one peer that can be sent as one message.
    pub segments_max: usize,
    /// How the kernel finds the worker of a peer, where that is known.
    steering: Option<Steering>,
}

/// A socket, and how many datagrams it has lost so far.
pub struct Socket {
    fd: OwnedFd,
    dropped: u32,
}

impl Socket {
    fn new(fd: OwnedFd) -> Socket {
        Socket { fd, dropped: 0 }
    }

    /// How many datagrams were dropped since this was asked last, if the kernel's count is `dropped` now.
    pub fn newly_dropped(&mut self, dropped: u32) -> u32 {
        dropped.wrapping_sub(std::mem::replace(&mut self.dropped, dropped))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Port {
    fn new(data: OwnedFd, handshakes: Vec<OwnedFd>, offload: bool, steering: Option<Steering>) -> io::Result<Port> {
        let local = udp::local_address(data.as_fd())?;
        let cuts = offload && udp::option(data.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        Ok(Port {
            local,
            data: Socket::new(data),
            handshakes: handshakes.into_iter().map(Socket::new).collect(),
            outbound: Outbound::default(),
            segments_max: if cuts { SEGMENTS_MAX } else { 1 },
            steering,
        })
    }

    /// Whether datagrams to this peer from this address of ours leave here.
    pub fn serves(&self, peer: SocketAddr, local: Option<IpAddr>) -> bool {
        serves(self.local, peer, local)
    }

    /// The worker that has all that a peer sends to this address, where that is known.
    pub fn worker_of(&self, peer: SocketAddr) -> Option<usize> {
        self.steering.map(|steering| steering.worker_of(peer))
    }

    /// The address of ours that a peer has written to, if the kernel says `told`.
    pub fn addressed(&self, told: Option<IpAddr>) -> Option<IpAddr> {
        if self.local.ip().is_unspecified() { told } else { Some(self.local.ip()) }
    }

    /// Gives the kernel what waits here; `sent` counts the datagrams that it has taken. Returns whether all has left;
    /// otherwise the rest waits for room.
    pub fn send(&mut self, sent: &Counter, counters: &SocketCounters) -> bool {
        let mut failed = false;
        while !self.outbound.is_empty() {
            counters.batches_out.add(1);
            let error = match self.outbound.send(self.data.as_fd()) {
                Ok(datagrams) => {
                    sent.add(datagrams as u64);
                    failed = false;
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    counters.socket_full.add(1);
                    return false;
                }
                Some(libc::EINTR) => {}
                // The device cannot segment: from now on datagrams are sent one by one.
                Some(libc::EIO | libc::EOPNOTSUPP) if self.outbound.cut() => self.segments_max = 1,
                // The path may be too narrow for these, for this peer alone.
                Some(libc::EINVAL | libc::EMSGSIZE) if self.outbound.cut() => {}
                // The first error may be an ICMP message about an earlier datagram: this one was not tried yet.
                _ if !failed => failed = true,
                _ => {
                    counters.datagrams_refused.add(self.outbound.skip() as u64);
                    failed = false;
                }
            }
        }
        true
    }

    /// The address that has to be named to send from `local`: none where there is no choice.
    pub fn source(&self, local: Option<IpAddr>) -> Option<IpAddr> {
        local.filter(|_| self.local.ip().is_unspecified())
    }
}

/// The most that the kernel cuts one message into (UDP_MAX_SEGMENTS).
const SEGMENTS_MAX: usize = 64;

/// Opens the sockets of an address, a port for each worker. `only_v6`: an IPv6 wildcard takes no IPv4.
pub fn open(address: SocketAddr, only_v6: bool, options: &Options) -> io::Result<Vec<Port>> {
    // The first one is bound before it joins a group, so an address that is in use is refused, even if a group uses it.
    let first = prepare(address, only_v6, options)?;
    udp::bind(first.as_fd(), address)?;
    let address = udp::local_address(first.as_fd())?;
    let for_all = libc::SO_REUSEPORT;
    let grouped = set_option(first.as_fd(), libc::SOL_SOCKET, for_all, 1);
    let alone = options.workers == 1;
    if let (Err(error), false) = (&grouped, alone) {
        return Err(io::Error::new(error.kind(), format!("SO_REUSEPORT: {error}")));
    }
    let another = || {
        let fd = prepare(address, only_v6, options)?;
        set_option(fd.as_fd(), libc::SOL_SOCKET, for_all, 1)?;
        udp::bind(fd.as_fd(), address)?;
        Ok::<OwnedFd, io::Error>(fd)
    };
    let mut data = vec![first];
    while data.len() < options.workers {
        data.push(another()?);
    }
    let mut handshakes = Vec::new();
    let mut steering = None;
    if options.steer && grouped.is_ok() {
        let wanted = (steer::CLASSES - 1) * options.workers;
        // The places in the group are in the order of binding, which the program goes by.
        while handshakes.len() < wanted
            && let Ok(fd) = another()
        {
            handshakes.push(fd);
        }
        let seed = u32::from_ne_bytes(crate::tls::random());
        let wish = Steering { workers: options.workers as u32, seed, owners: options.owners };
        if handshakes.len() == wanted && udp::attach_group_program(data[0].as_fd(), &wish.program()).is_ok() {
            steering = Some(wish);
        } else {
            // From behind, so that those that stay keep their places.
            while handshakes.pop().is_some() {}
        }
    }
    let mut of_workers: Vec<Vec<OwnedFd>> = data.iter().map(|_| Vec::new()).collect();
    handshakes.into_iter().enumerate().for_each(|(place, fd)| of_workers[place % options.workers].push(fd));
    let port = |(data, handshakes)| Port::new(data, handshakes, options.offload, steering);
    data.into_iter().zip(of_workers).map(port).collect()
}

/// Takes over a socket that is bound already. It is in no group that we know of, so nothing is steered to it or away from it.
pub fn adopt(fd: OwnedFd, options: &Options) -> io::Result<Port> {
    let local = udp::local_address(fd.as_fd())?;
    if local.port() == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is bound to no port"));
    }
    if udp::is_connected(fd.as_fd()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is connected: it hears one peer alone"));
    }
    set_options(fd.as_fd(), local, options)?;
    // ICMP errors would be kept for somebody who reads them, and poll would not wait any more.
    let _ = set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 0);
    let _ = set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0);
    Port::new(fd, Vec::new(), options.offload, None)
}

/// A socket for this address, not bound yet.
fn prepare(address: SocketAddr, only_v6: bool, options: &Options) -> io::Result<OwnedFd> {
    let fd = udp::socket(address)?;
    if address.is_ipv6() {
        set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only_v6.into())?;
    }
    set_options(fd.as_fd(), address, options)?;
    Ok(fd)
}

fn set_options(fd: BorrowedFd<'_>, local: SocketAddr, options: &Options) -> io::Result<()> {
    let buffer = c_int::try_from(options.buffer).unwrap_or(c_int::MAX);
    for (beyond_limits, within) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        // Only the administrator goes beyond the system's limits; the others get as much as there is.
        if set_option(fd, libc::SOL_SOCKET, beyond_limits, buffer).is_err() {
            set_option(fd, libc::SOL_SOCKET, within, buffer)?;
        }
    }
    // An older kernel may lack these: then drops are not counted, and each datagram is read by itself.
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    if options.offload {
        let _ = set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    }
    match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        IpAddr::V6(ip) if ip.is_unspecified() => set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
