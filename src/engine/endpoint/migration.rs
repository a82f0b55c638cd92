//! Peers that move (RFC 9146 6): a session that is known by a connection ID follows its peer to another address.
//!
//! It does so when an authentic record comes from there that is newer than all before it; a copy of an older one moves
//! nothing. But an attacker on the path can forward the peer's record from another address. So the peer must prove that it
//! receives at its new address: by a return routability check (RFC 9853) if it can do that, or else the program confirms the
//! address. Until then at most three times as much is sent there as has come from there, and after a failed check the
//! session moves back.

use std::mem;
use std::net::{IpAddr, SocketAddr};

use super::{Endpoint, Error, Event, Seat, Session};
use crate::engine::connection::{Heard, State};
use crate::engine::gate;
use crate::log::log;
use crate::tls;
use crate::wire::routability::Check;

/// How much more may go to an unproven address than has come from there (RFC 9853 2).
const AMPLIFICATION: u64 = 3;

/// How long a check takes at most, in microseconds (RFC 9853 7.5), and how many challenges are sent in this time.
const CHECK_TIME: u64 = 1_000_000;
const CHALLENGES: usize = 3;

/// There is at most one log line about moves in so many microseconds: an attacker on the path can make a session move with
/// each of its records.
const MOVES_TOLD_EVERY: u64 = 1_000_000;

/// An address and the one of ours that it speaks to.
type Place = (SocketAddr, Option<IpAddr>);

/// What is known of the address that a peer has moved to, until it has proven that it receives there.
pub(super) struct Unproven {
    /// The last address that was proven.
    before: Place,
    received: u64,
    sent: u64,
    /// Those of the challenges that were sent.
    cookies: Vec<u64>,
    /// When the next challenge is sent, or the check has failed.
    pub(super) due: u64,
}

/// What the log says of moves.
#[derive(Default)]
pub(super) struct Moves {
    /// When there may be a line again, and how many moves there were without one.
    next: u64,
    untold: u64,
}

impl Moves {
    fn tell(&mut self, now: u64, from: SocketAddr, to: SocketAddr) {
        if now < self.next {
            self.untold += 1;
            return;
        }
        self.next = now.saturating_add(MOVES_TOLD_EVERY);
        match mem::take(&mut self.untold) {
            0 => log!(Info, "{from}: is at {to} now"),
            others => log!(Info, "{from}: is at {to} now; since the last such line {others} others have moved"),
        }
    }
}

impl Unproven {
    /// Whether so many bytes more may go there.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        self.sent + bytes as u64 <= AMPLIFICATION * self.received
    }

    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Whether a datagram of so many bytes may go there; then it counts as sent.
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let admits = self.admits(bytes);
        if admits {
            self.note_sent(bytes);
        }
        admits
    }
}

