//! From a key of a few words to a value: open addressing with a keyed hash.
//!
//! A slot holds the whole key, so that a look-up ends where it begins: with a million peers it waits once for memory. Linear
//! probing; removal shifts back what stands behind. At most 5/8 of the slots are taken, and at least 1/8.

use super::hash::Hash;
use crate::tls::huge_pages;

const LEAST_SLOTS: usize = 16;

#[derive(Clone, Copy)]
struct Slot<const N: usize, V, A> {
    key: [u64; N],
    value: Option<V>,
    _aligned: [A; 0],
}

impl<const N: usize, V, A> Slot<N, V, A> {
    /// Word by word: a processor that reads two words at once which were just written one by one waits until all that it has
    /// begun before is done, other look-ups' slots among it.
    #[inline]
    fn differs(&self, key: &[u64; N]) -> bool {
        self.key.iter().zip(key).fold(0, |all, (have, want)| all | (have ^ want)) != 0
    }
}

/// An index aligned like this has no slot that lies across two cache lines.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct HalfLine;

/// Values by keys of `N` words, in slots that are aligned like `A`.
pub(super) struct Index<const N: usize, V, A = ()> {
    hash: Hash<N>,
    slots: Vec<Slot<N, V, A>>,
    len: usize,
}

impl<const N: usize, V: Copy, A: Copy> Index<N, V, A> {
    pub(super) fn new() -> Index<N, V, A> {
        Index { hash: Hash::new(), slots: Self::empty(LEAST_SLOTS), len: 0 }
    }

    #[inline]
    pub(super) fn get(&self, key: &[u64; N]) -> Option<V> {
        self.slots[self.slot(self.home(key), key)].value
    }

    /// Adds a key or gives it another value.
    pub(super) fn set(&mut self, key: &[u64; N], value: V) {
        if (self.len + 1) * 8 > self.slots.len() * 5 {
            self.resize(self.slots.len() * 2);
        }
        let slot = self.slot(self.home(key), key);
        self.len += usize::from(self.slots[slot].value.is_none());
        self.slots[slot] = Slot { key: *key, value: Some(value), _aligned: [] };
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

    fn empty(slots: usize) -> Vec<Slot<N, V, A>> {
        let mut empty = huge_pages::vec(slots);
        empty.resize(slots, Slot { key: [0; N], value: None, _aligned: [] });
        empty
    }

    /// Where the search for `key` begins. The upper bits of the hash decide: growing then walks both tables from front to back.
    #[inline]
    fn home(&self, key: &[u64; N]) -> usize {
        (self.hash.of(key) >> (u64::BITS - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }

    /// The slot of `key`, or the empty one where it would go.
    #[inline]
    fn slot(&self, home: usize, key: &[u64; N]) -> usize {
        let mut slot = home;
        while self.slots[slot].value.is_some() && self.slots[slot].differs(key) {
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
        let mut index = Index::<_, _>::new();
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
        let mut index = Index::<_, _>::new();
        index.set(&[1], 'a');
        index.set(&[1], 'b');
        assert_eq!((index.get(&[1]), index.len), (Some('b'), 1));
    }

    /// Addresses as networks give them out, and as somebody would choose them: a look-up passes as few slots as with random
    /// keys, whatever the factors.
    #[test]
    fn chosen_keys_do_not_pile_up() {
        const COUNT: u64 = 10_000;
        let kinds: [fn(u64) -> [u64; 3]; 6] = [
            |n| [0, 0x7f00_0001, 4 << 16 | n],
            |n| [0, 0x0a00_0000 + n, 4 << 16 | 5684],
            |n| [0, 0x0a00_0000 + (n << 8), 4 << 16 | 5684],
            |n| [0x2001_0db8 << 32 | n, 1, 6 << 16 | 5684],
            |n| [0xfe80 << 48, n << 40, 6 << 16 | 5684],
            |n| [n % 200, (n / 200) << 32, 6 << 16 | 5684],
        ];
        for kind in kinds {
            for _ in 0..8 {
                let mut index = Index::<_, _>::new();
                (0..COUNT).for_each(|n| index.set(&kind(n), n));
                let passed = |n| {
                    let key = kind(n);
                    let home = index.home(&key);
                    index.distance(home, index.slot(home, &key))
                };
                let all: usize = (0..COUNT).map(passed).sum();
                // With random keys: 0.78 of 16,384 slots.
                assert!(all < COUNT as usize * 12 / 10, "{} slots a look-up", all as f64 / COUNT as f64);
                assert!((0..COUNT).all(|n| index.get(&kind(n)) == Some(n)));
            }
        }
    }

    #[test]
    fn two_tables_hash_differently() {
        let (mut a, mut b) = (Index::<_, _>::new(), Index::<_, _>::new());
        for i in 0..1000 {
            a.set(&[i], ());
            b.set(&[i], ());
        }
        assert!((0..1000).any(|i| a.home(&[i]) != b.home(&[i])));
    }
}
