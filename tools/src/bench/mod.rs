//! `dv-load bench`: the project's servers, the original program, and small servers on other libraries, all in one run.

mod aims;
mod parts;
mod plot;
mod results;
pub mod servers;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aims::{AIMS, PARTS};
use parts::Bench;
use results::Results;
use servers::{Built, output};

use crate::args::{Args, Usage};
use crate::client::{Profile, Timer};
use crate::sys;

/// The options of the subcommand.
pub const HELP: &str = "\
bench [--quick] [--parts PART,...] [--servers SERVER,...] [--rounds N] [--directory DIR] [--record FILE]
  Builds and measures servers beside each other, in N rounds (5; 3 with --quick, which takes two minutes):
    server, server-openssl, endpoint, helpers (the original's main), original, calls (the original's system calls
    without DTLS), openssl, gnutls, mbedtls, wolfssl, udp
  The original is cut out of its document (DV_ORIGINAL_DOC); what cannot be built here is left out, with a line about it.
    messages      server CPU per message, kernel included: sizes, numbers of clients, bursts
    handshakes    server CPU per handshake, full and resumed
    flood         hellos without cookies: CPU, memory, and what 64 clients beside them keep of their throughput
    connections   memory per connection and CPU per message among 1,000 to 100,000 connections
    workers       one worker and two
    instructions  user-space instructions per message, by callgrind
    heap, find    of the helpers: heap per connection; a look-up in the table (not with --quick)
    loss          handshakes that complete under loss (only when asked for)
  Writes results.jsonl, results.md and results.svg to DIR (target/bench), and prints the tables. --record: writes them into
  FILE, too, between its lines <!-- bench --> and <!-- /bench -->, and the plot beside it.
  Exits with 0 when everything was measured; which aims were missed is in the tables.";

/// Clients of all servers: one suite, so that all of them do the same work.
const CIPHER: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";

/// Where the tables go in a document.
const MARKS: (&str, &str) = ("<!-- bench -->\n", "<!-- /bench -->");

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let quick = args.flag("--quick");
    let parts: String = args.or("--parts", PARTS[..if quick { 6 } else { 8 }].join(","))?;
    let servers: String = args.or("--servers", String::new())?;
    let rounds: usize = args.or("--rounds", if quick { 3 } else { 5 })?;
    let directory: PathBuf = args.or("--directory", crate::common::root().join("target/bench"))?;
    let record: Option<PathBuf> = args.option("--record")?;
    args.finish()?;
    if rounds == 0 {
        return Err("--rounds is at least 1".to_owned());
    }
    if let Some(wrong) = parts.split(',').find(|part| !PARTS.contains(part)) {
        return Err(format!("--parts: no part {wrong}; there are {}", PARTS.join(", ")));
    }

    let wanted: Vec<&str> = servers.split(',').filter(|server| !server.is_empty()).collect();
    let built = Built::new(&wanted, directory)?;
    // As many as there are, before this process keeps to some of them.
    let processors = sys::processors();
    let circumstances = circumstances(&built, processors.len(), rounds);
    let mut bench = Bench {
        built,
        rounds,
        quick,
        profile: Profile::with_ciphers(CIPHER, None, Timer::Fast)?,
        // Where there are two, the load is kept off the server's.
        processors: if processors.len() > 1 { vec![processors[0]] } else { Vec::new() },
        results: Results::default(),
    };
    let mut complete = true;
    for part in parts.split(',') {
        // With two workers all processors are the server's and the load's.
        let load = if part == "workers" || processors.len() < 2 { &processors[..] } else { &processors[1..] };
        sys::stay_on(load).map_err(|why| format!("processors: {why}"))?;
        let done = match part {
            "messages" => bench.messages(),
            "handshakes" => bench.handshakes(),
            "flood" => bench.flood(),
            "connections" => bench.connections(),
            "workers" => bench.workers(),
            "instructions" => bench.instructions(),
            "heap" => bench.heap(),
            "find" => bench.find(),
            _ => bench.loss(),
        };
        // The other parts are worth having all the same.
        if let Err(why) = &done {
            eprintln!("{part}: {why}");
        }
        complete &= done.is_ok();
    }
    bench.tell(&circumstances, record)?;
    Ok(complete)
}

impl Bench {
    /// Writes down what was measured, and prints it.
    fn tell(&self, circumstances: &str, record: Option<PathBuf>) -> Result<(), String> {
        let names: Vec<_> = self.built.programs.iter().map(|program| (program.id, program.name)).collect();
        let aims = self.results.judge(&AIMS);
        let text = format!("{circumstances}{}{aims}", self.results.tables(&aims::TITLES, &names));
        let lines: Vec<String> = self.results.0.iter().map(results::Row::json).collect();
        let plot = plot::svg(&self.results, &names);
        let write =
            |path: PathBuf, text: &str| fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()));
        write(self.built.directory.join("results.jsonl"), &(lines.join("\n") + "\n"))?;
        write(self.built.directory.join("results.md"), &text)?;
        write(self.built.directory.join("results.svg"), &plot)?;
        if let Some(path) = record {
            let old = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
            let (before, rest) = old.split_once(MARKS.0).ok_or(format!("{} has no {}", path.display(), MARKS.0))?;
            let (_, after) = rest.split_once(MARKS.1).ok_or(format!("{} has no {}", path.display(), MARKS.1))?;
            write(path.clone(), &format!("{before}{}{text}\n{}{after}", MARKS.0, MARKS.1))?;
            write(path.with_extension("svg"), &plot)?;
        }
        println!("{text}");
        Ok(())
    }
}

/// On what is measured, and how.
fn circumstances(built: &Built, processors: usize, rounds: usize) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = file("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let date = output(Command::new("date").args(["-u", "+%F"])).unwrap_or_default();
    format!(
        "{}, {processors} processors ({}), Linux {}, {}{}. Medians of {rounds} rounds, ± half of the way from the lowest to \
         the highest.\n",
        date.trim(),
        model.unwrap_or("of an unknown kind"),
        file("/proc/sys/kernel/osrelease").trim(),
        openssl::version::version(),
        built.versions.iter().map(|version| format!(", {version}")).collect::<String>(),
    )
}
