//! `dv-load hold`: idle connections, and what each of them costs the server in memory.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::client::{Client, Profile, Timer};
use crate::echo::{Exchange, Until, connected, exchange};
use crate::handshake::with_session;
use crate::process::{Memory, Process};
use crate::report::{Progress, Report};

/// The options of the subcommand.
pub const HELP: &str = "\
hold --to ADDR [--clients N] [--seconds S] [--messages M] [--sources N] [--resume] [--pid PID] [--ca FILE]
  N connections, M messages over each, then nothing for S seconds. --resume: all of them with one session,
  which is quicker. --pid: the server's memory per connection.
  Exits with 0 when all connections answer one more message in the end.";

/// What a connection costs: kilobytes resident, and kilobytes of heap, from one look at the server to another.
pub fn per_connection(before: Memory, after: Memory, connections: usize) -> (f64, f64) {
    let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
    (each(before.resident, after.resident), each(before.anonymous, after.anonymous))
}

/// Lets each client ask `messages` times; how many answers came, and who is still connected. Few at a time ask: a
/// socket of the kernel's default size does not hold a message of each of thousands.
pub fn ask_all(mut clients: Vec<Client>, messages: u64, progress: &mut Progress) -> Result<(u64, Vec<Client>), String> {
    const AT_ONCE: usize = 64;
    let shape = Exchange { size: 64, burst: 1, same: false, timeout: Duration::from_secs(1) };
    let (mut answered, mut connected) = (0, Vec::with_capacity(clients.len()));
    while !clients.is_empty() {
        let some = clients.split_off(clients.len().saturating_sub(AT_ONCE));
        let (tally, some) = exchange(some, shape, Until::Messages(messages), progress)?;
        answered += tally.answered;
        connected.extend(some);
    }
    Ok((answered, connected))
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let to = args.loopback("--to")?;
    let count = args.or("--clients", 1000)?;
    let idle = args.seconds("--seconds", 2.0)?;
    let messages = args.or("--messages", 0)?;
    let sources = args.or("--sources", 1)?;
    let resume = args.flag("--resume");
    let server = args.option("--pid")?.map(Process);
    let ca: Option<PathBuf> = args.option("--ca")?;
    args.finish()?;

    let mut progress = Progress::new();
    let before = server.map(Process::memory).transpose()?;
    let began = Instant::now();
    let mut profile = Profile::new(ca.as_deref(), Timer::Fast)?;
    if resume {
        profile = with_session(profile, to, Duration::from_secs(30), &mut progress)?;
    }
    let clients = connected(to, count, sources, &profile, &mut progress)?;
    let connecting = began.elapsed();
    let (_, clients) = ask_all(clients, messages, &mut progress)?;
    let until = Instant::now() + idle;
    while Instant::now() < until {
        progress.show(|| format!("{count} connections, idle"));
        thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(200)));
    }
    let after = server.map(Process::memory).transpose()?;
    let (answered, clients) = ask_all(clients, 1, &mut progress)?;
    drop(progress);
    let good = clients.len() == count && answered == count as u64;
    clients.into_iter().for_each(Client::close);
    let mut report = Report::new("hold").value("clients", count).value("answered_in_the_end", answered);
    if let Some((before, after)) = before.zip(after) {
        let (resident, anonymous) = per_connection(before, after, count);
        report = report
            .value("resident_kb_before", before.resident)
            .value("resident_kb_after", after.resident)
            .float("resident_kb_per_connection", resident)
            .float("anonymous_kb_per_connection", anonymous);
    }
    report.float("connecting_s", connecting.as_secs_f64()).value("good", good).print();
    Ok(good)
}
