//! This thread's connections, found without Django's own lookup.
//!
//! `connections[alias]` costs about a microsecond, ten times a whole decision. A connection is therefore looked up
//! where Django's handler keeps it: in a `threading.local`, under its alias. That layout is private. [`Lookup::verify`]
//! compares it with the public lookup before it is used, and the public lookup is used wherever they differ.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};

use super::ffi::attribute::own_attribute;

/// How many connections of this process have a transaction open that began with a BEGIN sent as text.
static TEXT_TRANSACTIONS: AtomicUsize = AtomicUsize::new(0);
/// How many connections of this process have a session that was changed so that reads have another meaning there.
static CHANGED_SESSIONS: AtomicUsize = AtomicUsize::new(0);
/// Whether a connection was ever opened in a thread that runs an event loop. Only an open connection can be in a
/// transaction.
static BESIDE_A_LOOP: AtomicBool = AtomicBool::new(false);
/// The attribute of a connection that holds its tracker.
const TRACKER: &str = "_replicant_tracker";

/// How to find this thread's connections.
#[derive(Debug)]
pub struct Lookup {
    /// `django.db.connections`.
    connections: Py<PyAny>,
    /// Its `threading.local`, or `None` where there is no such thing.
    storage: Option<Py<PyAny>>,
    trust: AtomicU8,
}

const UNTRIED: u8 = 0;
const TRUSTED: u8 = 1;
const PUBLIC: u8 = 2;

impl Lookup {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let connections = py.import("django.db")?.getattr("connections")?;
        let local = py.import("threading")?.getattr("local")?;
        let storage = connections.getattr("_connections").and_then(|handler| handler.getattr("_storage"));
        let storage = storage.ok().filter(|storage| storage.is_instance(&local).unwrap_or(false));
        let trust = AtomicU8::new(if storage.is_some() { UNTRIED } else { PUBLIC });
        Ok(Self { connections: connections.unbind(), storage: storage.map(Bound::unbind), trust })
    }

    /// Whether this thread's connection to `alias` is in a transaction: in `atomic`, with autocommit off, or after a
    /// BEGIN sent as text. Opens no connection.
    #[inline]
    pub fn in_transaction(&self, alias: &Bound<'_, PyString>) -> PyResult<bool> {
        match self.connection(alias)? {
            Some(connection) => is_in_transaction(&connection),
            None => Ok(false),
        }
    }

    /// Whether a statement changed the session of this thread's connection to `alias` so that reads have another
    /// meaning there. One load while no session of the process is changed.
    #[inline]
    pub fn is_changed(&self, alias: &Bound<'_, PyString>) -> PyResult<bool> {
        if CHANGED_SESSIONS.load(Ordering::Relaxed) == 0 { Ok(false) } else { self.is_changed_here(alias) }
    }

    #[cold]
    fn is_changed_here(&self, alias: &Bound<'_, PyString>) -> PyResult<bool> {
        let py = alias.py();
        let Some(connection) = self.connection(alias)? else { return Ok(false) };
        match connection.getattr_opt(TRACKER)? {
            Some(tracker) => tracker.getattr(intern!(py, "changes_reads"))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// This thread's connection object for `alias`, if there is one yet.
    #[expect(clippy::inline_always, reason = "each decision asks; the other callers are rare")]
    #[inline(always)]
    fn connection<'py>(&self, alias: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = alias.py();
        let (Some(storage), true) = (&self.storage, self.trust.load(Ordering::Relaxed) != PUBLIC) else {
            return self.public(alias).map(Some);
        };
        let own = storage.bind(py).getattr(intern!(py, "__dict__"))?;
        let own = own.cast::<PyDict>()?;
        // In a thread that runs an event loop (and allows it, `DJANGO_ALLOW_ASYNC_UNSAFE`) the connections are in a
        // context variable that asgiref stores under this name.
        if BESIDE_A_LOOP.load(Ordering::Relaxed) && own.contains(intern!(py, "cvar"))? {
            return self.public(alias).map(Some);
        }
        if self.trust.load(Ordering::Relaxed) == UNTRIED {
            return self.verify(alias, own).map(Some);
        }
        own.get_item(alias)
    }

    /// Whether Django has settings for a connection to `alias`. Opens no connection.
    pub fn has_connection(&self, alias: &Bound<'_, PyString>) -> PyResult<bool> {
        let py = alias.py();
        self.connections.bind(py).getattr(intern!(py, "settings"))?.contains(alias)
    }

    /// Uses the public lookup alone; or (again) the private layout, if it proves to be as expected. For tests.
    pub fn force_public(&self, force: bool) {
        let trust = if force || self.storage.is_none() { PUBLIC } else { UNTRIED };
        self.trust.store(trust, Ordering::Relaxed);
    }

    /// Whether the public lookup is in use.
    pub fn is_public(&self) -> bool {
        self.trust.load(Ordering::Relaxed) == PUBLIC
    }

    fn public<'py>(&self, alias: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.connections.bind(alias.py()).get_item(alias)
    }

    /// Compares the private layout with Django's own lookup, once.
    #[cold]
    fn verify<'py>(&self, alias: &Bound<'py, PyString>, own: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = alias.py();
        let connection = self.public(alias)?;
        if own.contains(intern!(py, "cvar"))? {
            // An event loop runs in this thread: compare in another one.
            return Ok(connection);
        }
        let same = own.get_item(alias)?.is_some_and(|found| found.is(&connection));
        let speaks = connection.getattr(intern!(py, "autocommit")).is_ok_and(|value| value.extract::<bool>().is_ok());
        self.trust.store(if same && speaks { TRUSTED } else { PUBLIC }, Ordering::Relaxed);
        Ok(connection)
    }
}

