//! The state of a scope: the sticky replica, the requirement, the draw for `PRIMARY_SPILL`.
//!
//! From the outside in: a [`ScopeState`] belongs to a request, to an outermost scope, or to a thread or task. It holds
//! one [`ClusterState`] for each cluster, which holds a [`Requirement`]. The state that a write belongs to (the
//! request's, else the thread's or task's) is called the *record*: it is a state like any other, found in another
//! place.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use once_cell::race::OnceBox;
use parking_lot::Mutex;

use crate::alias::Alias;
use crate::cluster::view::View;
use crate::consistency::requirement::Requirement;
use crate::member::Member;

/// The state of a scope, a thread or a task. Reads take no lock while the scope requires nothing.
#[derive(Debug, Default)]
pub struct ScopeState {
    first: OnceBox<ClusterState>,
}

/// The state of one cluster. The states form a list, since a site has one cluster, seldom two.
#[derive(Debug)]
pub struct ClusterState {
    cluster: Alias,
    /// The number of the sticky alias plus one; 0 for none.
    sticky: AtomicU32,
    /// Whether the sticky member has answered a read of this scope.
    has_answered: AtomicBool,
    /// [`LastRead`]: the number of another alias plus one, [`LEARNED`], or 0.
    last: AtomicU32,
    /// How often the server behind the sticky alias, and the one behind the alias that was named last, had changed when
    /// this scope began to read there: see [`crate::replication::state::ReplicationState::changes`].
    changes: [AtomicU32; 2],
    /// When all replicas satisfied the requirement: how often the server behind any of them had changed, plus one; 0
    /// before. A server that has changed since may lack what was required.
    ended: AtomicU32,
    /// 2^31 plus 31 bits drawn once for `PRIMARY_SPILL`; 0 before the draw.
    spill: AtomicU32,
    /// Whether `requirement` is not empty.
    has_requirement: AtomicBool,
    /// Whether a requirement has ended that replicas of weight 0 may not satisfy.
    keeps_for_named: AtomicBool,
    requirement: Mutex<Requirement>,
    /// How many transactions that began in this scope are open on replicas, in any thread.
    snapshots: AtomicU32,
    /// The member that last satisfied the requirement, and in which view: see [`ClusterState::verdict`].
    verdict: AtomicU64,
    next: OnceBox<ClusterState>,
}

/// The member that the scope read from last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRead {
    /// Its sticky member, if it read at all.
    Sticky,
    /// A replica that it named.
    Named(Alias),
    /// A member whose position is part of the requirement now.
    Learned,
}

const LEARNED: u32 = u32::MAX;

impl ScopeState {
    /// The state of `cluster`, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self, cluster: Alias) -> Option<&ClusterState> {
        self.cluster_states().find(|cluster_state| cluster_state.cluster == cluster)
    }

    /// The states of all clusters.
    pub fn cluster_states(&self) -> impl Iterator<Item = &ClusterState> {
        std::iter::successors(self.first.get(), |cluster_state| cluster_state.next.get())
    }

    /// A copy that holds the state of `cluster` alone.
    #[must_use]
    pub fn copied(&self, cluster: Alias) -> Self {
        let first = self
            .get(cluster)
            .map_or_else(OnceBox::new, |cluster_state| OnceBox::with_value(Box::new(cluster_state.copied())));
        Self { first }
    }

    /// The state of `cluster`, created if there is none.
    pub fn of(&self, cluster: Alias) -> &ClusterState {
        let mut link = &self.first;
        loop {
            let cluster_state = link.get_or_init(|| Box::new(ClusterState::new(cluster)));
            if cluster_state.cluster == cluster {
                return cluster_state;
            }
            link = &cluster_state.next;
        }
    }
}

impl ClusterState {
    fn new(cluster: Alias) -> Self {
        Self {
            cluster,
            sticky: AtomicU32::new(0),
            has_answered: AtomicBool::new(false),
            last: AtomicU32::new(0),
            changes: Default::default(),
            ended: AtomicU32::new(0),
            spill: AtomicU32::new(0),
            has_requirement: AtomicBool::new(false),
            keeps_for_named: AtomicBool::new(false),
            requirement: Mutex::default(),
            snapshots: AtomicU32::new(0),
            verdict: AtomicU64::new(0),
            next: OnceBox::new(),
        }
    }

    fn copied(&self) -> Self {
        let copy = |number: &AtomicU32| AtomicU32::new(number.load(Ordering::Relaxed));
        let requirement = self.requirement.lock().clone();
        Self {
            cluster: self.cluster,
            sticky: copy(&self.sticky),
            has_answered: AtomicBool::new(self.has_answered.load(Ordering::Relaxed)),
            last: copy(&self.last),
            changes: [copy(&self.changes[0]), copy(&self.changes[1])],
            ended: copy(&self.ended),
            spill: copy(&self.spill),
            has_requirement: AtomicBool::new(!requirement.is_empty()),
            keeps_for_named: AtomicBool::new(requirement.keeps_for_named()),
            requirement: Mutex::new(requirement),
            snapshots: copy(&self.snapshots),
            verdict: AtomicU64::new(self.verdict.load(Ordering::Acquire)),
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
            Ok(_) => {
                self.has_answered.store(false, Ordering::Relaxed);
                chosen
            }
            Err(winner) => winner.checked_sub(1).map_or(chosen, Alias::from_number),
        }
    }

