//! An established connection: records come in, messages go out, and the peer may move to another address.

use std::net::SocketAddr;

use super::{CloseReason, Connection, Heard, SendError, State, headers, is_change_cipher_spec, packet_len};
use crate::engine::stats::Counters;
use crate::tls::session::Opened;
use crate::wire::datagrams::Datagrams;
use crate::wire::record::{Record, content_type};
use crate::wire::routability::Check;

impl Connection {
    pub(super) fn established_record(
        &mut self,
        now: u64,
        record: &Record<'_>,
        messages: &mut Datagrams,
        counters: &Counters,
    ) -> Heard {
        if self.flight.is_some() && self.may_repeat_flight(record) {
            self.answer_repeat(false, now, counters);
            return Heard::default();
        }
        let known = match record.content_type {
            content_type::APPLICATION_DATA | content_type::ALERT | content_type::HANDSHAKE => true,
            content_type::RETURN_ROUTABILITY_CHECK => self.checks,
            content_type::TLS12_CID => !self.cid.is_empty(),
            _ => false,
        };
        if !known
            || record.epoch != 1
            || !self.has_our_cid(record)
            || record.fragment().len() < self.fragment_min.into()
        {
            counters.records_dropped.add(1);
            return Heard::default();
        }
        let heard = self.open(now, record, messages, counters);
        if heard.authentic {
            self.activity.note_heard(now);
            if matches!(self.state, State::Closed(CloseReason::ByPeer)) {
                counters.closed_by_peer.add(1);
            }
        }
        heard
    }

    /// Whether the peer seems to repeat its last flight, without a new Finished that would prove it: by a ChangeCipherSpec, or
    /// with connection IDs by the Finished under its old number.
    fn may_repeat_flight(&self, record: &Record<'_>) -> bool {
        match record.epoch {
            0 => is_change_cipher_spec(record),
            _ => {
                record.content_type == content_type::TLS12_CID
                    && self.has_our_cid(record)
                    && self.protection.records().is_some_and(|records| records.is_finished(record))
            }
        }
    }

    /// Empty IDs, which most connections have, are not compared: memcmp would do a masked read of no bytes at an address
    /// without memory, for which processors with AVX-512 take longer than for the rest of the record.
    fn has_our_cid(&self, record: &Record<'_>) -> bool {
        if self.cid.is_empty() { record.cid.is_empty() } else { record.cid == &*self.cid }
    }

    fn open(&mut self, now: u64, record: &Record<'_>, messages: &mut Datagrams, counters: &Counters) -> Heard {
        let (mut check, newest) = (None, self.protection.is_newest(record));
        match self.protection.open(record, messages) {
            Opened::Message => self.forget_flight(),
            Opened::Empty if record.content_type == content_type::APPLICATION_DATA => self.forget_flight(),
            Opened::Empty => {}
            Opened::Nothing => {
                // Anybody who knows the peer's address can send what does not open: that must not take up memory.
                if self.activity.released {
                    self.protection.rest();
                }
                if self.protection.is_exhausted() {
                    self.exhaust();
                }
                return Heard::default();
            }
            Opened::Finished => self.answer_repeat(true, now, counters),
            Opened::Check(message) => check = Some(message).filter(|_| self.checks),
            Opened::CloseNotify => self.end(CloseReason::ByPeer),
            Opened::Failed(why) => {
                self.end(CloseReason::Failed);
                self.why = Some(Box::new(why));
            }
        }
        Heard { authentic: true, newest, check }
    }

    /// Protects a message; the datagram waits in [`Connection::transmit`].
    pub fn send(&mut self, now: u64, message: &[u8], counters: &Counters) -> Result<(), SendError> {
        self.catch_up(now);
        if self.state != State::Established {
            return Err(SendError::NotEstablished);
        }
        if self.is_forked() {
            return Err(SendError::Forked);
        }
        if message.len() > self.message_max() {
            counters.messages_too_long.add(1);
            return Err(SendError::TooLong { max: self.message_max() });
        }
        if self.protection.is_exhausted() {
            self.exhaust();
            return Err(SendError::NotEstablished);
        }
        self.protection.seal(message).map_err(|why| {
            self.why = Some(Box::new(why));
            SendError::Failed
        })?;
        self.activity.note_used(now);
        counters.messages_out.add(1);
        Ok(())
    }

    /// The keys have reached a limit of their use: the peer must begin a new handshake.
    pub(super) fn exhaust(&mut self) {
        self.protection.shutdown();
        self.end(CloseReason::Exhausted);
    }

    /// The peer has moved to this address. If the headers of IP are longer there, messages must be shorter.
    pub(in crate::engine) fn move_to(&mut self, peer: SocketAddr) {
        if let Some(records) = self.protection.records() {
            let (message_max, had) = *self.home.get_or_insert((self.message_max, headers(self.peer)));
            self.message_max = match headers(peer).saturating_sub(had) {
                0 => message_max,
                more => packet_len(records.content_max(records.sealed_len(message_max.into()) - usize::from(more))),
            };
        }
        self.peer = peer;
    }

    /// A datagram with a message about an address.
    pub(in crate::engine) fn seal_check(&mut self, check: Check) -> Option<Vec<u8>> {
        if self.state == State::Established && !self.is_forked() { self.protection.seal_check(check) } else { None }
    }

    /// Bytes of the datagram for a message of `len` bytes, if the records are ours.
    pub(in crate::engine) fn sealed_len(&self, len: usize) -> Option<usize> {
        self.protection.records().map(|records| records.sealed_len(len))
    }
}
