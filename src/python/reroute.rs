//! Where a read goes that a member has failed: the same table, without the member.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::consistency::scope_state::LastRead;
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::routing::decide::decide;
use crate::routing::question::{Read, Undecided};

use super::thread::{self, LastDecision, Thread};
use super::{clock, errors, reads, scopes, steps, table};

/// One for the scope and one for the thread, as in [`super::router::read`].
const MOST_QUESTIONS: u8 = 2;

/// Where a read of the cluster of `alias` goes, now that the members `failed` have failed it; `None` for an alias of no
/// cluster. Which model is read is not known any more, and so no exemption.
///
/// The scope moves: what it may have seen on a member that failed it must see where it goes.
#[pyfunction]
pub fn elsewhere<'py>(py: Python<'py>, alias: &str, failed: Vec<String>) -> PyResult<Option<Bound<'py, PyString>>> {
    let table = table::in_force(py)?;
    let Some(&(index, _)) = table.places.get(alias) else { return Ok(None) };
    let entry = &table.entries[index];
    let cluster = &entry.cluster;
    let place = |alias: String| table.places.get(&alias).filter(|place| place.0 == index).map(|place| place.1);
    let failed: Vec<Member> = failed.into_iter().filter_map(place).collect();
    let scope = scopes::current(py)?;
    if let Some(cluster_state) = scope.as_ref().and_then(|node| node.get().scope.scope_state().get(cluster.name())) {
        // One that never answered has shown nothing that must be seen again.
        for &member in &failed {
            cluster_state.leave_unanswered(cluster.members()[member as usize]);
        }
    }
    let before = if scope.is_none() { reads::last(py, cluster.name())? } else { None };
    let (mut may_wait, mut questions) = (true, 0);
    loop {
        let question = Read {
            exempt: false,
            scope: scope.as_ref().map(|node| &*node.get().scope),
            instance: None,
            in_transaction: |member: Member| table.lookup.in_transaction(entry.strings[member as usize].bind(py)),
            is_changed: || table.lookup.is_changed(entry.strings[PRIMARY as usize].bind(py)),
            record: || scopes::record_state(py),
            before,
            may_wait,
            now: clock::now,
        };
        let view = cluster.view_without(&failed);
        let draw = thread::with_thread(Thread::draw);
        let answer = match decide(cluster, &view, question, draw) {
            Err(Undecided::Late(member)) => Ok(steps::late(py, entry, member)?),
            answer => answer,
        };
        match answer {
            Ok((member, reason)) => {
                thread::with_thread(|thread| {
                    cluster.counters().count(&thread.shard, member, reason);
                    thread.last.set(Some(LastDecision::Read(cluster.name(), member, reason)));
                    thread.unpin();
                });
                return Ok(Some(entry.strings[member as usize].bind(py).clone()));
            }
            Err(Undecided::NoReplicaAvailable) => return Err(errors::no_replica_available(py, &table, cluster)),
            Err(Undecided::Failed(error)) => return Err(error),
            // Whoever has just failed is not to be asked how far it was.
            Err(Undecided::Learn { scope_state, last, .. })
                if cluster.member(last).is_some_and(|last| failed.contains(&last)) =>
            {
                let cluster_state = scope_state.of(cluster.name());
                cluster_state.requirement(|requirement| requirement.require_read(Some(last), clock::now()));
                cluster_state.reads_from(LastRead::Learned);
            }
            Err(Undecided::Learn { scope_state, last, target }) => {
                may_wait = steps::learn(py, entry, &scope_state, last, target)?;
            }
            Err(Undecided::Ask(scope_state)) => {
                questions += 1;
                may_wait = steps::ask(py, entry, &scope_state)? && questions < MOST_QUESTIONS;
            }
            Err(Undecided::Wait { scope_state, member, position, longest }) => {
                may_wait = steps::wait(py, entry, &scope_state, member, position, longest)?;
            }
            Err(Undecided::Late(_)) => unreachable!("it is a decision by now"),
        }
    }
}

/// The very string that the router answered this thread's last question with, if that was about a read that only the primary
/// `alias` may serve; `None` also where no replica serves late data.
#[pyfunction]
pub fn pinned_answer(py: Python<'_>, alias: &str) -> Option<Py<PyString>> {
    thread::with_thread(|thread| {
        let Some(LastDecision::Read(cluster, PRIMARY, Reason::Pinned)) = thread.last.get() else { return None };
        let is_here = table::present().is_some_and(|table| table.name(cluster) == alias);
        if is_here { thread.pinned(py) } else { None }
    })
}

/// The read of this thread's last decision was sent: what follows without a decision is another one.
#[pyfunction]
pub fn spend_decision() {
    thread::with_thread(Thread::take_decision);
}

/// What is known of the member behind `alias`: `"up"`, `"lagging"`, `"ejected"`, `"probing"` or `"down"`; `None` for an alias
/// of no cluster.
#[pyfunction]
pub fn member_state(alias: &str) -> Option<&'static str> {
    let table = table::present()?;
    let &(index, member) = table.places.get(alias)?;
    Some(table.entries[index].cluster.view().state(member).name())
}
