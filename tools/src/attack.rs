//! `dv-load attack`: forged datagrams from a live client's own port, which to the server is somebody who spoofs it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::client::{Client, Direction, Link, Profile, Read, Timer};
use crate::connect::{Plan, connect_all};
use crate::forge::{Forgery, Mode};
use crate::handshake;
use crate::hold::per_connection;
use crate::process::Process;
use crate::random::Random;
use crate::report::{Progress, Report};
use crate::sys::Poll;

/// The options of the subcommand.
pub const HELP: &str = "\
attack --to ADDR --mode MODE [--tries N] [--batch N] [--in-progress [--deadline S]] [--expect-echo] [--seed N]
       [--pid PID] [--ca FILE]
  N forged datagrams (10000) from the port of a live client; after each batch (50) the connection must answer a
  message, once. MODE: junk, handshake, alert, alert-glued, hello, hello-stale-cookie, ccs, epoch-jump, truncate,
  replay. --in-progress: against handshakes instead, a few forgeries before and after each of their datagrams; each
  must complete within S seconds (10), at the first go. A server can promise that for junk and alert only: what it
  answers to a forged hello, for instance, reaches the client, who takes it for an answer to its own. --pid: how much
  memory the server gained. Exits with 0 when every message was answered, or every handshake completed.";

/// How long a live connection may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connected client that asks one question at a time.
pub struct Live {
    client: Client,
    poll: Poll,
    asked: u64,
    same: bool,
}

/// What a live connection said to a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// One answer, and nothing else.
    Right,
    /// Nothing.
    Nothing,
    /// Something that was not asked for came before or with it.
    Strange,
    /// The connection is no more.
    Ended(String),
}

impl Live {
    /// Talks over `client`; `same` when replies must be echoes.
    pub fn new(client: Client, same: bool) -> Result<Self, String> {
        let poll = Poll::new().map_err(|why| format!("epoll: {why}"))?;
        poll.add(client.link().socket(), 0).map_err(|why| format!("epoll: {why}"))?;
        Ok(Live { client, poll, asked: 0, same })
    }

    /// The link that the client shares with its spoofer.
    pub fn link(&self) -> &Rc<Link> {
        self.client.link()
    }

    /// Sends one message and waits for the reply.
    pub fn ask(&mut self) -> Result<Answer, String> {
        let mut buffer = [0; 1 << 14];
        // What waits already answers nothing: the question has not been put yet.
        let early = match self.client.read(&mut buffer) {
            Read::Message(_) => true,
            Read::Nothing => false,
            Read::Ended(why) => return Ok(Answer::Ended(why)),
        };
        self.asked += 1;
        let question = format!("question {:8}", self.asked);
        if let Err(why) = self.client.write(question.as_bytes()) {
            return Ok(Answer::Ended(why));
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match self.client.read(&mut buffer) {
                Read::Message(len) if early || self.same && &buffer[..len] != question.as_bytes() => {
                    return Ok(Answer::Strange);
                }
                Read::Message(_) => return Ok(Answer::Right),
                Read::Ended(why) => return Ok(Answer::Ended(why)),
                Read::Nothing => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Answer::Nothing);
            }
            self.poll.wait(left).map_err(|why| format!("epoll: {why}"))?.for_each(drop);
        }
    }
}

/// The options that both kinds of attack have.
struct Attack {
    to: std::net::SocketAddr,
    mode: Mode,
    tries: u64,
    batch: u64,
    same: bool,
    seed: u64,
    server: Option<Process>,
    profile: Profile,
    deadline: Duration,
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let attack = Attack {
        to: args.loopback("--to")?,
        mode: args.option("--mode")?.ok_or("--mode is missing")?,
        tries: args.or("--tries", 10_000)?,
        batch: args.or("--batch", 50)?.max(1),
        same: args.flag("--expect-echo"),
        seed: args.or("--seed", 1)?,
        server: args.option("--pid")?.map(Process),
        profile: Profile::new(args.option::<PathBuf>("--ca")?.as_deref(), Timer::Fast)?,
        deadline: args.seconds("--deadline", 10.0)?,
    };
    let in_progress = args.flag("--in-progress");
    args.finish()?;
    if in_progress { attack.handshakes() } else { attack.connection() }
}

