//! The handshake of a connection: what libssl gets to see of the peer's records, in which order, and what comes of it.

use super::flight::Timer;
use super::{CloseReason, Connection, NEVER, State, is_change_cipher_spec, micros, packet_len};
use crate::engine::protection::FATAL;
use crate::engine::records::Records;
use crate::engine::settings::Settings;
use crate::engine::stats::Counters;
use crate::tls::cause;
use crate::tls::peer::asks_for_certificate;
use crate::tls::session::Step;
use crate::wire::datagrams::Datagrams;
use crate::wire::handshake::{self, Fragment, fragments, message_type};
use crate::wire::hello::ClientHello;
use crate::wire::record::{HEADER_LEN, PLAINTEXT_MAX, Record, content_type};

/// Records that wait for their keys, and all their bytes.
const HELD_RECORDS: usize = 16;
const HELD_BYTES: usize = 16 * 1024;

/// What only a handshake needs: an established connection has none of it.
pub(super) struct Handshake {
    pub(super) deadline: u64,
    pub(super) timer: Timer,
    /// Of the hello that began it: its number among the client's messages, and its random. A repetition has the same random,
    /// a restarted client another.
    hello_seq: u16,
    pub(super) client_random: [u8; 32],
    /// Whether the records are to be ours when it is over.
    native_records: bool,
    require_extended_master_secret: bool,
    /// Where connection IDs are offered: what is sealed with the peer's is filled up to a multiple of so many bytes.
    pub(super) padding: Option<u16>,
    /// Records that wait for their keys.
    held: Vec<Box<[u8]>>,
    /// The last fatal alert that came in clear. It ends nothing, but often says why the handshake does not go on.
    alert: Option<u8>,
    /// Records of our own while OpenSSL makes the handshake; see [`cid`](super::cid).
    pub(super) early: Option<Box<Records>>,
}

impl Handshake {
    pub(super) fn new(settings: &Settings, hello: Option<&ClientHello<'_>>, now: u64) -> Handshake {
        Handshake {
            deadline: now.saturating_add(micros(settings.handshake_timeout)),
            timer: Timer::new(settings),
            hello_seq: hello.map_or(0, |hello| hello.message_seq),
            client_random: hello.map_or([0; 32], |hello| *hello.random),
            native_records: settings.native_records,
            require_extended_master_secret: settings.require_extended_master_secret,
            padding: None,
            held: Vec::new(),
            alert: None,
            early: None,
        }
    }

    /// When something is to be done, at the latest.
    pub(super) fn deadline(&self) -> u64 {
        self.timer.deadline().min(self.deadline)
    }

    /// Nothing waits any more.
    pub(super) fn end(&mut self) {
        self.held = Vec::new();
    }

    /// Keeps a record until its time has come, if there is room for it.
    fn hold(&mut self, record: &Record<'_>) -> bool {
        let bytes: usize = self.held.iter().map(|held| held.len()).sum();
        let room = self.held.len() < HELD_RECORDS && bytes + record.bytes.len() <= HELD_BYTES;
        if room {
            self.held.push(record.bytes.into());
        }
        room
    }

    fn holds_change_cipher_spec(&self) -> bool {
        self.held.iter().any(|held| held[0] == content_type::CHANGE_CIPHER_SPEC)
    }
}

