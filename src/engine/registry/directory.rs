//! Which connection has an address, for look-ups from any thread that wait for no lock.
//!
//! A lock costs more than the look-up: besides its own time it keeps the processor from fetching the slots of several
//! look-ups at once. So readers take what they find, and then check whether a writer was active meanwhile (a seqlock). All
//! words are atomics, so what a reader finds may be inconsistent, but never undefined.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::address::Peer;
use super::hash::Hash;
use crate::guard::lock;
use crate::tls::huge_pages;

/// Slots of the first array. Each following one has twice as many.
const LEAST_SLOTS: usize = 1024;

/// Arrays that there can be: more slots than an address space has room for.
const ARRAYS: usize = 48;

/// After a writer has disturbed so many readings, a reader waits for it.
const TRIES: usize = 16;

/// One number, not 0, for each peer.
///
/// Among many peers, the cost of a look-up is the wait for memory. So IPv4 addresses have slots of their own, of half the
/// size: twice as many of them stay in the processor's caches.
#[derive(Default)]
pub struct Directory {
    ipv4: Table<1>,
    ipv6: Table<3>,
}

impl Directory {
    /// The number of `peer`.
    #[inline]
    pub fn get(&self, peer: &SocketAddr) -> Option<u64> {
        match Key::from(peer) {
            Key::Ipv4(key) => self.ipv4.get(&key),
            Key::Ipv6(key) => self.ipv6.get(&key),
        }
    }

    /// Sets the number of `peer`; 0 takes it out.
    pub fn set(&self, peer: SocketAddr, value: u64) {
        match Key::from(&peer) {
            Key::Ipv4(key) => self.ipv4.set(&key, value),
            Key::Ipv6(key) => self.ipv6.set(&key, value),
        }
    }
}

enum Key {
    Ipv4([u64; 1]),
    Ipv6([u64; 3]),
}

impl From<&SocketAddr> for Key {
    #[inline]
    fn from(peer: &SocketAddr) -> Key {
        match peer {
            SocketAddr::V4(v4) => Key::Ipv4([u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port())]),
            SocketAddr::V6(_) => Key::Ipv6(Peer::from(peer).0),
        }
    }
}

/// The value 0 is an empty slot.
struct Slot<const N: usize> {
    key: [AtomicU64; N],
    value: AtomicU64,
}

impl<const N: usize> Default for Slot<N> {
    fn default() -> Slot<N> {
        Slot { key: [const { AtomicU64::new(0) }; N], value: AtomicU64::new(0) }
    }
}

impl<const N: usize> Slot<N> {
    fn key(&self) -> [u64; N] {
        self.key.each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    #[inline]
    fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    fn fill(&self, key: &[u64; N], value: u64) {
        self.key.iter().zip(key).for_each(|(place, word)| place.store(*word, Ordering::Relaxed));
        self.value.store(value, Ordering::Relaxed);
    }
}

/// Open addressing over the keys of one size.
struct Table<const N: usize> {
    hash: Hash<N>,
    /// Odd while a writer is active.
    version: AtomicU64,
    /// Which of the arrays is in use. Those before it stay, as a reader may still be there: together they are smaller than it.
    current: AtomicUsize,
    arrays: [OnceLock<Box<[Slot<N>]>>; ARRAYS],
    /// How many there are; whoever holds it is the writer.
    len: Mutex<usize>,
}

impl<const N: usize> Default for Table<N> {
    fn default() -> Table<N> {
        Table {
            hash: Hash::new(),
            version: AtomicU64::new(0),
            current: AtomicUsize::new(0),
            arrays: [const { OnceLock::new() }; ARRAYS],
            len: Mutex::new(0),
        }
    }
}

impl<const N: usize> Table<N> {
    #[inline]
    fn get(&self, key: &[u64; N]) -> Option<u64> {
        let hash = self.hash.of(key);
        for _ in 0..TRIES {
            let version = self.version.load(Ordering::Acquire);
            let value = value_of(self.slots(), hash, key);
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version {
                return value;
            }
            std::hint::spin_loop();
        }
        let _writer = self.writer();
        value_of(self.slots(), hash, key)
    }

    fn set(&self, key: &[u64; N], value: u64) {
        let mut len = self.writer();
        // Four of five slots may be taken: a few more steps cost less than a table that no longer fits into a cache.
        if value != 0 && (*len + 1) * 5 > self.slots().len() * 4 {
            self.grow();
        }
        let slots = self.slots();
        let Some(at) = look(slots, self.hash.of(key), key) else { return };
        let taken = slots[at].value() != 0;
        if value == 0 && !taken {
            return;
        }
        self.write(|| {
            if value == 0 {
                take_out(&self.hash, slots, at);
            } else {
                slots[at].fill(key, value);
            }
        });
        *len = *len + usize::from(!taken) - usize::from(value == 0);
    }

    fn writer(&self) -> MutexGuard<'_, usize> {
        lock(&self.len)
    }

    /// Lets readers notice that `change` was made while they read.
    fn write(&self, change: impl FnOnce()) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        change();
        self.version.store(version + 2, Ordering::Release);
    }

    #[inline]
    fn slots(&self) -> &[Slot<N>] {
        self.array(self.current.load(Ordering::Acquire))
    }

    #[inline]
    fn array(&self, number: usize) -> &[Slot<N>] {
        self.arrays[number].get_or_init(|| {
            let mut slots = huge_pages::vec(LEAST_SLOTS << number);
            slots.resize_with(LEAST_SLOTS << number, Slot::default);
            slots.into_boxed_slice()
        })
    }

    fn grow(&self) {
        let number = self.current.load(Ordering::Relaxed) + 1;
        let (old, new) = (self.array(number - 1), self.array(number));
        for slot in old.iter().filter(|slot| slot.value() != 0) {
            let key = slot.key();
            if let Some(at) = look(new, self.hash.of(&key), &key) {
                new[at].fill(&key, slot.value());
            }
        }
        self.write(|| self.current.store(number, Ordering::Release));
    }
}

