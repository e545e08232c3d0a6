//! The last read of a thread or task with no scope open: for each cluster the member that answered, and when.
//!
//! It is kept in a context variable. Its value is replaced and never changed: a child task begins with the reads of its
//! parent, and its own reads stay its own. It ends by itself: see [`crate::routing::question::Read::before`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::consistency::scope_state::ScopeState;
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::routing::question::{Decision, Shown};

use super::ffi::context::ContextVariable;
use super::thread::{self, LastDecision, Thread};
use super::{clock, scopes, table};

static READS: PyOnceLock<ContextVariable> = PyOnceLock::new();
/// Whether any thread or task ever read with no scope open. With the middleware few do, and an unset context variable
/// is slow to find.
static ANY: AtomicBool = AtomicBool::new(false);
/// Whether a management command was ever run in this process.
static ANY_COMMAND: AtomicBool = AtomicBool::new(false);

fn variable(py: Python<'_>) -> PyResult<&'static ContextVariable> {
    READS.get_or_try_init(py, || ContextVariable::new(py, c"replicant.reads"))
}

/// The reads of a thread or task.
#[pyclass(frozen, module = "replicant._core")]
#[derive(Debug, Default)]
pub struct Reads {
    places: Vec<Place>,
    /// A management command runs: the member is kept as soon as a read is decided.
    in_command: bool,
}

/// The member of a cluster that answered last, and when it had answered.
#[derive(Clone, Copy, Debug)]
struct Place {
    cluster: Alias,
    member: Alias,
    at: Duration,
}

fn present(py: Python<'_>) -> PyResult<Option<Bound<'_, Reads>>> {
    if !ANY.load(Ordering::Relaxed) {
        return Ok(None);
    }
    Ok(variable(py)?.get(py)?.map(Bound::cast_into::<Reads>).transpose()?)
}

fn replace(py: Python<'_>, reads: Reads) -> PyResult<()> {
    ANY.store(true, Ordering::Relaxed);
    variable(py)?.set(Bound::new(py, reads)?.as_any())
}

/// The member of `cluster` that this thread or task read from last with no scope open, and when. One load while no
/// thread or task of the process has.
#[inline]
pub fn last(py: Python<'_>, cluster: Alias) -> PyResult<Option<Shown>> {
    if ANY.load(Ordering::Relaxed) { last_of_any(py, cluster) } else { Ok(None) }
}

#[inline(never)]
fn last_of_any(py: Python<'_>, cluster: Alias) -> PyResult<Option<Shown>> {
    let Some(reads) = present(py)? else { return Ok(None) };
    let Reads { places, in_command } = reads.get();
    let place = places.iter().find(|place| place.cluster == cluster);
    Ok(place.map(|place| Shown { by: place.member, at: place.at, in_command: *in_command }))
}

/// All of these reads as one state, for functions that judge states.
pub fn scope_state(py: Python<'_>) -> PyResult<Option<Arc<ScopeState>>> {
    let Some(reads) = present(py)? else { return Ok(None) };
    let scope_state = ScopeState::default();
    for place in &reads.get().places {
        scope_state.of(place.cluster).requirement(|requirement| requirement.require_read(Some(place.member), place.at));
    }
    Ok(Some(Arc::new(scope_state)))
}

/// Records that a member has answered by now.
fn keep(py: Python<'_>, cluster: Alias, member: Alias) -> PyResult<()> {
    let (mut places, in_command) = match present(py)? {
        Some(reads) => (reads.get().places.clone(), reads.get().in_command),
        None => (Vec::new(), false),
    };
    places.retain(|place| place.cluster != cluster);
    places.push(Place { cluster, member, at: clock::now() });
    replace(py, Reads { places, in_command })
}

/// Whether a read of `member` is required of those that follow. A read of the primary is only where its weight made it
/// the choice: otherwise it was read because other members lack something.
fn counts(member: Member, reason: Reason) -> bool {
    member != PRIMARY || matches!(reason, Reason::Balanced | Reason::Sticky)
}

/// With no scope open, a read was decided: a management command stays on its member.
#[inline]
pub fn decided(py: Python<'_>, cluster: &Cluster, decision: Decision) -> PyResult<()> {
    if ANY_COMMAND.load(Ordering::Relaxed) { decided_in_command(py, cluster, decision) } else { Ok(()) }
}

#[cold]
fn decided_in_command(py: Python<'_>, cluster: &Cluster, (member, reason): Decision) -> PyResult<()> {
    let in_command = present(py)?.is_some_and(|reads| reads.get().in_command);
    if in_command && counts(member, reason) {
        keep(py, cluster.name(), cluster.members()[member as usize])?;
    }
    Ok(())
}

/// Whether the answer of `alias` is to be remembered for this thread or task: no scope is open to do so, and the router
/// decided the read. Reads with `.using()` are not tracked.
#[pyfunction]
pub fn is_to_remember(py: Python<'_>, alias: &str) -> PyResult<bool> {
    if scopes::current(py)?.is_some() {
        return Ok(false);
    }
    let Some(LastDecision::Read(cluster, member, reason)) = thread::with_thread(Thread::last_decision) else {
        return Ok(false);
    };
    let Some(table) = table::present().filter(|_| counts(member, reason)) else { return Ok(false) };
    let place = table.places.get(alias).map(|&(index, place)| (table.entries[index].cluster.name(), place));
    Ok(place == Some((cluster, member)))
}

/// The member behind `alias` has answered a read of this thread or task.
#[pyfunction]
pub fn remember(py: Python<'_>, alias: &str) -> PyResult<()> {
    let Some(table) = table::present() else { return Ok(()) };
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(()) };
    let cluster = &table.entries[index].cluster;
    keep(py, cluster.name(), cluster.members()[member as usize])
}

/// A management command begins or ends. Returns whether one ran before, which must be passed back at the end.
#[pyfunction]
pub fn run_command(py: Python<'_>, runs: bool) -> PyResult<bool> {
    let (places, before) = match present(py)? {
        Some(reads) => (reads.get().places.clone(), reads.get().in_command),
        None => (Vec::new(), false),
    };
    if runs {
        ANY_COMMAND.store(true, Ordering::Relaxed);
    }
    replace(py, Reads { places, in_command: runs })?;
    Ok(before)
}
