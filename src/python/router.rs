//! `ReplicaRouter`: the four questions Django asks.

use std::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::cluster::PRIMARY;
use crate::decision::{self, Loaded, Mode, NoReplicaAvailable, Read};
use crate::models::Label;
use crate::names::Alias;
use crate::pool::Member;

use super::model::{Place, labels};
use super::state::{self, Entry, Table, ThreadDraws};
use super::{entry, errors, scopes};

thread_local! {
    /// This thread's last decision, for whoever watches the statement that follows it.
    pub static LAST: Cell<Option<(Alias, &'static str)>> = const { Cell::new(None) };
}

/// A database router for `settings.DATABASE_ROUTERS`, configured by `settings.REPLICANT`.
#[pyclass(frozen, subclass, dict, module = "replicant")]
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

    /// Gives the router the short way in, unless a subclass may want the calls for itself.
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(
        slf: &Bound<'_, Self>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let py = slf.py();
        if slf.get_type().is(py.get_type::<Self>()) {
            slf.setattr(intern!(py, "db_for_read"), entry::function(py)?)?;
        }
        Ok(())
    }

    /// Where a read goes.
    #[expect(clippy::unused_self, reason = "a method for Django")]
    #[pyo3(signature = (model, **hints))]
    fn db_for_read<'py>(
        &self,
        model: &Bound<'py, PyAny>,
        hints: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        db_for_read(model, hints)
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
        let table = state::table(py)?;
        let Some((entry, _, _)) = locate(&table, model, hints)? else {
            LAST.set(None);
            return Ok(None);
        };
        LAST.set(Some((entry.cluster.name(), "write")));
        Ok(Some(entry.strings[PRIMARY as usize].bind(py).clone()))
    }

    /// Objects of one cluster may be related, whichever of its members they came from.
    #[expect(clippy::unused_self, reason = "a method for Django")]
    #[pyo3(signature = (obj1, obj2, **_hints))]
    fn allow_relation(
        &self,
        obj1: &Bound<'_, PyAny>,
        obj2: &Bound<'_, PyAny>,
        _hints: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<bool>> {
        let table = state::table(obj1.py())?;
        let cluster = |object| -> PyResult<_> { Ok(origin(&table, object)?.flatten().map(|(cluster, _)| cluster)) };
        let (one, other) = (cluster(obj1)?, cluster(obj2)?);
        Ok((one.is_some() && one == other).then_some(true))
    }

    /// Never on a replica, and on a primary only what lives there.
    #[expect(clippy::unused_self, reason = "a method for Django")]
    #[pyo3(signature = (db, app_label, model_name=None, **hints))]
    fn allow_migrate(
        &self,
        py: Python<'_>,
        db: &str,
        app_label: &str,
        model_name: Option<&str>,
        hints: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<bool>> {
        let table = match state::table(py) {
            Ok(table) => table,
            // `manage.py check` asks this of every model and alias while it collects what is wrong with the settings.
            Err(error) => return unconfigured(py, db, &error),
        };
        let Some(&(here, member)) = table.places.get(db) else { return Ok(None) };
        if member != PRIMARY {
            return Ok(Some(false));
        }
        let model = hints.map(|hints| hints.get_item(intern!(py, "model"))).transpose()?.flatten();
        let Place { cluster: home, .. } = match (model, model_name) {
            (Some(model), _) => table.place_of(&labels(&model)?),
            (None, Some(model_name)) => table.place_of(&[Label::new(app_label, Some(model_name))]),
            // RunPython and RunSQL name an app alone, whose models may be spread over clusters.
            (None, None) if table.models.has_part_of(here, app_label) => return Ok(None),
            (None, None) => table.place_of(&[Label::new(app_label, None)]),
        };
        Ok((home.is_some_and(|home| home != here)).then_some(false))
    }
}

/// Where a read goes.
#[inline]
pub fn db_for_read<'py>(
    model: &Bound<'py, PyAny>,
    hints: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyString>>> {
    let py = model.py();
    let table = state::table(py)?;
    let Some((entry, (member, reason))) = read(&table, model, hints, &mut ThreadDraws, Mode::Decide)? else {
        LAST.set(None);
        return Ok(None);
    };
    LAST.set(Some((entry.cluster.members()[member as usize], reason.code())));
    Ok(Some(entry.strings[member as usize].bind(py).clone()))
}

/// The answer to `allow_migrate` under settings that cannot be used: still never on what they call a replica.
#[cold]
fn unconfigured(py: Python<'_>, db: &str, error: &PyErr) -> PyResult<Option<bool>> {
    if !error.matches(py, py.import("django.core.exceptions")?.getattr("ImproperlyConfigured")?)? {
        return Err(error.clone_ref(py));
    }
    let replica: bool = py.import("replicant.conf")?.call_method1("is_called_replica", (db,))?.extract()?;
    Ok(replica.then_some(false))
}

/// Where `object` was loaded from: `None` if it was not, `Some(None)` if from outside of every cluster.
#[expect(
    clippy::option_option,
    reason = "not loaded, loaded from elsewhere, and loaded from a member are three things"
)]
fn origin(table: &Table, object: &Bound<'_, PyAny>) -> PyResult<Option<Option<(usize, Member)>>> {
    let py = object.py();
    let Some(state) = object.getattr_opt(intern!(py, "_state"))? else { return Ok(None) };
    let Some(db) = state.getattr_opt(intern!(py, "db"))? else { return Ok(None) };
    let Ok(db) = db.cast::<PyString>() else { return Ok(None) };
    Ok(Some(table.places.get(db.to_str()?).copied()))
}

