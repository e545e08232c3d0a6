//! `Position`, for Python.

use pyo3::prelude::*;

use crate::replication::position::{self, Kind};

use super::errors;

#[pyclass(frozen, eq, hash, from_py_object, module = "replicant._core")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position(pub position::Position);

#[pymethods]
impl Position {
    #[new]
    fn new(kind: &str, text: &str) -> PyResult<Self> {
        let kind = Kind::from_name(kind).ok_or_else(|| errors::no_kind_of_position(kind))?;
        position::Position::parse(kind, text).map(Self).map_err(|error| errors::position(&error))
    }

    #[getter]
    const fn kind(&self) -> &'static str {
        self.0.kind().name()
    }

    fn contains(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    fn comparable(&self, other: &Self) -> bool {
        self.0.comparable(&other.0)
    }

    fn union(&self, other: &Self) -> PyResult<Self> {
        self.0.union(&other.0).map(Self).map_err(|error| errors::position(&error))
    }

    fn shortened(&self, limit_bytes: usize) -> Option<Self> {
        self.0.shortened(limit_bytes).map(Self)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Position('{}', '{}')", self.0.kind(), self.0)
    }

    fn __getnewargs__(&self) -> (&'static str, String) {
        (self.kind(), self.0.to_string())
    }
}
