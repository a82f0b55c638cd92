//! What is measured, each part for all servers in turn and round after round, so that whatever else the machine does meets
//! all of them.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::results::{Results, Row};
use super::servers::{Built, HeapWatch, Program, Server, Start};
use crate::client::{Client, Profile, Timer};
use crate::connect::{Plan, connect_all};
use crate::crowd::{Crowd, Said, Talk};
use crate::echo::{Until, connected};
use crate::flood::{Flood, beside};
use crate::process::available;
use crate::proxy::{Faults, through};
use crate::report::Progress;

/// A run of the benchmark.
pub struct Bench {
    /// The servers.
    pub built: Built,
    /// Rounds of everything.
    pub rounds: usize,
    /// Whether it is to end soon.
    pub quick: bool,
    /// The clients.
    pub profile: Profile,
    /// The processors that servers run on; none: any.
    pub processors: Vec<usize>,
    /// What was measured so far.
    pub results: Results,
}

/// A server that runs, and its clients.
struct Serving {
    id: &'static str,
    server: Server,
    crowd: Crowd,
}

/// Messages under way: the kernel's default socket holds as many, and bytes of them.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 1 << 16;

/// How members of a crowd talk, as fast as the server answers.
fn talk(size: usize, burst: usize) -> Talk {
    let at_once = AT_ONCE.min(BYTES_AT_ONCE / size);
    Talk { size, burst, at_once, rate: f64::MAX, patience: Duration::from_millis(200) }
}

impl Serving {
    /// CPU per message in microseconds.
    fn cost(&mut self, members: &[usize], talk: Talk, until: Duration) -> Result<(f64, Said), String> {
        self.crowd.talk(members, talk, Until::Elapsed(until / 5))?;
        let before = self.server.process().cpu()?;
        let said = self.crowd.talk(members, talk, Until::Elapsed(until))?;
        let cpu = self.server.process().cpu()? - before;
        if said.lost * 100 > said.answered {
            return Err(format!("{}: {} messages answered, {} lost", self.id, said.answered, said.lost));
        }
        Ok((cpu * 1e6 / said.answered as f64, said))
    }
}

impl Bench {
    fn note(&mut self, part: &'static str, case: &str, server: &'static str, value: f64) {
        let row = self.results.0.iter_mut().find(|row| row.part == part && row.case == case && row.server == server);
        match row {
            Some(row) => row.values.push(value),
            None => self.results.0.push(Row { part, case: case.to_owned(), server, values: vec![value] }),
        }
    }

