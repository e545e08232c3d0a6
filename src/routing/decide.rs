//! Where a read goes, and why: the routing table (`docs/architecture.md`), row by row.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Eligible;
use crate::consistency::scope::{Effect, Scope};
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;

use super::choose::Reader;
use super::question::{Decision, Mode, Read, Undecided};
use super::read_context::{Before, ReadContext};
use super::resolve::{late, resolve_requirement};

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
    L: Fn() -> Result<Option<Arc<ScopeState>>, E>,
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
    L: Fn() -> Result<Option<Arc<ScopeState>>, E>,
    N: Fn() -> Duration,
{
    let Read { exempt, scope, instance, in_transaction, is_changed, record, before, may_wait, now } = read;
    let scope = scope.map(|scope| scope.copied(cluster.name()));
    let record = || Ok(record()?.map(|scope_state| Arc::new(scope_state.copied(cluster.name()))));
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
    L: Fn() -> Result<Option<Arc<ScopeState>>, E>,
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
        if cluster.settings().keeps_to_primary() {
            return Ok((PRIMARY, Reason::Default));
        }
        match &before {
            None => {
                let reader = Reader {
                    cluster,
                    view,
                    scope_state: None,
                    sticky: None,
                    eligible_members: Eligible::All,
                    draw,
                    mode,
                };
                return reader.rows_8_to_11();
            }
            Some(Before { shown, stays: Some(member) }) => {
                return Ok((*member, if shown.in_command { Reason::Sticky } else { Reason::Balanced }));
            }
            Some(_) => {}
        }
    }
    let mut context = ReadContext::new(cluster, view, &read, effect);
    let seen = before.map(|before| before.scope_state(cluster, &mut context));
    let own;
    let record = if context.in_request {
        read.scope.and_then(Scope::record)
    } else {
        own = (read.record)()?;
        own.as_ref()
    };
    // In a request they are one, but for a body that was suspended and goes on in another request.
    let is_other =
        |record: &&Arc<ScopeState>| !context.scope_state.is_some_and(|scope_state| Arc::ptr_eq(scope_state, record));
    let scope_states = [context.scope_state.or(seen.as_ref()), record.filter(is_other)];
    let eligible_members = if context.is_free(cluster, view, scope_states) {
        Eligible::All
    } else if let Some(member) = context.proven(cluster, view, scope_states)
        && !(read.in_transaction)(member)?
    {
        Eligible::Only(member)
    } else {
        let before = context.sticky;
        match resolve_requirement(cluster, view, &mut read, &mut context, scope_states)? {
            Some(eligible_members) => eligible_members,
            None if view.answers(PRIMARY) => return Ok((PRIMARY, Reason::Pinned)),
            None => return late(cluster, view, &context, scope_states, effect, before, (draw, mode)),
        }
    };
    if let Some(member) = context.named.filter(|&member| eligible_members.admits(member)) {
        context.reads_from(cluster, view, Some(member));
        return Ok((member, Reason::UseReplica));
    }
    if context.follows_primary {
        return Ok((PRIMARY, Reason::Instance));
    }
    if context.keeps_to_primary {
        return Ok((PRIMARY, Reason::Default));
    }
    if let Some(from) = context.loaded.filter(|from| view.eligible().contains(from) && eligible_members.admits(*from)) {
        return Ok((from, Reason::Instance));
    }
    if context.last != LastRead::Sticky {
        context.reads_from(cluster, view, None);
    }
    let ReadContext { scope_state, sticky, .. } = context;
    Reader { cluster, view, scope_state, sticky, eligible_members, draw, mode }.rows_8_to_11()
}
