//! Whether a session that is new, or whose alias leads to another server by now, satisfies the scope in force.

use std::time::Duration;

use pyo3::prelude::*;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::consistency::scope::Effect;
use crate::consistency::scope_state::{ClusterState, LastRead};
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;

use super::observations::number;
use super::position::Position;
use super::scope_states::scope_states;
use super::thread::{self, LastDecision};
use super::{clock, scopes, table};

/// Whether a session with the server behind the replica `alias` satisfies the scope in force; the session reported that
/// it is `server` and has `position`. To be called before a statement is sent on a session that is new, or that leads
/// to another server by now.
///
/// A statement that names the replica itself (`.using(alias)`) is judged only if `is_other`: the session showed that
/// the server is another one than before, or has lost data.
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
        Some(LastDecision::Read(name, chosen, reason)) if (name, chosen) == (cluster.name(), member) => Some(reason),
        _ => None,
    });
    if reason == Some(Reason::Unavailable) || (reason.is_none() && !is_other) {
        return Ok(true);
    }
    let (view, scope_states, now) = (cluster.view(), scope_states(py)?, clock::now());
    // A server that reports its position and not its name (a replica of a test) counts as the known one.
    let is_nameless = server.is_empty() && position.is_some();
    let is_known = is_nameless || view.replication().server(member).is_none_or(|known| known == number(server));
    let mut is_fit = true;
    for cluster_state in scope_states.iter().filter_map(|scope_state| scope_state.get(cluster.name())) {
        if is_known {
            compare_server(cluster_state, cluster, view.replication().changes(member), member, reason, now);
            cluster_state.restore_requirement(&view, now);
        } else if cluster_state.has_ended() {
            // The present servers behind the aliases satisfied the requirement, and this is another one.
            is_fit = false;
        }
        let session = (position.map(|position| &position.0), is_known);
        is_fit &=
            cluster_state.requirement(|requirement| requirement.admits_session(cluster, &view, member, session, now));
    }
    if is_fit && !is_known {
        // The present server behind the alias may lack what this session is about to show.
        for cluster_state in scope_states.iter().filter_map(|scope_state| scope_state.get(cluster.name())) {
            mistrust(cluster_state, cluster.members()[member as usize], view.replication().changes(member));
        }
    }
    Ok(is_fit)
}

/// Marks that the scope reads from `member`, but not from the server that was found there after `changes`: any server
/// that it reads from next, that one included, must satisfy what it may have seen.
fn mistrust(cluster_state: &ClusterState, member: Alias, changes: u32) {
    for (reads, last) in reads_of(cluster_state, member) {
        if reads {
            cluster_state.set_changes(last, changes.wrapping_sub(1));
        }
    }
}

/// The two ways in which a scope may read from `member`, and whether it does.
fn reads_of(cluster_state: &ClusterState, member: Alias) -> [(bool, LastRead); 2] {
    [
        (cluster_state.sticky() == Some(member), LastRead::Sticky),
        (cluster_state.last() == LastRead::Named(member), LastRead::Named(member)),
    ]
}

/// If the scope read from `member` before its server changed last, what it may have seen there is required.
fn compare_server(
    cluster_state: &ClusterState,
    cluster: &Cluster,
    changes: u32,
    member: Member,
    reason: Option<Reason>,
    now: Duration,
) {
    let name = cluster.members()[member as usize];
    let places = reads_of(cluster_state, name);
    for (_, last) in places.into_iter().filter(|&(reads, last)| reads && cluster_state.changes(last) != changes) {
        if last == LastRead::Sticky && reason == Some(Reason::Balanced) {
            // The member was chosen for the very read that is about to be sent, so the scope has seen nothing there
            // yet.
            cluster_state.set_changes(last, changes);
            continue;
        }
        cluster_state.requirement(|requirement| requirement.require_read(None, now));
        if last == LastRead::Sticky {
            cluster_state.unstick(name);
        } else {
            cluster_state.reads_from(LastRead::Learned);
        }
    }
}
