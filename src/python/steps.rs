//! The steps that a decision may need first: querying a server for its position, or waiting for a replica.

use std::sync::Arc;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::replication::state::Observation;
use crate::routing::question::{Caller, Decision, Step};

use super::observations::changed_servers;
use super::position::Position;
use super::table::{Entry, Table};
use super::{clock, errors, scopes};

/// This thread, as it reads from a cluster.
pub struct ThisThread<'a> {
    pub py: Python<'a>,
    pub table: &'a Table,
    pub entry: &'a Entry,
}

impl Caller for ThisThread<'_> {
    type Error = PyErr;

    #[inline]
    fn in_transaction(&self, member: Member) -> PyResult<bool> {
        self.table.lookup.in_transaction(self.entry.strings[member as usize].bind(self.py))
    }

    #[inline]
    fn is_changed(&self) -> PyResult<bool> {
        self.table.lookup.is_changed(self.entry.strings[PRIMARY as usize].bind(self.py))
    }

    #[inline]
    fn record(&self) -> PyResult<Option<Arc<ScopeState>>> {
        scopes::record_state(self.py)
    }

    #[inline]
    fn now(&self) -> Duration {
        clock::now()
    }
}

/// How often a read may query the primary: for the scope and for the thread. While another thread of the scope goes on
/// writing, no answer would be the last.
const MOST_QUERIES: u8 = 2;

/// Performs the steps of a read until it is decided. `next` decides, and is told whether the read may wait; the members
/// `failed` have just failed the read.
#[inline]
pub fn perform(
    caller: &ThisThread<'_>,
    failed: &[Member],
    mut next: impl FnMut(bool) -> PyResult<Step>,
) -> PyResult<Decision> {
    let &ThisThread { py, table, entry } = caller;
    let (mut may_wait, mut queries) = (true, 0);
    loop {
        match next(may_wait)? {
            Step::Decided(member, reason) => return Ok((member, reason)),
            Step::ServeLate(member) => return serve_late(py, entry, member),
            Step::NoReplica => return Err(errors::no_replica_available(py, table, &entry.cluster)),
            Step::QueryPrimaryPosition(scope_state) => {
                queries += 1;
                may_wait = query_primary(py, entry, &scope_state)? && queries < MOST_QUERIES;
            }
            // A member that has just failed is not queried for its position.
            Step::QueryMemberPosition { scope_state, last, .. }
                if entry.cluster.member(last).is_some_and(|last| failed.contains(&last)) =>
            {
                let cluster_state = scope_state.of(entry.cluster.name());
                cluster_state.requirement(|requirement| requirement.require_read(Some(last), clock::now()));
                cluster_state.reads_from(LastRead::Learned);
            }
            Step::QueryMemberPosition { scope_state, last, target } => {
                may_wait = query_last(py, table, entry, &scope_state, last, target)?;
            }
            Step::WaitForReplica { scope_state, member, position, longest } => {
                may_wait = wait(py, table, entry, &scope_state, member, position, longest)?;
            }
        }
    }
}

/// Queries the primary for its position on this thread's connection, and records it in `scope_state`. Returns whether
/// this thread may do such things: a thread that runs an event loop may not.
#[cold]
fn query_primary(py: Python<'_>, entry: &Entry, scope_state: &ScopeState) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let asked_at = clock::now();
    let position = ask_primary(py, entry)?;
    tell(scope_state, &entry.cluster, position.as_ref(), asked_at);
    Ok(true)
}

fn ask_primary(py: Python<'_>, entry: &Entry) -> PyResult<Option<Position>> {
    let answer = py
        .import("replicant.connections.causality")?
        .call_method1("query_position", (&entry.strings[PRIMARY as usize],))?;
    Ok(answer.extract()?)
}

/// Records in `scope_state` the position that the primary had when it was queried, after `asked_at`.
pub fn tell(scope_state: &ScopeState, cluster: &Cluster, position: Option<&Position>, asked_at: Duration) {
    let position = position.map(|position| &position.0);
    scope_state
        .of(cluster.name())
        .requirement(|requirement| requirement.position_received(position, asked_at, clock::now()));
}

