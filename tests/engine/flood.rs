//! Hellos without a cookie, from very many addresses: nothing is kept of them, and nobody else notices.
//!
//! <https://github.com/coturn/coturn/security/advisories/GHSA-5x2p-4vqj-f6m4>: a server that kept state before the cookie.

use crate::Proof;
use crate::door::{Door, Server};
use crate::tool;

pub const PROOFS: &[Proof] = &[
    Proof::new("hellos_are_answered_and_forgotten", |door| forgotten(door, 50_000)),
    Proof::new("a_million_hellos_are_answered_and_forgotten", |door| forgotten(door, 1_000_000)).long(),
    Proof::new("clients_go_on_beside_it", |door| beside(door, 3)),
    Proof::new("clients_go_on_beside_it_for_long", |door| beside(door, 60)).long(),
];

fn forgotten(door: &Door, hellos: u64) {
    let server = Server::start(door);
    // What the process needs once, for whatever first hello.
    tool::run("flood", server.address, "--saturate --sources 100 --count 1000").good(&server);
    let options = format!("--saturate --sources 10000 --count {hellos} --pid {}", server.pid());
    let report = tool::run("flood", server.address, &options).good(&server);
    report.at_least("answered", hellos as f64);
    report.at_most("server_gained_kb", 1024.0);
}

fn beside(door: &Door, seconds: u32) {
    let server = Server::start(door);
    let options = format!("--beside 64 --rate 20000 --sources 10000 --seconds {seconds}");
    tool::run("flood", server.address, &options).good(&server);
}
