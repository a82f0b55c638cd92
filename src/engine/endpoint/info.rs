//! What can be asked of an endpoint and of its sessions.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use openssl::ssl::{NameType, SslRef};
use openssl::x509::{X509, X509VerifyResult};

use super::{Endpoint, Error, Seat, Session};
use crate::engine::connection::State;
use crate::engine::protection::Negotiated;
use crate::engine::records;
use crate::engine::settings::Settings;
use crate::engine::stats::{Counters, Stats};
use crate::tls::agreed::Agreed;
use crate::tls::cause::Cause;
use crate::tls::peer;
use crate::tls::resumption::Resumption;
use crate::wipe;

impl Endpoint {
    /// What is known about a session; see [`Info`].
    pub fn info(&self, session: Session) -> Result<Info<'_>, Error> {
        self.seat(session).map(Info)
    }

    pub(super) fn seat(&self, session: Session) -> Result<&Seat, Error> {
        let session = self.own(session)?;
        self.seats.get(session).or_else(|| self.ended.get(&session)).ok_or(Error::Stale)
    }

    /// By our own number.
    #[inline]
    pub(super) fn seat_mut(&mut self, session: Session) -> Option<&mut Seat> {
        self.seats.get_mut(session).or_else(|| self.ended.get_mut(&session))
    }

    /// Attaches a number of the program's, such as a key of a table of its own, to a session; 0 before that.
    pub fn set_user(&mut self, session: Session, user: u64) -> Result<(), Error> {
        let session = self.own(session)?;
        self.seat_mut(session).map(|seat| seat.user = user).ok_or(Error::Stale)
    }

    /// The sessions that are open or will be, in no particular order.
    pub fn sessions(&self) -> impl Iterator<Item = Session> {
        self.seats.iter().filter(|(_, seat)| seat.known).map(|(session, _)| self.public(session))
    }

    /// When [`Endpoint::advance`] is to be called, at the latest; `u64::MAX`: nothing will be due.
    pub fn deadline(&self) -> u64 {
        self.timers.next()
    }

    /// What was counted so far.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.add(&self.counters);
        stats
    }

    /// The counters, for another thread to read.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// How many handshakes with clients are in progress.
    pub fn handshakes(&self) -> usize {
        self.seats.handshakes() as usize
    }

    /// The settings that hold.
    pub fn settings(&self) -> &Settings {
        &self.config.settings
    }
}

/// What is known about a session, while it lives and until the event behind its [`Event::Closed`](super::Event::Closed) is
/// taken. What the handshake has negotiated can be read from [`Event::Opened`](super::Event::Opened) on.
pub struct Info<'a>(pub(super) &'a Seat);

