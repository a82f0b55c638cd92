//! What a client keeps of a session, to resume it later without certificates.

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslRef, SslSession};

use super::cause::Cause;

/// What a client keeps of a session, to resume it later: a ticket of the server's, or the session's id, and the secret.
#[derive(Clone)]
pub struct Resumption {
    session: SslSession,
    context: SslContext,
}

impl Resumption {
    /// That of the session of `ssl`, when it is one that can be resumed.
    pub(crate) fn of(ssl: &SslRef) -> Option<Resumption> {
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

    /// Offers it to the server in the handshake that `ssl` is going to begin. Only sessions of the same context will do.
    pub(crate) fn offer(&self, ssl: &mut SslRef) -> Result<(), Cause> {
        if ssl.ssl_context().as_ptr() != self.context.as_ptr() {
            return Err("the session to resume belongs to another context".into());
        }
        // SAFETY: both belong to one context.
        Ok(unsafe { ssl.set_session(&self.session) }?)
    }
}

unsafe extern "C" {
    fn SSL_SESSION_is_resumable(session: *const openssl_sys::SSL_SESSION) -> libc::c_int;
}
