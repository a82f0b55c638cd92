//! `dv-load proxy`: stands between clients and a server and does to their datagrams what a bad network does, by seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{Args, Usage};
use crate::client::Direction;
use crate::forge::{Forgery, Mode};
use crate::random::Random;
use crate::report::{Progress, Report};
use crate::sys::{self, Poll};

/// The options of the subcommand.
pub const HELP: &str = "\
proxy --listen ADDR --to ADDR [--seed N] [--seconds S] [--drop P] [--duplicate P] [--reorder P] [--corrupt P]
      [--delay MS] [--jitter MS] [--drop-nth I,J,..] [--drop-nth-out I,J,..] [--drop-nth-in I,J,..]
      [--inject P --inject-mode MODE] [--rebind S]
  Carries datagrams between clients and the server, each client over a socket of its own, from the client's address.
  P is the probability for each datagram in each direction; a reordered one waits until others have overtaken it
  (20 ms). --drop-nth drops the Ith datagram (from 1) of each client in both directions, -out and -in in the one to
  and from the server. --inject sends a forged datagram (MODE as in attack: junk, alert, ...) ahead of a good one.
  --rebind forgets each client's socket after S seconds: what the client sends next comes from another port, and what is
  under way to the old one is lost, as behind a NAT.
  The same seed gives the nth datagram of the mth client the same fate. Prints its port on stderr; ends after S
  seconds (600) or at SIGINT or SIGTERM, and then prints its counters.";

/// What the network does to datagrams.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Decides, together with the datagram's place, about everything.
    pub seed: u64,
    /// Probability to be lost.
    pub drop: f64,
    /// Probability to come twice.
    pub duplicate: f64,
    /// Probability to be overtaken.
    pub reorder: f64,
    /// Probability to have a byte changed.
    pub corrupt: f64,
    /// How long each datagram is on its way.
    pub delay: Duration,
    /// How much longer at most.
    pub jitter: Duration,
    /// Datagrams to the server that are lost, by number from 1 on.
    pub drop_nth_out: Vec<u64>,
    /// Datagrams from the server that are lost.
    pub drop_nth_in: Vec<u64>,
    /// Probability that a forged one comes ahead.
    pub inject: f64,
    /// How long a client's port stays the same.
    pub rebind: Option<Duration>,
}

/// How long a datagram waits that is to be overtaken.
const OVERTAKEN_AFTER: Duration = Duration::from_millis(20);

/// What happens to one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// When each copy of it goes on; none when it is lost.
    pub copies: Vec<Duration>,
    /// Which byte is changed (modulo the length), and by what it is changed.
    pub corrupt: Option<(usize, u8)>,
    /// Whether it is overtaken.
    pub reordered: bool,
    /// Whether a forged one comes ahead, and its seed.
    pub injected: Option<u64>,
}

impl Faults {
    /// The fate of the `number`th datagram (from 1) in `direction` of the `client`th client.
    pub fn fate(&self, client: u64, direction: Direction, number: u64) -> Fate {
        let mut random = Random::of(&[self.seed, client, direction as u64, number]);
        // Everything is drawn each time: switching one fault on must not change what the others do.
        let [drop, duplicate, reordered, corrupt, inject] =
            [self.drop, self.duplicate, self.reorder, self.corrupt, self.inject].map(|p| random.chance(p));
        let jitter = self.jitter.mul_f64(random.draw() as f64 / u64::MAX as f64);
        let (place, change, forged) = (random.draw() as usize, 1 << random.below(8), random.draw());
        let listed = match direction {
            Direction::Out => &self.drop_nth_out,
            Direction::In => &self.drop_nth_in,
        };
        let lost = drop || listed.contains(&number);
        let after = self.delay + jitter + if reordered { OVERTAKEN_AFTER } else { Duration::ZERO };
        Fate {
            copies: vec![after; if lost { 0 } else { 1 + duplicate as usize }],
            corrupt: corrupt.then_some((place, change)),
            reordered,
            injected: inject.then_some(forged),
        }
    }
}

