//! Datagrams on their way out.

use std::cell::Cell;

use crate::wire::datagrams::Datagrams;

/// Room for datagrams that belongs to no connection now: see [`Outbound::use_room`](super::Outbound::use_room).
pub type SpareRoom = Cell<Option<Box<Outgoing>>>;

/// When so many datagrams that have left stand in front of those that wait, and are half of all, the rest is moved up: so each
/// datagram is moved at most once.
const LEFT_AT_MOST: usize = 64;

/// The datagrams of the last flight, kept to be sent again, then those that only wait to leave.
#[derive(Default)]
pub struct Outgoing {
    pub(super) datagrams: Datagrams,
    /// How many datagrams, from the first on, belong to the last flight.
    pub(super) flight: usize,
    /// How many have left, and how many bytes of the next one (a C caller may read it in pieces).
    left: usize,
    left_bytes: usize,
}

impl Outgoing {
    /// The last flight of a connection that comes from another process. It has left.
    pub fn of_flight<'a>(datagrams: impl Iterator<Item = &'a [u8]>) -> Outgoing {
        let mut outgoing = Outgoing::default();
        datagrams.for_each(|datagram| outgoing.datagrams.push(datagram));
        outgoing.flight = outgoing.datagrams.len();
        outgoing.left = outgoing.flight;
        outgoing
    }

    /// Whether nothing waits and nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.flight == 0 && !self.waits()
    }

    /// What belongs to the last flight.
    pub fn flight(&self) -> impl Iterator<Item = &[u8]> {
        self.datagrams.iter().take(self.flight)
    }

    /// A new flight begins: forgets what has left.
    pub fn begin_flight(&mut self) {
        self.datagrams.drop_first(self.left);
        self.left = 0;
    }

    /// The last flight need not be kept: forgets what has left of it. The rest only waits to leave.
    pub fn forget_flight(&mut self) {
        let gone = self.flight.min(self.left);
        self.datagrams.drop_first(gone);
        self.left -= gone;
        self.flight = 0;
    }

    /// The datagrams of the last flight wait to leave once more.
    pub fn resend(&mut self) {
        if !self.waits() {
            self.datagrams.truncate(self.flight);
        }
        self.left = 0;
        self.left_bytes = 0;
    }

    /// Takes out what waits, to be replaced.
    pub fn take_waiting(&mut self) -> Datagrams {
        let mut waiting = self.datagrams.clone();
        waiting.drop_first(self.left);
        self.datagrams.truncate(self.left);
        waiting
    }

    /// What waits.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.datagrams.iter().skip(self.left)
    }

    /// Replaces everything with `flight`, which counts as sent if everything had left.
    pub fn replace_flight(&mut self, flight: Datagrams) {
        self.flight = flight.len();
        self.left = if self.waits() { 0 } else { self.flight };
        self.left_bytes = 0;
        self.datagrams = flight;
    }

    /// Whether a datagram waits to leave.
    #[inline]
    pub fn waits(&self) -> bool {
        self.left < self.datagrams.len()
    }

    /// The next datagram that has to leave; it counts as gone from now on.
    #[inline]
    pub fn pop(&mut self) -> Option<&[u8]> {
        if !self.waits() {
            self.keep_only_flight();
            return None;
        }
        self.left += 1;
        let from = std::mem::take(&mut self.left_bytes);
        self.datagrams.get(self.left - 1).map(|datagram| &datagram[from..])
    }

    /// See [`Outbound::pop_segments`](super::Outbound::pop_segments).
    pub fn pop_segments(&mut self, max: usize, bytes_max: usize) -> Option<(&[u8], usize)> {
        let begin = self.datagrams.begin(self.left) + self.left_bytes;
        let segment = self.pop()?.len();
        let mut end = begin + segment;
        for _ in 1..max {
            let Some(next) = self.datagrams.get(self.left) else { break };
            let len = next.len();
            if len > segment || end + len - begin > bytes_max {
                break;
            }
            end += len;
            self.left += 1;
            if len < segment {
                break;
            }
        }
        Some((self.datagrams.slice(begin..end), segment))
    }

    /// As many whole datagrams as fit, back to back; a piece of the first where not even that fits.
    pub fn read(&mut self, out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        while let Some(datagram) = self.datagrams.get(self.left) {
            let datagram = &datagram[self.left_bytes..];
            let room = out.len() - len;
            if datagram.len() <= room {
                out[len..len + datagram.len()].copy_from_slice(datagram);
                len += datagram.len();
                self.left += 1;
                self.left_bytes = 0;
            } else {
                if len == 0 {
                    out.copy_from_slice(&datagram[..room]);
                    len = room;
                    self.left_bytes += room;
                }
                break;
            }
        }
        (len > 0).then_some(len)
    }

    /// Bytes of the next datagram that has to leave.
    pub fn next_len(&self) -> usize {
        self.datagrams.get(self.left).map_or(0, |datagram| datagram.len() - self.left_bytes)
    }

    /// Bytes that wait to leave.
    pub fn waiting_len(&self) -> usize {
        self.datagrams.total_len() - self.datagrams.begin(self.left) - self.left_bytes
    }

    /// Forgets what has left and is not kept even though more waits: if a program always has more to send, something always
    /// does.
    #[inline]
    pub fn move_up(&mut self) {
        if self.left.saturating_sub(self.flight) >= LEFT_AT_MOST.max(self.datagrams.len() / 2) {
            self.datagrams.remove(self.flight..self.left);
            self.left = self.flight;
        }
    }

    /// What waits counts as gone.
    pub fn skip_waiting(&mut self) {
        self.left = self.datagrams.len();
        self.left_bytes = 0;
    }

    /// Forgets everything but the last flight, all of which has left.
    pub fn keep_only_flight(&mut self) {
        self.datagrams.truncate(self.flight);
        self.left = self.flight;
    }
}
