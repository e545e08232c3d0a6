//! Whether this thread's connection to a database is in a transaction.
//!
//! `connections[alias]` costs about a microsecond, ten times a whole decision, so the connection is looked up where
//! Django's handler keeps it: in a `threading.local`, under its alias. That layout is private. [`Lookup::verify`]
//! compares it with the public lookup before it is believed, and the public lookup is used wherever it is not.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};

use super::ffi::attribute::own_attribute;

/// Connections in this process on which somebody sent BEGIN as text and has not ended it.
static TEXT_TRANSACTIONS: AtomicUsize = AtomicUsize::new(0);
/// Connections in this process whose session was changed so that a read has another meaning there.
static CHANGED_SESSIONS: AtomicUsize = AtomicUsize::new(0);
/// Whether a connection was ever opened in a thread that runs an event loop. Only an open one can be in a transaction.
static BESIDE_A_LOOP: AtomicBool = AtomicBool::new(false);
/// The attribute of a connection that holds what we know of it.
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

    /// Whether a statement changed the session of this thread's connection to `alias` so that a read has another meaning
    /// there. One load while there is no such session in the process.
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

    /// This thread's connection object for `alias`, if it has one yet.
    #[expect(clippy::inline_always, reason = "each decision asks; the other callers are rare")]
    #[inline(always)]
    fn connection<'py>(&self, alias: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = alias.py();
        let (Some(storage), true) = (&self.storage, self.trust.load(Ordering::Relaxed) != PUBLIC) else {
            return self.public(alias).map(Some);
        };
        let own = storage.bind(py).getattr(intern!(py, "__dict__"))?;
        let own = own.cast::<PyDict>()?;
        // In a thread that runs an event loop (and allows it, DJANGO_ALLOW_ASYNC_UNSAFE) the connections live in a
        // context variable that asgiref leaves here.
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

    /// Uses the public lookup alone, or (again) the layout if that proves to be as expected. For tests.
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

    /// Compares the private layout with what Django's own lookup says, once.
    #[cold]
    fn verify<'py>(&self, alias: &Bound<'py, PyString>, own: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = alias.py();
        let connection = self.public(alias)?;
        if own.contains(intern!(py, "cvar"))? {
            // The public lookup just told that an event loop runs here: try again elsewhere.
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
    // A connection that was never opened has autocommit false, too.
    if connection.getattr(intern!(py, "in_atomic_block"))?.is_truthy()? {
        return is_in_users_block(connection);
    }
    Ok(!connection.getattr(intern!(py, "connection"))?.is_none())
}

/// Whether one of the `atomic` blocks that are open on a connection is the user's and was asked of it: not that of Django's
/// `TestCase`, and not that of a mirror, which shares the connection.
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
        // None stands for the alias `default`, which is never a mirror's.
        match block.getattr_opt(intern!(py, "using"))? {
            Some(using) if !using.is_none() && !using.eq(&alias)? => {}
            _ => return Ok(true),
        }
    }
    // Somebody set `in_atomic_block` by hand.
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

/// Counts one connection more (or fewer) with a transaction that was sent as text; returns how many there are.
#[pyfunction]
#[pyo3(signature = (open=None))]
pub fn text_transaction(open: Option<bool>) -> usize {
    match open {
        Some(true) => TEXT_TRANSACTIONS.fetch_add(1, Ordering::Relaxed) + 1,
        Some(false) => TEXT_TRANSACTIONS.fetch_sub(1, Ordering::Relaxed) - 1,
        None => TEXT_TRANSACTIONS.load(Ordering::Relaxed),
    }
}

/// Counts one connection more (or fewer) whose session was changed so that a read has another meaning there; returns how
/// many there are.
#[pyfunction]
#[pyo3(signature = (changed=None))]
pub fn session_changed(changed: Option<bool>) -> usize {
    match changed {
        Some(true) => CHANGED_SESSIONS.fetch_add(1, Ordering::Relaxed) + 1,
        Some(false) => CHANGED_SESSIONS.fetch_sub(1, Ordering::Relaxed) - 1,
        None => CHANGED_SESSIONS.load(Ordering::Relaxed),
    }
}
