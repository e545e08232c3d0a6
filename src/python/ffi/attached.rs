//! References that are dropped during a read are released at once.
//!
//! `PyO3` counts how deep a thread is in the functions that its macros generate. Where that count is 0, `PyO3` takes
//! the thread for detached, and keeps each `Py` that is dropped there until one of these functions is called again. The
//! entry of `db_for_read` ([`super::entry`]) is no such function, since counting costs a fifteenth of a decision. Code
//! that may drop a `Py` there therefore runs in [`attached`]: errors, tables that were replaced, models that are new.

use pyo3::prelude::*;
use pyo3::{ffi, get_trampoline_function};

type Work<'a> = &'a mut dyn FnMut(Python<'_>);

/// Runs `work` inside of a function of `PyO3`'s own, in which this thread counts as attached.
#[cold]
pub fn attached<R>(py: Python<'_>, work: impl FnOnce(Python<'_>) -> R) -> R {
    let (mut work, mut result) = (Some(work), None);
    let mut once = |py: Python<'_>| result = work.take().map(|work| work(py));
    let mut once: Work<'_> = &mut once;
    // `PyO3` has this macro for its own macros, which expand to it, and has no other way to count without attaching
    // anew: `PyGILState_Ensure` would wait for itself for ever in a subinterpreter of CPython 3.11 and before.
    let function: ffi::PyCFunction = get_trampoline_function!(noargs, call);
    // SAFETY: this thread is attached, and what `call` takes is passed.
    unsafe { function((&raw mut once).cast(), std::ptr::null_mut()) };
    match result {
        Some(result) => result,
        // The panic became an error; fetching it resumes the panic.
        None => panic!("{:?}", PyErr::fetch(py)),
    }
}

/// # Safety
/// `work` points to a `Work` that lives throughout the call.
#[expect(clippy::unnecessary_wraps, reason = "the signature that PyO3 wraps")]
unsafe fn call(py: Python<'_>, work: *mut ffi::PyObject) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: as the caller promises.
    let work = unsafe { &mut *work.cast::<Work<'_>>() };
    work(py);
    // Only `attached` receives it, and does not use it.
    Ok(std::ptr::null_mut())
}
