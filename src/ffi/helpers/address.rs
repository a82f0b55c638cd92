//! Peer addresses between C and Rust.

use std::net::SocketAddr;
use std::ptr;

use libc::socklen_t;

use super::types::dv_udp_conn_key_t;
use crate::net::sys::address::Address;

// Two names of one thing: unions of the same two members, and of what these begin with.
const _: () = assert!(
    size_of::<dv_udp_conn_key_t>() == size_of::<Address>() && align_of::<dv_udp_conn_key_t>() == align_of::<Address>()
);

/// The address in `key`, with flow label 0. `None` for another family, and for the unspecified address: it is what is left
/// when `recvfrom` had less room than an IPv6 address needs.
pub fn peer(key: &dv_udp_conn_key_t) -> Option<SocketAddr> {
    of(key).get().filter(|peer| !peer.ip().is_unspecified())
}

/// How long the address in `key` is. Not what the caller says: his length may still be that of another peer's family.
pub fn length(key: &dv_udp_conn_key_t) -> socklen_t {
    of(key).len()
}

fn of(key: &dv_udp_conn_key_t) -> &Address {
    // SAFETY: an Address has the members of a key at the same places, and by contract the key is wholly initialised.
    unsafe { &*ptr::from_ref(key).cast() }
}
