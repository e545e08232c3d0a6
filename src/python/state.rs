//! What the process shares: the configuration in force, the clock's origin, the supply of randomness.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rand::Rng;

use crate::cluster::{Cluster, OnUnavailable, View};
use crate::counters::Shard;
use crate::decision::Reason;
use crate::models::{ClusterIndex, Models};
use crate::names::{Alias, Names};
use crate::pool::Member;
use crate::random::{Draws, Generation};
use crate::shared::{Kept, Shared};

use super::attached::attached;
use super::model::ModelCache;
use super::transactions::Lookup;

/// One cluster with the strings its answers are.
#[derive(Debug)]
pub struct Entry {
    pub cluster: Arc<Cluster>,
    /// The members' aliases as Python strings, made once: an answer is a new reference to one of them.
    pub strings: Box<[Py<PyString>]>,
}

/// A configuration in force. Immutable; replaced whole.
#[derive(Debug)]
pub struct Table {
    pub entries: Box<[Entry]>,
    pub models: Models,
    pub cache: ModelCache,
    pub lookup: Lookup,
    /// Where an alias stands, by name.
    pub places: HashMap<String, (ClusterIndex, Member)>,
    names: HashMap<Alias, String>,
}

impl Table {
    pub fn new(entries: Box<[Entry]>, models: Models, lookup: Lookup, names: &Names) -> Self {
        let mut places = HashMap::new();
        let mut known = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for (member, &alias) in (0..).zip(entry.cluster.members()) {
                let name = names.name(alias).unwrap_or_default().to_owned();
                places.insert(name.clone(), (index, member));
                known.insert(alias, name);
            }
        }
        Self { entries, models, cache: ModelCache::default(), lookup, places, names: known }
    }

    /// Where an alias stands. Most often it is the very string that a decision answered with.
    #[inline]
    pub fn place_of_alias(&self, alias: &Bound<'_, PyString>) -> PyResult<Option<(ClusterIndex, Member)>> {
        const FEW: usize = 4;
        for (index, entry) in self.entries.iter().enumerate().take(FEW) {
            for (member, known) in (0..).zip(&entry.strings).take(FEW) {
                if known.is(alias) {
                    return Ok(Some((index, member)));
                }
            }
        }
        Ok(self.places.get(alias.to_str()?).copied())
    }

    /// The name of a member.
    pub fn name(&self, alias: Alias) -> &str {
        self.names.get(&alias).map_or("?", String::as_str)
    }

    /// The names of all members, cluster by cluster.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(|entry| entry.cluster.members()).map(|&alias| self.name(alias))
    }
}

static TABLE: LazyLock<Shared<Option<Table>>> = LazyLock::new(|| Shared::new(Arc::new(None)));
/// The configuration before, kept from a change of settings until the next one is in force, which inherits what it knew.
static BEFORE: Mutex<Option<TableRef>> = Mutex::new(None);
/// Held while the table in force is replaced, and never while Python runs.
static CHANGING: Mutex<()> = Mutex::new(());
static NAMES: LazyLock<Mutex<Names>> = LazyLock::new(Mutex::default);
/// Counts the configurations, so that a connection can tell that its own preparation is out of date.
static CONFIGURED: AtomicU64 = AtomicU64::new(0);
/// The next read is to start the monitor: nothing watches this configuration, or this process, yet.
static UNWATCHED: AtomicBool = AtomicBool::new(false);
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static FORKS: Generation = Generation::new();

/// A table that is there.
#[derive(Clone, Debug)]
pub struct TableRef(Arc<Option<Table>>);

impl TableRef {
    fn new(table: Arc<Option<Table>>) -> Option<Self> {
        table.is_some().then_some(Self(table))
    }
}

impl Deref for TableRef {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.0.as_ref().as_ref().expect("made only of a table that is there")
    }
}

/// The table in force, built from the settings if it is missing or was invalidated.
pub fn table(py: Python<'_>) -> PyResult<TableRef> {
    match present_table() {
        Some(table) => Ok(table),
        None => build(py),
    }
}

/// The table in force if there is one.
pub fn present_table() -> Option<TableRef> {
    TableRef::new(TABLE.load())
}

