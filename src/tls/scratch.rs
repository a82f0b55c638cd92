//! An SSL that shows hellos of strangers to cookie callbacks of a program's own.
//!
//! libssl calls those only from DTLSv1_listen, which wants an SSL. It is always the same one, so that a stranger leaves nothing
//! behind. Between two hellos it belongs to a context of its own: otherwise it would keep the program's context alive for ever.

use std::net::SocketAddr;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslContextRef, SslMethod};
use openssl_sys::*;

use super::bio::{Inbound, Outbound};
use super::session::{NOBODY, Parameters, Session};
use super::sys::SSL_CTX_get_ssl_method;

/// What the program's callbacks have made of a hello.
#[derive(Debug)]
pub enum Word {
    /// Its cookie is good.
    Proven,
    /// This is to be answered: a HelloVerifyRequest.
    Answer(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// The SSL.
pub struct Scratch {
    session: Session,
    own: SslContext,
}

impl Scratch {
    /// For contexts with the same method as `context`.
    pub fn new(context: &SslContextRef) -> Result<Scratch, ErrorStack> {
        // SAFETY: the context is live; methods are static.
        let method = unsafe { SslMethod::from_ptr(SSL_CTX_get_ssl_method(context.as_ptr())) };
        let own = SslContext::builder(method)?.build();
        Ok(Scratch { session: Session::accept(&own, NOBODY, &Parameters::FOR_HELLOS)?, own })
    }

    /// Whether it can ask the callbacks of `context`.
    pub fn suits(&self, context: &SslContextRef) -> bool {
        // SAFETY: both are live.
        unsafe { SSL_CTX_get_ssl_method(self.own.as_ptr()) == SSL_CTX_get_ssl_method(context.as_ptr()) }
    }

    /// Asks the callbacks of `context` about a hello, which is alone in its record. Returns itself for the next hello, unless
    /// the cookie was good: DTLSv1_listen does not clear away what that leaves in the SSL.
    pub fn ask(mut self, context: &SslContextRef, peer: SocketAddr, hello_record: &[u8]) -> (Word, Option<Scratch>) {
        if !self.move_to(context) {
            return (Word::Nothing, None);
        }
        *self.session.inbound() = Inbound::new(peer);
        *self.session.outbound() = Outbound::new(Parameters::FOR_HELLOS.payload, peer);
        if self.session.ask(hello_record) {
            return (Word::Proven, None);
        }
        let word = self.session.outbound().pop().map_or(Word::Nothing, |answer| Word::Answer(answer.to_vec()));
        let own = self.own.clone();
        let kept = self.move_to(&own);
        (word, kept.then_some(self))
    }

    fn move_to(&mut self, context: &SslContextRef) -> bool {
        // SAFETY: both are live; libssl takes a reference to the context and lets go of the one before.
        unsafe { !SSL_set_SSL_CTX(self.session.ssl().as_ptr(), context.as_ptr()).is_null() }
    }
}
