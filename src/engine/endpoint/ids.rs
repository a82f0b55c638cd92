//! Our connection IDs: which sessions get one, and whether a datagram carries one.

use std::net::SocketAddr;

use super::{ConnectionIds, Endpoint, Kind, OwnId, Seat, Session};
use crate::wire::record::{content_type, records_with};

impl Endpoint {
    /// Adds a connection. From now on the connection ID that it offers leads to it.
    pub(super) fn insert(&mut self, peer: SocketAddr, seat: Seat, kind: Kind) -> Session {
        let cid = seat.cid.clone();
        let session = self.seats.insert(peer, seat, kind);
        self.cids.set(&cid, session);
        session
    }

    /// What is offered in a new handshake; nothing if all connection IDs are taken, as may happen with short ones.
    pub(super) fn own_id(&self) -> Option<OwnId> {
        let ConnectionIds { padding, routability_checks, .. } = *self.config.connection_ids.as_ref()?;
        Some(OwnId { cid: self.cids.choose()?, padding, checks: routability_checks })
    }

    /// Whether a record of the datagram has a connection ID, and so names its session whatever address it comes from.
    pub(super) fn has_cid(&self, datagram: &[u8]) -> bool {
        let mut records = records_with(datagram, self.cids.cid_len());
        self.cids.cid_len() > 0 && records.any(|record| record.content_type == content_type::TLS12_CID)
    }
}
