//! Our flights, sent again until they are answered: when the timer runs out, and when the peer repeats his.

use super::{Connection, NEVER, State, micros, payload};
use crate::engine::settings::Settings;
use crate::engine::stats::Counters;

/// A flight that nobody answers is not repeated sooner than this, whatever the settings say.
const TIMEOUT_MIN: u64 = 10_000;

/// A flight is not repeated sooner than this after it was sent last, however often the peer repeats his: his flight may
/// be several datagrams, and the network may double them.
const REPEAT_SPACING: u64 = 50_000;

/// Flights sent again because the peer repeated his, at most: what he sends in clear may be forged.
const REPEATS_MAX: u8 = 64;

/// How long the last flight is kept for a peer that has not got it: twice the maximum segment lifetime (RFC 6347 4.2.4).
const LAST_FLIGHT_KEPT: u64 = 240_000_000;

/// Sizes of IP packets to step down to, and how many timeouts of one flight are one step.
const SMALLER_MTUS: [u16; 2] = [576, 256];
const TIMEOUTS_PER_STEP: u32 = 4;

/// A flight of ours that is sent again when the peer repeats the one before it.
pub(super) struct Flight {
    /// When it was sent last.
    sent: u64,
    /// How often it was sent again because somebody asked for it in clear.
    repeats: u8,
    /// When it is forgotten; never as long as the handshake goes on.
    pub(super) kept_until: u64,
}

impl Flight {
    pub(super) fn new(now: u64, kept_until: u64) -> Flight {
        Flight { sent: now, repeats: 0, kept_until }
    }
}

/// When our flight is sent again while the handshake goes on.
pub(super) struct Timer {
    /// When it runs out, and how long that was waited for.
    due: u64,
    timeout: u64,
    timeouts: u32,
    first_timeout: u64,
    longest_timeout: u64,
    /// When it is sent again before that, and whether that was arranged since the last timeout. See [`Connection::hasten`].
    sooner: u64,
    hastened: bool,
}

impl Timer {
    pub(super) fn new(settings: &Settings) -> Timer {
        let [first_timeout, longest_timeout] = timeouts(settings);
        Timer { due: NEVER, timeout: 0, timeouts: 0, first_timeout, longest_timeout, sooner: NEVER, hastened: false }
    }

    /// A new flight leaves.
    fn start(&mut self, now: u64) {
        self.timeout = self.first_timeout;
        self.timeouts = 0;
        self.due = now.saturating_add(self.timeout);
        (self.sooner, self.hastened) = (NEVER, false);
    }

    /// Whether there is a flight that waits for its answer.
    pub(super) fn runs(&self) -> bool {
        self.due != NEVER
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> u64 {
        self.due.min(self.sooner)
    }

    /// How long until it runs out.
    pub(super) fn left(&self, now: u64) -> u64 {
        self.due.saturating_sub(now)
    }
}

/// The first wait before a flight is repeated, and the longest.
pub(super) fn timeouts(settings: &Settings) -> [u64; 2] {
    [settings.first_timeout, settings.longest_timeout].map(|timeout| micros(timeout).max(TIMEOUT_MIN))
}

impl Connection {
    /// libssl has said something new.
    pub(super) fn begin_flight(&mut self, now: u64) {
        if let Some(handshake) = &mut self.handshake {
            handshake.timer.start(now);
            self.note_flight_sent(now);
        }
    }

    /// The handshake is over, and the last flight is ours, which the peer may not have got.
    pub(super) fn keep_flight(&mut self, now: u64) {
        if let Some(flight) = &mut self.flight {
            flight.sent = now;
            flight.kept_until = now.saturating_add(LAST_FLIGHT_KEPT);
        }
    }

    /// The peer has our last flight.
    pub(super) fn forget_flight(&mut self) {
        if self.flight.take().is_some() {
            self.protection.outbound().forget_flight();
        }
    }

