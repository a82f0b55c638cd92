//! `dv-load bench-helpers`: the helpers beside those of the original program, both in one run, under its unchanged main.

mod programs;

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use programs::{Programs, Server, Side};

use crate::args::{Args, Usage};
use crate::client::{Client, Profile, Timer};
use crate::connect::{Outcome, Plan, connect_all};
use crate::echo::{Exchange, Until, connected, exchange};
use crate::flood::{Flood, beside};
use crate::forge::{Forgery, Mode};
use crate::handshake;
use crate::hold::{ask_all, per_connection};
use crate::process::Memory;
use crate::proxy::{Faults, Proxy};
use crate::report::{Progress, Report, median};

/// The options of the subcommand.
pub const HELP: &str = "\
bench-helpers [--parts cpu,instructions,find,flood,beside,memory,loss] [--rounds N] [--count N] [--sides both|library]
              [--directory DIR]
  Builds the original server and its unchanged main on the library (DV_ORIGINAL_DOC, DV_LIBDIR, DV_INCLUDEDIR) and
  measures both in turn, N rounds (5); each part prints a line with medians, all rounds, and the ratio to the original:
    cpu           server CPU a message, 64 clients, 64-byte messages          at most 0.77
    instructions  user-space instructions a message, by callgrind             at most 0.6
    find          dv_dtls_conn_find among 100,000 connections                 at most 0.2
    flood         server CPU a cookie-less hello, saturated                   at most 1/6
    beside        throughput that 64 clients keep beside 20,000 hellos/s      at least 0.8
    memory        kilobytes a connection, 1,000 and 10,000 idle ones          at most the original's,
                                                                              40 with DV_RELEASE_BUFFERS
    loss          handshakes (--count, 1000) through the proxy at 0 to 50 %   only when asked for; minutes
  Exits with 0 when all targets are reached.";

/// Values as a list of JSON.
fn list(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
    format!("[{}]", values.join(", "))
}

/// Lets clients exchange 64-byte messages; how many were answered. None may have lost its connection.
fn talk(clients: Vec<Client>, until: Until) -> Result<(u64, Vec<Client>), String> {
    // Long, since under callgrind a server is fifty times as slow.
    let shape = Exchange { size: 64, burst: 1, same: false, timeout: Duration::from_secs(10) };
    let (tally, clients) = exchange(clients, shape, until, &mut Progress::new())?;
    if tally.ended.is_empty() {
        Ok((tally.answered, clients))
    } else {
        Err(format!("connections lost: {:?}", tally.ended))
    }
}

/// Two seconds of 20,000 hellos a second, from more peers than come in that time.
fn flood(to: SocketAddr) -> Result<Flood, String> {
    let SocketAddr::V4(to) = to else { return Err("floods need IPv4".to_owned()) };
    let limit = Duration::from_secs(2);
    Ok(Flood { to, rate: Some(20_000.0), sources: 10_000, ports: 16, count: u64::MAX, limit })
}

/// Lets memset clear with vector stores. Callgrind takes each step of `rep stosb`, its usual way with the 64 KB that the
/// original clears, for an instruction: that count is what the target speaks of, but no processor takes it so.
const VECTOR_STORES: [(&str, &str); 1] = [("GLIBC_TUNABLES", "glibc.cpu.x86_rep_stosb_threshold=1000000000")];

/// A way to measure one side once.
type Measure<'a> = dyn FnMut(Side) -> Result<f64, String> + 'a;