/// The cluster a model is asked for on, whether the model is exempt, and the member that loaded the instance at hand;
/// `None` where the router has no say: row 1 of the contract's table.
fn locate<'table>(
    table: &'table Table,
    model: &Bound<'_, PyAny>,
    hints: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<(&'table Entry, bool, Option<Loaded>)>> {
    let Place { cluster: Some(index), exempt } = table.place(model)? else { return Ok(None) };
    let entry = &table.entries[index];
    let Some(hints) = hints else { return Ok(Some((entry, exempt, None))) };
    let Some(instance) = hints.get_item(intern!(model.py(), "instance"))? else {
        return Ok(Some((entry, exempt, None)));
    };
    let Some(origin) = origin(table, &instance)? else { return Ok(Some((entry, exempt, None))) };
    // Not its type: `request.user` is a lazy object that says it is a user.
    let own = table.place(&instance.getattr(intern!(model.py(), "__class__"))?)?;
    // The user's own .using("other"): Django then follows the instance.
    if own.cluster.is_some() && own.cluster != origin.map(|(cluster, _)| cluster) {
        return Ok(None);
    }
    let from = origin.filter(|&(cluster, _)| cluster == index);
    Ok(Some((entry, exempt, from.map(|(_, from)| Loaded { from, exempt: own.exempt }))))
}

/// Decides a read; `None` where the router has no say.
pub fn read<'table>(
    table: &'table Table,
    model: &Bound<'_, PyAny>,
    hints: Option<&Bound<'_, PyDict>>,
    rng: &mut impl rand::Rng,
    mode: Mode,
) -> PyResult<Option<(&'table Entry, decision::Decision)>> {
    let py = model.py();
    let Some((entry, exempt, instance)) = locate(table, model, hints)? else { return Ok(None) };
    if mode == Mode::Decide {
        state::watch(py)?;
    }
    let scope = scopes::current(py)?;
    // What is asked of Python along the way can fail; the decision then is of no use.
    let failure = Cell::new(None);
    let question = Read {
        exempt,
        scope: scope.as_ref().map(|node| &*node.get().scope),
        instance,
        in_transaction: || {
            let primary = entry.strings[PRIMARY as usize].bind(py);
            table.lookup.in_transaction(primary).unwrap_or_else(|error| {
                failure.set(Some(error));
                true
            })
        },
        last_write: || {
            scopes::last_write(py, &entry.cluster).unwrap_or_else(|error| {
                failure.set(Some(error));
                None
            })
        },
        now: state::now,
    };
    let answer = decision::decide(&entry.cluster, question, rng, mode);
    match (failure.take(), answer) {
        (Some(error), _) => Err(error),
        (None, Ok(decision)) => Ok(Some((entry, decision))),
        (None, Err(NoReplicaAvailable)) => Err(errors::no_replica_available(py, table, &entry.cluster)),
    }
}