    /// The peer repeats its flight, so ours is lost, or was slow: it is sent again. Where it is not `certain` that it was the
    /// peer, that happens a limited number of times.
    pub(super) fn answer_repeat(&mut self, certain: bool, now: u64, counters: &Counters) {
        let Some(flight) = &mut self.flight else { return };
        let is_refused = !certain && flight.repeats == REPEATS_MAX;
        if !is_refused && now >= flight.sent.saturating_add(REPEAT_SPACING) && self.protection.outbound().resend() {
            flight.sent = now;
            flight.repeats += u8::from(!certain);
            counters.flights_resent_on_repeat.add(1);
        }
    }

    fn note_flight_sent(&mut self, now: u64) {
        self.flight.iter_mut().for_each(|flight| flight.sent = now);
    }

    /// The peer may have begun anew, and would take this flight for an answer to its new hello. As long as it does not speak of
    /// this handshake, it is not sent again.
    pub fn await_the_peer(&mut self) {
        if self.state == State::Handshaking
            && let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.timer.runs())
        {
            (handshake.timer.due, handshake.timer.sooner) = (handshake.deadline, NEVER);
        }
    }

    /// The peer speaks under the new keys, so it has what we have said, and what it has said of the handshake is lost or was
    /// overtaken. It repeats that when we repeat our Finished (RFC 6347 4.2.4), for which our timer need not run out. But it
    /// may be anybody who speaks: so that is done once between two timeouts.
    pub(super) fn hasten(&mut self, now: u64) {
        let finished_is_out = self.protection.outbound().has_sealed();
        if let Some(handshake) = self.handshake.as_mut().filter(|_| finished_is_out && self.state == State::Handshaking)
            && !handshake.timer.hastened
            && handshake.timer.due < handshake.deadline
        {
            handshake.timer.hastened = true;
            handshake.timer.sooner = now.saturating_add(REPEAT_SPACING);
        }
    }

    /// Sends the flight again if that is due.
    pub(super) fn advance_flight(&mut self, now: u64, counters: &Counters) {
        let Some(Timer { due, timeout, timeouts, longest_timeout, sooner, hastened, .. }) =
            self.handshake.as_mut().map(|handshake| &mut handshake.timer).filter(|timer| now >= timer.deadline())
        else {
            return;
        };
        if now >= std::mem::replace(sooner, NEVER) {
            *due = now.saturating_add(*timeout);
            counters.flights_resent_on_repeat.add(1);
            return self.send_flight_again(now);
        }
        // Nothing has come back: the flight is sent again, in smaller datagrams if that has happened often.
        *timeouts += 1;
        *timeout = timeout.saturating_mul(2).min(*longest_timeout);
        *due = now.saturating_add(*timeout);
        *hastened = false;
        let step = (*timeouts / TIMEOUTS_PER_STEP) as usize;
        if timeouts.is_multiple_of(TIMEOUTS_PER_STEP) && step <= SMALLER_MTUS.len() {
            self.protection.session().lower_payload(payload(SMALLER_MTUS[step - 1], self.peer));
            counters.mtu_stepped_down.add(1);
        }
        counters.flights_resent_on_timeout.add(1);
        self.send_flight_again(now);
    }

