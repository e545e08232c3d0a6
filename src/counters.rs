//! How many reads went where, and why.
//!
//! Counting is on the path of every decision, so threads must not fight over one cache line: each counts in a
//! shard of its own (shared by those whose numbers collide), and a sum is made when somebody looks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::decision::Reason;
use crate::pool::Member;

/// Enough for the threads of a web worker; more threads share.
const SHARDS: usize = 16;

/// A cache line is 64 bytes here, and processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(Box<[AtomicU64]>);

/// Counts of decisions by member and reason.
#[derive(Debug)]
pub struct Counters {
    shards: Box<[Shard]>,
    members: usize,
}

impl Counters {
    /// All zero, for a cluster of `members` (the primary among them).
    #[must_use]
    pub fn new(members: usize) -> Self {
        let shard = || Shard((0..members * Reason::COUNT).map(|_| AtomicU64::new(0)).collect());
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), members }
    }

    /// Reason by reason: a process counts many members for few reasons, and those lie side by side.
    #[inline]
    fn index(&self, member: Member, reason: Reason) -> usize {
        reason as usize * self.members + member as usize
    }

    /// One more read for `member`.
    #[inline]
    pub fn count(&self, member: Member, reason: Reason) {
        self.shards[this_shard()].0[self.index(member, reason)].fetch_add(1, Ordering::Relaxed);
    }

    /// Reads of `member` for `reason`, so far.
    #[must_use]
    pub fn get(&self, member: Member, reason: Reason) -> u64 {
        let index = self.index(member, reason);
        self.shards.iter().map(|shard| shard.0[index].load(Ordering::Relaxed)).sum()
    }

    /// Adds what `other` counted for its member `from` to our member `to`: the counts outlive a rebuild.
    pub fn inherit(&self, to: Member, other: &Self, from: Member) {
        debug_assert!((to as usize) < self.members && (from as usize) < other.members);
        for reason in Reason::ALL {
            self.shards[0].0[self.index(to, reason)].fetch_add(other.get(from, reason), Ordering::Relaxed);
        }
    }
}

fn this_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_many_threads_add_up() {
        let counters = Counters::new(2);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1000).for_each(|_| counters.count(1, Reason::Balanced)));
            }
        });
        assert_eq!(counters.get(1, Reason::Balanced), 40_000);
        assert_eq!(counters.get(0, Reason::Balanced), 0);
        assert_eq!(counters.get(1, Reason::Sticky), 0);
    }

    #[test]
    fn counts_outlive_a_rebuild() {
        let (old, new) = (Counters::new(2), Counters::new(3));
        old.count(1, Reason::Pinned);
        new.inherit(2, &old, 1);
        assert_eq!(new.get(2, Reason::Pinned), 1);
        assert_eq!(new.get(1, Reason::Pinned), 0);
    }
}
