//! Many handshakes at once: started at a rate, driven by one epoll loop, each with its own timer and deadline.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::client::{Client, Link, Profile, Read, Step, Timer};
use crate::report::Progress;
use crate::sys::Poll;

/// The handshakes that are wanted.
pub struct Plan<'a> {
    /// The server.
    pub to: SocketAddr,
    /// The clients' source addresses, 127.0.0.1 and those after it (IPv4 only).
    pub sources: u32,
    /// How many handshakes.
    pub count: usize,
    /// How many of them at the same time, at most.
    pub concurrency: usize,
    /// How many begin in a second, at most.
    pub rate: f64,
    /// How long each may take.
    pub deadline: Duration,
    /// What the clients are like.
    pub profile: &'a Profile,
}

/// What came of them.
#[derive(Default)]
pub struct Outcome {
    /// The clients that are connected, in the order in which they finished.
    pub clients: Vec<Client>,
    /// Which of the plan's handshakes they are.
    pub indices: Vec<usize>,
    /// How long each handshake took, from its first hello on, sorted.
    pub took: Vec<Duration>,
    /// How many did not finish in time.
    pub timed_out: usize,
    /// What libssl gave up, by its reasons. With the fast timer these began anew.
    pub given_up: BTreeMap<String, usize>,
    /// Datagrams that the handshakes took, sent and received.
    pub datagrams: (u64, u64),
    /// From the first beginning to the last end.
    pub elapsed: Duration,
}

/// The `n`th of `sources` addresses on the side of `to` that is ours.
pub fn source(to: SocketAddr, n: usize, sources: u32) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(_) => SocketAddr::from((nth_address(n, sources), 0)),
        ip => SocketAddr::new(ip, 0),
    }
}

/// The `n`th of `sources` addresses from 127.0.0.1 on.
pub fn nth_address(n: usize, sources: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + n as u32 % sources.max(1))
}

/// How long a client that was refused waits before it begins anew, and one that asks before it asks again.
const PAUSE: Duration = Duration::from_millis(100);

struct Attempt {
    link: Rc<Link>,
    /// `None` while it waits to begin anew.
    client: Option<Client>,
    began: Instant,
    /// When the server is asked again.
    ask: Instant,
    wake: Instant,
}

struct Run<'a> {
    plan: Plan<'a>,
    poll: Poll,
    attempts: Vec<Option<Attempt>>,
    active: usize,
    /// When whose timer runs out; an entry whose time is not the attempt's `wake` is out of date.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    outcome: Outcome,
}

/// Runs the handshakes of `plan`; `prepare` sees each link before its first datagram.
pub fn connect_all(
    plan: Plan,
    progress: &mut Progress,
    mut prepare: impl FnMut(usize, &Link),
) -> Result<Outcome, String> {
    let poll = Poll::new().map_err(|why| format!("epoll: {why}"))?;
    let (began, count) = (Instant::now(), plan.count);
    let mut run = Run {
        plan,
        poll,
        attempts: Vec::with_capacity(count),
        active: 0,
        timers: BinaryHeap::new(),
        outcome: Outcome::default(),
    };
    while run.active > 0 || run.attempts.len() < count {
        let due = (began.elapsed().as_secs_f64() * run.plan.rate) as usize;
        while run.attempts.len() < count.min(due.saturating_add(1)) && run.active < run.plan.concurrency {
            run.begin(&mut prepare)?;
        }
        run.turn()?;
        progress.show(|| {
            format!("handshakes: {} done, {} in progress, {count} wanted", run.outcome.clients.len(), run.active)
        });
    }
    let mut outcome = run.outcome;
    outcome.took.sort();
    let datagrams = outcome.clients.iter().map(|client| client.link().datagrams());
    outcome.datagrams = datagrams.fold((0, 0), |(out, into), (o, i)| (out + o, into + i));
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}

