//! `dv-load`: load, faults and attacks against a DTLS server on this machine.
//!
//! One process is many clients. They are the system's OpenSSL and nothing of dv_dtls, so that what is measured and what
//! measures it have no mistake in common. Each run ends by itself, prints one line of JSON, and says with its exit code
//! whether what it was to show was so.

mod args;
mod attack;
mod batch;
mod bench;
mod client;
mod connect;
mod crowd;
#[path = "../../tests/original/document.rs"]
#[allow(dead_code)] // The tests need more of it.
mod document;
mod echo;
mod failover;
mod flood;
mod forge;
mod handshake;
mod hold;
mod matrix;
mod process;
mod proxy;
mod random;
mod report;
mod restart;
mod soak;
mod sys;

/// What `document` needs of the place that it is included into.
mod common {
    use std::path::{Path, PathBuf};

    /// The project's root.
    pub fn root() -> PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).to_owned()
    }
}

use std::process::ExitCode;

use args::{Args, Usage};

/// A subcommand: its name, its help, and what runs it. It returns whether what it was to show was so.
type Command = (&'static str, &'static str, fn(Args) -> Result<bool, Usage>);

const COMMANDS: &[Command] = &[
    ("handshake", handshake::HELP, handshake::run),
    ("matrix", matrix::HELP, matrix::run),
    ("echo", echo::HELP, echo::run),
    ("hold", hold::HELP, hold::run),
    ("flood", flood::HELP, flood::run),
    ("attack", attack::HELP, attack::run),
    ("restart", restart::HELP, restart::run),
    ("failover", failover::HELP, failover::run),
    ("proxy", proxy::HELP, proxy::run),
    ("bench", bench::HELP, bench::run),
    ("soak", soak::HELP, soak::run),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let help = ["-h", "--help", "help", ""].contains(&name.as_str());
    let Some((_, usage, run)) = COMMANDS.iter().find(|(command, ..)| *command == name) else {
        let all: Vec<&str> = COMMANDS.iter().map(|(_, usage, _)| *usage).collect();
        let text =
            format!("dv-load: load, faults and attacks against a DTLS server on this machine\n\n{}", all.join("\n\n"));
        if help {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        eprintln!("dv-load: no subcommand {name}\n\n{text}");
        return ExitCode::from(2);
    };
    if words.iter().any(|word| word == "-h" || word == "--help") {
        println!("dv-load {usage}");
        return ExitCode::SUCCESS;
    }
    sys::raise_open_files();
    match run(Args::new(words)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("dv-load {name}: {why}");
            ExitCode::from(2)
        }
    }
}
