//! Row 5 of the contract's table: which members may serve a scope that must see something.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::requirement::{Need, Obstacle};
use crate::consistency::scope_state::{Cell, Memory};
use crate::member::{Member, PRIMARY};
use crate::replication::position::Position;

/// Who may serve a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Every member: there is nothing that must be seen.
    Open,
    /// The member that the read would go to anyway.
    Only(Member),
    /// Those that have what must be seen. Not empty.
    Among(Vec<Member>),
}

impl Gate {
    /// Whether `member` may serve.
    #[inline]
    #[must_use]
    pub fn admits(&self, member: Member) -> bool {
        match self {
            Self::Open => true,
            Self::Only(only) => *only == member,
            Self::Among(members) => members.contains(&member),
        }
    }
}

/// What to do where the gate is shut.
#[derive(Clone, Debug)]
pub enum Shut {
    /// Read from the primary.
    Pinned,
    /// Ask the primary for its position, and tell what `cell` keeps for the cluster.
    Ask {
        /// Where the answer belongs.
        cell: Arc<Cell>,
    },
    /// Wait for `member`, and tell what `cell` keeps for the cluster.
    Wait {
        /// Where the outcome belongs.
        cell: Arc<Cell>,
        /// The replica that is likely to be there first.
        member: Member,
        /// What it must have.
        position: Position,
        /// For how long at most.
        longest: Duration,
    },
}

/// A scope that must see something, and who could serve it.
#[derive(Debug)]
pub struct Approach<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Who serves.
    pub view: &'a View,
    /// What must be seen: by the request or the outermost scope, and by the thread or task.
    pub cells: [Option<&'a Arc<Cell>>; 2],
    /// The time.
    pub now: Duration,
}

