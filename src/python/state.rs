//! What the process shares: the configuration in force, the clock's origin, the supply of randomness.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;
use rand::{Rng, TryRng};

use crate::cluster::Cluster;
use crate::models::{ClusterIndex, Models};
use crate::names::{Alias, Names};
use crate::pool::Member;
use crate::random::{Draws, Generation};

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

    /// The name of a member.
    pub fn name(&self, alias: Alias) -> &str {
        self.names.get(&alias).map_or("?", String::as_str)
    }

    /// The names of all members, cluster by cluster.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(|entry| entry.cluster.members()).map(|&alias| self.name(alias))
    }
}

static TABLE: ArcSwapOption<Table> = ArcSwapOption::const_empty();
/// The configuration before, kept while settings change so that the next one can inherit what it knew.
static BEFORE: ArcSwapOption<Table> = ArcSwapOption::const_empty();
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

thread_local! {
    static DRAWS: RefCell<Draws> = RefCell::new(Draws::from_system(&FORKS));
}

/// A table that is kept for as long as this lives. Cheaper than an `Arc`: nothing is counted.
pub struct TableRef(Guard<Option<Arc<Table>>>);

impl Deref for TableRef {
    type Target = Table;

    #[inline]
    fn deref(&self) -> &Table {
        self.0.as_deref().expect("made only of a table that is there")
    }
}

/// The table in force, built from the settings if it is missing or was invalidated.
#[inline]
pub fn table(py: Python<'_>) -> PyResult<TableRef> {
    match present_table() {
        Some(table) => Ok(table),
        None => build(py),
    }
}

/// The table in force if there is one.
#[inline]
pub fn present_table() -> Option<TableRef> {
    let table = TABLE.load();
    table.is_some().then_some(TableRef(table))
}

/// The table that was in force last, for one that is being built.
pub fn last_table() -> Option<Arc<Table>> {
    TABLE.load_full().or_else(|| BEFORE.load_full())
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
/// it is of no use, and the next question builds another.
pub fn install(table: Table, generation: u64) {
    let _changing = CHANGING.lock();
    if configured() == generation {
        TABLE.store(Some(Arc::new(table)));
        CONFIGURED.fetch_add(1, Ordering::Relaxed);
        unwatch();
    }
}

/// The settings have changed: the next question builds a new table.
pub fn drop_table() {
    let _changing = CHANGING.lock();
    if let Some(table) = TABLE.swap(None) {
        BEFORE.store(Some(table));
    }
    CONFIGURED.fetch_add(1, Ordering::Relaxed);
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
        py.import("replicant.monitor")?.call_method0("start")?;
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

/// Seeds this thread's generator, or with `None` lets the operating system do it.
pub fn seed(seed: Option<u64>) {
    let draws = seed.map_or_else(|| Draws::from_system(&FORKS), |seed| Draws::seeded(seed, &FORKS));
    DRAWS.set(draws);
}

/// This thread's generator, borrowed for one draw at a time: a decision may run Python between two draws, which may
/// ask for another decision.
pub struct ThreadDraws;

impl TryRng for ThreadDraws {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(DRAWS.with_borrow_mut(|draws| draws.get(&FORKS).next_u32()))
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(DRAWS.with_borrow_mut(|draws| draws.get(&FORKS).next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        DRAWS.with_borrow_mut(|draws| draws.get(&FORKS).fill_bytes(bytes));
        Ok(())
    }
}

/// A copy of this thread's generator.
pub fn preview() -> rand::rngs::SmallRng {
    DRAWS.with_borrow(Draws::preview)
}
