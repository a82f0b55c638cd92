//! From a key of a few words to a value: open addressing with a keyed hash.
//!
//! A slot holds the whole key, so that a look-up ends where it begins: with a million peers it waits once for memory. Linear
//! probing; removal shifts back what stands behind. At most 5/8 of the slots are taken, and at least 1/8.

use std::hash::{BuildHasher, Hasher, RandomState};

const LEAST_SLOTS: usize = 16;

/// Keys that [`Index::get_all`] hashes before it looks for the first of them.
const BATCH: usize = 32;

/// Aligned so that none lies across two cache lines.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Slot<const N: usize, V> {
    key: [u64; N],
    value: Option<V>,
}

/// Values by keys of `N` words.
pub(super) struct Index<const N: usize, V> {
    /// SipHash-1-3, with a random key for each table: nobody can choose addresses that collide.
    hash: RandomState,
    slots: Vec<Slot<N, V>>,
    len: usize,
}

impl<const N: usize, V: Copy> Index<N, V> {
    pub(super) fn new() -> Index<N, V> {
        Index { hash: RandomState::new(), slots: Self::empty(LEAST_SLOTS), len: 0 }
    }

    #[inline]
    pub(super) fn get(&self, key: &[u64; N]) -> Option<V> {
        self.get_from(self.home(key), key)
    }

    /// Looks for many keys at once. No look-up waits for the one before it: the processor fetches several at a time.
    pub(super) fn get_all(&self, keys: impl Iterator<Item = [u64; N]>, mut found: impl FnMut(Option<V>)) {
        let mut keys = keys.map(|key| (self.home(&key), key));
        loop {
            let mut batch = [(0, [0; N]); BATCH];
            let count = batch.iter_mut().zip(&mut keys).map(|(entry, key)| *entry = key).count();
            batch[..count].iter().for_each(|(home, key)| found(self.get_from(*home, key)));
            if count < BATCH {
                return;
            }
        }
    }

    /// Adds a key or gives it another value.
    pub(super) fn set(&mut self, key: &[u64; N], value: V) {
        if (self.len + 1) * 8 > self.slots.len() * 5 {
            self.resize(self.slots.len() * 2);
        }
        let slot = self.slot(self.home(key), key);
        self.len += usize::from(self.slots[slot].value.is_none());
        self.slots[slot] = Slot { key: *key, value: Some(value) };
    }

    /// Takes out a key that is there.
    pub(super) fn remove(&mut self, key: &[u64; N]) {
        let mut hole = self.slot(self.home(key), key);
        let mut slot = hole;
        loop {
            slot = self.after(slot);
            if self.slots[slot].value.is_none() {
                break;
            }
            // What probed its way past the hole moves into it: no look-up may end at a hole too early.
            let home = self.home(&self.slots[slot].key);
            if self.distance(home, slot) >= self.distance(hole, slot) {
                self.slots[hole] = self.slots[slot];
                hole = slot;
            }
        }
        self.slots[hole].value = None;
        self.len -= 1;
        if self.slots.len() > LEAST_SLOTS && self.len * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }

    fn empty(slots: usize) -> Vec<Slot<N, V>> {
        vec![Slot { key: [0; N], value: None }; slots]
    }

    /// Where the search for `key` begins. The upper bits of the hash decide: growing then walks both tables from front to back.
    #[inline]
    fn home(&self, key: &[u64; N]) -> usize {
        let mut hasher = self.hash.build_hasher();
        key.iter().for_each(|word| hasher.write_u64(*word));
        (hasher.finish() >> (u64::BITS - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }

    #[inline]
    fn get_from(&self, home: usize, key: &[u64; N]) -> Option<V> {
        self.slots[self.slot(home, key)].value
    }

    /// The slot of `key`, or the empty one where it would go.
    #[inline]
    fn slot(&self, home: usize, key: &[u64; N]) -> usize {
        let mut slot = home;
        while self.slots[slot].value.is_some() && self.slots[slot].key != *key {
            slot = self.after(slot);
        }
        slot
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, Self::empty(slots));
        for taken in old.into_iter().filter(|slot| slot.value.is_some()) {
            let slot = self.slot(self.home(&taken.key), &taken.key);
            self.slots[slot] = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_through_growth_and_removal() {
        let keys: Vec<[u64; 1]> = (0..5000).map(|i| [i * 7]).collect();
        let mut index = Index::new();
        for (value, key) in keys.iter().enumerate() {
            index.set(key, value);
        }
        assert_eq!(index.slots.len(), 8192);
        for removed in 0..keys.len() {
            index.remove(&keys[removed]);
            assert_eq!(index.get(&keys[removed]), None);
            if removed % 97 == 0 {
                for (value, key) in keys.iter().enumerate().skip(removed + 1) {
                    assert_eq!(index.get(key), Some(value));
                }
            }
        }
        assert_eq!((index.len, index.slots.len()), (0, LEAST_SLOTS));
        assert!(index.slots.iter().all(|slot| slot.value.is_none()));
    }

    #[test]
    fn setting_again_replaces() {
        let mut index = Index::new();
        index.set(&[1], 'a');
        index.set(&[1], 'b');
        assert_eq!((index.get(&[1]), index.len), (Some('b'), 1));
    }

    #[test]
    fn many_at_once_are_found_in_their_order() {
        let mut index = Index::new();
        (0..200).step_by(2).for_each(|i| index.set(&[i], i));
        for count in [0, 1, BATCH as u64 - 1, BATCH as u64, BATCH as u64 + 1, 200] {
            let mut found = Vec::new();
            index.get_all((0..count).map(|i| [i]), |value| found.push(value));
            let expected: Vec<_> = (0..count).map(|i| (i % 2 == 0).then_some(i)).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn two_tables_hash_differently() {
        let (mut a, mut b) = (Index::new(), Index::new());
        for i in 0..1000 {
            a.set(&[i], ());
            b.set(&[i], ());
        }
        assert!((0..1000).any(|i| a.home(&[i]) != b.home(&[i])));
    }
}
