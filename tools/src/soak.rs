//! `dv-load soak`: servers that everything happens to for a long time, and are to end as they began.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::bench::servers::{Heap, HeapWatch, Server, library_directory};
use crate::client::{Client, Profile, Timer};
use crate::common::root;
use crate::connect::{Plan, connect_all};
use crate::crowd::{Crowd, Talk};
use crate::echo::{Exchange, Until, exchange};
use crate::flood::Flood;
use crate::proxy::{Faults, through};
use crate::report::{Progress, Report};

/// The options of the subcommand.
pub const HELP: &str = "\
soak [--minutes M] [--directory DIR]
  For M minutes (30), wave after wave: clients come, talk, leave, vanish, change their address, come again from their port,
  lose datagrams, and a flood of hellos and forgeries comes beside them. The servers are the Rust example of the server door
  (target/release/examples/echo_server) and the C example of the helpers (build/dtls_server). A line each minute: what is
  resident, and what malloc has given out. Exits with 0 when after the last wave, with nobody there, each server has the
  descriptors that it had after a tenth of the time, at most 2 MB more of memory, 16 blocks and 64 KB more given out by
  malloc, no session and no handshake, and has answered all that was to be answered.";

/// Sessions that are silent for so long are closed, and handshakes that take so long given up; a wave leaves nobody who is to
/// stay alone for so long.
const IDLE: Duration = Duration::from_secs(10);

/// So much more memory is allowed at the end.
const GROWTH_KB: i64 = 2048;

/// So much more may malloc have given out. A buffer that grows stays one block, so what a wave leaves behind adds to the
/// blocks, be it one in each wave.
const HEAP_GROWTH: Heap = Heap { blocks: 16, bytes: 64 << 10 };

/// A server has everything that it will keep after ten waves (the helpers grew until the sixth), and a tenth of the time.
const WARM_UP: (u32, f64) = (10, 0.1);

/// A server, and how it was when it was warm.
struct Subject {
    name: &'static str,
    server: Server,
    metrics: Option<SocketAddr>,
    heap: HeapWatch,
    warm: Option<State>,
}

/// What is to be the same again.
#[derive(Clone, Debug, Default)]
struct State {
    resident_kb: i64,
    /// What malloc has given out.
    heap: Heap,
    descriptors: usize,
    counters: BTreeMap<String, u64>,
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let minutes: f64 = args.or("--minutes", 30.0)?;
    let directory: PathBuf = args.or("--directory", root().join("target/bench"))?;
    args.finish()?;
    let profile = Profile::new(None, Timer::Fast)?;
    let idle = IDLE.as_millis().to_string();
    let mut subjects = vec![server_door(&directory, &idle)?, helpers(&directory, &idle)?];
    let (began, mut waves, mut told) = (Instant::now(), 0, Instant::now());
    let mut progress = Progress::new();
    while began.elapsed().as_secs_f64() < minutes * 60.0 || waves <= WARM_UP.0 {
        for subject in &mut subjects {
            progress.show(|| {
                format!("soak: {:.1} min, wave {waves}, {}", began.elapsed().as_secs_f64() / 60.0, subject.name)
            });
            wave(subject.server.at, &profile, waves).map_err(|why| format!("{}, wave {waves}: {why}", subject.name))?;
        }
        waves += 1;
        let warm = waves >= WARM_UP.0 && began.elapsed().as_secs_f64() >= WARM_UP.1 * minutes * 60.0;
        let tell = told.elapsed() >= Duration::from_secs(60);
        if tell || (warm && subjects.iter().any(|subject| subject.warm.is_none())) {
            told = Instant::now();
            // Those who vanished are to be given up.
            thread::sleep(IDLE);
            for subject in &mut subjects {
                let state = subject.rest(&profile)?;
                state.describe(subject.name, waves, began.elapsed()).print();
                if warm {
                    subject.warm.get_or_insert(state);
                }
            }
        }
    }
    thread::sleep(IDLE);
    drop(progress);
    let mut good = true;
    for subject in &subjects {
        let state = subject.rest(&profile)?;
        let warm = subject.warm.clone().unwrap_or_default();
        let (grown, descriptors) = (state.resident_kb - warm.resident_kb, state.descriptors == warm.descriptors);
        let (blocks, bytes) = (state.heap.blocks - warm.heap.blocks, state.heap.bytes - warm.heap.bytes);
        let heap = blocks <= HEAP_GROWTH.blocks && bytes <= HEAP_GROWTH.bytes;
        let well = grown <= GROWTH_KB && heap && descriptors && state.is_silent();
        let report = state.describe(subject.name, waves, began.elapsed());
        report
            .value("grown_kb", grown)
            .value("heap_grown_blocks", blocks)
            .value("heap_grown_bytes", bytes)
            .value("descriptors_as_before", descriptors)
            .part("gained", state.gained(&warm))
            .value("good", well)
            .print();
        good &= well;
    }
    Ok(good)
}

