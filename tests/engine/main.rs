//! What the engine promises, proved against server processes: under loss, floods and attacks, at its limits, and with
//! clients that are not ours.
//!
//! Each proof is one function that is given a door of the library. Those that take minutes are ignored unless asked for
//! (`make test-long`).

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
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    arguments.test_threads = arguments.test_threads.or(Some(8));
    let document = Document::read().map(Arc::new);
    if document.is_none() {
        eprintln!("the original document is not at {} (DV_ORIGINAL_DOC): ignored", document::path().display());
    }
    let themes: [(&str, &[Proof]); 9] = [
        ("flood", flood::PROOFS),
        ("loss", loss::PROOFS),
        ("mtu", mtu::PROOFS),
        ("attacks", attacks::PROOFS),
        ("restart", restart::PROOFS),
        ("hellos", hellos::PROOFS),
        ("addresses", addresses::PROOFS),
        ("limits", limits::PROOFS),
        ("clients", clients::PROOFS),
    ];
    // Asked for what is ignored, we run the long ones, but not those that cannot run.
    let all = arguments.ignored || arguments.include_ignored;
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
