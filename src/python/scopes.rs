//! Scopes for Python, and the context variables that hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::alias::Alias;
use crate::consistency::scope::{self, Effect, Kind, Owner};
use crate::consistency::scope_state::ScopeState;
use crate::member::PRIMARY;

use super::ffi::context::ContextVariable;
use super::{clock, errors, table};

static SCOPE: PyOnceLock<ContextVariable> = PyOnceLock::new();
/// Whether any thread or task ever began a record of its own. With the middleware few do, and an unset context variable
/// is slow to find.
static ANY_RECORD: AtomicBool = AtomicBool::new(false);
static RECORD: PyOnceLock<ContextVariable> = PyOnceLock::new();

/// Holds the innermost [`ScopeNode`], or None.
pub fn scope_variable(py: Python<'_>) -> PyResult<&'static ContextVariable> {
    SCOPE.get_or_try_init(py, || ContextVariable::new(py, c"replicant.scope"))
}

/// Holds the [`Record`] of a thread or task, for its writes with no request open.
fn record_variable(py: Python<'_>) -> PyResult<&'static ContextVariable> {
    RECORD.get_or_try_init(py, || ContextVariable::new(py, c"replicant.record"))
}

/// The innermost scope of the current context.
#[inline]
pub fn current(py: Python<'_>) -> PyResult<Option<Bound<'_, ScopeNode>>> {
    let variable = scope_variable(py)?;
    match variable.get(py)? {
        Some(node) if node.is_none() => Ok(None),
        Some(node) => Ok(Some(node.cast_into::<ScopeNode>()?)),
        None => {
            // CPython caches the value of a variable that is set, and searches the context for one that is not.
            variable.set(py.None().bind(py))?;
            Ok(None)
        }
    }
}

fn set_current(py: Python<'_>, scope: Option<Arc<scope::Scope>>) -> PyResult<()> {
    match scope {
        Some(scope) => scope_variable(py)?.set(Bound::new(py, ScopeNode { scope })?.as_any()),
        None => scope_variable(py)?.set(py.None().bind(py)),
    }
}

fn next_owner() -> Owner {
    static OWNERS: AtomicU64 = AtomicU64::new(0);
    OWNERS.fetch_add(1, Ordering::Relaxed)
}

/// The record of this thread or task with no request open, if there is one.
pub fn record_state(py: Python<'_>) -> PyResult<Option<Arc<ScopeState>>> {
    if !ANY_RECORD.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let Some(record) = record_variable(py)?.get(py)? else { return Ok(None) };
    Ok(Some(record.cast::<Record>()?.get().0.clone()))
}

/// The record in force here, created if there is none: the request's, or this thread's or task's.
pub fn record_begun(py: Python<'_>) -> PyResult<Arc<ScopeState>> {
    Ok(record(py)?.get().0.clone())
}

/// An entered scope and all those around it. Opaque: code that sets `scope_variable` to it is inside of all of them.
#[pyclass(frozen, module = "replicant._core")]
#[derive(Debug)]
pub struct ScopeNode {
    pub scope: Arc<scope::Scope>,
}

#[pymethods]
impl ScopeNode {
    /// Whether one of them is a request scope.
    #[getter]
    fn in_request(&self) -> bool {
        self.scope.in_request()
    }
}

/// A scope that can be entered: a request, a migration, `use_primary` or `use_replica`.
#[pyclass(frozen, subclass, module = "replicant._core")]
#[derive(Debug)]
pub struct Scope {
    owner: Owner,
    wanted: Wanted,
    alias: Option<Py<PyString>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Request,
    Migrate,
    Primary,
    Replica { stale_ok: bool },
}

#[pymethods]
impl Scope {
    #[new]
    #[pyo3(signature = (kind, alias=None, stale_ok=false))]
    fn new(kind: &str, alias: Option<Py<PyString>>, stale_ok: bool) -> PyResult<Self> {
        let wanted = match kind {
            "request" => Wanted::Request,
            "migrate" => Wanted::Migrate,
            "use_primary" => Wanted::Primary,
            "use_replica" => Wanted::Replica { stale_ok },
            _ => {
                return Err(errors::unknown(
                    "kind of scope",
                    kind,
                    "\"request\", \"migrate\", \"use_primary\" or \"use_replica\"",
                ));
            }
        };
        Ok(Self { owner: next_owner(), wanted, alias })
    }

    /// Another scope of the same kind, which is left and resumed separately.
    fn fresh(&self, py: Python<'_>) -> Self {
        Self { owner: next_owner(), wanted: self.wanted, alias: self.alias.as_ref().map(|alias| alias.clone_ref(py)) }
    }

    /// Enters the scope in the current context.
    fn enter(&self, py: Python<'_>) -> PyResult<()> {
        let kind = self.kind(py)?;
        let parent = current(py)?.map(|node| node.get().scope.clone());
        set_current(py, Some(scope::Scope::enter(parent, self.owner, kind)))
    }

    /// Enters the scope again with all that was open inside of it when `suspended` was the innermost scope.
    fn resume(&self, py: Python<'_>, suspended: Option<&Bound<'_, ScopeNode>>) -> PyResult<()> {
        let parent = current(py)?.map(|node| node.get().scope.clone());
        let suspended = suspended.map(|node| &node.get().scope);
        match suspended.and_then(|scope| scope::Scope::resume(scope, self.owner, parent)) {
            Some(scope) => set_current(py, Some(scope)),
            None => self.enter(py),
        }
    }

    /// Leaves the scope; scopes that were entered since and are still open stay open.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let Some(node) = current(py)? else { return Ok(()) };
        set_current(py, scope::Scope::leave(&node.get().scope, self.owner))
    }
}

impl Scope {
    /// The kind of the scope under the configuration in force.
    fn kind(&self, py: Python<'_>) -> PyResult<Kind> {
        Ok(match self.wanted {
            Wanted::Request => Kind::Request,
            Wanted::Migrate => Kind::Migrate,
            Wanted::Primary => Kind::Use(self.target(py, "use_primary")?.map(|(cluster, _)| cluster), Effect::Primary),
            Wanted::Replica { stale_ok } => {
                let target = self.target(py, "use_replica")?;
                let member = target.and_then(|(_, member)| member);
                Kind::Use(target.map(|(cluster, _)| cluster), Effect::Replica { member, stale_ok })
            }
        })
    }

    /// The cluster that the alias names, and the replica if it names one.
    fn target(&self, py: Python<'_>, name: &str) -> PyResult<Option<(Alias, Option<Alias>)>> {
        let table = table::in_force(py)?;
        let Some(alias) = &self.alias else { return Ok(None) };
        let alias = alias.bind(py);
        let Some(&(index, member)) = table.places.get(alias.to_str()?) else {
            return Err(errors::no_member(py, name, alias, &table));
        };
        let cluster = &table.entries[index].cluster;
        let replica = (member != PRIMARY).then(|| cluster.members()[member as usize]);
        Ok(Some((cluster.name(), replica)))
    }
}

/// The record that a write belongs to: the request's, or with no request open the thread's or task's.
#[pyclass(frozen, eq, hash, module = "replicant._core")]
#[derive(Debug)]
pub struct Record(Arc<ScopeState>);

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Record {}

impl std::hash::Hash for Record {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

#[pymethods]
impl Record {
    /// A write to the primary `alias` was committed at `position`; None if the position must be queried, or there is
    /// none.
    #[pyo3(signature = (alias, position=None))]
    fn wrote(&self, py: Python<'_>, alias: &str, position: Option<super::position::Position>) -> PyResult<()> {
        let table = table::in_force(py)?;
        if let Some(&(index, PRIMARY)) = table.places.get(alias) {
            let cluster = &table.entries[index].cluster;
            self.0.of(cluster.name()).requirement(|requirement| match position {
                _ if !cluster.settings().has_positions => requirement.publish_by_time(clock::now()),
                position => requirement.publish(position.as_ref().map(|position| &position.0), clock::now()),
            });
        }
        Ok(())
    }
}

/// The record in force here. With no request open it is created, and belongs to this thread or task from now on.
#[pyfunction]
pub fn record(py: Python<'_>) -> PyResult<Bound<'_, Record>> {
    if let Some(node) = current(py)?
        && let Some(record) = node.get().scope.record()
    {
        return Bound::new(py, Record(record.clone()));
    }
    if let Some(record) = record_variable(py)?.get(py)? {
        return Ok(record.cast_into::<Record>()?);
    }
    let record = Bound::new(py, Record(Arc::default()))?;
    ANY_RECORD.store(true, Ordering::Relaxed);
    record_variable(py)?.set(record.as_any())?;
    Ok(record)
}
