//! A connection that goes to another process, and one that comes from there.

use std::borrow::Cow;
use std::net::IpAddr;

use openssl::ssl::SslRef;

use super::{Activity, CloseReason, Connection, Flight, State, packet_len, payload};
use crate::engine::export::{self, Entry};
use crate::engine::protection::{Native, Protection};
use crate::engine::records::{Records, Secrets};
use crate::engine::settings::Settings;
use crate::tls::agreed::{Agreed, cipher_name, srtp_name, srtp_number};
use crate::tls::bio::Outbound;
use crate::tls::peer;
use crate::tls::resumption::Resumption;

impl Connection {
    /// The connection as it is exported, with what the endpoint knows of it; `None` if it is not established, or OpenSSL makes
    /// its records.
    pub(crate) fn entry(&self, now: u64, local: Option<IpAddr>, user: u64) -> Option<Entry<'_>> {
        let Protection::Native(native) = &self.protection else { return None };
        if self.state != State::Established || self.is_forked() {
            return None;
        }
        let Native { records, outbound, agreed, secrets, .. } = &**native;
        let resumption = agreed.resumption.as_ref().and_then(|kept| kept.to_der().ok());
        let flight = self.flight.as_ref().map(|flight| {
            let (sequence, datagrams) = outbound.flight();
            let kept_for = flight.kept_until.saturating_sub(now);
            export::Flight { sequence, kept_for, datagrams: datagrams.collect() }
        });
        Some(Entry {
            server: self.server,
            is_resumed: agreed.is_resumed,
            extended_master_secret: agreed.extended_master_secret,
            suite: records.suite(),
            cipher: agreed.cipher_number,
            srtp: agreed.srtp_profile.map_or(0, srtp_number),
            master: &secrets.master,
            client_random: &secrets.client_random,
            server_random: &secrets.server_random,
            progress: records.progress(),
            message_max: self.message_max,
            heard_ago: now.saturating_sub(self.activity.heard),
            used_ago: now.saturating_sub(self.activity.used),
            user,
            peer: self.peer,
            local,
            verify_result: agreed.verify_result.as_raw(),
            our_id: &self.cid,
            peer_id: records.cid(),
            alpn: agreed.alpn.as_deref(),
            server_name: agreed.server_name.as_deref(),
            psk_identity: agreed.psk_identity.as_deref(),
            certificate: agreed.certificate.as_deref(),
            resumption: resumption.map(Cow::Owned),
            checks: self.checks,
            flight,
        })
    }

    /// Stands still until [`Connection::go_on`]: nothing is sealed or opened. What was sealed before still leaves.
    pub(crate) fn stand_still(&mut self) {
        self.state = State::Closed(CloseReason::Exported);
    }

    /// Undoes [`Connection::stand_still`]. Nobody has listened since then, so this time does not count as the peer's silence.
    pub(crate) fn go_on(&mut self, stood: u64) {
        if self.state == State::Closed(CloseReason::Exported) {
            self.state = State::Established;
            self.activity.heard += stood;
        }
    }

    /// Goes on with a connection of another process. `ssl` is any that is made with the context that it is to have; `padding`
    /// as in [`OwnId`](super::OwnId). `None` when something of the entry means nothing here.
    #[inline(never)]
    pub(crate) fn import(
        entry: &Entry<'_>,
        ssl: &SslRef,
        settings: &Settings,
        padding: u16,
        now: u64,
    ) -> Option<Connection> {
        let agreed = agreed_of(entry, ssl)?;
        let secrets = Secrets {
            master: *entry.master,
            client_random: *entry.client_random,
            server_random: *entry.server_random,
            digest: entry.suite.digest(),
        };
        let mut records = Records::with_cid(entry.suite, &secrets, entry.server, entry.peer_id.into(), padding);
        records.go_on_elsewhere(entry.progress.clone());
        let payload = payload(settings.mtu, entry.peer);
        let message_max = entry.message_max.min(packet_len(records.content_max(payload)));
        let mut outbound = Outbound::new(payload, entry.peer);
        let flight = entry.flight.as_ref().map(|kept| {
            outbound.keep_flight(kept.sequence, kept.datagrams.iter().copied());
            Box::new(Flight::new(now, now.saturating_add(kept.kept_for)))
        });
        let protection = Protection::Native(Box::new(Native { records, outbound, agreed, secrets }));
        Some(Connection {
            state: State::Established,
            checks: entry.checks,
            message_max,
            fragment_min: packet_len(entry.suite.sealed_min()),
            cid: entry.our_id.into(),
            activity: Activity {
                heard: now.saturating_sub(entry.heard_ago),
                used: now.saturating_sub(entry.used_ago),
                // It has no expanded keys until it is used.
                released: true,
                ..Activity::new(settings, now)
            },
            flight,
            ..Connection::new(protection, entry.server, entry.peer, settings, now)
        })
    }
}

/// What its handshake has negotiated, in the names that this process's OpenSSL has for it.
fn agreed_of(entry: &Entry<'_>, ssl: &SslRef) -> Option<Agreed> {
    let srtp_profile = match entry.srtp {
        0 => None,
        number => Some(srtp_name(number)?),
    };
    let resumption = match &entry.resumption {
        None => None,
        Some(der) => Some(Resumption::from_der(der, ssl.ssl_context().to_owned()).ok()?),
    };
    Some(Agreed {
        cipher: Some(cipher_name(ssl, entry.cipher)?),
        cipher_number: entry.cipher,
        verify_result: peer::verify_result(entry.verify_result),
        alpn: entry.alpn.map(Box::from),
        server_name: entry.server_name.map(Box::from),
        psk_identity: entry.psk_identity.map(Box::from),
        srtp_profile,
        is_resumed: entry.is_resumed,
        extended_master_secret: entry.extended_master_secret,
        resumption,
        // It is in no cache of this process.
        cached: None,
        certificate: entry.certificate.map(Box::from),
    })
}
