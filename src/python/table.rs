//! The configuration in force, which the process shares.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::alias::{Alias, Aliases};
use crate::cluster::Cluster;
use crate::member::Member;
use crate::routing::model_map::{ClusterIndex, Label, ModelMap};
use crate::support::snapshot::Shared;

use super::connection_lookup::Lookup;
use super::ffi::attached::attached;
use super::model_cache::{ModelCache, Place, labels};

/// One cluster, and its aliases as Python strings.
#[derive(Debug)]
pub struct Entry {
    pub cluster: Arc<Cluster>,
    /// The members' aliases, made once: a decision returns a new reference to one of them.
    pub strings: Box<[Py<PyString>]>,
}

/// A configuration in force. Immutable; replaced whole.
#[derive(Debug)]
pub struct Table {
    pub entries: Box<[Entry]>,
    pub models: ModelMap,
    pub lookup: Lookup,
    /// The cluster and member of an alias, by its name.
    pub places: HashMap<String, (ClusterIndex, Member)>,
    names: HashMap<Alias, String>,
}

impl Table {
    pub fn new(entries: Box<[Entry]>, models: ModelMap, lookup: Lookup, names: &Aliases) -> Self {
        let mut places = HashMap::new();
        let mut known = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for (member, &alias) in (0..).zip(entry.cluster.members()) {
                let name = names.name(alias).unwrap_or_default().to_owned();
                places.insert(name.clone(), (index, member));
                known.insert(alias, name);
            }
        }
        Self { entries, models, lookup, places, names: known }
    }

    /// The cluster and member of an alias. Most often it is the very string that a decision returned.
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

    /// The place of `model`.
    #[inline]
    pub fn place(&self, cache: &mut ModelCache, model: &Bound<'_, PyAny>) -> PyResult<Place> {
        match cache.get(model.as_ptr() as usize) {
            Some(place) => Ok(place),
            None => attached(model.py(), |_| self.find_place(cache, model)),
        }
    }

    fn find_place(&self, cache: &mut ModelCache, model: &Bound<'_, PyAny>) -> PyResult<Place> {
        let py = model.py();
        let place = self.place_of(&labels(model)?);
        // Migrations create and drop thousands of historical models.
        let historical = || -> PyResult<bool> { model.getattr(intern!(py, "__module__"))?.eq("__fake__") };
        if model.is_instance_of::<PyType>() && !historical()? {
            cache.insert(model, place);
        }
        Ok(place)
    }

    /// The place of a model with these labels, the first being its own.
    pub fn place_of(&self, labels: &[Label]) -> Place {
        // A proxy's rows belong to its concrete model, wherever the proxy's own app lives.
        let cluster = self.models.home(if labels.len() > 1 { &labels[1..] } else { labels });
        Place { cluster, exempt: cluster.is_some_and(|cluster| self.models.is_exempt(cluster, labels)) }
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

pub(super) static TABLE: LazyLock<Shared<Option<Table>>> = LazyLock::new(|| Shared::new(Arc::new(None)));
/// The former configuration, kept from a change of settings until the next table is in force, which inherits its
/// measurements.
static BEFORE: Mutex<Option<TableRef>> = Mutex::new(None);
/// Held while the table in force is replaced, and never while Python runs.
static CHANGING: Mutex<()> = Mutex::new(());
static ALIASES: LazyLock<Mutex<Aliases>> = LazyLock::new(Mutex::default);
/// Counts the configurations, so that a connection can detect that its own preparation is out of date.
static CONFIGURED: AtomicU64 = AtomicU64::new(0);
/// The next read must start the monitor: none runs for this configuration or process yet.
static UNWATCHED: AtomicBool = AtomicBool::new(false);
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
pub fn in_force(py: Python<'_>) -> PyResult<TableRef> {
    match present() {
        Some(table) => Ok(table),
        None => build(py),
    }
}

/// The table in force if there is one.
pub fn present() -> Option<TableRef> {
    TableRef::new(TABLE.load())
}

/// The table that was in force last, for one that is being built.
pub fn last() -> Option<TableRef> {
    present().or_else(|| BEFORE.lock().clone())
}

/// Builds the table from the settings.
#[cold]
pub(super) fn build(py: Python<'_>) -> PyResult<TableRef> {
    // Settings may change again while they are read; then they are read anew.
    loop {
        py.import("replicant.conf")?.call_method0("load")?;
        if let Some(table) = present() {
            return Ok(table);
        }
    }
}

/// Puts a table in force that was built from the settings read under the number `generation`. If they have changed
/// since, the table is dropped, and the next read builds another. Returns whether it is in force.
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
    // These tables hold Python objects, and dropping those may run Python, so it waits until the lock is free.
    drop((table, before));
    is_current
}

/// The settings have changed: the next read builds a new table.
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

/// The next read must start the monitor.
pub fn unwatch() {
    UNWATCHED.store(true, Ordering::Relaxed);
}

/// Starts the monitor if none runs for the present configuration. Costs a read one load.
#[inline]
pub fn watch(py: Python<'_>) -> PyResult<()> {
    if UNWATCHED.load(Ordering::Relaxed) { start_monitor(py) } else { Ok(()) }
}

#[cold]
fn start_monitor(py: Python<'_>) -> PyResult<()> {
    // Reset first: the import may run code that reads.
    if UNWATCHED.swap(false, Ordering::Relaxed) {
        attached(py, |py| py.import("replicant.monitor.cluster_monitor")?.call_method0("start").map(drop))?;
    }
    Ok(())
}

/// The process-wide numbers of aliases.
pub fn names() -> parking_lot::MutexGuard<'static, Aliases> {
    ALIASES.lock()
}
