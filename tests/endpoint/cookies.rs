//! Cookies through a whole endpoint: how long they are good and with whom, and for peers of every kind of address.

use std::net::SocketAddr;

use dv_dtls::{CloseReason, Config, Connect, CookieSecret, Endpoint};

use crate::contexts::*;
use crate::net::*;

/// OpenSSL's client goes on with its first cookie for as long as it tries.
const GOOD_FOR: u64 = 180 * SECOND;
/// No cookie is good for longer.
const EXPIRED_AFTER: u64 = 480 * SECOND;

const PEER: &str = "192.0.2.1:40000";

/// What this endpoint has for a datagram.
fn answers(endpoint: &mut Endpoint, now: u64, from: &str, datagram: &[u8]) -> Vec<Vec<u8>> {
    endpoint.receive(now, datagram, from.parse().unwrap(), None);
    let mut answers = Vec::new();
    while let Some(transmit) = endpoint.transmit(1) {
        answers.push(transmit.bytes.to_vec());
    }
    answers
}

/// A hello with the cookie that `server` has asked for at `now`.
fn hello_with_cookie(server: &mut Endpoint, now: u64) -> Vec<u8> {
    let mut client = Endpoint::new(client(), Config::default()).unwrap();
    client
        .connect(now, &Connect { name: Some("localhost"), ..Connect::to("192.0.2.9:5684".parse().unwrap()) })
        .unwrap();
    let first = client.transmit(1).unwrap().bytes.to_vec();
    let asked = answers(server, now, PEER, &first);
    assert_eq!(asked.len(), 1);
    answers(&mut client, now, "192.0.2.9:5684", &asked[0]).pop().unwrap()
}

/// The same hello with the cookie of a HelloVerifyRequest.
fn with_another_cookie(hello: &[u8], verify: &[u8]) -> Vec<u8> {
    const BEFORE_SESSION_ID: usize = 13 + 12 + 2 + 32;
    let cookie = BEFORE_SESSION_ID + 1 + usize::from(hello[BEFORE_SESSION_ID]) + 1;
    let (new, mut hello) = (&verify[28..], hello.to_vec());
    hello[cookie..cookie + new.len()].copy_from_slice(new);
    hello
}

/// A server whose cookies are those of `secret`, by a clock that is `ahead` of the others', which is not what it is given.
fn server_of(secret: &str, booted: u64, ahead: u64) -> Endpoint {
    let cookie_secret = Some(CookieSecret::new(secret, booted + ahead));
    Endpoint::new(server(), Config { cookie_secret, ..Config::default() }).unwrap()
}

fn begins_a_handshake(server: &mut Endpoint, now: u64, hello: &[u8]) -> bool {
    let before = server.handshakes();
    let answers = answers(server, now, PEER, hello);
    let begun = server.handshakes() > before;
    assert_eq!(answers[0][13], if begun { 2 } else { 3 }, "a ServerHello or a HelloVerifyRequest");
    begun
}

#[test]
fn a_cookie_is_good_for_180_seconds_whenever_it_was_made() {
    for phase in (0..480).step_by(31) {
        let made = (10_000 + phase) * SECOND;
        let mut maker = server_of("secret", 0, 0);
        let hello = hello_with_cookie(&mut maker, made);
        for age in [0, 1, GOOD_FOR / 2, GOOD_FOR] {
            // The rest of the fleet: none has seen the first hello.
            assert!(begins_a_handshake(&mut server_of("secret", 0, 0), made + age, &hello), "{phase} s, {age} us old");
        }
        assert!(begins_a_handshake(&mut maker, made + GOOD_FOR, &hello));
    }
}

#[test]
fn an_expired_cookie_is_answered_with_a_fresh_one() {
    for phase in (0..480).step_by(31) {
        let (made, mut server) = ((10_000 + phase) * SECOND, server_of("secret", 0, 0));
        let hello = hello_with_cookie(&mut server, made);
        // Also when the number of the time bucket, of which a cookie has one byte, comes round.
        for later in [EXPIRED_AFTER, 3600 * SECOND, 256 * 240 * SECOND] {
            let now = made + later;
            let before = server.stats();
            let verify = answers(&mut server, now, PEER, &hello).pop().unwrap();
            let after = server.stats();
            assert_eq!((server.handshakes(), after.handshakes_begun), (0, before.handshakes_begun));
            assert_eq!(after.cookies_refused, before.cookies_refused + 1);
            assert_eq!(after.hellos_answered, before.hellos_answered + 1);
            let fresh = with_another_cookie(&hello, &verify);
            assert_ne!(fresh, hello);
            assert!(begins_a_handshake(&mut server_of("secret", 0, 0), now, &fresh));
            assert!(begins_a_handshake(&mut server_of("secret", 0, 0), now + GOOD_FOR, &fresh));
        }
    }
}

