//! What a handshake has settled, kept without the SSL.

use openssl::ssl::{NameType, SslRef};
use openssl::x509::{X509, X509VerifyResult};

use super::peer;
use super::resumption::{Cached, Resumption};

/// What can be asked of a session whose SSL is gone.
pub struct Agreed {
    /// OpenSSL's name of the cipher suite.
    pub cipher: Option<&'static str>,
    pub verify_result: X509VerifyResult,
    pub alpn: Option<Box<[u8]>>,
    pub server_name: Option<Box<str>>,
    pub psk_identity: Option<Box<[u8]>>,
    pub srtp_profile: Option<&'static str>,
    pub is_resumed: bool,
    /// A client's.
    pub resumption: Option<Resumption>,
    /// A server's.
    cached: Option<Cached>,
    /// In DER: as OpenSSL keeps it, it takes up several times that.
    certificate: Option<Box<[u8]>>,
}

impl Agreed {
    /// What `ssl` has settled.
    pub fn of(ssl: &SslRef) -> Agreed {
        let der = |certificate: X509| certificate.to_der().ok().map(Vec::into_boxed_slice);
        Agreed {
            cipher: ssl.current_cipher().map(|cipher| cipher.name()),
            verify_result: ssl.verify_result(),
            alpn: ssl.selected_alpn_protocol().map(Box::from),
            server_name: ssl.servername(NameType::HOST_NAME).map(Box::from),
            psk_identity: peer::psk_identity(ssl).map(Box::from),
            srtp_profile: ssl.selected_srtp_profile().map(|profile| profile.name()),
            is_resumed: ssl.session_reused(),
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
