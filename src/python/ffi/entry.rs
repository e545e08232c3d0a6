//! The entry of `db_for_read`, by CPython's own calling convention.
//!
//! PyO3 reads arguments for any signature, makes a dictionary for `**hints` even when there are none, and CPython binds
//! the method anew for each call: together as much as the decision itself. So the router carries a function of its own
//! as an attribute, called by vectorcall (PEP 590), which needs no tuple, no dictionary and no binding.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::slice;

use pyo3::exceptions::PyTypeError;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTypeInfo, ffi, intern};

use super::attached::attached;

/// The class that carries the function, and what the function answers.
pub trait Router: PyTypeInfo {
    /// Where a read goes; `instance` is the hint of that name.
    fn db_for_read<'py>(
        model: &Bound<'py, PyAny>,
        instance: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyString>>>;
}

/// A definition that CPython keeps a pointer to and never changes.
struct Definition(ffi::PyMethodDef);

// SAFETY: nothing in it is ever written to, and its strings are constants.
unsafe impl Sync for Definition {}

impl Definition {
    const fn of<R: Router>() -> Self {
        Self(ffi::PyMethodDef {
            ml_name: c"db_for_read".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<R> },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: c"db_for_read(model, **hints)\n--\n\nWhere a read goes.".as_ptr(),
        })
    }
}

/// `db_for_read` as a function of its own, bound to nothing.
pub fn function<R: Router>(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let definition: &'static Definition = const { &Definition::of::<R>() };
    let definition = (&raw const definition.0).cast_mut();
    // SAFETY: the definition is static and CPython only reads it; NULL for self and module is allowed. A new reference
    // comes back, or NULL with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCFunction_NewEx(definition, null_mut(), null_mut())) }
}

/// The function that CPython calls. No panic unwinds out of it.
unsafe extern "C" fn enter<R: Router>(
    _self: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls on a thread that is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: CPython hands over `count` positional arguments and then one for each name in the tuple `keywords`, which is
    // NULL if there are none, and keeps all of them for as long as the call lasts.
    let arguments = unsafe { Arguments::new(py, arguments, count, keywords) };
    let error = match catch_unwind(AssertUnwindSafe(|| arguments.answer::<R>())) {
        Ok(Ok(Some(alias))) => return alias.into_ptr(),
        Ok(Ok(None)) => return py.None().into_ptr(),
        Ok(Err(error)) => error,
        Err(panic) => PanicException::new_err(message(&panic)),
    };
    attached(py, |py| error.restore(py));
    null_mut()
}

/// The arguments of one call.
struct Arguments<'call, 'py> {
    by_position: &'call [Borrowed<'call, 'py, PyAny>],
    by_name: &'call [Borrowed<'call, 'py, PyAny>],
    names: Option<Borrowed<'call, 'py, PyTuple>>,
    py: Python<'py>,
}

impl<'call, 'py> Arguments<'call, 'py> {
    /// # Safety
    /// As the vectorcall protocol has it: `arguments` points to `count` objects and then to one for each of `keywords`, a
    /// tuple or NULL; all live throughout the call.
    #[inline]
    unsafe fn new(
        py: Python<'py>,
        arguments: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        keywords: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: `keywords` is a tuple or NULL, as the caller promises.
        let names =
            unsafe { (!keywords.is_null()).then(|| Borrowed::from_ptr(py, keywords).cast_unchecked::<PyTuple>()) };
        let (by_position, by_name) = (count.unsigned_abs(), names.map_or(0, |names| names.len()));
        let all = if by_position + by_name == 0 {
            &[]
        } else {
            // SAFETY: that many objects are there, as the caller promises, and a borrowed object is a pointer to it.
            unsafe { slice::from_raw_parts(arguments.cast(), by_position + by_name) }
        };
        let (by_position, by_name) = all.split_at(by_position);
        Self { by_position, by_name, names, py }
    }

    /// The argument passed by this name. The names in a call expression are interned, and so is `name`.
    #[inline]
    fn named(&self, name: &Bound<'py, PyString>) -> PyResult<Option<&'call Bound<'py, PyAny>>> {
        let Some(names) = self.names else { return Ok(None) };
        for (index, argument) in self.by_name.iter().enumerate() {
            let given = names.get_borrowed_item(index)?;
            if given.is(name) || given.eq(name)? {
                return Ok(Some(argument));
            }
        }
        Ok(None)
    }

    #[inline]
    fn answer<R: Router>(&self) -> PyResult<Option<Bound<'py, PyString>>> {
        if let ([model], None) = (self.by_position, self.names) {
            return R::db_for_read(model, None);
        }
        let instance = self.named(intern!(self.py, "instance"))?;
        match (self.by_position, self.named(intern!(self.py, "model"))?) {
            ([model], None) => R::db_for_read(model, instance),
            ([], Some(model)) => R::db_for_read(model, instance),
            // `ReplicaRouter.db_for_read(self, model)`, from a class that derives from it.
            ([router, model], None) if router.is_instance_of::<R>() => R::db_for_read(model, instance),
            _ => Err(PyTypeError::new_err("db_for_read() takes a model, and hints by keyword")),
        }
    }
}

#[cold]
fn message(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the router panicked".to_owned())
}