#[test]
fn a_fleet_with_one_secret_takes_each_others_cookies() {
    // They have booted at different times, and one's clock is a minute ahead.
    let day = 86_400 * SECOND;
    for phase in (0..480).step_by(31) {
        let now = 2 * day + phase * SECOND;
        let machines = || [server_of("secret", 0, 0), server_of("secret", day, 0), server_of("secret", 0, 60 * SECOND)];
        let nows = [now, now - day, now];
        for (maker, made) in nows.into_iter().enumerate() {
            let hello = hello_with_cookie(&mut machines()[maker], made);
            for age in [0, GOOD_FOR] {
                for (machine, now) in machines().iter_mut().zip(nows) {
                    assert!(begins_a_handshake(machine, now + age, &hello), "{phase} s, by {maker}, {age} us old");
                }
            }
            let mut stranger = server_of("another", 0, 0);
            assert!(!begins_a_handshake(&mut stranger, now, &hello));
            assert_eq!(stranger.stats().cookies_refused, 1);
        }
    }
}

#[test]
fn a_new_secret_leaves_the_cookies_that_are_out() {
    let (made, mut machine) = (10_000 * SECOND, server_of("secret", 0, 0));
    let hello = hello_with_cookie(&mut machine, made);
    machine.set_cookie_secret(made + SECOND, &CookieSecret::new("another", 0));
    let later = hello_with_cookie(&mut machine, made + SECOND);
    assert!(begins_a_handshake(&mut machine, made + GOOD_FOR, &hello));
    assert!(begins_a_handshake(&mut server_of("another", 0, 0), made + GOOD_FOR, &later));
    let expired = made + SECOND + EXPIRED_AFTER;
    machine.advance(expired);
    assert!(!begins_a_handshake(&mut machine, expired, &hello));
}

/// Mapped IPv4 addresses are not told apart by their /64, link-local ones not by the address at all.
#[test]
fn peers_of_every_kind_of_address() {
    let kinds = [
        ("[::ffff:192.0.2.7]:5000", "[::ffff:192.0.2.8]:5000", true),
        ("[::ffff:192.0.2.7]:5000", "192.0.2.7:5000", false),
        ("[fe80::2%3]:5000", "[fe80::2%5]:5000", true),
        ("[2001:db8::1]:5000", "[2001:db8::2]:5000", false),
    ];
    for (near, far, another_source) in kinds {
        let mut world = World::new(1);
        let server = world.add(server(), settings(|s| s.max_connections_per_source = 3));
        let [first, other] = [near, far].map(|text| world.add_at(text.parse().unwrap(), client(), Config::default()));

        let (at_first, from_first) = world.open(first, server);
        let is_proven = |(_, _, bytes): &&Datagram| bytes[13] == 1 && bytes[18] == 1;
        let stolen = world.sent.iter().find(is_proven).unwrap().2.clone();
        world.inject(far.parse().unwrap(), server, &stolen);
        assert_eq!(world.nodes[server].endpoint.stats().cookies_refused, 1, "{near} {far}");
        // An answer that comes too early is taken for that to its own hello.
        world.settle();
        let (at_other, from_other) = world.open(other, server);
        for (client, session, theirs) in [(first, at_first, from_first), (other, at_other, from_other)] {
            world.send(client, session, near.as_bytes());
            world.settle();
            assert_eq!(world.nodes[server].messages(theirs), [near.as_bytes()]);
        }

        // One of them restarts.
        world.nodes[first].address.set_port(1);
        let again = world.add_at(near.parse().unwrap(), client(), Config::default());
        let (at_again, from_again) = world.open(again, server);
        assert_eq!(world.nodes[server].closed(), [(from_first, CloseReason::Restarted)]);
        world.send(again, at_again, b"again");
        world.send(other, at_other, b"still here");
        world.settle();
        assert_eq!(world.nodes[server].messages(from_again), [b"again"]);
        assert_eq!(world.nodes[server].messages(from_other).last(), Some(&&b"still here"[..]));

        // One source may have three.
        for port in 6000..6003 {
            let mut address: SocketAddr = near.parse().unwrap();
            address.set_port(port);
            let more = world.add_at(address, client(), Config::default());
            world.open(more, server);
        }
        let left = if another_source { 4 } else { 3 };
        assert_eq!(world.nodes[server].endpoint.sessions().count(), left, "{near} {far}");
        assert_eq!(world.nodes[server].endpoint.stats().evicted, 5 - left as u64);
    }
}
