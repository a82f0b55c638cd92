//! `dv-load flood`: cookie-less ClientHellos from many addresses, with or without clients that go on beside them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::batch::{self, BATCH, Inbox, Train};
use crate::client::{Client, Profile, Timer, client_hello};
use crate::connect::nth_address;
use crate::echo::{Exchange, Tally, Until, connected, exchange};
use crate::forge::{RECORD_HEADER, renew};
use crate::process::Process;
use crate::random::Random;
use crate::report::{Progress, Report};
use crate::sys::{self, Poll};

/// The options of the subcommand.
pub const HELP: &str = "\
flood --to ADDR [--rate R | --saturate] [--sources N] [--ports N] [--seconds S | --count N] [--beside K] [--ca FILE]
      [--pid PID]
  ClientHellos without a cookie, each with a random of its own, from N addresses (10000) and N ports (16) of
  127.0.0.0/8: R of them a second, or with --saturate as many as keep 128 of them unanswered at the server all the
  time. --beside: K clients exchange 64-byte messages meanwhile, for S seconds (5), once with the flood at a closed port
  and once with it at the server. --pid: the server's CPU time per hello, and the memory that it gained.
  Exits with 0 when every hello was answered, or with --beside when no client lost its connection.";

/// A flood of hellos.
#[derive(Clone, Copy)]
pub struct Flood {
    /// Where it goes.
    pub to: SocketAddrV4,
    /// The server speaks no DTLS: it sends each hello back as it came.
    pub plain: bool,
    /// Hellos a second; `None` keeps the server's socket filled.
    pub rate: Option<f64>,
    /// Source addresses, from 127.0.0.1 on.
    pub sources: u32,
    /// Source ports.
    pub ports: usize,
    /// How many hellos, at most.
    pub count: u64,
    /// How long, at most.
    pub limit: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
pub struct Answers {
    /// Hellos sent.
    pub sent: u64,
    /// HelloVerifyRequests received, or hellos that came back.
    pub answered: u64,
    /// Other datagrams received.
    pub other: u64,
    /// Answers that were longer than the hello.
    pub amplified: u64,
    /// Answers that found our own sockets full.
    pub overflowed: u64,
    /// How long it took until the last of them.
    pub elapsed: Duration,
}

/// The content type of handshake messages, and two types of these.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// Hellos without an answer that a saturating flood keeps at the server. A socket of the kernel's default size holds
/// about 270 of them: more would be lost.
const WINDOW: u64 = 128;
/// How long a hello counts as under way when nothing comes back, and how long the last ones do. On a busy machine a server
/// may have to wait long for a processor; what was sent beyond the window meanwhile would be lost.
const PATIENCE: Duration = Duration::from_secs(2);
const LAST_PATIENCE: Duration = Duration::from_secs(3);

impl Flood {
    /// Floods until the count or the time is reached and the last answers are there, or until `stop`.
    pub fn run(&self, stop: &AtomicBool, mut progress: impl FnMut(&Answers)) -> Result<Answers, String> {
        let hello = client_hello(&Profile::new(None, Timer::Openssl)?)?;
        let fail = |why: std::io::Error| format!("flood: {why}");
        let sockets: Vec<UdpSocket> = (0..self.ports)
            .map(|_| sys::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        let mut poll = Poll::new().map_err(fail)?;
        sockets.iter().enumerate().try_for_each(|(n, socket)| poll.add(socket, n)).map_err(fail)?;
        let awaited = if self.plain { CLIENT_HELLO } else { HELLO_VERIFY_REQUEST };
        let mut hellos = vec![hello.clone(); BATCH];
        let mut random = Random::new(self.sources as u64);
        let mut inbox = Inbox::new();
        let mut answers = Answers::default();
        let (began, mut heard, mut written_off) = (Instant::now(), Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let goes_on = answers.sent < self.count && began.elapsed() < self.limit;
            // What was written off may still come, from a server that was kept from its work for a while.
            let missing = answers.sent - answers.answered.min(answers.sent);
            written_off = written_off.min(missing);
            let under_way = missing - written_off;
            let due = match self.rate {
                _ if !goes_on => 0,
                Some(rate) => ((began.elapsed().as_secs_f64() * rate) as u64).saturating_sub(answers.sent),
                None => WINDOW.saturating_sub(under_way),
            };
            // No address and port comes twice before all have come once: the original answers a peer only once.
            let sources = u64::from(self.sources);
            let (round, place) = (answers.sent / sources, answers.sent % sources);
            let due = due.min(self.count - answers.sent).min(sources - place).min(BATCH as u64) as usize;
            let mut idle = true;
            if due > 0 {
                let datagrams: Vec<Train> = hellos[..due]
                    .iter_mut()
                    .enumerate()
                    .map(|(n, hello)| {
                        renew(hello, &mut random);
                        let source = nth_address(answers.sent as usize + n, self.sources);
                        Train { source, bytes: hello, segment: hello.len() }
                    })
                    .collect();
                let socket = &sockets[round as usize % sockets.len()];
                let sent = batch::send(socket, self.to, &datagrams).map_err(fail)?;
                answers.sent += sent as u64;
                idle = sent == 0;
            }
            for socket in poll.wait(Duration::ZERO).map_err(fail)? {
                inbox.receive(&sockets[socket], self.to).map_err(fail)?;
                for (_, datagram) in inbox.datagrams() {
                    answers.take(datagram, awaited, hello.len());
                    heard = Instant::now();
                    idle = false;
                }
            }
            progress(&answers);
            if !goes_on {
                if answers.answered >= answers.sent || heard.elapsed() >= LAST_PATIENCE {
                    break;
                }
            } else if heard.elapsed() >= PATIENCE && under_way > 0 {
                written_off += under_way;
                heard = Instant::now();
            }
            if !idle {
                answers.elapsed = began.elapsed();
            } else {
                // A saturating flood must not sleep through the server's last answers for long.
                thread::sleep(Duration::from_micros(if self.rate.is_some() { 500 } else { 20 }));
            }
        }
        answers.overflowed = sockets.iter().map(sys::overflowed).sum::<Result<u64, _>>().map_err(fail)?;
        Ok(answers)
    }
}

impl Answers {
    fn take(&mut self, datagram: &[u8], awaited: u8, hello: usize) {
        if datagram.first() == Some(&HANDSHAKE) && datagram.get(RECORD_HEADER) == Some(&awaited) {
            self.answered += 1;
        } else {
            self.other += 1;
        }
        self.amplified += (datagram.len() > hello) as u64;
    }

