//! Hellos of every kind, and cookies that are not the peer's.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use openssl::ssl::{SslOptions, SslVersion};

use crate::Proof;
use crate::client::{Client, PATIENCE, context, socket};
use crate::common::directory;
use crate::common::process::own_host;
use crate::door::{Door, Server, Setup};
use crate::samples::Hello;
use crate::tool;

pub const PROOFS: &[Proof] = &[
    Proof::new("each_repetition_is_answered", repeated),
    Proof::new("dtls_1_0_alone_is_refused_with_an_alert", dtls_1_0),
    Proof::new("dtls_1_3_beside_1_2_is_served_as_1_2", |door| dtls_1_3(door, &[0xfefc, 0xfefd])),
    Proof::new("dtls_1_3_alone_is_asked_for_a_cookie", dtls_1_3_alone),
    Proof::new("session_is_resumed_by_ticket", |door| resumed(door, SslOptions::empty())),
    Proof::new("session_is_resumed_by_id", |door| resumed(door, SslOptions::NO_TICKET)),
    Proof::new("many_sessions_are_resumed", |door| {
        let server = Server::start(door);
        tool::run("handshake", server.address, "--count 200 --resume --timer fast").good(&server);
    }),
    Proof::new("cookie_is_good_for_its_hello_alone", cookies),
    Proof::new("cookie_is_good_for_180_seconds", cookie_lasts).long(),
    Proof::new("one_secret_for_two_processes", shared_secret),
    Proof::new("messages_of_one_datagram_come_in_order", several_records),
    Proof::new("close_notify_both_ways", close_notify),
    Proof::new("messages_before_a_goodbye_count", goodbye_in_a_datagram).needs(|door| door.name == "example_server"),
    Proof::new("renegotiation_is_refused", renegotiation),
    Proof::new("clients_share_one_socket", one_socket),
    Proof::new("no_common_cipher_ends_in_an_alert", no_common_cipher),
    Proof::new("peers_of_ipv6", ipv6),
    Proof::new("records_are_made_by_whom_the_door_says", whose_records).needs(|door| door.native_records.is_some()),
];

/// What OpenSSL needs beside a suite: groups, their formats, signature algorithms, and here the versions.
pub fn hello(versions: &[u16]) -> Hello {
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes(), &(body.len() as u16).to_be_bytes(), body].concat();
    let mut extensions = [
        extension(10, &[0, 4, 0, 29, 0, 23]),
        extension(11, &[1, 0]),
        extension(13, &[0, 6, 4, 3, 8, 4, 4, 1]),
        extension(23, &[]),
    ]
    .concat();
    if !versions.is_empty() {
        let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
        extensions.extend(extension(43, &[&[list.len() as u8][..], &list].concat()));
    }
    let mut rest = vec![0, 2, 0xc0, 0x2b, 1, 0];
    rest.extend((extensions.len() as u16).to_be_bytes());
    rest.extend(extensions);
    Hello { random: std::array::from_fn(|i| i as u8 ^ 0x5a), rest, ..Hello::default() }
}

/// What a server said to a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A HelloVerifyRequest with this cookie.
    Cookie(Vec<u8>),
    /// A flight that begins with a ServerHello of this version.
    ServerHello(u16),
    Other(Vec<u8>),
    Nothing,
}

pub fn put(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) -> Answer {
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket.send_to(datagram, to).expect("loopback takes it");
    let mut buffer = [0; 2048];
    let answer = match socket.recv_from(&mut buffer) {
        Ok((len, _)) => &buffer[..len],
        Err(_) => return Answer::Nothing,
    };
    match (answer[0], answer[13]) {
        (22, 3) => {
            assert!(answer.len() <= datagram.len(), "an answer longer than the question");
            assert_eq!(answer[5..11], datagram[5..11], "the record number of the hello (RFC 6347 4.2.1)");
            // Whatever is agreed on later: <https://github.com/openssl/openssl/issues/3295>.
            assert_eq!((&answer[1..3], &answer[25..27]), (&[0xfe, 0xff][..], &[0xfe, 0xff][..]), "DTLS 1.0");
            Answer::Cookie(answer[28..28 + usize::from(answer[27])].to_vec())
        }
        (22, 2) => Answer::ServerHello(u16::from_be_bytes([answer[25], answer[26]])),
        _ => Answer::Other(answer.to_vec()),
    }
}

