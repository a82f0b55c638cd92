//! Socket addresses between Rust, and the kernel and C.

use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use libc::{c_int, socklen_t};

/// A socket address as the kernel and C have it. The family says which member counts.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Address {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    /// All zero: no address.
    pub const EMPTY: Address = {
        // SAFETY: a sockaddr_in6 of zeros is valid, and no member of the union is larger.
        Address { v6: unsafe { zeroed() } }
    };

    /// With flow label 0, which is no part of who somebody is.
    pub fn new(address: SocketAddr) -> Address {
        let mut raw = Address::EMPTY;
        match address {
            SocketAddr::V4(v4) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                }
            }
            SocketAddr::V6(v6) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                }
            }
        }
        raw
    }

    /// With flow label 0. `None` for another family.
    #[inline]
    pub fn get(&self) -> Option<SocketAddr> {
        // SAFETY: all members are plain old data, and the family, the first of each, says which one was written.
        unsafe {
            match c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(u32::from_be(self.v4.sin_addr.s_addr));
                    Some(SocketAddr::from((ip, u16::from_be(self.v4.sin_port))))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    let (port, scope) = (u16::from_be(self.v6.sin6_port), self.v6.sin6_scope_id);
                    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
                }
                _ => None,
            }
        }
    }

    /// Bytes of the member that counts.
    #[inline]
    pub fn len(&self) -> socklen_t {
        // SAFETY: the family is the first member of each, and always initialised.
        match c_int::from(unsafe { self.family }) {
            libc::AF_INET => size_of::<libc::sockaddr_in>() as socklen_t,
            _ => size_of::<libc::sockaddr_in6>() as socklen_t,
        }
    }
}
