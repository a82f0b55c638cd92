//! No datagram is larger than the MTU says, and hellos that are larger than the client's come in fragments.
//!
//! Flights in 256 bytes a datagram whatever the MTU: <https://github.com/rust-openssl/rust-openssl/issues/1155>,
//! <https://github.com/rust-openssl/rust-openssl/issues/1732>, <https://github.com/rust-openssl/rust-openssl/issues/1751>,
//! <https://github.com/openssl/openssl/issues/21532>, <https://github.com/OvenMediaLabs/OvenMediaEngine/issues/2329>. Flights
//! in one datagram whatever the MTU, since BIO_s_mem joins what is written to it:
//! <https://github.com/meetecho/janus-gateway/issues/252>, <https://github.com/ossrs/srs/pull/3565>,
//! <https://github.com/versatica/mediasoup/issues/4>, <https://github.com/versatica/mediasoup/pull/1343>,
//! <https://github.com/elixir-webrtc/ex_dtls/pull/49>. Later fragments of a hello that went past the SSL that had to have them:
//! <https://github.com/openssl/openssl/issues/25380>, <https://github.com/openssl/openssl/pull/29592>,
//! <https://github.com/Mbed-TLS/mbedtls/issues/7549>, <https://github.com/wolfSSL/wolfssl/issues/9266>.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use crate::Proof;
use crate::client::{Client, PATIENCE, context, socket, talkative};
use crate::door::{Door, Server, Setup};
use crate::samples::Hello;

pub const PROOFS: &[Proof] = &[
    Proof::new("no_datagram_is_larger", no_datagram_is_larger),
    Proof::new("hello_in_fragments", hello_in_fragments),
    Proof::new("hello_with_a_large_key_share", large_key_share),
    Proof::new("first_fragment_before_the_cookie_is_dropped", short_first_fragment),
    Proof::new("application_data_that_does_not_fit_is_refused", too_long).needs(|door| door.echoes),
];

pub const IP_AND_UDP: usize = 20 + 8;

fn no_datagram_is_larger(door: &Door) {
    for identity in ["server-ecdsa", "server-chain5-rsa4096"] {
        for mtu in [256, 512, 576, 1280, 1400] {
            let server = Setup::new().with("DV_MTU", mtu).identity(identity).start(door);
            let mut client = Client::connect(server.address);
            client.ask(door, b"a message");
            let sizes: Vec<usize> = client.wire().received.iter().map(|datagram| datagram.len() + IP_AND_UDP).collect();
            let largest = *sizes.iter().max().expect("datagrams");
            assert!(largest <= mtu, "MTU {mtu}: {sizes:?}");
            // The chain is longer than any of them: the room is used.
            if identity == "server-chain5-rsa4096" {
                assert!(largest > mtu - 64, "MTU {mtu}: {sizes:?}");
                let flight: usize = sizes.iter().sum();
                assert!(sizes.len() <= flight / (mtu - 64) + 4, "MTU {mtu}: {sizes:?}");
            }
        }
    }
}

/// How long the datagrams are that have the fragments of one hello, in their order; a slow client repeats them.
fn fragments(client: &Client, message_seq: u8) -> Vec<usize> {
    let is = |datagram: &&Vec<u8>| datagram[0] == 22 && datagram[13] == 1 && datagram[18] == message_seq;
    let sent = client.wire().sent.iter().filter(is);
    let by_offset: BTreeMap<&[u8], usize> = sent.map(|datagram| (&datagram[19..22], datagram.len())).collect();
    by_offset.into_values().collect()
}

fn hello_in_fragments(door: &Door) {
    let server = Server::start(door);
    // The hello without the list of protocols has about 200 bytes.
    for (parts, protocols, mtu) in [(2, 200, 256), (3, 400, 256), (4, 600, 256)] {
        for order in [Order::AsTheyAre, Order::LaterOnesReversed, Order::InOneDatagram] {
            let mut client = Client::new(&talkative(protocols).build(), socket(), server.address, mtu);
            client.rewrite(hello_in_order(order, parts));
            client.handshake(PATIENCE).unwrap_or_else(|why| panic!("{parts} fragments: {why}"));
            assert_eq!(fragments(&client, 1).len(), parts);
            client.ask(door, b"a message");
            client.close();
        }
    }
}

#[derive(Clone, Copy)]
enum Order {
    AsTheyAre,
    LaterOnesReversed,
    InOneDatagram,
}

/// Keeps the fragments of a hello back until all are there, and then lets them go in this order.
fn hello_in_order(order: Order, parts: usize) -> impl FnMut(&[u8]) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    move |datagram| {
        let hello = datagram[0] == 22 && datagram[4] == 0 && datagram[13] == 1;
        if !hello {
            return vec![datagram.to_vec()];
        }
        kept.push(datagram.to_vec());
        if kept.len() < parts {
            return Vec::new();
        }
        let mut all = std::mem::take(&mut kept);
        match order {
            Order::AsTheyAre => {}
            Order::LaterOnesReversed => all[1..].reverse(),
            Order::InOneDatagram => all = vec![all.concat()],
        }
        all
    }
}

/// A hello of about 1200 + 280 bytes, as clients with a post-quantum key share send it:
/// <https://github.com/openssl/openssl/issues/27640>.
fn large_key_share(door: &Door) {
    let server = Server::start(door);
    let mut client = Client::new(&talkative(1200).build(), socket(), server.address, 1200);
    client.handshake(PATIENCE).expect("a handshake");
    let hello = fragments(&client, 1);
    assert!(hello.len() == 2 && hello[0] > 1150 && hello[1] > 200, "{hello:?}");
    client.ask(door, b"a message");
}

fn short_first_fragment(door: &Door) {
    let server = Server::start(door);
    let socket = connected(&server);
    let hello = Hello { session_id: vec![7; 32], cookie: vec![9; 20], message_seq: 1, ..Hello::default() };
    // Everything up to the last byte of the cookie.
    for len in [0, 1, 33, 34, 35, 67, 87] {
        socket.send(&hello.fragment(0, len)).expect("sent");
    }
    socket.send(&hello.fragment(0, 88)).expect("sent");
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).expect("the fragment that reaches over the cookie is answered");
    assert_eq!((buffer[0], buffer[13]), (22, 3), "with a HelloVerifyRequest");
    assert!(len <= hello.fragment(0, 88).len());
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("not zero");
    assert!(socket.recv(&mut buffer).is_err(), "no other one is");
    Client::connect(server.address).ask(door, b"a message");
}

fn connected(server: &Server) -> UdpSocket {
    let socket = socket();
    socket.connect(server.address).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket
}

/// OpenSSL itself would send one datagram of any size. What fits is answered whole, and what does not ends nothing.
fn too_long(door: &Door) {
    for mtu in [576, 1280] {
        let server = Setup::new().with("DV_MTU", mtu).start(door);
        let mut client = Client::new(&context().build(), socket(), server.address, 1400);
        client.handshake(PATIENCE).expect("a handshake");
        let fits = mtu - IP_AND_UDP - 13 - 24;
        client.ask(door, &vec![b'x'; fits]);
        client.send(&vec![b'x'; fits + 1]);
        server.says("cannot answer");
        client.ask(door, b"a message");
    }
}
