//! `dv-load failover`: clients whose server is lost, and what it takes until they are served again.

use std::collections::BTreeSet;
use std::io::stdin;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::client::{Client, Link, Profile, Read, Step, Timer};
use crate::connect::source;
use crate::echo::connected;
use crate::report::{Progress, Report};
use crate::restart::drive;
use crate::sys::Poll;

/// The options of the subcommand.
pub const HELP: &str = "\
failover --to ADDR [--clients N] [--deadline S] [--at-least-lost N] [--ca FILE]
  N clients (500) connect, and each is answered once. Then a line on the standard input is waited for: servers can be
  killed and started meanwhile. Then each asks again, and who is not answered begins anew from another port, resuming its
  session, within S seconds (10). Exits with 0 when all are answered in the end, at least so many of them (1) after a new
  handshake, and no handshake was a whole one.";

/// Messages, and answers to them, are lost now and then: each is sent again so often.
const ROUNDS: u32 = 4;
const ROUND: Duration = Duration::from_millis(250);
/// What the socket of a server, and those on the way to it, take at once.
const AT_ONCE: usize = 64;

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let to = args.loopback("--to")?;
    let count = args.or("--clients", 500)?;
    let deadline = args.seconds("--deadline", 10.0)?;
    let at_least = args.or("--at-least-lost", 1)?;
    let profile = Profile::new(args.option::<PathBuf>("--ca")?.as_deref(), Timer::Fast)?;
    args.finish()?;

    let mut progress = Progress::new();
    let mut clients = connected(to, count, 1, &profile, &mut progress)?;
    let unanswered = ask(&mut clients)?;
    if !unanswered.is_empty() {
        return Err(format!("{} of {count} clients were not answered at all", unanswered.len()));
    }
    println!("dv-load failover: {count} clients are served; a line goes on");
    stdin().read_line(&mut String::new()).map_err(|why| format!("standard input: {why}"))?;

    let lost = ask(&mut clients)?;
    let (mut resumed, mut whole, mut took) = (0, 0, Vec::new());
    for index in lost.iter().copied() {
        let session = clients[index].session().ok_or("a session that cannot be resumed")?;
        let link = Link::connect(source(to, index, 1), to).map_err(|why| format!("socket: {why}"))?;
        let began = Instant::now();
        let mut again = Client::new(&profile.clone().resuming(session), link)?;
        if drive(&mut again, deadline, || false)? == Step::Done {
            took.push(began.elapsed());
            *(if again.resumed() { &mut resumed } else { &mut whole }) += 1;
            clients[index] = again;
        }
        progress.show(|| format!("{} clients have lost their server; {resumed} have resumed", lost.len()));
    }
    let unanswered = ask(&mut clients)?;
    drop(progress);
    clients.into_iter().for_each(Client::close);
    took.sort();
    let good = unanswered.is_empty() && lost.len() >= at_least && resumed == lost.len();
    Report::new("failover")
        .value("clients", count)
        .value("lost", lost.len())
        .value("resumed", resumed)
        .value("whole_handshakes", whole)
        .value("unanswered_in_the_end", unanswered.len())
        .spread("ms", &took)
        .value("good", good)
        .print();
    Ok(good)
}

/// Lets each client ask, and says which were not answered.
fn ask(clients: &mut [Client]) -> Result<BTreeSet<usize>, String> {
    let mut poll = Poll::new().map_err(|why| format!("epoll: {why}"))?;
    for (index, client) in clients.iter().enumerate() {
        poll.add(client.link().socket(), index).map_err(|why| format!("epoll: {why}"))?;
    }
    let mut unanswered: BTreeSet<usize> = (0..clients.len()).collect();
    for _ in 0..ROUNDS {
        let asked: Vec<usize> = unanswered.iter().copied().collect();
        for some in asked.chunks(AT_ONCE) {
            for index in some {
                clients[*index].write(b"is anybody there?")?;
            }
            let until = Instant::now() + ROUND;
            while Instant::now() < until && some.iter().any(|index| unanswered.contains(index)) {
                for index in poll.wait(ROUND).map_err(|why| format!("epoll: {why}"))? {
                    while let Read::Message(_) = clients[index].read(&mut [0; 2048]) {
                        unanswered.remove(&index);
                    }
                }
            }
        }
    }
    Ok(unanswered)
}
