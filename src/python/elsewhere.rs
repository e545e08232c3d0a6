//! Where a read goes that a member has failed: the same table, without the member.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::cluster::PRIMARY;
use crate::decision::{self, Read, Reason, Undecided};
use crate::memory::Last;
use crate::pool::Member;

use super::state::{self, Last as Decided};
use super::{errors, reads, scopes, session};

/// One for the scope and one for the thread, as in [`super::router::read`].
const MOST_QUESTIONS: u8 = 2;

/// Where a read of the cluster of `alias` goes, now that the members `failed` have failed it; `None` for an alias of no
/// cluster. Which model is read is not known any more, and so no exemption.
///
/// The scope moves: what it may have seen on a member that failed it must see where it goes.
#[pyfunction]
pub fn elsewhere<'py>(py: Python<'py>, alias: &str, failed: Vec<String>) -> PyResult<Option<Bound<'py, PyString>>> {
    let table = state::table(py)?;
    let Some(&(index, _)) = table.places.get(alias) else { return Ok(None) };
    let entry = &table.entries[index];
    let cluster = &entry.cluster;
    let place = |alias: String| table.places.get(&alias).filter(|place| place.0 == index).map(|place| place.1);
    let failed: Vec<Member> = failed.into_iter().filter_map(place).collect();
    let scope = scopes::current(py)?;
    if let Some(memory) = scope.as_ref().and_then(|node| node.get().scope.cell().get(cluster.name())) {
        // One that never answered has shown nothing that must be seen again.
        for &member in &failed {
            memory.leave_unanswered(cluster.members()[member as usize]);
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
            record: || scopes::record_cell(py),
            before,
            may_wait,
            now: state::now,
        };
        let view = cluster.view_without(&failed);
        let draw = state::with_thread(state::Thread::draw);
        let answer = match decision::decide(cluster, &view, question, draw) {
            Err(Undecided::Late(member)) => Ok(session::late(py, entry, member)?),
            answer => answer,
        };
        match answer {
            Ok((member, reason)) => {
                state::with_thread(|thread| {
                    cluster.counters().count(&thread.shard, member, reason);
                    thread.last.set(Some(Decided::Read(cluster.name(), member, reason)));
                    thread.unpin();
                });
                return Ok(Some(entry.strings[member as usize].bind(py).clone()));
            }
            Err(Undecided::NoReplicaAvailable) => return Err(errors::no_replica_available(py, &table, cluster)),
            Err(Undecided::Failed(error)) => return Err(error),
            // Whoever has just failed is not to be asked how far it was.
            Err(Undecided::Learn { cell, last, .. })
                if cluster.member(last).is_some_and(|last| failed.contains(&last)) =>
            {
                let memory = cell.of(cluster.name());
                memory.need(|need| need.require_read(Some(last), state::now()));
                memory.reads_from(Last::Learned);
            }
            Err(Undecided::Learn { cell, last, target }) => may_wait = session::learn(py, entry, &cell, last, target)?,
            Err(Undecided::Ask(cell)) => {
                questions += 1;
                may_wait = session::ask(py, entry, &cell)? && questions < MOST_QUESTIONS;
            }
            Err(Undecided::Wait { cell, member, position, longest }) => {
                may_wait = session::wait(py, entry, &cell, member, position, longest)?;
            }
            Err(Undecided::Late(_)) => unreachable!("it is a decision by now"),
        }
    }
}

/// The very string that the router answered this thread's last question with, if that was about a read that only the primary
/// `alias` may serve; `None` also where no replica serves late data.
#[pyfunction]
pub fn pinned_answer(py: Python<'_>, alias: &str) -> Option<Py<PyString>> {
    state::with_thread(|thread| {
        let Some(Decided::Read(cluster, PRIMARY, Reason::Pinned)) = thread.last.get() else { return None };
        let is_here = state::present_table().is_some_and(|table| table.name(cluster) == alias);
        if is_here { thread.pinned(py) } else { None }
    })
}

/// The read of this thread's last decision was sent: what follows without a decision is another one.
#[pyfunction]
pub fn spend_decision() {
    state::with_thread(state::Thread::take_decision);
}

/// What is known of the member behind `alias`: `"up"`, `"lagging"`, `"ejected"`, `"probing"` or `"down"`; `None` for an alias
/// of no cluster.
#[pyfunction]
pub fn member_state(alias: &str) -> Option<&'static str> {
    let table = state::present_table()?;
    let &(index, member) = table.places.get(alias)?;
    Some(table.entries[index].cluster.view().state(member).name())
}
