//! What the scope in force requires, as tokens export and import it.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::consistency::eligibility::EligibilityCheck;
use crate::consistency::requirement::Requirement;
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::PRIMARY;

use super::position::Position;
use super::scope_states::scope_states;
use super::steps::tell;
use super::table::{self, Entry, Table};
use super::thread::{self, Thread};
use super::{clock, scopes};

/// The primaries that must be queried for their position before [`causality`] is complete, and the time in nanoseconds
/// of our clock, for [`position_received`].
#[pyfunction]
pub fn pending_primaries(py: Python<'_>) -> PyResult<Vec<(String, u64)>> {
    let now = u64::try_from(clock::now().as_nanos()).unwrap_or(u64::MAX);
    let (table, scope_states) = (table::in_force(py)?, scope_states(py)?);
    let is_pending = |cluster: &Cluster| {
        scope_states
            .iter()
            .filter_map(|scope_state| scope_state.get(cluster.name()))
            .any(|cluster_state| cluster_state.requirement(|requirement| requirement.is_pending()))
    };
    let pending = table.entries.iter().filter(|entry| is_pending(&entry.cluster));
    Ok(pending.map(|entry| (table.name(entry.cluster.name()).to_owned(), now)).collect())
}

/// Records the position that a primary had when it was queried, after `asked_at`; None if it could not tell.
#[pyfunction]
#[pyo3(signature = (primary, position, asked_at))]
pub fn position_received(py: Python<'_>, primary: &str, position: Option<&Position>, asked_at: u64) -> PyResult<()> {
    let table = table::in_force(py)?;
    if let Some(&(index, PRIMARY)) = table.places.get(primary) {
        let cluster = &table.entries[index].cluster;
        let scope_states = scope_states(py)?;
        let pending = |scope_state: &&Arc<ScopeState>| {
            scope_state
                .get(cluster.name())
                .is_some_and(|cluster_state| cluster_state.requirement(|requirement| requirement.is_pending()))
        };
        scope_states
            .iter()
            .filter(pending)
            .for_each(|scope_state| tell(scope_state, cluster, position, Duration::from_nanos(asked_at)));
    }
    Ok(())
}

/// The requirement of the scope in force for a cluster: its primary's alias, a position, how many seconds ago it wrote
/// what only time can judge, the replica that it read from, how many seconds ago and which server that is, and whether
/// a read has waited for the position in vain.
type Required = (String, Option<Position>, Option<f64>, Option<String>, Option<f64>, Option<u64>, bool);

/// The requirement of the scope in force for each cluster; clusters without one are left out.
#[pyfunction]
pub fn causality(py: Python<'_>) -> PyResult<Vec<Required>> {
    let (table, scope_states, now) = (table::in_force(py)?, scope_states(py)?, clock::now());
    for Entry { cluster, strings } in &table.entries {
        if cluster.settings().consistent {
            let mut both = scope_states.iter();
            let check =
                EligibilityCheck { cluster, view: &cluster.view(), scope_states: [both.next(), both.next()], now };
            check.forget_what_all_have(|member| table.lookup.in_transaction(strings[member as usize].bind(py)))?;
        }
    }
    let required = table.entries.iter().filter_map(|entry| required(&table, &entry.cluster, &scope_states, now));
    Ok(required.collect())
}

fn required(table: &Table, cluster: &Cluster, scope_states: &[Arc<ScopeState>], now: Duration) -> Option<Required> {
    if !cluster.settings().consistent {
        return None;
    }
    let view = cluster.view();
    let (mut position, mut written, mut read) =
        (None::<crate::replication::position::Position>, None, Requirement::default());
    let mut missed = false;
    for cluster_state in scope_states.iter().filter_map(|scope_state| scope_state.get(cluster.name())) {
        cluster_state.requirement(|requirement| {
            if let Some(own) = requirement.position() {
                match position.as_ref().map_or(Ok(own.clone()), |other| other.union(own)) {
                    Ok(united) => position = Some(united),
                    Err(_) => written = Some(now),
                }
            }
            written = written.max(requirement.written()).max(requirement.is_pending().then_some(now));
            missed |= requirement.missed();
            if let Some((member, at)) = requirement.read() {
                read.require_read(member, at);
            }
        });
        let (last, place) = match cluster_state.last() {
            LastRead::Named(alias) => (Some(alias), LastRead::Named(alias)),
            LastRead::Sticky | LastRead::Learned => (cluster_state.sticky(), LastRead::Sticky),
        };
        if let Some(alias) = last {
            let is_present =
                |member| member == PRIMARY || cluster_state.changes(place) == view.replication().changes(member);
            if !cluster.settings().has_positions || cluster.member(alias).is_none_or(is_present) {
                read.require_reads_of(cluster, &view, alias, now);
            } else {
                // Another server is behind the alias by now, which may lack what was read there.
                read.require_read(None, now);
            }
        }
    }
    // A read counts also where there is only one replica: that replica may come back with older data, or be replaced.
    let read = read.read().filter(|_| !cluster.settings().replicas.is_empty());
    if position.is_none() && written.is_none() && read.is_none() {
        return None;
    }
    let ago = |at: Duration| now.saturating_sub(at).as_secs_f64();
    // No client should return to a member that is no longer up.
    let may_serve = |alias: &Alias| cluster.member(*alias).is_some_and(|member| view.serves(member));
    let member = read.and_then(|(member, _)| member).filter(may_serve);
    let server = member.and_then(|alias| view.replication().server(cluster.member(alias)?));
    let member = member.map(|member| table.name(member).to_owned());
    let name = table.name(cluster.name()).to_owned();
    Some((name, position.map(Position), written.map(ago), member, read.map(|(_, at)| ago(at)), server, missed))
}

