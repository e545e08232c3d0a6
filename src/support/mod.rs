//! General tools: the clock, randomness, atomics, values that are replaced whole, counters, encryption.

pub mod cipher;
pub mod clock;
pub mod counters;
pub mod random;
pub mod snapshot;
pub mod sync;
