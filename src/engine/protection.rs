//! What protects the records of a connection: OpenSSL, which alone makes handshakes, or after that records of our own.

use openssl::ssl::SslRef;

use super::records::{Plain, Records, Suite, Used};
use crate::tls::agreed::Agreed;
use crate::tls::bio::Outbound;
use crate::tls::cause;
use crate::tls::master_secret::Secrets;
use crate::tls::session::{Opened, Session};
use crate::wipe;
use crate::wire::datagrams::Datagrams;
use crate::wire::handshake::{Fragment, message_type};
use crate::wire::record::{PLAINTEXT_MAX, Record, content_type};
use crate::wire::routability::Check;

/// Levels and descriptions of alerts (RFC 5246 7.2).
const WARNING: u8 = 1;
pub const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const NO_RENEGOTIATION: u8 = 100;

/// What protects the records of a connection.
pub enum Protection {
    Openssl(Session),
    Native(Box<Native>),
}

/// All that is left of a connection's handshake, and the records that go on from there.
pub struct Native {
    pub(super) records: Records,
    pub(super) outbound: Outbound,
    pub(super) agreed: Agreed,
    pub(super) secrets: Secrets,
}

impl Protection {
    /// OpenSSL's session: in the handshake there is one.
    pub fn session(&mut self) -> &mut Session {
        match self {
            Protection::Openssl(session) => session,
            Protection::Native(_) => unreachable!("records are taken over only when the handshake is over"),
        }
    }

    /// The handshake is over: takes the records over from OpenSSL, if we can make such records. `early` are those of our own
    /// that stood between OpenSSL and the wire, if any; `finished` is the number of the peer's Finished.
    pub fn take_over(&mut self, server: bool, early: Option<Box<Records>>, finished: Option<u64>) {
        self.take_keys(server, early, finished);
        wipe::stack();
    }

    #[inline(never)]
    fn take_keys(&mut self, server: bool, early: Option<Box<Records>>, finished: Option<u64>) {
        let Protection::Openssl(session) = self else { return };
        let ssl = session.ssl();
        let (Some(suite), Some(secrets)) = (Suite::of(ssl), Secrets::of(ssl)) else { return };
        let agreed = Agreed::of(ssl);
        let (next, nonces) = session.outbound().take_sealed();
        if next == 0 {
            // Our own Finished must have been sealed, but nobody has seen with which number: we might use that number again.
            return;
        }
        let used = Used { next, nonces, opened: finished };
        let outbound = std::mem::take(session.outbound());
        let records = match early {
            None => Records::new(suite, &secrets, server, used),
            Some(early) => {
                let mut records = early.unbox();
                records.go_on_from(used);
                records
            }
        };
        *self = Protection::Native(Box::new(Native { records, outbound, agreed, secrets }));
    }

    /// What has to leave.
    #[inline]
    pub fn outbound(&mut self) -> &mut Outbound {
        match self {
            Protection::Openssl(session) => session.outbound(),
            Protection::Native(native) => &mut native.outbound,
        }
    }

    /// Opens one protected record.
    #[inline]
    pub fn open(&mut self, record: &Record<'_>, messages: &mut Datagrams) -> Opened {
        match self {
            Protection::Openssl(session) if record.content_type == content_type::HANDSHAKE => {
                open_handshake(session, record, messages)
            }
            Protection::Openssl(session)
                if record.content_type == content_type::ALERT && is_mere_warning(session.ssl(), record) =>
            {
                Opened::Nothing
            }
            Protection::Openssl(session) => session.open(record.bytes, messages),
            Protection::Native(native) => native.open(record, messages),
        }
    }

    /// Protects one message.
    #[inline]
    pub fn seal(&mut self, message: &[u8]) -> Result<(), openssl::error::ErrorStack> {
        match self {
            Protection::Openssl(session) => session.seal(message),
            Protection::Native(native) => {
                native.seal(content_type::APPLICATION_DATA, message);
                Ok(())
            }
        }
    }

