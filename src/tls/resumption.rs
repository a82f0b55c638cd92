//! What a client keeps of a session, to resume it later without certificates.

use foreign_types::ForeignTypeRef;
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
