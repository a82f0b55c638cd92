//! `dv-load echo`: connected clients send messages and wait for the replies; also the clients that go on beside a flood.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::client::{Client, Profile, Read, Timer};
use crate::connect::{Plan, connect_all};
use crate::process::Process;
use crate::report::{Progress, Report};
use crate::sys::Poll;

/// The options of the subcommand.
pub const HELP: &str = "\
echo --to ADDR [--clients K] [--messages M | --seconds S] [--size B] [--burst N] [--expect-echo] [--timeout S]
     [--sources N] [--pid PID] [--ca FILE]
  K clients send messages of B bytes, N at once, and wait for the replies: M messages each, or for S seconds. A reply
  that does not come within --timeout counts as lost, and the client goes on. Any reply will do (the original program
  answers with a text of its own) unless --expect-echo is given. --pid: the server's CPU time per message.
  Exits with 0 when no message was lost and no connection ended.";

/// The shape of an exchange.
#[derive(Clone, Copy)]
pub struct Exchange {
    /// Bytes in a message.
    pub size: usize,
    /// Messages that a client sends before it waits.
    pub burst: usize,
    /// Whether the reply must be what was sent.
    pub same: bool,
    /// How long a reply may take.
    pub timeout: Duration,
}

/// When an exchange is over.
#[derive(Clone, Copy)]
pub enum Until {
    /// After so many messages of each client.
    Messages(u64),
    /// After that time.
    Elapsed(Duration),
}

/// What came of an exchange.
#[derive(Default)]
pub struct Tally {
    /// Messages that were answered.
    pub answered: u64,
    /// Messages whose reply did not come in time.
    pub lost: u64,
    /// Replies that belong to nothing that was waiting: late ones, doubles, or not what was sent.
    pub strange: u64,
    /// Connections that ended, with the reasons.
    pub ended: Vec<String>,
    /// From a message to its reply, sorted.
    pub latencies: Vec<Duration>,
    /// How long it all took.
    pub elapsed: Duration,
}

impl Tally {
    /// Answered messages a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }

    /// Whether nothing was lost and nobody had to leave.
    pub fn clean(&self) -> bool {
        self.lost == 0 && self.ended.is_empty() && self.answered > 0
    }

    /// Adds what there is to say.
    pub fn describe(&self, report: Report) -> Report {
        report
            .value("answered", self.answered)
            .value("lost", self.lost)
            .value("strange_replies", self.strange)
            .value("ended", self.ended.len())
            .text("why_ended", self.ended.first().map_or("", String::as_str))
            .float("messages_per_s", self.rate())
            .spread("ms", &self.latencies)
            .float("elapsed_s", self.elapsed.as_secs_f64())
    }
}

/// One client in an exchange.
struct Talker {
    client: Client,
    /// Messages without a reply yet, by number.
    waiting: VecDeque<(u64, Instant)>,
    /// Messages sent so far.
    sent: u64,
    /// Whether it has said all it had to say, or lost its connection.
    silent: bool,
}

/// Lets `clients` talk, and gives back those that are still connected.
pub fn exchange(
    clients: Vec<Client>,
    shape: Exchange,
    until: Until,
    progress: &mut Progress,
) -> Result<(Tally, Vec<Client>), String> {
    let mut poll = Poll::new().map_err(|why| format!("epoll: {why}"))?;
    let mut tally = Tally::default();
    let mut talkers = Vec::with_capacity(clients.len());
    for (index, client) in clients.into_iter().enumerate() {
        poll.add(client.link().socket(), index).map_err(|why| format!("epoll: {why}"))?;
        talkers.push(Talker { client, waiting: VecDeque::new(), sent: 0, silent: false });
    }
    let (began, quota) = (
        Instant::now(),
        match until {
            Until::Messages(n) => n,
            Until::Elapsed(_) => u64::MAX,
        },
    );
    let over = |tally: &Tally, talkers: &[Talker]| match until {
        Until::Messages(n) => {
            tally.answered + tally.lost >= n * talkers.len() as u64 || talkers.iter().all(|talker| talker.silent)
        }
        Until::Elapsed(limit) => began.elapsed() >= limit,
    };
    for talker in &mut talkers {
        talker.speak(&shape, quota, &mut tally);
    }
    // Looking for lost messages costs a walk over all clients, so it is done now and then only.
    let look_every = (shape.timeout / 4).min(Duration::from_millis(50));
    let mut looked = began;
    while !over(&tally, &talkers) {
        for index in poll.wait(look_every).map_err(|why| format!("epoll: {why}"))? {
            talkers[index].listen(&shape, quota, &mut tally);
        }
        if looked.elapsed() >= look_every {
            looked = Instant::now();
            talkers.iter_mut().for_each(|talker| talker.give_up_late(&shape, quota, &mut tally));
            progress.show(|| {
                format!("messages: {} answered, {} lost, {:.0}/s", tally.answered, tally.lost, {
                    tally.answered as f64 / began.elapsed().as_secs_f64()
                })
            });
        }
    }
    tally.elapsed = began.elapsed();
    // The last replies, which no longer count, are not to be taken for those of the next exchange.
    let until = Instant::now() + shape.timeout.min(Duration::from_millis(300));
    while Instant::now() < until && talkers.iter().any(|talker| !talker.waiting.is_empty()) {
        let left = until.saturating_duration_since(Instant::now());
        for index in poll.wait(left).map_err(|why| format!("epoll: {why}"))? {
            talkers[index].drain();
        }
    }
    tally.latencies.sort();
    let connected = talkers.into_iter().filter(|talker| !talker.silent || talker.sent == quota);
    Ok((tally, connected.map(|talker| talker.client).collect()))
}

