//! What the handshake has negotiated that records of our own need: the cipher suite and the secrets.

use foreign_types::ForeignTypeRef;
use openssl::nid::Nid;
use openssl::ssl::{SslCipherRef, SslRef};

use super::sys;
use crate::wipe;

/// The digest of the pseudo-random function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Where the suite names no other.
    Sha256,
    /// With AES-256-GCM.
    Sha384,
}

/// What all keys of a connection are derived from. Wiped when dropped.
pub struct Secrets {
    /// The master secret.
    pub master: [u8; 48],
    /// The random of the ClientHello.
    pub client_random: [u8; 32],
    /// The random of the ServerHello.
    pub server_random: [u8; 32],
    /// Of the suite.
    pub digest: Digest,
}

/// The cipher suite that a handshake has agreed on. libssl calls it the current one only when its keys are in use.
pub fn cipher(ssl: &SslRef) -> Option<&SslCipherRef> {
    // SAFETY: the SSL is live, and ciphers are static.
    unsafe {
        let pending = sys::SSL_get_pending_cipher(ssl.as_ptr());
        if pending.is_null() { ssl.current_cipher() } else { Some(SslCipherRef::from_ptr(pending.cast_mut())) }
    }
}

impl Secrets {
    /// The secrets of a handshake that has come far enough to have them; `None` if they are not those of DTLS 1.2.
    pub fn of(ssl: &SslRef) -> Option<Secrets> {
        let digest = match cipher(ssl)?.handshake_digest()?.type_() {
            Nid::SHA256 => Digest::Sha256,
            Nid::SHA384 => Digest::Sha384,
            _ => return None,
        };
        let mut secrets = Secrets { master: [0; 48], client_random: [0; 32], server_random: [0; 32], digest };
        let whole = ssl.session()?.master_key(&mut secrets.master) == secrets.master.len()
            && ssl.client_random(&mut secrets.client_random) == secrets.client_random.len()
            && ssl.server_random(&mut secrets.server_random) == secrets.server_random.len();
        whole.then_some(secrets)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        wipe::bytes(&mut self.master);
    }
}
