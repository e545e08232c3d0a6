//! `ReplicaRouter`: the four methods that Django calls.
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::cluster::view::View;
use crate::member::{Member, PRIMARY};
use crate::reason::Reason;
use crate::routing::decide;
use crate::routing::model_map::{ClusterIndex, Label};
use crate::routing::question::{Decision, Loaded, Read, Shown};
use crate::support::snapshot::Kept;

use super::ffi::attached::attached;
use super::ffi::attribute::own_attribute;
use super::ffi::entry;
use super::model_cache::{ModelCache, Place, labels};
use super::scopes::ScopeNode;
use super::steps::{self, ThisThread};
use super::table::{self, Entry, Table};
use super::thread::{self, LastDecision};
use super::{clock, errors, reads, scopes};

/// A database router for `settings.DATABASE_ROUTERS`, configured by `settings.REPLICANT`.
#[pyclass(frozen, subclass, module = "replicant")]
#[derive(Debug)]
pub struct ReplicaRouter;

#[pymethods]
impl ReplicaRouter {
    /// Django passes no arguments. A subclass may take some.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    /// Where a read goes. It is no method, which would be bound anew for each call, but a function that needs no
    /// `self`.
    #[classattr]
    fn db_for_read(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        entry::function::<Self>(py)
    }

    /// Where a write goes: the primary of the model's cluster.
    #[expect(clippy::unused_self, reason = "a method for Django")]
    #[pyo3(signature = (model, **hints))]
    fn db_for_write<'py>(
        &self,
        model: &Bound<'py, PyAny>,
        hints: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let py = model.py();
        let instance = hints.map(|hints| hints.get_item(intern!(py, "instance"))).transpose()?.flatten();
        thread::with_thread(|thread| {
            let mut held = thread.snapshot(py)?;
            let (table, _, models) = held.parts();
            let Some(Asked { entry, .. }) = locate(table, models, model, instance.as_ref())? else {
                thread.last.set(None);
                return Ok(None);
            };
            thread.last.set(Some(LastDecision::Write(entry.cluster.name())));
            Ok(Some(entry.strings[PRIMARY as usize].bind(py).clone()))
        })
    }

    /// Objects of one cluster may be related, whichever members they were loaded from.
    #[expect(clippy::unused_self, reason = "a method for Django")]
    #[pyo3(signature = (obj1, obj2, **_hints))]
    fn allow_relation(
        &self,
        obj1: &Bound<'_, PyAny>,
        obj2: &Bound<'_, PyAny>,
        _hints: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<bool>> {
        thread::with_thread(|thread| {
            let mut held = thread.snapshot(obj1.py())?;
            let (table, _, models) = held.parts();
            let mut cluster =
                |object| -> PyResult<_> { Ok(origin(table, models, object)?.flatten().map(|(cluster, _)| cluster)) };
            let (one, other) = (cluster(obj1)?, cluster(obj2)?);
            Ok((one.is_some() && one == other).then_some(true))
        })
    }

    /// Never on a replica, and on a primary only models of its cluster.
    #[expect(clippy::unused_self, reason = "a method for Django")]
    #[pyo3(signature = (db, app_label, model_name=None, **hints))]
    fn allow_migrate(
        &self,
        py: Python<'_>,
        db: &str,
        app_label: &Bound<'_, PyAny>,
        model_name: Option<&Bound<'_, PyAny>>,
        hints: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<bool>> {
        let table = match table::in_force(py) {
            Ok(table) => table,
            // `manage.py check` calls this for every model and alias while it collects errors of the settings.
            Err(error) => return unconfigured(py, db, &error),
        };
        let Some(&(here, member)) = table.places.get(db) else { return Ok(None) };
        if member != PRIMARY {
            return Ok(Some(false));
        }
        // Mock objects for apps and models have mock names, which belong to no cluster.
        let Ok(app_label) = app_label.extract::<&str>() else { return Ok(None) };
        let Ok(model_name) = model_name.map(PyAnyMethods::extract::<&str>).transpose() else { return Ok(None) };
        let model = hints.map(|hints| hints.get_item(intern!(py, "model"))).transpose()?.flatten();
        let Place { cluster: home, .. } = match (model, model_name) {
            (Some(model), _) => table.place_of(&labels(&model)?),
            (None, Some(model_name)) => table.place_of(&[Label::new(app_label, Some(model_name))]),
            // RunPython and RunSQL name an app alone. Its models may be spread over clusters.
            (None, None) if table.models.has_part_of(here, app_label) => return Ok(None),
            (None, None) => table.place_of(&[Label::new(app_label, None)]),
        };
        Ok((home.is_some_and(|home| home != here)).then_some(false))
    }
}

impl entry::Router for ReplicaRouter {
    #[inline]
    fn db_for_read<'py>(
        model: &Bound<'py, PyAny>,
        instance: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let py = model.py();
        thread::with_thread(|thread| {
            let mut held = thread.snapshot(py)?;
            let (table, views, models) = held.parts();
            let answer = read(table, views, models, model, instance, thread.draw())?;
            let Some((entry, (member, reason))) = answer else {
                thread.last.set(None);
                return Ok(None);
            };
            entry.cluster.counters().count(&thread.shard, member, reason);
            thread.last.set(Some(LastDecision::Read(entry.cluster.name(), member, reason)));
            if reason == Reason::Pinned {
                let primary = entry.strings[PRIMARY as usize].bind(py);
                return Ok(Some(thread.pin(primary, entry.cluster.settings().on_unavailable)));
            }
            Ok(Some(entry.strings[member as usize].bind(py).clone()))
        })
    }
}

