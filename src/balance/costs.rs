//! The latency of each member, in atomics that decisions read while reports update them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::member::Member;

/// The latency of each member, in atomics that decisions read while reports update them.
#[derive(Debug)]
pub struct Costs(Box<[AtomicU64]>);

impl Costs {
    /// All of `members` have the same cost.
    #[must_use]
    pub fn even(members: usize) -> Self {
        Self((0..members).map(|_| AtomicU64::new(0)).collect())
    }

    /// The cost of `member`: its latency in seconds, or 0 while no member was measured.
    #[inline]
    #[must_use]
    pub fn get(&self, member: Member) -> f64 {
        f64::from_bits(self.0[member as usize].load(Ordering::Relaxed))
    }

    /// Sets the latencies of all members, in their order. A member that was not measured costs the median of the
    /// others: it must attract neither all reads nor none.
    pub fn publish(&self, seconds: &[Option<f64>]) {
        let mut measured: Vec<f64> = seconds.iter().flatten().copied().collect();
        measured.sort_unstable_by(f64::total_cmp);
        let median = measured.get(measured.len() / 2).copied().unwrap_or(0.0);
        for (cost, seconds) in self.0.iter().zip(seconds) {
            cost.store(seconds.unwrap_or(median).to_bits(), Ordering::Relaxed);
        }
    }

    /// Sets the latency of `member`.
    pub fn set(&self, member: Member, seconds: f64) {
        self.0[member as usize].store(seconds.to_bits(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_measured_costs_the_median() {
        let costs = Costs::even(4);
        assert!((0..4).all(|member| costs.get(member).abs() < f64::EPSILON));
        costs.publish(&[Some(3.0), None, Some(1.0), Some(2.0)]);
        assert!((costs.get(1) - 2.0).abs() < f64::EPSILON);
    }
}