impl Connection {
    pub(super) fn handshake_record(&mut self, now: u64, record: &Record<'_>, counters: &Counters) {
        match (record.epoch, record.content_type) {
            (0, content_type::HANDSHAKE) => {
                let first = Fragment::parse(record.fragment()).map_or(0, |(fragment, _)| fragment.message_type);
                let flight_waits = self.handshake.as_ref().is_some_and(|handshake| handshake.timer.runs());
                if self.server && first == message_type::CLIENT_HELLO && flight_waits {
                    self.answer_repeat(false, now, counters);
                    return;
                }
                let mut taken = 0;
                for fragment in fragments(record.fragment()).take_while(|fragment| self.may_say(fragment)) {
                    taken += handshake::HEADER_LEN + fragment.body.len();
                }
                if taken == 0 || taken < record.fragment().len() {
                    counters.records_dropped.add(1);
                    return;
                }
                self.step(record.bytes, now);
            }
            // libssl forgets a ChangeCipherSpec that comes too early, and the peer would have to send its flight again; at
            // one that is none it gives up.
            (0, content_type::CHANGE_CIPHER_SPEC) if is_change_cipher_spec(record) => {
                let holds = self.handshake.as_ref().is_some_and(|handshake| handshake.holds_change_cipher_spec());
                if holds || self.awaits_finished() {
                    counters.records_dropped.add(1);
                    return;
                }
                self.step(record.bytes, now);
                if !self.awaits_finished() {
                    self.hold(record, counters);
                }
            }
            (1, _) if !self.is_expected(record) => return counters.records_dropped.add(1),
            (1, content_type::TLS12_CID) if self.protection.session().awaits_finished() => {
                if self.step_with_cid(record, now, counters) {
                    self.hold(record, counters);
                    self.hasten(now);
                }
            }
            // Its time has come: forged ones that are held already must not stand in its way.
            (1, content_type::HANDSHAKE) if self.awaits_finished() => self.step_protected(record.bytes, now),
            // libssl would keep a read buffer of 16 KB for each record that comes before its keys.
            (
                1,
                content_type::HANDSHAKE
                | content_type::ALERT
                | content_type::APPLICATION_DATA
                | content_type::TLS12_CID,
            ) => {
                self.hold(record, counters);
                return self.hasten(now);
            }
            // An alert in clear may be anybody's.
            (0, content_type::ALERT) => {
                if let ([FATAL, description], Some(handshake)) = (record.fragment(), &mut self.handshake) {
                    handshake.alert = Some(*description);
                }
                return counters.records_dropped.add(1);
            }
            _ => return counters.records_dropped.add(1),
        }
        // Only now, when libssl has seen something: a datagram may have a hundred records, of anybody.
        self.step_held(now, counters);
    }

    /// Whether the peer may say this in clear (RFC 5246 7.3): a client its hello, then up to three messages, the first of which
    /// is its certificate where one was asked for; a server what no client says. It may be meant for another handshake: two
    /// that connect to each other at once have one in each direction. For each message that is not yet due libssl makes room
    /// for as much as it says that it has: it would for ten, as long as a certificate chain each. A fragment with nothing of
    /// its message it takes for the whole message, and gives up.
    fn may_say(&mut self, fragment: &Fragment<'_>) -> bool {
        use message_type::{CERTIFICATE, CERTIFICATE_VERIFY, CLIENT_HELLO, CLIENT_KEY_EXCHANGE};
        let hello_seq = self.handshake.as_ref().map_or(0, |handshake| handshake.hello_seq);
        let behind_hello = fragment.message_seq.wrapping_sub(hello_seq);
        match fragment.message_type {
            _ if fragment.body.is_empty() && fragment.length > 0 => false,
            CLIENT_HELLO => self.server && behind_hello == 0,
            CERTIFICATE if self.server => behind_hello == 1 && asks_for_certificate(self.protection.session().ssl()),
            CLIENT_KEY_EXCHANGE | CERTIFICATE_VERIFY => {
                self.server && (1..=3).contains(&behind_hello) && fragment.length <= PLAINTEXT_MAX
            }
            _ => !self.server,
        }
    }

    /// Whether this is a client that has its server's hello, and not all of its certificate.
    pub fn awaits_certificate(&mut self) -> bool {
        !self.server && self.state == State::Handshaking && self.protection.session().awaits_certificate()
    }

    /// Whether the peer's ChangeCipherSpec has come and its Finished has not.
    fn awaits_finished(&mut self) -> bool {
        self.state == State::Handshaking && self.protection.session().awaits_finished()
    }

    pub(super) fn hold(&mut self, record: &Record<'_>, counters: &Counters) {
        let goes_on = self.state == State::Handshaking;
        if !self.handshake.as_mut().is_some_and(|handshake| goes_on && handshake.hold(record)) {
            counters.records_dropped.add(1);
        }
    }

    /// Shows libssl the held records whose time has come.
    pub(super) fn step_held(&mut self, now: u64, counters: &Counters) {
        if self.state != State::Handshaking {
            return;
        }
        let Some(handshake) = &mut self.handshake else { return };
        let mut held = std::mem::take(&mut handshake.held);
        self.step_those(&mut held, now, counters);
        if let Some(handshake) = self.handshake.as_mut().filter(|_| !matches!(self.state, State::Closed(_))) {
            handshake.held = held;
        }
    }

