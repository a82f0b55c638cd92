//! What a handshake has agreed on, kept without the SSL.

use std::ffi::CStr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{NameType, SslRef};
use openssl::x509::{X509, X509VerifyResult};
use openssl_sys::SSL_CIPHER_get_name;

use super::resumption::{Cached, Resumption};
use super::{peer, sys};

/// What can be asked of a session whose SSL is gone.
pub struct Agreed {
    /// OpenSSL's name of the cipher suite.
    pub cipher: Option<&'static str>,
    /// Its number on the wire.
    pub cipher_number: [u8; 2],
    pub verify_result: X509VerifyResult,
    pub alpn: Option<Box<[u8]>>,
    pub server_name: Option<Box<str>>,
    pub psk_identity: Option<Box<[u8]>>,
    pub srtp_profile: Option<&'static str>,
    pub is_resumed: bool,
    /// The master secret is bound to the handshake (RFC 7627).
    pub extended_master_secret: bool,
    /// Of a client: what resumes the session.
    pub resumption: Option<Resumption>,
    /// Of a server: where its context keeps the session.
    pub cached: Option<Cached>,
    /// In DER: as OpenSSL keeps it, it takes up several times that.
    pub certificate: Option<Box<[u8]>>,
}

impl Agreed {
    /// What the handshake of `ssl` has agreed on.
    pub fn of(ssl: &SslRef) -> Agreed {
        let der = |certificate: X509| certificate.to_der().ok().map(Vec::into_boxed_slice);
        Agreed {
            cipher: ssl.current_cipher().map(|cipher| cipher.name()),
            cipher_number: ssl.current_cipher().map_or([0; 2], |cipher| cipher.protocol_id()),
            verify_result: ssl.verify_result(),
            alpn: ssl.selected_alpn_protocol().map(Box::from),
            server_name: ssl.servername(NameType::HOST_NAME).map(Box::from),
            psk_identity: peer::psk_identity(ssl).map(Box::from),
            srtp_profile: ssl.selected_srtp_profile().map(|profile| profile.name()),
            is_resumed: ssl.session_reused(),
            extended_master_secret: ssl.extms_support() == Some(true),
            resumption: Resumption::of(ssl),
            cached: if ssl.is_server() { Cached::of(ssl) } else { None },
            certificate: ssl.peer_certificate().and_then(der),
        }
    }

    /// The connection has ended with a fatal alert: its session must not be resumed (RFC 5246 7.2.2).
    pub fn forget_session(&self) {
        self.resumption.iter().for_each(Resumption::revoke);
        self.cached.iter().for_each(Cached::remove);
    }

    /// The peer's certificate.
    pub fn certificate(&self) -> Option<X509> {
        X509::from_der(self.certificate.as_deref()?).ok()
    }
}

/// OpenSSL's name of the cipher suite with this number.
pub fn cipher_name(ssl: &SslRef, number: [u8; 2]) -> Option<&'static str> {
    // SAFETY: the SSL is alive and only asked for its method, the number has its two bytes; ciphers and their names are static.
    unsafe {
        let cipher = sys::SSL_CIPHER_find(ssl.as_ptr(), number.as_ptr());
        if cipher.is_null() { None } else { CStr::from_ptr(SSL_CIPHER_get_name(cipher)).to_str().ok() }
    }
}

/// The protection profiles of SRTP with their numbers on the wire (RFC 5764 4.1.2, RFC 7714, RFC 8269, RFC 8723), and
/// OpenSSL's names of them, which it gives only of a context that has them on.
const SRTP_PROFILES: [(u16, &str); 12] = [
    (0x01, "SRTP_AES128_CM_SHA1_80"),
    (0x02, "SRTP_AES128_CM_SHA1_32"),
    (0x07, "SRTP_AEAD_AES_128_GCM"),
    (0x08, "SRTP_AEAD_AES_256_GCM"),
    (0x09, "SRTP_DOUBLE_AEAD_AES_128_GCM_AEAD_AES_128_GCM"),
    (0x0a, "SRTP_DOUBLE_AEAD_AES_256_GCM_AEAD_AES_256_GCM"),
    (0x0b, "SRTP_ARIA_128_CTR_HMAC_SHA1_80"),
    (0x0c, "SRTP_ARIA_128_CTR_HMAC_SHA1_32"),
    (0x0d, "SRTP_ARIA_256_CTR_HMAC_SHA1_80"),
    (0x0e, "SRTP_ARIA_256_CTR_HMAC_SHA1_32"),
    (0x0f, "SRTP_AEAD_ARIA_128_GCM"),
    (0x10, "SRTP_AEAD_ARIA_256_GCM"),
];

/// The number of a profile; 0 is none.
pub fn srtp_number(name: &str) -> u16 {
    SRTP_PROFILES.iter().find(|(_, known)| *known == name).map_or(0, |(number, _)| *number)
}

/// The name of a profile.
pub fn srtp_name(number: u16) -> Option<&'static str> {
    SRTP_PROFILES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}
