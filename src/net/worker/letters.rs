//! What other threads ask of sessions.

use std::collections::HashMap;
use std::iter;

use super::{GOODBYE, Worker};
use crate::engine::endpoint::{Endpoint, Error, Session};
use crate::net::mailbox::{Letter, Letters, Mailbox};
use crate::net::shared::{Desk, SocketCounters};
use crate::net::sys::precise_now;
use crate::net::sys::udp::Waiting;

/// Letters from other threads that are read before established peers get their turn.
const LETTERS_AT_ONCE: usize = 1024;

/// So many times as many bytes as may wait in the mailbox may be parked before all wait. One session alone has less: as many,
/// and as it can write before that is known.
const PARKED: usize = 2;

/// What a session with letters here takes beside them.
const ASIDE: usize = size_of::<(Session, Letters)>();

impl Worker {
    pub(super) fn has_letters(&self) -> bool {
        self.rung || !self.letters.is_empty() || !self.parked.is_empty()
    }

    /// Whether something may come of reading them. A message that there was no room for waits until something has left; but what
    /// waited may be gone without that, and while nothing waits there is room for any.
    pub(super) fn can_read_letters(&self) -> bool {
        self.has_letters() && (!self.stuck || self.service.endpoint.has_room(usize::MAX))
    }

    /// Does what other threads ask for. What a session has no room for waits without holding up the others; where nobody has
    /// room, and where too much waits, all do, and those who write are told when the mailbox is full.
    pub(super) fn read_letters(&mut self, now: u64) {
        self.service.endpoint.advance(now);
        let shared = self.service.shared.clone();
        let Desk { mailbox, sockets: counters, .. } = &shared.desks[self.service.number];
        let endpoint = &mut self.service.endpoint;
        self.parked.retry(mailbox, |letter, message| do_as_written(endpoint, counters, letter, message));
        let mut held_up = false;
        for _ in 0..LETTERS_AT_ONCE {
            if self.letters.is_empty() && self.rung {
                held_up = self.parked.bytes > PARKED * mailbox.waiting_max();
                if held_up {
                    break;
                }
                self.rung = false;
                mailbox.take(&mut self.letters);
            }
            let Some((letter, message)) = self.letters.pop() else { break };
            match letter {
                Letter::Receive(from, to) => {
                    // Where it has no socket to answer from, the session stays where it is.
                    if self.ports.iter().any(|port| port.serves(from, to)) {
                        self.service.receive(now, message, from, to);
                    }
                }
                Letter::Send(session) | Letter::Close(session) if self.parked.has(session) => {
                    self.parked.push(session, letter, message);
                }
                _ if do_as_written(&mut self.service.endpoint, counters, &letter, message) => {}
                Letter::Send(session) if self.service.endpoint.has_room(message.len()) => {
                    self.parked.push(session, letter, message);
                }
                _ => {
                    self.letters.put_back(letter);
                    held_up = true;
                    break;
                }
            }
        }
        self.parked.tell(mailbox);
        self.stuck = held_up || !self.parked.is_empty() && self.letters.is_empty() && !self.rung;
        self.service.tell();
    }

    /// Reads all letters, while writers are refused, and sends what comes of them.
    pub(super) fn finish_letters(&mut self, waiting: &mut Waiting) -> Result<(), Error> {
        self.mailbox().set_halted(true);
        self.rung = true;
        let deadline = precise_now() + GOODBYE;
        while self.has_letters() && precise_now() < deadline {
            self.read_letters(precise_now());
            self.transmit();
            self.drain(waiting, deadline)?;
        }
        Ok(())
    }

    /// Counts what nobody will send any more: all sessions are over.
    pub(super) fn refuse_letters(&mut self) {
        self.rung = true;
        while self.has_letters() {
            self.read_letters(precise_now());
        }
    }
}

/// What a letter asks of a session; says whether there was room for it.
fn do_as_written(endpoint: &mut Endpoint, counters: &SocketCounters, letter: &Letter, message: &[u8]) -> bool {
    match *letter {
        Letter::Send(session) => match endpoint.send(session, message) {
            Ok(()) => {}
            Err(Error::Again) => return false,
            Err(_) => counters.messages_refused.add(1),
        },
        Letter::Close(session) => drop(endpoint.close(session)),
        Letter::Receive(..) => {}
    }
    true
}

/// Letters for sessions that have no room, and all that follow for these: those of others do not wait behind them.
#[derive(Default)]
pub(super) struct Parked {
    letters: HashMap<Session, Letters>,
    /// Bytes of all of them.
    bytes: usize,
}

impl Parked {
    fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    fn has(&self, session: Session) -> bool {
        !self.is_empty() && self.letters.contains_key(&session)
    }

