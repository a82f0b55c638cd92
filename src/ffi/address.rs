//! Addresses of the endpoint and the server between C and Rust.

use std::mem::transmute;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use libc::{sockaddr, socklen_t};

use super::endpoint::dv_address;
use crate::net::sys::address::Address;

// Two names of one thing: unions of the same two members, and of what these begin with.
const _: () =
    assert!(size_of::<dv_address>() == size_of::<Address>() && align_of::<dv_address>() == align_of::<Address>());

/// # Safety
/// The member that the family names is initialised.
pub unsafe fn address_from(address: &dv_address) -> Option<SocketAddr> {
    // SAFETY: an Address has the members of a dv_address at the same places.
    unsafe { &*ptr::from_ref(address).cast::<Address>() }.get()
}

/// # Safety
/// `address` has `len` bytes, or is NULL.
pub unsafe fn sockaddr_from(address: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    let mut copy = Address::EMPTY;
    if !address.is_null() {
        // SAFETY: by contract; no more is copied than there is room for.
        unsafe {
            let len = size_of::<Address>().min(len as usize);
            ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut copy).cast(), len);
        }
    }
    if len < copy.len() { None } else { copy.get() }
}

/// The same address for C.
pub fn address_of(address: SocketAddr) -> dv_address {
    for_c(Address::new(address))
}

/// An address without a port; all zero without one.
pub fn address_of_ip(ip: Option<IpAddr>) -> dv_address {
    for_c(ip.map_or(Address::EMPTY, |ip| Address::new(SocketAddr::new(ip, 0))))
}

fn for_c(address: Address) -> dv_address {
    // SAFETY: all bytes of an Address that was made here are initialised, and any bytes make a dv_address.
    unsafe { transmute(address) }
}
