//! A hash of a few words that nobody can aim at.

use std::hash::{BuildHasher, RandomState};

/// Multiply-shift hashing of several words (Dietzfelbinger 1996), which is strongly universal: two different keys, whoever
/// chose them, collide no more often than by chance. So nobody can choose keys that collide without knowing the factors, which
/// are random for each table; and no hash ever leaves it. As it is linear, one in a hundred sets of factors would pile up the
/// ports of one address, so the result is mixed once more. That is a permutation, and does not weaken the guarantee.
///
/// It has a tenth of the instructions of SipHash-1-3, so few that the processor begins to fetch the slots of the next
/// look-ups while it waits for the first.
pub(super) struct Hash<const N: usize> {
    factors: [u128; N],
    offset: u128,
}

impl<const N: usize> Hash<N> {
    pub(super) fn new() -> Hash<N> {
        let source = RandomState::new();
        let random = |n: usize| u128::from(source.hash_one((n, 0))) << 64 | u128::from(source.hash_one((n, 1)));
        Hash { factors: std::array::from_fn(random), offset: random(N) }
    }

    /// All 64 bits are good; tables take the upper ones, so that growing walks them from front to back.
    #[inline]
    pub(super) fn of(&self, key: &[u64; N]) -> u64 {
        let add = |sum: u128, (word, factor): (&u64, &u128)| sum.wrapping_add(factor.wrapping_mul(u128::from(*word)));
        let mut hash = (key.iter().zip(&self.factors).fold(self.offset, add) >> 64) as u64;
        hash = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }
}
