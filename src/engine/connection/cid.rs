//! Connection IDs while OpenSSL makes the handshake (RFC 9146 3): what its hellos offer, and records of our own that stand
//! between it and the wire as soon as there are keys.

use openssl::error::ErrorStack;

use super::{CloseReason, Connection};
use crate::engine::protection::FATAL;
use crate::engine::records::{Plain, Records, Secrets, Suite};
use crate::engine::stats::Counters;
use crate::tls::cause;
use crate::tls::connection_id::{self, Offer};
use crate::wipe;
use crate::wire::record::{Record, content_type};

/// What a connection offers its peer.
#[derive(Clone, Debug)]
pub struct OwnId {
    /// The connection ID that the peer's records shall carry, which may be empty.
    pub cid: Box<[u8]>,
    /// What is sealed with the peer's ID is padded to a multiple of so many bytes.
    pub padding: u16,
    /// Return routability checks.
    pub checks: bool,
}

impl Connection {
    /// Before the first step of the handshake.
    pub(super) fn offer(&mut self, own: OwnId) -> Result<(), ErrorStack> {
        let offer = Offer { cid: &own.cid, checks: own.checks, fits: |name| Suite::named(name).is_some() };
        if !connection_id::offer(self.protection.session().ssl_mut(), &offer) {
            return Err(ErrorStack::get());
        }
        (self.cid, self.checks) = (own.cid, own.checks);
        self.handshake.iter_mut().for_each(|handshake| handshake.padding = Some(own.padding));
        Ok(())
    }

    fn offers(&self) -> bool {
        self.handshake.as_ref().is_some_and(|handshake| handshake.padding.is_some())
    }

    /// Whether a protected record of the handshake has the ID that was agreed on, if there was an agreement yet.
    pub(super) fn is_expected(&mut self, record: &Record<'_>) -> bool {
        if self.cid.is_empty() {
            return record.content_type != content_type::TLS12_CID;
        }
        let agreed = connection_id::agreed(self.protection.session().ssl()).is_some();
        record.cid == if agreed { &*self.cid } else { &[] }
    }

    /// Our records, from the moment when OpenSSL has their keys.
    fn early(&mut self) -> Option<&mut Records> {
        if self.handshake.as_ref()?.early.is_none() {
            let early = self.make_early();
            wipe::stack();
            self.handshake.as_mut()?.early = early;
        }
        self.handshake.as_mut()?.early.as_deref_mut()
    }

    #[inline(never)]
    fn make_early(&mut self) -> Option<Box<Records>> {
        let padding = self.handshake.as_ref()?.padding?;
        let ssl = self.protection.session().ssl();
        let (agreed, suite, secrets) = (connection_id::agreed(ssl)?, Suite::of(ssl)?, Secrets::of(ssl)?);
        self.checks &= agreed.checks;
        Some(Box::new(Records::with_cid(suite, &secrets, self.server, agreed.theirs, padding)))
    }

    /// What OpenSSL has sealed leaves with the peer's connection ID, if the peer wants one.
    pub(super) fn put_cids(&mut self) {
        if self.offers()
            && self.protection.outbound().has_sealed()
            && self.early().is_some_and(|early| !early.cid().is_empty())
        {
            let Connection { protection, handshake, .. } = self;
            protection.outbound().replace_sealed(|record| handshake.as_mut()?.early.as_mut()?.put_cid(record));
        }
    }

    /// Takes a protected record with our connection ID while OpenSSL awaits the Finished. Returns whether it must be held,
    /// because it belongs to what comes after the handshake.
    pub(super) fn step_with_cid(&mut self, record: &Record<'_>, now: u64, counters: &Counters) -> bool {
        let mut content = vec![0; record.fragment().len()];
        let plain = self.early().and_then(|early| early.look(record, &mut content));
        match plain.map(|Plain { content_type, len }| (content_type, &content[..len])) {
            Some((content_type::HANDSHAKE, content)) => {
                let ordinary = self.early().and_then(|early| early.take_cid(record, content_type::HANDSHAKE, content));
                ordinary.into_iter().for_each(|ordinary| self.step_protected(&ordinary, now));
            }
            Some((content_type::ALERT, [FATAL, description])) => {
                self.end(CloseReason::Failed);
                self.why = Some(Box::new(cause::alert(*description)));
            }
            Some(_) => return true,
            None => counters.records_dropped.add(1),
        }
        false
    }

    /// The handshake is over: if no IDs were agreed on, ours is forgotten. Returns the records of our own that were used so
    /// far.
    pub(super) fn conclude_cids(&mut self) -> Option<Box<Records>> {
        if self.offers() && self.early().is_none() {
            (self.cid, self.checks) = (Box::default(), false);
        }
        self.handshake.as_mut()?.early.take()
    }
}
