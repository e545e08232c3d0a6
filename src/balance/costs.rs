//! What it costs to ask each member, for decisions to read while it is updated.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::member::Member;

/// What it costs to ask each member, for decisions to read while it is updated.
#[derive(Debug)]
pub struct Costs(Box<[AtomicU64]>);

impl Costs {
    /// Asking any of `members` costs the same.
    #[must_use]
    pub fn even(members: usize) -> Self {
        Self((0..members).map(|_| AtomicU64::new(0)).collect())
    }

    /// What it costs to ask `member`: seconds, or 0 while nobody was measured.
    #[inline]
    #[must_use]
    pub fn get(&self, member: Member) -> f64 {
        f64::from_bits(self.0[member as usize].load(Ordering::Relaxed))
    }

    /// Members take so many seconds, in their order. One that was not measured costs the median of the others: it must
    /// neither draw all reads to itself nor none.
    pub fn publish(&self, seconds: &[Option<f64>]) {
        let mut measured: Vec<f64> = seconds.iter().flatten().copied().collect();
        measured.sort_unstable_by(f64::total_cmp);
        let median = measured.get(measured.len() / 2).copied().unwrap_or(0.0);
        for (cost, seconds) in self.0.iter().zip(seconds) {
            cost.store(seconds.unwrap_or(median).to_bits(), Ordering::Relaxed);
        }
    }

    /// `member` takes so many seconds.
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
