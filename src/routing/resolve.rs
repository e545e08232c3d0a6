//! Row 5 of the routing table: the members that satisfy what the scope requires.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::{Blocked, EligibilityCheck, Eligible};
use crate::consistency::requirement::Requirement;
use crate::consistency::scope::Effect;
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::settings::OnUnavailable;

use super::choose::Reader;
use super::question::{Caller, Mode, Read, Step};
use super::read_context::ReadContext;

/// Replaces reads from a member that serves no more, most often by the client before this scope began.
fn leave_those_that_serve_no_more(
    cluster: &Cluster,
    view: &View,
    scope_states: [Option<&Arc<ScopeState>>; 2],
    now: Duration,
) {
    for cluster_state in scope_states.into_iter().flatten().filter_map(|scope_state| scope_state.get(cluster.name())) {
        if let Some((Some(alias), _)) = cluster_state.requirement(|requirement| requirement.read())
            && cluster.member(alias).is_none_or(|member| !view.serves(member))
        {
            cluster_state.requirement(|requirement| requirement.leave(alias, now));
        }
    }
}

/// What row 5 decides.
pub(super) enum Row5 {
    /// These members satisfy the requirement.
    Eligible(Eligible),
    /// Only the primary satisfies it.
    Primary,
    /// A step that must be performed first.
    First(Step),
}

/// The members that satisfy the scope's requirement.
#[cold]
#[inline(never)]
pub(super) fn resolve_requirement<C: Caller>(
    cluster: &Cluster,
    view: &View,
    read: &Read<'_, C>,
    context: &mut ReadContext<'_>,
    scope_states: [Option<&Arc<ScopeState>>; 2],
) -> Result<Row5, C::Error> {
    let now = read.caller.now();
    if context.sticky_is_gone(cluster, view) {
        context.leave_sticky(cluster, view, now);
    }
    if context.stale_ok {
        return Ok(Row5::Eligible(Eligible::All));
    }
    leave_those_that_serve_no_more(cluster, view, scope_states, now);
    if context.named_has_changed(cluster, view)
        && let Some(cluster_state) = context.scope_state.and_then(|scope_state| scope_state.get(cluster.name()))
    {
        cluster_state.requirement(|requirement| requirement.require_read(None, now));
        cluster_state.reads_from(LastRead::Learned);
        context.last = LastRead::Learned;
    }
    let check = EligibilityCheck { cluster, view, scope_states, now };
    check.forget_what_all_have(|member| read.caller.in_transaction(member))?;
    // A transaction that is open there has a snapshot, which stays as old as it is.
    let is_usable = |member| Ok::<_, C::Error>(!read.caller.in_transaction(member)?);
    let wanted = context.named;
    if let Some(named) = wanted {
        // A replica that is known to lack something already is not queried about the rest: the scope stays where it is.
        let may_learn = read.may_wait && context.moves_from(cluster).is_some();
        let may_serve = check.admits(named) || (may_learn && check.may_admit(named));
        if !may_serve || !is_usable(named)? {
            context.named = None;
        }
    }
    if let Some(last) = context.moves_from(cluster)
        && let Some(scope_state) = context.scope_state
    {
        if read.may_wait {
            let target = context.named.or_else(|| context.sticky.and_then(|alias| cluster.member(alias)));
            let scope_state = scope_state.clone();
            return Ok(Row5::First(Step::QueryMemberPosition { scope_state, last, target }));
        }
        let cluster_state = scope_state.of(cluster.name());
        cluster_state.requirement(|requirement| requirement.require_read(Some(last), now));
        cluster_state.reads_from(LastRead::Learned);
        context.last = LastRead::Learned;
    }
    context.named = context.named.filter(|&named| check.admits(named));
    if let Some(named) = context.named {
        return Ok(Row5::Eligible(Eligible::Only(named)));
    }
    let told = |tell: fn(&Requirement) -> Option<Alias>| {
        scope_states
            .into_iter()
            .flatten()
            .find_map(|scope_state| scope_state.get(cluster.name())?.requirement(|requirement| tell(requirement)))
    };
    let before = || told(|requirement| requirement.read()?.0).or_else(|| told(Requirement::preferred));
    let last = || context.sticky.or_else(before).and_then(|alias| cluster.member(alias));
    let candidate = context.loaded.or_else(last).filter(|&member| cluster.is_eligible(view, member));
    if let Some(member) = candidate.filter(|&member| check.admits(member))
        && is_usable(member)?
    {
        return Ok(Row5::Eligible(Eligible::Only(member)));
    }
    if context.sticky.is_some_and(|alias| alias != cluster.name()) {
        context.leave_sticky(cluster, view, now);
    }
    // Waiting for a replica is of no use if the read then stays on the primary.
    let may_wait = read.may_wait && !context.keeps_to_primary && !context.follows_primary;
    Ok(match check.for_others(may_wait, wanted.or(candidate), is_usable)? {
        Ok(eligible) => Row5::Eligible(eligible),
        Err(Blocked::Pinned) => Row5::Primary,
        Err(Blocked::Ask { scope_state }) => Row5::First(Step::QueryPrimaryPosition(scope_state)),
        Err(Blocked::Wait { scope_state, member, position, longest }) => {
            Row5::First(Step::WaitForReplica { scope_state, member, position, longest })
        }
    })
}

/// Where a read goes that only the primary may serve, while the primary is down: `ON_UNAVAILABLE` decides. `before` is
/// the member that the scope read from: a scope that is served late data stays where it is, so that it does not go back
/// in time.
#[cold]
#[inline(never)]
pub(super) fn late(
    cluster: &Cluster,
    view: &View,
    context: &ReadContext<'_>,
    scope_states: [Option<&Arc<ScopeState>>; 2],
    effect: Option<Effect>,
    before: Option<Alias>,
    (draw, mode): (u64, Mode),
) -> Step {
    match cluster.settings().on_unavailable {
        // Where reads do not go to replicas, no replica stands in.
        _ if context.keeps_to_primary => return Step::primary(Reason::Pinned),
        OnUnavailable::Primary => return Step::primary(Reason::Pinned),
        OnUnavailable::Error => return Step::NoReplica,
        OnUnavailable::Replica => {}
    }
    let answers = |&member: &Member| member != PRIMARY && view.answers(member);
    let serves = |member: &Member| answers(member) && cluster.weight(*member) > 0.0;
    if let Some(Effect::Replica { member: Some(alias), .. }) = effect
        && let Some(named) = cluster.member(alias).filter(answers)
    {
        return Step::ServeLate(named);
    }
    let told = |tell: fn(&Requirement) -> Option<Alias>| {
        scope_states
            .into_iter()
            .flatten()
            .find_map(|scope_state| scope_state.get(cluster.name())?.requirement(|requirement| tell(requirement)))
    };
    let before = before.filter(|&alias| alias != cluster.name());
    let before = before.or_else(|| told(|requirement| requirement.read()?.0)).or_else(|| told(Requirement::preferred));
    let ReadContext { scope_state, sticky, .. } = *context;
    let reader = Reader { cluster, view, scope_state, sticky, eligible: Eligible::All, draw, mode };
    let chosen = match before.and_then(|alias| cluster.member(alias)).filter(serves) {
        Some(member) => Some(reader.keep(member, serves)),
        None => reader.choose(view.late(), |member| serves(&member)),
    };
    // Without any replica, the primary's own error says what is wrong.
    chosen.map_or(Step::primary(Reason::Pinned), |(member, _)| Step::ServeLate(member))
}
