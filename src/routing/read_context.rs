//! What the code around a read, and the instance at hand, say about the read.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Approach;
use crate::consistency::requirement::Need;
use crate::consistency::scope::{Effect, Scope};
use crate::consistency::scope_state::{Cell, Last, Memory};
use crate::member::{Member, PRIMARY};
use crate::settings::Home;

use super::question::{Read, Shown};

/// What the code around a read, and the instance at hand, say about it.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer to a question of its own")]
pub(super) struct Around<'a> {
    pub(super) in_request: bool,
    /// Positions and pins are set aside.
    pub(super) stale_ok: bool,
    /// The replica asked for by name, while it may serve.
    pub(super) named: Option<Member>,
    /// The instance at hand leads to the primary.
    pub(super) follows_primary: bool,
    /// With no scope open: the member that loaded the instance at hand.
    pub(super) loaded: Option<Member>,
    /// Reads do not go to replicas here.
    pub(super) stays_home: bool,
    /// What the outermost scope or the request remembers.
    pub(super) cell: Option<&'a Arc<Cell>>,
    /// The member that the scope reads from.
    pub(super) sticky: Option<Alias>,
    /// How often its server had changed when the scope began to.
    changes: u32,
    /// Where the scope read last.
    pub(super) last: Last,
}

impl<'a> Around<'a> {
    #[inline]
    pub(super) fn new<I, C, L, N>(
        cluster: &Cluster,
        view: &View,
        read: &Read<'a, I, C, L, N>,
        effect: Option<Effect>,
    ) -> Self {
        let settings = cluster.settings();
        let (named, stale_ok) = match effect {
            Some(Effect::Replica { member, stale_ok }) => (member, stale_ok),
            _ => (None, false),
        };
        let in_request = read.scope.is_some_and(Scope::in_request);
        let migrating = read.scope.is_some_and(Scope::migrating);
        let home =
            if in_request || settings.reads == Home::Primary { settings.reads } else { settings.outside_requests };
        let cell = read.scope.map(Scope::cell);
        let memory = cell.and_then(|cell| cell.get(cluster.name()));
        Self {
            in_request,
            stale_ok,
            named: named.and_then(|alias| cluster.member(alias)).filter(|&member| !migrating && view.serves(member)),
            follows_primary: effect.is_none()
                && read.instance.is_some_and(|instance| instance.from == PRIMARY && !instance.exempt),
            loaded: read.instance.filter(|_| read.scope.is_none()).map(|instance| instance.from),
            stays_home: migrating || settings.replicas.is_empty() || (effect.is_none() && home == Home::Primary),
            cell,
            sticky: memory.filter(|_| settings.sticky).and_then(Memory::sticky),
            changes: memory.map_or(0, |memory| memory.changes(Last::Sticky)),
            last: memory.filter(|_| settings.has_positions).map_or(Last::Sticky, Memory::last),
        }
    }

    /// Whether row 5 has nothing to say: there is nothing that must be seen, and the scope can stay where it is.
    #[inline]
    pub(super) fn is_free(&self, cluster: &Cluster, view: &View, cells: [Option<&Arc<Cell>>; 2]) -> bool {
        !cluster.settings().consistent
            || (!self.sticky_is_gone(cluster, view)
                && !Approach::is_needed(cells, cluster, view)
                && self.named.is_none_or(|named| !Approach::named_may_lack(cells, cluster, named))
                && self.moves_from(cluster).is_none()
                && !self.named_has_changed(cluster, view))
    }

    /// The member that the scope reads from, if that was found to have what must be seen and nothing has changed since.
    #[inline]
    pub(super) fn proven(&self, cluster: &Cluster, view: &View, cells: [Option<&Arc<Cell>>; 2]) -> Option<Member> {
        if self.stale_ok || self.named.is_some() || self.loaded.is_some() || self.moves_from(cluster).is_some() {
            return None;
        }
        let member = self.sticky.and_then(|alias| cluster.member(alias))?;
        let is_proven = |cell: &Arc<Cell>| {
            cell.get(cluster.name())
                .is_none_or(|memory| !memory.has_need_in(view) || memory.verdict(view.number(), member))
        };
        let is_here = cluster.is_eligible(view, member) && !self.has_changed(cluster, view, member);
        (is_here && cells.into_iter().flatten().all(is_proven)).then_some(member)
    }