    /// A ChangeCipherSpec is shown at any time, since libssl refuses it politely, and handshake records of the next epoch
    /// behind it.
    fn step_those(&mut self, held: &mut Vec<Box<[u8]>>, now: u64, counters: &Counters) {
        let is_ccs = |held: &[u8]| held[0] == content_type::CHANGE_CIPHER_SPEC;
        if let Some(at) = held.iter().position(|held| is_ccs(held)) {
            let ccs = held.remove(at);
            self.step(&ccs, now);
            if !self.awaits_finished() {
                held.insert(at, ccs);
                return;
            }
        }
        let mut at = 0;
        while at < held.len() && self.awaits_finished() {
            // What the peer says in the next epoch before it is established is the program's, or the end: it waits.
            if !matches!(held[at][0], content_type::HANDSHAKE | content_type::TLS12_CID) {
                at += 1;
                continue;
            }
            let bytes = held.remove(at);
            match Record::parse_with(&bytes, self.cid.len()) {
                Some((record, _)) if !self.is_expected(&record) => counters.records_dropped.add(1),
                Some((record, _)) if record.content_type == content_type::TLS12_CID => {
                    if self.step_with_cid(&record, now, counters) {
                        held.insert(at, bytes);
                        at += 1;
                    }
                }
                _ => self.step_protected(&bytes, now),
            }
        }
    }

    /// Opens what was held until the handshake was over, which nothing is needed of from then on.
    pub(super) fn open_held(&mut self, now: u64, messages: &mut Datagrams, counters: &Counters) {
        if self.state != State::Established {
            return;
        }
        for held in self.handshake.take().into_iter().flat_map(|handshake| handshake.held) {
            if let Some((record, _)) = Record::parse_with(&held, self.cid.len()) {
                self.receive_record(now, &record, messages, counters);
            }
        }
    }

    /// One step with a record of the next epoch, unless it is one that libssl would give up at.
    pub(super) fn step_protected(&mut self, record: &[u8], now: u64) {
        if record.len() >= HEADER_LEN + self.protection.session().fragment_min() {
            self.step(record, now);
        }
    }

    /// One step of libssl's handshake.
    pub(super) fn step(&mut self, record: &[u8], now: u64) {
        self.protection.outbound().expect_new_flight();
        let left = self.handshake.as_ref().map_or(NEVER, |handshake| handshake.timer.left(now));
        let step = self.protection.session().handshake(record, left);
        self.put_cids();
        match step {
            Step::Waiting => {}
            Step::Finished => {
                let finished = Record::parse(record).filter(|(record, _)| record.epoch == 1);
                self.establish(now, finished.map(|(record, _)| record.sequence));
                return;
            }
            Step::Failed(why) => {
                self.end(CloseReason::Failed);
                self.why = Some(Box::new(why));
                return;
            }
        }
        if self.protection.outbound().waits() {
            self.begin_flight(now);
        }
    }

    /// `finished`: the sequence number of the peer's Finished, where libssl has just taken that.
    pub(super) fn establish(&mut self, now: u64, finished: Option<u64>) {
        let session = self.protection.session();
        session.end_handshake();
        let Some(handshake) = &self.handshake else { return };
        if handshake.require_extended_master_secret && session.ssl().extms_support() != Some(true) {
            session.shutdown();
            self.put_cids();
            self.end(CloseReason::Failed);
            self.why = Some(Box::new(cause::no_extended_master_secret()));
            return;
        }
        self.state = State::Established;
        self.activity.note_heard(now);
        self.message_max = packet_len(session.message_max());
        self.fragment_min = packet_len(session.fragment_min());
        let last_flight_is_ours = self.server != session.ssl().session_reused();
        let native_records = handshake.native_records;
        if last_flight_is_ours {
            self.keep_flight(now);
        } else {
            self.forget_flight();
        }
        if native_records {
            let early = self.conclude_cids();
            self.protection.take_over(self.server, early, finished);
        } else {
            // Only records of our own would have to go on with these numbers.
            self.protection.outbound().take_sealed();
        }
        if let Some(records) = self.protection.records() {
            let room = HEADER_LEN + usize::from(self.fragment_min) + usize::from(self.message_max);
            self.message_max = packet_len(records.content_max(room));
            if self.message_max == 0 {
                // The peer's connection ID fills the packet.
                self.protection.shutdown();
                self.end(CloseReason::Failed);
                self.why = Some(Box::new(cause::no_room_for_messages()));
            }
        }
    }