/// The answer to `allow_migrate` under invalid settings: still never on an alias that they name as a replica.
#[cold]
fn unconfigured(py: Python<'_>, db: &str, error: &PyErr) -> PyResult<Option<bool>> {
    if !error.matches(py, py.import("django.core.exceptions")?.getattr("ImproperlyConfigured")?)? {
        return Err(error.clone_ref(py));
    }
    let replica: bool = py.import("replicant.monitor.topology")?.call_method1("is_called_replica", (db,))?.extract()?;
    Ok(replica.then_some(false))
}

/// A cluster and its member; no member if this process has no connection of that name.
type Origin = (ClusterIndex, Option<Member>);

/// Where `object` was loaded from: `None` if it was not loaded, `Some(None)` if from outside of every cluster.
#[expect(
    clippy::option_option,
    reason = "not loaded, loaded from elsewhere, and loaded from a member are three things"
)]
fn origin(table: &Table, models: &mut ModelCache, object: &Bound<'_, PyAny>) -> PyResult<Option<Option<Origin>>> {
    let py = object.py();
    let (state, db) = (intern!(py, "_state"), intern!(py, "db"));
    let Some(state) = attribute(object, state)? else { return Ok(None) };
    let Some(db) = attribute(&state, db)? else { return Ok(None) };
    let Ok(db) = db.cast::<PyString>() else { return Ok(None) };
    if let Some((cluster, member)) = table.place_of_alias(db)? {
        return Ok(Some(Some((cluster, Some(member)))));
    }
    if table.lookup.has_connection(db)? {
        return Ok(Some(None));
    }
    // An object that was pickled or cached may name an alias that a deploy renamed or removed, or a member that another
    // process has discovered. No query can have named it with `.using()`, so the object belongs to the cluster of its
    // model.
    Ok(Some(class_place(table, models, object)?.cluster.map(|cluster| (cluster, None))))
}

/// The place of the model of `object`.
fn class_place(table: &Table, models: &mut ModelCache, object: &Bound<'_, PyAny>) -> PyResult<Place> {
    // The type would not do: `request.user` is a lazy object whose `__class__` is the user model.
    table.place(models, &object.getattr(intern!(object.py(), "__class__"))?)
}

/// The attribute `name` of `object`. A lazy object has no such attribute of its own; it passes on those of its target.
fn attribute<'py>(object: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match own_attribute(object, name) {
        // Before CPython 3.13 a missing attribute costs an error, which is dropped.
        None => attached(object.py(), |_| object.getattr_opt(name)),
        own => Ok(own),
    }
}

/// A model's cluster, and the instance hint.
struct Asked<'table> {
    /// The index of the cluster in the table.
    index: ClusterIndex,
    entry: &'table Entry,
    /// Whether the model is exempt.
    exempt: bool,
    /// The member that loaded the instance hint.
    loaded: Option<Loaded>,
}

