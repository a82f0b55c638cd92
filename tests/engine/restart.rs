//! A client that comes again from its port (RFC 6347 4.2.8), and somebody who only pretends that it does.
//!
//! <https://github.com/openssl/openssl/issues/3283>, <https://github.com/pion/dtls/issues/253>,
//! <https://github.com/mobius-software-ltd/java-dtls/issues/3>: the restarted client was ignored for as long as it tried.

use std::time::Duration;

use crate::Proof;
use crate::client::{Client, PATIENCE, context};
use crate::common::process::in_less_than;
use crate::door::{Door, Server, Setup};
use crate::tool;

pub const PROOFS: &[Proof] = &[
    Proof::new("client_restarts_and_spoofer_does_not_matter", |door| restart(door, 20)),
    Proof::new("client_restarts_1000_times", |door| restart(door, 1000)).long(),
    Proof::new("half_a_restart_leaves_the_old_connection", half),
    Proof::new("many_halves_are_bounded", many_halves),
    Proof::new("new_hello_is_not_answered_with_the_old_flight", old_flight),
];

fn restart(door: &Door, count: u32) {
    let server = Server::start(door);
    let echo = if door.echoes { "--expect-echo" } else { "" };
    let report = tool::run("restart", server.address, &format!("--count {count} {echo}")).good(&server);
    assert_eq!(report.number("restarted"), f64::from(count));
}

/// The spoofer gets as far as the server's flight, which goes to the client's port, and can do no more.
fn half(door: &Door) {
    let server = Server::start(door);
    let socket = crate::client::socket();
    let mut old = Client::connect_from(socket.try_clone().expect("a descriptor"), server.address);
    old.ask(door, b"before");
    let mut new = Client::new(&context().build(), socket, server.address, 1400);
    new.begin();
    for _ in 0..3 {
        old.ask(door, b"meanwhile");
    }
    assert!(!server.output().contains("closed"), "{}", server.output());
}

/// The timer of the first handshake runs out while the second one has not heard anything: what it would send ends in a "bad
/// signature" there.
fn old_flight(door: &Door) {
    const FIRST_TIMEOUT: Duration = Duration::from_millis(700);
    let server = Setup::new().with("DV_FIRST_TIMEOUT_MS", FIRST_TIMEOUT.as_millis()).start(door);
    // As long as there is no second one, the first one's flight may well be repeated.
    let mut new = in_less_than(FIRST_TIMEOUT, || {
        let socket = crate::client::socket();
        let mut old = Client::new(&context().build(), socket.try_clone().expect("a descriptor"), server.address, 1400);
        old.begin();
        let mut new = Client::new(&context().build(), socket, server.address, 1400);
        // It hears the HelloVerifyRequest, and its first flight is lost.
        new.turn_deaf(1);
        new
    });
    new.handshake(PATIENCE).expect("the flight is sent again to whom it is for");
    new.ask(door, b"after");
}

/// Each half restart takes the place of the one before: what a spoofer can pile up is one handshake.
fn many_halves(door: &Door) {
    // Nothing that was for the one before is repeated to its successor, however busy the machine is.
    let server = Setup::new().with("DV_FIRST_TIMEOUT_MS", 60_000).start(door);
    let socket = crate::client::socket();
    let mut old = Client::connect_from(socket.try_clone().expect("a descriptor"), server.address);
    let context = context().build();
    let spoof = |times| {
        for _ in 0..times {
            Client::new(&context, socket.try_clone().expect("a descriptor"), server.address, 1400).begin();
        }
    };
    spoof(50);
    let before = server.resident();
    spoof(300);
    old.ask(door, b"after");
    assert!(server.resident() - before <= 1024, "{before} KB before, {} KB after", server.resident());
}
