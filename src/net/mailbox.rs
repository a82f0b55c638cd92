//! What other threads ask of a worker.

use std::collections::HashMap;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use openssl::ssl::SslContext;

use super::export::Order;
use super::sys::udp::Bell;
use crate::engine::endpoint::{CookieSecret, Error, Session};
use crate::guard::lock;
use crate::wire::queue::Tagged;

/// Letters to one worker. The worker waits for its lock only while a writer copies one message.
pub struct Mailbox {
    bell: Bell,
    state: Mutex<State>,
    /// How many sessions are open. Outside the lock, so that reading it never waits for the worker.
    sessions: AtomicUsize,
    waiting_max: usize,
}

#[derive(Default)]
struct State {
    letters: Letters,
    requests: Vec<Request>,
    /// Which letters these are: the worker takes all at once.
    batch: u64,
    /// The sessions that can be written to.
    open: HashMap<Session, Share>,
    /// Messages are refused for now.
    halted: bool,
    /// The worker is over, and nobody reads letters any more.
    shut: bool,
}

/// A session has at most so many times as much of the room for letters as it leaves to the others.
const SHARE: usize = 15;

/// What a session has of the room for letters.
#[derive(Default)]
struct Share {
    /// Bytes of its messages in this batch.
    bytes: usize,
    batch: u64,
    /// And of those that wait at the worker because it has no room.
    parked: usize,
}

/// What is asked, in its order, each with the message that it is about.
pub type Letters = Tagged<Letter>;

/// What concerns one session.
pub enum Letter {
    /// Send the message.
    Send(Session),
    /// End a session; the message is empty.
    Close(Session),
    /// Take the message in: it is a datagram that another worker got, from this peer to this address of ours.
    Receive(SocketAddr, Option<IpAddr>),
}

/// What concerns the worker. It does not wait behind messages that find no room.
pub enum Request {
    /// Begin sessions with this context and this secret, where there is one.
    Reload(SslContext, Option<CookieSecret>),
    /// Accept nobody any more, and stop when all sessions are over or the time has come.
    Drain(u64),
    /// Give the sessions to somebody who writes them down.
    Export(Order),
}

impl Mailbox {
    /// An empty one, for at most so many bytes at once.
    pub fn new(waiting_max: usize) -> Result<Mailbox, Error> {
        Ok(Mailbox { bell: Bell::new()?, state: Mutex::default(), sessions: AtomicUsize::new(0), waiting_max })
    }

    /// What wakes the worker.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Queues a message for a session of this worker's.
    pub fn send(&self, session: Session, message: &[u8]) -> Result<(), Error> {
        let mut state = self.lock_for(session, message.len())?;
        let left = self.waiting_max.saturating_sub(state.letters.waiting_len());
        let batch = state.batch;
        let share = state.open.get_mut(&session).ok_or(Error::Stale)?;
        let own = if share.batch == batch { share.bytes } else { 0 };
        // Alone, any message has room.
        let is_greedy = own > 0 && own + message.len() > left.saturating_mul(SHARE);
        if is_greedy || share.parked + own >= self.waiting_max {
            return Err(Error::Again);
        }
        (share.bytes, share.batch) = (own + Letters::ASIDE + message.len(), batch);
        self.post(state, Letter::Send(session), message);
        Ok(())
    }

    /// Asks for the end of a session of this worker's.
    pub fn close(&self, session: Session) -> Result<(), Error> {
        let state = self.lock_for(session, 0)?;
        self.post(state, Letter::Close(session), &[]);
        Ok(())
    }

    /// Hands over a datagram that belongs to a session of this worker's; returns whether there was room. Anybody can send such
    /// datagrams, so half of the room is kept for what the program asks.
    pub fn hand_over(&self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> bool {
        let state = self.lock();
        let room = !state.shut && state.letters.waiting_len() + datagram.len() <= self.waiting_max / 2;
        if room {
            self.post(state, Letter::Receive(from, to), datagram);
        }
        room
    }

    /// Asks the worker for something.
    pub fn ask(&self, request: Request) {
        let mut state = self.lock();
        if state.shut {
            // The lock goes first: the request may own a context, and freeing that may call functions of the program.
            drop(state);
            return;
        }
        state.requests.push(request);
        drop(state);
        self.bell.ring();
    }

    /// What the worker was asked for.
    pub fn take_requests(&self) -> Vec<Request> {
        mem::take(&mut self.lock().requests)
    }

    /// Whether messages are refused for now.
    pub fn set_halted(&self, halted: bool) {
        self.lock().halted = halted;
    }

    /// Nobody reads letters any more.
    pub fn shut(&self) {
        let mut state = self.lock();
        state.shut = true;
        let unread = (mem::take(&mut state.letters), mem::take(&mut state.requests));
        // As in `ask`.
        drop(state);
        drop(unread);
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// A session has been opened.
    pub fn opened(&self, session: Session) {
        let mut state = self.lock();
        state.open.insert(session, Share::default());
        self.sessions.store(state.open.len(), Ordering::Relaxed);
    }

    /// A session is over.
    pub fn over(&self, session: Session) {
        let mut state = self.lock();
        state.open.remove(&session);
        self.sessions.store(state.open.len(), Ordering::Relaxed);
    }

    /// Takes all letters, in exchange for `read`, which has none left. The bell rings again for later ones.
    pub fn take(&self, read: &mut Letters) {
        let mut state = self.lock();
        mem::swap(read, &mut state.letters);
        state.batch += 1;
    }

    /// So many bytes of letters for these sessions wait at the worker until they have room.
    pub fn set_parked(&self, parked: impl Iterator<Item = (Session, usize)>) {
        let mut state = self.lock();
        for (session, parked) in parked {
            state.open.get_mut(&session).into_iter().for_each(|share| share.parked = parked);
        }
    }

    /// Bytes of letters at once.
    pub fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    fn lock_for(&self, session: Session, room: usize) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        if !state.open.contains_key(&session) {
            return Err(Error::Stale);
        }
        match state.halted || state.letters.waiting_len() + room > self.waiting_max {
            true => Err(Error::Again),
            false => Ok(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Locks it for good.
    #[cfg(test)]
    pub fn lock_for_ever(&self) {
        mem::forget(self.lock());
    }

    fn post(&self, mut state: MutexGuard<'_, State>, letter: Letter, message: &[u8]) {
        if state.shut {
            return;
        }
        state.letters.push(letter, message);
        // If there was a letter already, the bell has been rung.
        let first = state.letters.len() == 1;
        drop(state);
        if first {
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_datagrams_leaves_room_for_the_program() {
        let mailbox = Mailbox::new(100_000).unwrap();
        let session = Session::from_u64(1).unwrap();
        mailbox.opened(session);
        let from = SocketAddr::from(([192, 0, 2, 1], 1));
        assert!(mailbox.hand_over(from, None, &[25; 100]));
        while mailbox.hand_over(from, None, &[25; 100]) {}
        mailbox.send(session, &[0; 10_000]).unwrap();
        // Once the worker has them, there is room again.
        mailbox.take(&mut Letters::default());
        assert!(mailbox.hand_over(from, None, &[25; 100]));
    }
}