    fn send_flight_again(&mut self, now: u64) {
        self.note_flight_sent(now);
        // What libssl writes now takes the place of what it wrote before.
        self.protection.outbound().expect_new_flight();
        let left = self.handshake.as_ref().map_or(NEVER, |handshake| handshake.timer.left(now));
        if self.protection.session().repeats_by_libssl() && self.protection.session().write_again(left) {
            self.put_cids();
        } else {
            self.protection.outbound().resend();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::CloseReason;
    use super::super::begun::{Begun, begun};
    use super::*;
    use crate::wire::datagrams::Datagrams;
    use crate::wire::handshake;
    use crate::wire::hello::ClientHello;
    use crate::wire::hello_verify::HelloVerifyRequest;
    use crate::wire::record::{HEADER_LEN, content_type};

    /// RFC 6347 4.2.4.1 wants a second; who wants none does not get it.
    #[test]
    fn no_setting_makes_a_flight_go_out_without_a_pause() {
        let settings =
            Settings { first_timeout: Duration::ZERO, longest_timeout: Duration::ZERO, ..Settings::default() };
        let timer = Timer::new(&settings);
        assert_eq!([timer.first_timeout, timer.longest_timeout], [TIMEOUT_MIN; 2]);
    }

    /// The hello may be a copy that anybody has sent.
    #[test]
    fn a_repeated_hello_is_answered_at_intervals_and_so_many_times() {
        let Begun { hello, mut server, counters, .. } = begun();
        let mut is_answered = |now| {
            server.receive(now, &hello, &mut Datagrams::new(), &counters);
            let answered = server.transmit().is_some();
            while server.transmit().is_some() {}
            answered
        };
        for now in [REPEAT_SPACING, 2 * REPEAT_SPACING] {
            assert!(!is_answered(now - 1) && is_answered(now));
        }
        let times = (3..200).filter(|time| is_answered(time * REPEAT_SPACING)).count();
        assert_eq!(times, usize::from(REPEATS_MAX) - 2);
    }

    #[test]
    fn a_repeated_hello_is_not_answered_twice_at_once() {
        let Begun { hello, mut server, counters, .. } = begun();
        let due = server.deadline();
        server.advance(due, &counters);
        for (now, resent) in [(due + REPEAT_SPACING - 1, 0), (due + REPEAT_SPACING, 1)] {
            server.receive(now, &hello, &mut Datagrams::new(), &counters);
            assert_eq!(counters.flights_resent_on_repeat.get(), resent);
        }
    }

    /// A flight goes out again after one second, and each time after twice as long as before, up to eight; at each fourth time
    /// in smaller datagrams, for which each flight is counted by itself.
    #[test]
    fn a_flight_that_nobody_answers() {
        let Begun { mut client, hello, counters, .. } = begun();
        let intervals = |client: &mut Connection, mut last: u64| -> Vec<u64> {
            let mut next = || {
                let (due, before) = (client.deadline(), counters.flights_resent_on_timeout.get());
                client.advance(due - 1, &counters);
                assert_eq!(counters.flights_resent_on_timeout.get(), before);
                client.advance(due, &counters);
                assert_eq!(counters.flights_resent_on_timeout.get(), before + 1);
                due - std::mem::replace(&mut last, due)
            };
            (0..3).map(|_| next() / 1_000_000).collect()
        };
        assert_eq!(intervals(&mut client, 0), [1, 2, 4]);
        let request = HelloVerifyRequest::new(&ClientHello::parse(&hello).unwrap(), &[7; 20]);
        client.receive(10_000_000, request.as_bytes(), &mut Datagrams::new(), &counters);
        let stepped_down =
            |client: &mut Connection, last: u64| (intervals(client, last * 1_000_000), counters.mtu_stepped_down.get());
        assert_eq!(stepped_down(&mut client, 10), (vec![1, 2, 4], 0));
        assert_eq!(stepped_down(&mut client, 17), (vec![8, 8, 8], 1));
        assert_eq!(stepped_down(&mut client, 41), (vec![8, 8, 8], 2));
        assert_eq!(stepped_down(&mut client, 65), (vec![8, 8, 8], 2));
    }

    /// At the server's hello, libssl repeats its own, since its timer has run out; and that server speaks DTLS 1.0.
    #[test]
    fn an_alert_leaves_although_libssl_has_repeated_its_flight() {
        let Begun { mut client, mut server, counters, .. } = begun();
        thread::sleep(Duration::from_millis(50));
        assert!(server.outbound().resend());
        let mut flight = server.transmit().unwrap().to_vec();
        flight[HEADER_LEN + handshake::HEADER_LEN..][..2].copy_from_slice(&[0xfe, 0xff]);
        client.receive(1, &flight, &mut Datagrams::new(), &counters);
        assert_eq!(client.state(), State::Closed(CloseReason::Failed));
        assert_eq!(client.transmit().map(|datagram| datagram[0]), Some(content_type::ALERT));
        assert!(client.transmit().is_none());
    }
}
