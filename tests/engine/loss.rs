//! Handshakes over a network that loses, doubles and overtakes datagrams, in both directions.
//!
//! With OpenSSL's own timers it is the client's repetitions after 1, 2 and 4 s that set the limit, since a server keeps
//! nothing of a first hello; a perfect server reaches 995 of 1,000 in a minute at 20 % and 740 in two minutes at 50 %.

use std::time::{Duration, Instant};

use crate::Proof;
use crate::client::{Client, PATIENCE, context, socket};
use crate::door::{Door, Server, Setup};
use crate::hellos::{cookie, hello};
use crate::mtu::IP_AND_UDP;
use crate::samples::Hello;
use crate::tool::{self, Proxy, Report};

pub const PROOFS: &[Proof] = &[
    Proof::new("openssl_timers_at_20_percent", |door| {
        through(door, 100, 0.2, "openssl", 60).at_least("within_60s", 94.0);
    }),
    Proof::new("handshakes_at_20_percent", fast),
    Proof::new("every_datagram_and_pair_lost", |door| matrix(door, &Setup::new(), "--timer fast", 6.0)),
    Proof::new("every_datagram_and_pair_of_long_flights_lost", |door| {
        let long = Setup::new().identity("server-chain5-rsa4096").with("DV_MTU", 576);
        matrix(door, &long, "--timer fast", 8.0);
    })
    .long(),
    Proof::new("every_datagram_and_pair_lost_with_openssl_timers", |door| {
        matrix(door, &Setup::new(), "--timer openssl", 6.0);
    })
    .long(),
    Proof::new("lost_last_flight_is_sent_again", last_flight),
    Proof::new("nothing_is_repeated_once_it_has_arrived", silent),
    Proof::new("repeated_flight_is_packed_as_it_was", packed),
    Proof::new("flight_that_nobody_answers_gets_smaller", smaller),
    Proof::new("openssl_timers", openssl_timers).long(),
    Proof::new("fast_timers", fast_timers).long(),
];

/// `count` handshakes through a proxy that loses the part `drop` of all datagrams.
fn through(door: &Door, count: u32, drop: f64, timer: &str, deadline: u32) -> Report {
    let server = Server::start(door);
    let proxy = Proxy::start(server.address, &format!("--drop {drop} --reorder 0.05 --duplicate 0.05 --seed 20261123"));
    let options =
        format!("--count {count} --concurrency {count} --rate 100 --timer {timer} --deadline {deadline} --at-least 0");
    tool::run("handshake", proxy.address, &options).good(&server)
}

fn fast(door: &Door) {
    through(door, 100, 0.2, "fast", 60).at_least("within_60s", 100.0);
}

fn openssl_timers(door: &Door) {
    for drop in [0.0, 0.01] {
        through(door, 1000, drop, "openssl", 60).at_least("within_60s", 1000.0);
    }
    through(door, 1000, 0.05, "openssl", 60).at_least("within_60s", 998.0);
    let report = through(door, 1000, 0.2, "openssl", 60);
    report.at_least("within_60s", 985.0);
    report.at_least("within_10s", 890.0);
    through(door, 1000, 0.5, "openssl", 120).at_least("within_120s", 700.0);
}

fn fast_timers(door: &Door) {
    through(door, 1000, 0.2, "fast", 60).at_least("within_60s", 1000.0);
    through(door, 1000, 0.5, "fast", 120).at_least("within_120s", 990.0);
}

/// Each datagram of the handshake lost once, twice and three times, and each pair. Among them is the HelloVerifyRequest,
/// whose loss stops a server on DTLSv1_listen of 3.2 to 4.0: <https://github.com/openssl/openssl/issues/32063>.
///
/// Two hellos, the HelloVerifyRequest, a flight of each side, and the server's last: six datagrams at least.
fn matrix(door: &Door, setup: &Setup, timer: &str, places: f64) {
    let server = setup.start(door);
    let report = tool::run("matrix", server.address, &format!("{timer} --deadline 60")).good(&server);
    report.at_least("places", places);
}

/// A client whose last flight was answered into the void repeats it, and gets the answer again:
/// <https://github.com/pion/dtls/issues/479>, <https://github.com/Mbed-TLS/mbedtls/issues/9911>,
/// <https://github.com/lynckia/licode/issues/1887>, <https://github.com/sipwise/rtpengine/issues/1796>,
/// <https://github.com/randombit/botan/issues/2498>, <https://github.com/webrtc-rs/rtc/pull/243>.
fn last_flight(door: &Door) {
    let server = Server::start(door);
    let proxy = Proxy::start(server.address, "--drop-nth-in 3,4");
    let mut client = Client::new(&context().build(), socket(), proxy.address, 1400);
    client.handshake(PATIENCE).expect("a handshake");
    client.ask(door, b"after it all");
}

