//! What a look-up, a use, a newcomer, an eviction and a deadline cost. `cargo bench --bench registry`
//!
//! Peers are random and asked for in another random order, so that at large sizes memory is what is measured.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use dv_dtls::engine::registry::{Id, Kind, Limits, Refusal, Registry};
use dv_dtls::engine::timers::TimerQueue;

const ROUNDS: usize = 9;

const LIMITS: Limits = Limits {
    connections: u32::MAX,
    handshakes: u32::MAX,
    connections_per_source: u32::MAX,
    handshakes_per_source: u32::MAX,
};

/// xorshift64*: random enough to leave the caches no hope.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn ipv4(&mut self) -> SocketAddr {
        let bits = self.number();
        (Ipv4Addr::from_bits((bits >> 32) as u32), bits as u16).into()
    }

    fn ipv6(&mut self) -> SocketAddr {
        let ip = u128::from(self.number()) << 64 | u128::from(self.number());
        (Ipv6Addr::from_bits(ip), self.number() as u16).into()
    }

    fn shuffle<E>(&mut self, all: &mut [E]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.number() as usize % (i + 1));
        }
    }
}

/// Prints the nanoseconds of one of `count` operations that `round` does: the median and the best of the rounds.
fn report(name: &str, count: usize, mut round: impl FnMut()) {
    let mut took: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    took.sort_by(f64::total_cmp);
    println!("{:>8.1} ns (best {:>6.1})  {name}", took[ROUNDS / 2], took[0]);
}

/// A table of established connections, and their peers and ids in random order.
fn table(peers: &[SocketAddr], random: &mut Random) -> (Registry<usize>, Vec<SocketAddr>, Vec<Id>) {
    let mut table = Registry::new(LIMITS);
    let mut ids: Vec<Id> = peers.iter().map(|peer| table.insert(*peer, 0, Kind::Established)).collect();
    let mut asked = peers.to_vec();
    random.shuffle(&mut asked);
    random.shuffle(&mut ids);
    (table, asked, ids)
}

fn look_ups(name: &str, peers: &[SocketAddr], random: &mut Random) {
    let count = peers.len();
    let (mut table, asked, ids) = table(peers, random);
    let total = 1_000_000usize.next_multiple_of(count);
    report(&format!("find, {count} {name}"), total, || {
        for peer in asked.iter().cycle().take(total) {
            black_box(table.find(peer));
        }
    });
    report(&format!("find and get, each after the last, {count} {name}"), total, || {
        let mut at = 0;
        for _ in 0..total {
            // The values are all 0, which only the memory knows: no look-up begins before the last one has ended.
            at += 1 + table.find(&asked[at]).and_then(|id| table.get(id)).copied().unwrap_or(1);
            at = if at == count { 0 } else { at };
        }
        black_box(at);
    });
    let mut strangers: Vec<SocketAddr> = (0..count).map(|_| random.ipv6()).collect();
    random.shuffle(&mut strangers);
    report(&format!("find a stranger, {count} {name}"), total, || {
        for peer in strangers.iter().cycle().take(total) {
            black_box(table.find(peer));
        }
    });
    let mut order: Vec<usize> = (0..total).map(|_| random.number() as usize % count).collect();
    report(&format!("touch, {count} {name}"), total, || {
        for at in &order {
            table.touch(ids[*at]);
        }
        order.reverse();
    });
    report(&format!("find, get and touch, {count} {name}"), total, || {
        for peer in asked.iter().cycle().take(total) {
            let id = table.find(peer).expect("all peers are there");
            black_box(table.get(id));
            table.touch(id);
        }
    });
    let fresh: Vec<SocketAddr> = (0..100_000).map(|_| random.ipv4()).collect();
    report(&format!("admit, insert, establish and remove, beside {count} {name}"), fresh.len(), || {
        for peer in &fresh {
            black_box(table.admit(*peer).is_ok());
            let id = table.insert(*peer, 0, Kind::Handshaking);
            table.establish(id);
            table.remove(id);
        }
    });
    let somebody = (Ipv4Addr::LOCALHOST, 1).into();
    report(&format!("victim and its removal and return, {count} {name}"), 100_000, || {
        for _ in 0..100_000 {
            let id = table.victim(somebody, Refusal::Connections).expect("all are established");
            let peer = table.peer(id).expect("the victim is there");
            table.remove(id);
            table.insert(peer, 0, Kind::Established);
        }
    });
}

/// The longest that a single newcomer takes: it is the one for whom the table grows.
fn growth(count: usize, random: &mut Random) {
    let peers: Vec<SocketAddr> = (0..count).map(|_| random.ipv4()).collect();
    let mut pauses: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let mut table = Registry::new(LIMITS);
            let longest = peers.iter().map(|peer| {
                let start = Instant::now();
                table.insert(*peer, 0usize, Kind::Established);
                start.elapsed()
            });
            longest.max().expect("there are peers")
        })
        .collect();
    pauses.sort();
    println!(
        "{:>8.1} us (best {:>6.1})  longest insert on the way to {count}",
        micros(pauses[ROUNDS / 2]),
        micros(pauses[0])
    );
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn deadlines(count: u64, random: &mut Random) {
    let mut ids: Vec<Id> = (1..=count).filter_map(Id::from_u64).collect();
    random.shuffle(&mut ids);
    let spread: Vec<u64> = ids.iter().map(|_| random.number() % 1_000_000).collect();
    let mut queue = TimerQueue::new();
    let all = ids.len();
    report(&format!("timer: set, {all} random deadlines, from empty"), all, || {
        queue = TimerQueue::new();
        for (id, at) in ids.iter().zip(&spread) {
            queue.set(*id, 1_000_000 + at);
        }
    });
    report(&format!("timer: nothing due, {all}"), 1_000_000, || {
        for now in 0..1_000_000 {
            black_box(queue.pop_due(black_box(now)));
        }
    });
    let mut later = 2_000_000;
    report(&format!("timer: postpone, {all}"), all, || {
        later += 1;
        for id in &ids {
            queue.set(*id, later);
        }
    });
    let mut earlier = 1_000_000;
    report(&format!("timer: bring forward and postpone again, {all}"), all, || {
        earlier -= 1000;
        for id in &ids {
            queue.set(*id, earlier);
            queue.set(*id, later);
        }
    });
    let mut now = 0;
    report(&format!("timer: falls due and is set again, {all}"), all, || {
        for _ in 0..all {
            now = now.max(queue.next());
            if let Some((id, _)) = queue.pop_due(now) {
                queue.set(id, now + 500_000 + random.number() % 1_000_000);
            }
        }
    });
}

fn main() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for count in [1_000, 100_000, 1_000_000] {
        let peers: Vec<SocketAddr> = (0..count).map(|_| random.ipv4()).collect();
        look_ups("IPv4 peers, a source each", &peers, &mut random);
    }
    let peers: Vec<SocketAddr> = (0..1_000_000).map(|_| random.ipv6()).collect();
    look_ups("IPv6 peers, a source each", &peers, &mut random);
    let one = Ipv4Addr::LOCALHOST;
    let peers: Vec<SocketAddr> = (1..=60_000).map(|port| (one, port).into()).collect();
    look_ups("peers of one source", &peers, &mut random);
    growth(100_000, &mut random);
    growth(1_000_000, &mut random);
    deadlines(100_000, &mut random);
}
