//! Every bound, reached: who comes too late is refused and the log says so, who is connected notices nothing.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use openssl::pkey::PKey;
use openssl::ssl::{SslContext, SslFiletype};
use openssl::x509::X509;

use crate::Proof;
use crate::client::{Client, PATIENCE, context, socket, socket_at};
use crate::common::certificates;
use crate::door::{Door, Server, Setup};
use crate::hellos::{Answer, cookie, hello, put};
use crate::samples::record;

pub const PROOFS: &[Proof] = &[
    Proof::new("connections", connections),
    Proof::new("connections_all_in_handshake", connections_all_in_handshake),
    Proof::new("connections_of_a_source", connections_of_a_source),
    Proof::new("handshakes", handshakes),
    Proof::new("handshakes_of_a_source", handshakes_of_a_source),
    // The new doors only count.
    Proof::new("refusals_are_told_once_a_second", told_once_a_second).needs(|door| door.native_records.is_none()),
    Proof::new("handshake_timeout", handshake_timeout),
    Proof::new("idle_timeout", idle_timeout),
    Proof::new("queued_messages", queued_messages),
    Proof::new("certificate_chain", certificate_chain).needs(Door::has_authority),
    Proof::new("messages_before_their_turn", early_messages),
    Proof::new("records_before_their_keys", early_records),
    Proof::new("buffers_of_idle_connections", released_buffers),
];

fn fresh(server: &Server, socket: UdpSocket) -> Client {
    Client::new(&context().build(), socket, server.address, 1400)
}

/// A handshake that goes as far as the server's flight and then rests.
fn half(server: &Server, host: [u8; 4]) -> Client {
    let mut client = fresh(server, socket_at(host));
    client.begin();
    client
}

/// A client that the server does not take, for this reason, and that hears nothing but what it is to return its cookie for.
fn is_refused(server: &Server, host: [u8; 4], why: &str) -> Client {
    let mut client = fresh(server, socket_at(host));
    client.goes_on_until(|_| server.output().contains(why));
    assert!(client.wire().flights().is_empty(), "{:?}", client.wire().received);
    client
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

const EVICTED: &str = "idle connections closed: a limit of connections is reached";

/// At the limit the longest idle connection makes room, with a goodbye.
fn connections(door: &Door) {
    let server = Setup::new().with("DV_MAX_CONNECTIONS", 4).start(door);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.address)).collect();
    clients.iter_mut().for_each(|client| client.ask(door, b"first"));
    let mut idle = clients.remove(1);
    clients.iter_mut().for_each(|client| client.ask(door, b"second"));
    let mut fifth = Client::connect(server.address);
    fifth.ask(door, b"first");
    clients.iter_mut().for_each(|client| client.ask(door, b"third"));
    idle.is_closed();
    server.says(&format!("1 {EVICTED}"));
}

fn connections_all_in_handshake(door: &Door) {
    let server = Setup::new().with("DV_MAX_CONNECTIONS", 2).start(door);
    let halves = [half(&server, HERE), half(&server, THERE)];
    is_refused(&server, HERE, "max_connections is reached and nobody is idle");
    for mut half in halves {
        half.handshake(PATIENCE).expect("the refusal of others does not matter");
        half.ask(door, b"a message");
    }
}

/// At that of its source, the longest idle one of the source itself, though another has been idle for longer.
fn connections_of_a_source(door: &Door) {
    let server = Setup::new().with("DV_MAX_CONNECTIONS_PER_SOURCE", 2).start(door);
    let mut elsewhere = Client::connect_from(socket_at(THERE), server.address);
    elsewhere.ask(door, b"from elsewhere");
    let (mut first, mut second) = (Client::connect(server.address), Client::connect(server.address));
    first.ask(door, b"a message");
    second.ask(door, b"a message");
    first.ask(door, b"another");
    let mut third = Client::connect(server.address);
    third.ask(door, b"in its place");
    second.is_closed();
    server.says(&format!("1 {EVICTED}"));
    [elsewhere, first, third].iter_mut().for_each(|client| client.ask(door, b"still here"));
}

fn handshakes(door: &Door) {
    let server = Setup::new().with("DV_MAX_HANDSHAKES", 3).start(door);
    let mut connected = Client::connect(server.address);
    let mut halves = [half(&server, HERE), half(&server, HERE), half(&server, THERE)];
    let mut late = is_refused(&server, THERE, "max_handshakes is reached");
    connected.ask(door, b"meanwhile");
    halves.iter_mut().for_each(|half| half.handshake(PATIENCE).expect("it was there before"));
    late.handshake(PATIENCE).expect("there is room again");
    late.ask(door, b"a message");
}

fn handshakes_of_a_source(door: &Door) {
    let server = Setup::new().with("DV_MAX_HANDSHAKES_PER_SOURCE", 2).start(door);
    let mut connected = Client::connect(server.address);
    let _halves = [half(&server, HERE), half(&server, HERE)];
    is_refused(&server, HERE, "a source has reached its limit");
    Client::connect_from(socket_at(THERE), server.address).ask(door, b"from elsewhere");
    connected.ask(door, b"meanwhile");
}

