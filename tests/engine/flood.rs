//! Hellos without a cookie, from very many addresses: nothing is kept of them, and nobody else notices.
//!
//! Servers that kept state before the cookie, or until a cap that a few spoofed datagrams a second reach:
//! <https://github.com/coturn/coturn/security/advisories/GHSA-5x2p-4vqj-f6m4>,
//! <https://github.com/coturn/coturn/pull/2012>, <https://github.com/openssl/openssl/issues/22197>,
//! <https://github.com/openssl/openssl/pull/31980>, <https://github.com/wolfSSL/wolfssl/pull/4850>,
//! <https://github.com/obgm/libcoap/issues/283>.

use std::time::Duration;

use crate::Proof;
use crate::client::{Client, socket};
use crate::door::{Door, Server};
use crate::tool;

pub const PROOFS: &[Proof] = &[
    Proof::new("hellos_are_answered_and_forgotten", |door| forgotten(door, 50_000)),
    Proof::new("a_million_hellos_are_answered_and_forgotten", |door| forgotten(door, 1_000_000)).long(),
    Proof::new("records_of_strangers_are_dropped", strangers),
    Proof::new("clients_go_on_beside_it", |door| beside(door, 3)),
    Proof::new("clients_go_on_beside_it_for_long", |door| beside(door, 60)).long(),
];

fn forgotten(door: &Door, hellos: u64) {
    let server = Server::start(door);
    // What the process needs once, for whatever first hello.
    tool::run("flood", server.address, "--saturate --sources 100 --count 1000");
    let before = server.lost_in_socket();
    let options = format!("--saturate --sources 10000 --count {hellos} --pid {}", server.pid());
    let report = tool::run("flood", server.address, &options);
    // Each one that the server got. A saturated socket, of its or ours, loses some, and the kernel counts them.
    let lost = server.lost_in_socket() - before + report.number("lost_in_own_sockets");
    assert_eq!(report.number("answered"), hellos as f64 - lost, "{lost} were lost in sockets");
    assert!(lost <= hellos as f64 * 0.01, "{lost} were lost in sockets");
    report.at_most("longer_than_hello", 0.0);
    report.at_most("server_gained_kb", 1024.0);
}

fn beside(door: &Door, seconds: u32) {
    let server = Server::start(door);
    let options = format!("--beside 64 --rate 20000 --sources 10000 --seconds {seconds}");
    tool::run("flood", server.address, &options).good(&server);
}

/// Records that are no hello, from ports that nobody knows: <https://github.com/coturn/coturn/commit/44aabc0d>.
fn strangers(door: &Door) {
    let server = Server::start(door);
    let mut client = Client::connect(server.address);
    let mut strangers_each = |strangers: u32| {
        for content_type in 20..=25u8 {
            for _ in 0..strangers {
                let stranger = socket();
                stranger.set_read_timeout(Some(Duration::from_millis(10))).expect("not zero");
                stranger.connect(server.address).expect("loopback");
                for epoch in [0, 1] {
                    for n in 0..50u8 {
                        let mut record = vec![content_type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, n, 0, 200];
                        record.resize(13 + 200, 0);
                        stranger.send(&record).expect("loopback takes it");
                    }
                    // The server has seen them all when it has answered this, if it has one socket, or else soon after.
                    client.ask(door, b"meanwhile");
                }
                assert!(stranger.recv(&mut [0; 64]).is_err(), "records of type {content_type} were answered");
            }
        }
    };
    // Buffers for as many datagrams as come at once are what the process needs anyway, and that is more when it had to wait for
    // its turn. What is kept for strangers comes to more each time.
    strangers_each(1);
    let mut gained = Vec::new();
    let bounded = (0..3).any(|_| {
        let before = server.resident();
        strangers_each(10);
        gained.push(server.resident() - before);
        gained.last() <= Some(&128)
    });
    assert!(bounded, "KB in each round: {gained:?}");
}
