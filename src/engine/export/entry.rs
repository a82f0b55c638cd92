//! One session in an export, in the order of docs/session-export.md. Numbers have their highest byte first.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::seal::CHUNK_MAX;
use crate::engine::records::{Progress, Suite};
use crate::wipe;

/// Whether we are the server, whether an earlier session was resumed, and whether the last flight is there.
const SERVER: u8 = 1;
const RESUMED: u8 = 2;
const FLIGHT: u8 = 4;
/// The peer takes part in return routability checks.
const CHECKS: u8 = 8;
/// The master secret is bound to the handshake.
const EXTENDED_MASTER_SECRET: u8 = 16;

/// An exported session.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whether we are its server.
    pub server: bool,
    /// Whether it has resumed an earlier one.
    pub is_resumed: bool,
    /// Whether its master secret is bound to its handshake (RFC 7627).
    pub extended_master_secret: bool,
    /// How its records are protected.
    pub suite: Suite,
    /// The cipher suite's number on the wire.
    pub cipher: [u8; 2],
    /// The protection profile of SRTP; 0: none.
    pub srtp: u16,
    /// The master secret: what its keys are made of.
    pub master: &'a [u8; 48],
    /// The random of the ClientHello.
    pub client_random: &'a [u8; 32],
    /// The random of the ServerHello.
    pub server_random: &'a [u8; 32],
    /// How far its records have come.
    pub progress: Progress,
    /// Bytes of the longest message.
    pub message_max: u16,
    /// How long ago the peer was heard, in microseconds.
    pub heard_ago: u64,
    /// How long ago the session was used, in microseconds.
    pub used_ago: u64,
    /// The program's number.
    pub user: u64,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Ours that it speaks to.
    pub local: Option<IpAddr>,
    /// What the check of the peer's certificate came to, as OpenSSL counts.
    pub verify_result: i32,
    /// The Connection ID (RFC 9146) of ours that the peer writes; empty: none.
    pub our_id: &'a [u8],
    /// The peer's, which we write; empty: none.
    pub peer_id: &'a [u8],
    /// The application protocol.
    pub alpn: Option<&'a [u8]>,
    /// The name that the client asked for.
    pub server_name: Option<&'a str>,
    /// The identity that the client gave with a pre-shared key.
    pub psk_identity: Option<&'a [u8]>,
    /// The peer's certificate in DER.
    pub certificate: Option<&'a [u8]>,
    /// A client's session, to be resumed later, in DER.
    pub resumption: Option<Cow<'a, [u8]>>,
    /// Whether the peer answers return routability checks (RFC 9853).
    pub checks: bool,
    /// The last flight, when the peer may not have got it yet.
    pub flight: Option<Flight<'a>>,
}

/// The last flight of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight<'a> {
    /// The number of the next record in clear.
    pub sequence: u64,
    /// How much longer it is kept, in microseconds.
    pub kept_for: u64,
    /// Its datagrams.
    pub datagrams: Vec<&'a [u8]>,
}