/// Hellos beyond a limit that is reached, and hellos that cannot begin anything, until four lines of each kind have said how
/// many.
fn told_once_a_second(door: &Door) {
    let server = Setup::new().with("DV_MAX_HANDSHAKES", 1).with("DV_LOG", "info").start(door);
    let _half = half(&server, HERE);
    let (peer, hello) = (socket(), hello(&[]));
    let proven = hello.with_cookie(&cookie(&peer, server.address, &hello));
    let stale = hello.with_cookie(&[1; 21]);
    let texts = [
        "new peers refused: max_handshakes is reached",
        "hellos dropped: the first fragment ends before the cookie",
        "hellos had no good cookie",
    ];
    let numbers = |text: &str| -> Vec<u64> {
        let number = |line: &str| line.split_once(text)?.0.split_whitespace().last()?.parse().ok();
        server.output().lines().filter_map(number).collect()
    };
    let (mut sent, began) = (0, Instant::now());
    while texts.iter().any(|text| numbers(text).len() < 4) {
        assert!(began.elapsed() < PATIENCE, "{}", server.output());
        peer.send_to(&proven.datagram(), server.address).expect("loopback takes it");
        peer.send_to(&proven.fragment(0, 40), server.address).expect("loopback takes it");
        assert!(matches!(put(&peer, server.address, &stale.datagram()), Answer::Cookie(_)));
        sent += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    // The first is told at once, and so much time has not passed before it began.
    let lines_max = began.elapsed().as_secs() as usize + 2;
    for numbers in texts.map(numbers) {
        let told: u64 = numbers.iter().sum();
        assert!(numbers.len() <= lines_max, "{numbers:?}");
        // The last second is told with the next one that comes after it.
        assert!(told <= sent && told > sent / 3, "{told} of {sent}: {numbers:?}");
    }
}

/// OpenSSL itself gives up after a fixed count, which is minutes, and its timer is easily misread:
/// <https://github.com/meetecho/janus-gateway/pull/1345>, <https://github.com/versatica/mediasoup/issues/814>,
/// <https://github.com/versatica/mediasoup/issues/1656>, <https://github.com/openssl/openssl/issues/20459>,
/// <https://github.com/openssl/openssl/issues/20577>.
fn handshake_timeout(door: &Door) {
    let server = Setup::new().with("DV_MAX_HANDSHAKES", 1).with("DV_HANDSHAKE_TIMEOUT_MS", 3000).start(door);
    let mut connected = Client::connect(server.address);
    let began = Instant::now();
    let mut given_up = half(&server, HERE);
    is_refused(&server, HERE, "max_handshakes is reached");
    // What falls due is done on any call, if need be that of somebody else.
    while began.elapsed() < Duration::from_millis(3500) {
        connected.ask(door, b"meanwhile");
        std::thread::sleep(Duration::from_millis(50));
    }
    Client::connect(server.address).ask(door, b"in its place");
    given_up.handshake(Duration::from_millis(500)).expect_err("too late");
    connected.ask(door, b"a message");
}

fn idle_timeout(door: &Door) {
    // So long that a busy machine does not keep the other one from speaking for that time.
    let server = Setup::new().with("DV_IDLE_TIMEOUT_MS", 3000).start(door);
    let (mut idle, mut busy) = (Client::connect(server.address), Client::connect(server.address));
    let began = Instant::now();
    while idle.receive(Duration::from_millis(50)) == Ok(None) {
        assert!(began.elapsed() < PATIENCE, "{}", server.output());
        busy.ask(door, b"still here");
    }
    idle.is_closed();
    busy.ask(door, b"a message");
}

/// A hundred messages in one datagram: those that find no room to wait are dropped, and these are the newest.
fn queued_messages(door: &Door) {
    let server = Server::start(door);
    let (mut other, mut client) = (Client::connect(server.address), Client::connect(server.address));
    let (mut held, mut count) = (Vec::new(), 0);
    client.rewrite(move |datagram| {
        held.extend_from_slice(datagram);
        count += 1;
        if count < 100 { Vec::new() } else { vec![std::mem::take(&mut held)] }
    });
    let message = |n: usize| format!("message {n:3}").into_bytes();
    (0..100).for_each(|n| client.send(&message(n)));
    client.let_through();
    if door.drains {
        for n in 0..door.keeps {
            assert_eq!(client.receive(PATIENCE), Ok(Some(door.reply(&message(n)))));
        }
    } else {
        // One message comes out for each datagram, and 64 wait: the 65 that were kept need 64 more datagrams.
        for _ in 0..64 {
            assert_eq!(client.receive(PATIENCE), Ok(Some(door.reply(b""))));
            client.send(b"and one more");
        }
        assert_eq!(client.receive(PATIENCE), Ok(Some(door.reply(b""))));
        server.says("'message  64'");
        assert!(!server.output().contains("'message  65'"), "the newest are dropped");
    }
    assert_eq!(client.receive(Duration::from_millis(200)), Ok(None));
    client.ask(door, b"a message");
    other.ask(door, b"a message");
}

/// A context with a client's certificate, and as many others behind it as there are in `more`.
fn identified(more: &[X509]) -> SslContext {
    let mut context = context();
    context.set_certificate_file(certificates().join("client.pem"), SslFiletype::PEM).expect("a certificate");
    let key = std::fs::read(certificates().join("client.key")).expect("a key");
    context.set_private_key(&PKey::private_key_from_pem(&key).expect("a key")).expect("its key");
    more.iter().for_each(|certificate| context.add_extra_chain_cert(certificate.clone()).expect("one more"));
    context.build()
}

/// What a peer may make the server hold of its chain:
/// <https://github.com/coturn/coturn/commit/beb4de9d>, where that was 655 KB for each handshake.
fn certificate_chain(door: &Door) {
    let server = Setup::new().with("DV_MAX_CERTIFICATE_CHAIN", 2048).asking_for_certificates().start(door);
    let connect = |context: &SslContext| {
        let mut client = Client::new(context, socket(), server.address, 1400);
        client.handshake(PATIENCE).map(|()| client)
    };
    let mut good = connect(&identified(&[])).expect("a handshake");
    good.ask(door, b"before");
    let chain = std::fs::read(certificates().join("server-chain5-rsa4096.pem")).expect("a chain");
    let chain = X509::stack_from_pem(&chain).expect("certificates");
    let long = match connect(&identified(&chain)) {
        // The client's side finishes only with the server's last flight, which does not come.
        Err(why) => why,
        Ok(_) => panic!("a chain of {} certificates was taken", chain.len() + 1),
    };
    assert!(long.contains("alert"), "{long}");
    server.says("failed");
    good.ask(door, b"after");
    connect(&identified(&[])).expect("a handshake").ask(door, b"a message");
}

/// Fragments of long messages that are not yet due, in clear, from anybody: libssl would make room for nine of them, each as
/// long as it says that it is (CVE-2016-2179).
fn early_messages(door: &Door) {
    const LENGTH: u32 = 30_000;
    let server = Server::start(door);
    let mut other = Client::connect(server.address);
    let mut halves: Vec<Client> = (0..8).map(|_| half(&server, HERE)).collect();
    let before = server.resident();
    let fragment = |message_seq: u8, offset: u32| {
        let header =
            [&[11][..], &LENGTH.to_be_bytes()[1..], &[0, message_seq], &offset.to_be_bytes()[1..], &[0, 0, 100]];
        record(22, 0xfefd, 0, u64::from(offset) + 100, &[&header.concat()[..], &[0; 100]].concat())
    };
    for half in &halves {
        for message_seq in 3..12 {
            // So that it cannot make room without using it.
            (0..LENGTH - 100).step_by(4000).for_each(|offset| half.wire().forge(&fragment(message_seq, offset)));
            other.ask(door, b"meanwhile");
        }
    }
    let gained = server.resident() - before;
    assert!(gained <= 512, "{gained} KB for 8 handshakes that announced 270 KB each");
    halves.iter_mut().for_each(|half| half.handshake(PATIENCE).expect("a handshake"));
    halves.iter_mut().for_each(|half| half.ask(door, b"a message"));
}

/// Records of the next epoch that come before their keys are held, but not without end, as OpenSSL did before 4.0.2
/// (CVE-2026-54874).
fn early_records(door: &Door) {
    let server = Server::start(door);
    let mut other = Client::connect(server.address);
    let mut halves: Vec<Client> = (0..8).map(|_| half(&server, HERE)).collect();
    let before = server.resident();
    for half in &halves {
        for n in 0..200u8 {
            let mut record = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, n, 0x04, 0x00];
            record.resize(13 + 0x400, n);
            half.wire().forge(&record);
        }
        // One question at a time keeps the socket from overflowing.
        other.ask(door, b"meanwhile");
    }
    let gained = server.resident() - before;
    assert!(gained <= 1024, "{gained} KB for 8 handshakes that sent 200 KB each");
    halves.iter_mut().for_each(|half| half.handshake(PATIENCE).expect("a handshake"));
    halves.iter_mut().for_each(|half| half.ask(door, b"a message"));
}

/// OpenSSL's buffers are given back when a connection has been idle for a second, and are there when they are needed. How
/// much that is measures tests/c/idle_memory.c: <https://github.com/openssl/openssl/issues/31492>.
fn released_buffers(door: &Door) {
    let server = Setup::new().with("DV_RELEASE_BUFFERS", 1).start(door);
    let (mut idle, mut busy) = (Client::connect(server.address), Client::connect(server.address));
    for _ in 0..3 {
        idle.ask(door, b"a message");
        let until = Instant::now() + Duration::from_millis(1300);
        while Instant::now() < until {
            busy.ask(door, b"what is due is done meanwhile");
            std::thread::sleep(Duration::from_millis(100));
        }
        // The first that wakes it up is forged.
        let mut forged = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 1, 0, 0, 40];
        forged.resize(13 + 40, 0x55);
        idle.wire().forge(&forged);
    }
    idle.ask(door, b"a message");
    idle.shut_down();
    idle.is_closed();
    busy.ask(door, b"a message");
}
