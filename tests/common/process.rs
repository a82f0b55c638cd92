//! Processes that the tests start: what they print goes to a file, every wait is bounded, and none outlives its test.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::directory;

/// What takes milliseconds may take that long: the machine is busy, or a hello had to be repeated.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
}

/// A process that writes into a file, so that it can be read at any time and never has to wait for a reader. Killed when
/// dropped.
pub struct Process {
    pub child: Child,
    log: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, input: Stdio) -> Process {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let log = directory().join(format!("{}.log", STARTED.fetch_add(1, Ordering::Relaxed)));
        let mut file = File::create(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        writeln!(file, "{command:?}").expect("written");
        command.stdin(input).stdout(file.try_clone().expect("a descriptor")).stderr(file);
        Process { child: command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")), log }
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        // SAFETY: kill takes no pointer; the number is that of our child, which is not yet waited for.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, number) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }

    /// Waits until it has ended.
    pub fn wait(self) -> Ended {
        self.wait_for(PATIENCE)
    }

    pub fn wait_for(mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Ended { status, output: self.output() };
            }
            pause(deadline, || self.output());
        }
    }

    /// Waits until it has printed something in which `wanted` finds what it looks for.
    pub fn until<T>(&self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = wanted(&self.output()) {
                return found;
            }
            pause(deadline, || self.output());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it is so. Where nothing happens for too long the test fails, and says what there was so far.
pub fn wait_until(mut done: impl FnMut() -> bool, so_far: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        pause(deadline, &so_far);
    }
}

/// Gives the other processes a moment; past the deadline the test fails.
pub fn pause(deadline: Instant, output: impl Fn() -> String) {
    assert!(Instant::now() < deadline, "nothing happened for too long; so far:\n{}", output());
    thread::sleep(Duration::from_millis(5));
}

/// What `body` makes in less than `limit`. Where others had the processors meanwhile, it has further chances.
pub fn in_less_than<T>(limit: Duration, body: impl Fn() -> T) -> T {
    let made = (0..30).find_map(|_| {
        let began = Instant::now();
        Some(body()).filter(|_| began.elapsed() < limit)
    });
    made.unwrap_or_else(|| panic!("it has never taken less than {limit:?}"))
}

/// What the kernel says of each UDP socket that is bound to exactly this address, in this thread's network.
pub fn udp_sockets(at: SocketAddr) -> Vec<String> {
    let word = |octets: &[u8]| format!("{:08X}", u32::from_ne_bytes(octets.try_into().expect("four octets")));
    let (table, host) = match at.ip() {
        IpAddr::V4(ip) => ("/proc/thread-self/net/udp", word(&ip.octets())),
        IpAddr::V6(ip) => ("/proc/thread-self/net/udp6", ip.octets().chunks(4).map(word).collect()),
    };
    let sockets = std::fs::read_to_string(table).unwrap_or_default();
    let here = format!(" {host}:{:04X} ", at.port());
    sockets.lines().filter(|line| line.contains(&here)).map(String::from).collect()
}

/// Whether a UDP socket is bound to exactly this address.
pub fn is_bound(at: SocketAddr) -> bool {
    !udp_sockets(at).is_empty()
}

/// Begins a call in another thread, and comes back when that thread sleeps: it waits for somebody, or is over. What the call
/// gives comes later.
pub fn begin_and_wait<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let ((begun, told), (give, given)) = (mpsc::channel(), mpsc::channel());
    let thread = thread::spawn(move || {
        // SAFETY: the call takes nothing.
        begun.send(unsafe { libc::gettid() }).expect("somebody listens");
        // Who is not interested any more has gone.
        let _ = give.send(call());
    });
    let stat = format!("/proc/self/task/{}/stat", told.recv().expect("it has begun"));
    // Behind the name, which may contain anything, stands the state.
    let state = || std::fs::read_to_string(&stat).ok()?.rsplit_once(") ")?.1.chars().next();
    wait_until(|| thread.is_finished() || state() == Some('S'), || format!("{:?}", state()));
    given
}

/// A UDP port that nobody else takes. It is none of those that the kernel gives to whoever asks for any, where it leaves others,
/// and no other test has it: their processes tell each other by the names of sockets that are there for as long as they are.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for port in ports_of_nobody().skip(taken.len()) {
        let name = net::SocketAddr::from_abstract_name(format!("a test of dv_dtls has the port {port}"));
        let Ok(ours) = UnixListener::bind_addr(&name.expect("a short name")) else { continue };
        if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            taken.push(ours);
            return port;
        }
    }
    panic!("no port is free");
}

fn ports_of_nobody() -> impl Iterator<Item = u16> {
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let given: Vec<u16> = given.split_whitespace().filter_map(|port| port.parse().ok()).collect();
    let is_given = move |port: &u16| matches!(given[..], [first, last] if (first..=last).contains(port));
    let (of_the_kernel, of_nobody): (Vec<u16>, Vec<u16>) = (10_000..=u16::MAX).partition(is_given);
    of_nobody.into_iter().chain(of_the_kernel)
}

/// An address of 127.0.0.0/8 that no other test has.
pub fn own_host() -> Ipv4Addr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let [.., high, low] = GIVEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1 + (std::process::id() % 250) as u8, 1 + high, low)
}

/// Lets another thread end when dropped, also when the test has failed: a scope waits for its threads.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