    /// The member `alias` has answered a read of this scope.
    pub fn answered(&self, alias: Alias) {
        if self.sticky() == Some(alias) {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// Ends the sticky choice if `alias` is the sticky member and has answered nothing: then the scope has seen nothing
    /// there.
    pub fn leave_unanswered(&self, alias: Alias) {
        if !self.has_answered.load(Ordering::Relaxed) {
            self.unstick(alias);
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

    /// Whether the scope requires anything.
    #[inline]
    #[must_use]
    pub fn has_requirement(&self) -> bool {
        self.has_requirement.load(Ordering::Acquire)
    }

    /// Whether a requirement has ended that replicas of weight 0 may not satisfy.
    #[must_use]
    pub fn keeps_for_named(&self) -> bool {
        self.keeps_for_named.load(Ordering::Acquire)
    }

    /// Reads or changes the requirement. `work` holds a lock, and therefore runs no Python.
    pub fn requirement<T>(&self, work: impl FnOnce(&mut Requirement) -> T) -> T {
        let mut requirement = self.requirement.lock();
        self.verdict.store(0, Ordering::Release);
        let result = work(&mut requirement);
        self.has_requirement.store(!requirement.is_empty(), Ordering::Release);
        self.keeps_for_named.store(requirement.keeps_for_named(), Ordering::Release);
        result
    }

    /// Whether a transaction that began in this scope is open on a replica, in any thread.
    #[must_use]
    pub fn has_snapshots(&self) -> bool {
        self.snapshots.load(Ordering::Acquire) > 0
    }

    /// A transaction began on a replica.
    pub fn began_snapshot(&self) {
        self.snapshots.fetch_add(1, Ordering::AcqRel);
    }

    /// One of these transactions has ended.
    pub fn ended_snapshot(&self) {
        self.snapshots.fetch_sub(1, Ordering::AcqRel);
    }

    /// The member that this scope read from last.
    #[inline]
    #[must_use]
    pub fn last(&self) -> LastRead {
        match self.last.load(Ordering::Relaxed) {
            0 => LastRead::Sticky,
            LEARNED => LastRead::Learned,
            number => LastRead::Named(Alias::from_number(number - 1)),
        }
    }

    /// This scope reads from `last`.
    pub fn reads_from(&self, last: LastRead) {
        let number = match last {
            LastRead::Sticky => 0,
            LastRead::Learned => LEARNED,
            LastRead::Named(alias) => alias.number() + 1,
        };
        self.last.store(number, Ordering::Relaxed);
    }

    /// Whether the scope requires anything, or did until a replica that had it became another server.
    #[inline]
    #[must_use]
    pub fn has_requirement_in(&self, view: &View) -> bool {
        self.has_requirement() || self.has_lost(view)
    }

    /// Whether all replicas satisfied the requirement, and the server behind one of them is another one now.
    #[inline]
    #[must_use]
    pub fn has_lost(&self, view: &View) -> bool {
        let ended = self.ended.load(Ordering::Relaxed);
        ended != 0 && ended != view.replication().all_changes() + 1
    }

    /// Whether a requirement has ended because all replicas satisfied it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) != 0
    }

    /// All replicas in `view` satisfy the requirement.
    pub fn end_requirement(&self, view: &View) {
        self.ended.store(view.replication().all_changes() + 1, Ordering::Relaxed);
    }

    /// Requires again what all replicas had: the primary's next position contains it.
    pub fn restore_requirement(&self, view: &View, now: Duration) {
        if self.has_lost(view) {
            self.ended.store(0, Ordering::Relaxed);
            self.requirement(|requirement| requirement.require_read(None, now));
        }
    }

    /// How often the server behind the alias of `last` had changed when this scope began to read there.
    #[inline]
    #[must_use]
    pub fn changes(&self, last: LastRead) -> u32 {
        self.changes[usize::from(matches!(last, LastRead::Named(_)))].load(Ordering::Relaxed)
    }

    /// This scope reads from the server that is behind the alias of `last` after so many changes.
    pub fn set_changes(&self, last: LastRead, changes: u32) {
        self.changes[usize::from(matches!(last, LastRead::Named(_)))].store(changes, Ordering::Relaxed);
    }

    /// Whether `member` satisfied the requirement in the view of this number, and nothing has been added since. Spares
    /// each read of a scope with a requirement a lock and a clock.
    #[inline]
    #[must_use]
    pub fn verdict(&self, view: u64, member: Member) -> bool {
        self.verdict.load(Ordering::Acquire) == verdict(view, member)
    }

    /// Whether `member` satisfies the requirement, as `judge` finds; kept for [`ClusterState::verdict`] if time does
    /// not matter.
    pub fn judged(&self, view: u64, member: Member, judge: impl FnOnce(&Requirement) -> bool) -> bool {
        let requirement = self.requirement.lock();
        let has = judge(&requirement);
        if has && requirement.written().is_none() {
            self.verdict.store(verdict(view, member), Ordering::Release);
        }
        has
    }

    /// Ends the sticky choice if it is `from`.
    pub fn unstick(&self, from: Alias) {
        let _ = self.sticky.compare_exchange(from.number() + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The verdict as a number. It is never 0, which stands for none. Views are numbered one by one, and a cluster has far
/// fewer than 2^20 members.
fn verdict(view: u64, member: Member) -> u64 {
    (view + 1) << 20 | u64::from(member)
}

#[cfg(test)]
mod tests;
