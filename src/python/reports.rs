//! Reports of reads and probes.

use std::time::Duration;

use pyo3::prelude::*;

use crate::health::cluster_health::Probe;
use crate::member::Change;
use crate::reason::Outcome;
use crate::replication::state::Observation;

use super::clock::{self, since_origin};
use super::observations::{changed_servers, observation};
use super::position::Position;
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

/// The result of a probe: the alias, the outcome, `time.monotonic_ns()` before the query, how many seconds it took, and
/// the server's position and name, if they count.
type ProbeResult = (String, String, u64, f64, Option<(Option<Position>, String)>);

/// Reports the results of probes. Returns the changes of states, and the aliases that lead to another server than before.
#[pyfunction]
pub fn report_probes(py: Python<'_>, results: Vec<ProbeResult>) -> PyResult<(Vec<Changed>, Vec<String>)> {
    let table = table::in_force(py)?;
    let mut found: Vec<(Vec<Probe>, Vec<Observation>)> = table.entries.iter().map(|_| Default::default()).collect();
    for (alias, outcome, asked_at, seconds, answer) in results {
        let Some(&(index, member)) = table.places.get(&alias) else { continue };
        let (probes, observations) = &mut found[index];
        let (outcome, sent) = (self::outcome(&outcome)?, since_origin(py, asked_at)?);
        probes.push(Probe { member, outcome, sent, took: Duration::try_from_secs_f64(seconds).ok() });
        observations.extend(answer.map(|(position, server)| observation(member, position, sent, &server)));
    }
    let (mut changed, mut others) = (Vec::new(), Vec::new());
    for (entry, (probes, seen)) in table.entries.iter().zip(&found).filter(|(_, (probes, _))| !probes.is_empty()) {
        changed.extend(named(&table, entry, entry.cluster.report_probes(probes, seen, clock::now(), draw())));
        others.extend(changed_servers(&table, &entry.cluster, seen));
    }
    Ok((changed, others))
}
