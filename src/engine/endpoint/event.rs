//! What has happened, waiting to be told to the program.

use std::collections::VecDeque;
use std::ops::Range;

use super::Session;
use crate::engine::connection::CloseReason;
use crate::wire::datagrams::Datagrams;
use crate::wire::queue::Queue;

/// What has happened to a session. Each one that is opened is closed once, whoever does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake has finished: messages can be sent.
    Opened {
        /// The session.
        session: Session,
    },
    /// A message has come.
    Message {
        /// The session that it belongs to.
        session: Session,
    },
    /// The peer has another address, from which a newer record has come than all before it, or it is back where it was.
    /// Only with connection IDs. [`Info::peer`](super::Info::peer) tells the address, and
    /// [`Info::is_peer_proven`](super::Info::is_peer_proven) whether it has shown that it receives.
    Moved {
        /// The session.
        session: Session,
    },
    /// The session is over. It can be asked for what it was until the next event is taken.
    Closed {
        /// The session.
        session: Session,
        /// Why it is over.
        reason: CloseReason,
    },
}

impl Event {
    /// The session that the event is about.
    pub fn session(&self) -> Session {
        match *self {
            Event::Opened { session }
            | Event::Message { session }
            | Event::Moved { session }
            | Event::Closed { session, .. } => session,
        }
    }

    /// The same about this session.
    pub(super) fn with(self, session: Session) -> Event {
        match self {
            Event::Opened { .. } => Event::Opened { session },
            Event::Message { .. } => Event::Message { session },
            Event::Moved { .. } => Event::Moved { session },
            Event::Closed { reason, .. } => Event::Closed { session, reason },
        }
    }
}

/// Events in their order, and the messages of all sessions in one buffer, in the order of their events.
#[derive(Default)]
pub(super) struct Inbox {
    events: VecDeque<Event>,
    messages: Queue,
}

impl Inbox {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Where a connection puts the messages that it opens; [`Inbox::count`] before and after tells how many.
    pub(super) fn messages(&mut self) -> &mut Datagrams {
        self.messages.tail()
    }

    /// Messages in the buffer.
    pub(super) fn count(&self) -> usize {
        self.messages.count()
    }

    /// Forgets the messages from number `count` on, whose events were not pushed.
    pub(super) fn truncate(&mut self, count: usize) {
        self.messages.truncate(count);
    }

    /// Bytes that wait for the program.
    pub(super) fn waiting(&self) -> usize {
        self.messages.waiting_len() + self.events.len() * size_of::<Event>()
    }

    /// The next event and, of a message, where its bytes stand until a connection is shown a record.
    pub(super) fn pop(&mut self) -> Option<(Event, Range<usize>)> {
        let event = self.events.pop_front()?;
        let bytes = if matches!(event, Event::Message { .. }) { self.messages.pop() } else { None };
        Some((event, bytes.unwrap_or_default()))
    }

    pub(super) fn bytes(&self, of: Range<usize>) -> &[u8] {
        self.messages.bytes(of)
    }
}
