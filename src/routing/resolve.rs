//! Row 5 of the routing table: the members that satisfy what the scope requires.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::{Approach, Gate, Shut};
use crate::consistency::requirement::Need;
use crate::consistency::scope::Effect;
use crate::consistency::scope_state::{Cell, Last};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::settings::OnUnavailable;

use super::choose::Reader;
use super::question::{Decision, Mode, Read, Undecided};
use super::read_context::Around;

/// A member that was read from, most often by the client before this scope began, and that serves no more.
fn leave_those_that_serve_no_more(cluster: &Cluster, view: &View, cells: [Option<&Arc<Cell>>; 2], now: Duration) {
    for memory in cells.into_iter().flatten().filter_map(|cell| cell.get(cluster.name())) {
        if let Some((Some(alias), _)) = memory.need(|need| need.read())
            && cluster.member(alias).is_none_or(|member| !view.serves(member))
        {
            memory.need(|need| need.leave(alias, now));
        }
    }
}

/// Who may serve a scope that must see something; `None` if nobody but the primary.
#[cold]
#[inline(never)]
pub(super) fn row_5<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: &mut Read<'_, I, C, L, N>,
    around: &mut Around<'_>,
    cells: [Option<&Arc<Cell>>; 2],
) -> Result<Option<Gate>, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    N: Fn() -> Duration,
{
    let now = (read.now)();
    if around.sticky_is_gone(cluster, view) {
        around.leave_sticky(cluster, view, now);
    }
    if around.stale_ok {
        return Ok(Some(Gate::Open));
    }
    leave_those_that_serve_no_more(cluster, view, cells, now);
    if around.named_has_changed(cluster, view)
        && let Some(memory) = around.cell.and_then(|cell| cell.get(cluster.name()))
    {
        memory.need(|need| need.require_read(None, now));
        memory.reads_from(Last::Learned);
        around.last = Last::Learned;
    }
    let approach = Approach { cluster, view, cells, now };
    approach.forget_what_all_have(&mut read.in_transaction)?;
    // A transaction that is open there has a snapshot, which stays as old as it is.
    let mut is_usable = |member| Ok::<_, E>(!(read.in_transaction)(member)?);
    let wanted = around.named;
    if let Some(named) = wanted {
        // One that is known to lack something already is not asked about the rest: the scope stays where it is.
        let may_learn = read.may_wait && around.moves_from(cluster).is_some();
        let may_serve = approach.admits(named) || (may_learn && approach.may_admit(named));
        if !may_serve || !is_usable(named)? {
            around.named = None;
        }
    }
    if let Some(last) = around.moves_from(cluster)
        && let Some(cell) = around.cell
    {
        if read.may_wait {
            let target = around.named.or_else(|| around.sticky.and_then(|alias| cluster.member(alias)));
            return Err(Undecided::Learn { cell: cell.clone(), last, target });
        }
        let memory = cell.of(cluster.name());
        memory.need(|need| need.require_read(Some(last), now));
        memory.reads_from(Last::Learned);
        around.last = Last::Learned;
    }
    around.named = around.named.filter(|&named| approach.admits(named));
    if let Some(named) = around.named {
        return Ok(Some(Gate::Only(named)));
    }
    let told = |tell: fn(&Need) -> Option<Alias>| {
        cells.into_iter().flatten().find_map(|cell| cell.get(cluster.name())?.need(|need| tell(need)))
    };
    let before = || told(|need| need.read()?.0).or_else(|| told(Need::preferred));
    let last = || around.sticky.or_else(before).and_then(|alias| cluster.member(alias));
    let candidate = around.loaded.or_else(last).filter(|&member| cluster.is_eligible(view, member));
    if let Some(member) = candidate.filter(|&member| approach.admits(member))
        && is_usable(member)?
    {
        return Ok(Some(Gate::Only(member)));
    }
    if around.sticky.is_some_and(|alias| alias != cluster.name()) {
        around.leave_sticky(cluster, view, now);
    }
    // It is of no use to wait for a replica if the read then stays at home.
    let may_wait = read.may_wait && !around.stays_home && !around.follows_primary;
    match approach.for_others(may_wait, wanted.or(candidate), is_usable)? {
        Ok(gate) => Ok(Some(gate)),
        Err(Shut::Pinned) => Ok(None),
        Err(Shut::Ask { cell }) => Err(Undecided::Ask(cell)),
        Err(Shut::Wait { cell, member, position, longest }) => Err(Undecided::Wait { cell, member, position, longest }),
    }
}

/// Where a read goes that only the primary may serve, while that one is down: where `ON_UNAVAILABLE` says. `before` is the
/// member that the scope read from: a scope that is served late data stays where it is, so that it does not go back in time.
#[cold]
#[inline(never)]
pub(super) fn late<E>(
    cluster: &Cluster,
    view: &View,
    around: &Around<'_>,
    cells: [Option<&Arc<Cell>>; 2],
    effect: Option<Effect>,
    before: Option<Alias>,
    (draw, mode): (u64, Mode),
) -> Result<Decision, Undecided<E>> {
    match cluster.settings().on_unavailable {
        // Where reads do not go to replicas, no replica stands in.
        _ if around.stays_home => return Ok((PRIMARY, Reason::Pinned)),
        OnUnavailable::Primary => return Ok((PRIMARY, Reason::Pinned)),
        OnUnavailable::Error => return Err(Undecided::NoReplicaAvailable),
        OnUnavailable::Replica => {}
    }
    let answers = |&member: &Member| member != PRIMARY && view.answers(member);
    let serves = |member: &Member| answers(member) && cluster.weight(*member) > 0.0;
    if let Some(Effect::Replica { member: Some(alias), .. }) = effect
        && let Some(named) = cluster.member(alias).filter(answers)
    {
        return Err(Undecided::Late(named));
    }
    let told = |tell: fn(&Need) -> Option<Alias>| {
        cells.into_iter().flatten().find_map(|cell| cell.get(cluster.name())?.need(|need| tell(need)))
    };
    let before = before.filter(|&alias| alias != cluster.name());
    let before = before.or_else(|| told(|need| need.read()?.0)).or_else(|| told(Need::preferred));
    let Around { cell, sticky, .. } = *around;
    let reader = Reader { cluster, view, cell, sticky, gate: Gate::Open, draw, mode };
    let chosen = match before.and_then(|alias| cluster.member(alias)).filter(serves) {
        Some(member) => Some(reader.keep(member, serves)),
        None => reader.choose(view.late(), |member| serves(&member)),
    };
    // Without any, the primary's own error says what is wrong.
    chosen.map_or(Ok((PRIMARY, Reason::Pinned)), |(member, _)| Err(Undecided::Late(member)))
}
