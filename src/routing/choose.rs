//! Rows 8 to 11 of the routing table: the member that the scope stays with, a choice by weight, or `ON_UNAVAILABLE`.

use std::sync::Arc;

use crate::alias::Alias;
use crate::balance::pool::Pool;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Eligible;
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::settings::OnUnavailable;
use crate::support::random::unit;

use super::question::{Decision, Mode, Step};

/// A read that has reached rows 8 to 11.
pub(super) struct Reader<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) view: &'a View,
    /// The state of the scope.
    pub(super) scope_state: Option<&'a Arc<ScopeState>>,
    pub(super) sticky: Option<Alias>,
    pub(super) eligible: Eligible,
    pub(super) draw: u64,
    pub(super) mode: Mode,
}

impl Reader<'_> {
    #[inline]
    pub(super) fn rows_8_to_11(&self) -> Step {
        let (cluster, view) = (self.cluster, self.view);
        // The pool may hold the primary alone, which is then no choice among members.
        let chosen = if view.eligible().is_empty() {
            self.trial().map(|chosen| self.keep(chosen, |&member| cluster.is_eligible(view, member)))
        } else {
            self.choose(view.pool(), |member| cluster.is_eligible(view, member))
        };
        match chosen.or_else(|| self.unavailable()) {
            Some((member, reason)) => Step::Decided(member, reason),
            None => Step::NoReplica,
        }
    }

    /// Rows 8 and 9: the sticky member while it is `eligible`, else one from `pool`.
    pub(super) fn choose(&self, pool: &Pool, eligible: impl Fn(Member) -> bool) -> Option<Decision> {
        let (cluster, turn) = (self.cluster, self.cluster.turn());
        let may_serve = |&member: &Member| eligible(member) && self.eligible.admits(member);
        if let Some(member) = self.sticky.and_then(|alias| cluster.member(alias)).filter(may_serve) {
            return Some((member, Reason::Sticky));
        }
        if let Some(member) = self.trial() {
            return Some(self.keep(member, may_serve));
        }
        let among;
        let pool = match &self.eligible {
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

    /// Makes `chosen` the sticky member of the scope.
    pub(super) fn keep(&self, chosen: Member, may_serve: impl Fn(&Member) -> bool) -> Decision {
        let cluster = self.cluster;
        let Some(scope_state) = self.scope_state.filter(|_| cluster.settings().sticky) else {
            return (chosen, Reason::Balanced);
        };
        let cluster_state = scope_state.of(cluster.name());
        // Two threads of one scope may choose at once; then both read from the first one's choice.
        let winner = cluster_state.stick(self.sticky, cluster.members()[chosen as usize]);
        if winner == cluster.members()[chosen as usize] {
            cluster_state.set_changes(LastRead::Sticky, self.view.replication().changes(chosen));
        }
        match cluster.member(winner).filter(|member| *member != chosen && may_serve(member)) {
            Some(member) => (member, Reason::Sticky),
            None => (chosen, Reason::Balanced),
        }
    }

    /// Without a monitor, one read tries a member that was out of service.
    #[inline]
    fn trial(&self) -> Option<Member> {
        if !self.view.has_trials() {
            return None;
        }
        // A member whose position is not followed cannot be known to satisfy a requirement.
        self.view.trial(self.mode == Mode::Decide, |_| self.eligible == Eligible::All)
    }

    /// The pool of the members that satisfy the requirement. The primary always does, but is left out where the scope
    /// should stay where it is.
    fn pool_among(&self, members: &[Member]) -> Pool {
        let own =
            Some(PRIMARY).filter(|&primary| self.view.serves(primary) && matches!(self.eligible, Eligible::Among(_)));
        self.cluster.pool_of(self.view, members.iter().copied().chain(own))
    }

    /// Row 11: `None` if the read is refused.
    fn unavailable(&self) -> Option<Decision> {
        let settings = self.cluster.settings();
        match settings.on_unavailable {
            OnUnavailable::Replica => {
                let (cluster, view) = (self.cluster, self.view);
                let answers = |member| member != PRIMARY && view.answers(member) && cluster.weight(member) > 0.0;
                // Without any replica the primary serves: a request must not fail because replicas are down.
                let member = self.choose(view.late(), answers).map_or(PRIMARY, |(member, _)| member);
                Some((member, Reason::Unavailable))
            }
            OnUnavailable::Primary if settings.primary_spill >= 1.0 || self.spill() < settings.primary_spill => {
                Some((PRIMARY, Reason::Unavailable))
            }
            OnUnavailable::Primary | OnUnavailable::Error => None,
        }
    }

    /// The scope's draw from 0 to 1, so that either all of its reads are let through to the primary or none.
    fn spill(&self) -> f64 {
        let draw = unit(self.draw);
        self.scope_state.map_or(draw, |scope_state| scope_state.of(self.cluster.name()).spill(draw))
    }
}
