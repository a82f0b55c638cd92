//! The cipher suites whose records we can make ourselves.

use openssl::ssl::{SslRef, SslVersion};
use ring::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, LessSafeKey, UnboundKey};

use super::{Digest, TAG_LEN};
use crate::tls::fork::Once;
use crate::tls::master_secret;

/// How the records of a cipher suite are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-128-GCM (RFC 5288).
    Aes128Gcm,
    /// AES-256-GCM (RFC 5288).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 7905).
    Chacha20Poly1305,
}

/// Blocks of 16 bytes that one key of AES-GCM may seal: 2^24.5 records of full size (RFC 8446 5.5, which RFC 9147 4.5.3
/// refers to). Records are counted as long as they are, so with short ones there are more of them.
const GCM_BLOCKS_MAX: u64 = 24_296_003_999;

impl Suite {
    /// That of a session, if it is one of ours.
    pub fn of(ssl: &SslRef) -> Option<Suite> {
        let cipher = master_secret::cipher(ssl)?;
        if ssl.version2() == Some(SslVersion::DTLS1_2) { Suite::named(cipher.name()) } else { None }
    }

    /// That with this name of OpenSSL's, if it is one of ours.
    pub fn named(name: &str) -> Option<Suite> {
        // All suites with one of these have such a name, and no suite with CCM has.
        match () {
            () if name.ends_with("AES128-GCM-SHA256") => Some(Suite::Aes128Gcm),
            () if name.ends_with("AES256-GCM-SHA384") => Some(Suite::Aes256Gcm),
            () if name.ends_with("CHACHA20-POLY1305") => Some(Suite::Chacha20Poly1305),
            () => None,
        }
    }

    /// The digest of its pseudo-random function.
    pub fn digest(self) -> Digest {
        match self {
            Suite::Aes128Gcm | Suite::Chacha20Poly1305 => Digest::Sha256,
            Suite::Aes256Gcm => Digest::Sha384,
        }
    }

    /// Bytes of the shortest fragment that can be authentic.
    pub fn sealed_min(self) -> usize {
        self.explicit_len() + TAG_LEN
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::Chacha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// The key at the beginning of `key`, as the AEAD works with it.
    pub(super) fn expand(self, key: &[u8; 32]) -> LessSafeKey {
        let key = UnboundKey::new(self.algorithm(), &key[..self.algorithm().key_len()]);
        LessSafeKey::new(key.expect("the key is as long as its algorithm wants it"))
    }

    /// A key that is no secret.
    pub(in crate::engine) fn zero_key(self) -> &'static LessSafeKey {
        static ZERO: [Once<LessSafeKey>; 3] = [const { Once::new() }; 3];
        ZERO[self as usize].get_or_init(|| self.expand(&[0; 32]))
    }

    /// Bytes of the nonce that the key block gives: all of it, or what the explicit nonce is put behind.
    pub(super) fn iv_len(self) -> usize {
        12 - self.explicit_len()
    }

    /// Bytes of the nonce that stand in the record.
    pub(super) fn explicit_len(self) -> usize {
        match self {
            Suite::Aes128Gcm | Suite::Aes256Gcm => 8,
            Suite::Chacha20Poly1305 => 0,
        }
    }

    /// Blocks that may be sealed with one key. ChaCha20-Poly1305 reaches the end of the sequence numbers first.
    pub(super) fn blocks_max(self) -> u64 {
        match self {
            Suite::Aes128Gcm | Suite::Aes256Gcm => GCM_BLOCKS_MAX,
            Suite::Chacha20Poly1305 => u64::MAX,
        }
    }
}