/// What a proxy has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Clients seen.
    pub clients: u64,
    /// Datagrams that came in, in both directions.
    pub received: u64,
    /// Datagrams that went on, copies and forged ones included.
    pub sent: u64,
    /// Of these, those to the server.
    pub forwarded: u64,
    /// Datagrams that came from the server.
    pub answered: u64,
    /// How often a client's port changed.
    pub rebound: u64,
    /// Datagrams lost on purpose.
    pub dropped: u64,
    /// Datagrams sent twice.
    pub duplicated: u64,
    /// Datagrams held back for others to overtake them.
    pub reordered: u64,
    /// Datagrams with a byte changed.
    pub corrupted: u64,
    /// Forged datagrams.
    pub injected: u64,
}

/// One client of the proxy.
struct Route {
    client: SocketAddr,
    upstream: UdpSocket,
    since: Instant,
    number: u64,
    /// Datagrams so far, to and from the server.
    seen: [u64; 2],
}

/// A datagram on its way: when it arrives, in which order it set out, whose it is.
type UnderWay = (Instant, u64, usize, Direction, Vec<u8>);

/// A proxy between clients and one server.
pub struct Proxy {
    listen: UdpSocket,
    to: SocketAddr,
    faults: Faults,
    forgery: Forgery,
    poll: Poll,
    routes: HashMap<usize, Route>,
    by_client: HashMap<SocketAddr, usize>,
    oldest: VecDeque<usize>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    order: u64,
    counters: Counters,
}

/// Sockets at the same time, at most; the longest known client goes first.
const ROUTES: usize = 16_000;
const LISTEN: usize = usize::MAX;
const TERMINATE: usize = usize::MAX - 1;

impl Proxy {
    /// A proxy on `listen` that passes on to `to`.
    pub fn new(listen: SocketAddr, to: SocketAddr, faults: Faults, forgery: Forgery) -> io::Result<Self> {
        let listen = sys::bind(listen)?;
        let poll = Poll::new()?;
        poll.add(&listen, LISTEN)?;
        Ok(Proxy {
            listen,
            to,
            faults,
            forgery,
            poll,
            routes: HashMap::new(),
            by_client: HashMap::new(),
            oldest: VecDeque::new(),
            under_way: BinaryHeap::new(),
            order: 0,
            counters: Counters::default(),
        })
    }