struct Bench {
    programs: Programs,
    rounds: usize,
    count: usize,
    sides: Vec<Side>,
    profile: Profile,
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let parts: String = args.or("--parts", "cpu,instructions,find,flood,beside,memory".to_owned())?;
    let rounds = args.or("--rounds", 5)?;
    let count = args.or("--count", 1000)?;
    let sides = match args.or("--sides", "both".to_owned())?.as_str() {
        "both" => Side::BOTH.to_vec(),
        "library" => vec![Side::Library],
        other => return Err(format!("--sides {other}: both or library")),
    };
    let directory = args.or("--directory", crate::common::root().join("target/bench-helpers"))?;
    args.finish()?;
    let programs = Programs::build(directory)?;
    let bench = Bench { programs, rounds, count, sides, profile: Profile::new(None, Timer::Fast)? };
    let mut good = true;
    for part in parts.split(',') {
        good &= match part {
            "cpu" => bench.compare("cpu_us_per_message", 0.77, bench.rounds, &mut |side| bench.cpu(side)),
            "instructions" => {
                let good = bench
                    .compare("instructions_per_message", 0.6, 1, &mut |side| bench.instructions(side, &[]))?
                    & bench.compare("instructions_per_message_vector_stores", f64::NAN, 1, &mut |side| {
                        bench.instructions(side, &VECTOR_STORES)
                    })?;
                Ok(good)
            }
            "find" => bench.compare("find_ns", 0.2, bench.rounds, &mut |side| bench.programs.find(side, 100_000)),
            "flood" => bench.compare("cpu_us_per_hello", 1.0 / 6.0, bench.rounds, &mut |side| bench.flood(side)),
            "beside" => bench.beside(),
            "memory" => bench.memory(),
            "loss" => bench.loss(),
            other => Err(format!("--parts {other}: no such part")),
        }?;
    }
    Ok(good)
}

impl Bench {
    /// Measures both sides in turn, and compares their medians: the library's may be `target` of the original's. NaN: none.
    fn compare(&self, name: &str, target: f64, rounds: usize, measure: &mut Measure) -> Result<bool, String> {
        let mut progress = Progress::new();
        let mut seen: Vec<(Side, Vec<f64>)> = self.sides.iter().map(|side| (*side, Vec::new())).collect();
        for round in 0..rounds {
            for (side, values) in &mut seen {
                progress.show(|| format!("{name}: round {}, {side:?}", round + 1));
                values.push(measure(*side)?);
            }
        }
        drop(progress);
        let mut report = Report::new("bench-helpers").text("part", name).value("rounds", rounds);
        for (side, values) in &seen {
            let side = format!("{side:?}").to_lowercase();
            report = report.float(&side, median(values)).value(&format!("{side}_rounds"), list(values));
        }
        let ratio = match &seen[..] {
            [(_, original), (_, library)] => median(library) / median(original),
            _ => f64::NAN,
        };
        let good = ratio.is_nan() || target.is_nan() || ratio <= target;
        report.float("ratio", ratio).float("target", target).value("good", good).print();
        Ok(good)
    }

    fn clients(&self, server: &Server, count: usize) -> Result<Vec<Client>, String> {
        connected(server.at, count, 1, &self.profile, &mut Progress::new())
    }

    /// Microseconds of CPU that the server spends on a message.
    fn cpu(&self, side: Side) -> Result<f64, String> {
        let server = self.programs.serve(side, &[], &[])?;
        let clients = self.clients(&server, 64)?;
        let (_, clients) = talk(clients, Until::Elapsed(Duration::from_millis(300)))?;
        let before = server.process().cpu()?;
        let (answered, _) = talk(clients, Until::Elapsed(Duration::from_secs(2)))?;
        Ok((server.process().cpu()? - before) * 1e6 / answered as f64)
    }

    /// Instructions in user space for a message: what two runs that differ in their messages alone differ by.
    fn instructions(&self, side: Side, environment: &[(&str, &str)]) -> Result<f64, String> {
        const CLIENTS: usize = 16;
        const MESSAGES: [u64; 2] = [20, 520];
        let mut counted = [0.0; 2];
        for (counted, messages) in counted.iter_mut().zip(MESSAGES) {
            let out = std::env::temp_dir().join(format!("dv-load-callgrind-{}", std::process::id()));
            let option = format!("--callgrind-out-file={}", out.display());
            let server = self.programs.serve(side, &["valgrind", "--tool=callgrind", &option], environment)?;
            let (answered, _) = talk(self.clients(&server, CLIENTS)?, Until::Messages(messages))?;
            server.terminate()?;
            let text = fs::read_to_string(&out).map_err(|why| format!("{}: {why}", out.display()))?;
            let _ = fs::remove_file(&out);
            let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
            let total = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            *counted = total.ok_or("callgrind wrote no totals")?;
            if answered != messages * CLIENTS as u64 {
                return Err(format!("{side:?} answered only {answered} messages under callgrind"));
            }
        }
        Ok((counted[1] - counted[0]) / ((MESSAGES[1] - MESSAGES[0]) * CLIENTS as u64) as f64)
    }

