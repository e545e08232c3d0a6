//! The one place where errors of the core become Python's exceptions.

use std::fmt::Debug;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::cluster::Cluster;
use crate::replication::position::{Kind, PositionError};
use crate::settings::{OnUnavailable, SettingsError};

use super::table::Table;

fn raise(py: Python<'_>, module: &str, class: &str, message: String) -> PyErr {
    match py.import(module).and_then(|module| module.getattr(class)).and_then(|class| class.call1((message,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Django's `ImproperlyConfigured`.
pub fn improperly_configured(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, "django.core.exceptions", "ImproperlyConfigured", message.into())
}

/// Settings that `replicant.conf` accepted and the core does not.
pub fn settings(py: Python<'_>, alias: &str, error: &SettingsError) -> PyErr {
    improperly_configured(py, format!("REPLICANT[{alias:?}]: {error}."))
}

/// `NoReplicaAvailable`, with the state of every replica.
pub fn no_replica_available(py: Python<'_>, table: &Table, cluster: &Cluster) -> PyErr {
    let (view, settings) = (cluster.view(), cluster.settings());
    let troubles: Vec<String> = (1..)
        .zip(&settings.replicas)
        .map(|(member, &(alias, weight))| match (table.name(alias), weight > 0.0) {
            (name, true) => format!("{name} is {}", view.state(member).name()),
            (name, false) => format!("{name} has weight 0"),
        })
        .collect();
    let policy = match settings.on_unavailable {
        OnUnavailable::Primary => format!("PRIMARY_SPILL = {} kept this read off the primary", settings.primary_spill),
        OnUnavailable::Replica | OnUnavailable::Error => "ON_UNAVAILABLE = 'error' keeps reads off the primary".into(),
    };
    let name = table.name(cluster.name());
    let message = format!("No replica of '{name}' may serve this read ({}), and {policy}.", troubles.join(", "));
    raise(py, "replicant.errors", "NoReplicaAvailable", message)
}

/// `ImproperlyConfigured` for an alias of no cluster, with the known ones.
pub fn no_member(py: Python<'_>, scope: &str, alias: &Bound<'_, PyString>, table: &Table) -> PyErr {
    let known = table.aliases().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let alias = alias.to_string_lossy();
    improperly_configured(py, format!("{scope}('{alias}'): no cluster of REPLICANT has this alias; there is {known}."))
}

/// `ValueError` for a value that is none of the expected ones, which `expected` lists.
pub fn unknown(what: &str, value: impl Debug, expected: &str) -> PyErr {
    PyValueError::new_err(format!("unknown {what} {value:?}: expected {expected}"))
}

/// `ValueError` for an alias of no cluster.
pub fn no_cluster(alias: &str) -> PyErr {
    PyValueError::new_err(format!("no cluster has the alias {alias:?}"))
}

/// `ValueError` for a swap of servers that leaves two aliases with one server.
pub fn one_server_twice(primary: &str) -> PyErr {
    PyValueError::new_err(format!(
        "the servers of the cluster {primary:?} cannot be swapped: two aliases would share one"
    ))
}

/// `ValueError` for a text that is no position, or two positions without a union.
pub fn position(error: &PositionError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `ValueError` for an unknown kind of position, with the known ones.
pub fn no_kind_of_position(kind: &str) -> PyErr {
    let known = Kind::ALL.map(Kind::name).join(", ");
    unknown("kind of position", kind, &known)
}
