//! Scopes: what a block of code asked for, and what it must remember.
//!
//! A [`Scope`] is an immutable node that points to the one around it; a context variable holds the innermost. What
//! everything inside a request must see at once (the sticky replica, the writes) sits in a [`Cell`] the node points
//! to, because a child task or a worker thread does not hand a changed context variable back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::names::Alias;

/// What a scope does to the reads inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `use_primary`.
    Primary,
    /// `use_replica`.
    Replica {
        /// The replica asked for by name.
        member: Option<Alias>,
        /// Positions and pins are set aside.
        stale_ok: bool,
    },
}

/// What was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request, or whatever a task runner treats as one.
    Request,
    /// `manage.py migrate`: every read belongs to the primary.
    Migrate,
    /// `use_primary` or `use_replica`, of one cluster (named by its primary) or of all.
    Use(Option<Alias>, Effect),
}

/// Who entered a scope, so that leaving removes the right one. Numbers are never used twice.
pub type Owner = u64;

/// One entered scope and, through `parent`, all those around it.
#[derive(Debug)]
pub struct Scope {
    owner: Owner,
    kind: Kind,
    parent: Option<Arc<Scope>>,
    /// What applies here, innermost first; `None` stands for every cluster.
    effects: Box<[(Option<Alias>, Effect)]>,
    in_request: bool,
    migrating: bool,
    /// The sticky choices: the request's, else the outermost scope's.
    cell: Arc<Cell>,
    /// The request's writes; with no request open the thread or task keeps its own.
    record: Option<Arc<Cell>>,
}

impl Scope {
    /// Enters a scope inside `parent`.
    #[must_use]
    pub fn enter(parent: Option<Arc<Self>>, owner: Owner, kind: Kind) -> Arc<Self> {
        Self::enter_with(parent, owner, kind, None)
    }

    /// Enters a scope whose sticky choices were begun earlier: a generator resumed, keeping its replica.
    #[must_use]
    pub fn enter_with(parent: Option<Arc<Self>>, owner: Owner, kind: Kind, cell: Option<Arc<Cell>>) -> Arc<Self> {
        let outer = parent.as_deref();
        let in_request = kind == Kind::Request || outer.is_some_and(|scope| scope.in_request);
        let (cell, record) = if kind == Kind::Request {
            let own = Arc::new(Cell::default());
            (own.clone(), Some(own))
        } else {
            let around = || outer.map_or_else(Arc::default, |scope| scope.cell.clone());
            (cell.unwrap_or_else(around), outer.and_then(|scope| scope.record.clone()))
        };
        let mut effects = Vec::new();
        if let Kind::Use(cluster, effect) = kind {
            effects.push((cluster, effect));
        }
        for &(cluster, effect) in outer.map_or(&[][..], |scope| &scope.effects) {
            // An effect shadowed by an inner one is dropped, so that recursion cannot make the list grow.
            if !effects.iter().any(|&(inner, _)| inner.is_none() || inner == cluster) {
                effects.push((cluster, effect));
            }
        }
        let migrating = kind == Kind::Migrate || outer.is_some_and(|scope| scope.migrating);
        Arc::new(Self { owner, kind, effects: effects.into(), in_request, migrating, cell, record, parent })
    }

    /// The scopes that stay when `owner` leaves: the innermost scope that `owner` entered is taken out.
    ///
    /// Usually that is `scope` itself. A `with` block in a suspended generator is left in another order; then those
    /// entered since stay, around what was outside. Returns `scope` unchanged if `owner` entered none of them.
    #[must_use]
    pub fn leave(scope: &Arc<Self>, owner: Owner) -> Option<Arc<Self>> {
        if scope.owner == owner {
            return scope.parent.clone();
        }
        let mut above = vec![scope];
        let mut next = scope.parent.as_ref();
        while let Some(found) = next {
            if found.owner == owner {
                return above.into_iter().rev().fold(found.parent.clone(), |parent, kept| Some(kept.moved_to(parent)));
            }
            above.push(found);
            next = found.parent.as_ref();
        }
        Some(scope.clone())
    }

    /// The same scope with another one around it; what it remembers stays.
    fn moved_to(&self, parent: Option<Arc<Self>>) -> Arc<Self> {
        let moved = Self::enter_with(parent, self.owner, self.kind, Some(self.cell.clone()));
        if self.kind != Kind::Request {
            return moved;
        }
        let moved = Arc::into_inner(moved).expect("nobody else has it yet");
        Arc::new(Self { cell: self.cell.clone(), record: self.record.clone(), ..moved })
    }

