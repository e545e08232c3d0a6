//! Row 5 of the routing table: which members satisfy the requirement of a scope.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::requirement::{Obstacle, Requirement};
use crate::consistency::scope_state::{ClusterState, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::replication::position::Position;

/// The members that may serve a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eligible {
    /// Every member: nothing is required.
    All,
    /// The member that the read would go to anyway.
    Only(Member),
    /// The members that satisfy the requirement; not empty.
    Among(Vec<Member>),
}

impl Eligible {
    /// Whether `member` may serve.
    #[inline]
    #[must_use]
    pub fn admits(&self, member: Member) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => *only == member,
            Self::Among(members) => members.contains(&member),
        }
    }
}

/// What to do if no replica satisfies the requirement.
#[derive(Clone, Debug)]
pub enum Blocked {
    /// Read from the primary.
    Pinned,
    /// Query the primary for its position, and record the answer in `scope_state`.
    Ask {
        /// The state that the answer belongs to.
        scope_state: Arc<ScopeState>,
    },
    /// Wait for `member`, and record the outcome in `scope_state`.
    Wait {
        /// The state that the outcome belongs to.
        scope_state: Arc<ScopeState>,
        /// The replica that is likely to have the position first.
        member: Member,
        /// The position to wait for.
        position: Position,
        /// The longest time to wait.
        longest: Duration,
    },
}

/// The requirement of a scope, and the members that could satisfy it.
#[derive(Debug)]
pub struct EligibilityCheck<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The states of the members.
    pub view: &'a View,
    /// The states whose requirements count: of the request or the outermost scope, and of the thread or task.
    pub scope_states: [Option<&'a Arc<ScopeState>>; 2],
    /// The time.
    pub now: Duration,
}

