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
use super::question::{Decision, Mode, Read, Step};
use super::read_context::{Before, ReadContext};
use super::resolve::{Row5, late, resolve_requirement};

/// Decides which member of `cluster` serves the read, given the states in `view`.
///
/// `draw` is 64 random bits. The caller counts the decision if a read follows.
///
/// # Errors
/// The error of a function of the question.
#[inline]
pub fn decide<I, C, L, N, E>(cluster: &Cluster, view: &View, read: Read<'_, I, C, L, N>, draw: u64) -> Result<Step, E>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<ScopeState>>, E>,
    N: Fn() -> Duration,
{
    next_step(cluster, view, read, draw, Mode::Decide)
}

/// The decision that [`decide`] would lead to, without a trace: it works on copies of all states. It is `pinned` also
/// where a server would have to be queried or waited for first. `None` if the read would be refused.
///
/// # Errors
/// The error of a function of the question.
pub fn explain<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    read: Read<'_, I, C, L, N>,
    draw: u64,
) -> Result<Option<Decision>, E>
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
    Ok(match next_step(cluster, view, read, draw, Mode::Explain)? {
        Step::Decided(member, reason) => Some((member, reason)),
        Step::ServeLate(member) => Some((member, Reason::Unavailable)),
        Step::QueryPrimaryPosition(_) | Step::QueryMemberPosition { .. } | Step::WaitForReplica { .. } => {
            Some((PRIMARY, Reason::Pinned))
        }
        Step::NoReplica => None,
    })
}

#[inline]
fn next_step<I, C, L, N, E>(
    cluster: &Cluster,
    view: &View,
    mut read: Read<'_, I, C, L, N>,
    draw: u64,
    mode: Mode,
) -> Result<Step, E>
where
    I: FnMut(Member) -> Result<bool, E>,
    C: Fn() -> Result<bool, E>,
    L: Fn() -> Result<Option<Arc<ScopeState>>, E>,
    N: Fn() -> Duration,
{
    if read.exempt {
        return Ok(Step::primary(Reason::Exempt));
    }
    let effect = read.scope.and_then(|scope| scope.effect(cluster.name()));
    if effect == Some(Effect::Primary) {
        return Ok(Step::primary(Reason::UsePrimary));
    }
    if (read.in_transaction)(PRIMARY)? {
        return Ok(Step::primary(Reason::Transaction));
    }
    // In a test, replicas that share the primary's connection share its session.
    if (read.is_changed)()? && !cluster.settings().are_mirrors {
        return Ok(Step::primary(Reason::SessionState));
    }
    let before = match read.before {
        Some(before) if read.scope.is_none() => Before::new(cluster, view, before, (read.now)()),
        _ => None,
    };
    if read.scope.is_none() && read.instance.is_none() && (read.record)()?.is_none() {
        // No scope, no instance hint, no requirement: choose statelessly.
        if cluster.settings().keeps_to_primary() {
            return Ok(Step::primary(Reason::Default));
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
                return Ok(reader.rows_8_to_11());
            }
            Some(Before { shown, stays: Some(member) }) => {
                let reason = if shown.in_command { Reason::Sticky } else { Reason::Balanced };
                return Ok(Step::Decided(*member, reason));
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
    // In a request they are one state, except for a body that was suspended and continues in another request.
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
            Row5::Eligible(eligible_members) => eligible_members,
            Row5::First(step) => return Ok(step),
            Row5::Primary if view.answers(PRIMARY) => return Ok(Step::primary(Reason::Pinned)),
            Row5::Primary => return Ok(late(cluster, view, &context, scope_states, effect, before, (draw, mode))),
        }
    };
    if let Some(member) = context.named.filter(|&member| eligible_members.admits(member)) {
        context.reads_from(cluster, view, Some(member));
        return Ok(Step::Decided(member, Reason::UseReplica));
    }
    if context.follows_primary {
        return Ok(Step::primary(Reason::Instance));
    }
    if context.keeps_to_primary {
        return Ok(Step::primary(Reason::Default));
    }
    if let Some(from) = context.loaded.filter(|from| view.eligible().contains(from) && eligible_members.admits(*from)) {
        return Ok(Step::Decided(from, Reason::Instance));
    }
    if context.last != LastRead::Sticky {
        context.reads_from(cluster, view, None);
    }
    let ReadContext { scope_state, sticky, .. } = context;
    Ok(Reader { cluster, view, scope_state, sticky, eligible_members, draw, mode }.rows_8_to_11())
}