/// Where the search begins. The upper bits of the hash decide: growing then walks both arrays from front to back.
#[inline]
fn home<const N: usize>(slots: &[Slot<N>], hash: u64) -> usize {
    (hash >> (u64::BITS - slots.len().trailing_zeros())) as usize
}

/// Where `key` is, or the empty slot where it would go. `None` only if a writer changes what is read.
#[inline]
fn look<const N: usize>(slots: &[Slot<N>], hash: u64, key: &[u64; N]) -> Option<usize> {
    let (home, mask) = (home(slots, hash), slots.len() - 1);
    (0..slots.len()).map(|step| (home + step) & mask).find(|at| {
        let slot = &slots[*at];
        slot.value() == 0 || slot.key.iter().zip(key).all(|(have, want)| have.load(Ordering::Relaxed) == *want)
    })
}

#[inline]
fn value_of<const N: usize>(slots: &[Slot<N>], hash: u64, key: &[u64; N]) -> Option<u64> {
    look(slots, hash, key).map(|at| slots[at].value()).filter(|value| *value != 0)
}

/// Empties a slot and moves into the hole what had probed its way past it: no look-up may end too early.
fn take_out<const N: usize>(hash: &Hash<N>, slots: &[Slot<N>], mut hole: usize) {
    let mask = slots.len() - 1;
    let mut next = hole;
    loop {
        next = (next + 1) & mask;
        let value = slots[next].value();
        if value == 0 {
            break;
        }
        let key = slots[next].key();
        let home = home(slots, hash.of(&key));
        if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
            slots[hole].fill(&key, value);
            hole = next;
        }
    }
    slots[hole].value.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Half of them have addresses of IPv6, many of which have their net, their host or their port in common.
    fn peer(number: u64) -> SocketAddr {
        let (high, low) = ((number >> 8) as u8, number as u8);
        match number % 2 {
            0 => SocketAddr::from(([10, 0, high, low], 1000)),
            _ => SocketAddr::from(([0x2001, 0xdb8, low.into(), 0, 0, 0, 0, u16::from(high / 2)], u16::from(high % 2))),
        }
    }

    #[test]
    fn as_a_map_through_growth_and_removal() {
        let (directory, mut map) = (Directory::default(), HashMap::new());
        let mut state = 7u64;
        for _ in 0..40_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (number, value) = (state >> 33 & 0xfff, if state >> 60 < 6 { 0 } else { state >> 20 | 1 });
            directory.set(peer(number), value);
            map.insert(number, value);
        }
        for number in 0..0x1000 {
            let expected = map.get(&number).copied().filter(|value| *value != 0);
            assert_eq!(directory.get(&peer(number)), expected);
        }
        let count = *directory.ipv4.writer() + *directory.ipv6.writer();
        assert_eq!(count, map.values().filter(|value| **value != 0).count());
    }

    #[test]
    fn four_of_five_slots_are_taken_at_most() {
        let directory = Directory::default();
        for count in 1..=13_000 {
            directory.set(peer(2 * count), count);
            assert!(5 * count as usize <= 4 * directory.ipv4.slots().len(), "{count}");
        }
        assert_eq!(directory.ipv4.slots().len(), 16_384);
    }

    /// What they find then they do not take. For a writer who changes nothing yet they do not wait.
    #[test]
    fn readers_wait_while_something_is_in_motion() {
        let directory = Arc::new(Directory::default());
        directory.set(peer(2), 7);
        let ask = || {
            let ((tell, answer), directory) = (mpsc::channel(), Arc::clone(&directory));
            thread::spawn(move || tell.send(directory.get(&peer(2))));
            answer
        };
        let table = &directory.ipv4;
        let writer = table.writer();
        assert_eq!(ask().recv_timeout(Duration::from_secs(30)), Ok(Some(7)));
        let Key::Ipv4(key) = Key::from(&peer(2)) else { unreachable!() };
        let slot = &table.slots()[look(table.slots(), table.hash.of(&key), &key).unwrap()];
        slot.value.store(0, Ordering::Relaxed);
        let mut answer = None;
        table.write(|| {
            let asked = ask();
            assert_eq!(asked.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
            slot.value.store(7, Ordering::Relaxed);
            answer = Some(asked);
        });
        drop(writer);
        assert_eq!(answer.unwrap().recv_timeout(Duration::from_secs(30)), Ok(Some(7)));
    }

    #[test]
    fn readers_see_what_stays_while_a_writer_moves_the_rest() {
        let directory = Directory::default();
        (0..400).for_each(|number| directory.set(peer(number), number + 1));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..30 {
                    for number in 400..(800 + round * 100) {
                        directory.set(peer(number), number + 1);
                    }
                    for number in 400..(800 + round * 100) {
                        directory.set(peer(number), 0);
                    }
                }
            });
            while !writer.is_finished() {
                for number in 0..400 {
                    assert_eq!(directory.get(&peer(number)), Some(number + 1));
                }
            }
        });
    }
}
