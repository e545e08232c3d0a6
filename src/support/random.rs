//! Randomness, as an argument.
//!
//! Every function of the core that draws takes a generator. The caller holds the generators of the process; this module
//! handles forks: after `fork()` parent and child hold the same generator state, and every worker would balance its
//! reads in step. A [`Generation`] tells a generator that it has been forked.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{SeedableRng, TryRng, rngs::SmallRng, rngs::SysRng};

/// Counts the forks this process descends from; bumped in the child.
#[derive(Debug, Default)]
pub struct Generation(AtomicU64);

impl Generation {
    /// The first generation.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Every generator made so far is stale: called in the child after a fork.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thread's generator. Fast and statistically sound, not for secrets.
#[derive(Debug)]
pub struct Draws {
    rng: SmallRng,
    generation: u64,
}

impl Draws {
    /// Seeded by the operating system.
    ///
    /// # Panics
    /// If the operating system has no randomness to give, which on the supported systems means it is broken.
    #[must_use]
    pub fn from_system(generation: &Generation) -> Self {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).expect("the operating system gives random bytes");
        Self { rng: SmallRng::from_seed(seed), generation: generation.current() }
    }

    /// The seeded twin: the same seed draws the same sequence, until the next fork.
    #[must_use]
    pub fn seeded(seed: u64, generation: &Generation) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), generation: generation.current() }
    }

    /// The generator to draw from now, seeded anew if the process has forked since.
    pub fn get(&mut self, generation: &Generation) -> &mut SmallRng {
        if self.generation != generation.current() {
            *self = Self::from_system(generation);
        }
        &mut self.rng
    }

    /// A copy that draws what the next decision would draw, for `explain`.
    #[must_use]
    pub fn preview(&self) -> SmallRng {
        self.rng.clone()
    }
}

/// A number drawn evenly from 0 (inclusive) to 1 (exclusive), in steps of 2^-53, from 64 random bits.
#[must_use]
pub fn unit(draw: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    let numerator = (draw >> 11) as f64;
    numerator / 9_007_199_254_740_992.0
}

/// Other bits, as good as new ones, of 64 random bits: `SplitMix64`'s step (G. Steele, D. Lea, C. Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014).
#[must_use]
pub fn mixed(draw: u64) -> u64 {
    let mut bits = draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn ten(draws: &mut Draws, generation: &Generation) -> Vec<u64> {
        (0..10).map(|_| draws.get(generation).next_u64()).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_sequence() {
        let generation = Generation::new();
        let mut one = Draws::seeded(7, &generation);
        let mut two = Draws::seeded(7, &generation);
        assert_eq!(ten(&mut one, &generation), ten(&mut two, &generation));
    }

    #[test]
    fn a_fork_ends_a_seeded_sequence() {
        let generation = Generation::new();
        let mut parent = Draws::seeded(7, &generation);
        let mut child = Draws::seeded(7, &generation);
        let expected = ten(&mut parent, &generation);
        generation.advance();
        assert_ne!(ten(&mut child, &generation), expected);
    }

    #[test]
    fn a_preview_shows_the_next_draw_and_takes_none() {
        let generation = Generation::new();
        let mut draws = Draws::seeded(7, &generation);
        let shown = draws.preview().next_u64();
        assert_eq!(draws.get(&generation).next_u64(), shown);
    }

    #[test]
    fn a_unit_draw_stays_below_one() {
        assert!(unit(u64::MAX) < 1.0);
        assert!(unit(0).abs() < f64::EPSILON);
    }
}
