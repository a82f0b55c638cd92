//! What an operator builds from the examples, with programs that others wrote: a CoAP service behind `dtls_proxy`, servers
//! behind a load balancer, statistics, certificates and keys by name, and a key log that Wireshark reads.
//!
//! What a proof needs and the machine does not have is named, and the proof is ignored.

#[path = "../common/mod.rs"]
mod common;

mod coap;
mod fleet;
mod keylog;
mod metrics;
mod names;
mod signals;

use std::path::Path;

use libtest_mimic::{Arguments, Trial};

use common::{contexts, examples};

/// A proof, and the programs that it needs beside ours.
pub struct Proof {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(),
}

/// The packages of Debian that have those programs.
const PACKAGES: &[(&str, &str)] = &[
    ("coap-server-notls", "libcoap3-bin"),
    ("coap-client-openssl", "libcoap3-bin"),
    ("coap-client-gnutls", "libcoap3-bin"),
    ("gnutls-cli", "gnutls-bin"),
    ("tshark", "tshark"),
    ("nginx", "nginx and libnginx-mod-stream"),
];

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons are in a folder that a user's PATH may lack.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).any(|path| path.exists())
        && (program != "nginx" || Path::new(fleet::NGINX_STREAM).exists())
}

fn main() {
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let (mut trials, mut missing) = (Vec::new(), Vec::new());
    for (theme, proofs) in [
        ("coap", coap::PROOFS),
        ("fleet", fleet::PROOFS),
        ("keylog", keylog::PROOFS),
        ("metrics", metrics::PROOFS),
        ("names", names::PROOFS),
        ("signals", signals::PROOFS),
    ] {
        for proof in proofs {
            let lacks: Vec<_> = proof.needs.iter().filter(|program| !is_there(program)).collect();
            // Asked for what is ignored, we do not run what cannot run.
            if lacks.is_empty() || !(arguments.ignored || arguments.include_ignored) {
                let run = || {
                    (proof.run)();
                    Ok(())
                };
                let name = format!("{theme}::{}", proof.name);
                trials.push(Trial::test(name, run).with_ignored_flag(!lacks.is_empty()));
            }
            missing.extend(lacks);
        }
    }
    for (program, package) in PACKAGES.iter().filter(|(program, _)| missing.contains(&program)) {
        eprintln!("{program} is not here: what needs it is ignored (Debian: apt-get install {package})");
    }
    libtest_mimic::run(&arguments, trials).exit();
}