/// Starts the example of the server door, with statistics.
fn server_door(directory: &Path, idle: &str) -> Result<Subject, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let mut command = Command::new(target.join("release/examples/echo_server"));
    command.args(["--host", "127.0.0.1", "--port", "0", "--metrics", "0"]);
    command.args(["--idle-timeout", idle, "--handshake-timeout", idle]);
    subject("server", command, directory, |said| {
        let after =
            |begin: &str| said.lines().find_map(|line| line.strip_prefix(begin)?.trim_end_matches('/').parse().ok());
        Some((after("listening on ")?, Some(after("metrics at http://")?)))
    })
}

/// Starts the example of the helpers, which frees what the library has given up.
fn helpers(directory: &Path, idle: &str) -> Result<Subject, String> {
    let mut command = Command::new(library_directory().join("dtls_server"));
    command.args(["-a", "127.0.0.1", "-p", "0"]);
    command.envs([("DV_IDLE_TIMEOUT_MS", idle), ("DV_HANDSHAKE_TIMEOUT_MS", idle)]);
    subject("helpers", command, directory, |said| {
        let (address, port) = said.trim_end().strip_prefix("server listens on ")?.split_once(" port ")?;
        Some((format!("{address}:{port}").parse().ok()?, None))
    })
}

/// Where a server listens, and where its statistics are.
type Places = (SocketAddr, Option<SocketAddr>);

/// Starts a server; `told` finds its places in what it says.
fn subject(
    name: &'static str,
    mut command: Command,
    directory: &Path,
    told: fn(&str) -> Option<Places>,
) -> Result<Subject, String> {
    let heap = HeapWatch::new(directory, name)?;
    command.envs(heap.environment()).current_dir(root());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|why| format!("{command:?}: {why}; make soak builds it"))?;
    let mut output = BufReader::new(child.stdout.take().expect("it was piped"));
    // From here on the process ends in any case.
    let mut server = Server::new(child, SocketAddr::from(([127, 0, 0, 1], 0)));
    let (mut said, mut metrics) = (String::new(), None);
    while server.at.port() == 0 {
        if output.read_line(&mut said).map_err(|why| format!("{command:?}: {why}"))? == 0 {
            return Err(format!("{command:?} does not say where it listens: {said}"));
        }
        if let Some(told) = told(&said) {
            (server.at, metrics) = told;
        }
    }
    // Nobody needs the rest, but it must go somewhere.
    thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    Ok(Subject { name, server, metrics, heap, warm: None })
}

impl Subject {
    /// How the server is when nobody is there any more, [`IDLE`] after the last client.
    fn rest(&self, profile: &Profile) -> Result<State, String> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            // With the helpers somebody must come for what falls due to be done, and each call does a part of it.
            let mut crowd = Crowd::new(self.server.at)?;
            crowd.join(1, profile, &mut Progress::new())?;
            answered(&mut crowd, &[0], TALK, 200)?;
            crowd.leave(0..1)?;
            thread::sleep(Duration::from_millis(200));
            let state = self.state()?;
            if state.is_silent() || Instant::now() >= until {
                return Ok(state);
            }
        }
    }

    fn state(&self) -> Result<State, String> {
        let process = self.server.process();
        let counters = self.metrics.map(counters).transpose()?.unwrap_or_default();
        let descriptors =
            fs::read_dir(format!("/proc/{}/fd", process.0)).map_err(|why| format!("descriptors: {why}"))?;
        Ok(State {
            resident_kb: process.memory()?.resident as i64,
            heap: self.heap.now()?,
            descriptors: descriptors.count(),
            counters,
        })
    }
}

