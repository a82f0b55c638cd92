//! `dv-load handshake`: how many handshakes complete, and how fast.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::args::{Args, Usage};
use crate::client::{Profile, Timer};
use crate::connect::{Outcome, Plan, connect_all};
use crate::report::{Progress, Report};

/// The options of the subcommand.
pub const HELP: &str = "\
handshake --to ADDR [--count N] [--concurrency C] [--rate R] [--timer openssl|fast] [--deadline S]
          [--resume] [--answered] [--ca FILE] [--sources N] [--at-least N] [--within S]
  N handshakes, C of them at the same time and R begun a second at most. --timer openssl repeats flights after 1, 2,
  4 s and so on; fast after 100 ms, doubled up to 1 s, and begins anew from its port when libssl gives up.
  --resume: all of them resume the session of one made before. --answered: a handshake is complete when a message to the
  server was answered, which is sent every 100 ms; that shows when the server's side is over. --sources: from that many addresses from 127.0.0.1 on.
  Exits with 0 when --at-least (all) are complete --within (the deadline).";

/// How many of `outcome`'s handshakes took at most `limit`.
pub fn within(outcome: &Outcome, limit: Duration) -> usize {
    outcome.took.partition_point(|took| *took <= limit)
}

/// Adds what there is to say about handshakes.
pub fn describe(report: Report, outcome: &Outcome) -> Report {
    let given_up: Vec<String> = outcome.given_up.iter().map(|(why, n)| format!("{n} x {why}")).collect();
    let mut report = report.value("completed", outcome.took.len());
    for limit in [10, 60, 120] {
        report = report.value(&format!("within_{limit}s"), within(outcome, Duration::from_secs(limit)));
    }
    report
        .value("timed_out", outcome.timed_out)
        .text("given_up", &given_up.join(", "))
        .spread("ms", &outcome.took)
        .value("datagrams_out", outcome.datagrams.0)
        .value("datagrams_in", outcome.datagrams.1)
        .float("elapsed_s", outcome.elapsed.as_secs_f64())
}

/// Makes one connection first, whose session those that follow resume.
pub fn with_session(
    profile: Profile,
    to: SocketAddr,
    deadline: Duration,
    progress: &mut Progress,
) -> Result<Profile, String> {
    let plan = Plan { to, sources: 1, count: 1, concurrency: 1, rate: f64::MAX, deadline, profile: &profile };
    let mut first = connect_all(plan, progress, |_, _| {})?;
    let session = first.clients.first().and_then(|client| client.session());
    // libssl takes a session for broken when its connection ends without close_notify.
    first.clients.drain(..).for_each(|client| client.close());
    Ok(profile.resuming(session.ok_or("no session to resume: the first handshake did not complete")?))
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let to = args.loopback("--to")?;
    let count = args.or("--count", 1000)?;
    let concurrency = args.or("--concurrency", 64)?;
    let rate = args.or("--rate", 1000.0)?;
    let timer = args.or("--timer", Timer::Openssl)?;
    let deadline = args.seconds("--deadline", 120.0)?;
    let resume = args.flag("--resume");
    let answered = args.flag("--answered");
    let ca: Option<PathBuf> = args.option("--ca")?;
    let sources = args.or("--sources", 1)?;
    let at_least = args.or("--at-least", count)?;
    let limit = args.seconds("--within", deadline.as_secs_f64())?;
    args.finish()?;

    let mut progress = Progress::new();
    let mut profile = Profile::new(ca.as_deref(), timer)?;
    if resume {
        profile = with_session(profile, to, deadline, &mut progress)?;
    }
    if answered {
        profile = profile.asking();
    }
    let plan = Plan { to, sources, count, concurrency, rate, deadline, profile: &profile };
    let mut outcome = connect_all(plan, &mut progress, |_, _| {})?;
    drop(progress);
    let resumed = outcome.clients.iter().filter(|client| client.resumed()).count();
    outcome.clients.drain(..).for_each(|client| client.close());
    let good = within(&outcome, limit) >= at_least && (!resume || resumed == outcome.took.len());
    let report = Report::new("handshake").value("count", count).value("resumed", resumed);
    describe(report, &outcome).value("good", good).print();
    Ok(good)
}
