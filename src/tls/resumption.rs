//! Sessions that can be resumed later, without certificates: a client keeps them itself, a server has those without a
//! ticket in the cache of its context.

use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use libc::c_uint;
use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslRef, SslSession};
use openssl_sys::{DTLS1_2_VERSION, SSL_CTX_remove_session, SSL_set_session};

use super::cause::Cause;
use super::peer;
use super::sys::{SSL_SESSION_is_resumable, SSL_SESSION_new, SSL_SESSION_set_protocol_version, SSL_SESSION_set1_id};

/// What a client keeps of a session, to resume it later: a ticket of the server's, or the session's id, and the secret.
#[derive(Clone)]
pub struct Resumption {
    session: SslSession,
    context: SslContext,
}

impl Resumption {
    /// That of the session of `ssl`, when it is a client's and can be resumed.
    pub(crate) fn of(ssl: &SslRef) -> Option<Resumption> {
        if ssl.is_server() {
            return None;
        }
        // SAFETY: the session is alive as long as the SSL; this only reads it.
        let resumable = |session: &&_| unsafe { SSL_SESSION_is_resumable(ForeignTypeRef::as_ptr(*session)) == 1 };
        let session = ssl.session().filter(resumable)?.to_owned();
        Some(Resumption { session, context: ssl.ssl_context().to_owned() })
    }

    /// All of it, to be kept or carried elsewhere. It has the session's secret in it.
    pub(crate) fn to_der(&self) -> Result<Vec<u8>, ErrorStack> {
        self.session.to_der()
    }

    /// What [`Resumption::to_der`] gave, to be used with this context.
    pub(crate) fn from_der(der: &[u8], context: SslContext) -> Result<Resumption, ErrorStack> {
        Ok(Resumption { session: SslSession::from_der(der)?, context })
    }

    /// Offers it to the server in the handshake that `ssl` is going to begin. It must be of the same context. libssl does not
    /// check certificates when a session is resumed: if the certificate would not be accepted in a full handshake today, the
    /// session is not offered, and there is a full handshake.
    pub(crate) fn offer(&self, ssl: &mut SslRef) -> Result<(), Cause> {
        if ssl.ssl_context().as_ptr() != self.context.as_ptr() {
            return Err("the session to resume belongs to another context".into());
        }
        // SAFETY: both belong to one context.
        unsafe { ssl.set_session(&self.session) }?;
        if !peer::would_do(ssl) {
            // SAFETY: the SSL is alive; NULL takes the session away from it.
            unsafe { SSL_set_session(ssl.as_ptr(), ptr::null_mut()) };
        }
        Ok(())
    }

    /// From now on nobody can resume the session, whoever has kept it.
    pub(crate) fn revoke(&self) {
        // SAFETY: both are alive.
        unsafe { SSL_CTX_remove_session(self.context.as_ptr(), self.session.as_ptr()) };
    }
}

/// A server's session in the cache of its context, which has those that are in no ticket.
pub struct Cached {
    context: SslContext,
    id: Box<[u8]>,
}

impl Cached {
    /// That of the session of `ssl`, when it may be there.
    pub(crate) fn of(ssl: &SslRef) -> Option<Cached> {
        let id = ssl.session()?.id();
        (!id.is_empty()).then(|| Cached { context: ssl.ssl_context().to_owned(), id: id.into() })
    }

    /// Takes the session out of the cache.
    pub(crate) fn remove(&self) {
        // SAFETY: the context is alive. The session is made and freed here, and holds only what the cache looks up by; the
        // id came from OpenSSL, so it is not too long.
        unsafe {
            let Some(session) = ptr::NonNull::new(SSL_SESSION_new()) else { return };
            let session = SslSession::from_ptr(session.as_ptr());
            SSL_SESSION_set_protocol_version(session.as_ptr(), DTLS1_2_VERSION);
            SSL_SESSION_set1_id(session.as_ptr(), self.id.as_ptr(), self.id.len() as c_uint);
            SSL_CTX_remove_session(self.context.as_ptr(), session.as_ptr());
        }
    }
}