impl Run<'_> {
    fn begin(&mut self, prepare: &mut impl FnMut(usize, &Link)) -> Result<(), String> {
        let index = self.attempts.len();
        let link = Link::connect(source(self.plan.to, index, self.plan.sources), self.plan.to)
            .map_err(|why| format!("socket {index}: {why}"))?;
        self.poll.add(link.socket(), index).map_err(|why| format!("epoll: {why}"))?;
        prepare(index, &link);
        let now = Instant::now();
        self.attempts.push(Some(Attempt { link, client: None, began: now, ask: now, wake: now }));
        self.active += 1;
        self.drive(index)
    }

    /// Waits for datagrams, timers, or the next handshake to begin, and does what is due.
    fn turn(&mut self) -> Result<(), String> {
        let next = self.timers.peek().map_or(PAUSE, |Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let pending = self.attempts.len() < self.plan.count && self.active < self.plan.concurrency;
        let wait = if pending { next.min(Duration::from_millis(1)) } else { next.min(PAUSE) };
        for index in self.poll.wait(wait).map_err(|why: io::Error| format!("epoll: {why}"))? {
            self.drive(index)?;
        }
        let now = Instant::now();
        while let Some(&Reverse((at, index))) = self.timers.peek().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            let Some(attempt) = self.attempts[index].as_mut().filter(|attempt| attempt.wake == at) else { continue };
            if now.duration_since(attempt.began) >= self.plan.deadline {
                self.outcome.timed_out += 1;
                self.attempts[index] = None;
                self.active -= 1;
                continue;
            }
            match attempt.client.as_mut().map(Client::handle_timeout) {
                Some(Err(why)) => self.give_up(index, why),
                _ => self.drive(index)?,
            }
        }
        Ok(())
    }

    /// Goes on with one handshake as far as it goes.
    fn drive(&mut self, index: usize) -> Result<(), String> {
        let Some(attempt) = &mut self.attempts[index] else { return Ok(()) };
        let client = match &mut attempt.client {
            Some(client) => client,
            // Something came in for the SSL that is gone; the next one begins when the pause is over.
            None if attempt.wake > Instant::now() => {
                while attempt.link.socket().recv(&mut [0; 1]).is_ok() {}
                return Ok(());
            }
            none => none.insert(Client::new(self.plan.profile, attempt.link.clone())?),
        };
        let step = match client.handshake() {
            Step::Done if self.plan.profile.asks() => ask(client, &mut attempt.ask),
            step => step,
        };
        match step {
            Step::Done => {
                self.outcome.took.push(attempt.began.elapsed());
                // Late copies stay where they are: nobody reads this socket before it has another task.
                self.poll.remove(attempt.link.socket());
                let done = self.attempts[index].take().and_then(|attempt| attempt.client);
                self.outcome.clients.extend(done);
                self.outcome.indices.push(index);
                self.active -= 1;
            }
            Step::Waiting => {
                let wait = client.timeout().unwrap_or(PAUSE);
                self.sleep(index, if self.plan.profile.asks() { wait.min(PAUSE) } else { wait });
            }
            Step::Failed(why) => self.give_up(index, why),
        }
        Ok(())
    }

    fn give_up(&mut self, index: usize, why: String) {
        *self.outcome.given_up.entry(why).or_default() += 1;
        match self.plan.profile.timer() {
            Timer::Openssl => {
                self.attempts[index] = None;
                self.active -= 1;
            }
            Timer::Fast => {
                if let Some(attempt) = &mut self.attempts[index] {
                    attempt.client = None;
                }
                self.sleep(index, PAUSE);
            }
        }
    }

    fn sleep(&mut self, index: usize, wait: Duration) {
        let Some(attempt) = &mut self.attempts[index] else { return };
        attempt.wake = (Instant::now() + wait).min(attempt.began + self.plan.deadline);
        self.timers.push(Reverse((attempt.wake, index)));
    }
}

/// Asks the server whose handshake is over, and again when it is time for that, until something comes back.
fn ask(client: &mut Client, again: &mut Instant) -> Step {
    match client.read(&mut [0; 64]) {
        Read::Message(_) => return Step::Done,
        Read::Ended(why) => return Step::Failed(why),
        Read::Nothing => {}
    }
    let now = Instant::now();
    if now >= *again {
        *again = now + PAUSE;
        if let Err(why) = client.write(b"is anybody there?") {
            return Step::Failed(why);
        }
    }
    Step::Waiting
}
