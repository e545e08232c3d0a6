//! What a scope must remember: the sticky replica, the last write, the draw for `PRIMARY_SPILL`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::names::Alias;

/// What a scope, a thread or a task remembers of each cluster. Written and read without locks.
#[derive(Debug, Default)]
pub struct Cell {
    first: OnceBox<Memory>,
}

/// What is remembered of one cluster; a list, since a site has one cluster, seldom two.
#[derive(Debug)]
pub struct Memory {
    cluster: Alias,
    /// The number of the sticky alias plus one; 0 for none.
    sticky: AtomicU32,
    /// 2^31 plus 31 bits drawn once for `PRIMARY_SPILL`; 0 before the draw.
    spill: AtomicU32,
    /// Nanoseconds of the last write plus one; 0 for none.
    written: AtomicU64,
    next: OnceBox<Memory>,
}

impl Cell {
    /// What is remembered of `cluster`, if anything.
    #[inline]
    #[must_use]
    pub fn get(&self, cluster: Alias) -> Option<&Memory> {
        let mut next = self.first.get();
        while let Some(memory) = next {
            if memory.cluster == cluster {
                return Some(memory);
            }
            next = memory.next.get();
        }
        None
    }

    /// The memory of `cluster`, begun if there is none.
    pub fn of(&self, cluster: Alias) -> &Memory {
        let mut link = &self.first;
        loop {
            let memory = link.get_or_init(|| Box::new(Memory::new(cluster)));
            if memory.cluster == cluster {
                return memory;
            }
            link = &memory.next;
        }
    }
}

impl Memory {
    fn new(cluster: Alias) -> Self {
        Self {
            cluster,
            sticky: AtomicU32::new(0),
            spill: AtomicU32::new(0),
            written: AtomicU64::new(0),
            next: OnceBox::new(),
        }
    }

    /// The member this scope reads from.
    #[inline]
    #[must_use]
    pub fn sticky(&self) -> Option<Alias> {
        self.sticky.load(Ordering::Relaxed).checked_sub(1).map(Alias::from_number)
    }

    /// Makes `chosen` the sticky member where `before` was, and returns the sticky member: another one, if another
    /// thread of the same scope chose first.
    pub fn stick(&self, before: Option<Alias>, chosen: Alias) -> Alias {
        let number = |alias: Alias| alias.number() + 1;
        let expected = before.map_or(0, number);
        match self.sticky.compare_exchange(expected, number(chosen), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => chosen,
            Err(winner) => winner.checked_sub(1).map_or(chosen, Alias::from_number),
        }
    }

    /// The scope's draw for `PRIMARY_SPILL`, from 0 to 1: `draw` (a number in that range) is kept if it is the first.
    pub fn spill(&self, draw: f64) -> f64 {
        const STEPS: f64 = 2_147_483_648.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "31 bits of a number in [0, 1)")]
        let mine = (1 << 31) | (draw * STEPS) as u32;
        let kept = match self.spill.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => mine,
            Err(first) => first,
        };
        f64::from(kept & !(1 << 31)) / STEPS
    }

    /// The scope's draw for `PRIMARY_SPILL`, if it was made.
    #[must_use]
    pub fn drawn_spill(&self) -> Option<f64> {
        (self.spill.load(Ordering::Relaxed) != 0).then(|| self.spill(0.0))
    }

    /// Records a write at `now`, the time since the clock's origin.
    pub fn wrote(&self, now: Duration) {
        // 2^64 ns are 584 years.
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        self.written.fetch_max(nanoseconds, Ordering::Release);
    }

    /// When the last write was recorded.
    #[inline]
    #[must_use]
    pub fn written(&self) -> Option<Duration> {
        self.written.load(Ordering::Acquire).checked_sub(1).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Alias = Alias::from_number(1);
    const TWO: Alias = Alias::from_number(2);

    #[test]
    fn the_first_sticky_choice_of_a_scope_holds() {
        let cell = Cell::default();
        assert_eq!(cell.of(ONE).sticky(), None);
        assert_eq!(cell.of(ONE).stick(None, TWO), TWO);
        assert_eq!(cell.of(ONE).stick(None, ONE), TWO);
        assert_eq!(cell.of(ONE).stick(Some(TWO), ONE), ONE);
        assert_eq!(cell.get(TWO).and_then(Memory::sticky), None);
    }

    #[test]
    fn each_cluster_has_a_memory_of_its_own() {
        let cell = Cell::default();
        for number in 0..50 {
            cell.of(Alias::from_number(number)).stick(None, Alias::from_number(number + 100));
        }
        for number in 0..50 {
            let memory = cell.get(Alias::from_number(number)).unwrap();
            assert_eq!(memory.sticky(), Some(Alias::from_number(number + 100)));
        }
    }

    #[test]
    fn many_threads_agree_on_one_replica() {
        for _ in 0..200 {
            let cell = Cell::default();
            let chosen: Vec<Alias> = std::thread::scope(|scope| {
                let choose = |number| cell.of(ONE).stick(None, Alias::from_number(number));
                let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || choose(number))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(chosen.iter().all(|alias| *alias == chosen[0]), "{chosen:?}");
        }
    }

    #[test]
    fn the_spill_is_drawn_once() {
        let cell = Cell::default();
        assert_eq!(cell.of(ONE).drawn_spill(), None);
        assert!((cell.of(ONE).spill(0.25) - 0.25).abs() < 1e-9);
        assert!((cell.of(ONE).spill(0.75) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn the_latest_write_counts() {
        let cell = Cell::default();
        cell.of(ONE).wrote(Duration::from_secs(5));
        cell.of(ONE).wrote(Duration::from_secs(3));
        assert_eq!(cell.of(ONE).written(), Some(Duration::from_secs(5)));
    }
}
