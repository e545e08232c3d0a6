//! The context of a read: what its scopes and its instance hint decide before any member is chosen.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::EligibilityCheck;
use crate::consistency::requirement::Requirement;
use crate::consistency::scope::{Effect, Scope};
use crate::consistency::scope_state::{ClusterState, LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::settings::ReadTarget;

use super::question::{Read, Shown};

/// The context of a read.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer to a question of its own")]
pub(super) struct ReadContext<'a> {
    pub(super) in_request: bool,
    /// Positions and time pins are ignored.
    pub(super) stale_ok: bool,
    /// The replica that the scope names, while it is up.
    pub(super) named: Option<Member>,
    /// The instance hint sends the read to the primary.
    pub(super) follows_primary: bool,
    /// With no scope open: the member that loaded the instance hint.
    pub(super) loaded: Option<Member>,
    /// Reads do not go to replicas here.
    pub(super) keeps_to_primary: bool,
    /// The state of the outermost scope or of the request.
    pub(super) scope_state: Option<&'a Arc<ScopeState>>,
    /// The sticky member of the scope.
    pub(super) sticky: Option<Alias>,
    /// How often the server behind the sticky member had changed when the scope began to read there.
    changes: u32,
    /// The member that the scope read from last.
    pub(super) last: LastRead,
}

impl<'a> ReadContext<'a> {
    #[inline]
    pub(super) fn new<C>(cluster: &Cluster, view: &View, read: &Read<'a, C>, effect: Option<Effect>) -> Self {
        let settings = cluster.settings();
        let (named, stale_ok) = match effect {
            Some(Effect::Replica { member, stale_ok }) => (member, stale_ok),
            _ => (None, false),
        };
        let in_request = read.scope.is_some_and(Scope::in_request);
        let migrating = read.scope.is_some_and(Scope::migrating);
        let home = if in_request || settings.reads == ReadTarget::Primary {
            settings.reads
        } else {
            settings.outside_requests
        };
        let scope_state = read.scope.map(Scope::scope_state);
        let cluster_state = scope_state.and_then(|scope_state| scope_state.get(cluster.name()));
        Self {
            in_request,
            stale_ok,
            named: named.and_then(|alias| cluster.member(alias)).filter(|&member| !migrating && view.serves(member)),
            follows_primary: effect.is_none()
                && read.instance.is_some_and(|instance| instance.from == PRIMARY && !instance.exempt),
            loaded: read.instance.filter(|_| read.scope.is_none()).map(|instance| instance.from),
            keeps_to_primary: migrating
                || settings.replicas.is_empty()
                || (effect.is_none() && home == ReadTarget::Primary),
            scope_state,
            sticky: cluster_state.filter(|_| settings.sticky).and_then(ClusterState::sticky),
            changes: cluster_state.map_or(0, |cluster_state| cluster_state.changes(LastRead::Sticky)),
            last: cluster_state.filter(|_| settings.has_positions).map_or(LastRead::Sticky, ClusterState::last),
        }
    }

    /// Whether row 5 does not apply: nothing is required, and the scope can stay where it is.
    #[inline]
    pub(super) fn is_free(&self, cluster: &Cluster, view: &View, scope_states: [Option<&Arc<ScopeState>>; 2]) -> bool {
        !cluster.settings().consistent
            || (!self.sticky_is_gone(cluster, view)
                && !EligibilityCheck::is_needed(scope_states, cluster, view)
                && self.named.is_none_or(|named| !EligibilityCheck::named_may_lack(scope_states, cluster, named))
                && self.moves_from(cluster).is_none()
                && !self.named_has_changed(cluster, view))
    }

    /// The sticky member, if it was found to satisfy the requirement and nothing has changed since.
    #[inline]
    pub(super) fn proven(
        &self,
        cluster: &Cluster,
        view: &View,
        scope_states: [Option<&Arc<ScopeState>>; 2],
    ) -> Option<Member> {
        if self.stale_ok || self.named.is_some() || self.loaded.is_some() || self.moves_from(cluster).is_some() {
            return None;
        }
        let member = self.sticky.and_then(|alias| cluster.member(alias))?;
        let is_proven = |scope_state: &Arc<ScopeState>| {
            scope_state.get(cluster.name()).is_none_or(|cluster_state| {
                !cluster_state.has_requirement_in(view) || cluster_state.verdict(view.number(), member)
            })
        };
        let is_here = cluster.is_eligible(view, member) && !self.has_changed(cluster, view, member);
        (is_here && scope_states.into_iter().flatten().all(is_proven)).then_some(member)
    }

    /// The member that this read moves away from, which may have shown more than the read's target has. Judged only
    /// where positions can tell.
    #[inline]
    pub(super) fn moves_from(&self, cluster: &Cluster) -> Option<Alias> {
        let keeps_to_primary = self.named.is_none() && (self.follows_primary || self.keeps_to_primary);
        if !cluster.settings().has_positions || self.stale_ok || keeps_to_primary {
            return None;
        }
        let target = self.named.map(|member| cluster.members()[member as usize]).or(self.sticky);
        let last = match self.last {
            LastRead::Sticky => self.sticky,
            LastRead::Named(alias) => Some(alias),
            LastRead::Learned => None,
        };
        last.filter(|_| last != target)
    }