    /// Adds what there is to say.
    pub fn describe(&self, report: Report) -> Report {
        report
            .value("sent", self.sent)
            .value("answered", self.answered)
            .value("other_replies", self.other)
            .value("longer_than_hello", self.amplified)
            .value("lost_in_own_sockets", self.overflowed)
            .float("hellos_per_s", self.sent as f64 / self.elapsed.as_secs_f64())
            .float("elapsed_s", self.elapsed.as_secs_f64())
    }
}

/// What clients still got done beside a flood.
pub struct Beside {
    /// With the same flood at a closed port.
    pub closed: Tally,
    /// With the flood at the server.
    pub flooded: Tally,
    /// What the server answered to the flood.
    pub answers: Answers,
}

impl Beside {
    /// The part of the throughput that the clients kept.
    pub fn kept(&self) -> f64 {
        self.flooded.rate() / self.closed.rate()
    }
}

/// Lets `clients` talk while `flood` goes to a closed port, and then while it goes to their server.
pub fn beside(flood: Flood, clients: Vec<Client>, progress: &mut Progress) -> Result<(Beside, Vec<Client>), String> {
    // Bound, looked at and let go: nobody listens there for the next few seconds.
    let closed =
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(|why| why.to_string())?;
    let SocketAddr::V4(closed) = closed else { return Err("a closed port of IPv4 is needed".to_owned()) };
    let (idle, clients, _) = talk(Flood { to: closed, ..flood }, clients, progress)?;
    let (flooded, clients, answers) = talk(flood, clients, progress)?;
    Ok((Beside { closed: idle, flooded, answers }, clients))
}

fn talk(flood: Flood, clients: Vec<Client>, progress: &mut Progress) -> Result<(Tally, Vec<Client>, Answers), String> {
    // A message that finds the server's socket full is lost; a client that waited long for it would count as stalled.
    let shape = Exchange { size: 64, burst: 1, same: false, timeout: Duration::from_millis(200) };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding =
            scope.spawn(|| Flood { limit: flood.limit + Duration::from_secs(60), ..flood }.run(&stop, |_| {}));
        // The flood is to be there before the clients are counted.
        thread::sleep(Duration::from_millis(300));
        let talked = exchange(clients, shape, Until::Elapsed(flood.limit), progress);
        stop.store(true, Ordering::Relaxed);
        let answers = flooding.join().map_err(|_| "the flood's thread panicked")??;
        let (tally, clients) = talked?;
        Ok((tally, clients, answers))
    })
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let SocketAddr::V4(to) = args.loopback("--to")? else {
        return Err("a flood needs IPv4: there is only one loopback address of IPv6".to_owned());
    };
    let saturate = args.flag("--saturate");
    let rate = args.or("--rate", 20_000.0)?;
    let count = args.option("--count")?;
    let flood = Flood {
        to,
        plain: false,
        rate: (!saturate).then_some(rate),
        sources: args.or("--sources", 10_000)?,
        ports: args.or("--ports", 16)?,
        count: count.unwrap_or(u64::MAX),
        limit: args.seconds("--seconds", if count.is_some() { 600.0 } else { 5.0 })?,
    };
    let bystanders: usize = args.or("--beside", 0)?;
    let server = args.option("--pid")?.map(Process);
    let ca: Option<PathBuf> = args.option("--ca")?;
    args.finish()?;
    if flood.ports == 0 || flood.sources == 0 {
        return Err("--ports and --sources are at least 1".to_owned());
    }