impl<'a> EligibilityCheck<'a> {
    /// Whether anything is required.
    #[inline]
    #[must_use]
    pub fn is_needed(scope_states: [Option<&'a Arc<ScopeState>>; 2], cluster: &Cluster, view: &View) -> bool {
        let is_needed = |cluster_state: &ClusterState| cluster_state.has_requirement_in(view);
        scope_states.into_iter().flatten().any(|scope_state| scope_state.get(cluster.name()).is_some_and(is_needed))
    }

    fn cluster_states(&self) -> impl Iterator<Item = (&'a Arc<ScopeState>, &'a ClusterState)> {
        let name = self.cluster.name();
        let cluster_states = self
            .scope_states
            .into_iter()
            .flatten()
            .filter_map(move |scope_state| Some((scope_state, scope_state.get(name)?)));
        cluster_states.filter(|(_, cluster_state)| cluster_state.has_requirement_in(self.view))
    }

    /// Whether `member` has weight 0, and may lack what was required of the others before: it is always judged by the
    /// scope's writes.
    #[must_use]
    pub fn named_may_lack(scope_states: [Option<&'a Arc<ScopeState>>; 2], cluster: &Cluster, member: Member) -> bool {
        let keeps =
            |scope_state: &Arc<ScopeState>| scope_state.get(cluster.name()).is_some_and(ClusterState::keeps_for_named);
        cluster.weight(member) <= 0.0 && scope_states.into_iter().flatten().any(keeps)
    }

    fn admits_named(&self, member: Member) -> bool {
        let (cluster, view) = (self.cluster, self.view);
        let mut cluster_states =
            self.scope_states.into_iter().flatten().filter_map(|scope_state| scope_state.get(cluster.name()));
        !Self::named_may_lack(self.scope_states, cluster, member)
            || cluster_states.all(|cluster_state| {
                cluster_state.requirement(|requirement| requirement.admits_named(cluster, view, member, self.now))
            })
    }

    /// Whether `member` is known to satisfy the requirement.
    #[must_use]
    pub fn admits(&self, member: Member) -> bool {
        let (cluster, view) = (self.cluster, self.view);
        self.admits_named(member)
            && self.cluster_states().all(|(_, cluster_state)| {
                cluster_state
                    .judged(view.number(), member, |requirement| requirement.admits(cluster, view, member, self.now))
            })
    }

    /// Whether a query of `member` may find that it satisfies the requirement.
    #[must_use]
    pub fn may_admit(&self, member: Member) -> bool {
        let (cluster, view) = (self.cluster, self.view);
        self.cluster_states().all(|(_, cluster_state)| {
            cluster_state.requirement(|requirement| requirement.may_admit(cluster, view, member, self.now))
        })
    }

    /// The eligible members that `is_usable` says this thread can use. If there are none: what to do, waiting for
    /// `preferred` if that will help.
    ///
    /// # Errors
    /// That of `is_usable`.
    pub fn for_others<E>(
        &self,
        may_wait: bool,
        preferred: Option<Member>,
        mut is_usable: impl FnMut(Member) -> Result<bool, E>,
    ) -> Result<Result<Eligible, Blocked>, E> {
        let admitted = self.admitted(&mut is_usable)?;
        if !admitted.is_empty() {
            return Ok(Ok(Eligible::Among(admitted)));
        }
        Ok(Err(if may_wait { self.way_out(preferred, is_usable)? } else { Blocked::Pinned }))
    }

    /// The eligible members that satisfy the requirement. `is_usable` as for [`EligibilityCheck::for_others`].
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

    /// A requirement ends when every replica that reads may go to satisfies it, and not when the first one does: the
    /// next read may go to another. It does not wait for replicas that are out of service, which serve again only once
    /// they have their floor (see [`crate::health::admission`]). It does not end while a transaction is open on a
    /// replica, because the snapshot of the transaction stays as old as it is whatever the server has. `in_transaction`
    /// tells of this thread's connections; transactions of the scope's other threads are counted.
    ///
    /// # Errors
    /// That of `in_transaction`.
    pub fn forget_what_all_have<E>(&self, mut in_transaction: impl FnMut(Member) -> Result<bool, E>) -> Result<(), E> {
        let (cluster, view) = (self.cluster, self.view);
        let is_awaited = |member: Member, weight: f64| weight > 0.0 && view.awaits(member, self.now);
        let replicas =
            || (1..).zip(&cluster.settings().replicas).filter(|&(member, &(_, weight))| is_awaited(member, weight));
        // Without such a replica, it is unknown what the next one to serve will have.
        if replicas().next().is_none() {
            return Ok(());
        }
        for (_, cluster_state) in self.cluster_states() {
            cluster_state.restore_requirement(view, self.now);
            let mut has_ended = false;
            let all_have = |judge: &dyn Fn(Member) -> bool| replicas().all(|(member, _)| judge(member));
            let may_end = cluster_state.requirement(|requirement| {
                if !requirement.is_to_be_judged(view) {
                    return false;
                }
                requirement.settle(cluster, view);
                all_have(&|member| requirement.has_what_was_written(cluster, view, member, self.now))
            });
            if !may_end {
                continue;
            }
            // This may run Python, so no lock is held.
            let mut has_snapshot = cluster_state.has_snapshots();
            for (member, _) in replicas() {
                has_snapshot = has_snapshot || in_transaction(member)?;
            }
            let named = || (1..).zip(&cluster.settings().replicas).filter(|(_, (_, weight))| *weight <= 0.0);
            cluster_state.requirement(|requirement| {
                if !has_snapshot
                    && named().any(|(member, _)| !requirement.admits(cluster, view, member, self.now))
                    && all_have(&|member| requirement.has_what_was_written(cluster, view, member, self.now))
                {
                    requirement.keep_for_named();
                }
                if has_snapshot {
                    requirement.judge_again();
                } else if all_have(&|member| requirement.admits(cluster, view, member, self.now)) {
                    requirement.end();
                    has_ended = true;
                } else if all_have(&|member| requirement.has_what_was_written(cluster, view, member, self.now)) {
                    // A scope that reads often from one replica has always read there just now.
                    requirement.end_writes();
                    has_ended = true;
                }
            });
            if has_ended {
                cluster_state.end_requirement(view);
            }
        }
        Ok(())
    }

    fn way_out<E>(
        &self,
        preferred: Option<Member>,
        mut is_usable: impl FnMut(Member) -> Result<bool, E>,
    ) -> Result<Blocked, E> {
        for (scope_state, cluster_state) in self.cluster_states() {
            let (obstacle, position) = cluster_state.requirement(|requirement| {
                (requirement.obstacle(self.cluster, self.view), requirement.position().cloned())
            });
            let mut comes_too_late = false;
            match (obstacle, position) {
                // A primary that is known to be down is not queried: that could take as long as a connection attempt.
                (Obstacle::PositionUnknown, _) if self.view.answers(PRIMARY) => {
                    return Ok(Blocked::Ask { scope_state: scope_state.clone() });
                }
                (Obstacle::Position(longest), Some(position)) if !self.view.eligible().is_empty() => {
                    // Where there is only time for a query, no monitor runs, and no rate is known.
                    let by = self.now.saturating_add(longest);
                    let latency = self.cluster.latency(PRIMARY).unwrap_or_default();
                    let mut may_arrive = |member: Member| {
                        let arrives =
                            longest.is_zero() || self.view.replication().may_have_by(member, &position, by, latency);
                        comes_too_late |= !arrives;
                        Ok(arrives && is_usable(member)?)
                    };
                    if let Some(member) = self.closest(&position, longest, preferred, &mut may_arrive)? {
                        return Ok(Blocked::Wait { scope_state: scope_state.clone(), member, position, longest });
                    }
                }
                _ => {}
            }
            if comes_too_late {
                // This counts as a wait in vain.
                cluster_state.requirement(|requirement| requirement.waited(Duration::ZERO, false));
            }
        }
        Ok(Blocked::Pinned)
    }

    /// The replica to wait for until it has `position`: the `preferred` one, else the one with the least lag. If there
    /// is only time for a query, a replica at random.
    fn closest<E>(
        &self,
        position: &Position,
        longest: Duration,
        preferred: Option<Member>,
        is_usable: &mut impl FnMut(Member) -> Result<bool, E>,
    ) -> Result<Option<Member>, E> {
        let replication = self.view.replication();
        let mut members = self.view.eligible().to_vec();
        if longest.is_zero() {
            let turn = self.now.subsec_micros() as usize % members.len();
            members.rotate_left(turn);
        } else {
            members
                .sort_by_key(|&member| (Some(member) != preferred, replication.lag(member).unwrap_or(Duration::MAX)));
        }
        for member in members {
            // Waiting on one of several servers behind an alias tells nothing about the server that is read from next.
            let lacks = !replication.has(member, position) && !replication.is_multiplexed(member);
            let otherwise = |requirement: &mut Requirement| {
                requirement.admits_but_for_position(self.cluster, self.view, member, self.now)
            };
            if lacks
                && self.cluster_states().all(|(_, cluster_state)| cluster_state.requirement(otherwise))
                && is_usable(member)?
            {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }
}
