//! Peer addresses between C and Rust.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{AF_INET, AF_INET6, c_int, sockaddr_in, sockaddr_in6, socklen_t};

use super::types::dv_udp_conn_key_t;

/// The address in `key`, with flow label 0. `None` for another family, and for the unspecified address: it is what is left
/// when `recvfrom` had less room than an IPv6 address needs.
pub fn peer(key: &dv_udp_conn_key_t) -> Option<SocketAddr> {
    // SAFETY: every member of the union is plain old data and the key is wholly initialised by contract; the family says
    // which one was written.
    let peer = unsafe {
        match c_int::from(key.addr.sa_family) {
            AF_INET => {
                let sockaddr_in { sin_addr, sin_port, .. } = key.addr4;
                SocketAddr::from((Ipv4Addr::from(u32::from_be(sin_addr.s_addr)), u16::from_be(sin_port)))
            }
            AF_INET6 => {
                let sockaddr_in6 { sin6_addr, sin6_port, sin6_scope_id, .. } = key.addr6;
                let ip = Ipv6Addr::from(sin6_addr.s6_addr);
                SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(sin6_port), 0, sin6_scope_id))
            }
            _ => return None,
        }
    };
    (!peer.ip().is_unspecified()).then_some(peer)
}

/// How long the address in `key` is. Not what the caller says: his length may still be that of another peer's family.
pub fn length(key: &dv_udp_conn_key_t) -> socklen_t {
    // SAFETY: as in `peer`.
    let length = match c_int::from(unsafe { key.addr.sa_family }) {
        AF_INET6 => size_of::<sockaddr_in6>(),
        _ => size_of::<sockaddr_in>(),
    };
    length as socklen_t
}