/// The cookie for this hello from this socket.
pub fn cookie(socket: &UdpSocket, to: SocketAddr, hello: &Hello) -> Vec<u8> {
    match put(socket, to, &hello.datagram()) {
        Answer::Cookie(cookie) => {
            assert!((1..=32).contains(&cookie.len()), "{} bytes of cookie", cookie.len());
            cookie
        }
        other => panic!("no cookie but {other:?}"),
    }
}

/// <https://github.com/openssl/openssl/issues/18635>, <https://github.com/openssl/openssl/issues/2439>: a repeated hello got
/// no answer.
fn repeated(door: &Door) {
    let server = Server::start(door);
    let socket = socket();
    for sequence in 0..20 {
        cookie(&socket, server.address, &Hello { record_sequence: sequence, ..hello(&[]) });
    }
}

fn dtls_1_0(door: &Door) {
    let server = Server::start(door);
    let mut old = context();
    old.set_cipher_list("ALL:@SECLEVEL=0").expect("a list");
    old.set_min_proto_version(Some(SslVersion::DTLS1)).expect("a version");
    old.set_max_proto_version(Some(SslVersion::DTLS1)).expect("a version");
    let port = socket();
    let mut client = Client::new(&old.build(), port.try_clone().expect("a descriptor"), server.address, 1400);
    let why = client.handshake(PATIENCE).expect_err("no DTLS 1.0");
    assert!(why.contains("protocol version"), "{why}");
    let mut answers: Vec<u8> = client.wire().received.iter().map(|datagram| datagram[0]).collect();
    // A slow client repeats its hello.
    answers.dedup();
    assert_eq!(answers, [22, 21], "a HelloVerifyRequest, then an alert");
    drop(client);
    // Nothing is left behind that would stand in the way of a better client on this port.
    Client::connect_from(port, server.address).ask(door, b"a message");
}

fn dtls_1_3(door: &Door, versions: &[u16]) {
    let server = Server::start(door);
    let (socket, hello) = (socket(), hello(versions));
    let cookie = cookie(&socket, server.address, &hello);
    let answer = put(&socket, server.address, &hello.with_cookie(&cookie).datagram());
    assert_eq!(answer, Answer::ServerHello(0xfefd));
}

/// Such a client does not understand the HelloVerifyRequest and goes away; nothing is kept of it.
fn dtls_1_3_alone(door: &Door) {
    let server = Server::start(door);
    let ask = |n: u8| {
        let hello = Hello { random: [n; 32], ..hello(&[0xfefc]) };
        cookie(&socket(), server.address, &hello);
    };
    (0..20).for_each(ask);
    let before = server.resident();
    (0..255).for_each(ask);
    assert!(server.resident() - before <= 256, "{before} KB before, {} KB after", server.resident());
}

fn resumed(door: &Door, options: SslOptions) {
    let server = Server::start(door);
    let mut context = context();
    context.set_options(options);
    let context = context.build();
    let mut first = Client::new(&context, socket(), server.address, 1400);
    first.handshake(PATIENCE).expect("a handshake");
    first.ask(door, b"first");
    assert!(!first.ssl().session_reused());
    let session = first.session();
    first.close();
    let mut second = Client::new(&context, socket(), server.address, 1400).resuming(&session);
    second.handshake(PATIENCE).expect("a handshake");
    assert!(second.ssl().session_reused());
    second.ask(door, b"second");
}

fn cookies(door: &Door) {
    let server = Server::start(door);
    let own = socket();
    let mine = Hello { session_id: vec![5; 32], ..hello(&[]) };
    let cookie = cookie(&own, server.address, &mine);
    let good = mine.with_cookie(&cookie);

    let refused = |socket: &UdpSocket, hello: &Hello, what: &str| {
        let answer = put(socket, server.address, &hello.datagram());
        assert!(matches!(answer, Answer::Cookie(_)), "{what}: {answer:?}");
    };
    refused(&socket(), &good, "from another port");
    let port = own.local_addr().expect("bound").port();
    let elsewhere = UdpSocket::bind((own_host(), port)).expect("nobody else is at this address");
    refused(&elsewhere, &good, "from another address");
    refused(&own, &Hello { random: [9; 32], ..good.clone() }, "with another random");
    refused(&own, &Hello { session_id: vec![6; 32], ..good.clone() }, "with another session id");
    refused(&own, &Hello { session_id: vec![], ..good.clone() }, "without the session id");
    refused(&own, &Hello { version: 0xfeff, ..good.clone() }, "with another version");
    refused(&own, &Hello { cookie: cookie[..cookie.len() - 1].to_vec(), ..good.clone() }, "cut short");
    refused(&own, &Hello { cookie: [&cookie[..], &[0]].concat(), ..good.clone() }, "with a byte more");
    for bit in 0..cookie.len() * 8 {
        let mut flipped = cookie.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&own, &Hello { cookie: flipped, ..good.clone() }, "with a bit flipped");
    }
    assert_eq!(put(&own, server.address, &good.datagram()), Answer::ServerHello(0xfefd));
}

