//! `dv-load restart`: a client that comes again from its port, and somebody who only pretends that it does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::attack::{Answer, Live};
use crate::client::{Client, Direction, Profile, Step, Timer};
use crate::echo::connected;
use crate::report::{Progress, Report};
use crate::sys::Poll;

/// The options of the subcommand.
pub const HELP: &str = "\
restart --to ADDR [--count N] [--deadline S] [--expect-echo] [--ca FILE]
  N times (20): a second handshake from a live client's port goes as far as the server's flight and no further; the
  connection must answer as before. Then N times: the client is gone and comes again from its port; it must have a
  connection after one handshake, within S seconds (10). Exits with 0 when all of that was so.";

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let to = args.loopback("--to")?;
    let count = args.or("--count", 20)?;
    let deadline = args.seconds("--deadline", 10.0)?;
    let same = args.flag("--expect-echo");
    let profile = Profile::new(args.option::<PathBuf>("--ca")?.as_deref(), Timer::Fast)?;
    args.finish()?;

    let mut progress = Progress::new();
    let mut live = Live::new(connected(to, 1, 1, &profile, &mut progress)?.remove(0), same)?;
    let (mut untouched, mut restarted, mut answered, mut failed) = (0, Vec::new(), 0, String::new());
    for done in 0..count {
        half(&profile, &live, deadline)?;
        untouched += (live.ask()? == Answer::Right) as usize;
        progress.show(|| format!("spoofed restarts: {done}, {untouched} without effect"));
    }
    for done in 0..count {
        let link = live.link().clone();
        let began = Instant::now();
        let mut client = Client::new(&profile, link)?;
        match drive(&mut client, deadline, || false)? {
            Step::Done => {}
            Step::Waiting => {
                failed = "it took too long".to_owned();
                break;
            }
            Step::Failed(why) => {
                failed = why;
                break;
            }
        }
        restarted.push(began.elapsed());
        live = Live::new(client, same)?;
        answered += (live.ask()? == Answer::Right) as usize;
        progress.show(|| format!("restarts: {done}, {answered} answered"));
    }
    drop(progress);
    restarted.sort();
    let good = untouched == count && restarted.len() == count && answered == count;
    Report::new("restart")
        .value("count", count)
        .value("untouched_by_spoofed", untouched)
        .value("restarted", restarted.len())
        .value("answered", answered)
        .spread("ms", &restarted)
        .text("failed", &failed)
        .value("good", good)
        .print();
    Ok(good)
}

/// A handshake from the port of `live` that ends when the server's flight has come.
fn half(profile: &Profile, live: &Live, limit: Duration) -> Result<(), String> {
    let link = live.link().clone();
    let (sent, received) = link.datagrams();
    // The HelloVerifyRequest is the first datagram, the flight the second; the client's answer to that stays here. No hello
    // is repeated, as the answers to both would come: the second one in the middle of the next handshake.
    link.set_hook(Some(Box::new(move |link, direction, _| {
        let (out, back) = link.datagrams();
        direction == Direction::In || (out - sent == back - received && back - received < 2)
    })));
    let mut client = Client::new(profile, link.clone())?;
    let has_flight = || link.datagrams().1 >= received + 2;
    drive(&mut client, limit, has_flight)?;
    link.set_hook(None);
    if has_flight() { Ok(()) } else { Err(format!("no flight within {limit:?}")) }
}

/// Goes on with a handshake until it is finished or given up, `enough` says so, or the time is over.
pub fn drive(client: &mut Client, limit: Duration, enough: impl Fn() -> bool) -> Result<Step, String> {
    let mut poll = Poll::new().map_err(|why| format!("epoll: {why}"))?;
    poll.add(client.link().socket(), 0).map_err(|why| format!("epoll: {why}"))?;
    let until = Instant::now() + limit;
    loop {
        match client.handshake() {
            Step::Waiting if !enough() => {}
            step => return Ok(step),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Step::Waiting);
        }
        let wait = client.timeout().unwrap_or(left).min(left);
        if poll.wait(wait).map_err(|why| format!("epoll: {why}"))?.next().is_none()
            && let Err(why) = client.handle_timeout()
        {
            return Ok(Step::Failed(why));
        }
    }
}
