//! Forged datagrams from the port of a live client: what somebody can send who can spoof its address and has no key.
//!
//! A plaintext alert glued behind a hello kills a handshake of DTLSv1_listen in OpenSSL 3.2 to 4.0
//! (<https://github.com/openssl/openssl/pull/28815>); records of other kinds cost a server 19 KB each
//! (<https://github.com/coturn/coturn/commit/44aabc0d>).

use crate::Proof;
use crate::client::{Client, PATIENCE, context, socket};
use crate::door::{Door, Server};
use crate::tool;

const ON_CONNECTIONS: [&str; 10] = [
    "junk",
    "handshake",
    "alert",
    "alert-glued",
    "hello",
    "hello-stale-cookie",
    "ccs",
    "epoch-jump",
    "truncate",
    "replay",
];

/// What a handshake in progress survives. Its messages are in clear, so a forged one of those could be a true one; and a
/// forged hello brings the client a cookie that is not its own.
const ON_HANDSHAKES: [&str; 4] = ["junk", "alert", "ccs", "epoch-jump"];

/// What a peer can make the server hold, in kilobytes: records out of order, a second handshake, allocator's slack.
const BOUND: f64 = 512.0;

pub const PROOFS: &[Proof] = &[
    Proof::new("connections_survive", |door| connections(door, 500)),
    Proof::new("connections_survive_10000_tries", |door| connections(door, 10_000)).long(),
    Proof::new("alert_glued_to_the_hello", glued),
    Proof::new("handshakes_complete", |door| handshakes(door, 500)),
    Proof::new("handshakes_complete_in_10000_tries", |door| handshakes(door, 10_000)).long(),
];

fn connections(door: &Door, tries: u32) {
    let echo = if door.echoes { "--expect-echo" } else { "" };
    for mode in ON_CONNECTIONS {
        let server = Server::start(door);
        let options = format!("--mode {mode} --tries {tries} --pid {} {echo}", server.pid());
        let report = tool::run("attack", server.address, &options).good(&server);
        report.at_least("forged", f64::from(tries));
        report.at_most("server_gained_kb", BOUND);
    }
}

fn handshakes(door: &Door, tries: u32) {
    for mode in ON_HANDSHAKES {
        let server = Server::start(door);
        tool::run("attack", server.address, &format!("--mode {mode} --tries {tries} --in-progress")).good(&server);
    }
}

/// The hello that brings the cookie comes with a fatal alert behind it, from somebody who has seen it pass.
fn glued(door: &Door) {
    const ALERT: [u8; 15] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let server = Server::start(door);
    let mut client = Client::new(&context().build(), socket(), server.address, 1400);
    client.rewrite(|datagram| {
        let hello = datagram[0] == 22 && datagram[13] == 1;
        if hello { vec![[datagram, &ALERT].concat(), datagram.to_vec()] } else { vec![datagram.to_vec()] }
    });
    client.handshake(PATIENCE).expect("a handshake");
    client.let_through();
    client.ask(door, b"a message");
}