impl<'a> Info<'a> {
    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.connection.peer()
    }

    /// Whether the peer's address has shown that it receives: always, unless the peer has moved there.
    pub fn is_peer_proven(&self) -> bool {
        self.0.unproven.is_none()
    }

    /// Our connection ID, which the peer's records carry; empty without one.
    pub fn connection_id(&self) -> &'a [u8] {
        self.0.connection.cid()
    }

    /// The peer's connection ID, which our records carry; empty without one.
    pub fn peer_connection_id(&self) -> &'a [u8] {
        self.0.connection.peer_cid()
    }

    /// The address of ours that the peer speaks to.
    pub fn local(&self) -> Option<IpAddr> {
        self.0.local
    }

    /// The number that the program has attached.
    pub fn user(&self) -> u64 {
        self.0.user
    }

    /// Whether we are the server of this session.
    pub fn is_server(&self) -> bool {
        self.0.connection.is_server()
    }

    /// Handshaking, established or closed.
    pub fn state(&self) -> State {
        self.0.connection.state()
    }

    /// What OpenSSL says about a session that has failed, and about the peer's certificate, where that is not good; of a
    /// handshake that took too long, the last fatal alert that came in clear, which ends nothing as anybody may have sent it.
    pub fn failure(&self) -> Option<String> {
        let why = Cause::from(self.0.connection.why()?.clone());
        Some(match self.verify_result() {
            X509VerifyResult::OK => why.to_string(),
            bad => format!("{why} ({bad})"),
        })
    }

    /// Bytes of the longest message that can be sent.
    pub fn message_max(&self) -> usize {
        self.0.connection.message_max()
    }

    /// The peer's certificate. [`Info::verify_result`] tells whether it is good.
    pub fn peer_certificate(&self) -> Option<X509> {
        self.ask(SslRef::peer_certificate, Agreed::certificate)
    }

    /// What the check of the peer's certificate came to. `OK` also where there was none to check.
    pub fn verify_result(&self) -> X509VerifyResult {
        self.ask(SslRef::verify_result, |agreed| agreed.verify_result)
    }

    /// The application protocol that was agreed on (ALPN).
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.ask(SslRef::selected_alpn_protocol, |agreed| agreed.alpn.as_deref())
    }

    /// The server name that the client asked for (SNI).
    pub fn server_name(&self) -> Option<&'a str> {
        self.ask(|ssl| ssl.servername(NameType::HOST_NAME), |agreed| agreed.server_name.as_deref())
    }

    /// OpenSSL's name of the cipher suite, such as "ECDHE-ECDSA-AES128-GCM-SHA256".
    pub fn cipher(&self) -> Option<&'static str> {
        self.ask(|ssl| ssl.current_cipher().map(|cipher| cipher.name()), |agreed| agreed.cipher)
    }

    /// Whether an earlier session was resumed, without certificates.
    pub fn is_resumed(&self) -> bool {
        self.ask(SslRef::session_reused, |agreed| agreed.is_resumed)
    }

    /// Whether it comes from another process, and there was no handshake here; see [`Endpoint::import`].
    pub fn is_imported(&self) -> bool {
        self.0.imported
    }

    /// What a client keeps to resume this session later; see [`Connect::resume`](super::Connect::resume).
    pub fn resumption(&self) -> Option<Resumption> {
        self.ask(|ssl| Resumption::of(ssl).filter(|_| self.0.opened), |agreed| agreed.resumption.clone())
    }

    /// The identity that the client gave with a pre-shared key.
    pub fn psk_identity(&self) -> Option<&'a [u8]> {
        self.ask(peer::psk_identity, |agreed| agreed.psk_identity.as_deref())
    }

    /// OpenSSL's name of the SRTP protection profile (RFC 5764), such as "SRTP_AEAD_AES_128_GCM".
    pub fn srtp_profile(&self) -> Option<&'static str> {
        self.ask(|ssl| ssl.selected_srtp_profile().map(|profile| profile.name()), |agreed| agreed.srtp_profile)
    }

    /// Fills `out` with key material for another protocol (RFC 5705).
    pub fn export(&self, label: &str, context: Option<&[u8]>, out: &mut [u8]) -> Result<(), Error> {
        if !self.0.opened {
            return Err(Error::NotEstablished);
        }
        match self.0.connection.negotiated() {
            Negotiated::Live(ssl) => {
                let refused = |why| Error::Invalid(Cause::from(why).to_string());
                ssl.export_keying_material(out, label, context).map_err(refused)
            }
            Negotiated::Kept(_, secrets) => {
                let may_be_asked_for = records::export(secrets, label, context, out);
                wipe::stack();
                match may_be_asked_for {
                    true => Ok(()),
                    false => Err(Error::Invalid("a label of TLS's own, or too long a context".into())),
                }
            }
        }
    }

    /// Asks the SSL, or where it is gone what was kept of it.
    fn ask<T>(&self, live: impl FnOnce(&'a SslRef) -> T, kept: impl FnOnce(&'a Agreed) -> T) -> T {
        match self.0.connection.negotiated() {
            Negotiated::Live(ssl) => live(ssl),
            Negotiated::Kept(agreed, _) => kept(agreed),
        }
    }
}