    /// The member that this read moves away from, which may have shown more than where it goes has. Judged where there are
    /// positions, which tell.
    #[inline]
    pub(super) fn moves_from(&self, cluster: &Cluster) -> Option<Alias> {
        let stays_home = self.named.is_none() && (self.follows_primary || self.stays_home);
        if !cluster.settings().has_positions || self.stale_ok || stays_home {
            return None;
        }
        let target = self.named.map(|member| cluster.members()[member as usize]).or(self.sticky);
        let last = match self.last {
            Last::Sticky => self.sticky,
            Last::Named(alias) => Some(alias),
            Last::Learned => None,
        };
        last.filter(|_| last != target)
    }

    /// The read goes to this replica, since it was asked for by name; or where the scope sticks.
    pub(super) fn reads_from(&self, cluster: &Cluster, view: &View, named: Option<Member>) {
        let settings = cluster.settings();
        if settings.has_positions
            && settings.consistent
            && !self.stale_ok
            && let Some(cell) = self.cell
        {
            let named = named.map(|member| cluster.members()[member as usize]);
            let last = named.filter(|_| self.sticky != named).map_or(Last::Sticky, Last::Named);
            if last != self.last {
                let memory = cell.of(cluster.name());
                if let Last::Named(alias) = last
                    && let Some(member) = cluster.member(alias)
                {
                    memory.set_changes(last, view.progress().changes(member));
                }
                memory.reads_from(last);
            }
        }
    }

    /// Whether the replica that the scope reads from no longer serves, or may lack by now what the scope read there: its
    /// server is another one, or has lost what it had.
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
        member != PRIMARY && cluster.settings().has_positions && view.progress().changes(member) != self.changes
    }

    /// Whether the server behind the replica that the scope named last has changed since.
    #[inline]
    pub(super) fn named_has_changed(&self, cluster: &Cluster, view: &View) -> bool {
        let Last::Named(alias) = self.last else { return false };
        let memory = self.cell.and_then(|cell| cell.get(cluster.name()));
        let before = memory.map_or(0, |memory| memory.changes(self.last));
        cluster.member(alias).is_some_and(|member| view.progress().changes(member) != before)
    }

    /// The scope no longer reads from where it did, and must see elsewhere what it may have seen there.
    pub(super) fn leave_sticky(&mut self, cluster: &Cluster, view: &View, now: Duration) {
        if let Some(alias) = self.sticky.take()
            && let Some(memory) = self.cell.and_then(|cell| cell.get(cluster.name()))
        {
            if cluster.member(alias).is_some_and(|member| self.has_changed(cluster, view, member)) {
                // It does not stand for what its server had shown before.
                memory.need(|need| need.require_read(None, now));
            } else {
                memory.need(|need| need.require_reads_of(cluster, view, alias, now));
            }
            memory.unstick(alias);
        }
    }
}

/// What a thread or task has read with no scope open, while a member may lack it.
pub(super) struct Before {
    pub(super) shown: Shown,
    /// The member that showed it, while that one may serve and is still the same server.
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
        let mut need = Need::default();
        need.require_read(Some(shown.by), shown.at);
        let has = |&member: &Member| need.admits(cluster, view, member, now);
        let mut replicas = (1..).zip(&settings.replicas).filter(|(_, (_, weight))| *weight > 0.0);
        if replicas.all(|(member, _)| has(&member)) {
            return None;
        }
        let stays = cluster.member(shown.by).filter(|&member| cluster.is_eligible(view, member)).filter(has);
        Some(Self { shown, stays })
    }

    /// The same as what a scope must see, which stays where it is.
    pub(super) fn cell(self, cluster: &Cluster, around: &mut Around<'_>) -> Arc<Cell> {
        let cell = Cell::default();
        cell.of(cluster.name()).need(|need| {
            need.require_read(Some(self.shown.by), self.shown.at);
            // The primary is not asked: the cell is forgotten after this read, and the answer with it.
            need.waited(Duration::ZERO, false);
        });
        around.sticky = self.stays.filter(|_| self.shown.in_command).map(|_| self.shown.by);
        Arc::new(cell)
    }
}