impl Endpoint {
    /// A record of `len` bytes has come from `from` to our address `to`, and it is the session's peer's.
    pub(super) fn locate(&mut self, session: Session, heard: Heard, len: usize, from: SocketAddr, to: Option<IpAddr>) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        if !gate::is_somebody(&from) {
            return;
        }
        let moved = seat.connection.peer() != from;
        if moved && heard.newest && seat.connection.state() == State::Established {
            self.follow(session, (from, to));
        }
        let Some(seat) = self.seats.get_mut(session) else { return };
        if let Some(unproven) = &mut seat.unproven
            && seat.connection.peer() == from
        {
            unproven.received += len as u64;
        }
        if seat.unproven.as_ref().is_some_and(|unproven| unproven.due <= self.now) {
            self.challenge(session);
        }
        match heard.check {
            Some(Check::Challenge(cookie)) => self.respond(session, cookie, AMPLIFICATION as usize * len, (from, to)),
            Some(Check::Response(cookie)) => self.check_response(session, cookie),
            // We only challenge the address where the peer was seen last, so there is no better one to go to.
            Some(Check::Drop(_)) | None => {}
        }
    }

    /// The peer has moved.
    fn follow(&mut self, session: Session, place: Place) {
        let now = self.now;
        let Some(seat) = self.seats.get_mut(session) else { return };
        let here = (seat.connection.peer(), seat.local);
        let before = seat.unproven.take().map_or(here, |unproven| unproven.before);
        if before.0 != place.0 {
            let due = if seat.connection.checks() { now } else { u64::MAX };
            let unproven = Unproven { before, received: 0, sent: 0, cookies: Vec::new(), due };
            seat.unproven = Some(Box::new(unproven));
        }
        self.counters.peers_moved.add(1);
        self.place(session, place);
    }

    fn place(&mut self, session: Session, (peer, local): Place) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        self.moves.tell(self.now, seat.connection.peer(), peer);
        seat.connection.move_to(peer);
        seat.local = local;
        if !mem::replace(&mut seat.moved, true) {
            self.inbox.push(Event::Moved { session });
        }
    }

    /// Sends a challenge to the peer's new address. After some without an answer the check has failed, and the session goes
    /// back.
    fn challenge(&mut self, session: Session) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        let Some(unproven) = &mut seat.unproven else { return };
        if unproven.cookies.len() == CHALLENGES {
            let before = unproven.before;
            seat.unproven = None;
            self.counters.addresses_refused.add(1);
            self.place(session, before);
            return;
        }
        let cookie = u64::from_ne_bytes(tls::random());
        unproven.cookies.push(cookie);
        unproven.due = self.now.saturating_add(CHECK_TIME / CHALLENGES as u64);
        let Some(datagram) = seat.connection.seal_check(Check::Challenge(cookie)) else { return };
        if unproven.charge(datagram.len()) {
            let (to, from) = (seat.connection.peer(), seat.local);
            self.outbox.push(to, from, &datagram, &self.counters);
        }
    }

    /// Answers a challenge, to where it came from.
    fn respond(&mut self, session: Session, cookie: u64, most: usize, (to, from): Place) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        let Some(datagram) = seat.connection.seal_check(Check::Response(cookie)) else { return };
        let here = seat.unproven.as_mut().filter(|_| seat.connection.peer() == to);
        if datagram.len() <= most && here.is_none_or(|unproven| unproven.charge(datagram.len())) {
            self.outbox.push(to, from, &datagram, &self.counters);
        }
    }

    fn check_response(&mut self, session: Session, cookie: u64) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        if seat.unproven.as_ref().is_some_and(|unproven| unproven.cookies.contains(&cookie)) {
            self.prove(session);
        }
    }

    /// The peer has proven its address. Only now does the session count for the limits of that source: otherwise a peer that
    /// spoofs addresses could evade its own limit, and use up those of others.
    fn prove(&mut self, session: Session) {
        let Some(seat) = self.seats.get_mut(session) else { return };
        if seat.unproven.take().is_some() {
            let peer = seat.connection.peer();
            self.seats.relocate(session, peer);
            self.counters.addresses_proven.add(1);
        }
    }

    /// Goes on with a check, if that is due.
    pub(super) fn advance_check(&mut self, session: Session) {
        let unproven = self.seats.get(session).and_then(|seat| seat.unproven.as_ref());
        if unproven.is_some_and(|unproven| unproven.due <= self.now) {
            self.challenge(session);
        }
    }

    /// The program has found out by its own means that the peer receives at its new address: what goes there has no limit any
    /// more. Nothing happens where there was none.
    pub fn confirm_peer(&mut self, session: Session) -> Result<(), Error> {
        let session = self.own(session)?;
        self.seats.get(session).ok_or(Error::Stale)?;
        self.prove(session);
        Ok(())
    }
}

impl Seat {
    /// The peer's last proven address, and the address of ours that it wrote to.
    pub(super) fn proven_place(&self) -> Place {
        self.unproven.as_ref().map_or((self.connection.peer(), self.local), |unproven| unproven.before)
    }

    /// When something is due, at the latest.
    pub(super) fn deadline(&self) -> u64 {
        let check = self.unproven.as_ref().map_or(u64::MAX, |unproven| unproven.due);
        self.connection.deadline().min(check)
    }

    /// Whether a message of `len` bytes would be more than may be sent to an unproven address.
    pub(super) fn withholds(&self, len: usize) -> bool {
        let sealed = self.connection.sealed_len(len).unwrap_or(len);
        self.unproven.as_ref().is_some_and(|unproven| !unproven.admits(self.bytes_waiting + sealed))
    }

    /// Whether the next datagram must not leave.
    pub(super) fn is_over_limit(&mut self) -> bool {
        let Some(unproven) = &self.unproven else { return false };
        !unproven.admits(self.connection.outbound().next_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_what_came_and_not_a_byte_more() {
        let before = (SocketAddr::from(([192, 0, 2, 1], 1)), None);
        let mut unproven = Unproven { before, received: 100, sent: 0, cookies: Vec::new(), due: 0 };
        assert!(!unproven.charge(301));
        assert!(unproven.charge(299) && unproven.charge(1) && !unproven.charge(1));
    }
}