/// Without what is secret in it.
impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("peer", &self.peer).field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl<'a> Entry<'a> {
    /// Bytes that it takes up; `None` if it is too long to be exported.
    pub fn encoded_len(&self) -> Option<usize> {
        let options = [self.alpn, self.server_name.map(str::as_bytes), self.psk_identity, self.certificate];
        let options = options.into_iter().chain([self.resumption.as_deref()]).flatten().map(<[u8]>::len);
        let flight = self.flight.iter().flat_map(|flight| &flight.datagrams).map(|datagram| 2 + datagram.len());
        let short = |len: &usize| *len < usize::from(u16::MAX);
        let fits = options.clone().chain(flight.clone()).all(|len| short(&len))
            && self.progress.taken.len() <= 255
            && self.our_id.len() <= 255
            && self.peer_id.len() <= 255
            && self.flight.iter().all(|flight| flight.datagrams.len() <= 255);
        // More than the members of fixed length take up: 274, with addresses of IPv6 and a flight.
        let len = 288
            + 8 * self.progress.taken.len()
            + self.our_id.len()
            + self.peer_id.len()
            + options.sum::<usize>()
            + flight.sum::<usize>();
        (fits && len <= CHUNK_MAX).then_some(len)
    }

    /// Overwrites the part that it owns, which contains a secret.
    pub fn wipe(&mut self) {
        if let Some(Cow::Owned(resumption)) = &mut self.resumption {
            wipe::bytes(resumption);
        }
    }

    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.server, SERVER) | flag(self.is_resumed, RESUMED) | flag(self.checks, CHECKS);
        let flags = flags | flag(self.extended_master_secret, EXTENDED_MASTER_SECRET);
        out.push(flags | flag(self.flight.is_some(), FLIGHT));
        out.push(match self.suite {
            Suite::Aes128Gcm => 1,
            Suite::Aes256Gcm => 2,
            Suite::Chacha20Poly1305 => 3,
        });
        out.extend_from_slice(&self.cipher);
        out.extend_from_slice(&self.srtp.to_be_bytes());
        out.extend_from_slice(self.master);
        out.extend_from_slice(self.client_random);
        out.extend_from_slice(self.server_random);
        let Progress { next, taken, sealed_blocks, failed, finished, window } = &self.progress;
        for number in [*next, *sealed_blocks, *failed, finished.map_or(0, |number| number + 1), window.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&window.1.to_be_bytes());
        out.push(taken.len() as u8);
        taken.iter().for_each(|nonce| out.extend_from_slice(&nonce.to_be_bytes()));
        out.extend_from_slice(&self.message_max.to_be_bytes());
        for number in [self.heard_ago, self.used_ago, self.user] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        put_ip(out, Some(self.peer.ip()));
        out.extend_from_slice(&self.peer.port().to_be_bytes());
        if let SocketAddr::V6(v6) = self.peer {
            out.extend_from_slice(&v6.scope_id().to_be_bytes());
        }
        put_ip(out, self.local);
        out.extend_from_slice(&self.verify_result.to_be_bytes());
        for id in [self.our_id, self.peer_id] {
            out.push(id.len() as u8);
            out.extend_from_slice(id);
        }
        put_option(out, self.alpn);
        put_option(out, self.server_name.map(str::as_bytes));
        put_option(out, self.psk_identity);
        put_option(out, self.certificate);
        put_option(out, self.resumption.as_deref());
        if let Some(flight) = &self.flight {
            out.extend_from_slice(&flight.sequence.to_be_bytes());
            out.extend_from_slice(&flight.kept_for.to_be_bytes());
            out.push(flight.datagrams.len() as u8);
            flight.datagrams.iter().for_each(|datagram| put_option(out, Some(datagram)));
        }
    }

    /// Takes the first entry off `from`; `None` if there is none.
    pub fn decode(from: &mut &'a [u8]) -> Option<Entry<'a>> {
        let [flags, suite] = *array(from)?;
        let suite = match suite {
            1 => Suite::Aes128Gcm,
            2 => Suite::Aes256Gcm,
            3 => Suite::Chacha20Poly1305,
            _ => return None,
        };
        let cipher = *array(from)?;
        let srtp = u16::from_be_bytes(*array(from)?);
        let (master, client_random, server_random) = (array(from)?, array(from)?, array(from)?);
        let (next, sealed_blocks, failed) = (number(from)?, number(from)?, number(from)?);
        let finished = number(from)?.checked_sub(1);
        let window = (number(from)?, u128::from_be_bytes(*array(from)?));
        let [count] = *array(from)?;
        let taken = (0..count).map(|_| number(from)).collect::<Option<Vec<_>>>()?;
        let entry = Entry {
            server: flags & SERVER != 0,
            is_resumed: flags & RESUMED != 0,
            extended_master_secret: flags & EXTENDED_MASTER_SECRET != 0,
            suite,
            cipher,
            srtp,
            master,
            client_random,
            server_random,
            progress: Progress { next, taken, sealed_blocks, failed, finished, window },
            message_max: u16::from_be_bytes(*array(from)?),
            heard_ago: number(from)?,
            used_ago: number(from)?,
            user: number(from)?,
            peer: take_peer(from)?,
            local: take_ip(from)?,
            verify_result: i32::from_be_bytes(*array(from)?),
            our_id: take_id(from)?,
            peer_id: take_id(from)?,
            alpn: take_option(from)?,
            server_name: match take_option(from)? {
                Some(name) => Some(str::from_utf8(name).ok()?),
                None => None,
            },
            psk_identity: take_option(from)?,
            certificate: take_option(from)?,
            resumption: take_option(from)?.map(Cow::Borrowed),
            checks: flags & CHECKS != 0,
            flight: if flags & FLIGHT != 0 { Some(take_flight(from)?) } else { None },
        };
        let known = flags & !(SERVER | RESUMED | FLIGHT | CHECKS | EXTENDED_MASTER_SECRET) == 0;
        (known && entry.message_max > 0 && entry.progress.is_possible()).then_some(entry)
    }
}

fn take_flight<'a>(from: &mut &'a [u8]) -> Option<Flight<'a>> {
    let (sequence, kept_for) = (number(from)?, number(from)?);
    let [count] = *array(from)?;
    let datagrams = (0..count).map(|_| take_option(from)?).collect::<Option<_>>()?;
    // The number of a record has 48 bits.
    (sequence >> 48 == 0).then_some(Flight { sequence, kept_for, datagrams })
}

/// The family, 4 or 6, and the bytes of the address; 0 for none.
fn put_ip(out: &mut Vec<u8>, ip: Option<IpAddr>) {
    match ip {
        None => out.push(0),
        Some(IpAddr::V4(v4)) => {
            out.push(4);
            out.extend_from_slice(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            out.push(6);
            out.extend_from_slice(&v6.octets());
        }
    }
}

fn take_ip(from: &mut &[u8]) -> Option<Option<IpAddr>> {
    match *array(from)? {
        [0] => Some(None),
        [4] => Some(Some(Ipv4Addr::from(*array::<4>(from)?).into())),
        [6] => Some(Some(Ipv6Addr::from(*array::<16>(from)?).into())),
        _ => None,
    }
}

fn take_peer(from: &mut &[u8]) -> Option<SocketAddr> {
    let ip = take_ip(from)??;
    let port = u16::from_be_bytes(*array(from)?);
    match ip {
        IpAddr::V4(_) => Some(SocketAddr::new(ip, port)),
        IpAddr::V6(v6) => Some(SocketAddrV6::new(v6, port, 0, u32::from_be_bytes(*array(from)?)).into()),
    }
}

/// One more than the length, and the bytes; 0 for none.
fn put_option(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.extend_from_slice(&bytes.map_or(0, |bytes| bytes.len() as u16 + 1).to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn take_option<'a>(from: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match u16::from_be_bytes(*array(from)?) {
        0 => Some(None),
        more => from.split_off(..usize::from(more) - 1).map(Some),
    }
}

fn take_id<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [len] = *array(from)?;
    from.split_off(..usize::from(len))
}

fn number(from: &mut &[u8]) -> Option<u64> {
    array(from).map(|bytes| u64::from_be_bytes(*bytes))
}

fn array<'a, const LEN: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; LEN]> {
    let (first, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(first)
}
