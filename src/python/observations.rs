//! Observations of servers: their positions, and which server is behind an alias.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;

use crate::cluster::Cluster;
use crate::member::Member;
use crate::replication::state::Observation;

use super::clock::{self, since_origin};
use super::position::Position;
use super::table;

/// The answer of a member: its alias, its position, `time.monotonic_ns()` before the query, how many seconds the answer
/// took, and which server answered.
type Answer = (String, Option<Position>, u64, Option<f64>, String);

/// Takes in answers; returns the aliases that lead to another server than before. Aliases of no cluster are ignored.
#[pyfunction]
pub fn observe(py: Python<'_>, answers: Vec<Answer>) -> PyResult<Vec<String>> {
    let table = table::in_force(py)?;
    let mut seen: Vec<Vec<Observation>> = table.entries.iter().map(|_| Vec::new()).collect();
    for (alias, position, asked_at, latency, server) in answers {
        let Some(&(index, member)) = table.places.get(&alias) else { continue };
        seen[index].push(Observation {
            member,
            position: position.map(|position| position.0),
            at: since_origin(py, asked_at)?,
            latency: latency.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            server: (!server.is_empty()).then(|| number(&server)),
        });
    }
    let mut changed = Vec::new();
    for (entry, seen) in table.entries.iter().zip(&seen).filter(|(_, seen)| !seen.is_empty()) {
        let members = take_in(&entry.cluster, seen).into_iter();
        changed.extend(members.map(|member| table.name(entry.cluster.members()[member as usize]).to_owned()));
    }
    Ok(changed)
}

/// Counts the changes of servers that were found.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Takes in observations that have arrived by now; returns the members that are another server than before, or have
/// lost data.
pub fn take_in(cluster: &Cluster, seen: &[Observation]) -> Vec<Member> {
    cluster.observe_by(seen, clock::now());
    let view = cluster.view();
    let just_before = |at: Duration| at.saturating_sub(Duration::from_nanos(1));
    let is_other = |seen: &&Observation| !view.replication().is_same_since(seen.member, just_before(seen.at));
    let changed: Vec<Member> = seen.iter().filter(is_other).map(|seen| seen.member).collect();
    CHANGES.fetch_add(changed.len() as u64, Ordering::Relaxed);
    changed
}

/// Changes whenever a session must be checked anew before it is used: when the configuration changes, or the server
/// behind an alias.
#[pyfunction]
pub fn session_generation() -> u64 {
    table::configured() + CHANGES.load(Ordering::Relaxed)
}

/// Whether `server` is the one known to be behind `alias`; also if that is unknown, or several servers are.
#[pyfunction]
pub fn is_behind(py: Python<'_>, alias: &str, server: &str) -> PyResult<bool> {
    let table = table::in_force(py)?;
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(true) };
    let view = table.entries[index].cluster.view();
    let is_known = |known| known == number(server);
    Ok(server.is_empty()
        || view.replication().is_multiplexed(member)
        || view.replication().server(member).is_none_or(is_known))
}

/// The name of a server as a number.
pub fn number(server: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    server.hash(&mut hasher);
    hasher.finish()
}

/// The server behind `alias`, as a number that is the same in every process; `None` if it is unknown.
#[pyfunction]
pub fn server(py: Python<'_>, alias: &str) -> PyResult<Option<u64>> {
    let table = table::in_force(py)?;
    let place = table.places.get(alias);
    Ok(place.and_then(|&(index, member)| table.entries[index].cluster.view().replication().server(member)))
}