/// The largest age that this process can tell, in seconds: the age of its clock's origin stands for larger ones.
#[pyfunction]
pub fn oldest_age() -> f64 {
    clock::now().as_secs_f64()
}

/// The member that the client of a write reads from next, chosen by weight: concurrent requests of the client then read
/// from the same member. `None` where scopes have no sticky member, or no member is eligible.
#[pyfunction]
pub fn draw_member(py: Python<'_>, primary: &str) -> PyResult<Option<String>> {
    let table = table::in_force(py)?;
    let Some(&(index, PRIMARY)) = table.places.get(primary) else { return Ok(None) };
    let cluster = &table.entries[index].cluster;
    let view = cluster.view();
    if !cluster.settings().sticky || view.eligible().is_empty() {
        return Ok(None);
    }
    let chosen = view.pool().choose(cluster.turn(), thread::with_thread(Thread::draw));
    Ok(chosen.map(|member| table.name(cluster.members()[member as usize]).to_owned()))
}

/// Whether the scope in force itself wrote.
#[pyfunction]
pub fn has_written(py: Python<'_>) -> PyResult<bool> {
    let scope_states = scope_states(py)?;
    Ok(scope_states.iter().any(|scope_state| {
        scope_state.cluster_states().any(|cluster_state| cluster_state.requirement(|requirement| requirement.wrote()))
    }))
}

/// Whether the response must carry a token: the scope in force wrote, or presented a token of its own.
#[pyfunction]
pub fn owes_token(py: Python<'_>) -> PyResult<bool> {
    let scope_states = scope_states(py)?;
    Ok(scope_states.iter().any(|scope_state| {
        scope_state
            .cluster_states()
            .any(|cluster_state| cluster_state.requirement(|requirement| requirement.owes_token()))
    }))
}

/// Adds to the requirement of the scope in force for the cluster of `primary`; an alias of no cluster is ignored. Ages
/// are in seconds.
#[pyfunction]
#[pyo3(signature = (
    primary, position=None, written=None, member=None, read=None, known=0.0, received=0.0, *,
    is_same=false, missed=false, presented=false
))]
#[expect(clippy::too_many_arguments, reason = "as many as a token says of one cluster")]
pub fn require(
    py: Python<'_>,
    primary: &str,
    position: Option<&Position>,
    written: Option<f64>,
    member: Option<&str>,
    read: Option<f64>,
    known: f64,
    received: f64,
    is_same: bool,
    missed: bool,
    presented: bool,
) -> PyResult<()> {
    let table = table::in_force(py)?;
    let Some(&(index, PRIMARY)) = table.places.get(primary) else { return Ok(()) };
    let (cluster, now) = (&table.entries[index].cluster, clock::now());
    let view = cluster.view();
    let at = |age: f64| now.saturating_sub(Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX));
    let member = member.and_then(|alias| table.places.get(alias)).filter(|place| place.0 == index);
    let member = member.map(|&(_, member)| cluster.members()[member as usize]);
    let scope_state = scopes::record_begun(py)?;
    let cluster_state = scope_state.of(cluster.name());
    cluster_state.requirement(|requirement| {
        if let Some(Position(position)) = position {
            requirement.require_foreign(position, at(known), at(received));
        }
        if missed {
            requirement.miss();
        }
        if presented {
            requirement.present();
        }
        if let Some(written) = written {
            requirement.require_time(at(written));
        }
        // Reads from the primary require nothing: the primary satisfies every requirement.
        if member != Some(cluster.name())
            && let Some(read) = read
        {
            // The client may have read there until now, with a token that is not renewed while its content stays the
            // same. Another server there may lack what was shown.
            let place = member.and_then(|alias| cluster.member(alias));
            let begun = match place {
                // The token names this very server, and the client may have read there until now.
                Some(place) if is_same => at(read).max(view.replication().since(place)),
                _ => at(read),
            };
            if place.is_some_and(|place| !view.replication().is_same_since(place, begun)) {
                requirement.require_read(None, now);
            } else if member.is_some() && !cluster.settings().sticky {
                // The scope does not stay on that member, and other members must have all that was shown until now.
                requirement.require_read(member, now);
            } else {
                requirement.require_read(member, begun);
            }
        }
        if let (Some(member), None) = (member, read) {
            requirement.prefer(member);
        }
    });
    if let Some(member) = member.filter(|_| cluster.settings().sticky && read.is_some())
        && cluster_state.sticky().is_none()
        && scopes::current(py)?.is_some()
    {
        // The client has read there, so that it has seen something, even if this scope fails to read there.
        if cluster_state.stick(None, member) == member {
            cluster_state.answered(member);
            if let Some(place) = cluster.member(member) {
                cluster_state.set_changes(LastRead::Sticky, view.replication().changes(place));
            }
        }
    }
    Ok(())
}