/// The table that was in force last, for one that is being built.
pub fn last_table() -> Option<TableRef> {
    present_table().or_else(|| BEFORE.lock().clone())
}

#[cold]
fn build(py: Python<'_>) -> PyResult<TableRef> {
    // Settings may change again while they are read; the reader then starts over.
    loop {
        py.import("replicant.conf")?.call_method0("load")?;
        if let Some(table) = present_table() {
            return Ok(table);
        }
    }
}

/// Puts a table in force that was built of the settings read under the number `generation`. If they have changed since,
/// it is of no use, and the next question builds another. Returns whether it is in force.
pub fn install(table: Table, generation: u64) -> bool {
    let mut table = Arc::new(Some(table));
    let mut before = None;
    let is_current = {
        let _changing = CHANGING.lock();
        let is_current = configured() == generation;
        if is_current {
            table = TABLE.swap(table);
            before = BEFORE.lock().take();
            CONFIGURED.fetch_add(1, Ordering::Relaxed);
            unwatch();
        }
        is_current
    };
    // What is not in force. It holds Python objects, whose end may run Python: not before the lock is free.
    drop((table, before));
    is_current
}

/// The settings have changed: the next question builds a new table.
pub fn drop_table() {
    let none = Arc::new(None);
    let past = {
        let _changing = CHANGING.lock();
        let past = TableRef::new(TABLE.swap(none)).and_then(|table| BEFORE.lock().replace(table));
        CONFIGURED.fetch_add(1, Ordering::Relaxed);
        past
    };
    // As in `install`.
    drop(past);
}

/// The number of the configuration in force.
pub fn configured() -> u64 {
    CONFIGURED.load(Ordering::Relaxed)
}

/// The next read is to start the monitor.
pub fn unwatch() {
    UNWATCHED.store(true, Ordering::Relaxed);
}

/// Starts the monitor if the present configuration still lacks one. One load on the way of every read, no more.
#[inline]
pub fn watch(py: Python<'_>) -> PyResult<()> {
    if UNWATCHED.load(Ordering::Relaxed) { start_monitor(py) } else { Ok(()) }
}

#[cold]
fn start_monitor(py: Python<'_>) -> PyResult<()> {
    // Taken back first: the import may run code that reads.
    if UNWATCHED.swap(false, Ordering::Relaxed) {
        attached(py, |py| py.import("replicant.monitor.cluster_monitor")?.call_method0("start").map(drop))?;
    }
    Ok(())
}

/// The process-wide numbers of aliases.
pub fn names() -> parking_lot::MutexGuard<'static, Names> {
    NAMES.lock()
}

/// The one place that reads the clock: monotonic, since the process first asked.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Duration {
    Instant::now().saturating_duration_since(*ORIGIN)
}

/// Every generator made before the fork is stale; called in the child.
pub fn forked() {
    FORKS.advance();
}

/// What a thread keeps for its decisions, so that a decision touches nothing that other threads write to.
pub struct Thread {
    snapshot: Cell<Option<Box<Snapshot>>>,
    draws: RefCell<Draws>,
    pub shard: Shard,
    /// The last decision, for whoever watches the statement that follows it.
    pub last: Cell<Option<Last>>,
    /// The last decision that such a one has taken.
    taken: Cell<Option<Last>>,
    /// The answer to the last read that was pinned, where replicas may serve late data if the primary is dead.
    pinned: Cell<Option<Py<PyString>>>,
}

/// A decision: its cluster, and for a read where it went and why.
#[derive(Clone, Copy, Debug)]
pub enum Last {
    Read(Alias, Member, Reason),
    Write(Alias),
}

/// The table in force and who may serve in each of its clusters.
#[derive(Debug)]
pub struct Snapshot {
    table: Kept<Option<Table>>,
    views: Box<[Kept<View>]>,
}

thread_local! {
    static THREAD: Thread = Thread {
        snapshot: Cell::new(None),
        draws: RefCell::new(Draws::from_system(&FORKS)),
        shard: Shard::claim(),
        last: const { Cell::new(None) },
        taken: const { Cell::new(None) },
        pinned: const { Cell::new(None) },
    };
}