/// A timer that runs on behind the handshake repeats what nobody needs: <https://github.com/openssl/openssl/issues/7998>.
fn silent(door: &Door) {
    let server = Setup::new().with("DV_FIRST_TIMEOUT_MS", 50).start(door);
    let (mut quiet, mut other) = (Client::connect(server.address), Client::connect(server.address));
    quiet.ask(door, b"a message");
    let heard = quiet.wire().received.len();
    // What is due is done in anybody's call.
    for _ in 0..20 {
        other.ask(door, b"a message");
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(quiet.receive(Duration::from_millis(100)), Ok(None));
    assert_eq!(quiet.wire().received.len(), heard);
}

/// OpenSSL repeats a flight with one message in each datagram and cuts messages at other places, at which strict clients
/// stop: <https://github.com/pion/dtls/pull/1099>, <https://github.com/pion/dtls/pull/1001>,
/// <https://github.com/OvenMediaLabs/OvenMediaEngine/issues/2329>.
fn packed(door: &Door) {
    let server = Setup::new().identity("server-chain5-rsa4096").start(door);
    let mut client = Client::new(&context().build(), socket(), server.address, 1400);
    client.turn_deaf(1);
    // What is left of the flight comes at once.
    while client.wire().flights().last().is_some_and(|datagram| !ends_flight(datagram)) {
        let next = client.wire().flights().len() + 1;
        client.turn_deaf(next);
    }
    let flight = client.wire().flights().len();
    client.turn_deaf(2 * flight);
    let contents = |datagrams: &[&[u8]]| datagrams.iter().map(|datagram| without_numbers(datagram)).collect::<Vec<_>>();
    let received = client.wire().flights();
    assert!(flight > 3, "{flight} datagrams");
    assert_eq!(contents(&received[..flight]), contents(&received[flight..2 * flight]));
    client.handshake(PATIENCE).expect("a handshake");
}

/// A path may let no large datagrams through, and tell nobody: after four timeouts a flight is cut to IP packets of 576 bytes,
/// after eight to 256. The timeouts are those that were set; a fixed one fits no path:
/// <https://github.com/meetecho/janus-gateway/issues/1377>.
fn smaller(door: &Door) {
    let often = Setup::new().with("DV_FIRST_TIMEOUT_MS", 50).with("DV_LONGEST_TIMEOUT_MS", 50);
    let server = often.identity("server-chain5-rsa4096").start(door);
    let (peer, other) = (socket(), socket());
    let mut with_rsa = hello(&[]);
    with_rsa.rest[3] = 0x2f;
    let proven: Hello = with_rsa.with_cookie(&cookie(&peer, server.address, &with_rsa));
    peer.send_to(&proven.datagram(), server.address).expect("loopback takes it");
    peer.set_read_timeout(Some(Duration::from_millis(10))).expect("not zero");
    let (mut largest, mut of_this, mut buffer) = (Vec::new(), 0, [0; 2048]);
    let deadline = Instant::now() + PATIENCE;
    while largest.last().is_none_or(|largest| *largest > 256) {
        assert!(Instant::now() < deadline, "{largest:?}");
        match peer.recv(&mut buffer) {
            Ok(len) => {
                of_this = of_this.max(len + IP_AND_UDP);
                if ends_flight(&buffer[..len]) {
                    largest.push(std::mem::take(&mut of_this));
                }
            }
            // What is due is done in anybody's call.
            Err(_) => drop(other.send_to(b"junk", server.address).expect("loopback takes it")),
        }
    }
    // A flight whose end was lost in a full socket counts as one with the next.
    assert!(largest.len() <= 9, "{largest:?}");
    let packet = |largest: &usize| [256, 576, 1280].into_iter().find(|most| (most - 64..=*most).contains(largest));
    let mut packets: Vec<Option<usize>> = largest.iter().map(packet).collect();
    packets.dedup();
    assert_eq!(packets, [Some(1280), Some(576), Some(256)], "{largest:?}");
}

/// Whether a datagram ends with a ServerHelloDone, which has no body.
fn ends_flight(datagram: &[u8]) -> bool {
    const SERVER_HELLO_DONE: u8 = 14;
    datagram.len() >= 25 && datagram[datagram.len() - 12] == SERVER_HELLO_DONE && datagram.ends_with(&[0; 3])
}

/// A datagram of records in clear with their sequence numbers blotted out: those must be new.
fn without_numbers(datagram: &[u8]) -> Vec<u8> {
    let (mut datagram, mut at) = (datagram.to_vec(), 0);
    while at + 13 <= datagram.len() {
        datagram[at + 5..at + 11].fill(0);
        at += 13 + usize::from(u16::from_be_bytes([datagram[at + 11], datagram[at + 12]]));
    }
    datagram
}
