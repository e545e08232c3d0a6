//! The states in force: of the scope and of its thread or task.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::alias::Alias;
use crate::consistency::eligibility::EligibilityCheck;
use crate::consistency::scope::Effect;
use crate::consistency::scope_state::ScopeState;
use crate::member::Member;

use super::table::{self, Entry, Table};
use super::{clock, reads, scopes};

/// The states in force here: of the outermost scope and of the thread or task, which in a request are one.
pub fn scope_states(py: Python<'_>) -> PyResult<Vec<Arc<ScopeState>>> {
    let scope = scopes::current(py)?;
    let Some(scope) = scope.as_ref().map(|node| &node.get().scope) else {
        return Ok(reads::scope_state(py)?.into_iter().chain(scopes::record_state(py)?).collect());
    };
    let record = if scope.in_request() { scope.record().cloned() } else { scopes::record_state(py)? };
    let other = record.filter(|record| !Arc::ptr_eq(record, scope.scope_state()));
    Ok(std::iter::once(scope.scope_state().clone()).chain(other).collect())
}

/// The replicas that may serve a read here: they satisfy the requirement of the scope in force, and this thread can use
/// them.
pub fn eligible(py: Python<'_>, table: &Table, entry: &Entry) -> PyResult<Vec<Member>> {
    let (cluster, view) = (&entry.cluster, entry.cluster.view());
    let scope = scopes::current(py)?;
    let effect = scope.as_ref().and_then(|node| node.get().scope.effect(cluster.name()));
    let stale_ok = matches!(effect, Some(Effect::Replica { stale_ok: true, .. }));
    let scope_states = scope_states(py)?;
    let mut both = scope_states.iter();
    let scope_states = [both.next(), both.next()];
    if stale_ok || !cluster.settings().consistent || !EligibilityCheck::is_needed(scope_states, cluster, &view) {
        return Ok(view.eligible().to_vec());
    }
    let check = EligibilityCheck { cluster, view: &view, scope_states, now: clock::now() };
    let is_usable = |member| Ok(!table.lookup.in_transaction(entry.strings[member as usize].bind(py))?);
    check.admitted(is_usable)
}

/// A transaction that is open on a replica for as long as this object lives. Its snapshot stays as old as it is, so the
/// requirement of the scope in force does not end before it.
#[pyclass(frozen, module = "replicant._core")]
#[derive(Debug)]
pub struct OpenSnapshot {
    cluster: Option<Alias>,
    scope_states: Vec<Arc<ScopeState>>,
}

#[pymethods]
impl OpenSnapshot {
    /// A transaction began on this thread's connection to the member `alias`; an alias of no cluster concerns no scope.
    #[new]
    fn new(py: Python<'_>, alias: &str) -> PyResult<Self> {
        let table = table::in_force(py)?;
        let place = table.places.get(alias);
        let cluster = place.map(|&(index, _)| table.entries[index].cluster.name());
        let scope_states = scope_states(py)?;
        if let Some(cluster) = cluster {
            for scope_state in &scope_states {
                scope_state.of(cluster).began_snapshot();
            }
        }
        Ok(Self { cluster, scope_states })
    }
}

impl Drop for OpenSnapshot {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster {
            for scope_state in &self.scope_states {
                scope_state.of(cluster).ended_snapshot();
            }
        }
    }
}
