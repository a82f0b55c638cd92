//! What the engine promises, proved against server processes: under loss, floods and attacks, at its limits, and with
//! clients that are not ours.
//!
//! Each proof is one function that is given a door of the library. Those that take minutes are ignored unless asked for
//! (`make test-long`).
//!
//! What goes wrong elsewhere, and which proof shows that it does not here. The complaints are linked where the proof is.
//!
//! | elsewhere | proof |
//! | --- | --- |
//! | state is kept before the cookie, or until a cap is reached | `flood` |
//! | records that are no hello cost a stranger nothing and the server much | `flood::records_of_strangers_are_dropped` |
//! | the ServerHello has the wrong record number after a lost HelloVerifyRequest (OpenSSL 3.2 to 4.0) | `loss::every_datagram_and_pair_lost`, tests/c/lost_answer.c |
//! | DTLSv1_listen takes in what stands behind the hello | `attacks::alert_glued_to_the_hello`, tests/endpoint/hostile.rs |
//! | a repeated hello gets no answer | `hellos::each_repetition_is_answered` |
//! | the HelloVerifyRequest has the version that is agreed on later | `hellos` |
//! | a hello that cannot succeed is tried for ever | `hellos::no_common_cipher_ends_in_an_alert`, `hellos::dtls_1_0_alone_is_refused_with_an_alert` |
//! | a hello in fragments, or with a post-quantum key share | `mtu::hello_in_fragments`, `mtu::hello_with_a_large_key_share` |
//! | a client that restarts on its port is ignored | `restart` |
//! | a socket for each client: races, descriptors; one slow client keeps the others waiting | `hellos::clients_share_one_socket` |
//! | one certificate for each listening socket | tests/c/contexts.c |
//! | answers leave from another address | tests/server/sockets.rs |
//! | flights in datagrams of 256 bytes, or in one that is larger than the MTU | `mtu::no_datagram_is_larger` |
//! | application data in one datagram of any size | `mtu::application_data_that_does_not_fit_is_refused` |
//! | a path that lets no large datagrams through | `loss::flight_that_nobody_answers_gets_smaller` |
//! | a flight is repeated with other boundaries, message by message | `loss::repeated_flight_is_packed_as_it_was`, `clients` |
//! | the last flight is never repeated | `loss::lost_last_flight_is_sent_again` |
//! | timers: given up after minutes, or running on after the handshake | `limits::handshake_timeout`, `loss::nothing_is_repeated_once_it_has_arrived` |
//! | a second record in a datagram is not seen, or overwritten | `hellos::messages_of_one_datagram_come_in_order` |
//! | an empty record looks like the end | tests/c-clients/mbedtls_client.c |
//! | the peer's certificate chain, and early records, are held without bound | `limits::certificate_chain`, `limits::records_before_their_keys` |
//! | memory: of an idle connection, and leaks for each BIO | tests/c/idle_memory.c, tests/c/many_connections.c |
//! | counters that all threads write to | tests/c/two_threads.c |
//! | threads that meet at a connection | tests/c/meetings.c |
//! | no connection IDs | tests/endpoint/cids.rs, tests/cid_interop.rs |

#[path = "../common/mod.rs"]
mod common;
#[path = "../original/document.rs"]
#[allow(dead_code)] // Of the document only the server's main is needed here.
mod document;
#[path = "../original/program.rs"]
#[allow(dead_code)]
mod program;
#[path = "../samples/mod.rs"]
mod samples;

mod addresses;
mod attacks;
mod client;
mod clients;
mod door;
mod flood;
mod hellos;
mod limits;
mod loss;
mod mtu;
mod restart;
mod rust_endpoint;
mod tool;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use document::Document;
use door::Door;

/// A proof.
#[derive(Clone, Copy)]
pub struct Proof {
    name: &'static str,
    run: fn(&Door),
    long: bool,
    needs: fn(&Door) -> bool,
}

impl Proof {
    const fn new(name: &'static str, run: fn(&Door)) -> Proof {
        Proof { name, run, long: false, needs: |_| true }
    }

    /// Takes minutes.
    const fn long(self) -> Proof {
        Proof { long: true, ..self }
    }

    /// Only where the door can do this.
    const fn needs(self, needs: fn(&Door) -> bool) -> Proof {
        Proof { needs, ..self }
    }
}

fn main() {
    rust_endpoint::serve_if_asked();
    let mut arguments = Arguments::from_args();
    // Asked for what is ignored, we run the long ones, but not those that cannot run.
    let all = arguments.ignored || arguments.include_ignored;
    // They wait more than they compute; a thousand handshakes do both.
    arguments.test_threads = arguments.test_threads.or(Some(if all { 6 } else { 16 }));
    let document = Document::read().map(Arc::new);
    if document.is_none() {
        eprintln!("the original document is not at {} (DV_ORIGINAL_DOC): ignored", document::path().display());
    }
    // Those first that wait longest.
    let themes: [(&str, &[Proof]); 9] = [
        ("loss", loss::PROOFS),
        ("clients", clients::PROOFS),
        ("flood", flood::PROOFS),
        ("mtu", mtu::PROOFS),
        ("attacks", attacks::PROOFS),
        ("restart", restart::PROOFS),
        ("hellos", hellos::PROOFS),
        ("addresses", addresses::PROOFS),
        ("limits", limits::PROOFS),
    ];
    let doors = Door::all(document).into_iter().filter(|door| !all || door.is_there());
    let doors: Vec<Arc<Door>> = doors.map(Arc::new).collect();
    let mut trials = Vec::new();
    for (theme, proofs) in themes {
        for (proof, door) in proofs.iter().flat_map(|proof| doors.iter().map(move |door| (*proof, door.clone()))) {
            if !(proof.needs)(&door) {
                continue;
            }
            let name = format!("{theme}::{}::{}", proof.name, door.name);
            let ignored = proof.long || !door.is_there();
            let run = move || {
                (proof.run)(&door);
                Ok(())
            };
            trials.push(Trial::test(name, run).with_ignored_flag(ignored));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
