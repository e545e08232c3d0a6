//! Explanations and snapshots, which change nothing.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::member::{PRIMARY, State};
use crate::reason::Reason;

use super::router;
use super::scope_states::eligible;
use super::table;
use super::thread::{self, LastDecision, Thread};

/// The alias, the reason, and the aliases of the eligible replicas.
type Explanation<'py> = (Option<Bound<'py, PyString>>, Option<&'static str>, Bound<'py, PyTuple>);

/// The decision for a read of `model` now: the alias, the reason, and the aliases of the eligible replicas.
#[pyfunction]
#[pyo3(signature = (model, hints))]
pub fn explain<'py>(model: &Bound<'py, PyAny>, hints: &Bound<'py, PyDict>) -> PyResult<Explanation<'py>> {
    let py = model.py();
    let instance = hints.get_item(intern!(py, "instance"))?;
    thread::with_thread(|thread| {
        let mut held = thread.snapshot(py)?;
        let (table, views, models) = held.parts();
        let answer = router::explain(table, views, models, model, instance.as_ref(), thread.preview())?;
        let Some((entry, (member, reason))) = answer else {
            return Ok((None, None, PyTuple::empty(py)));
        };
        let alias = |member: u32| entry.strings[member as usize].bind(py).clone();
        let eligible = eligible(py, table, entry)?;
        let eligible = PyTuple::new(py, eligible.into_iter().map(alias))?;
        Ok((Some(alias(member)), Some(reason.code()), eligible))
    })
}

/// This thread's last decision, once: the alias and the reason (`"write"` for a write), or None if it was taken
/// already.
#[pyfunction]
pub fn take_decision() -> Option<(String, &'static str)> {
    let table = table::present()?;
    let (cluster, member, reason) = match thread::with_thread(Thread::take_decision)? {
        LastDecision::Read(cluster, member, reason) => (cluster, member, reason.code()),
        LastDecision::Write(cluster) => (cluster, PRIMARY, "write"),
    };
    let entry = table.entries.iter().find(|entry| entry.cluster.name() == cluster)?;
    let alias = entry.cluster.members().get(member as usize)?;
    Some((table.name(*alias).to_owned(), reason))
}

/// Every cluster and member: plain lists and dictionaries.
#[pyfunction]
pub fn snapshot(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let table = table::in_force(py)?;
    let clusters = PyDict::new(py);
    for entry in &table.entries {
        let (view, cluster) = (entry.cluster.view(), &entry.cluster);
        let members = PyList::empty(py);
        for (member, alias) in (0..).zip(&entry.strings) {
            let described = PyDict::new(py);
            described.set_item("alias", alias)?;
            described.set_item("role", if member == PRIMARY { "primary" } else { "replica" })?;
            let replication = view.replication();
            let is_multiplexed = replication.is_multiplexed(member);
            let state = view.state(member);
            let is_named_so = is_multiplexed && state == State::Up;
            described.set_item("state", if is_named_so { "multiplexed" } else { state.name() })?;
            described.set_item("position", replication.position(member).map(ToString::to_string))?;
            described.set_item("lag", replication.lag(member).as_ref().map(Duration::as_secs_f64))?;
            let latency = cluster.latency(member).as_ref().map(Duration::as_secs_f64);
            described.set_item("latency", latency)?;
            described.set_item("weight", cluster.weight(member))?;
            let reads = PyDict::new(py);
            for reason in Reason::ALL {
                reads.set_item(reason.code(), cluster.counters().get(member, reason))?;
            }
            described.set_item("reads", reads)?;
            members.append(described)?;
        }
        clusters.set_item(&entry.strings[PRIMARY as usize], members)?;
    }
    Ok(clusters)
}
