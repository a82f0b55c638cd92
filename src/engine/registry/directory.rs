//! Who is at an address, for look-ups from any thread that wait for no lock.
//!
//! A lock costs more than the look-up: besides its own time it keeps the processor from fetching the slots of several
//! look-ups at once. So readers take what they find and then ask whether a writer was at work meanwhile (a seqlock); all
//! words are atomics, so what they find may be mixed up, but never undefined.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::address::Peer;

/// Slots of the first table. Each following one has twice as many.
const LEAST_SLOTS: usize = 1024;

/// Tables that there can be: more slots than an address space has room for.
const TABLES: usize = 48;

/// Readings that were disturbed by a writer before a reader waits for him.
const TRIES: usize = 16;

/// Aligned so that none lies across two cache lines. The value 0 is an empty slot.
#[derive(Default)]
#[repr(align(32))]
struct Slot {
    key: [AtomicU64; 3],
    value: AtomicU64,
}

/// One number, not 0, for each peer.
pub struct Directory {
    hash: RandomState,
    /// Odd while a writer is at work.
    version: AtomicU64,
    /// Which of the tables is in use. Those before it stay, as a reader may still be there: together they are smaller than it.
    current: AtomicUsize,
    tables: [OnceLock<Box<[Slot]>>; TABLES],
    /// How many there are; whoever holds it is the writer.
    len: Mutex<usize>,
}

impl Default for Directory {
    /// A directory in which nobody is.
    fn default() -> Directory {
        let directory = Directory {
            hash: RandomState::new(),
            version: AtomicU64::new(0),
            current: AtomicUsize::new(0),
            tables: [const { OnceLock::new() }; TABLES],
            len: Mutex::new(0),
        };
        directory.table(0);
        directory
    }
}

impl Directory {
    /// The number of `peer`.
    #[inline]
    pub fn get(&self, peer: SocketAddr) -> Option<u64> {
        let key = Peer::from(peer).0;
        let hash = self.hash(&key);
        for _ in 0..TRIES {
            let version = self.version.load(Ordering::Acquire);
            let value = self.look(self.slots(), hash, &key).map(|slot| slot.value.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version {
                return value.filter(|value| *value != 0);
            }
            std::hint::spin_loop();
        }
        let _writer = self.writer();
        self.look(self.slots(), hash, &key).map(|slot| slot.value.load(Ordering::Relaxed)).filter(|value| *value != 0)
    }

    /// Sets the number of `peer`; 0 takes it out.
    pub fn set(&self, peer: SocketAddr, value: u64) {
        let mut len = self.writer();
        let key = Peer::from(peer).0;
        let hash = self.hash(&key);
        if value != 0 && (*len + 1) * 2 > self.slots().len() {
            self.grow();
        }
        let slots = self.slots();
        let Some(slot) = self.look(slots, hash, &key) else { return };
        let taken = slot.value.load(Ordering::Relaxed) != 0;
        if value == 0 && !taken {
            return;
        }
        self.write(|| {
            if value == 0 {
                self.take_out(slots, slot);
            } else {
                fill(slot, &key, value);
            }
        });
        *len = *len + usize::from(value != 0 && !taken) - usize::from(value == 0);
    }

    fn writer(&self) -> MutexGuard<'_, usize> {
        self.len.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
    fn slots(&self) -> &[Slot] {
        self.table(self.current.load(Ordering::Acquire))
    }

    #[inline]
    fn table(&self, number: usize) -> &[Slot] {
        self.tables[number].get_or_init(|| (0..LEAST_SLOTS << number).map(|_| Slot::default()).collect())
    }

    /// The slot of `key`, or the empty one where it would go. `None` only if what is read is in motion.
    #[inline]
    fn look<'a>(&self, slots: &'a [Slot], hash: u64, key: &[u64; 3]) -> Option<&'a Slot> {
        let mask = slots.len() - 1;
        (0..slots.len()).map(|step| &slots[(hash as usize + step) & mask]).find(|slot| {
            slot.value.load(Ordering::Relaxed) == 0
                || slot.key.iter().zip(key).all(|(have, want)| have.load(Ordering::Relaxed) == *want)
        })
    }

    #[inline]
    fn hash(&self, key: &[u64; 3]) -> u64 {
        let mut hasher = self.hash.build_hasher();
        key.iter().for_each(|word| hasher.write_u64(*word));
        hasher.finish()
    }

    /// Empties a slot and moves into the hole what had probed its way past it: no look-up may end too early.
    fn take_out(&self, slots: &[Slot], slot: &Slot) {
        let mask = slots.len() - 1;
        let at = |slot: &Slot| self.hash(&slot.key.each_ref().map(|word| word.load(Ordering::Relaxed))) as usize & mask;
        let mut hole = slots.iter().position(|other| std::ptr::eq(other, slot)).unwrap_or(0);
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let value = slots[next].value.load(Ordering::Relaxed);
            if value == 0 {
                break;
            }
            let home = at(&slots[next]);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                fill(&slots[hole], &slots[next].key.each_ref().map(|word| word.load(Ordering::Relaxed)), value);
                hole = next;
            }
        }
        slots[hole].value.store(0, Ordering::Relaxed);
    }

    fn grow(&self) {
        let number = self.current.load(Ordering::Relaxed) + 1;
        let (old, new) = (self.table(number - 1), self.table(number));
        for slot in old {
            let value = slot.value.load(Ordering::Relaxed);
            if value != 0 {
                let key = slot.key.each_ref().map(|word| word.load(Ordering::Relaxed));
                if let Some(place) = self.look(new, self.hash(&key), &key) {
                    fill(place, &key, value);
                }
            }
        }
        self.write(|| self.current.store(number, Ordering::Release));
    }
}

fn fill(slot: &Slot, key: &[u64; 3], value: u64) {
    slot.key.iter().zip(key).for_each(|(place, word)| place.store(*word, Ordering::Relaxed));
    slot.value.store(value, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn peer(number: u64) -> SocketAddr {
        format!("10.0.{}.{}:{}", number >> 8 & 255, number & 255, 1000 + (number >> 16)).parse().unwrap()
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
            assert_eq!(directory.get(peer(number)), expected);
        }
        assert_eq!(*directory.writer(), map.values().filter(|value| **value != 0).count());
    }

    #[test]
    fn readers_see_what_stays_while_a_writer_moves_the_rest() {
        let (directory, done) = (Directory::default(), AtomicBool::new(false));
        (0..400).for_each(|number| directory.set(peer(number), number + 1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for number in 0..400 {
                        assert_eq!(directory.get(peer(number)), Some(number + 1));
                    }
                }
            });
            for round in 0..30 {
                for number in 400..(800 + round * 100) {
                    directory.set(peer(number), number + 1);
                }
                for number in 400..(800 + round * 100) {
                    directory.set(peer(number), 0);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