    /// Microseconds of CPU that the server spends on a cookie-less hello while its socket is never empty.
    fn flood(&self, side: Side) -> Result<f64, String> {
        let server = self.programs.serve(side, &[], &[])?;
        // Each peer comes once; the original keeps 48 KB for each of them.
        let flood = Flood { rate: None, count: 20_000, limit: Duration::from_secs(30), ..flood(server.at)? };
        let before = server.process().cpu()?;
        let answers = flood.run(&AtomicBool::new(false), |_| {})?;
        if answers.answered < answers.sent / 2 {
            return Err(format!("{side:?} answered only {} of {} hellos", answers.answered, answers.sent));
        }
        Ok((server.process().cpu()? - before) * 1e6 / answers.answered as f64)
    }

    /// What 64 clients keep of their throughput beside 20,000 hellos a second.
    fn beside(&self) -> Result<bool, String> {
        const TARGET: f64 = 0.8;
        let mut kept = Vec::new();
        let mut report = Report::new("bench-helpers").text("part", "kept_beside_flood").value("rounds", self.rounds);
        let mut unharmed = true;
        for side in &self.sides {
            kept.clear();
            // What the original keeps is out of question; one round shows it, and costs it a gigabyte.
            for _ in 0..if *side == Side::Original { 1 } else { self.rounds } {
                let server = self.programs.serve(*side, &[], &[])?;
                let clients = self.clients(&server, 64)?;
                let (beside, clients) = beside(flood(server.at)?, clients, &mut Progress::new())?;
                unharmed &= *side == Side::Original || clients.len() == 64;
                kept.push(beside.kept());
            }
            let side = format!("{side:?}").to_lowercase();
            report = report.float(&side, median(&kept)).value(&format!("{side}_rounds"), list(&kept));
        }
        let good = median(&kept) >= TARGET && unharmed;
        report.value("connections_kept", unharmed).float("target", TARGET).value("good", good).print();
        Ok(good)
    }

    /// Kilobytes that an idle connection costs: given out by malloc, and resident.
    fn memory(&self) -> Result<bool, String> {
        let mut good = true;
        let cases = self.sides.iter().map(|side| (*side, format!("{side:?}").to_lowercase(), None));
        let cases: Vec<_> =
            cases.chain([(Side::Library, "library_released".to_owned(), Some(("DV_RELEASE_BUFFERS", "1")))]).collect();
        for count in [1_000, 10_000] {
            let mut report =
                Report::new("bench-helpers").text("part", "memory_kb_per_connection").value("clients", count);
            let mut heaps = Vec::new();
            for (side, name, more) in &cases {
                let (heap, resident) = self.memory_of(*side, more.as_slice(), count)?;
                report = report.float(&format!("{name}_heap"), heap).float(&format!("{name}_resident"), resident);
                heaps.push(heap);
            }
            let reached = match heaps[..] {
                [original, library, released] => library <= original && released <= 40.0,
                _ => true,
            };
            report.value("good", reached).print();
            good &= reached;
        }
        Ok(good)
    }