    fn start<'a>(&'a self) -> Start<'a> {
        Start { processors: self.processors.clone(), ..Start::default() }
    }

    /// Starts a server, and connects clients.
    fn serve(&self, program: &Program, clients: usize, start: Start) -> Result<Serving, String> {
        let server = program.start(start, &self.profile)?;
        let mut crowd = Crowd::new(server.at)?;
        if program.is_dtls() {
            crowd.join(clients, &self.profile, &mut Progress::new())?;
        } else {
            crowd.join_plain(clients);
        }
        Ok(Serving { id: program.id, server, crowd })
    }

    /// The servers that speak DTLS.
    fn programs(&self) -> Vec<Program> {
        self.built.programs.iter().filter(|program| program.is_dtls()).cloned().collect()
    }

    /// Server CPU per message.
    pub fn messages(&mut self) -> Result<(), String> {
        const CASES: [(&str, usize, usize, usize); 7] = [
            ("64 B, 64 clients", 64, 64, 1),
            ("1,000 B, 64 clients", 1000, 64, 1),
            ("64 B, bursts of 8", 64, 64, 8),
            ("64 B, 1 client", 64, 1, 1),
            ("1,000 B, 1 client", 1000, 1, 1),
            ("64 B, 1,000 clients", 64, 1000, 1),
            ("1,000 B, 1,000 clients", 1000, 1000, 1),
        ];
        let cases = if self.quick { &CASES[..3] } else { &CASES[..] };
        let clients = cases.iter().map(|case| case.2).max().unwrap_or(1);
        let each = Duration::from_millis(if self.quick { 200 } else { 700 });
        let mut progress = Progress::new();
        let mut serving = Vec::new();
        for program in self.built.programs.clone() {
            progress.show(|| format!("messages: {clients} clients connect to {}", program.name));
            serving.push(self.serve(&program, clients, self.start())?);
        }
        for (case, size, clients, burst) in cases {
            let members: Vec<usize> = (0..*clients).collect();
            for round in 1..=self.rounds {
                for serving in &mut serving {
                    progress.show(|| format!("messages: {case}, round {round}, {}", serving.id));
                    let (cost, _) = serving.cost(&members, talk(*size, *burst), each)?;
                    self.note("messages", case, serving.id, cost);
                }
            }
        }
        Ok(())
    }

    /// Instructions in user space for a message: what two runs that differ in their messages alone differ by.
    pub fn instructions(&mut self) -> Result<(), String> {
        const CLIENTS: usize = 16;
        const MESSAGES: [u64; 2] = [20, 220];
        // memset with vector stores. Callgrind takes each step of `rep stosb`, its usual way with the 64 KB that the
        // original clears, for an instruction; no processor takes it so.
        let vector_stores = [("GLIBC_TUNABLES", "glibc.cpu.x86_rep_stosb_threshold=1000000000".to_owned())];
        let cases: [(&str, &[(&str, String)]); 2] =
            [("as callgrind counts", &[]), ("with vector stores", &vector_stores)];
        let mut progress = Progress::new();
        for program in self.programs() {
            if self.quick && !["server", "original"].contains(&program.id) {
                continue;
            }
            for (case, environment) in &cases[..if self.quick { 1 } else { 2 }] {
                let mut counted = [0.0; 2];
                for (counted, messages) in counted.iter_mut().zip(MESSAGES) {
                    progress.show(|| format!("instructions: {}, {case}, {messages} messages", program.name));
                    let out = self.built.directory.join(format!("callgrind-{}", std::process::id()));
                    let option = format!("--callgrind-out-file={}", out.display());
                    let wrapper = ["valgrind", "--tool=callgrind", &option];
                    let start = Start { wrapper: &wrapper, environment, ..self.start() };
                    let mut serving = self.serve(&program, CLIENTS, start)?;
                    let members: Vec<usize> = (0..CLIENTS).collect();
                    let talk = Talk { patience: Duration::from_secs(10), ..talk(64, 1) };
                    let said = serving.crowd.talk(&members, talk, Until::Messages(messages))?;
                    if said.lost > 0 {
                        return Err(format!("{} lost {} messages under callgrind", program.name, said.lost));
                    }
                    serving.server.terminate()?;
                    *counted = instructions(&out)?;
                }
                let messages = (MESSAGES[1] - MESSAGES[0]) * CLIENTS as u64;
                self.note("instructions", case, program.id, (counted[1] - counted[0]) / messages as f64);
            }
        }
        Ok(())
    }

    /// Server CPU per handshake.
    pub fn handshakes(&mut self) -> Result<(), String> {
        // A round is made of so many turns, so that a server's handshakes of a round are spread over all of it.
        const TURNS: usize = 5;
        let counts = if self.quick { (20, 80) } else { (40, 200) };
        let mut progress = Progress::new();
        let mut serving = Vec::new();
        for program in self.programs() {
            serving.push(self.serve(&program, 0, self.start())?);
        }
        // What a server has never used before costs more. So nothing is noted of the first round.
        for round in 0..=self.rounds {
            let mut costs = vec![(0.0, Some(0.0)); serving.len()];
            for _ in 0..TURNS {
                for (serving, (full, resumed)) in serving.iter_mut().zip(&mut costs) {
                    progress.show(|| format!("handshakes: round {round} of {}, {}", self.rounds, serving.id));
                    let (one, other) = serving.handshakes(counts, &self.profile)?;
                    *full += one / TURNS as f64;
                    *resumed = resumed.zip(other).map(|(sum, other)| sum + other / TURNS as f64);
                }
            }
            for (serving, (full, resumed)) in serving.iter().zip(costs).filter(|_| round > 0) {
                self.note("handshakes", "full", serving.id, full);
                if let Some(resumed) = resumed {
                    self.note("handshakes", "resumed", serving.id, resumed);
                }
            }
        }
        Ok(())
    }

    /// A flood of hellos without cookies: what a hello costs, and what clients beside it keep.
    pub fn flood(&mut self) -> Result<(), String> {
        const HELLOS: u64 = 20_000;
        let rates = [("kept, any number of hellos", f64::MAX), ("kept, 20,000 hellos/s", 20_000.0)];
        let rounds = if self.quick { 1 } else { self.rounds };
        let limit = Duration::from_millis(if self.quick { 500 } else { 1000 });
        let mut progress = Progress::new();
        for round in 1..=rounds {
            for program in self.built.programs.clone() {
                progress.show(|| format!("flood: round {round}, {}", program.name));
                // Each time another process: some keep what they have spent on each hello.
                let server = program.start(self.start(), &self.profile)?;
                let SocketAddr::V4(to) = server.at else { return Err("a flood needs IPv4".to_owned()) };
                // Each peer comes once, and the server's socket is never empty.
                let flood = Flood {
                    to,
                    plain: !program.is_dtls(),
                    rate: None,
                    sources: 10_000,
                    ports: 16,
                    count: HELLOS,
                    limit: Duration::from_secs(30),
                };
                let (before, memory) = (server.process().cpu()?, server.process().memory()?);
                let answers = flood.run(&AtomicBool::new(false), |_| {})?;
                if answers.answered < answers.sent / 2 {
                    let text = format!("{} answered {} of {} hellos", program.name, answers.answered, answers.sent);
                    return Err(text);
                }
                let cost = (server.process().cpu()? - before) * 1e6 / answers.answered as f64;
                let grown = server.process().memory()?.resident as f64 - memory.resident as f64;
                self.note("flood", "µs per hello", program.id, cost);
                self.note("flood", "bytes kept per hello", program.id, grown.max(0.0) * 1024.0 / answers.sent as f64);
                if flood.plain {
                    continue;
                }
                for (case, rate) in &rates[..if self.quick { 1 } else { 2 }] {
                    let server = program.start(self.start(), &self.profile)?;
                    let clients = connected(server.at, 64, 1, &self.profile, &mut Progress::new())?;
                    let SocketAddr::V4(to) = server.at else { return Err("a flood needs IPv4".to_owned()) };
                    let flood = Flood { to, rate: Some(*rate), count: u64::MAX, limit, ..flood };
                    let (beside, clients) = beside(flood, clients, &mut Progress::new())?;
                    self.note("flood", case, program.id, beside.kept());
                    clients.into_iter().for_each(Client::close);
                }
            }
        }
        Ok(())
    }

    /// What a connection holds, and what a message costs among so many.
    pub fn connections(&mut self) -> Result<(), String> {
        /// How many of them talk.
        const TALKERS: usize = 1000;
        // So long after its last word a connection counts as idle.
        let idle = Duration::from_secs(if self.quick { 2 } else { 6 });
        let counts: &[usize] = if self.quick { &[1_000] } else { &[1_000, 10_000, 100_000] };
        let mut progress = Progress::new();
        for &count in counts {
            let programs: Vec<Program> = self
                .programs()
                .into_iter()
                .filter(|program| {
                    let why = self.too_many(program, count);
                    if let Some(why) = &why {
                        eprintln!("{} is left out with {} connections: {why}", program.name, thousands(count));
                    }
                    why.is_none()
                })
                .collect();
            // A thousand each are held at once, to wait once; more of them would not fit beside each other.
            for some in programs.chunks(if count <= 1000 { programs.len() } else { 1 }) {
                let mut all = Vec::new();
                for program in some {
                    progress.show(|| format!("connections: {} to {}", thousands(count), program.name));
                    // What is made once for all is not counted.
                    let mut serving = self.serve(program, 100, self.start())?;
                    let before = serving.server.process().memory()?;
                    serving.fill(count, count / TALKERS, &self.profile)?;
                    all.push((serving, before));
                }
                thread::sleep(idle);
                for (serving, before) in &mut all {
                    let after = serving.server.process().memory()?;
                    let each = (after.resident as f64 - before.resident as f64) / (count - 100) as f64;
                    let count = thousands(count);
                    self.note("memory", &count, serving.id, each);
                    let talkers: Vec<usize> = (0..serving.crowd.len()).step_by(serving.crowd.len() / TALKERS).collect();
                    for _ in 0..self.rounds {
                        let (cost, _) = serving.cost(&talkers, talk(64, 1), Duration::from_millis(300))?;
                        self.note("growth", &count, serving.id, cost);
                    }
                }
            }
        }
        Ok(())
    }

    /// Why so many connections cannot be made to this server here.
    fn too_many(&self, program: &Program, count: usize) -> Option<String> {
        /// A socket for each client is a descriptor for each.
        const WITH_SOCKETS: usize = 10_000;
        if program.id == "openssl" && count > WITH_SOCKETS {
            return Some("it needs a descriptor for each".to_owned());
        }
        // What fewer of them took tells how much it will be. The clients who talk need some, too.
        let each = self.results.get("memory", &thousands(1_000), program.id)?.median();
        let (needed, there) = (each * count as f64 * 1.1 / 1e6, available()? as f64 / 1e6);
        (needed > there / 2.0).then(|| format!("it would take {needed:.0} GB, and {there:.0} are there"))
    }

    /// Bytes that malloc has given out for a connection, with the helpers' switch that gives OpenSSL's buffers back, too.
    pub fn heap(&mut self) -> Result<(), String> {
        const COUNT: usize = 2000;
        for (id, case, more) in [
            ("original", "kB", None),
            ("helpers", "kB", None),
            ("helpers", "kB, buffers given back", Some(("DV_RELEASE_BUFFERS", "1".to_owned()))),
        ] {
            let Some(program) = self.built.get(id).cloned() else { continue };
            let watch = HeapWatch::new(&self.built.directory, id)?;
            let environment: Vec<(&str, String)> = watch.environment().into_iter().chain(more).collect();
            let mut serving = self.serve(&program, 1, Start { environment: &environment, ..self.start() })?;
            let before = watch.now()?.bytes;
            serving.fill(COUNT + 1, 1, &self.profile)?;
            thread::sleep(Duration::from_millis(1200));
            // Somebody must call the helpers for what falls due to be done.
            serving.crowd.talk(&[0], talk(64, 1), Until::Elapsed(Duration::from_secs(1)))?;
            let more = (watch.now()?.bytes - before) as f64;
            self.note("heap", case, id, more / 1024.0 / COUNT as f64);
        }
        Ok(())
    }

    /// One worker and two, with so little load that it is not what is measured: twice as much for two.
    pub fn workers(&mut self) -> Result<(), String> {
        const CLIENTS: usize = 256;
        let Some(program) = self.built.get("server").cloned() else { return Ok(()) };
        let members: Vec<usize> = (0..CLIENTS).collect();
        let each = Duration::from_millis(if self.quick { 500 } else { 2000 });
        let mut progress = Progress::new();
        let mut one = self.serve(&program, CLIENTS, Start::default())?;
        let mut two = self.serve(&program, CLIENTS, Start { options: &["--workers", "2"], ..Start::default() })?;
        // Of what this machine can do at all with both sides on it, 0.35 for one worker and 0.7 for two.
        let (_, most) = one.cost(&members, talk(64, 1), each)?;
        let rate = 0.35 * most.answered as f64 / most.elapsed.as_secs_f64();
        for round in 1..=self.rounds {
            progress.show(|| format!("workers: round {round}"));
            let paced = |serving: &mut Serving, rate: f64| -> Result<(f64, f64), String> {
                let (cost, said) = serving.cost(&members, Talk { rate, ..talk(64, 1) }, each)?;
                Ok((cost, said.answered as f64 / said.elapsed.as_secs_f64()))
            };
            let ((cost_one, rate_one), (cost_two, rate_two)) = (paced(&mut one, rate)?, paced(&mut two, 2.0 * rate)?);
            self.note("workers", "messages a second, 1 worker", "server", rate_one);
            self.note("workers", "2 workers", "server", rate_two);
            self.note("workers", "µs per message, 1 worker", "server", cost_one);
            self.note("workers", "µs, 2 workers", "server", cost_two);
        }
        Ok(())
    }

    /// Of 1,000 handshakes through a network that loses datagrams, how many are complete in time.
    pub fn loss(&mut self) -> Result<(), String> {
        const COUNT: usize = 1000;
        let cases = [
            ("20 %, 60 s", 0.2, Timer::Openssl, 60),
            ("50 %, 120 s", 0.5, Timer::Openssl, 120),
            ("20 %, quick timers, 60 s", 0.2, Timer::Fast, 60),
            ("50 %, quick timers, 120 s", 0.5, Timer::Fast, 120),
        ];
        let mut progress = Progress::new();
        for (case, drop, timer, seconds) in cases {
            let profile = Profile::with_ciphers(super::CIPHER, None, timer)?;
            for id in ["server", "helpers", "original"] {
                let Some(program) = self.built.get(id).cloned() else { continue };
                progress.show(|| format!("loss: {case}, {id}"));
                let server = program.start(self.start(), &self.profile)?;
                let faults = Faults { seed: 1, drop, reorder: 0.05, duplicate: 0.05, ..Faults::default() };
                let outcome = through(server.at, faults, |to| {
                    let deadline = Duration::from_secs(seconds);
                    // All at the same time, from a few hundred addresses: it is not limits for a source that are measured.
                    let plan = Plan {
                        to,
                        sources: 250,
                        count: COUNT,
                        concurrency: COUNT,
                        rate: 200.0,
                        deadline,
                        profile: &profile,
                    };
                    connect_all(plan, &mut Progress::new(), |_, _| {})
                })?;
                self.note("loss", case, program.id, outcome.took.len() as f64);
            }
        }
        Ok(())
    }

    /// A look-up in the helpers' table.
    pub fn find(&mut self) -> Result<(), String> {
        let mut progress = Progress::new();
        for round in 1..=self.rounds {
            for (id, original) in [("helpers", false), ("original", true)] {
                if self.built.get(id).is_none() {
                    continue;
                }
                for count in [1_000, 100_000] {
                    progress.show(|| format!("find: round {round}, {id}, {count}"));
                    let took = self.built.find(original, count)?;
                    self.note("find", &thousands(count), id, took);
                }
            }
        }
        Ok(())
    }
}