/// OpenSSL's client ignores a second HelloVerifyRequest and goes on repeating its hello with the first cookie.
fn cookie_lasts(door: &Door) {
    let server = Server::start(door);
    let (socket, hello) = (socket(), hello(&[]));
    let cookie = cookie(&socket, server.address, &hello);
    std::thread::sleep(Duration::from_secs(180));
    let answer = put(&socket, server.address, &hello.with_cookie(&cookie).datagram());
    assert_eq!(answer, Answer::ServerHello(0xfefd));
}

fn shared_secret(door: &Door) {
    let file = |name: &str, secret: &str| {
        let path = directory().join(format!("{name}-{}", door.name));
        std::fs::write(&path, secret).expect("written");
        path
    };
    let ours = file("secret", "sixteen bytes and some more");
    let theirs = file("other-secret", "sixteen bytes of another fleet");
    let start = |secret: &std::path::Path| Setup::new().with("DV_COOKIE_SECRET_FILE", secret.display()).start(door);
    let (one, other, stranger) = (start(&ours), start(&ours), start(&theirs));
    let (socket, hello) = (socket(), hello(&[]));
    let good = hello.with_cookie(&cookie(&socket, one.address, &hello)).datagram();
    assert!(matches!(put(&socket, stranger.address, &good), Answer::Cookie(_)));
    assert_eq!(put(&socket, other.address, &good), Answer::ServerHello(0xfefd));
}

/// <https://github.com/openssl/openssl/issues/18968>, <https://github.com/openssl/openssl/issues/5478>: only the first
/// record of a datagram was seen, or a second datagram overwrote what was left of it;
/// <https://github.com/openssl/openssl/issues/19250>: SSL_pending knew nothing of the rest.
fn several_records(door: &Door) {
    let server = Server::start(door);
    let mut client = Client::connect(server.address);
    let mut held = Vec::new();
    client.rewrite(move |datagram| {
        held.extend_from_slice(datagram);
        if held.len() < 3 * datagram.len() { Vec::new() } else { vec![std::mem::take(&mut held)] }
    });
    let messages = [b"message 1", b"message 2", b"message 3"];
    messages.iter().for_each(|message| client.send(*message));
    client.let_through();
    if door.drains {
        for message in messages {
            assert_eq!(client.receive(PATIENCE), Ok(Some(door.reply(message))));
        }
        return;
    }
    // A main that reads once a datagram has one message of each: late, but in order and none lost.
    for more in [b"message 4", b"message 5"] {
        assert_eq!(client.receive(PATIENCE), Ok(Some(door.reply(b""))));
        client.send(more);
    }
    assert_eq!(client.receive(PATIENCE), Ok(Some(door.reply(b""))));
    server.says("'message 3'");
    let output = server.output();
    let at = |message: &[u8; 9]| output.find(std::str::from_utf8(message).expect("text")).expect("printed");
    assert!(at(messages[0]) < at(messages[1]) && at(messages[1]) < at(messages[2]), "{output}");
    assert!(!output.contains("message 4"), "two more wait: {output}");
}

/// The server notices the client's goodbye and says its own.
fn close_notify(door: &Door) {
    let server = Server::start(door);
    let mut client = Client::connect(server.address);
    client.ask(door, b"a message");
    client.shut_down();
    client.is_closed();
    server.says("closed");
}

/// A goodbye that comes in one datagram with messages: no answer to them leaves any more, but the program gets them all.
fn goodbye_in_a_datagram(door: &Door) {
    let server = Server::start(door);
    let mut client = Client::connect(server.address);
    let (mut held, mut count) = (Vec::new(), 0);
    client.rewrite(move |datagram| {
        held.extend_from_slice(datagram);
        count += 1;
        if count < 3 { Vec::new() } else { vec![std::mem::take(&mut held)] }
    });
    client.send(b"message 1");
    client.send(b"message 2");
    client.shut_down();
    client.is_closed();
    server.says("has closed");
    let output = server.output();
    assert!(output.contains("message 1") && output.contains("message 2"), "{output}");
}

