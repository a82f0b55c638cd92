//! The program's side of the server.

use super::shared::Shared;
use crate::engine::connection::CloseReason;
use crate::engine::endpoint::{Endpoint, Error, Info, Session};

/// What a program does with what happens on its server. Each worker calls it from its own thread, so it is called for
/// several sessions at once, but for one session never twice at the same time.
///
/// A panic ends the server, and comes out of [`Server::join`](super::server::Server::join). All peers are sent a close_notify.
/// The worker on whose thread it was does not call the handler again, not even to close its other sessions.
pub trait Handler: Send + Sync + 'static {
    /// A client has finished its handshake.
    fn open(&self, context: &mut Context<'_>, session: Session) {
        let _ = (context, session);
    }

    /// A message has come.
    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]);

    /// The peer of a session has another address; see [`Event::Moved`](crate::Event::Moved).
    fn moved(&self, context: &mut Context<'_>, session: Session) {
        let _ = (context, session);
    }

    /// A session that was opened is over. What it was can still be asked for here; nothing can be sent any more.
    fn close(&self, context: &mut Context<'_>, session: Session, reason: CloseReason) {
        let _ = (context, session, reason);
    }
}

/// A function of messages alone.
impl<F: Fn(&mut Context<'_>, Session, &[u8]) + Send + Sync + 'static> Handler for F {
    fn message(&self, context: &mut Context<'_>, session: Session, message: &[u8]) {
        self(context, session, message);
    }
}

/// What a [`Handler`] can do while it is called.
pub struct Context<'a> {
    pub(super) endpoint: &'a mut Endpoint,
    pub(super) shared: &'a Shared,
    pub(super) worker: usize,
}

impl Context<'_> {
    /// Sends one message to a session of this server's. To one that another worker has, the message goes through a queue.
    pub fn send(&mut self, session: Session, message: &[u8]) -> Result<(), Error> {
        match self.has(session) {
            true => self.endpoint.send(session, message),
            false => self.shared.send(session, message),
        }
    }

    /// Ends a session: the peer is sent a close_notify, and [`Handler::close`] is called.
    pub fn close(&mut self, session: Session) -> Result<(), Error> {
        match self.has(session) {
            true => self.endpoint.close(session),
            false => self.shared.close(session),
        }
    }

    /// What is known about a session that this worker has, as all have that it calls the handler for.
    pub fn info(&self, session: Session) -> Result<Info<'_>, Error> {
        self.endpoint.info(session)
    }

    /// Attaches a number of the program's to a session that this worker has; see [`Info::user`].
    pub fn set_user(&mut self, session: Session, user: u64) -> Result<(), Error> {
        self.endpoint.set_user(session, user)
    }

    /// The program knows by its own means that the peer of a session that this worker has receives at its new address; see
    /// [`Endpoint::confirm_peer`].
    pub fn confirm_peer(&mut self, session: Session) -> Result<(), Error> {
        self.endpoint.confirm_peer(session)
    }

    /// Which worker this is, from 0 on.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The endpoint of this worker.
    pub(crate) fn endpoint(&mut self) -> &mut Endpoint {
        self.endpoint
    }

    fn has(&self, session: Session) -> bool {
        usize::from(Endpoint::number_of(session)) == self.worker
    }
}
