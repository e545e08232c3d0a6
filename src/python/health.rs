//! What became of reads and probes, as Python tells.

use std::collections::HashMap;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::alias::Alias;
use crate::member::{Change, Member};
use crate::reason::Outcome;
use crate::ward::Probe;

use super::scopes;
use super::session::since_origin;
use super::state::{self, Entry, Table};

/// A member whose state has changed: its cluster, its alias, its state before and now.
type Changed = (String, String, &'static str, &'static str);

fn outcome(name: &str) -> PyResult<Outcome> {
    match name {
        "ok" => Ok(Outcome::Ok),
        "failed" => Ok(Outcome::Failed),
        "gone" => Ok(Outcome::Gone),
        other => Err(PyValueError::new_err(format!("a read cannot come to be {other:?}"))),
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
    state::with_thread(state::Thread::draw)
}

/// Tells what became of a read from `alias`; returns the members whose state that has changed. An alias of no cluster is
/// ignored.
#[pyfunction]
pub fn report(py: Python<'_>, alias: &str, seconds: Option<f64>, outcome: &str) -> PyResult<Vec<Changed>> {
    let outcome = self::outcome(outcome)?;
    let Some(table) = state::present_table() else { return Ok(Vec::new()) };
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(Vec::new()) };
    let entry = &table.entries[index];
    if outcome == Outcome::Ok
        && let Some(scope) = scopes::current(py)?
        && let Some(memory) = scope.get().scope.cell().get(entry.cluster.name())
    {
        memory.answered(entry.cluster.members()[member as usize]);
    }
    let took = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let changes = entry.cluster.read(member, outcome, took, state::now(), draw());
    Ok(named(&table, entry, changes).collect())
}

/// Tells what became of probes: the alias, the outcome, `time.monotonic_ns()` when it was asked and how many seconds that
/// took. Returns the members whose state that has changed.
#[pyfunction]
pub fn probed(py: Python<'_>, found: Vec<(String, String, u64, f64)>) -> PyResult<Vec<Changed>> {
    let table = state::table(py)?;
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
        changed.extend(named(&table, entry, entry.cluster.probed(probes, state::now(), draw())));
    }
    Ok(changed)
}

/// Behind each of these aliases of one cluster is now the server that was behind the alias it is mapped to; the other
/// members keep theirs.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts a dictionary as a map")]
pub fn moved(py: Python<'_>, primary: &str, sources: HashMap<String, String>) -> PyResult<()> {
    let table = state::table(py)?;
    let Some(&(index, _)) = table.places.get(primary) else { return Ok(()) };
    let cluster = &table.entries[index].cluster;
    let member = |alias: &str| table.places.get(alias).filter(|place| place.0 == index).map(|&(_, member)| member);
    let source =
        |(own, &alias): (Member, &Alias)| sources.get(table.name(alias)).and_then(|name| member(name)).unwrap_or(own);
    let places: Vec<Member> = (0..).zip(cluster.members()).map(source).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    if (0..).zip(&sorted).any(|(place, &member)| place != member) {
        return Err(PyValueError::new_err("two aliases cannot have one server"));
    }
    cluster.moved(&places, state::now());
    Ok(())
}