    /// What the innermost scope that concerns `cluster` asks for.
    #[inline]
    #[must_use]
    pub fn effect(&self, cluster: Alias) -> Option<Effect> {
        self.effects.iter().find(|(reach, _)| reach.is_none_or(|named| named == cluster)).map(|&(_, effect)| effect)
    }

    /// Whether a request scope is open.
    #[must_use]
    pub fn in_request(&self) -> bool {
        self.in_request
    }

    /// Whether `migrate` runs.
    #[must_use]
    pub fn migrating(&self) -> bool {
        self.migrating
    }

    /// The sticky choices in force here.
    #[must_use]
    pub fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    /// The request's write record.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<Cell>> {
        self.record.as_ref()
    }
}

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
    const REPLICA: Effect = Effect::Replica { member: None, stale_ok: false };

    fn primary(cluster: Option<Alias>) -> Kind {
        Kind::Use(cluster, Effect::Primary)
    }

    fn replica(cluster: Option<Alias>) -> Kind {
        Kind::Use(cluster, REPLICA)
    }

    #[test]
    fn the_innermost_scope_wins() {
        let outer = Scope::enter(None, 1, primary(None));
        let inner = Scope::enter(Some(outer.clone()), 2, replica(None));
        assert_eq!(inner.effect(ONE), Some(REPLICA));
        assert_eq!(Scope::leave(&inner, 2).unwrap().effect(ONE), Some(Effect::Primary));
        assert!(Scope::leave(&outer, 1).is_none());
    }

    #[test]
    fn a_scope_of_one_cluster_leaves_the_others_alone() {
        let outer = Scope::enter(None, 1, primary(None));
        let inner = Scope::enter(Some(outer), 2, replica(Some(ONE)));
        assert_eq!((inner.effect(ONE), inner.effect(TWO)), (Some(REPLICA), Some(Effect::Primary)));
    }

    #[test]
    fn deep_nesting_keeps_the_list_of_effects_short() {
        let mut scope = None;
        for owner in 0..1000 {
            scope = Some(Scope::enter(scope, owner, if owner % 2 == 0 { primary(None) } else { replica(Some(ONE)) }));
        }
        assert!(scope.unwrap().effects.len() <= 2);
    }

    #[test]
    fn leaving_out_of_order_removes_the_right_scope() {
        let generator = Scope::enter(None, 1, replica(None));
        let around = Scope::enter(Some(generator), 2, primary(None));
        let left = Scope::leave(&around, 1).unwrap();
        assert_eq!(left.effect(ONE), Some(Effect::Primary));
        assert!(Scope::leave(&left, 2).is_none());
    }

    #[test]
    fn leaving_a_scope_that_is_not_open_changes_nothing() {
        let scope = Scope::enter(None, 1, replica(None));
        assert!(Arc::ptr_eq(&Scope::leave(&scope, 9).unwrap(), &scope));
    }

    #[test]
    fn a_request_has_a_cell_of_its_own_and_the_outermost_scope_otherwise() {
        let outer = Scope::enter(None, 1, replica(None));
        let inner = Scope::enter(Some(outer.clone()), 2, primary(None));
        assert!(Arc::ptr_eq(outer.cell(), inner.cell()));
        assert!(inner.record().is_none());
        let request = Scope::enter(Some(inner), 3, Kind::Request);
        assert!(!Arc::ptr_eq(outer.cell(), request.cell()));
        let view = Scope::enter(Some(request.clone()), 4, replica(None));
        assert!(Arc::ptr_eq(request.cell(), view.cell()));
        assert!(view.in_request() && !outer.in_request());
        assert!(Arc::ptr_eq(request.record().unwrap(), view.record().unwrap()));
    }

    #[test]
    fn a_moved_request_keeps_its_record() {
        let generator = Scope::enter(None, 1, replica(None));
        let request = Scope::enter(Some(generator), 2, Kind::Request);
        request.record().unwrap().of(ONE).wrote(Duration::ZERO);
        let moved = Scope::leave(&request, 1).unwrap();
        assert!(moved.in_request() && moved.effect(ONE).is_none());
        assert_eq!(moved.record().unwrap().of(ONE).written(), Some(Duration::ZERO));
    }

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
