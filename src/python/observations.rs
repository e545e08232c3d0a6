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
use super::table::{self, Table};

/// The answer of a member: its alias, its position, `time.monotonic_ns()` before the query, and which server answered.
type Answer = (String, Option<Position>, u64, String);

/// Takes in answers; returns the aliases that lead to another server than before. Aliases of no cluster are ignored.
#[pyfunction]
pub fn observe(py: Python<'_>, answers: Vec<Answer>) -> PyResult<Vec<String>> {
    let table = table::in_force(py)?;
    let mut found: Vec<Vec<Observation>> = table.entries.iter().map(|_| Vec::new()).collect();
    for (alias, position, asked_at, server) in answers {
        let Some(&(index, member)) = table.places.get(&alias) else { continue };
        found[index].push(observation(member, position, since_origin(py, asked_at)?, &server));
    }
    let mut changed = Vec::new();
    for (entry, seen) in table.entries.iter().zip(&found).filter(|(_, seen)| !seen.is_empty()) {
        entry.cluster.observe_by(seen, clock::now());
        changed.extend(changed_servers(&table, &entry.cluster, seen));
    }
    Ok(changed)
}

/// The observation that `member` was at `position` when it was queried at `at`; an empty name tells of no server.
pub fn observation(member: Member, position: Option<Position>, at: Duration, server: &str) -> Observation {
    let server = (!server.is_empty()).then(|| number(server));
    Observation { member, position: position.map(|position| position.0), at, server }
}

/// Counts the changes of servers that were found.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// The aliases that by `seen`, which was just taken in, lead to another server than before, or to one that has lost data.
pub fn changed_servers(table: &Table, cluster: &Cluster, seen: &[Observation]) -> Vec<String> {
    let view = cluster.view();
    let just_before = |at: Duration| at.saturating_sub(Duration::from_nanos(1));
    let is_other = |seen: &&Observation| !view.replication().is_same_since(seen.member, just_before(seen.at));
    let name = |seen: &Observation| table.name(cluster.members()[seen.member as usize]).to_owned();
    let changed: Vec<String> = seen.iter().filter(is_other).map(name).collect();
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
