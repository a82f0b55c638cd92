//! What leaves a port, and what the kernel refuses of it.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::*;

const OPTIONS: Options = Options { workers: 1, buffer: 1 << 18, offload: true, steer: false, owners: None };

fn port(address: &str) -> Port {
    open(address.parse().unwrap(), true, &OPTIONS).unwrap().remove(0)
}

fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    peer
}

/// An address that is not this machine's (RFC 5737): nothing can leave from there.
const FOREIGN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn what_the_kernel_refuses_costs_nobody_else_anything() {
    let (mut port, peer, counters) = (port("0.0.0.0:0"), peer(), SocketCounters::default());
    let (to, train) = (peer.local_addr().unwrap(), [7; 3 * 50 + 10]);
    port.outbound.push(to, Some(FOREIGN), None, b"one");
    port.outbound.push(to, None, Some(50), &train);
    port.outbound.push(to, Some(FOREIGN), Some(50), &train);
    port.outbound.push(to, None, None, b"the last");
    let sent = Counter::default();
    assert!(port.send(&sent, &counters));
    assert_eq!(sent.get(), 4 + 1);
    assert_eq!(counters.datagrams_refused.get(), 1 + 4);
    assert_eq!(counters.socket_full.get(), 0);
    assert_eq!(port.segments_max, SEGMENTS_MAX, "it was not the trains' fault");
    for expected in [&train[..50], &train[..50], &train[..50], &train[..10], b"the last"] {
        let mut datagram = [0; 2048];
        let len = peer.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..len], expected);
    }
}

#[test]
fn a_socket_that_is_handed_in_is_one_of_udp() {
    // SAFETY: the call takes no pointer; the descriptor that it makes belongs to nobody else.
    let ping = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP) };
    if ping < 0 {
        eprintln!("skipped: this system lets nobody have an ICMP socket");
        return;
    }
    // SAFETY: as above.
    let ping = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(ping) };
    udp::bind(ping.as_fd(), "127.0.0.1:4711".parse().unwrap()).unwrap();
    assert!(adopt(ping, &OPTIONS).is_err());
}