    /// A datagram with a message about the peer's address, which may have to go to another one than the rest.
    pub fn seal_check(&mut self, check: Check) -> Option<Vec<u8>> {
        let Protection::Native(native) = self else { return None };
        let records = &mut native.records;
        let content = check.to_bytes();
        let mut datagram = vec![0; records.sealed_len(content.len())];
        records.seal(content_type::RETURN_ROUTABILITY_CHECK, &content, &mut datagram)?;
        Some(datagram)
    }

    /// Whether `record` is newer than every one before it. `false` where OpenSSL makes the records.
    pub fn is_newest(&self, record: &Record<'_>) -> bool {
        self.records().is_some_and(|records| records.is_newest(record))
    }

    /// The records, where they are ours.
    pub fn records(&self) -> Option<&Records> {
        match self {
            Protection::Openssl(_) => None,
            Protection::Native(native) => Some(&native.records),
        }
    }

    /// Writes a close_notify alert.
    pub fn shutdown(&mut self) {
        match self {
            Protection::Openssl(session) => session.shutdown(),
            Protection::Native(native) => native.alert(WARNING, CLOSE_NOTIFY),
        }
    }

    /// Whether the keys have reached a limit of their use. OpenSSL sees to its own.
    #[inline]
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Protection::Native(native) if native.records.are_exhausted())
    }

    /// The connection is idle: gives back the memory that only traffic needs.
    pub fn rest(&mut self) {
        match self {
            Protection::Openssl(session) => session.release_buffers(),
            Protection::Native(native) => {
                native.records.rest();
                native.outbound.shrink();
            }
        }
    }

    /// What the handshake has negotiated.
    pub fn negotiated(&self) -> Negotiated<'_> {
        match self {
            Protection::Openssl(session) => Negotiated::Live(session.ssl()),
            Protection::Native(native) => Negotiated::Kept(&native.agreed, &native.secrets),
        }
    }
}

/// What the handshake has negotiated: the SSL knows it while there is one, and then our copy of it.
pub enum Negotiated<'a> {
    Live(&'a SslRef),
    Kept(&'a Agreed, &'a Secrets),
}

impl Negotiated<'_> {
    /// The random of the client's hello.
    pub fn client_random(&self) -> [u8; 32] {
        match self {
            Negotiated::Live(ssl) => {
                let mut random = [0; 32];
                ssl.client_random(&mut random);
                random
            }
            Negotiated::Kept(_, secrets) => secrets.client_random,
        }
    }

    /// Whether the peer is certainly the same: it has shown the same certificate or identity, or one session resumes the
    /// other. Only asked about sessions with connection IDs, whose records are ours.
    pub fn has_peer_of(&self, other: &Negotiated<'_>) -> bool {
        let (Negotiated::Kept(one, secrets), Negotiated::Kept(two, others)) = (self, other) else { return false };
        let same = |one: &Option<Box<[u8]>>, two| one.is_some() && one == two;
        same(&one.certificate, &two.certificate)
            || same(&one.psk_identity, &two.psk_identity)
            || secrets.master == others.master
    }
}

/// After the handshake, a handshake record is the peer's repeated Finished, or it asks for a renegotiation. To the Finished
/// libssl answers with its last flight, message by message; that is taken back, as we send ours, which is packed. A
/// renegotiation it refuses with an alert. That is taken back if something waits to leave already: it is the peer who decides
/// how often it asks.
fn open_handshake(session: &mut Session, record: &Record<'_>, messages: &mut Datagrams) -> Opened {
    let (mark, waits) = (session.outbound().mark(), session.outbound().waits());
    let opened = session.open(record.bytes, messages);
    match session.outbound().written_since(mark) {
        Some(content_type::ALERT) if !matches!(opened, Opened::Failed(_)) => {
            if waits {
                session.outbound().take_back(mark);
            }
            Opened::Empty
        }
        None | Some(content_type::ALERT) => opened,
        Some(_) => {
            session.outbound().take_back(mark);
            Opened::Finished
        }
    }
}