impl Attack {
    /// Attacks one connection that is established.
    fn connection(&self) -> Result<bool, String> {
        let mut progress = Progress::new();
        let forgery = Rc::new(RefCell::new(Forgery::new(self.mode)?));
        let plan = self.plan(1);
        let outcome = connect_all(plan, &mut progress, |_, link| {
            let forgery = forgery.clone();
            link.set_hook(Some(Box::new(move |_, direction, datagram| {
                if direction == Direction::Out {
                    forgery.borrow_mut().see(datagram);
                }
                true
            })));
        })?;
        let client = outcome.clients.into_iter().next().ok_or("the client could not connect")?;
        let mut live = Live::new(client, self.same)?;
        let (mut right, mut nothing, mut strange, mut ended) = (0, 0, 0, None);
        let mut random = Random::new(self.seed);
        let mut forged = 0;
        let before = self.server.map(Process::memory).transpose()?;
        // One question before the first batch, so that there is a protected record to replay and to mutilate.
        loop {
            match live.ask()? {
                Answer::Right => right += 1,
                Answer::Nothing => nothing += 1,
                Answer::Strange => strange += 1,
                Answer::Ended(why) => ended = Some(why),
            }
            if ended.is_some() || nothing == 3 || forged == self.tries {
                break;
            }
            for _ in 0..self.batch.min(self.tries - forged) {
                live.link().forge(&forgery.borrow().datagram(&mut random));
                forged += 1;
            }
            progress.show(|| format!("{}: {forged} forged, {right} answers", self.mode.name()));
        }
        let after = self.server.map(Process::memory).transpose()?;
        drop(progress);
        let good = nothing == 0 && strange == 0 && ended.is_none();
        let mut report = Report::new("attack")
            .text("mode", self.mode.name())
            .value("in_progress", false)
            .value("forged", forged)
            .value("answered", right)
            .value("unanswered", nothing)
            .value("strange_replies", strange)
            .text("ended", ended.as_deref().unwrap_or_default());
        if let Some((before, after)) = before.zip(after) {
            report = report.float("server_gained_kb", per_connection(before, after, 1).0);
        }
        report.value("good", good).print();
        Ok(good)
    }

    /// Attacks handshakes while they go on.
    fn handshakes(&self) -> Result<bool, String> {
        let each = (self.batch / PLACES).max(1);
        let count = self.tries.div_ceil(each * PLACES) as usize;
        let mut progress = Progress::new();
        let forged = Rc::new(RefCell::new(0));
        let mut failure = None;
        let outcome = connect_all(self.plan(count), &mut progress, |index, link| match Forgery::new(self.mode) {
            Ok(forgery) => {
                let random = Random::of(&[self.seed, index as u64]);
                link.set_hook(Some(Box::new(besiege(forgery, random, each, forged.clone()))));
            }
            Err(why) => failure = Some(why),
        })?;
        if let Some(why) = failure {
            return Err(why);
        }
        drop(progress);
        let good = outcome.took.len() == count && outcome.given_up.is_empty();
        let report = Report::new("attack")
            .text("mode", self.mode.name())
            .value("in_progress", true)
            .value("forged", *forged.borrow())
            .value("handshakes", count);
        handshake::describe(report, &outcome).value("good", good).print();
        outcome.clients.into_iter().for_each(Client::close);
        Ok(good)
    }

    fn plan(&self, count: usize) -> Plan<'_> {
        let (to, deadline, profile) = (self.to, self.deadline, &self.profile);
        Plan { to, sources: 1, count, concurrency: 4, rate: f64::MAX, deadline, profile }
    }
}

/// A handshake is six datagrams, and each is attacked from both sides.
const PLACES: u64 = 12;

/// Sends `each` forgeries before and after every datagram of a handshake, [`PLACES`] times at most: what the server
/// answers to a forgery comes here too, and would call forth the next one for ever.
fn besiege(
    mut forgery: Forgery,
    mut random: Random,
    each: u64,
    forged: Rc<RefCell<u64>>,
) -> impl FnMut(&Link, Direction, &[u8]) -> bool {
    let mut places = PLACES;
    move |link, direction, datagram| {
        let mut salvo = |forgery: &Forgery| {
            if places == 0 {
                return;
            }
            places -= 1;
            (0..each).for_each(|_| link.forge(&forgery.datagram(&mut random)));
            *forged.borrow_mut() += each;
        };
        salvo(&forgery);
        if direction == Direction::In {
            salvo(&forgery);
            return true;
        }
        forgery.see(datagram);
        link.forge(datagram);
        salvo(&forgery);
        false
    }
}
