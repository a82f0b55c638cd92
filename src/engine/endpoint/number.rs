//! Numbers of sessions where a program has several endpoints, as a server has one for each worker: no two sessions have the
//! same.

use super::{Endpoint, Error, Session};

/// Where the endpoint's number stands in the number of a session: above the places of so many.
const NUMBER_SHIFT: u32 = 24;

/// Sessions that an endpoint with a number can have.
pub(crate) const NUMBERED_SESSIONS_MAX: u32 = (1 << NUMBER_SHIFT) - 2;

impl Endpoint {
    /// Gives the endpoint a number among those of one program, before it has sessions.
    pub(crate) fn set_number(&mut self, number: u8) {
        self.brand = u64::from(number) << NUMBER_SHIFT;
        self.numbered = true;
    }

    /// Whether it is one of several endpoints of a server.
    pub(crate) fn is_numbered(&self) -> bool {
        self.numbered
    }

    /// The number of the endpoint that has a session.
    pub(crate) fn number_of(session: Session) -> u8 {
        (session.as_u64() >> NUMBER_SHIFT) as u8
    }

    /// Our number for one that the program gives. The number of another endpoint's session finds nothing here.
    pub(super) fn own(&self, session: Session) -> Result<Session, Error> {
        Session::from_u64(session.as_u64() ^ self.brand).ok_or(Error::Stale)
    }

    /// The program's number of a session.
    pub(super) fn public(&self, own: Session) -> Session {
        Session::from_u64(own.as_u64() ^ self.brand).unwrap_or(own)
    }
}
