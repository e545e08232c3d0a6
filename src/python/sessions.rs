//! Whether a session that is new, or leads elsewhere by now, may serve the scope in force.

use std::time::Duration;

use pyo3::prelude::*;

use crate::cluster::Cluster;
use crate::consistency::scope::Effect;
use crate::consistency::scope_state::{Last, Memory};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;

use super::observations::number;
use super::position::Position;
use super::scope_states::cells;
use super::thread::{self, Last as Decided};
use super::{clock, scopes, table};

/// Whether a session with the server behind the replica `alias`, which said that it is `server` and has `position`, may serve
/// the scope in force. To be asked before a statement is sent on a session that is new, or whose alias leads elsewhere by now.
///
/// A statement for which the router did not choose the replica (`.using(alias)`) is judged only where `is_other`: the session
/// itself showed that the server is another one than before, or has lost what it had.
#[pyfunction]
pub fn session_serves(
    py: Python<'_>,
    alias: &str,
    server: &str,
    position: Option<&Position>,
    is_other: bool,
) -> PyResult<bool> {
    let table = table::in_force(py)?;
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(true) };
    let cluster = &table.entries[index].cluster;
    let settings = cluster.settings();
    if member == PRIMARY || !settings.consistent || !settings.has_positions || settings.are_mirrors {
        return Ok(true);
    }
    let scope = scopes::current(py)?;
    let effect = scope.as_ref().and_then(|node| node.get().scope.effect(cluster.name()));
    if matches!(effect, Some(Effect::Replica { stale_ok: true, .. })) {
        return Ok(true);
    }
    let reason = thread::with_thread(|thread| match thread.last.get() {
        Some(Decided::Read(name, chosen, reason)) if (name, chosen) == (cluster.name(), member) => Some(reason),
        _ => None,
    });
    if reason == Some(Reason::Unavailable) || (reason.is_none() && !is_other) {
        return Ok(true);
    }
    let (view, cells, now) = (cluster.view(), cells(py)?, clock::now());
    // One that says how far it is, and not which server it is (a replica of a test), is taken for the one that is known.
    let is_nameless = server.is_empty() && position.is_some();
    let is_known = is_nameless || view.progress().server(member).is_none_or(|known| known == number(server));
    let mut is_fit = true;
    for memory in cells.iter().filter_map(|cell| cell.get(cluster.name())) {
        if is_known {
            compare_server(memory, cluster, view.progress().changes(member), member, reason, now);
            memory.restore_need(&view, now);
        } else if memory.has_ended() {
            // The servers that are behind the aliases now had it, and this is another one.
            is_fit = false;
        }
        let position = position.map(|position| &position.0);
        is_fit &= memory.need(|need| need.admits_session(cluster, &view, member, position, now));
    }
    Ok(is_fit)
}

/// Where the scope read from `member` before its server changed for the last time: what it may have seen there, it must see.
fn compare_server(
    memory: &Memory,
    cluster: &Cluster,
    changes: u32,
    member: Member,
    reason: Option<Reason>,
    now: Duration,
) {
    let name = cluster.members()[member as usize];
    let places =
        [(memory.sticky() == Some(name), Last::Sticky), (memory.last() == Last::Named(name), Last::Named(name))];
    for (_, last) in places.into_iter().filter(|&(reads, last)| reads && memory.changes(last) != changes) {
        if last == Last::Sticky && reason == Some(Reason::Balanced) {
            // Chosen for the very read that is about to be sent: nothing was seen there yet.
            memory.set_changes(last, changes);
            continue;
        }
        memory.need(|need| need.require_read(None, now));
        if last == Last::Sticky {
            memory.unstick(name);
        } else {
            memory.reads_from(Last::Learned);
        }
    }
}