    /// Where clients find it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listen.local_addr()
    }

    /// Passes datagrams on until `stop` says so; it is asked several times a second.
    pub fn run(
        &mut self,
        terminate: Option<&impl AsRawFd>,
        mut stop: impl FnMut(&Counters) -> bool,
    ) -> io::Result<Counters> {
        if let Some(terminate) = terminate {
            self.poll.add(terminate, TERMINATE)?;
        }
        while !stop(&self.counters) {
            let next = self.under_way.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            let wait = next.unwrap_or(Duration::MAX).min(Duration::from_millis(100));
            for token in self.poll.wait(wait)? {
                match token {
                    TERMINATE => return Ok(self.counters),
                    LISTEN => self.take_from_clients()?,
                    route => self.take_from_server(route),
                }
            }
            let now = Instant::now();
            while self.under_way.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Some(Reverse((_, _, route, direction, datagram))) = self.under_way.pop() else { break };
                self.deliver(route, direction, &datagram);
            }
        }
        Ok(self.counters)
    }

    fn take_from_clients(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1 << 16];
        while let Ok((len, client)) = self.listen.recv_from(&mut buffer) {
            let route = match self.by_client.get(&client) {
                Some(route) => *route,
                None => self.new_route(client)?,
            };
            self.pass(route, Direction::Out, &mut buffer[..len]);
        }
        Ok(())
    }

    fn take_from_server(&mut self, route: usize) {
        let mut buffer = [0; 1 << 16];
        while let Some(Ok(len)) = self.routes.get(&route).map(|route| route.upstream.recv(&mut buffer)) {
            self.pass(route, Direction::In, &mut buffer[..len]);
        }
    }

    fn new_route(&mut self, client: SocketAddr) -> io::Result<usize> {
        if self.routes.len() == ROUTES {
            let gone = self.oldest.pop_front().and_then(|oldest| self.routes.remove(&oldest));
            gone.map(|gone| self.by_client.remove(&gone.client));
        }
        let number = self.counters.clients;
        let route = number as usize;
        let upstream = self.upstream(client, route)?;
        self.counters.clients += 1;
        self.routes.insert(route, Route { client, upstream, since: Instant::now(), number, seen: [0; 2] });
        self.by_client.insert(client, route);
        self.oldest.push_back(route);
        Ok(route)
    }

    /// A socket to the server from a port of its own.
    fn upstream(&self, client: SocketAddr, route: usize) -> io::Result<UdpSocket> {
        // The client's own address, as far as the families allow it: a server may keep limits for each source.
        let source = match (client.ip(), self.to.ip()) {
            (IpAddr::V4(ip), IpAddr::V4(_)) => IpAddr::V4(ip),
            (_, to) => to,
        };
        let upstream = sys::bind(SocketAddr::new(source, 0))?;
        upstream.connect(self.to)?;
        self.poll.add(&upstream, route)?;
        Ok(upstream)
    }

    /// Lets what the client sends from now on come from another port.
    fn rebind(&mut self, index: usize) {
        let Some(client) = self.routes.get(&index).map(|route| route.client) else { return };
        // Where there is no other port the client keeps his.
        if let (Ok(upstream), Some(route)) = (self.upstream(client, index), self.routes.get_mut(&index)) {
            (route.upstream, route.since) = (upstream, Instant::now());
            self.counters.rebound += 1;
        }
    }

    fn pass(&mut self, index: usize, direction: Direction, datagram: &mut [u8]) {
        let Some(route) = self.routes.get_mut(&index) else { return };
        let seen = &mut route.seen[direction as usize];
        *seen += 1;
        let fate = self.faults.fate(route.number, direction, *seen);
        self.counters.received += 1;
        self.counters.answered += (direction == Direction::In) as u64;
        if let Some(seed) = fate.injected {
            self.counters.injected += 1;
            let forged = self.forgery.datagram(&mut Random::new(seed));
            self.send(index, direction, forged, self.faults.delay);
        }
        if let Some((place, change)) = fate.corrupt.filter(|_| !datagram.is_empty()) {
            self.counters.corrupted += 1;
            datagram[place % datagram.len()] ^= change;
        }
        self.counters.reordered += fate.reordered as u64;
        match fate.copies.len() {
            0 => self.counters.dropped += 1,
            n => self.counters.duplicated += n as u64 - 1,
        }
        for after in fate.copies {
            self.send(index, direction, datagram.to_vec(), after);
        }
    }

    fn send(&mut self, route: usize, direction: Direction, datagram: Vec<u8>, after: Duration) {
        if after.is_zero() {
            return self.deliver(route, direction, &datagram);
        }
        self.order += 1;
        self.under_way.push(Reverse((Instant::now() + after, self.order, route, direction, datagram)));
    }

    fn deliver(&mut self, index: usize, direction: Direction, datagram: &[u8]) {
        let Some(route) = self.routes.get(&index) else { return };
        // What the kernel does not take is lost, as on a network.
        let sent = match direction {
            Direction::Out => {
                if self.faults.rebind.is_some_and(|time| route.since.elapsed() >= time) {
                    self.rebind(index);
                }
                self.routes[&index].upstream.send(datagram)
            }
            Direction::In => self.listen.send_to(datagram, route.client),
        };
        self.counters.sent += sent.is_ok() as u64;
        self.counters.forwarded += (sent.is_ok() && direction == Direction::Out) as u64;
    }
}

/// Lets clients talk to `server` through a proxy that forges junk, if anything: `clients` is told where to find it.
pub fn through<T>(
    server: SocketAddr,
    faults: Faults,
    clients: impl FnOnce(SocketAddr) -> Result<T, String>,
) -> Result<T, String> {
    let fail = |why: io::Error| format!("proxy: {why}");
    let listen = SocketAddr::new(server.ip(), 0);
    let mut proxy = Proxy::new(listen, server, faults, Forgery::new(Mode::Junk)?).map_err(fail)?;
    let (to, stop) = (proxy.address().map_err(fail)?, AtomicBool::new(false));
    let terminate: Option<&UdpSocket> = None;
    thread::scope(|scope| {
        let carrying = scope.spawn(|| proxy.run(terminate, |_| stop.load(Ordering::Relaxed)));
        let result = clients(to);
        stop.store(true, Ordering::Relaxed);
        carrying.join().map_err(|_| "the proxy's thread panicked")?.map_err(fail)?;
        result
    })
}

