//! The way in for `db_for_read`, by CPython's own calling convention.
//!
//! PyO3 reads arguments for any signature, makes a dictionary for `**hints` even when there are none, and CPython binds
//! the method anew for each call: together as much as the decision itself. Django calls with one positional argument and
//! a dictionary, so the router carries a function of exactly that shape as an attribute of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::router::db_for_read;

/// A definition that CPython keeps a pointer to and never changes.
struct Definition(ffi::PyMethodDef);

// SAFETY: nothing in it is ever written to, and its strings are constants.
unsafe impl Sync for Definition {}

static DEFINITION: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"db_for_read".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionWithKeywords: enter },
    ml_flags: ffi::METH_VARARGS | ffi::METH_KEYWORDS,
    ml_doc: c"db_for_read(model, **hints)\n--\n\nWhere a read goes.".as_ptr(),
});

/// `db_for_read` as a function of its own, bound to nothing.
pub fn function(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let definition = (&raw const DEFINITION.0).cast_mut();
    // SAFETY: the definition is static and CPython only reads it; NULL for self and module is allowed. A new reference
    // comes back, or NULL with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCFunction_NewEx(definition, null_mut(), null_mut())) }
}

/// What CPython calls. Nothing unwinds out of it.
unsafe extern "C" fn enter(
    _self: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls on a thread that is attached, with a tuple and with a dictionary or NULL, all of which it
    // keeps for as long as the call lasts.
    let (py, arguments, keywords) = unsafe {
        let py = Python::assume_attached();
        let keywords = (!keywords.is_null()).then(|| Borrowed::from_ptr(py, keywords).cast_unchecked::<PyDict>());
        (py, Borrowed::from_ptr(py, arguments).cast_unchecked::<PyTuple>(), keywords)
    };
    let error = match catch_unwind(AssertUnwindSafe(|| answer(&arguments, keywords.as_deref()))) {
        Ok(Ok(Some(alias))) => return alias.into_ptr(),
        Ok(Ok(None)) => return py.None().into_ptr(),
        Ok(Err(error)) => error,
        Err(panic) => PanicException::new_err(message(&panic)),
    };
    error.restore(py);
    null_mut()
}

#[inline]
fn answer<'py>(
    arguments: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    if arguments.len() == 1 {
        let model = arguments.get_borrowed_item(0)?;
        return db_for_read(&model, keywords);
    }
    let name = intern!(arguments.py(), "model");
    let named = keywords.map(|keywords| keywords.get_item(name)).transpose()?.flatten();
    match (arguments.is_empty(), named, keywords) {
        (true, Some(model), Some(keywords)) => {
            let hints = keywords.copy()?;
            hints.del_item(name)?;
            db_for_read(&model, Some(&hints))
        }
        _ => Err(PyTypeError::new_err("db_for_read() takes one positional argument, the model, and hints by keyword")),
    }
}

#[cold]
fn message(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the router panicked".to_owned())
}