    /// Adds one, behind those that the session has.
    fn push(&mut self, session: Session, letter: Letter, message: &[u8]) {
        self.bytes += Letters::ASIDE + message.len() + if self.has(session) { 0 } else { ASIDE };
        self.letters.entry(session).or_default().push(letter, message);
    }

    /// Tells the mailbox who has how many.
    fn tell(&self, mailbox: &Mailbox) {
        if !self.is_empty() {
            mailbox.set_parked(self.letters.iter().map(|(session, letters)| (*session, letters.waiting_len())));
        }
    }

    /// Takes out those that `send` sends, in the order of each session.
    fn retry(&mut self, mailbox: &Mailbox, mut send: impl FnMut(&Letter, &[u8]) -> bool) {
        self.letters.retain(|session, letters| {
            while let Some((letter, message)) = letters.pop() {
                if !send(&letter, message) {
                    letters.put_back(letter);
                    return true;
                }
                self.bytes -= Letters::ASIDE + message.len();
            }
            self.bytes -= ASIDE;
            mailbox.set_parked(iter::once((*session, 0)));
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::os::fd::AsFd;

    use super::super::tests::{psk, worker};
    use super::*;
    use crate::engine::endpoint::{Config, Connect, ConnectionIds, Event};

    const WAITING_MAX: usize = 64 << 10;
    const TO: [u8; 4] = [127, 0, 0, 1];

    /// A worker with a session for each of its clients.
    struct Office {
        worker: Worker,
        clients: Vec<(Endpoint, SocketAddr)>,
        sessions: Vec<Session>,
        now: u64,
    }

    impl Office {
        fn new(clients: u16) -> Office {
            Office::with_ids(clients, None)
        }

        fn with_ids(clients: u16, connection_ids: Option<ConnectionIds>) -> Office {
            let theirs = Config { connection_ids: connection_ids.clone(), ..Config::default() };
            let config = Config { max_waiting_bytes: WAITING_MAX, connection_ids, ..Config::default() };
            let mut office =
                Office { worker: worker(config, WAITING_MAX), clients: Vec::new(), sessions: Vec::new(), now: 1 };
            for port in 1..=clients {
                let mut client = Endpoint::new(psk(false), theirs.clone()).unwrap();
                client.connect(office.now, &Connect::to((TO, 1000).into())).unwrap();
                office.clients.push((client, (TO, port).into()));
                (0..5).for_each(|_| drop(office.carry()));
                let session =
                    office.worker.service.endpoint.sessions().find(|session| !office.sessions.contains(session));
                office.sessions.extend(session);
            }
            assert_eq!(office.sessions.len(), usize::from(clients));
            office
        }

        /// Everything that is under way arrives. Gives the messages that the clients have got, and whose session has ended.
        fn carry(&mut self) -> Vec<(usize, Option<Vec<u8>>)> {
            self.now += 1;
            for (client, address) in &mut self.clients {
                while let Some(transmit) = client.transmit(1) {
                    self.worker.service.endpoint.receive(self.now, transmit.bytes, *address, None);
                }
            }
            self.worker.service.tell();
            while let Some(transmit) = self.worker.service.endpoint.transmit(1) {
                let (client, _) = self.clients.iter_mut().find(|(_, address)| *address == transmit.to).unwrap();
                client.receive(self.now, transmit.bytes, (TO, 1000).into(), None);
            }
            self.worker.stuck = false;
            let (mut got, mut message) = (Vec::new(), Vec::new());
            for (number, (client, _)) in self.clients.iter_mut().enumerate() {
                while let Some(event) = client.event(&mut message) {
                    match event {
                        Event::Message { .. } => got.push((number, Some(message.clone()))),
                        Event::Closed { .. } => got.push((number, None)),
                        _ => {}
                    }
                }
            }
            got
        }

        fn write(&self, client: usize, message: &[u8]) -> Result<(), Error> {
            self.worker.mailbox().send(self.sessions[client], message)
        }

        fn read(&mut self) {
            self.worker.rung = true;
            self.worker.read_letters(self.now);
        }
    }

    /// The first session is sent more than there is room for, as fast as it can be, and is closed behind that.
    #[test]
    fn others_do_not_wait_behind_a_session_that_has_no_room() {
        let mut office = Office::new(2);
        let numbered = |number: u32| [&number.to_be_bytes()[..], &[0; 1000]].concat();
        let (mut sent, mut before) = (0, None);
        while before != Some(sent) {
            before = Some(sent);
            while office.write(0, &numbered(sent)).is_ok() {
                sent += 1;
                assert!(sent < 1000, "nobody says that it is too much");
            }
            // Of the mailbox, too, it leaves something to the others.
            (0..2).for_each(|_| office.write(1, &[1; 1000]).unwrap());
            office.read();
        }
        assert_eq!(office.write(0, b"more"), Err(Error::Again));
        office.worker.mailbox().close(office.sessions[0]).unwrap();
        office.write(1, b"and one behind that").unwrap();
        office.read();
        assert!(office.worker.stuck, "there is nothing to do before something has left");
        let waiting = office.worker.parked.bytes;
        assert!((WAITING_MAX / 2..PARKED * WAITING_MAX).contains(&waiting), "{waiting}");

        let mut got = Vec::new();
        let mut others = 0;
        while !office.worker.parked.is_empty() || got.last() != Some(&(0, None)) {
            let now = office.carry();
            assert!(!now.is_empty());
            others += now.iter().filter(|(client, _)| *client == 1).count();
            if got.is_empty() {
                assert!(others >= 2, "they come with the first that leave");
            }
            got.extend(now.into_iter().filter(|(client, _)| *client == 0));
            assert!(!office.worker.stuck);
            office.read();
        }
        let expected = (0..sent).map(|number| (0, Some(numbered(number)))).chain([(0, None)]);
        assert!(got.into_iter().eq(expected), "in order, and the end last");
        assert_eq!(office.worker.parked.bytes, 0);
    }

    /// There would be room for it, and for the end of the session.
    #[test]
    fn a_short_message_does_not_overtake_those_that_are_parked() {
        let mut office = Office::new(1);
        let mut sent = 0;
        while office.worker.parked.is_empty() {
            office.write(0, &[1; 1000]).unwrap();
            sent += 1;
            office.read();
        }
        office.write(0, b"short").unwrap();
        office.worker.mailbox().close(office.sessions[0]).unwrap();
        office.read();
        let mut got = Vec::new();
        while got.last() != Some(&None) {
            got.extend(office.carry().into_iter().map(|(_, message)| message.map(|message| message.len())));
            office.read();
            assert!(got.len() <= sent + 2);
        }
        let expected = [vec![Some(1000); sent], vec![Some(5), None]].concat();
        assert_eq!(got, expected);
    }

    /// Its peer seems to be at another address, where it may not be sent that much, and nothing else may ever wake the worker.
    #[test]
    fn letters_are_read_when_what_they_waited_for_is_withheld() {
        let ids = ConnectionIds { routability_checks: false, ..ConnectionIds::default() };
        let mut office = Office::with_ids(1, Some(ids));
        while office.worker.parked.is_empty() {
            office.write(0, &[0; 1000]).unwrap();
            office.read();
        }
        assert!(!office.worker.can_read_letters());
        let (client, _) = &mut office.clients[0];
        let ours = client.sessions().next().unwrap();
        client.send(ours, b"from elsewhere").unwrap();
        let (now, endpoint) = (office.now, &mut office.worker.service.endpoint);
        endpoint.receive(now, client.transmit(1).unwrap().bytes, (TO, 99).into(), None);
        assert_eq!(endpoint.transmit(1), None);
        assert!(office.worker.can_read_letters());
        office.worker.read_letters(now);
        assert!(office.worker.parked.is_empty());
    }

    /// Those that are parked, and behind them: the worker ends, or its sessions go to another process.
    #[test]
    fn what_cannot_be_sent_any_more_is_refused_and_counted() {
        for exported in [false, true] {
            let mut office = Office::new(2);
            let mut accepted = 0;
            while office.worker.parked.is_empty() {
                office.write(0, &[0; 1000]).unwrap();
                accepted += 1;
                office.read();
            }
            (0..2).for_each(|client| office.write(client, b"in the mailbox").unwrap());
            accepted += 2;
            let mut waiting = Waiting::on(iter::once(office.worker.mailbox().bell().as_fd()));
            if exported {
                office.worker.service.endpoint.pack().unwrap();
                office.worker.service.endpoint.commit_export().unwrap();
            }
            office.worker.say_goodbye(&mut waiting).unwrap();
            let Desk { counters, sockets, .. } = office.worker.service.desk();
            let refused = sockets.messages_refused.get();
            assert!(refused > 2 && refused + counters.messages_out.get() == accepted, "{refused} of {accepted}");
        }
    }

    /// A session that has been parked is written to again once it has room.
    #[test]
    fn who_was_refused_is_taken_again() {
        let mut office = Office::new(1);
        for _ in 0..10 {
            (0..1000).for_each(|_| drop(office.write(0, &[0; 1000])));
            office.read();
        }
        assert_eq!(office.write(0, b"not yet"), Err(Error::Again));
        for _ in 0..100 {
            office.carry();
            office.read();
        }
        office.write(0, b"now").unwrap();
    }
}