/// Runs `work` with what this thread keeps.
#[inline]
pub fn with_thread<T>(work: impl FnOnce(&Thread) -> T) -> T {
    THREAD.with(work)
}

impl Thread {
    /// 64 random bits.
    #[inline]
    pub fn draw(&self) -> u64 {
        self.draws.borrow_mut().get(&FORKS).next_u64()
    }

    /// What will be drawn next.
    pub fn preview(&self) -> u64 {
        self.draws.borrow().preview().next_u64()
    }

    /// The last decision, for whoever watches the statement that follows it; once.
    pub fn take_decision(&self) -> Option<Last> {
        let last = self.last.take();
        self.taken.set(last);
        last
    }

    /// The last decision, whether or not it was taken.
    pub fn last_decision(&self) -> Option<Last> {
        self.last.get().or_else(|| self.taken.get())
    }

    /// The answer to a read that only the primary may serve: its alias.
    ///
    /// Where replicas may serve late data if the primary is dead, each answer is another string object. The statement that
    /// is sent for this decision carries it, and so can be told from a statement whose sender named the primary.
    #[cold]
    #[inline(never)]
    pub fn pin<'py>(&self, alias: &Bound<'py, PyString>, policy: OnUnavailable) -> Bound<'py, PyString> {
        self.pinned.set(None);
        if policy != OnUnavailable::Replica {
            return alias.clone();
        }
        let answer = PyString::new(alias.py(), &alias.to_string_lossy());
        // CPython has one object for each string of one character: such a statement cannot be told from others.
        if !answer.is(alias) {
            self.pinned.set(Some(answer.clone().unbind()));
        }
        answer
    }

    /// The string object that [`Self::pin`] answered with last.
    pub fn pinned(&self, py: Python<'_>) -> Option<Py<PyString>> {
        let answer = self.pinned.take();
        self.pinned.set(answer.as_ref().map(|answer| answer.clone_ref(py)));
        answer
    }

    /// The last decision was made for a read that goes on elsewhere: no other statement is sent for it.
    pub fn unpin(&self) {
        self.pinned.set(None);
    }

    /// This thread's snapshot, brought up to date.
    #[inline]
    pub fn snapshot(&self, py: Python<'_>) -> PyResult<Held<'_>> {
        match self.snapshot.take() {
            Some(snapshot) if snapshot.table.is_present(&TABLE) => Ok(Held { thread: self, snapshot: Some(snapshot) }),
            past => attached(py, |py| self.another_snapshot(py, past)),
        }
    }

    fn another_snapshot(&self, py: Python<'_>, past: Option<Box<Snapshot>>) -> PyResult<Held<'_>> {
        // It may be the last that holds its table, whose strings and models are Python's.
        drop(past);
        loop {
            let table = Kept::new(&TABLE);
            if let Some(present) = table.value() {
                let views = present.entries.iter().map(|entry| Kept::new(entry.cluster.shared_view())).collect();
                return Ok(Held { thread: self, snapshot: Some(Box::new(Snapshot { table, views })) });
            }
            build(py)?;
        }
    }
}

/// A thread's snapshot, for one decision.
///
/// It is taken out and put back, not borrowed: a decision may run Python, which may ask for another decision and find
/// that the settings have changed.
pub struct Held<'thread> {
    thread: &'thread Thread,
    snapshot: Option<Box<Snapshot>>,
}

impl Held<'_> {
    /// The table, and each cluster's view.
    #[inline]
    pub fn parts(&mut self) -> (&Table, &mut [Kept<View>]) {
        let Snapshot { table, views } = &mut **self.snapshot.as_mut().expect("put back only when dropped");
        (table.value().as_ref().expect("made only of a table that is there"), views)
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.thread.snapshot.set(self.snapshot.take());
    }
}

/// Seeds this thread's generator, or with `None` lets the operating system do it.
pub fn seed(seed: Option<u64>) {
    let draws = seed.map_or_else(|| Draws::from_system(&FORKS), |seed| Draws::seeded(seed, &FORKS));
    with_thread(|thread| thread.draws.replace(draws));
}

/// 32 random bits drawn by this thread.
pub fn draw() -> u32 {
    with_thread(|thread| (thread.draw() >> 32) as u32)
}