impl Asked<'_> {
    #[inline]
    fn question<'a>(
        &self,
        caller: &'a ThisThread<'a>,
        scope: Option<&'a Bound<'_, ScopeNode>>,
        before: Option<Shown>,
        may_wait: bool,
    ) -> Read<'a, ThisThread<'a>> {
        let scope = scope.map(|node| &*node.get().scope);
        Read { exempt: self.exempt, scope, instance: self.loaded, before, may_wait, caller }
    }

    /// The last read of this thread or task, if no scope is open.
    #[inline]
    fn before(&self, py: Python<'_>, scope: Option<&Bound<'_, ScopeNode>>) -> PyResult<Option<Shown>> {
        if scope.is_none() { reads::last(py, self.entry.cluster.name()) } else { Ok(None) }
    }
}

/// The cluster of `model`; `None` where the router has no say: row 1 of the routing table.
#[inline]
fn locate<'table>(
    table: &'table Table,
    models: &mut ModelCache,
    model: &Bound<'_, PyAny>,
    instance: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Asked<'table>>> {
    let Place { cluster: Some(index), exempt } = table.place(models, model)? else { return Ok(None) };
    let asked = Asked { index, entry: &table.entries[index], exempt, loaded: None };
    match instance {
        Some(instance) => beside(table, models, asked, instance),
        None => Ok(Some(asked)),
    }
}

/// The same with the instance hint; `None` if Django should follow the instance.
fn beside<'table>(
    table: &'table Table,
    models: &mut ModelCache,
    asked: Asked<'table>,
    instance: &Bound<'_, PyAny>,
) -> PyResult<Option<Asked<'table>>> {
    let Some(origin) = origin(table, models, instance)? else { return Ok(Some(asked)) };
    let own = class_place(table, models, instance)?;
    // The user called `.using("other")`.
    if own.cluster.is_some() && own.cluster != origin.map(|(cluster, _)| cluster) {
        return Ok(None);
    }
    let from = origin.filter(|&(cluster, _)| cluster == asked.index).and_then(|(_, member)| member);
    Ok(Some(Asked { loaded: from.map(|from| Loaded { from, exempt: own.exempt }), ..asked }))
}

/// A cluster and its decision; `None` where the router has no say.
type Answer<'table> = Option<(&'table Entry, Decision)>;

/// Decides a read, `views` being those of the table's clusters.
#[inline]
fn read<'table>(
    table: &'table Table,
    views: &mut [Kept<View>],
    models: &mut ModelCache,
    model: &Bound<'_, PyAny>,
    instance: Option<&Bound<'_, PyAny>>,
    draw: u64,
) -> PyResult<Answer<'table>> {
    let py = model.py();
    let Some(asked) = locate(table, models, model, instance)? else { return Ok(None) };
    let Asked { index, entry, .. } = asked;
    table::watch(py)?;
    let scope = scopes::current(py)?;
    let caller = ThisThread { py, table, entry };
    let decision = steps::perform(&caller, &[], |may_wait| {
        let before = asked.before(py, scope.as_ref())?;
        let question = asked.question(&caller, scope.as_ref(), before, may_wait);
        let shared = entry.cluster.shared_view();
        if views[index].refreshed(shared).is_waiting() {
            entry.cluster.settle(clock::now(), draw);
        }
        decide::decide(&entry.cluster, views[index].refreshed(shared), &question, draw)
    })?;
    if scope.is_none() {
        reads::decided(py, &entry.cluster, decision)?;
    }
    Ok(Some((entry, decision)))
}

/// The decision that a read would get, without a trace.
pub fn explain<'table>(
    table: &'table Table,
    views: &mut [Kept<View>],
    models: &mut ModelCache,
    model: &Bound<'_, PyAny>,
    instance: Option<&Bound<'_, PyAny>>,
    draw: u64,
) -> PyResult<Answer<'table>> {
    let py = model.py();
    let Some(asked) = locate(table, models, model, instance)? else { return Ok(None) };
    let Asked { index, entry, .. } = asked;
    let scope = scopes::current(py)?;
    let before = asked.before(py, scope.as_ref())?;
    let caller = ThisThread { py, table, entry };
    let question = asked.question(&caller, scope.as_ref(), before, !steps::runs_a_loop(py)?);
    let view = views[index].refreshed(entry.cluster.shared_view());
    let decision = decide::explain(&entry.cluster, view, &question, draw)?;
    Ok(Some((entry, decision.ok_or_else(|| errors::no_replica_available(py, table, &entry.cluster))?)))
}
