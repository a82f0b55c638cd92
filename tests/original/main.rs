//! The original program against the library: its mains unchanged, its helpers replaced all together and one at a time.
//!
//! Everything is cut out of the original document (`DV_ORIGINAL_DOC`) byte for byte. Without it all of this counts as
//! ignored; a test that needs nothing but the library is somewhere else.

#[path = "../common/mod.rs"]
mod common;
mod document;
mod exchange;
mod piece;
mod program;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use common::Link;
use document::{Document, item};
use exchange::{Identity, Server};
use program::{CLIENT_MAIN, Program, SERVER_MAIN, Taken, UNITS, helpers};

fn main() {
    let document = Document::read().map(Arc::new);
    if document.is_none() {
        eprintln!("the original document is not at {} (DV_ORIGINAL_DOC): ignored", document::path().display());
    }
    let mut trials = Vec::new();
    let mut add = |name: String, test: Box<dyn FnOnce(&Document) + Send>| {
        let given = document.clone();
        let run = move || {
            test(&given.expect("only run with --ignored when there is a document"));
            Ok(())
        };
        trials.push(Trial::test(name, run).with_ignored_flag(document.is_none()));
    };

    add("document::is_cut_whole".into(), Box::new(is_cut_whole));
    for link in Link::BOTH {
        for identity in Identity::BOTH {
            for (pair, client, server) in PAIRS {
                let name = format!("mains::{pair}::{}::{}", link.name(), identity.name());
                add(name, Box::new(move |document| mains(document, client, server, link, identity)));
            }
            let name = format!("mains::s_client_and_library_server::{}::{}", link.name(), identity.name());
            add(name, Box::new(move |document| s_client(document, link, identity)));
        }
        for (pair, client, server) in PAIRS {
            let name = format!("mains::wrong_ca::{pair}::{}", link.name());
            add(name, Box::new(move |document| wrong_ca(document, client, server, link)));
        }
    }
    for (unit, (helper, ..)) in UNITS.iter().enumerate() {
        for (verb, taken) in [("keep", Taken::all_but(unit)), ("take", Taken::only(unit))] {
            let name = format!("one_helper::{verb}_{helper}");
            add(name, Box::new(move |document| one_helper(document, taken)));
        }
    }
    let forward: Vec<usize> = (0..UNITS.len()).collect();
    let backward: Vec<usize> = (0..UNITS.len()).rev().collect();
    for (order, units) in [("forward", forward), ("backward", backward), ("shuffled", shuffled())] {
        add(format!("migration::{order}"), Box::new(move |document| migration(document, &units)));
    }
    add("hash::is_the_originals".into(), Box::new(piece::hash_is_the_originals));
    add("layout::is_the_originals".into(), Box::new(piece::layout_is_the_originals));

    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Whose helpers client and server use.
const PAIRS: [(&str, Taken, Taken); 3] = [
    ("library_client_and_library_server", Taken::ALL, Taken::ALL),
    ("original_client_and_library_server", Taken::NONE, Taken::ALL),
    ("library_client_and_original_server", Taken::ALL, Taken::NONE),
];

/// The cutting: every helper and both mains are found, and what both listings have is the same in both.
fn is_cut_whole(document: &Document) {
    assert_eq!(helpers().count(), 19);
    for helper in helpers() {
        let text = &item(&document.server, helper).text;
        assert!(text.starts_with("static") && text.ends_with('}'), "{text}");
    }
    for helper in ["dv_openssl_ctx_set_ciphers", "dv_openssl_callback", "dv_openssl_set_verify"] {
        assert_eq!(item(&document.client, helper).text, item(&document.server, helper).text);
    }
    assert!(item(&document.client, CLIENT_MAIN).text.contains("SSL_connect"));
    assert!(item(&document.server, SERVER_MAIN).text.contains("epoll_wait"));
    let whole = std::fs::read_to_string(document::path()).expect("read before");
    for item in document.client.iter().chain(&document.server) {
        assert!(whole.contains(&item.text), "{}", item.text);
    }
}

/// Client and server, twice one after the other.
fn mains(document: &Document, client: Taken, server: Taken, link: Link, identity: Identity) {
    let client = Program::client(client, link).build(document);
    let mut server = Server::start(&Program::server(server, link).build(document), identity);
    for exchanges in 1..=2 {
        server.serve(&client, "ca.pem").complete(&server);
        assert_eq!(server.requests(), exchanges, "{}", server.output());
        server.saw_go(exchanges);
    }
}

/// OpenSSL's own client over IPv6, over IPv4, and over IPv6 again.
///
/// The main leaves `addrlen` at 16 after an IPv4 datagram, so that of the next IPv6 peer only half of the address arrives;
/// that hello is dropped, and its repetition is served.
fn s_client(document: &Document, link: Link, identity: Identity) {
    let mut server = Server::start(&Program::server(Taken::ALL, link).build(document), identity);
    for (before, at) in [server.ipv6, server.ipv4, server.ipv6].into_iter().enumerate() {
        server.serve_s_client(at).complete(&server);
        assert_eq!(server.requests(), before + 1, "{}", server.output());
        server.saw_go(before + 1);
    }
}

/// A client that trusts another CA says so and sends nothing.
fn wrong_ca(document: &Document, client: Taken, server: Taken, link: Link) {
    let client = Program::client(client, link).build(document);
    let server = Server::start(&Program::server(server, link).build(document), Identity::Ecdsa);
    let outcome = server.serve(&client, "other-ca.pem");
    assert!(!outcome.status.success() && outcome.output.contains("verify failed"), "{outcome:?}");
    // Were the request under way, this exchange would bring the server's count to two.
    server.serve(&client, "ca.pem").complete(&server);
    assert_eq!(server.requests(), 1, "{}", server.output());
}

/// Client and server in one program that mixes its own helpers with the library's: three exchanges with one server.
fn one_helper(document: &Document, taken: Taken) {
    for link in Link::BOTH {
        let program = Program::both(taken, link).build(document);
        let borrowed = common::undefined(&program.with_extension("o"), "dv_");
        assert!(!borrowed.is_empty() && borrowed.iter().all(|helper| taken.contains(helper)), "{borrowed:?}");
        let mut server = Server::start(&program, Identity::Ecdsa);
        for exchanges in 1..=3 {
            server.serve(&program, "ca.pem").complete(&server);
            assert_eq!(server.requests(), exchanges, "{}", server.output());
            server.saw_go(exchanges);
        }
    }
}

/// A program that goes over to the library unit by unit, in this order: it works after each step.
fn migration(document: &Document, order: &[usize]) {
    let mut taken = Taken::NONE;
    for &unit in order {
        taken = taken.and(unit);
        let program = Program::both(taken, Link::Shared).build(document);
        let mut server = Server::start(&program, Identity::Ecdsa);
        server.serve(&program, "ca.pem").complete(&server);
        server.saw_go(1);
    }
    assert_eq!(taken, Taken::ALL);
}

/// The units in an order of chance; what fails is named by the program's path in the message.
fn shuffled() -> Vec<usize> {
    let random = RandomState::new();
    let mut units: Vec<usize> = (0..UNITS.len()).collect();
    units.sort_by_key(|unit| random.hash_one(unit));
    units
}
