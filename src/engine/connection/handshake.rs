//! The handshake of a connection: what libssl gets to see of the peer's records, and our flights, sent until they are answered.

use super::{CloseReason, Connection, NEVER, State, is_change_cipher_spec, micros, packet_len, payload, timeouts};
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

/// A flight is not repeated sooner than this after it was sent last, however often the peer repeats his: his flight may
/// be several datagrams, and the network may double them.
const REPEAT_SPACING: u64 = 50_000;

/// Flights sent again because the peer repeated his, at most: what he sends in clear may be forged.
const REPEATS_MAX: u8 = 64;

/// How long the last flight is kept for a peer that has not got it: twice the maximum segment lifetime (RFC 6347 4.2.4).
const LAST_FLIGHT_KEPT: u64 = 240_000_000;

/// Records that wait for their keys, and all their bytes.
const HELD_RECORDS: usize = 16;
const HELD_BYTES: usize = 16 * 1024;

/// Sizes of IP packets to step down to, and how many timeouts of one flight are one step.
const SMALLER_MTUS: [u16; 2] = [576, 256];
const TIMEOUTS_PER_STEP: u32 = 4;

/// What only a handshake needs: an established connection has none of it.
pub(super) struct Handshake {
    deadline: u64,
    /// When our flight is sent again, and how long that was waited for.
    due: u64,
    timeout: u64,
    timeouts: u32,
    first_timeout: u64,
    longest_timeout: u64,
    /// When it is sent again before that, and whether that was arranged since the last timeout. See [`Connection::hasten`].
    sooner: u64,
    hastened: bool,
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
        let [first_timeout, longest_timeout] = timeouts(settings);
        Handshake {
            deadline: now.saturating_add(micros(settings.handshake_timeout)),
            due: NEVER,
            timeout: 0,
            timeouts: 0,
            first_timeout,
            longest_timeout,
            sooner: NEVER,
            hastened: false,
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
        self.due.min(self.sooner).min(self.deadline)
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
                let flight_waits = self.handshake.as_ref().is_some_and(|handshake| handshake.due != NEVER);
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

    /// The peer speaks under the new keys, so it has what we have said, and what it has said of the handshake is lost or was
    /// overtaken. It repeats that when we repeat our Finished (RFC 6347 4.2.4), for which our timer need not run out. But it
    /// may be anybody who speaks: so that is done once between two timeouts.
    fn hasten(&mut self, now: u64) {
        let finished_is_out = self.protection.outbound().has_sealed();
        if let Some(handshake) = self.handshake.as_mut().filter(|_| finished_is_out && self.state == State::Handshaking)
            && !handshake.hastened
            && handshake.due < handshake.deadline
        {
            handshake.hastened = true;
            handshake.sooner = now.saturating_add(REPEAT_SPACING);
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
        let left = self.handshake.as_ref().map_or(NEVER, |handshake| handshake.due.saturating_sub(now));
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
        if self.protection.outbound().waits()
            && let Some(handshake) = &mut self.handshake
        {
            handshake.timeout = handshake.first_timeout;
            handshake.timeouts = 0;
            handshake.due = now.saturating_add(handshake.timeout);
            (handshake.sooner, handshake.hastened) = (NEVER, false);
            self.note_flight_sent(now);
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
        if !last_flight_is_ours {
            self.forget_flight();
        } else if let Some(flight) = &mut self.flight {
            flight.sent = now;
            flight.kept_until = now.saturating_add(LAST_FLIGHT_KEPT);
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
            && let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.due != NEVER)
        {
            (handshake.due, handshake.sooner) = (handshake.deadline, NEVER);
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
        if now < handshake.due.min(handshake.sooner) {
            return;
        }
        if now >= std::mem::replace(&mut handshake.sooner, NEVER) {
            handshake.due = now.saturating_add(handshake.timeout);
            counters.flights_resent_on_repeat.add(1);
            return self.send_flight_again(now);
        }
        // Nothing has come back: the flight is sent again, in smaller datagrams if that has happened often.
        handshake.timeouts += 1;
        handshake.timeout = handshake.timeout.saturating_mul(2).min(handshake.longest_timeout);
        handshake.due = now.saturating_add(handshake.timeout);
        handshake.hastened = false;
        let step = (handshake.timeouts / TIMEOUTS_PER_STEP) as usize;
        if handshake.timeouts.is_multiple_of(TIMEOUTS_PER_STEP) && step <= SMALLER_MTUS.len() {
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
        let left = self.handshake.as_ref().map_or(NEVER, |handshake| handshake.due.saturating_sub(now));
        if self.protection.session().repeats_by_libssl() && self.protection.session().write_again(left) {
            self.put_cids();
        } else {
            self.protection.outbound().resend();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::thread;
    use std::time::Duration;

    use openssl::error::ErrorStack;
    use openssl::ssl::{SslContext, SslMethod, SslRef};

    use super::super::{TIMEOUT_MIN, Terms};
    use super::*;
    use crate::wire::hello_verify::HelloVerifyRequest;

    /// A client that goes on, and its hello; the server that has answered that.
    struct Begun {
        client: Connection,
        hello: Vec<u8>,
        server: Connection,
        counters: Counters,
    }

    fn begun() -> Begun {
        let mut context = SslContext::builder(SslMethod::dtls()).unwrap();
        context.set_cipher_list("PSK-AES128-GCM-SHA256").unwrap();
        context.set_psk_server_callback(|_, _, _| Ok(0));
        context.set_psk_client_callback(|_, _, _, _| Ok(0));
        let (context, settings) = (context.build(), Settings::default());
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let prepare = |_: &mut SslRef| Ok::<(), ErrorStack>(());
        let mut client = Connection::connect(&context, &settings, peer, None, 0, prepare).unwrap();
        let hello = client.transmit().unwrap().to_vec();
        let parsed = ClientHello::parse(&hello).unwrap();
        let terms = Terms { listen: false, own: None };
        let mut server = *Connection::accept(&context, &settings, peer, &parsed, &hello, terms, 0).unwrap();
        while server.transmit().is_some() {}
        Begun { client, hello, server, counters: Counters::default() }
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

    /// RFC 6347 4.2.4.1 wants a second; who wants none does not get it.
    #[test]
    fn no_setting_makes_a_flight_go_out_without_a_pause() {
        let settings =
            Settings { first_timeout: Duration::ZERO, longest_timeout: Duration::ZERO, ..Settings::default() };
        let handshake = Handshake::new(&settings, None, 0);
        assert_eq!([handshake.first_timeout, handshake.longest_timeout], [TIMEOUT_MIN; 2]);
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
}