#[inline]
fn is_in_transaction(connection: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = connection.py();
    let name = intern!(py, "autocommit");
    let autocommit = own_attribute(connection, name).map_or_else(|| connection.getattr(name), Ok)?;
    if autocommit.is(PyBool::new(py, true)) || autocommit.is_truthy()? {
        return Ok(TEXT_TRANSACTIONS.load(Ordering::Relaxed) > 0 && in_text_transaction(connection)?);
    }
    // A connection that was never opened has autocommit false as well.
    if connection.getattr(intern!(py, "in_atomic_block"))?.is_truthy()? {
        return is_in_users_block(connection);
    }
    Ok(!connection.getattr(intern!(py, "connection"))?.is_none())
}

/// Whether one of the open `atomic` blocks of a connection is the user's and was requested of this connection: not that
/// of Django's `TestCase`, and not that of a mirror, which shares the connection.
fn is_in_users_block(connection: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = connection.py();
    let alias = connection.getattr(intern!(py, "alias"))?;
    let mut is_empty = true;
    for block in connection.getattr(intern!(py, "atomic_blocks"))?.try_iter()? {
        let block = block?;
        is_empty = false;
        let from_testcase = block.getattr_opt(intern!(py, "_from_testcase"))?;
        if from_testcase.is_some_and(|answer| answer.is_truthy().unwrap_or(false)) {
            continue;
        }
        // None stands for the alias `default`, which is never the alias of a mirror.
        match block.getattr_opt(intern!(py, "using"))? {
            Some(using) if !using.is_none() && !using.eq(&alias)? => {}
            _ => return Ok(true),
        }
    }
    // Without any block, `in_atomic_block` was set by hand.
    Ok(is_empty)
}

#[cold]
fn in_text_transaction(connection: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = connection.py();
    if connection.getattr(intern!(py, "connection"))?.is_none() {
        return Ok(false);
    }
    match connection.getattr_opt(TRACKER)? {
        Some(tracker) => tracker.getattr(intern!(py, "in_text_transaction"))?.is_truthy(),
        None => Ok(false),
    }
}

/// A connection was opened in a thread that runs an event loop.
#[pyfunction]
pub fn opened_beside_a_loop() {
    BESIDE_A_LOOP.store(true, Ordering::Relaxed);
}

/// Counts one connection more (or fewer) with a transaction that began as text; returns the count.
#[pyfunction]
#[pyo3(signature = (open=None))]
pub fn text_transaction(open: Option<bool>) -> usize {
    match open {
        Some(true) => TEXT_TRANSACTIONS.fetch_add(1, Ordering::Relaxed) + 1,
        Some(false) => TEXT_TRANSACTIONS.fetch_sub(1, Ordering::Relaxed) - 1,
        None => TEXT_TRANSACTIONS.load(Ordering::Relaxed),
    }
}

/// Counts one connection more (or fewer) with a session that was changed so that reads have another meaning there;
/// returns the count.
#[pyfunction]
#[pyo3(signature = (changed=None))]
pub fn session_changed(changed: Option<bool>) -> usize {
    match changed {
        Some(true) => CHANGED_SESSIONS.fetch_add(1, Ordering::Relaxed) + 1,
        Some(false) => CHANGED_SESSIONS.fetch_sub(1, Ordering::Relaxed) - 1,
        None => CHANGED_SESSIONS.load(Ordering::Relaxed),
    }
}
