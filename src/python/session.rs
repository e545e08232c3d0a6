//! What a scope has seen and must see, as Python asks and tells.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;

use crate::clock;
use crate::cluster::{Cluster, PRIMARY};
use crate::decision::{Decision, Reason};
use crate::gate::Approach;
use crate::memory::{Cell, Last, Memory};
use crate::names::Alias;
use crate::need::Need;
use crate::pool::Member;
use crate::progress::Observation;
use crate::scope::Effect;

use super::position::Position;
use super::state::{self, Entry, Last as Decided, Table};
use super::{reads, scopes};

/// Asks the primary for its position, on this thread's connection to it, and tells `cell`. Returns whether this thread
/// may do such things: one that runs an event loop may not.
pub fn ask(py: Python<'_>, entry: &Entry, cell: &Cell) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let asked_at = state::now();
    let position = ask_primary(py, entry)?;
    tell(cell, &entry.cluster, position.as_ref(), asked_at);
    Ok(true)
}

fn ask_primary(py: Python<'_>, entry: &Entry) -> PyResult<Option<Position>> {
    let answer = py.import("replicant.connections.causality")?.call_method1("ask", (&entry.strings[PRIMARY as usize],))?;
    Ok(answer.extract()?)
}

fn tell(cell: &Cell, cluster: &Cluster, position: Option<&Position>, asked_at: Duration) {
    let position = position.map(|position| &position.0);
    cell.of(cluster.name()).need(|need| need.asked(position, asked_at, state::now()));
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
    let answer = py.import("replicant.connections.causality")?.call_method1("wait", arguments)?;
    let reached: Option<Position> = answer.extract()?;
    // It had the position when it answered, which was before now.
    let at = state::now();
    let memory = cell.of(entry.cluster.name());
    memory.need(|need| need.waited(at.saturating_sub(begun), reached.is_some()));
    if reached.is_none() && entry.cluster.is_unwatched(&entry.cluster.view()) {
        // Nobody else will find out that it can never be had.
        if memory.need(|need| need.is_to_be_confirmed())
            && let Some(Position(primary)) = ask_primary(py, entry)?
        {
            memory.need(|need| need.confirm(&primary));
        }
        // The next read asks again.
        return Ok(false);
    }
    if let Some(Position(position)) = reached {
        let seen = Observation { member, position: Some(position), at, latency: None, server: None };
        take_in(&entry.cluster, std::slice::from_ref(&seen));
    }
    Ok(true)
}

/// Asks the member that a scope read from last how far it is, on this thread's connection to it, and tells `cell`; and
/// `target`, where the read is to go, whether it has come so far. Returns whether this thread may do such things.
pub fn learn(py: Python<'_>, entry: &Entry, cell: &Cell, last: Alias, target: Option<Member>) -> PyResult<bool> {
    if runs_a_loop(py)? {
        return Ok(false);
    }
    let (cluster, at) = (&entry.cluster, state::now());
    let position_of = |member: Member| -> PyResult<Option<Position>> {
        let causality = py.import("replicant.connections.causality")?;
        Ok(causality.call_method1("position", (&entry.strings[member as usize],))?.extract()?)
    };
    // Who is known not to answer is not asked: that could take as long as a connection may.
    let answers = |member: &Member| cluster.view().answers(*member);
    let position = match cluster.member(last).filter(answers) {
        Some(PRIMARY) => ask_primary(py, entry)?,
        Some(member) => position_of(member)?,
        None => None,
    };
    let memory = cell.of(cluster.name());
    if let (Some(Position(position)), Some(member)) = (position, cluster.member(last)) {
        let observe = |member, position, at| {
            let seen = Observation { member, position: Some(position), at, latency: None, server: None };
            take_in(cluster, std::slice::from_ref(&seen));
        };
        memory.need(|need| need.require(&position, at));
        observe(member, position.clone(), at);
        if let Some(target) = target.filter(|&target| !cluster.view().progress().has(target, &position)) {
            // Taken in also if it lacks something: it is not asked again before there is news of it.
            let at = state::now();
            if let Some(Position(position)) = position_of(target)? {
                observe(target, position, at);
            }
        }
    } else {
        memory.need(|need| need.require_read(Some(last), state::now()));
    }
    memory.reads_from(Last::Learned);
    Ok(true)
}