impl<'a> Approach<'a> {
    /// Whether there is anything that must be seen.
    #[inline]
    #[must_use]
    pub fn is_needed(cells: [Option<&'a Arc<Cell>>; 2], cluster: &Cluster, view: &View) -> bool {
        let is_needed = |memory: &Memory| memory.has_need_in(view);
        cells.into_iter().flatten().any(|cell| cell.get(cluster.name()).is_some_and(is_needed))
    }

    fn memories(&self) -> impl Iterator<Item = (&'a Arc<Cell>, &'a Memory)> {
        let name = self.cluster.name();
        let memories = self.cells.into_iter().flatten().filter_map(move |cell| Some((cell, cell.get(name)?)));
        memories.filter(|(_, memory)| memory.has_need_in(self.view))
    }

    /// Whether `member` has weight 0, and may lack what has ended for the others: it is always judged by what was written.
    #[must_use]
    pub fn named_may_lack(cells: [Option<&'a Arc<Cell>>; 2], cluster: &Cluster, member: Member) -> bool {
        let keeps = |cell: &Arc<Cell>| cell.get(cluster.name()).is_some_and(Memory::keeps_for_named);
        cluster.weight(member) <= 0.0 && cells.into_iter().flatten().any(keeps)
    }

    fn admits_named(&self, member: Member) -> bool {
        let (cluster, view) = (self.cluster, self.view);
        let mut memories = self.cells.into_iter().flatten().filter_map(|cell| cell.get(cluster.name()));
        !Self::named_may_lack(self.cells, cluster, member)
            || memories.all(|memory| memory.need(|need| need.admits_named(cluster, view, member, self.now)))
    }

    /// Whether `member` is known to have all that must be seen.
    #[must_use]
    pub fn admits(&self, member: Member) -> bool {
        let (cluster, view) = (self.cluster, self.view);
        self.admits_named(member)
            && self.memories().all(|(_, memory)| {
                memory.judged(view.number(), member, |need| need.admits(cluster, view, member, self.now))
            })
    }

    /// Whether `member` may turn out to have all that must be seen if it is asked.
    #[must_use]
    pub fn may_admit(&self, member: Member) -> bool {
        let (cluster, view) = (self.cluster, self.view);
        self.memories().all(|(_, memory)| memory.need(|need| need.may_admit(cluster, view, member, self.now)))
    }

    /// The gate for all that may serve and that `is_usable` says this thread can use; or what to do if there is none: to
    /// wait for `preferred`, if that will do.
    ///
    /// # Errors
    /// That of `is_usable`.
    pub fn for_others<E>(
        &self,
        may_wait: bool,
        preferred: Option<Member>,
        mut is_usable: impl FnMut(Member) -> Result<bool, E>,
    ) -> Result<Result<Gate, Shut>, E> {
        let admitted = self.admitted(&mut is_usable)?;
        if !admitted.is_empty() {
            return Ok(Ok(Gate::Among(admitted)));
        }
        Ok(Err(if may_wait { self.way_out(preferred, is_usable)? } else { Shut::Pinned }))
    }

    /// All that may serve. `is_usable` as for [`Approach::for_others`].
    ///
    /// # Errors
    /// That of `is_usable`.
    pub fn admitted<E>(&self, mut is_usable: impl FnMut(Member) -> Result<bool, E>) -> Result<Vec<Member>, E> {
        let mut admitted = Vec::new();
        for &member in self.view.eligible() {
            if self.admits(member) && is_usable(member)? {
                admitted.push(member);
            }
        }
        Ok(admitted)
    }

    /// A need ends when every replica that reads may go to has it, and not when the first one has: the next read may go
    /// to another. Those that are out of service are not waited for, and serve again only with their floor (see
    /// [`crate::health::admission`]). It does not end while a transaction is open on one of them: that has a snapshot, which stays
    /// as old as it is, whatever its server has. `in_transaction` says so of this thread's connections; those of the scope's
    /// other threads are counted.
    ///
    /// # Errors
    /// That of `in_transaction`.
    pub fn forget_what_all_have<E>(&self, mut in_transaction: impl FnMut(Member) -> Result<bool, E>) -> Result<(), E> {
        let (cluster, view) = (self.cluster, self.view);
        let is_awaited = |member: Member, weight: f64| weight > 0.0 && view.awaits(member, self.now);
        let replicas =
            || (1..).zip(&cluster.settings().replicas).filter(|&(member, &(_, weight))| is_awaited(member, weight));
        // Without any, nobody says what the next one to serve will have.
        if replicas().next().is_none() {
            return Ok(());
        }
        for (_, memory) in self.memories() {
            memory.restore_need(view, self.now);
            let mut has_ended = false;
            let all_have = |judge: &dyn Fn(Member) -> bool| replicas().all(|(member, _)| judge(member));
            let may_end = memory.need(|need| {
                if !need.is_to_be_judged(view) {
                    return false;
                }
                need.settle(cluster, view);
                all_have(&|member| need.has_what_was_written(cluster, view, member, self.now))
            });
            if !may_end {
                continue;
            }
            // May run Python, and so with no lock held.
            let mut has_snapshot = memory.has_snapshots();
            for (member, _) in replicas() {
                has_snapshot = has_snapshot || in_transaction(member)?;
            }
            let named = || (1..).zip(&cluster.settings().replicas).filter(|(_, (_, weight))| *weight <= 0.0);
            memory.need(|need| {
                if !has_snapshot
                    && named().any(|(member, _)| !need.admits(cluster, view, member, self.now))
                    && all_have(&|member| need.has_what_was_written(cluster, view, member, self.now))
                {
                    need.keep_for_named();
                }
                if has_snapshot {
                    need.judge_again();
                } else if all_have(&|member| need.admits(cluster, view, member, self.now)) {
                    need.end();
                    has_ended = true;
                } else if all_have(&|member| need.has_what_was_written(cluster, view, member, self.now)) {
                    // A scope that reads often, and stays on one replica, always has read there just now.
                    need.end_writes();
                    has_ended = true;
                }
            });
            if has_ended {
                memory.end_need(view);
            }
        }
        Ok(())
    }

    fn way_out<E>(
        &self,
        preferred: Option<Member>,
        mut is_usable: impl FnMut(Member) -> Result<bool, E>,
    ) -> Result<Shut, E> {
        for (cell, memory) in self.memories() {
            let (obstacle, position) =
                memory.need(|need| (need.obstacle(self.cluster, self.view), need.position().cloned()));
            let mut comes_too_late = false;
            match (obstacle, position) {
                // One that is known not to answer is not asked: that could take as long as a connection may.
                (Obstacle::Unasked, _) if self.view.answers(PRIMARY) => return Ok(Shut::Ask { cell: cell.clone() }),
                (Obstacle::Position(longest), Some(position)) if !self.view.eligible().is_empty() => {
                    // Where there is only time to ask, nobody looks, and no rate is known.
                    let by = self.now.saturating_add(longest);
                    let mut may_arrive = |member: Member| {
                        let arrives = longest.is_zero() || self.view.progress().may_have_by(member, &position, by);
                        comes_too_late |= !arrives;
                        Ok(arrives && is_usable(member)?)
                    };
                    if let Some(member) = self.closest(&position, longest, preferred, &mut may_arrive)? {
                        return Ok(Shut::Wait { cell: cell.clone(), member, position, longest });
                    }
                }
                _ => {}
            }
            if comes_too_late {
                // As if it had been waited for in vain.
                memory.need(|need| need.waited(Duration::ZERO, false));
            }
        }
        Ok(Shut::Pinned)
    }

    /// The replica to wait for until it has `position`: the `preferred` one, else the one that is the least behind. If there is
    /// only time to ask, each in turn, as chance will have it.
    fn closest<E>(
        &self,
        position: &Position,
        longest: Duration,
        preferred: Option<Member>,
        is_usable: &mut impl FnMut(Member) -> Result<bool, E>,
    ) -> Result<Option<Member>, E> {
        let progress = self.view.progress();
        let mut members = self.view.eligible().to_vec();
        if longest.is_zero() {
            let turn = self.now.subsec_micros() as usize % members.len();
            members.rotate_left(turn);
        } else {
            members.sort_by_key(|&member| (Some(member) != preferred, progress.lag(member).unwrap_or(Duration::MAX)));
        }
        for member in members {
            // To wait on one of several servers tells nothing of the one that is read from next.
            let lacks = !progress.has(member, position) && !progress.is_multiplexed(member);
            let otherwise = |need: &mut Need| need.admits_but_for_position(self.cluster, self.view, member, self.now);
            if lacks && self.memories().all(|(_, memory)| memory.need(otherwise)) && is_usable(member)? {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }
}
