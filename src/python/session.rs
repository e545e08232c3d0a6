//! What a scope has seen and must see, as Python asks and tells.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;

use crate::cluster::{Cluster, PRIMARY};
use crate::gate::Approach;
use crate::memory::Cell;
use crate::names::Alias;
use crate::pool::Member;
use crate::progress::Observation;

use super::position::Position;
use super::scopes;
use super::state::{self, Entry, Table};

/// Asks the primary for its position, on this thread's connection to it, and tells `cell`. Returns whether this thread
/// may do such things: one that runs an event loop may not.
pub fn ask(py: Python<'_>, entry: &Entry, cell: &Cell) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let answer = py.import("replicant.causality")?.call_method1("ask", (&entry.strings[PRIMARY as usize],))?;
    let position: Option<Position> = answer.extract()?;
    tell(cell, &entry.cluster, position.as_ref());
    Ok(true)
}

fn tell(cell: &Cell, cluster: &Cluster, position: Option<&Position>) {
    let position = position.map(|position| &position.0);
    cell.of(cluster.name()).need(|need| need.asked(position, state::now()));
}

/// Waits for a replica, on this thread's connection to it, and tells `cell` and the cluster how that went. Returns whether
/// this thread may do such things.
pub fn wait(
    py: Python<'_>,
    entry: &Entry,
    cell: &Cell,
    member: Member,
    position: crate::position::Position,
    longest: Duration,
) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let begun = state::now();
    let arguments = (&entry.strings[member as usize], Position(position), longest.as_secs_f64());
    let answer = py.import("replicant.causality")?.call_method1("wait", arguments)?;
    let reached: Option<Position> = answer.extract()?;
    // It had the position when it answered, which was before now.
    let at = state::now();
    cell.of(entry.cluster.name()).need(|need| need.waited(at.saturating_sub(begun), reached.is_some()));
    if let Some(Position(position)) = reached {
        entry.cluster.observe(&[Observation { member, position: Some(position), at, latency: None, server: None }]);
    }
    Ok(true)
}

fn runs_a_loop(py: Python<'_>) -> PyResult<bool> {
    Ok(!py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "_get_running_loop"))?.is_none())
}

/// What a member answered: its alias, its position, `time.monotonic_ns()` when it was asked, how many seconds the answer
/// took, and which server it was.
type Answer = (String, Option<Position>, u64, Option<f64>, String);

/// Takes in what members answered; returns those behind whose alias there is another server than before. Aliases of no
/// cluster are ignored.
#[pyfunction]
pub fn observe(py: Python<'_>, answers: Vec<Answer>) -> PyResult<Vec<String>> {
    let table = state::table(py)?;
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
        entry.cluster.observe(seen);
        let view = entry.cluster.view();
        let just_before = |at: Duration| at.saturating_sub(Duration::from_nanos(1));
        let is_other = |seen: &&Observation| !view.progress().is_same_since(seen.member, just_before(seen.at));
        let members = seen.iter().filter(is_other).map(|seen| entry.cluster.members()[seen.member as usize]);
        changed.extend(members.map(|member| table.name(member).to_owned()));
    }
    Ok(changed)
}

fn number(server: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    server.hash(&mut hasher);
    hasher.finish()
}

/// The server behind `alias` is another one than the scope in force may have read from: it must see elsewhere what it may
/// have seen there.
#[pyfunction]
pub fn distrust(py: Python<'_>, alias: &str) -> PyResult<()> {
    let table = state::table(py)?;
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(()) };
    let cluster = &table.entries[index].cluster;
    let name = cluster.members()[member as usize];
    for cell in cells(py)? {
        if let Some(memory) = cell.get(cluster.name()).filter(|memory| memory.sticky() == Some(name)) {
            memory.need(|need| need.require_read(None, state::now()));
            memory.unstick(name);
        }
    }
    Ok(())
}

/// A moment of Python's monotonic clock on ours. Both run alike; what lies before our origin is taken for the origin, and
/// so for later than it was, which is the safe side.
fn since_origin(py: Python<'_>, monotonic_ns: u64) -> PyResult<Duration> {
    static ORIGIN: OnceLock<u64> = OnceLock::new();
    let origin = if let Some(&origin) = ORIGIN.get() {
        origin
    } else {
        let python: u64 = py.import("time")?.call_method0("monotonic_ns")?.extract()?;
        let ours = u64::try_from(state::now().as_nanos()).unwrap_or(u64::MAX);
        *ORIGIN.get_or_init(|| python.saturating_sub(ours))
    };
    Ok(Duration::from_nanos(monotonic_ns.saturating_sub(origin)))
}

/// The cells in force here: of the outermost scope and of the thread or task, which in a request are one.
fn cells(py: Python<'_>) -> PyResult<Vec<Arc<Cell>>> {
    let scope = scopes::current(py)?;
    let Some(scope) = scope.as_ref().map(|node| &node.get().scope) else {
        return Ok(scopes::record_cell(py)?.into_iter().collect());
    };
    let record = if scope.in_request() { scope.record().cloned() } else { scopes::record_cell(py)? };
    let other = record.filter(|record| !Arc::ptr_eq(record, scope.cell()));
    Ok(std::iter::once(scope.cell().clone()).chain(other).collect())
}

