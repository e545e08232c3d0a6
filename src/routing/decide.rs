//! Where a read goes, and why: the routing table (`docs/architecture.md`), row by row.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Gate;
use crate::consistency::scope::{Effect, Scope};
use crate::consistency::scope_state::{Cell, Last};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;

use super::choose::Reader;
use super::question::{Decision, Mode, Read, Undecided};
use super::read_context::{Around, Before};
use super::resolve::{late, row_5};

/// Answers a question: which member of `cluster` serves the read, now that `view` says who may.
///
/// `draw` are 64 random bits. Who asks for a read that will follow counts
/// the answer.
///
/// # Errors
/// [`Undecided::NoReplicaAvailable`] if no replica may serve and `ON_UNAVAILABLE` or `PRIMARY_SPILL` forbid the primary;
/// [`Undecided::Failed`] with the error of what the question asks; [`Undecided::Ask`], [`Undecided::Learn`] and
/// [`Undecided::Wait`] with what to do before it is put again, unless it `may_wait` no more; [`Undecided::Late`] with what to
/// do before its decision counts.
#[inline]
pub fn decide<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: Read<'_, I, C, L, N>,
    draw: u64,
) -> Result<Decision, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<Cell>>, E>,
    N: Fn() -> Duration,
{
    answer(cluster, view, read, draw, Mode::Decide)
}

/// What [`decide`] would answer to the same question, without a trace: it is put to copies of all that is remembered.
/// `pinned` also where a server would have to be asked or waited for first.
///
/// # Errors
/// [`Undecided::NoReplicaAvailable`] and [`Undecided::Failed`], as there.
pub fn explain<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: Read<'_, I, C, L, N>,
    draw: u64,
) -> Result<Decision, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<Cell>>, E>,
    N: Fn() -> Duration,
{
    let Read { exempt, scope, instance, in_transaction, is_changed, record, before, may_wait, now } = read;
    let scope = scope.map(|scope| scope.copied(cluster.name()));
    let record = || Ok(record()?.map(|cell| Arc::new(cell.copied(cluster.name()))));
    let read =
        Read { exempt, scope: scope.as_ref(), instance, in_transaction, is_changed, record, before, may_wait, now };
    match answer(cluster, view, read, draw, Mode::Explain) {
        Err(Undecided::Ask(_) | Undecided::Learn { .. } | Undecided::Wait { .. }) => Ok((PRIMARY, Reason::Pinned)),
        answer => answer.or_else(Undecided::decided),
    }
}

#[inline]
fn answer<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    mut read: Read<'_, I, C, L, N>,
    draw: u64,
    mode: Mode,
) -> Result<Decision, Undecided<E>>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<Cell>>, E>,
    N: Fn() -> Duration,
{
    if read.exempt {
        return Ok((PRIMARY, Reason::Exempt));
    }
    let effect = read.scope.and_then(|scope| scope.effect(cluster.name()));
    if effect == Some(Effect::Primary) {
        return Ok((PRIMARY, Reason::UsePrimary));
    }
    if (read.in_transaction)(PRIMARY)? {
        return Ok((PRIMARY, Reason::Transaction));
    }
    // In a test, replicas that share the primary's connection share its session.
    if (read.is_changed)()? && !cluster.settings().are_mirrors {
        return Ok((PRIMARY, Reason::SessionState));
    }
    let before = match read.before {
        Some(before) if read.scope.is_none() => Before::new(cluster, view, before, (read.now)()),
        _ => None,
    };
    if read.scope.is_none() && read.instance.is_none() && (read.record)()?.is_none() {
        // Nothing around the read has anything to say, and there is nothing to keep its choice.
        if cluster.settings().stays_home() {
            return Ok((PRIMARY, Reason::Default));
        }
        match &before {
            None => {
                let reader = Reader { cluster, view, cell: None, sticky: None, gate: Gate::Open, draw, mode };
                return reader.rows_8_to_11();
            }
            Some(Before { shown, stays: Some(member) }) => {
                return Ok((*member, if shown.in_command { Reason::Sticky } else { Reason::Balanced }));
            }
            Some(_) => {}
        }
    }
    let mut around = Around::new(cluster, view, &read, effect);
    let seen = before.map(|before| before.cell(cluster, &mut around));
    let own;
    let record = if around.in_request {
        read.scope.and_then(Scope::record)
    } else {
        own = (read.record)()?;
        own.as_ref()
    };
    // In a request they are one, but for a body that was suspended and goes on in another request.
    let is_other = |record: &&Arc<Cell>| !around.cell.is_some_and(|cell| Arc::ptr_eq(cell, record));
    let cells = [around.cell.or(seen.as_ref()), record.filter(is_other)];
    let gate = if around.is_free(cluster, view, cells) {
        Gate::Open
    } else if let Some(member) = around.proven(cluster, view, cells)
        && !(read.in_transaction)(member)?
    {
        Gate::Only(member)
    } else {
        let before = around.sticky;
        match row_5(cluster, view, &mut read, &mut around, cells)? {
            Some(gate) => gate,
            None if view.answers(PRIMARY) => return Ok((PRIMARY, Reason::Pinned)),
            None => return late(cluster, view, &around, cells, effect, before, (draw, mode)),
        }
    };
    if let Some(member) = around.named.filter(|&member| gate.admits(member)) {
        around.reads_from(cluster, view, Some(member));
        return Ok((member, Reason::UseReplica));
    }
    if around.follows_primary {
        return Ok((PRIMARY, Reason::Instance));
    }
    if around.stays_home {
        return Ok((PRIMARY, Reason::Default));
    }
    if let Some(from) = around.loaded.filter(|from| view.eligible().contains(from) && gate.admits(*from)) {
        return Ok((from, Reason::Instance));
    }
    if around.last != Last::Sticky {
        around.reads_from(cluster, view, None);
    }
    let Around { cell, sticky, .. } = around;
    Reader { cluster, view, cell, sticky, gate, draw, mode }.rows_8_to_11()
}