    /// Records that the read goes to the named replica, or to the sticky member.
    pub(super) fn reads_from(&self, cluster: &Cluster, view: &View, named: Option<Member>) {
        let settings = cluster.settings();
        if settings.has_positions
            && settings.consistent
            && !self.stale_ok
            && let Some(scope_state) = self.scope_state
        {
            let named = named.map(|member| cluster.members()[member as usize]);
            let last = named.filter(|_| self.sticky != named).map_or(LastRead::Sticky, LastRead::Named);
            if last != self.last {
                let cluster_state = scope_state.of(cluster.name());
                if let LastRead::Named(alias) = last
                    && let Some(member) = cluster.member(alias)
                {
                    cluster_state.set_changes(last, view.replication().changes(member));
                }
                cluster_state.reads_from(last);
            }
        }
    }

    /// Whether the sticky replica is no longer eligible, or may lack what the scope read there: its server is another
    /// one, or has lost data.
    #[inline]
    pub(super) fn sticky_is_gone(&self, cluster: &Cluster, view: &View) -> bool {
        let is_here = |alias| {
            let is_same = |member| cluster.is_eligible(view, member) && !self.has_changed(cluster, view, member);
            cluster.member(alias).is_some_and(is_same)
        };
        self.sticky.is_some_and(|alias| alias != cluster.name() && !is_here(alias))
    }

    /// Whether the server behind `member`, the sticky one, has changed since the scope began to read there.
    #[inline]
    fn has_changed(&self, cluster: &Cluster, view: &View, member: Member) -> bool {
        member != PRIMARY && cluster.settings().has_positions && view.replication().changes(member) != self.changes
    }

    /// Whether the server behind the replica that the scope named last has changed since.
    #[inline]
    pub(super) fn named_has_changed(&self, cluster: &Cluster, view: &View) -> bool {
        let LastRead::Named(alias) = self.last else { return false };
        let cluster_state = self.scope_state.and_then(|scope_state| scope_state.get(cluster.name()));
        let before = cluster_state.map_or(0, |cluster_state| cluster_state.changes(self.last));
        cluster.member(alias).is_some_and(|member| view.replication().changes(member) != before)
    }

    /// Leaves the sticky member. What the scope may have seen there becomes part of the requirement.
    pub(super) fn leave_sticky(&mut self, cluster: &Cluster, view: &View, now: Duration) {
        if let Some(alias) = self.sticky.take()
            && let Some(cluster_state) = self.scope_state.and_then(|scope_state| scope_state.get(cluster.name()))
        {
            if cluster.member(alias).is_some_and(|member| self.has_changed(cluster, view, member)) {
                // The present server does not stand for what the former one showed.
                cluster_state.requirement(|requirement| requirement.require_read(None, now));
            } else {
                cluster_state.requirement(|requirement| requirement.require_reads_of(cluster, view, alias, now));
            }
            cluster_state.unstick(alias);
        }
    }
}

/// The last read of a thread or task with no scope open, while a member may lack what it showed.
pub(super) struct Before {
    pub(super) shown: Shown,
    /// The member that showed it, while that is eligible and still the same server.
    pub(super) stays: Option<Member>,
}

impl Before {
    /// `None` if every replica has what was shown, so that the next read may go to any of them.
    #[inline(never)]
    pub(super) fn new(cluster: &Cluster, view: &View, shown: Shown, now: Duration) -> Option<Self> {
        let settings = cluster.settings();
        if !settings.consistent || !settings.sticky {
            return None;
        }
        let mut requirement = Requirement::default();
        requirement.require_read(Some(shown.by), shown.at);
        let has = |&member: &Member| requirement.admits(cluster, view, member, now);
        let mut replicas = (1..).zip(&settings.replicas).filter(|(_, (_, weight))| *weight > 0.0);
        if replicas.all(|(member, _)| has(&member)) {
            return None;
        }
        let stays = cluster.member(shown.by).filter(|&member| cluster.is_eligible(view, member)).filter(has);
        Some(Self { shown, stays })
    }

    /// The same as a state of a scope whose reads stay where they are.
    pub(super) fn scope_state(self, cluster: &Cluster, context: &mut ReadContext<'_>) -> Arc<ScopeState> {
        let scope_state = ScopeState::default();
        scope_state.of(cluster.name()).requirement(|requirement| {
            requirement.require_read(Some(self.shown.by), self.shown.at);
            // The primary is not queried, because this state and the answer are forgotten after this read.
            requirement.waited(Duration::ZERO, false);
        });
        context.sticky = self.stays.filter(|_| self.shown.in_command).map(|_| self.shown.by);
        Arc::new(scope_state)
    }
}