    let mut progress = Progress::new();
    let mut report = Report::new("flood").value("sources", flood.sources).value("ports", flood.ports);
    if bystanders > 0 {
        let profile = Profile::new(ca.as_deref(), Timer::Fast)?;
        let clients = connected(SocketAddr::V4(to), bystanders, 1, &profile, &mut progress)?;
        let (beside, clients) = beside(flood, clients, &mut progress)?;
        drop(progress);
        let good = clients.len() == bystanders;
        clients.into_iter().for_each(Client::close);
        let clients = beside.flooded.describe(Report::nested().value("clients", bystanders));
        let report = beside.answers.describe(report).part("beside", clients);
        report
            .float("messages_per_s_flood_at_closed_port", beside.closed.rate())
            .float("kept", beside.kept())
            .value("good", good)
            .print();
        return Ok(good);
    }
    let measure = || server.map(|server| Ok::<_, String>((server.cpu()?, server.memory()?))).transpose();
    let before = measure()?;
    let answers = flood.run(&AtomicBool::new(false), |answers| {
        progress.show(|| format!("hellos: {} sent, {} answered", answers.sent, answers.answered));
    })?;
    let after = measure()?;
    drop(progress);
    report = answers.describe(report);
    if let Some(((cpu, memory), (used, grown))) = before.zip(after) {
        report = report
            .float("server_us_per_hello", (used - cpu) * 1e6 / answers.answered as f64)
            .value("server_gained_kb", grown.resident as i64 - memory.resident as i64);
    }
    let good = answers.answered == answers.sent && answers.amplified == 0;
    report.value("good", good).print();
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each hello, but late: what was sent last is not lost because the time is over.
    #[test]
    fn the_last_answers_are_waited_for() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let SocketAddr::V4(to) = server.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        let (limit, sources, ports) = (Duration::from_millis(100), 10, 2);
        let flood = Flood { to, plain: false, rate: Some(1000.0), sources, ports, count: u64::MAX, limit };
        let answering = thread::spawn(move || {
            let mut asked = Vec::new();
            let mut buffer = [0; 2048];
            // It comes to an end with the flood.
            while let Ok((_, from)) = server.recv_from(&mut buffer) {
                asked.push(from);
            }
            let mut answer = [0; 40];
            (answer[0], answer[RECORD_HEADER]) = (HANDSHAKE, HELLO_VERIFY_REQUEST);
            asked.iter().for_each(|from| assert_eq!(server.send_to(&answer, from).unwrap(), answer.len()));
        });
        let answers = flood.run(&AtomicBool::new(false), |_| {}).unwrap();
        answering.join().unwrap();
        assert!(answers.sent > 0 && answers.answered == answers.sent, "{} of {}", answers.answered, answers.sent);
    }
}