/// Whether this record is a warning, which ends nothing (RFC 5246 7.2.2), such as user_canceled. libssl up to 3.1 counts one
/// such alert as five, and gives the connection up. So if we can open the record we look into it before libssl sees it.
fn is_mere_warning(ssl: &SslRef, record: &Record<'_>) -> bool {
    let warns = warns(ssl, record).unwrap_or(false);
    wipe::stack();
    warns
}

#[inline(never)]
fn warns(ssl: &SslRef, record: &Record<'_>) -> Option<bool> {
    let suite = Suite::of(ssl).filter(|suite| record.fragment().len() == suite.sealed_min() + 2)?;
    let mut content = vec![0; record.fragment().len()];
    let len = Records::new(suite, &Secrets::of(ssl)?, ssl.is_server(), Used::default()).look(record, &mut content)?.len;
    Some(matches!(content[..len], [WARNING, description] if description != CLOSE_NOTIFY))
}

impl Native {
    fn open(&mut self, record: &Record<'_>, messages: &mut Datagrams) -> Opened {
        let mut opened = Opened::Nothing;
        let mut other = None;
        messages.push_with(record.fragment().len(), |room| {
            let Plain { content_type, len } = self.records.open(record, room)?;
            if content_type != content_type::APPLICATION_DATA {
                other = Some((content_type, room[..len].to_vec()));
                return None;
            }
            opened = if len > 0 { Opened::Message } else { Opened::Empty };
            (len > 0).then_some(len)
        });
        if let Some((content_type, content)) = other {
            opened = self.opened_other(content_type, &content);
        }
        if matches!(opened, Opened::Finished) {
            self.records.note_finished(record);
        }
        opened
    }

    /// Alerts, and what the peer may still say of the handshake and of its address.
    fn opened_other(&mut self, content_type: u8, content: &[u8]) -> Opened {
        match (content_type, content) {
            (content_type::ALERT, [_, CLOSE_NOTIFY]) => Opened::CloseNotify,
            (content_type::ALERT, [FATAL, description]) => {
                self.agreed.forget_session();
                Opened::Failed(cause::alert(*description))
            }
            (content_type::HANDSHAKE, message) => match Fragment::parse(message).map(|(first, _)| first.message_type) {
                Some(message_type::FINISHED) => Opened::Finished,
                Some(message_type::CLIENT_HELLO | message_type::HELLO_REQUEST) => {
                    // The peer decides how often it asks, and the program when the answers leave: one may wait at a time.
                    if !self.outbound.waits() {
                        self.alert(WARNING, NO_RENEGOTIATION);
                    }
                    Opened::Empty
                }
                _ => Opened::Empty,
            },
            (content_type::RETURN_ROUTABILITY_CHECK, message) => {
                Check::parse(message).map_or(Opened::Empty, Opened::Check)
            }
            _ => Opened::Empty,
        }
    }

    fn seal(&mut self, content_type: u8, content: &[u8]) {
        debug_assert!(content.len() <= PLAINTEXT_MAX);
        let records = &mut self.records;
        self.outbound.push_with(records.sealed_len(content.len()), |out| records.seal(content_type, content, out));
    }

    fn alert(&mut self, level: u8, description: u8) {
        self.seal(content_type::ALERT, &[level, description]);
    }
}

#[cfg(test)]
impl Protection {
    fn native(&mut self) -> &mut Native {
        let Protection::Native(native) = self else { panic!("OpenSSL's records") };
        native
    }

    pub fn records_mut(&mut self) -> &mut Records {
        &mut self.native().records
    }

    pub fn alert_fatally(&mut self) {
        const INTERNAL_ERROR: u8 = 80;
        self.native().alert(FATAL, INTERNAL_ERROR);
    }

    /// Master secret, write key and read key, each byte inverted.
    pub fn inverted_secrets(&mut self) -> Vec<Vec<u8>> {
        let native = self.native();
        let [write, read] = native.records.keys();
        [&native.secrets.master[..], write, read].map(|secret| secret.iter().map(|byte| !byte).collect()).to_vec()
    }
}
