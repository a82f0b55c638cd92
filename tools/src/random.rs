//! Numbers that look random and depend on the seed alone, so that a run can be repeated.

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and each step's output stands for itself.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Starts at what `parts` say together: the same parts give the same numbers, whatever was drawn elsewhere.
    pub fn of(parts: &[u64]) -> Self {
        Random(parts.iter().fold(0, |state, part| Random(state ^ part).draw()))
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }

    /// True with the probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.draw() >> 11) as f64 / (1u64 << 53) as f64) < p
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        assert_eq!(Random::new(1).bytes(33), Random::new(1).bytes(33));
        assert_ne!(Random::new(1).bytes(33), Random::new(2).bytes(33));
        assert_ne!(Random::of(&[1, 2]).draw(), Random::of(&[2, 1]).draw());
    }

    #[test]
    fn chance_keeps_to_its_probability() {
        let mut random = Random::new(5);
        let hits = (0..100_000).filter(|_| random.chance(0.2)).count();
        assert!((19_500..20_500).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !random.chance(0.0)));
        assert!((0..1000).all(|_| random.chance(1.0)));
    }
}