/// Waits for a replica on this thread's connection, and records the outcome in `scope_state` and in the cluster.
/// Returns whether this thread may do such things.
#[cold]
fn wait(
    py: Python<'_>,
    table: &Table,
    entry: &Entry,
    scope_state: &ScopeState,
    member: Member,
    position: crate::replication::position::Position,
    longest: Duration,
) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let begun = clock::now();
    let arguments = (&entry.strings[member as usize], Position(position), longest.as_secs_f64());
    let answer = py.import("replicant.connections.causality")?.call_method1("wait", arguments)?;
    let reached: Option<Position> = answer.extract()?;
    // It had the position when it answered, which was before now.
    let at = clock::now();
    let cluster_state = scope_state.of(entry.cluster.name());
    cluster_state.requirement(|requirement| requirement.waited(at.saturating_sub(begun), reached.is_some()));
    if reached.is_none() && entry.cluster.is_unwatched(&entry.cluster.view()) {
        // Without a monitor, nothing else detects that the position can never be reached.
        if cluster_state.requirement(|requirement| requirement.is_to_be_confirmed())
            && let Some(Position(primary)) = ask_primary(py, entry)?
        {
            cluster_state.requirement(|requirement| requirement.confirm(&primary));
        }
        // The next read queries again.
        return Ok(false);
    }
    if let Some(Position(position)) = reached {
        take_in(table, &entry.cluster, member, position, at);
    }
    Ok(true)
}

/// Queries the member that a scope read from last for its position, on this thread's connection, and records it in
/// `scope_state`; and queries `target`, where the read is to go, for whether it has that position. Returns whether this
/// thread may do such things.
#[cold]
fn query_last(
    py: Python<'_>,
    table: &Table,
    entry: &Entry,
    scope_state: &ScopeState,
    last: Alias,
    target: Option<Member>,
) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let (cluster, at) = (&entry.cluster, clock::now());
    let position_of = |member: Member| -> PyResult<Option<Position>> {
        let causality = py.import("replicant.connections.causality")?;
        Ok(causality.call_method1("position", (&entry.strings[member as usize],))?.extract()?)
    };
    // A member that is known to be down is not queried: that could take as long as a connection attempt.
    let answers = |member: &Member| cluster.view().answers(*member);
    let position = match cluster.member(last).filter(answers) {
        Some(PRIMARY) => ask_primary(py, entry)?,
        Some(member) => position_of(member)?,
        None => None,
    };
    let cluster_state = scope_state.of(cluster.name());
    if let (Some(Position(position)), Some(member)) = (position, cluster.member(last)) {
        let observe = |member, position, at| {
            take_in(table, cluster, member, position, at);
        };
        cluster_state.requirement(|requirement| requirement.require(&position, at));
        observe(member, position.clone(), at);
        if let Some(target) = target.filter(|&target| !cluster.view().replication().has(target, &position)) {
            // The answer is taken in also if it lacks something: the member is then not queried again before the next
            // probe.
            let at = clock::now();
            if let Some(Position(position)) = position_of(target)? {
                observe(target, position, at);
            }
        }
    } else {
        cluster_state.requirement(|requirement| requirement.require_read(Some(last), clock::now()));
    }
    cluster_state.reads_from(LastRead::Learned);
    Ok(true)
}

/// Takes in that `member` was at `position` at `at`.
fn take_in(
    table: &Table,
    cluster: &Cluster,
    member: Member,
    position: crate::replication::position::Position,
    at: Duration,
) {
    let seen = [Observation { member, position: Some(position), at, server: None }];
    cluster.observe_by(&seen, clock::now());
    changed_servers(table, cluster, &seen);
}

/// Reports that `member` serves late data because the primary is down; returns that as a decision.
#[cold]
fn serve_late(py: Python<'_>, entry: &Entry, member: Member) -> PyResult<Decision> {
    let aliases = (&entry.strings[PRIMARY as usize], &entry.strings[member as usize]);
    py.import("replicant.connections.observations")?.call_method1("served_late", aliases)?;
    Ok((member, Reason::Unavailable))
}

/// Whether this thread runs an event loop, which must not be blocked.
pub fn runs_a_loop(py: Python<'_>) -> PyResult<bool> {
    Ok(!py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "_get_running_loop"))?.is_none())
}
