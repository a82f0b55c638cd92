//! What other threads ask of a worker.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use openssl::ssl::SslContext;

use super::export::Order;
use super::sys::udp::Bell;
use crate::engine::endpoint::{CookieSecret, Error, Session};
use crate::guard::lock;
use crate::wire::datagrams::Datagrams;

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
    /// Messages would have nowhere to go, for now.
    halted: bool,
    /// The worker is over: letters fall.
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

/// What is asked, in its order.
#[derive(Default)]
pub struct Letters {
    letters: VecDeque<Letter>,
    messages: Datagrams,
    /// Messages that were taken out.
    taken: usize,
}

/// What concerns one session.
pub enum Letter {
    /// Send the next of the messages.
    Send(Session),
    /// End a session.
    Close(Session),
    /// Take in the next of the messages: it is a datagram that another worker got, from this peer to this address of ours.
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

impl Letter {
    fn has_message(&self) -> bool {
        matches!(self, Letter::Send(_) | Letter::Receive(..))
    }
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
        let mut state = self.lock();
        let (left, halted) = (state.left(self.waiting_max), state.halted);
        let batch = state.batch;
        let share = state.open.get_mut(&session).ok_or(Error::Stale)?;
        let own = if share.batch == batch { share.bytes } else { 0 };
        // In a batch it takes at most so many times as much as it leaves to the others; alone, any message has room.
        let is_greedy = own > 0 && own + message.len() > left.saturating_mul(SHARE);
        if halted || message.len() > left || is_greedy || share.parked + own >= self.waiting_max {
            return Err(Error::Again);
        }
        (share.bytes, share.batch) = (own + Letters::size(message), batch);
        self.post(state, Letter::Send(session), message);
        Ok(())
    }

    /// Asks for the end of a session of this worker's.
    pub fn close(&self, session: Session) -> Result<(), Error> {
        let state = self.lock();
        if !state.open.contains_key(&session) {
            return Err(Error::Stale);
        }
        if state.halted || state.left(self.waiting_max) == 0 {
            return Err(Error::Again);
        }
        self.post(state, Letter::Close(session), &[]);
        Ok(())
    }

    /// Hands over a datagram that belongs to a session of this worker's; says whether there was room. Anybody can send such
    /// ones, so half of it is kept for what the program asks.
    pub fn hand_over(&self, from: SocketAddr, to: Option<IpAddr>, datagram: &[u8]) -> bool {
        let state = self.lock();
        let room = !state.shut && datagram.len() <= state.left(self.waiting_max / 2);
        if room {
            self.post(state, Letter::Receive(from, to), datagram);
        }
        room
    }

    /// Asks the worker for something.
    pub fn ask(&self, request: Request) {
        let mut state = self.lock();
        if state.shut {
            // In this order: a context may be in there, and what hangs on that is freed by the program's own functions.
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
        read.messages.clear();
        read.taken = 0;
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
        // Behind the first one, the bell rings already.
        let first = state.letters.letters.len() == 1;
        drop(state);
        if first {
            self.bell.ring();
        }
    }
}

impl State {
    /// How much room there is, where `most` bytes may wait.
    fn left(&self, most: usize) -> usize {
        most.saturating_sub(self.letters.waiting())
    }
}

impl Letters {
    /// Bytes of all of them, and of the messages of those that were taken out.
    pub fn waiting(&self) -> usize {
        self.letters.len() * size_of::<Letter>() + self.messages.total_len()
    }

    /// Bytes of a letter with this message.
    pub fn size(message: &[u8]) -> usize {
        size_of::<Letter>() + message.len()
    }

    /// Adds one, with its message, if it is one that has one.
    pub fn push(&mut self, letter: Letter, message: &[u8]) {
        if letter.has_message() {
            self.messages.push(message);
        }
        self.letters.push_back(letter);
    }

    /// Whether all were taken out.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Takes the next one out, with its message, if it is one that has one.
    pub fn pop(&mut self) -> Option<(Letter, &[u8])> {
        let letter = self.letters.pop_front()?;
        if !letter.has_message() {
            return Some((letter, &[]));
        }
        self.taken += 1;
        Some((letter, self.messages.get(self.taken - 1).unwrap_or_default()))
    }

    /// Puts back what [`Letters::pop`] gave last.
    pub fn put_back(&mut self, letter: Letter) {
        self.taken -= usize::from(letter.has_message());
        self.letters.push_front(letter);
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
