//! One interpreter for each process.
//!
//! The core's state (the table in force, the aliases, the last decision of a thread) is static, and so are the types
//! and the interned strings that `PyO3` makes. CPython would let a second interpreter of the process (`mod_wsgi` runs
//! one for each site by default) import the module all the same, and its reads would go to the aliases of the first.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyImportError, PyMemoryError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The key under which an interpreter records that the module is its own. A number would not do: a runtime that starts
/// anew counts its interpreters from 0 again.
const MARK: &str = "replicant._core";

const REFUSAL: &str = "replicant serves one interpreter of a process, and another interpreter of this process has \
                       imported it before: the two would share one routing table. Give each site a process of its own \
                       (mod_wsgi: a WSGIDaemonProcess and a WSGIProcessGroup for each site, and WSGIApplicationGroup \
                       %{GLOBAL}).";

static CLAIMED: AtomicBool = AtomicBool::new(false);

/// Makes the module this interpreter's. Raises `ImportError` if it is another's.
pub fn claim(py: Python<'_>) -> PyResult<()> {
    // SAFETY: this thread is attached to an interpreter, which keeps its dictionary for as long as it lives; NULL if there
    // is no memory for one.
    let own = unsafe { ffi::PyInterpreterState_GetDict(ffi::PyInterpreterState_Get()) };
    // SAFETY: a borrowed reference or NULL, which the interpreter keeps meanwhile.
    let own = unsafe { Bound::from_borrowed_ptr_or_opt(py, own) };
    let own = own.ok_or_else(|| PyMemoryError::new_err("the interpreter has no dictionary"))?.cast_into::<PyDict>()?;
    // An interpreter may import the module again, after it was taken out of `sys.modules`.
    if own.contains(MARK)? {
        return Ok(());
    }
    if CLAIMED.swap(true, Ordering::Relaxed) {
        return Err(PyImportError::new_err(REFUSAL));
    }
    own.set_item(MARK, true)
}
