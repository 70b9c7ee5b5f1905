//! Decisions that a seed repeats: SplitMix64. Moments are not decisions; two runs of a seed differ in their timing.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another source, for a part of the work that goes on beside this one.
    #[must_use]
    pub fn fork(&self, salt: u64) -> Self {
        let mut fork = Self(self.0 ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        fork.draw();
        fork
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let place = self.below(among.len() as u64);
        among.get(usize::try_from(place).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_decisions() {
        let draw = |mut random: Random| (0..5).map(|_| random.below(1000)).collect::<Vec<_>>();

        assert_eq!(draw(Random::new(7)), draw(Random::new(7)));
        assert_ne!(draw(Random::new(7)), draw(Random::new(8)));
        assert_ne!(draw(Random::new(7).fork(1)), draw(Random::new(7).fork(2)));
    }
}
