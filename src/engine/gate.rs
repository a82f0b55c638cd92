//! The stateless stage: what to do with a datagram of a peer that nobody knows (RFC 6347 4.2.1).
//!
//! A stranger costs two hashes and an answer shorter than what he sent; nothing is allocated and nothing is kept until
//! he has shown that he receives what is sent to his address.

use std::net::{Ipv4Addr, SocketAddr};

use super::cookie::CookieJar;
use super::stats::Counters;
use crate::wire::hello::ClientHello;
use crate::wire::hello_verify::HelloVerifyRequest;

/// What is to be done with a stranger's datagram.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// Nothing.
    Drop,
    /// Send this to him.
    Answer(HelloVerifyRequest),
    /// Begin a handshake: the peer has returned his cookie in this hello.
    Proven(ClientHello<'a>),
}

/// Whether this can be the address of one party. What is sent to a group or to all would be answered by many. The unspecified
/// address is what a C caller sees when it has left too little room for an IPv6 address.
pub fn is_somebody(peer: &SocketAddr) -> bool {
    let ip = peer.ip().to_canonical();
    peer.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != Ipv4Addr::BROADCAST
}

/// Decides what to do with `datagram`, which came from `peer` at `now`, and counts it.
pub fn examine<'a>(
    jar: &mut CookieJar,
    now: u64,
    peer: &SocketAddr,
    datagram: &'a [u8],
    counters: &Counters,
) -> Verdict<'a> {
    if !is_somebody(peer) {
        counters.strangers_dropped.add(1);
        return Verdict::Drop;
    }
    let Some(hello) = ClientHello::parse(datagram) else {
        let too_short = ClientHello::starts(datagram);
        if too_short { &counters.hellos_too_short } else { &counters.strangers_dropped }.add(1);
        return Verdict::Drop;
    };
    if !hello.cookie.is_empty() {
        // libssl takes a hello with a cookie for the second message of the handshake: with another number it would wait for
        // ever.
        if hello.message_seq == 1 && jar.verify(now, peer, &hello) {
            return Verdict::Proven(hello);
        }
        counters.cookies_refused.add(1);
    }
    counters.hellos_answered.add(1);
    Verdict::Answer(HelloVerifyRequest::new(&hello, &jar.issue(now, peer, &hello)))
}