/// Tells people that `member` serves late data, since the primary is down; returns that as a decision.
pub fn late(py: Python<'_>, entry: &Entry, member: Member) -> PyResult<Decision> {
    let aliases = (&entry.strings[PRIMARY as usize], &entry.strings[member as usize]);
    py.import("replicant.connections.observations")?.call_method1("served_late", aliases)?;
    Ok((member, Reason::Unavailable))
}

/// Whether this thread runs an event loop, which must not be kept waiting.
pub fn runs_a_loop(py: Python<'_>) -> PyResult<bool> {
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
        let members = take_in(&entry.cluster, seen).into_iter();
        changed.extend(members.map(|member| table.name(entry.cluster.members()[member as usize]).to_owned()));
    }
    Ok(changed)
}

/// Counts the servers that were found to be others than before.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Takes in what members have answered by now; returns those behind which there is another server than before, or one that
/// has lost what it had.
fn take_in(cluster: &Cluster, seen: &[Observation]) -> Vec<Member> {
    cluster.observe_by(seen, state::now());
    let view = cluster.view();
    let just_before = |at: Duration| at.saturating_sub(Duration::from_nanos(1));
    let is_other = |seen: &&Observation| !view.progress().is_same_since(seen.member, just_before(seen.at));
    let changed: Vec<Member> = seen.iter().filter(is_other).map(|seen| seen.member).collect();
    CHANGES.fetch_add(changed.len() as u64, Ordering::Relaxed);
    changed
}

/// Another number where a session may have to be looked at anew before it is used: the configuration has changed, or the
/// server behind an alias.
#[pyfunction]
pub fn session_generation() -> u64 {
    state::configured() + CHANGES.load(Ordering::Relaxed)
}

/// Whether `server` is the one known to be behind `alias`; also where nothing is known of that, or several servers are.
#[pyfunction]
pub fn is_behind(py: Python<'_>, alias: &str, server: &str) -> PyResult<bool> {
    let table = state::table(py)?;
    let Some(&(index, member)) = table.places.get(alias) else { return Ok(true) };
    let view = table.entries[index].cluster.view();
    let is_known = |known| known == number(server);
    Ok(server.is_empty()
        || view.progress().is_multiplexed(member)
        || view.progress().server(member).is_none_or(is_known))
}

fn number(server: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    server.hash(&mut hasher);
    hasher.finish()
}

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
    let table = state::table(py)?;
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
    let reason = state::with_thread(|thread| match thread.last.get() {
        Some(Decided::Read(name, chosen, reason)) if (name, chosen) == (cluster.name(), member) => Some(reason),
        _ => None,
    });
    if reason == Some(Reason::Unavailable) || (reason.is_none() && !is_other) {
        return Ok(true);
    }
    let (view, cells, now) = (cluster.view(), cells(py)?, state::now());
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
        let session = (position.map(|position| &position.0), is_known);
        is_fit &= memory.need(|need| need.admits_session(cluster, &view, member, session, now));
    }
    if is_fit && !is_known {
        // What it is about to show, the server that is behind the alias now may lack.
        for memory in cells.iter().filter_map(|cell| cell.get(cluster.name())) {
            mistrust(memory, cluster.members()[member as usize], view.progress().changes(member));
        }
    }
    Ok(is_fit)
}

/// What the scope reads from `member` now is not from the server that was found there after `changes`: wherever it goes next,
/// there as well, it must see what it may have seen.
fn mistrust(memory: &Memory, member: Alias, changes: u32) {
    for (reads, last) in reads_of(memory, member) {
        if reads {
            memory.set_changes(last, changes.wrapping_sub(1));
        }
    }
}