/// Runs the subcommand.
pub fn run(mut args: Args) -> Result<bool, Usage> {
    let listen = args.loopback("--listen")?;
    let to = args.loopback("--to")?;
    let nth = args.list("--drop-nth")?;
    let faults = Faults {
        seed: args.or("--seed", 1)?,
        drop: args.probability("--drop")?,
        duplicate: args.probability("--duplicate")?,
        reorder: args.probability("--reorder")?,
        corrupt: args.probability("--corrupt")?,
        delay: args.seconds("--delay", 0.0)? / 1000,
        jitter: args.seconds("--jitter", 0.0)? / 1000,
        drop_nth_out: [nth.clone(), args.list("--drop-nth-out")?].concat(),
        drop_nth_in: [nth, args.list("--drop-nth-in")?].concat(),
        inject: args.probability("--inject")?,
        rebind: Some(args.seconds("--rebind", 0.0)?).filter(|time| !time.is_zero()),
    };
    let mode = args.or("--inject-mode", Mode::Junk)?;
    let limit = args.seconds("--seconds", 600.0)?;
    args.finish()?;

    let fail = |why: io::Error| format!("{listen}: {why}");
    let terminate: File = sys::termination().map_err(fail)?.into();
    let mut proxy = Proxy::new(listen, to, faults, Forgery::new(mode)?).map_err(fail)?;
    eprintln!("dv-load proxy: {} -> {to}", proxy.address().map_err(fail)?);
    let mut progress = Progress::new();
    let began = Instant::now();
    let counters = proxy.run(Some(&terminate), |counters| {
        progress.show(|| format!("{counters:?}"));
        began.elapsed() >= limit
    });
    drop(progress);
    let counters = counters.map_err(fail)?;
    Report::new("proxy")
        .value("clients", counters.clients)
        .value("received", counters.received)
        .value("sent", counters.sent)
        .value("forwarded", counters.forwarded)
        .value("answered", counters.answered)
        .value("rebound", counters.rebound)
        .value("dropped", counters.dropped)
        .value("duplicated", counters.duplicated)
        .value("reordered", counters.reordered)
        .value("corrupted", counters.corrupted)
        .value("injected", counters.injected)
        .print();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad_network() -> Faults {
        Faults { seed: 7, drop: 0.2, duplicate: 0.1, reorder: 0.1, corrupt: 0.1, inject: 0.1, ..Faults::default() }
    }

    fn fates(faults: &Faults) -> Vec<Fate> {
        let of = |client| (1..=50).flat_map(move |n| [(client, Direction::Out, n), (client, Direction::In, n)]);
        (0..50).flat_map(of).map(|(client, direction, n)| faults.fate(client, direction, n)).collect()
    }

    #[test]
    fn a_fate_depends_on_seed_and_place_alone() {
        let faults = bad_network();
        let mut backwards: Vec<Fate> = (1..=50).rev().map(|n| faults.fate(3, Direction::In, n)).collect();
        backwards.reverse();
        let forwards: Vec<Fate> = (1..=50).map(|n| faults.fate(3, Direction::In, n)).collect();
        assert_eq!(forwards, backwards);
        assert_eq!(fates(&faults), fates(&faults));
        assert_ne!(fates(&faults), fates(&Faults { seed: 8, ..faults }));
    }

    #[test]
    fn one_fault_does_not_move_the_others() {
        let faults = bad_network();
        let without = Faults { duplicate: 0.0, corrupt: 0.0, ..faults.clone() };
        for (one, other) in fates(&faults).iter().zip(fates(&without)) {
            assert_eq!(one.copies.is_empty(), other.copies.is_empty());
            assert_eq!((one.reordered, one.injected), (other.reordered, other.injected));
        }
    }

    #[test]
    fn faults_come_as_often_as_asked() {
        let fates = fates(&bad_network());
        let share =
            |test: fn(&Fate) -> bool| fates.iter().filter(|fate| test(fate)).count() as f64 / fates.len() as f64;
        assert!((0.17..0.23).contains(&share(|fate| fate.copies.is_empty())));
        assert!((0.06..0.1).contains(&share(|fate| fate.copies.len() == 2)));
        assert!((0.08..0.12).contains(&share(|fate| fate.corrupt.is_some())));
        assert!((0.08..0.12).contains(&share(|fate| fate.reordered)));
        assert_eq!(Faults::default().fate(1, Direction::Out, 1).copies, [Duration::ZERO]);
    }

    #[test]
    fn the_nth_datagram_is_dropped_in_its_direction() {
        let faults = Faults { drop_nth_out: vec![2], drop_nth_in: vec![3, 4], ..Faults::default() };
        let lost = |direction| (1..=5).filter(|n| faults.fate(9, direction, *n).copies.is_empty()).collect::<Vec<_>>();
        assert_eq!(lost(Direction::Out), [2]);
        assert_eq!(lost(Direction::In), [3, 4]);
    }

    #[test]
    fn datagrams_pass_both_ways_from_the_clients_address() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.9:0").unwrap();
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        let faults = Faults { drop_nth_out: vec![1], ..Faults::default() };
        let at = "127.0.0.1:0".parse().unwrap();
        let mut proxy =
            Proxy::new(at, server.local_addr().unwrap(), faults, Forgery::new(Mode::Junk).unwrap()).unwrap();
        client.connect(proxy.address().unwrap()).unwrap();
        let run = std::thread::spawn(move || proxy.run(None::<&File>, |counters| counters.received == 3).unwrap());
        client.send(b"lost").unwrap();
        client.send(b"ping").unwrap();
        let mut buffer = [0; 16];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.ip()), (&b"ping"[..], client.local_addr().unwrap().ip()));
        server.send_to(b"pong", from).unwrap();
        let len = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"pong");
        let counters = run.join().unwrap();
        assert_eq!((counters.clients, counters.received, counters.sent, counters.dropped), (1, 3, 2, 1));
    }

    #[test]
    fn faults_happen_to_datagrams() {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let delay = Duration::from_millis(30);
        let faults = Faults { duplicate: 1.0, corrupt: 1.0, inject: 1.0, delay, ..Faults::default() };
        let (at, to) = ("127.0.0.1:0".parse().unwrap(), server.local_addr().unwrap());
        let mut proxy = Proxy::new(at, to, faults, Forgery::new(Mode::Alert).unwrap()).unwrap();
        client.connect(proxy.address().unwrap()).unwrap();
        let run = thread::spawn(move || proxy.run(None::<&File>, |counters| counters.sent == 3).unwrap());
        let (sent, message) = (Instant::now(), [7; 100]);
        client.send(&message).unwrap();
        let [forged, first, second] = [(); 3].map(|()| {
            let mut buffer = [0; 200];
            let len = server.recv(&mut buffer).unwrap();
            buffer[..len].to_vec()
        });
        assert!(sent.elapsed() >= delay);
        assert_eq!(forged[0], 21, "an alert comes ahead");
        assert_eq!(first.iter().zip(message).filter(|(is, was)| *is != was).count(), 1, "{first:?}");
        assert_eq!((first.len(), &first), (message.len(), &second));
        let counters = run.join().unwrap();
        assert_eq!((counters.duplicated, counters.corrupted, counters.injected, counters.dropped), (1, 1, 1, 0));
    }

    #[test]
    fn a_client_comes_from_another_port_when_his_is_forgotten() {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let faults = Faults { rebind: Some(Duration::from_millis(50)), ..Faults::default() };
        let (at, to) = ("127.0.0.1:0".parse().unwrap(), server.local_addr().unwrap());
        let mut proxy = Proxy::new(at, to, faults, Forgery::new(Mode::Junk).unwrap()).unwrap();
        client.connect(proxy.address().unwrap()).unwrap();
        let run = thread::spawn(move || proxy.run(None::<&File>, |counters| counters.received == 2).unwrap());
        let from = [(); 2].map(|()| {
            client.send(b"ping").unwrap();
            let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
            thread::sleep(Duration::from_millis(60));
            from
        });
        assert_ne!(from[0], from[1]);
        let counters = run.join().unwrap();
        assert_eq!((counters.clients, counters.forwarded, counters.rebound), (1, 2, 1));
    }
}
