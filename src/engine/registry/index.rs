//! From a key to its place in a slab: open addressing with a keyed hash.
//!
//! A slot is eight bytes: 32 bits of hash and the place. The keys themselves stay in the slab, where the look-up ends anyway.
//! The upper bits of the hash choose the slot (linear probing, removal shifts back), so that growing needs no key and walks
//! both tables from front to back. Between a half-filled and a full table the load is 5/16 to 5/8; below 1/8 it shrinks.

use std::hash::{BuildHasher, Hasher, RandomState};

const LEAST_BITS: u32 = 4;

/// Places by the hash of a key of `N` words.
pub(super) struct Index<const N: usize> {
    /// SipHash-1-3, with a key of its own for each table.
    hash: RandomState,
    /// `hash << 32 | place + 1`; 0 is an empty slot.
    slots: Vec<u64>,
    bits: u32,
    len: usize,
}

impl<const N: usize> Index<N> {
    pub(super) fn new() -> Index<N> {
        Index { hash: RandomState::new(), slots: vec![0; 1 << LEAST_BITS], bits: LEAST_BITS, len: 0 }
    }

    /// The place that was entered under this key; `is` tells whether the key at a place is the one.
    #[inline]
    pub(super) fn find(&self, key: &[u64; N], is: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = self.tag(key);
        let mut slot = self.home(tag);
        loop {
            let (found, place) = open(self.slots[slot])?;
            if found == tag && is(place) {
                return Some(place);
            }
            slot = self.after(slot);
        }
    }

    /// Enters a key that is not there yet.
    pub(super) fn insert(&mut self, key: &[u64; N], place: u32) {
        if (self.len + 1) * 8 > self.slots.len() * 5 {
            self.resize(self.bits + 1);
        }
        self.len += 1;
        self.put(self.tag(key), place);
    }

    /// Lets the key of `place` lead to `other`.
    pub(super) fn replace(&mut self, key: &[u64; N], place: u32, other: u32) {
        let slot = self.slot_of(key, place);
        self.slots[slot] = close(self.tag(key), other);
    }

    /// Takes out the key of `place`.
    pub(super) fn remove(&mut self, key: &[u64; N], place: u32) {
        let mut hole = self.slot_of(key, place);
        let mut slot = hole;
        loop {
            slot = self.after(slot);
            let Some((tag, _)) = open(self.slots[slot]) else { break };
            // What probed its way past the hole moves into it: no look-up may end at a hole too early.
            if self.distance(self.home(tag), slot) >= self.distance(hole, slot) {
                self.slots[hole] = self.slots[slot];
                hole = slot;
            }
        }
        self.slots[hole] = 0;
        self.len -= 1;
        if self.bits > LEAST_BITS && self.len * 8 < self.slots.len() {
            self.resize(self.bits - 1);
        }
    }

    #[inline]
    fn tag(&self, key: &[u64; N]) -> u32 {
        let mut hasher = self.hash.build_hasher();
        for word in key {
            hasher.write_u64(*word);
        }
        (hasher.finish() >> 32) as u32
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        (tag >> (32 - self.bits)) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }

    /// Where `place` stands, which must be there.
    fn slot_of(&self, key: &[u64; N], place: u32) -> usize {
        let tag = self.tag(key);
        let mut slot = self.home(tag);
        while self.slots[slot] != close(tag, place) {
            slot = self.after(slot);
        }
        slot
    }

    fn put(&mut self, tag: u32, place: u32) {
        let mut slot = self.home(tag);
        while self.slots[slot] != 0 {
            slot = self.after(slot);
        }
        self.slots[slot] = close(tag, place);
    }

    fn resize(&mut self, bits: u32) {
        self.bits = bits;
        let old = std::mem::replace(&mut self.slots, vec![0; 1 << bits]);
        for (tag, place) in old.into_iter().filter_map(open) {
            self.put(tag, place);
        }
    }
}

#[inline]
fn open(slot: u64) -> Option<(u32, u32)> {
    (slot != 0).then(|| ((slot >> 32) as u32, (slot as u32).wrapping_sub(1)))
}

#[inline]
fn close(tag: u32, place: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_through_growth_and_removal() {
        let keys: Vec<[u64; 1]> = (0..5000).map(|i| [i * 7]).collect();
        let mut index = Index::new();
        for (place, key) in keys.iter().enumerate() {
            index.insert(key, place as u32);
        }
        assert_eq!(index.slots.len(), 8192);
        let find = |index: &Index<1>, i: usize| index.find(&keys[i], |place| keys[place as usize] == keys[i]);
        for removed in 0..keys.len() {
            index.remove(&keys[removed], removed as u32);
            assert_eq!(find(&index, removed), None);
            if removed % 97 == 0 {
                for i in removed + 1..keys.len() {
                    assert_eq!(find(&index, i), Some(i as u32));
                }
            }
        }
        assert_eq!((index.len, index.slots.len()), (0, 1 << LEAST_BITS));
        assert!(index.slots.iter().all(|slot| *slot == 0));
    }

    #[test]
    fn leads_elsewhere_after_replace() {
        let mut index = Index::new();
        index.insert(&[1], 5);
        index.replace(&[1], 5, 9);
        assert_eq!(index.find(&[1], |_| true), Some(9));
        index.remove(&[1], 9);
        assert_eq!(index.find(&[1], |_| true), None);
    }

    #[test]
    fn two_tables_hash_differently() {
        let (a, b) = (Index::<3>::new(), Index::<3>::new());
        assert!((0..8).any(|i| a.tag(&[i, 0, 0]) != b.tag(&[i, 0, 0])));
    }
}
