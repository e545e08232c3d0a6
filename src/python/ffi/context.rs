//! Context variables. `PyO3` has no type for them and `contextvar.get()` from Rust costs three times the C call.

use std::ffi::CStr;

use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::{PyErr, ffi};

/// A `contextvars.ContextVar` without a default.
#[derive(Debug)]
pub struct ContextVariable(Py<PyAny>);

impl ContextVariable {
    /// A new variable. Variables are never freed by their contexts: make them once.
    pub fn new(py: Python<'_>, name: &CStr) -> PyResult<Self> {
        // SAFETY: the name is a valid C string, the default may be NULL; a new reference or NULL with an error set
        // comes back, as `from_owned_ptr_or_err` takes it.
        unsafe {
            let variable = ffi::PyContextVar_New(name.as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(py, variable).map(|variable| Self(variable.unbind()))
        }
    }

    /// The value in the current context.
    #[inline]
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut value = std::ptr::null_mut();
        // SAFETY: `self.0` is a context variable, `value` is a place for a new reference; on success it holds one or
        // NULL, for no value.
        unsafe {
            if ffi::PyContextVar_Get(self.0.as_ptr(), std::ptr::null_mut(), &raw mut value) < 0 {
                return Err(PyErr::take(py).unwrap_or_else(|| PySystemError::new_err("PyContextVar_Get failed")));
            }
            Ok(Bound::from_owned_ptr_or_opt(py, value))
        }
    }

    /// Sets the value in the current context. The token is dropped: a scope may be left in another context than it was
    /// entered in (an async generator, `sync_to_async`), where resetting by token is refused.
    pub fn set(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: both are live objects; a new reference to a token comes back, or NULL with an error set.
        unsafe {
            let token = ffi::PyContextVar_Set(self.0.as_ptr(), value.as_ptr());
            Bound::from_owned_ptr_or_err(value.py(), token).map(drop)
        }
    }

    /// The variable itself, for Python code.
    pub fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.bind(py).clone()
    }
}
