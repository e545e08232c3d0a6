//! Rows 8 to 11 of the routing table: the member that the scope stays with, a choice by weight, or `ON_UNAVAILABLE`.

use std::sync::Arc;

use crate::alias::Alias;
use crate::balance::pool::Pool;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Eligible;
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::settings::OnUnavailable;
use crate::support::random::unit;

use super::question::{Decision, Mode, Undecided};
use crate::reason::Reason;

/// One read that has come as far as the pool.
pub(super) struct Reader<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) view: &'a View,
    /// What the scope remembers.
    pub(super) scope_state: Option<&'a Arc<ScopeState>>,
    pub(super) sticky: Option<Alias>,
    pub(super) eligible_members: Eligible,
    pub(super) draw: u64,
    pub(super) mode: Mode,
}

impl Reader<'_> {
    #[inline]
    pub(super) fn rows_8_to_11<E>(&self) -> Result<Decision, Undecided<E>> {
        let (cluster, view) = (self.cluster, self.view);
        // The pool may hold the primary alone, which is then no choice.
        let chosen = if view.eligible().is_empty() {
            self.trial().map(|chosen| self.keep(chosen, |&member| cluster.is_eligible(view, member)))
        } else {
            self.choose(view.pool(), |member| cluster.is_eligible(view, member))
        };
        chosen.or_else(|| self.unavailable()).ok_or(Undecided::NoReplicaAvailable)
    }

    /// Rows 8 and 9: the scope's member while it is `eligible`, else one from `pool`.
    pub(super) fn choose(&self, pool: &Pool, eligible: impl Fn(Member) -> bool) -> Option<Decision> {
        let (cluster, turn) = (self.cluster, self.cluster.turn());
        let may_serve = |&member: &Member| eligible(member) && self.eligible_members.admits(member);
        if let Some(member) = self.sticky.and_then(|alias| cluster.member(alias)).filter(may_serve) {
            return Some((member, Reason::Sticky));
        }
        if let Some(member) = self.trial() {
            return Some(self.keep(member, may_serve));
        }
        let among;
        let pool = match &self.eligible_members {
            Eligible::All => pool,
            Eligible::Only(member) => {
                among = self.pool_among(std::slice::from_ref(member));
                &among
            }
            Eligible::Among(members) => {
                among = self.pool_among(members);
                &among
            }
        };
        let chosen = match self.mode {
            Mode::Decide => pool.choose(turn, self.draw)?,
            Mode::Explain => pool.preview(turn, self.draw)?,
        };
        Some(self.keep(chosen, may_serve))
    }

    /// The scope sticks to `chosen`.
    pub(super) fn keep(&self, chosen: Member, may_serve: impl Fn(&Member) -> bool) -> Decision {
        let cluster = self.cluster;
        let Some(scope_state) = self.scope_state.filter(|_| cluster.settings().sticky) else {
            return (chosen, Reason::Balanced);
        };
        let cluster_state = scope_state.of(cluster.name());
        // Two threads of one scope may choose at once; both then read from the first one's choice.
        let winner = cluster_state.stick(self.sticky, cluster.members()[chosen as usize]);
        if winner == cluster.members()[chosen as usize] {
            cluster_state.set_changes(LastRead::Sticky, self.view.replication().changes(chosen));
        }
        match cluster.member(winner).filter(|member| *member != chosen && may_serve(member)) {
            Some(member) => (member, Reason::Sticky),
            None => (chosen, Reason::Balanced),
        }
    }

    /// Where nobody probes, a member that was out of service is tried by one read.
    #[inline]
    fn trial(&self) -> Option<Member> {
        if !self.view.has_trials() {
            return None;
        }
        // Who must see something cannot be served by one whose progress nobody follows.
        self.view.trial(self.mode == Mode::Decide, |_| self.eligible_members == Eligible::All)
    }

    /// The pool of those who have what must be seen; the primary always has, unless the scope had better stay where it is.
    fn pool_among(&self, members: &[Member]) -> Pool {
        let own = Some(PRIMARY)
            .filter(|&primary| self.view.serves(primary) && matches!(self.eligible_members, Eligible::Among(_)));
        self.cluster.pool_of(self.view, members.iter().copied().chain(own))
    }

    /// Row 11: `None` if the read is refused.
    fn unavailable(&self) -> Option<Decision> {
        let settings = self.cluster.settings();
        match settings.on_unavailable {
            OnUnavailable::Replica => {
                let (cluster, view) = (self.cluster, self.view);
                let answers = |member| member != PRIMARY && view.answers(member) && cluster.weight(member) > 0.0;
                // Not even a late one: a request must not fail for a replica's sake.
                let member = self.choose(view.late(), answers).map_or(PRIMARY, |(member, _)| member);
                Some((member, Reason::Unavailable))
            }
            OnUnavailable::Primary if settings.primary_spill >= 1.0 || self.spill() < settings.primary_spill => {
                Some((PRIMARY, Reason::Unavailable))
            }
            OnUnavailable::Primary | OnUnavailable::Error => None,
        }
    }

    /// This scope's draw from 0 to 1, so that either all of its reads are let through or none.
    fn spill(&self) -> f64 {
        let draw = unit(self.draw);
        self.scope_state.map_or(draw, |scope_state| scope_state.of(self.cluster.name()).spill(draw))
    }
}
