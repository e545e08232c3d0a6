//! Where a read goes after a member failed it: the same routing table, without that member.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::routing::decide::decide;
use crate::routing::question::Read;

use super::steps::{self, ThisThread};
use super::thread::{self, LastDecision, Thread};
use super::{reads, scopes, table};

/// Where a read of the cluster of `alias` goes after the members `failed` failed it; `None` for an alias of no cluster.
/// The model is not known any more, and so no exemption applies.
///
/// The scope moves: what it may have seen on a member that failed it is required of the next one.
#[pyfunction]
pub fn reroute<'py>(py: Python<'py>, alias: &str, failed: Vec<String>) -> PyResult<Option<Bound<'py, PyString>>> {
    let table = table::in_force(py)?;
    let Some(&(index, _)) = table.places.get(alias) else { return Ok(None) };
    let entry = &table.entries[index];
    let cluster = &entry.cluster;
    let place = |alias: String| table.places.get(&alias).filter(|place| place.0 == index).map(|place| place.1);
    let failed: Vec<Member> = failed.into_iter().filter_map(place).collect();
    let scope = scopes::current(py)?;
    if let Some(cluster_state) = scope.as_ref().and_then(|node| node.get().scope.scope_state().get(cluster.name())) {
        // A member that never answered has shown nothing.
        for &member in &failed {
            cluster_state.leave_unanswered(cluster.members()[member as usize]);
        }
    }
    let before = if scope.is_none() { reads::last(py, cluster.name())? } else { None };
    let caller = ThisThread { py, table: &table, entry };
    let (member, reason) = steps::perform(&caller, &failed, |may_wait| {
        let scope = scope.as_ref().map(|node| &*node.get().scope);
        let question = Read { exempt: false, scope, instance: None, before, may_wait, caller: &caller };
        decide(cluster, &cluster.view_without(&failed), &question, thread::with_thread(Thread::draw))
    })?;
    thread::with_thread(|thread| {
        cluster.counters().count(&thread.shard, member, reason);
        thread.last.set(Some(LastDecision::Read(cluster.name(), member, reason)));
        thread.unpin();
    });
    Ok(Some(entry.strings[member as usize].bind(py).clone()))
}

/// The very string of this thread's last answer, if that was for a read that only the primary `alias` may serve; `None`
/// also where no replica serves late data.
#[pyfunction]
pub fn pinned_answer(py: Python<'_>, alias: &str) -> Option<Py<PyString>> {
    thread::with_thread(|thread| {
        let Some(LastDecision::Read(cluster, PRIMARY, Reason::Pinned)) = thread.last.get() else { return None };
        let is_here = table::present().is_some_and(|table| table.name(cluster) == alias);
        if is_here { thread.pinned(py) } else { None }
    })
}

/// The read of this thread's last decision was sent: a statement that follows without a decision is another one.
#[pyfunction]
pub fn spend_decision() {
    thread::with_thread(Thread::take_decision);
}

/// The state of the member `alias`: `"up"`, `"lagging"`, `"ejected"`, `"probing"` or `"down"`; `None` for an alias of
/// no cluster.
#[pyfunction]
pub fn member_state(alias: &str) -> Option<&'static str> {
    let table = table::present()?;
    let &(index, member) = table.places.get(alias)?;
    Some(table.entries[index].cluster.view().state(member).name())
}
