//! Addresses of the endpoint and the server between C and Rust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

use libc::{AF_INET, AF_INET6, c_int, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use super::endpoint::dv_address;

/// All zero.
// SAFETY: the union consists of plain integers.
pub const NO_ADDRESS: dv_address = unsafe { std::mem::zeroed() };

/// # Safety
/// The member that the family names is initialised.
pub unsafe fn address_from(address: &dv_address) -> Option<SocketAddr> {
    // SAFETY: by contract; the family stands at the same place in all members.
    unsafe {
        match c_int::from(address.any.sa_family) {
            AF_INET => {
                let ip = Ipv4Addr::from_bits(u32::from_be(address.v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(address.v4.sin_port)).into())
            }
            AF_INET6 => {
                let ip = Ipv6Addr::from(address.v6.sin6_addr.s6_addr);
                let (port, scope) = (u16::from_be(address.v6.sin6_port), address.v6.sin6_scope_id);
                Some(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            _ => None,
        }
    }
}

/// # Safety
/// `address` has `len` bytes, or is NULL.
pub unsafe fn sockaddr_from(address: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    let len = len as usize;
    if address.is_null() || len < size_of::<libc::sa_family_t>() {
        return None;
    }
    let mut copy = NO_ADDRESS;
    // SAFETY: by contract; no more is copied than there is room for.
    unsafe {
        ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut copy).cast(), len.min(size_of::<dv_address>()));
        let needed = match c_int::from(copy.any.sa_family) {
            AF_INET => size_of::<sockaddr_in>(),
            _ => size_of::<sockaddr_in6>(),
        };
        if len < needed { None } else { address_from(&copy) }
    }
}

/// The same address for C.
pub fn address_of(address: SocketAddr) -> dv_address {
    let mut out = NO_ADDRESS;
    match address {
        SocketAddr::V4(v4) => {
            out.v4 = sockaddr_in {
                sin_family: AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: v4.ip().to_bits().to_be() },
                sin_zero: [0; 8],
            };
        }
        SocketAddr::V6(v6) => {
            out.v6 = sockaddr_in6 {
                sin6_family: AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
        }
    }
    out
}

/// An address without a port.
pub fn address_of_ip(ip: Option<IpAddr>) -> dv_address {
    ip.map_or(NO_ADDRESS, |ip| address_of(SocketAddr::new(ip, 0)))
}
