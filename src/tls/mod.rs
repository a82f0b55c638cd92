//! The only room that calls libssl and libcrypto: contexts, sessions, the datagram BIO. Beside them the little that the
//! rooms above need of the system: see [`fork`] and [`huge_pages`].

pub mod agreed;
pub mod bio;
pub mod cause;
pub mod certificate;
pub mod connection_id;
pub mod context;
pub mod cookie;
pub mod ex_data;
pub mod fork;
pub mod huge_pages;
pub mod master_secret;
pub mod names;
pub mod peer;
pub mod resumption;
pub mod scratch;
pub mod secret;
pub mod session;
pub mod sys;
pub mod version;

/// Random bytes, from OpenSSL's generator.
pub fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    randomize(&mut bytes);
    bytes
}

/// Fills `bytes` with random ones. Where there are none nothing can be done that is safe.
pub fn randomize(bytes: &mut [u8]) {
    openssl::rand::rand_bytes(bytes).expect("OpenSSL has no random bytes");
}