    /// A C caller may have finished the handshake himself, with SSL_read and the like.
    pub(super) fn catch_up(&mut self, now: u64) {
        if self.state == State::Handshaking && self.protection.session().is_finished() {
            self.establish(now, None);
            self.handshake.take_if(|_| self.state == State::Established);
        }
    }

    /// Does what is due for a handshake.
    pub(super) fn advance_handshake(&mut self, now: u64, counters: &Counters) {
        let Some(handshake) = &mut self.handshake else { return };
        if now >= handshake.deadline {
            counters.handshakes_timed_out.add(1);
            self.why = handshake.alert.map(|description| Box::new(cause::alert_in_clear(description)));
            return self.end(CloseReason::HandshakeTimeout);
        }
        self.advance_flight(now, counters);
    }
}

#[cfg(test)]
mod tests {
    use super::super::begun::{Begun, begun};
    use super::*;

    /// Whoever knows the address of a client in its handshake can send so many, a hundred in a datagram.
    #[test]
    fn of_change_cipher_specs_that_come_too_early_libssl_sees_one() {
        let Begun { mut server, counters, .. } = begun();
        let ccs = [20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1];
        let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
        let before_its_keys = [23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 1];
        let datagram = [&ccs[..], &alert, &before_its_keys].concat().repeat(50);
        let shown = |server: &mut Connection| server.protection.session().inbound().next_in_clear();
        let before = shown(&mut server);
        server.receive(0, &datagram, &mut Datagrams::new(), &counters);
        assert_eq!(server.state(), State::Handshaking);
        // When it comes, and again right away.
        assert_eq!(shown(&mut server) - before, 2);
        // It is held, and as many of the last kind as there is room for.
        assert_eq!(counters.records_dropped.get(), 150 - HELD_RECORDS as u64);
    }

    /// It may be anybody's, but mostly it is the peer's, who does not like our certificate for instance.
    #[test]
    fn an_alert_in_clear_ends_nothing_and_is_told_at_the_deadline() {
        let alert = |level, description| [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, level, description];
        for (alerts, told) in [
            (&[][..], None),
            (&[alert(2, 48)], Some("alert 48")),
            (&[alert(2, 48), alert(1, 90)], Some("alert 48")),
            (&[alert(2, 48), alert(2, 42)], Some("alert 42")),
        ] {
            let Begun { mut server, counters, .. } = begun();
            for alert in alerts {
                server.receive(0, alert, &mut Datagrams::new(), &counters);
            }
            assert_eq!((server.state(), counters.records_dropped.get()), (State::Handshaking, alerts.len() as u64));
            server.advance(u64::MAX / 2, &counters);
            assert_eq!(server.state(), State::Closed(CloseReason::HandshakeTimeout));
            assert_eq!(server.why().is_some(), told.is_some());
            assert!(server.why_text().contains(told.unwrap_or_default()), "{}", server.why_text());
        }
    }

    /// Nor does he fill the memory with what has to wait, and what has ended waits for nothing.
    #[test]
    fn so_much_is_held_until_the_handshake_ends() {
        let before_its_keys = |len: usize| {
            let [high, low] = ((len - HEADER_LEN) as u16).to_be_bytes();
            let header = [content_type::HANDSHAKE, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, high, low];
            [&header[..], &vec![0; len - HEADER_LEN]].concat()
        };
        for (len, most) in [(14, HELD_RECORDS), (HELD_BYTES / 4, 4), (HELD_BYTES / 4 + 1, 3)] {
            let Begun { mut server, counters, .. } = begun();
            for _ in 0..20 {
                server.receive(0, &before_its_keys(len), &mut Datagrams::new(), &counters);
            }
            let held = |server: &Connection| server.handshake.as_ref().unwrap().held.len();
            assert_eq!((held(&server), counters.records_dropped.get()), (most, 20 - most as u64), "{len} bytes each");
            server.advance(u64::MAX / 2, &counters);
            assert_eq!((held(&server), server.state()), (0, State::Closed(CloseReason::HandshakeTimeout)));
        }
    }

    /// For others libssl would make room.
    #[test]
    fn of_a_hello_the_other_fragments_may_follow_and_no_other_hello() {
        let Begun { mut server, .. } = begun();
        for (message_seq, good) in [(0, true), (1, false), (9, false)] {
            let (message_type, body) = (message_type::CLIENT_HELLO, &[0][..]);
            let fragment = Fragment { message_type, length: 300, message_seq, offset: 100, body };
            assert_eq!(server.may_say(&fragment), good);
        }
    }
}