impl Serving {
    /// Lets so many clients come for the first time, so many with the first one's session, and all leave. CPU per handshake in
    /// microseconds: full, and resumed where the server does that.
    fn handshakes(&mut self, counts: (usize, usize), profile: &Profile) -> Result<(f64, Option<f64>), String> {
        let first = self.crowd.len();
        let (full, resumed) = self.join(counts.0, profile)?;
        if resumed > 0 {
            return Err("a full handshake was none".to_owned());
        }
        let session = self.crowd.session(first).ok_or("no session to resume")?;
        let (short, resumed) = self.join(counts.1, &profile.clone().resuming(session))?;
        self.crowd.leave(first..self.crowd.len())?;
        // The goodbyes are not to be paid for by the next one.
        thread::sleep(Duration::from_millis(20));
        Ok((full, (resumed == counts.1).then_some(short)))
    }

    /// CPU per handshake in microseconds, and how many resumed a session.
    fn join(&mut self, count: usize, profile: &Profile) -> Result<(f64, usize), String> {
        let before = self.server.process().cpu()?;
        let resumed = self.crowd.join(count, profile, &mut Progress::new())?;
        Ok(((self.server.process().cpu()? - before) * 1e6 / count as f64, resumed))
    }

    /// Connects clients until there are `count`, by resumption, which is faster. All but each `kept`th vanish, or they would
    /// need more memory than the server; each says something before.
    fn fill(&mut self, count: usize, kept: usize, profile: &Profile) -> Result<(), String> {
        const STEP: usize = 1000;
        // The newest: a server may keep some few sessions only, and a full handshake can take it many times as long.
        let session = self.crowd.session(self.crowd.len() - 1).ok_or("no session to resume")?;
        let resuming = profile.clone().resuming(session);
        let (mut progress, began) = (Progress::new(), Instant::now());
        while self.crowd.len() < count {
            let first = self.crowd.len();
            let step = STEP.min(count - first);
            let resumed = self.crowd.join(step, &resuming, &mut Progress::new())?;
            let members: Vec<usize> = (first..first + step).collect();
            self.crowd.talk(&members, talk(64, 1), Until::Messages(1))?;
            self.crowd.forget(first..first + step, |member| member % kept.max(1) == 0);
            progress.show(|| {
                let (number, all, seconds) = (thousands(first + step), thousands(count), began.elapsed().as_secs());
                let full = if resumed < step { ", with full handshakes" } else { "" };
                format!("connections: {number} of {all} to {}{full}, {seconds} s", self.id)
            });
        }
        Ok(())
    }
}

/// A number with commas.
fn thousands(number: usize) -> String {
    let (thousands, rest) = (number / 1000, number % 1000);
    if thousands > 0 { format!("{thousands},{rest:03}") } else { rest.to_string() }
}

/// What callgrind has counted.
fn instructions(out: &std::path::Path) -> Result<f64, String> {
    let text = fs::read_to_string(out).map_err(|why| format!("{}: {why}", out.display()))?;
    let _ = fs::remove_file(out);
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).ok_or("callgrind wrote no totals".to_owned())
}