    fn memory_of(&self, side: Side, more: &[(&str, &str)], count: usize) -> Result<(f64, f64), String> {
        let (watch, file) = self.programs.heap_watch();
        let environment: Vec<(&str, &str)> =
            watch.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
        let server = self.programs.serve(side, &[], &environment)?;
        let look = || -> Result<(f64, Memory), String> {
            // Two periods of the watch.
            thread::sleep(Duration::from_millis(250));
            let text = fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
            let heap = text.trim().parse::<f64>().map_err(|why| format!("{text:?}: {why}"))?;
            Ok((heap / 1024.0, server.process().memory()?))
        };
        // Somebody must call the helpers for what falls due to be done.
        let busy = self.clients(&server, 1)?;
        let (heap, memory) = look()?;
        let clients = connected(server.at, count, 64, &self.profile, &mut Progress::new())?;
        let (_, clients) = ask_all(clients, 1, &mut Progress::new())?;
        thread::sleep(Duration::from_millis(1200));
        talk(busy, Until::Elapsed(Duration::from_secs(1)))?;
        let (heap_then, memory_then) = look()?;
        let (resident, _) = per_connection(memory, memory_then, clients.len());
        Ok(((heap_then - heap) / clients.len() as f64, resident))
    }

    /// How many handshakes complete at which loss.
    fn loss(&self) -> Result<bool, String> {
        // Loss, timer, and of a thousand how many within how many seconds.
        type Row = (f64, Timer, &'static [(u64, usize)]);
        const ROWS: [Row; 7] = [
            (0.0, Timer::Openssl, &[(60, 1000)]),
            (0.01, Timer::Openssl, &[(60, 1000)]),
            (0.05, Timer::Openssl, &[(60, 998)]),
            (0.2, Timer::Openssl, &[(60, 985), (10, 890)]),
            (0.5, Timer::Openssl, &[(120, 700)]),
            (0.2, Timer::Fast, &[(60, 1000)]),
            (0.5, Timer::Fast, &[(120, 990)]),
        ];
        let mut good = true;
        for (drop, timer, targets) in ROWS {
            for side in &self.sides {
                let mut progress = Progress::new();
                progress.show(|| format!("loss: {drop}, {timer:?}, {side:?}"));
                let server = self.programs.serve(*side, &[], &[])?;
                let faults = Faults { seed: 1, drop, reorder: 0.05, duplicate: 0.05, ..Faults::default() };
                let limit = targets.iter().map(|(seconds, _)| *seconds).max().unwrap_or(60);
                let outcome = self.through(&server, faults, timer, Duration::from_secs(limit))?;
                std::mem::drop(progress);
                let reached = targets.iter().all(|(seconds, wanted)| {
                    handshake::within(&outcome, Duration::from_secs(*seconds)) * 1000 >= wanted * self.count
                });
                let report = Report::new("bench-helpers")
                    .text("part", "loss")
                    .text("side", &format!("{side:?}").to_lowercase())
                    .float("drop", drop)
                    .text("timer", &format!("{timer:?}").to_lowercase())
                    .value("count", self.count);
                handshake::describe(report, &outcome).value("good", reached).print();
                good &= reached || *side == Side::Original;
            }
        }
        Ok(good)
    }

    fn through(&self, server: &Server, faults: Faults, timer: Timer, deadline: Duration) -> Result<Outcome, String> {
        let fail = |why: std::io::Error| format!("proxy: {why}");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Proxy::new(listen, server.at, faults, Forgery::new(Mode::Junk)?).map_err(fail)?;
        let to = proxy.address().map_err(fail)?;
        let profile = Profile::new(None, timer)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let carrying = scope.spawn(|| {
                let none: Option<&std::net::UdpSocket> = None;
                proxy.run(none, |_| stop.load(std::sync::atomic::Ordering::Relaxed))
            });
            let count = self.count;
            // All at the same time, from a few hundred addresses: loss is what is measured, not limits for a source.
            let plan = Plan { to, sources: 250, count, concurrency: count, rate: 200.0, deadline, profile: &profile };
            let outcome = connect_all(plan, &mut Progress::new(), |_, _| {});
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            carrying.join().map_err(|_| "the proxy's thread panicked")?.map_err(fail)?;
            outcome
        })
    }
}