impl State {
    /// How many of these are open, by a server that tells.
    fn open(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Whether nobody is there.
    fn is_silent(&self) -> bool {
        self.open("dv_sessions") == 0 && self.open("dv_handshakes") == 0
    }

    fn describe(&self, name: &str, waves: u32, elapsed: Duration) -> Report {
        Report::new("soak")
            .text("server", name)
            .float("minutes", elapsed.as_secs_f64() / 60.0)
            .value("waves", waves)
            .value("resident_kb", self.resident_kb)
            .value("heap_blocks", self.heap.blocks)
            .value("heap_bytes", self.heap.bytes)
            .value("descriptors", self.descriptors)
            .value("sessions", self.open("dv_sessions"))
            .value("handshakes", self.open("dv_handshakes"))
    }

    /// By how much the counters have grown since `before`.
    fn gained(&self, before: &State) -> Report {
        let grown = self.counters.iter().filter_map(|(name, now)| {
            let name = name.strip_prefix("dv_")?.strip_suffix("_total")?;
            let before = before.counters.get(&format!("dv_{name}_total")).copied().unwrap_or(0);
            (*now > before).then_some((name, now - before))
        });
        grown.fold(Report::nested(), |report, (name, grown)| report.value(name, grown))
    }
}

/// The numbers on a page for Prometheus.
fn counters(at: SocketAddr) -> Result<BTreeMap<String, u64>, String> {
    let fail = |why: std::io::Error| format!("statistics at {at}: {why}");
    let mut page = String::new();
    let mut stream = TcpStream::connect(at).map_err(fail)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(fail)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(fail)?;
    stream.read_to_string(&mut page).map_err(fail)?;
    let number = |line: &str| line.split_once(' ').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
    Ok(page.lines().filter_map(number).collect())
}

/// Messages that fit into the server's socket, and must all be answered: nothing is lost on loopback.
const TALK: Talk = Talk { size: 64, burst: 1, at_once: 64, rate: f64::MAX, patience: Duration::from_secs(5) };

/// One of everything. What must be answered and is not is an error.
fn wave(at: SocketAddr, profile: &Profile, number: u32) -> Result<(), String> {
    let mut progress = Progress::new();
    // Some have a bad network.
    lossy(at, profile, number)?;

    // 200 come, half of them with a session of the first, and talk.
    let mut crowd = Crowd::new(at)?;
    crowd.join(100, profile, &mut progress)?;
    let session = crowd.session(0).ok_or("no session")?;
    crowd.join(100, &profile.clone().resuming(session), &mut progress)?;
    let all: Vec<usize> = (0..200).collect();
    answered(&mut crowd, &all, TALK, 20)?;
    answered(&mut crowd, &all, Talk { size: 1000, ..TALK }, 5)?;

    // Some leave, some vanish, and some come again from where they were.
    crowd.leave(0..50)?;
    crowd.forget(50..100, |_| false);
    crowd.forget(100..125, |_| false);
    crowd.join_again(100..125, profile, &mut progress)?;
    // Some are suddenly elsewhere. Without a Connection ID nobody knows them there, until they begin anew.
    let moved: Vec<usize> = (125..150).map(|member| crowd.change_address(member)).collect();
    crowd.talk(&moved, Talk { patience: Duration::from_millis(50), ..TALK }, Until::Messages(1))?;
    crowd.join_again(200..225, profile, &mut progress)?;
    let remaining: Vec<usize> = (100..125).chain(150..225).collect();
    answered(&mut crowd, &remaining, TALK, 10)?;

    // A flood; whoever was there before is there afterwards.
    let SocketAddr::V4(to) = at else { return Err("a flood needs IPv4".to_owned()) };
    let limit = Duration::from_millis(500);
    let flood = Flood { to, plain: false, rate: Some(20_000.0), sources: 5_000, ports: 4, count: u64::MAX, limit };
    flood.run(&AtomicBool::new(false), |_| {})?;
    // Its last hellos may still fill the server's socket, and what finds no room there is lost.
    crowd.talk(&remaining, Talk { patience: Duration::from_secs(1), ..TALK }, Until::Messages(1))?;
    answered(&mut crowd, &remaining, TALK, 10)?;
    crowd.leave(100..125)?;
    crowd.leave(150..225)
}

fn answered(crowd: &mut Crowd, members: &[usize], talk: Talk, messages: u64) -> Result<(), String> {
    let said = crowd.talk(members, talk, Until::Messages(messages))?;
    if said.lost == 0 { Ok(()) } else { Err(format!("{} messages answered, {} lost", said.answered, said.lost)) }
}

/// Clients behind a proxy that loses, doubles, reorders, damages and invents datagrams.
fn lossy(at: SocketAddr, profile: &Profile, number: u32) -> Result<(), String> {
    const CLIENTS: usize = 40;
    // A client whose first hello was damaged on its way repeats another one with that cookie, and is given up here.
    const SERVED: usize = 30;
    let faults = Faults {
        seed: number.into(),
        drop: 0.1,
        duplicate: 0.05,
        reorder: 0.05,
        corrupt: 0.02,
        inject: 0.05,
        ..Faults::default()
    };
    through(at, faults, |to| {
        let deadline = Duration::from_secs(3);
        let plan = Plan { to, sources: 1, count: CLIENTS, concurrency: CLIENTS, rate: f64::MAX, deadline, profile };
        let mut progress = Progress::new();
        let outcome = connect_all(plan, &mut progress, |_, _| {})?;
        if outcome.clients.len() < SERVED {
            return Err(format!("{} of {CLIENTS} clients with losses were served", outcome.clients.len()));
        }
        let shape = Exchange { size: 64, burst: 2, same: false, timeout: Duration::from_millis(100) };
        let (_, clients) = exchange(outcome.clients, shape, Until::Elapsed(Duration::from_millis(500)), &mut progress)?;
        // Half of them say goodbye, which may be lost; the others vanish.
        clients.into_iter().step_by(2).for_each(Client::close);
        thread::sleep(Duration::from_millis(50));
        Ok(())
    })
}
