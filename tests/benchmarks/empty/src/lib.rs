//! The yardstick: a router whose answer costs nothing, and the switch that counts instructions around a loop.

mod callgrind;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[pymodule(gil_used = false)]
mod bench_empty {
    #[pymodule_export]
    use super::{EmptyRouter, count_instructions, start_counting};
}

/// What crossing into Rust costs through PyO3, and no more.
#[pyclass(frozen)]
pub struct EmptyRouter;

#[pymethods]
impl EmptyRouter {
    #[new]
    fn new() -> Self {
        Self
    }

    /// Answers None, and Django goes on to its default.
    #[pyo3(signature = (model, **hints))]
    fn db_for_read(&self, model: &Bound<'_, PyAny>, hints: Option<&Bound<'_, PyDict>>) {
        let _ = (model, hints);
    }
}

/// Has callgrind, started with `--instr-atstart=no`, count from here on. An error where there is no callgrind.
#[pyfunction]
fn start_counting() -> PyResult<()> {
    if !callgrind::running() {
        return Err(PyRuntimeError::new_err("this process does not run under valgrind"));
    }
    callgrind::start();
    Ok(())
}

/// Calls `run`, and has callgrind write down its instructions, with what the call around it takes.
#[pyfunction]
fn count_instructions(run: &Bound<'_, PyAny>) -> PyResult<()> {
    callgrind::zero();
    let answer = run.call0();
    callgrind::dump();
    answer.map(drop)
}
