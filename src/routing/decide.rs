//! Where a read goes, and why: the routing table (`docs/architecture.md`), row by row.

use std::sync::Arc;
use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::consistency::eligibility::Eligible;
use crate::consistency::scope::{Effect, Scope};
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;

use super::choose::Reader;
use super::question::{Caller, Decision, Mode, Read, Step};
use super::read_context::{Before, ReadContext};
use super::resolve::{Row5, late, resolve_requirement};

/// Decides which member of `cluster` serves the read, given the states in `view`.
///
/// `draw` is 64 random bits. The caller counts the decision if a read follows.
///
/// # Errors
/// That of the caller.
#[inline]
pub fn decide<C: Caller>(cluster: &Cluster, view: &View, read: &Read<'_, C>, draw: u64) -> Result<Step, C::Error> {
    next_step(cluster, view, read, draw, Mode::Decide)
}

/// The decision that [`decide`] would lead to, without a trace: it works on copies of all states. It is `pinned` also
/// where a server would have to be queried or waited for first. `None` if the read would be refused.
///
/// # Errors
/// That of the caller.
pub fn explain<C: Caller>(
    cluster: &Cluster,
    view: &View,
    read: &Read<'_, C>,
    draw: u64,
) -> Result<Option<Decision>, C::Error> {
    let scope = read.scope.map(|scope| scope.copied(cluster.name()));
    let caller = &WithCopies { caller: read.caller, cluster: cluster.name() };
    let &Read { exempt, instance, before, may_wait, .. } = read;
    let read = Read { exempt, scope: scope.as_ref(), instance, before, may_wait, caller };
    Ok(match next_step(cluster, view, &read, draw, Mode::Explain)? {
        Step::Decided(member, reason) => Some((member, reason)),
        Step::ServeLate(member) => Some((member, Reason::Unavailable)),
        Step::QueryPrimaryPosition(_) | Step::QueryMemberPosition { .. } | Step::WaitForReplica { .. } => {
            Some((PRIMARY, Reason::Pinned))
        }
        Step::NoReplica => None,
    })
}

/// A caller that leaves no trace in the state of its thread or task.
struct WithCopies<'a, C> {
    caller: &'a C,
    cluster: Alias,
}

impl<C: Caller> Caller for WithCopies<'_, C> {
    type Error = C::Error;

    fn in_transaction(&self, member: Member) -> Result<bool, C::Error> {
        self.caller.in_transaction(member)
    }

    fn is_changed(&self) -> Result<bool, C::Error> {
        self.caller.is_changed()
    }

    fn record(&self) -> Result<Option<Arc<ScopeState>>, C::Error> {
        Ok(self.caller.record()?.map(|state| Arc::new(state.copied(self.cluster))))
    }

    fn now(&self) -> Duration {
        self.caller.now()
    }
}

#[inline]
fn next_step<C: Caller>(
    cluster: &Cluster,
    view: &View,
    read: &Read<'_, C>,
    draw: u64,
    mode: Mode,
) -> Result<Step, C::Error> {
    if read.exempt {
        return Ok(Step::primary(Reason::Exempt));
    }
    let effect = read.scope.and_then(|scope| scope.effect(cluster.name()));
    if effect == Some(Effect::Primary) {
        return Ok(Step::primary(Reason::UsePrimary));
    }
    if read.caller.in_transaction(PRIMARY)? {
        return Ok(Step::primary(Reason::Transaction));
    }
    // In a test, replicas that share the primary's connection share its session.
    if read.caller.is_changed()? && !cluster.settings().are_mirrors {
        return Ok(Step::primary(Reason::SessionState));
    }
    let before = match read.before {
        Some(before) if read.scope.is_none() => Before::new(cluster, view, before, read.caller.now()),
        _ => None,
    };
    if read.scope.is_none() && read.instance.is_none() && read.caller.record()?.is_none() {
        // No scope, no instance hint, no requirement: choose statelessly.
        if cluster.settings().keeps_to_primary() {
            return Ok(Step::primary(Reason::Default));
        }
        match &before {
            None => {
                let reader =
                    Reader { cluster, view, scope_state: None, sticky: None, eligible: Eligible::All, draw, mode };
                return Ok(reader.rows_8_to_11());
            }
            Some(Before { shown, stays: Some(member) }) => {
                let reason = if shown.in_command { Reason::Sticky } else { Reason::Balanced };
                return Ok(Step::Decided(*member, reason));
            }
            Some(_) => {}
        }
    }
    let mut context = ReadContext::new(cluster, view, read, effect);
    let seen = before.map(|before| before.scope_state(cluster, &mut context));
    let own;
    let record = if context.in_request {
        read.scope.and_then(Scope::record)
    } else {
        own = read.caller.record()?;
        own.as_ref()
    };
    // In a request they are one state, except for a body that was suspended and continues in another request.
    let is_other =
        |record: &&Arc<ScopeState>| !context.scope_state.is_some_and(|scope_state| Arc::ptr_eq(scope_state, record));
    let scope_states = [context.scope_state.or(seen.as_ref()), record.filter(is_other)];
    let eligible = if context.is_free(cluster, view, scope_states) {
        Eligible::All
    } else if let Some(member) = context.proven(cluster, view, scope_states)
        && !read.caller.in_transaction(member)?
    {
        Eligible::Only(member)
    } else {
        let before = context.sticky;
        match resolve_requirement(cluster, view, read, &mut context, scope_states)? {
            Row5::Eligible(eligible) => eligible,
            Row5::First(step) => return Ok(step),
            Row5::Primary if view.answers(PRIMARY) => return Ok(Step::primary(Reason::Pinned)),
            Row5::Primary => return Ok(late(cluster, view, &context, scope_states, effect, before, (draw, mode))),
        }
    };
    if let Some(member) = context.named.filter(|&member| eligible.admits(member)) {
        context.reads_from(cluster, view, Some(member));
        return Ok(Step::Decided(member, Reason::UseReplica));
    }
    if context.follows_primary {
        return Ok(Step::primary(Reason::Instance));
    }
    if context.keeps_to_primary {
        return Ok(Step::primary(Reason::Default));
    }
    if let Some(from) = context.loaded.filter(|from| view.eligible().contains(from) && eligible.admits(*from)) {
        return Ok(Step::Decided(from, Reason::Instance));
    }
    if context.last != LastRead::Sticky {
        context.reads_from(cluster, view, None);
    }
    let ReadContext { scope_state, sticky, .. } = context;
    Ok(Reader { cluster, view, scope_state, sticky, eligible, draw, mode }.rows_8_to_11())
}