impl Talker {
    /// Sends the next burst, if all that was sent before is done with.
    fn speak(&mut self, shape: &Exchange, quota: u64, tally: &mut Tally) {
        if self.silent || !self.waiting.is_empty() {
            return;
        }
        self.silent = self.sent >= quota;
        for number in self.sent..quota.min(self.sent + shape.burst as u64) {
            if let Err(why) = self.client.write(&message(number, shape.size)) {
                return self.end(why, tally);
            }
            self.waiting.push_back((number, Instant::now()));
            self.sent = number + 1;
        }
    }

    /// Takes in what has come.
    fn listen(&mut self, shape: &Exchange, quota: u64, tally: &mut Tally) {
        let mut buffer = [0; 1 << 14];
        while !self.silent {
            match self.client.read(&mut buffer) {
                Read::Message(len) => match self.position(&buffer[..len], shape) {
                    Some(at) => {
                        let (_, sent) = self.waiting.remove(at).expect("the position of one that waits");
                        tally.answered += 1;
                        tally.latencies.push(sent.elapsed());
                        if self.waiting.is_empty() {
                            break;
                        }
                    }
                    None => tally.strange += 1,
                },
                Read::Nothing => break,
                Read::Ended(why) => self.end(why, tally),
            }
        }
        self.speak(shape, quota, tally);
    }

    /// Takes in what has come, and lets it pass.
    fn drain(&mut self) {
        while let Read::Message(_) = self.client.read(&mut [0; 1 << 14]) {
            self.waiting.pop_front();
        }
    }

    /// Which of the waiting messages `reply` answers.
    fn position(&self, reply: &[u8], shape: &Exchange) -> Option<usize> {
        if !shape.same {
            return (!self.waiting.is_empty()).then_some(0);
        }
        self.waiting.iter().position(|(number, _)| message(*number, shape.size) == reply)
    }

    fn give_up_late(&mut self, shape: &Exchange, quota: u64, tally: &mut Tally) {
        let before = self.waiting.len();
        self.waiting.retain(|(_, sent)| sent.elapsed() < shape.timeout);
        tally.lost += (before - self.waiting.len()) as u64;
        self.speak(shape, quota, tally);
    }

    fn end(&mut self, why: String, tally: &mut Tally) {
        tally.ended.push(why);
        tally.lost += self.waiting.len() as u64;
        self.waiting.clear();
        self.silent = true;
    }
}

/// The message `number`: its number again and again, so that one message is never the other's beginning.
fn message(number: u64, size: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(size).collect()
}

/// Connects `count` clients, all of which must succeed.
pub fn connected(
    to: std::net::SocketAddr,
    count: usize,
    sources: u32,
    profile: &Profile,
    progress: &mut Progress,
) -> Result<Vec<Client>, String> {
    let plan = Plan { to, sources, count, concurrency: 64, rate: f64::MAX, deadline: Duration::from_secs(30), profile };
    let outcome = connect_all(plan, progress, |_, _| {})?;
    match outcome.clients.len() {
        n if n == count => Ok(outcome.clients),
        n => Err(format!("only {n} of {count} clients could connect to {to}: {:?}", outcome.given_up)),
    }
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let to = args.loopback("--to")?;
    let count = args.or("--clients", 64)?;
    let messages = args.option("--messages")?;
    let seconds = args.seconds("--seconds", 5.0)?;
    let shape = Exchange {
        size: args.or("--size", 64)?,
        burst: args.or("--burst", 1)?,
        same: args.flag("--expect-echo"),
        timeout: args.seconds("--timeout", 1.0)?,
    };
    let sources = args.or("--sources", 1)?;
    let server = args.option("--pid")?.map(Process);
    let ca: Option<PathBuf> = args.option("--ca")?;
    args.finish()?;
    if !(8..=1 << 14).contains(&shape.size) || shape.burst == 0 {
        return Err("--size lies between 8 and 16384, --burst is at least 1".to_owned());
    }

    let mut progress = Progress::new();
    let clients = connected(to, count, sources, &Profile::new(ca.as_deref(), Timer::Fast)?, &mut progress)?;
    let before = server.map(Process::cpu).transpose()?;
    let until = messages.map_or(Until::Elapsed(seconds), Until::Messages);
    let (tally, clients) = exchange(clients, shape, until, &mut progress)?;
    let after = server.map(Process::cpu).transpose()?;
    drop(progress);
    clients.into_iter().for_each(Client::close);
    let mut report = Report::new("echo").value("clients", count).value("size", shape.size).value("burst", shape.burst);
    report = tally.describe(report);
    if let Some((before, after)) = before.zip(after) {
        report = report.float("server_us_per_message", (after - before) * 1e6 / tally.answered as f64);
    }
    report.value("good", tally.clean()).print();
    Ok(tally.clean())
}
