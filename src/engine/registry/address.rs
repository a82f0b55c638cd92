//! Addresses as a few words: quick to hash, quick to compare.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

const IPV4: u64 = 4;
const IPV6: u64 = 6;

/// A peer: address, port and scope id. The flow label is no part of who somebody is.
///
/// 127.0.0.1 and ::ffff:127.0.0.1 are two peers: they were heard on different sockets, and each is to be answered on its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer(pub(super) [u64; 3]);

impl From<&SocketAddr> for Peer {
    #[inline]
    fn from(address: &SocketAddr) -> Peer {
        match address {
            SocketAddr::V4(v4) => Peer([0, u64::from(v4.ip().to_bits()), IPV4 << 16 | u64::from(v4.port())]),
            SocketAddr::V6(v6) => {
                let ip = v6.ip().to_bits();
                let tail = u64::from(v6.scope_id()) << 32 | IPV6 << 16 | u64::from(v6.port());
                Peer([(ip >> 64) as u64, ip as u64, tail])
            }
        }
    }
}

impl From<Peer> for SocketAddr {
    fn from(Peer([high, low, tail]): Peer) -> SocketAddr {
        let port = tail as u16;
        if tail >> 16 & 0xffff == IPV4 {
            return SocketAddrV4::new(Ipv4Addr::from_bits(low as u32), port).into();
        }
        let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        SocketAddrV6::new(ip, port, 0, (tail >> 32) as u32).into()
    }
}

/// What one party is thought to hold: an IPv4 address, mapped into IPv6 or not, or an IPv6 /64. A link-local /64 is another
/// one on each link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Source(pub(super) [u64; 2]);

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Source {
        match address {
            SocketAddr::V4(v4) => Source::ipv4(*v4.ip()),
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(ip) => Source::ipv4(ip),
                None => Source([(v6.ip().to_bits() >> 64) as u64, u64::from(v6.scope_id()) << 32 | IPV6]),
            },
        }
    }
}

impl Source {
    fn ipv4(ip: Ipv4Addr) -> Source {
        Source([u64::from(ip.to_bits()), IPV4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        (&text.parse::<SocketAddr>().unwrap()).into()
    }

    fn source(text: &str) -> Source {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_peer_comes_back_as_it_was() {
        for text in
            ["0.0.0.0:0", "192.0.2.7:65535", "[::]:0", "[::ffff:192.0.2.7]:9", "[fe80::1%7]:1", "[2001:db8::1]:2"]
        {
            assert_eq!(SocketAddr::from(peer(text)), text.parse().unwrap());
        }
    }

    #[test]
    fn only_the_flow_label_is_left_out() {
        let labelled = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 1, 99, 0);
        assert!(Peer::from(&SocketAddr::from(labelled)) == peer("[2001:db8::1]:1"));
        let different =
            ["192.0.2.7:1", "192.0.2.7:2", "[::ffff:192.0.2.7]:1", "[::192.0.2.7]:1", "[fe80::1%1]:1", "[fe80::1%2]:1"];
        for (i, a) in different.iter().enumerate() {
            for b in &different[i + 1..] {
                assert!(peer(a) != peer(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn sources() {
        assert!(source("192.0.2.7:1") == source("192.0.2.7:2"));
        assert!(source("192.0.2.7:1") == source("[::ffff:192.0.2.7]:3"));
        assert!(source("192.0.2.7:1") != source("192.0.2.8:1"));
        assert!(source("[2001:db8::1]:1") == source("[2001:db8::ffff:0:0:2]:9"));
        assert!(source("[2001:db8::1]:1") != source("[2001:db8:0:1::1]:1"));
        assert!(source("[fe80::1%1]:1") != source("[fe80::1%2]:1"));
        assert!(source("192.0.2.7:1") != source("[0:0:c000:0207::1]:1"));
    }
}