/// In which ways a scope may read from `member`, and whether it does.
fn reads_of(memory: &Memory, member: Alias) -> [(bool, Last); 2] {
    [(memory.sticky() == Some(member), Last::Sticky), (memory.last() == Last::Named(member), Last::Named(member))]
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
    for (_, last) in
        reads_of(memory, name).into_iter().filter(|&(reads, last)| reads && memory.changes(last) != changes)
    {
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

/// A moment of Python's monotonic clock on ours, and never a later one. What lies before our origin (other processes look
/// at the servers, too) is taken for the origin, before which nothing was read or written here.
pub fn since_origin(py: Python<'_>, monotonic_ns: u64) -> PyResult<Duration> {
    static AHEAD: OnceLock<u64> = OnceLock::new();
    let ahead = if let Some(&ahead) = AHEAD.get() {
        ahead
    } else {
        let monotonic = py.import("time")?.getattr("monotonic_ns")?;
        let ahead = clock::ahead(state::now, || monotonic.call0()?.extract::<u64>())?;
        *AHEAD.get_or_init(|| ahead)
    };
    Ok(Duration::from_nanos(monotonic_ns.saturating_sub(ahead)))
}

/// The cells in force here: of the outermost scope and of the thread or task, which in a request are one.
pub fn cells(py: Python<'_>) -> PyResult<Vec<Arc<Cell>>> {
    let scope = scopes::current(py)?;
    let Some(scope) = scope.as_ref().map(|node| &node.get().scope) else {
        return Ok(reads::cell(py)?.into_iter().chain(scopes::record_cell(py)?).collect());
    };
    let record = if scope.in_request() { scope.record().cloned() } else { scopes::record_cell(py)? };
    let other = record.filter(|record| !Arc::ptr_eq(record, scope.cell()));
    Ok(std::iter::once(scope.cell().clone()).chain(other).collect())
}

/// The replicas that may serve a read here: they have what the scope in force must see, and this thread can use them.
pub fn eligible(py: Python<'_>, table: &Table, entry: &Entry) -> PyResult<Vec<Member>> {
    let (cluster, view) = (&entry.cluster, entry.cluster.view());
    let scope = scopes::current(py)?;
    let effect = scope.as_ref().and_then(|node| node.get().scope.effect(cluster.name()));
    let stale_ok = matches!(effect, Some(Effect::Replica { stale_ok: true, .. }));
    let cells = cells(py)?;
    let mut both = cells.iter();
    let cells = [both.next(), both.next()];
    if stale_ok || !cluster.settings().consistent || !Approach::is_needed(cells, cluster, &view) {
        return Ok(view.eligible().to_vec());
    }
    let approach = Approach { cluster, view: &view, cells, now: state::now() };
    let is_usable = |member| Ok(!table.lookup.in_transaction(entry.strings[member as usize].bind(py))?);
    approach.admitted(is_usable)
}

/// The primaries whose position is to be asked for before [`causality`] is complete, and the time in nanoseconds of our
/// clock, for [`asked`].
#[pyfunction]
pub fn unasked(py: Python<'_>) -> PyResult<Vec<(String, u64)>> {
    let now = u64::try_from(state::now().as_nanos()).unwrap_or(u64::MAX);
    let (table, cells) = (state::table(py)?, cells(py)?);
    let is_pending = |cluster: &Cluster| {
        cells.iter().filter_map(|cell| cell.get(cluster.name())).any(|memory| memory.need(|need| need.is_pending()))
    };
    let pending = table.entries.iter().filter(|entry| is_pending(&entry.cluster));
    Ok(pending.map(|entry| (table.name(entry.cluster.name()).to_owned(), now)).collect())
}

/// Tells the scope in force where a primary was when it was asked, after `asked_at`; None if it could not say.
#[pyfunction]
#[pyo3(signature = (primary, position, asked_at))]
pub fn asked(py: Python<'_>, primary: &str, position: Option<&Position>, asked_at: u64) -> PyResult<()> {
    let table = state::table(py)?;
    if let Some(&(index, PRIMARY)) = table.places.get(primary) {
        let cluster = &table.entries[index].cluster;
        let cells = cells(py)?;
        let pending =
            |cell: &&Arc<Cell>| cell.get(cluster.name()).is_some_and(|memory| memory.need(|need| need.is_pending()));
        cells.iter().filter(pending).for_each(|cell| tell(cell, cluster, position, Duration::from_nanos(asked_at)));
    }
    Ok(())
}

/// What the scope in force must see of a cluster: its primary's alias, a position, how many seconds ago it wrote what only
/// time can judge, the replica it read from, how many seconds ago and which server that is, and whether a read has waited
/// for the position in vain.
type Required = (String, Option<Position>, Option<f64>, Option<String>, Option<f64>, Option<u64>, bool);

/// What the scope in force has written and read, cluster by cluster; those of which there is nothing are left out.
#[pyfunction]
pub fn causality(py: Python<'_>) -> PyResult<Vec<Required>> {
    let (table, cells, now) = (state::table(py)?, cells(py)?, state::now());
    for Entry { cluster, strings } in &table.entries {
        if cluster.settings().consistent {
            let mut both = cells.iter();
            let approach = Approach { cluster, view: &cluster.view(), cells: [both.next(), both.next()], now };
            approach.forget_what_all_have(|member| table.lookup.in_transaction(strings[member as usize].bind(py)))?;
        }
    }
    let required = table.entries.iter().filter_map(|entry| required(&table, &entry.cluster, &cells, now));
    Ok(required.collect())
}

fn required(table: &Table, cluster: &Cluster, cells: &[Arc<Cell>], now: Duration) -> Option<Required> {
    if !cluster.settings().consistent {
        return None;
    }
    let view = cluster.view();
    let (mut position, mut written, mut read) = (None::<crate::position::Position>, None, Need::default());
    let mut missed = false;
    for memory in cells.iter().filter_map(|cell| cell.get(cluster.name())) {
        memory.need(|need| {
            if let Some(own) = need.position() {
                match position.as_ref().map_or(Ok(own.clone()), |other| other.union(own)) {
                    Ok(united) => position = Some(united),
                    Err(_) => written = Some(now),
                }
            }
            written = written.max(need.written()).max(need.is_pending().then_some(now));
            missed |= need.missed();
            if let Some((member, at)) = need.read() {
                read.require_read(member, at);
            }
        });
        let (last, place) = match memory.last() {
            Last::Named(alias) => (Some(alias), Last::Named(alias)),
            Last::Sticky | Last::Learned => (memory.sticky(), Last::Sticky),
        };
        if let Some(alias) = last {
            let is_present = |member| member == PRIMARY || memory.changes(place) == view.progress().changes(member);
            if !cluster.settings().has_positions || cluster.member(alias).is_none_or(is_present) {
                read.require_reads_of(cluster, &view, alias, now);
            } else {
                // Another server is behind the alias by now, which may lack what was read there.
                read.require_read(None, now);
            }
        }
    }
    // A read binds also where there is only one replica: that may come back with older data, or be replaced.
    let read = read.read().filter(|_| !cluster.settings().replicas.is_empty());
    if position.is_none() && written.is_none() && read.is_none() {
        return None;
    }
    let ago = |at: Duration| now.saturating_sub(at).as_secs_f64();
    // Nobody is to go back to one that serves no more.
    let may_serve = |alias: &Alias| cluster.member(*alias).is_some_and(|member| view.serves(member));
    let member = read.and_then(|(member, _)| member).filter(may_serve);
    let server = member.and_then(|alias| view.progress().server(cluster.member(alias)?));
    let member = member.map(|member| table.name(member).to_owned());
    let name = table.name(cluster.name()).to_owned();
    Some((name, position.map(Position), written.map(ago), member, read.map(|(_, at)| ago(at)), server, missed))
}

/// The server behind `alias`, as a number that another process on the same servers also has: `None` if it is not known.
#[pyfunction]
pub fn server(py: Python<'_>, alias: &str) -> PyResult<Option<u64>> {
    let table = state::table(py)?;
    let place = table.places.get(alias);
    Ok(place.and_then(|&(index, member)| table.entries[index].cluster.view().progress().server(member)))
}

/// The largest age that this process can tell, in seconds: the age of its clock's origin stands for larger ones.
#[pyfunction]
pub fn oldest_age() -> f64 {
    state::now().as_secs_f64()
}

/// The member that the client of a write reads from next, chosen by weight: requests that it sends at the same time then
/// read from the same member. `None` where scopes stick to no member, or no member may serve.
#[pyfunction]
pub fn draw_member(py: Python<'_>, primary: &str) -> PyResult<Option<String>> {
    let table = state::table(py)?;
    let Some(&(index, PRIMARY)) = table.places.get(primary) else { return Ok(None) };
    let cluster = &table.entries[index].cluster;
    let view = cluster.view();
    if !cluster.settings().sticky || view.eligible().is_empty() {
        return Ok(None);
    }
    let chosen = view.pool().choose(cluster.turn(), state::with_thread(state::Thread::draw));
    Ok(chosen.map(|member| table.name(cluster.members()[member as usize]).to_owned()))
}

/// Whether the scope in force wrote, and does not merely know of writes.
#[pyfunction]
pub fn has_written(py: Python<'_>) -> PyResult<bool> {
    let cells = cells(py)?;
    Ok(cells.iter().any(|cell| cell.memories().any(|memory| memory.need(|need| need.wrote()))))
}

/// Whether the client of the scope in force must be told what the scope must see: the scope wrote, or it presented a token
/// of its own.
#[pyfunction]
pub fn owes_token(py: Python<'_>) -> PyResult<bool> {
    let cells = cells(py)?;
    Ok(cells.iter().any(|cell| cell.memories().any(|memory| memory.need(|need| need.owes_token()))))
}

/// Adds to what the scope in force must see of the cluster of `primary`; an alias of no cluster is ignored. Ages are in
/// seconds.
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
    let table = state::table(py)?;
    let Some(&(index, PRIMARY)) = table.places.get(primary) else { return Ok(()) };
    let (cluster, now) = (&table.entries[index].cluster, state::now());
    let view = cluster.view();
    let at = |age: f64| now.saturating_sub(Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX));
    let member = member.and_then(|alias| table.places.get(alias)).filter(|place| place.0 == index);
    let member = member.map(|&(_, member)| cluster.members()[member as usize]);
    let cell = scopes::record_begun(py)?;
    let memory = cell.of(cluster.name());
    memory.need(|need| {
        if let Some(Position(position)) = position {
            need.require_foreign(position, at(known), at(received));
        }
        if missed {
            need.miss();
        }
        if presented {
            need.present();
        }
        if let Some(written) = written {
            need.require_time(at(written));
        }
        // The primary shows what is to be seen anyway.
        if member != Some(cluster.name())
            && let Some(read) = read
        {
            // Its client may have read there until now, with a token that is not moved on while it says the same; another
            // server there may lack what was shown.
            let place = member.and_then(|alias| cluster.member(alias));
            let begun = match place {
                // The token names this very server, and its client may have read there until now.
                Some(place) if is_same => at(read).max(view.progress().since(place)),
                _ => at(read),
            };
            if place.is_some_and(|place| !view.progress().is_same_since(place, begun)) {
                need.require_read(None, now);
            } else if member.is_some() && !cluster.settings().sticky {
                // Nothing keeps the scope on that member, and other members must have all that was shown until now.
                need.require_read(member, now);
            } else {
                need.require_read(member, begun);
            }
        }
        if let (Some(member), None) = (member, read) {
            need.prefer(member);
        }
    });
    if let Some(member) = member.filter(|_| cluster.settings().sticky && read.is_some())
        && memory.sticky().is_none()
        && scopes::current(py)?.is_some()
    {
        // The client has read there, so that something was seen, even if this scope fails to read there.
        if memory.stick(None, member) == member {
            memory.answered(member);
            if let Some(place) = cluster.member(member) {
                memory.set_changes(Last::Sticky, view.progress().changes(place));
            }
        }
    }
    Ok(())
}
