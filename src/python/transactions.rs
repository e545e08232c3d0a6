//! Whether this thread's connections are in a transaction, or have a changed session.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::table;

/// Whether this thread's connection to `alias` is in a transaction.
#[pyfunction]
pub fn in_transaction(alias: &Bound<'_, PyString>) -> PyResult<bool> {
    table::in_force(alias.py())?.lookup.in_transaction(alias)
}

/// Whether a statement changed the session of this thread's connection to `alias` so that reads have another meaning
/// there.
#[pyfunction]
pub fn changed_session(alias: &Bound<'_, PyString>) -> PyResult<bool> {
    table::in_force(alias.py())?.lookup.is_changed(alias)
}

/// Forces (or no longer forces) the public lookup of connections; returns whether it is in use. For tests.
#[pyfunction]
#[pyo3(signature = (force=None))]
pub fn public_lookup(py: Python<'_>, force: Option<bool>) -> PyResult<bool> {
    let table = table::in_force(py)?;
    if let Some(force) = force {
        table.lookup.force_public(force);
    }
    Ok(table.lookup.is_public())
}