/// It costs the server a handshake, at the word of a client that has a connection already.
fn renegotiation(door: &Door) {
    let server = Server::start(door);
    let mut other = Client::connect(server.address);
    let mut client = Client::connect(server.address);
    client.ask(door, b"before");
    client.begin_anew();
    let why = client.handshake(PATIENCE).expect_err("there is no second handshake");
    assert!(why.contains("no renegotiation"), "{why}");
    other.ask(door, b"meanwhile");
    Client::connect(server.address).ask(door, b"a message");
}

/// A socket for each client, bound and then connected, takes what others were to get:
/// <https://github.com/openssl/openssl/issues/6934>, <https://github.com/Mbed-TLS/mbedtls/pull/3132>. Many have asked how it is
/// done with one (<https://github.com/rust-openssl/rust-openssl/issues/1750>,
/// <https://github.com/rust-openssl/rust-openssl/issues/1162>, <https://github.com/rust-openssl/rust-openssl/issues/528>,
/// <https://github.com/algesten/str0m/pull/565>, <https://github.com/python-trio/trio/issues/2010>,
/// <https://github.com/wolfSSL/wolfssl-examples/issues/472>, <https://github.com/zephyrproject-rtos/zephyr/issues/64954>,
/// <https://github.com/pion/dtls/issues/279>, <https://github.com/pion/dtls/issues/618>,
/// <https://github.com/folbricht/routedns/issues/637>) so that a client that says
/// hello and then nothing keeps nobody waiting.
fn one_socket(door: &Door) {
    let server = Server::start(door);
    let resting: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = Client::new(&context().build(), socket(), server.address, 1400);
            client.begin();
            client
        })
        .collect();
    let _first = Client::connect(server.address);
    let before = server.descriptors();
    let _others: Vec<Client> = (0..20).map(|_| Client::connect(server.address)).collect();
    assert_eq!(server.descriptors(), before);
    let echo = if door.echoes { "--expect-echo" } else { "" };
    tool::run("echo", server.address, &format!("--clients 64 --messages 50 {echo}")).good(&server);
    for mut client in resting {
        client.handshake(PATIENCE).expect("it was only slow");
        client.ask(door, b"a message");
    }
}

/// A hello that libssl refuses for good is refused once, and not tried again and again:
/// <https://github.com/rsyslog/rsyslog/issues/7553>, <https://github.com/rsyslog/rsyslog/pull/7554>, <https://github.com/openssl/openssl/issues/18047>.
fn no_common_cipher(door: &Door) {
    let server = Server::start(door);
    let mut other = context();
    other.set_cipher_list("DHE-RSA-AES128-SHA").expect("a list");
    let mut client = Client::new(&other.build(), socket(), server.address, 1400);
    let why = client.handshake(PATIENCE).expect_err("no cipher in common");
    assert!(why.contains("handshake failure"), "{why}");
    let before = server.cpu();
    std::thread::sleep(Duration::from_millis(500));
    let spent = Duration::from_nanos(server.cpu() - before);
    assert!(spent < Duration::from_millis(50), "{spent:?} of nothing to do");
    Client::connect(server.address).ask(door, b"a message");
}

fn ipv6(door: &Door) {
    let server = Setup::new().with("DV_MTU", 256).at(Ipv6Addr::LOCALHOST).start(door);
    let socket = UdpSocket::bind("[::1]:0").expect("a free port");
    let mut client = Client::connect_from(socket.try_clone().expect("a descriptor"), server.address);
    client.ask(door, b"a message");
    let largest = client.wire().received.iter().map(Vec::len).max().expect("datagrams");
    assert!(largest <= 256 - 40 - 8, "{largest} bytes in an IPv6 packet of 256");
    drop(client);
    Client::connect_from(socket, server.address).ask(door, b"restarted");
}

/// What else is proved of both record paths would be proved twice of one of them if the switch did nothing.
fn whose_records(door: &Door) {
    const OURS: &str = "records are made by the library";
    let server = Server::start(door);
    let mut client = Client::connect(server.address);
    client.ask(door, b"a message");
    if door.native_records == Some(true) {
        server.says(OURS);
    } else {
        std::thread::sleep(Duration::from_millis(200));
        assert!(!server.output().contains(OURS), "{}", server.output());
    }
}
