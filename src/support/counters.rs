//! Counts the decisions by member and reason.
//!
//! Counting is on the path of every decision, so threads must not contend for a cache line or a lock: each counts in a
//! [`Shard`] of its own, and a sum is made when the counts are read.

use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceBox;

use crate::member::Member;
use crate::reason::Reason;

/// One for each bit of a word; the last one is shared by the threads for which there is none left.
const SHARDS: usize = 64;
const COMMON: usize = SHARDS - 1;

/// Unused counters around those of a shard: a cache line is 64 bytes, and processors fetch lines in pairs. Memory next
/// to a shard is read by every decision of other threads.
const PADDING: usize = 128 / size_of::<AtomicU64>();

/// The shards that have an owner. One word and not a list with a lock, which a fork could leave locked for ever.
static TAKEN: AtomicU64 = AtomicU64::new(1 << COMMON);

/// A thread's right to count in a place of its own, until it is dropped.
#[derive(Debug)]
pub struct Shard(usize);

impl Shard {
    /// A free shard, or the common one.
    #[must_use]
    pub fn claim() -> Self {
        let free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        match TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free) {
            Ok(before) => Self(before.trailing_ones() as usize),
            Err(_) => Self(COMMON),
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if self.0 != COMMON {
            // This thread's counts must be visible to the next owner.
            TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}

/// Counts of decisions by member and reason.
#[derive(Debug)]
pub struct Counters {
    shards: [OnceBox<Box<[AtomicU64]>>; SHARDS],
    members: usize,
}

impl Counters {
    /// All zero, for a cluster of `members` (the primary among them).
    #[must_use]
    pub fn new(members: usize) -> Self {
        Self { shards: [const { OnceBox::new() }; SHARDS], members }
    }

    fn counts(&self, shard: &Shard) -> &[AtomicU64] {
        self.shards[shard.0 % SHARDS].get_or_init(|| {
            Box::new((0..self.members * Reason::COUNT + 2 * PADDING).map(|_| AtomicU64::new(0)).collect())
        })
    }

    /// Reason by reason: a process counts many members for few reasons, and those lie side by side.
    #[inline]
    fn index(&self, member: Member, reason: Reason) -> usize {
        PADDING + reason as usize * self.members + member as usize
    }

    /// One more read for `member`, by the thread that owns `shard`.
    #[inline]
    pub fn count(&self, shard: &Shard, member: Member, reason: Reason) {
        let count = &self.counts(shard)[self.index(member, reason)];
        if shard.0 == COMMON {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            // No other thread writes here.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Reads of `member` for `reason`, so far.
    #[must_use]
    pub fn get(&self, member: Member, reason: Reason) -> u64 {
        let index = self.index(member, reason);
        self.shards.iter().filter_map(OnceBox::get).map(|counts| counts[index].load(Ordering::Relaxed)).sum()
    }

    /// Adds what `other` counted for its member `from` to our member `to`: the counts outlive a rebuild.
    pub fn inherit(&self, to: Member, other: &Self, from: Member) {
        debug_assert!((to as usize) < self.members && (from as usize) < other.members);
        for reason in Reason::ALL {
            self.counts(&Shard(COMMON))[self.index(to, reason)].fetch_add(other.get(from, reason), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_more_threads_than_shards_add_up() {
        let counters = Counters::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    let shard = Shard::claim();
                    (0..1000).for_each(|_| counters.count(&shard, 1, Reason::Balanced));
                });
            }
        });
        assert_eq!(counters.get(1, Reason::Balanced), 2 * SHARDS as u64 * 1000);
        assert_eq!(counters.get(0, Reason::Balanced), 0);
        assert_eq!(counters.get(1, Reason::Sticky), 0);
    }

    #[test]
    fn a_shard_has_one_owner_and_is_given_back() {
        let shards: Vec<Shard> = (0..2 * SHARDS).map(|_| Shard::claim()).collect();
        let mut own: Vec<usize> = shards.iter().map(|shard| shard.0).filter(|&number| number != COMMON).collect();
        let claimed = own.len();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), claimed);
        drop(shards);
        assert_ne!(Shard::claim().0, COMMON);
    }

    #[test]
    fn counts_outlive_a_rebuild() {
        let (old, new) = (Counters::new(2), Counters::new(3));
        old.count(&Shard::claim(), 1, Reason::Pinned);
        new.inherit(2, &old, 1);
        assert_eq!(new.get(2, Reason::Pinned), 1);
        assert_eq!(new.get(1, Reason::Pinned), 0);
    }
}
