//! Reports of reads and probes.

use std::time::Duration;

use pyo3::prelude::*;

use crate::health::cluster_health::Probe;
use crate::member::Change;
use crate::reason::Outcome;

use super::clock::{self, since_origin};
use super::table::{self, Entry, Table};
use super::thread::{self, Thread};
use super::{errors, scopes};

/// A change of state: the cluster, the member's alias, the state before and the state now.
type Changed = (String, String, &'static str, &'static str);

fn outcome(name: &str) -> PyResult<Outcome> {
    match name {
        "ok" => Ok(Outcome::Ok),
        "failed" => Ok(Outcome::Failed),
        "gone" => Ok(Outcome::Gone),
        other => Err(errors::unknown("read outcome", other, "\"ok\", \"failed\" or \"gone\"")),
    }
}

fn named(table: &Table, entry: &Entry, changes: Vec<Change>) -> impl Iterator<Item = Changed> {
    let cluster = &entry.cluster;
    let name = |alias| table.name(alias).to_owned();
    let described = |change: Change| {
        let alias = cluster.members()[change.member as usize];
        (name(cluster.name()), name(alias), change.before.name(), change.after.name())
    };
    changes.into_iter().map(described).collect::<Vec<_>>().into_iter()
}

fn draw() -> u64 {
    thread::with_thread(Thread::draw)
}

/// Reports the outcome of a read from `alias`; returns the changes of states. An alias of no cluster is ignored.
#[pyfunction]
pub fn report(py: Python<'_>, alias: &str, seconds: Option<f64>, outcome: &str) -> PyResult<Vec<Changed>> {
    let outcome = self::outcome(outcome)?;
    let Some(table) = table::present() else { return Ok(Vec::new()) };
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(Vec::new()) };
    let entry = &table.entries[index];
    if outcome == Outcome::Ok
        && let Some(scope) = scopes::current(py)?
        && let Some(cluster_state) = scope.get().scope.scope_state().get(entry.cluster.name())
    {
        cluster_state.answered(entry.cluster.members()[member as usize]);
    }
    let took = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let changes = entry.cluster.read(member, outcome, took, clock::now(), draw());
    Ok(named(&table, entry, changes).collect())
}

/// Reports the outcomes of probes: the alias, the outcome, `time.monotonic_ns()` before the query, and how many seconds
/// it took. Returns the changes of states.
#[pyfunction]
pub fn probed(py: Python<'_>, found: Vec<(String, String, u64, f64)>) -> PyResult<Vec<Changed>> {
    let table = table::in_force(py)?;
    let mut probes: Vec<Vec<Probe>> = table.entries.iter().map(|_| Vec::new()).collect();
    for (alias, outcome, asked_at, seconds) in found {
        let Some(&(index, member)) = table.places.get(&alias) else { continue };
        probes[index].push(Probe {
            member,
            outcome: self::outcome(&outcome)?,
            sent: since_origin(py, asked_at)?,
            took: Duration::try_from_secs_f64(seconds).ok(),
        });
    }
    let mut changed = Vec::new();
    for (entry, probes) in table.entries.iter().zip(&probes).filter(|(_, probes)| !probes.is_empty()) {
        changed.extend(named(&table, entry, entry.cluster.probed(probes, clock::now(), draw())));
    }
    Ok(changed)
}