/// The primaries whose position is to be asked for before [`causality`] is complete.
#[pyfunction]
pub fn unasked(py: Python<'_>) -> PyResult<Vec<String>> {
    let (table, cells) = (state::table(py)?, cells(py)?);
    let is_pending = |cluster: &Cluster| {
        cells.iter().filter_map(|cell| cell.get(cluster.name())).any(|memory| memory.need(|need| need.is_pending()))
    };
    let pending = table.entries.iter().filter(|entry| is_pending(&entry.cluster));
    Ok(pending.map(|entry| table.name(entry.cluster.name()).to_owned()).collect())
}

/// Tells the scope in force where a primary was when it was asked; None if it could not say.
#[pyfunction]
#[pyo3(signature = (primary, position))]
pub fn asked(py: Python<'_>, primary: &str, position: Option<&Position>) -> PyResult<()> {
    let table = state::table(py)?;
    if let Some(&(index, PRIMARY)) = table.places.get(primary) {
        let cluster = &table.entries[index].cluster;
        let cells = cells(py)?;
        let pending =
            |cell: &&Arc<Cell>| cell.get(cluster.name()).is_some_and(|memory| memory.need(|need| need.is_pending()));
        cells.iter().filter(pending).for_each(|cell| tell(cell, cluster, position));
    }
    Ok(())
}

/// What the scope in force must see of a cluster: its primary's alias, a position, how many seconds ago it wrote what only
/// time can judge, the replica it read from and how many seconds ago.
type Required = (String, Option<Position>, Option<f64>, Option<String>, Option<f64>);

/// What the scope in force has written and read, cluster by cluster; those of which there is nothing are left out.
#[pyfunction]
pub fn causality(py: Python<'_>) -> PyResult<Vec<Required>> {
    let (table, cells, now) = (state::table(py)?, cells(py)?, state::now());
    let required = table.entries.iter().filter_map(|entry| required(&table, &entry.cluster, &cells, now));
    Ok(required.collect())
}

fn required(table: &Table, cluster: &Cluster, cells: &[Arc<Cell>], now: Duration) -> Option<Required> {
    if !cluster.settings().consistent {
        return None;
    }
    let view = cluster.view();
    let mut both = cells.iter();
    let approach = Approach { cluster, view: &view, cells: [both.next(), both.next()], candidate: None, now };
    approach.forget_what_all_have();
    let (mut position, mut written, mut read) = (None::<crate::position::Position>, None, None);
    for memory in cells.iter().filter_map(|cell| cell.get(cluster.name())) {
        memory.need(|need| {
            if let Some(own) = need.position() {
                match position.as_ref().map_or(Ok(own.clone()), |other| other.union(own)) {
                    Ok(united) => position = Some(united),
                    Err(_) => written = Some(now),
                }
            }
            written = written.max(need.written()).max(need.is_pending().then_some(now));
            read = read.max(need.read().map(|(member, at)| (at, member)));
        });
        if let Some(member) = memory.sticky() {
            read = Some((now, Some(member)));
        }
    }
    // Where no other replica could be behind it, a read asks for nothing.
    let others = |member: Option<Alias>| {
        let mut replicas = cluster.settings().replicas.iter().filter(|(_, weight)| *weight > 0.0);
        replicas.any(|&(alias, _)| Some(alias) != member)
    };
    let read = read.filter(|&(_, member)| others(member));
    if position.is_none() && written.is_none() && read.is_none() {
        return None;
    }
    let ago = |at: Duration| now.saturating_sub(at).as_secs_f64();
    let member = read.and_then(|(_, member)| member).map(|member: Alias| table.name(member).to_owned());
    let name = table.name(cluster.name()).to_owned();
    Some((name, position.map(Position), written.map(ago), member, read.map(|(at, _)| ago(at))))
}

/// Whether the scope in force wrote, and does not merely know of writes.
#[pyfunction]
pub fn has_written(py: Python<'_>) -> PyResult<bool> {
    let cells = cells(py)?;
    Ok(cells.iter().any(|cell| cell.memories().any(|memory| memory.need(|need| need.wrote()))))
}

/// Adds to what the scope in force must see of the cluster of `primary`; an alias of no cluster is ignored. Ages are in
/// seconds.
#[pyfunction]
#[pyo3(signature = (primary, position=None, written=None, member=None, read=None))]
pub fn require(
    py: Python<'_>,
    primary: &str,
    position: Option<&Position>,
    written: Option<f64>,
    member: Option<&str>,
    read: Option<f64>,
) -> PyResult<()> {
    let table = state::table(py)?;
    let Some(&(index, PRIMARY)) = table.places.get(primary) else { return Ok(()) };
    let (cluster, now) = (&table.entries[index].cluster, state::now());
    let at = |age: f64| now.saturating_sub(Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX));
    let member = member.and_then(|alias| table.places.get(alias)).filter(|place| place.0 == index);
    let member = member.map(|&(_, member)| cluster.members()[member as usize]);
    let cell = scopes::record_begun(py)?;
    let memory = cell.of(cluster.name());
    memory.need(|need| {
        if let Some(Position(position)) = position {
            need.require(position, now);
        }
        if let Some(written) = written {
            need.require_time(at(written));
        }
        // The primary shows what is to be seen anyway.
        if member != Some(cluster.name())
            && let Some(read) = read
        {
            need.require_read(member, at(read));
        }
    });
    if let Some(member) = member.filter(|_| cluster.settings().sticky)
        && memory.sticky().is_none()
        && scopes::current(py)?.is_some()
    {
        memory.stick(None, member);
    }
    Ok(())
}
