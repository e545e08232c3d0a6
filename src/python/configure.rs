//! Builds the table from the settings, and what else the package tells the core.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::cluster::Cluster;
use crate::member::{PRIMARY, State};
use crate::routing::model_map::{ModelLabels, ModelMap};
use crate::settings::{Balance, OnUnavailable, ReadTarget, Settings};

use super::connection_lookup::Lookup;
use super::table::{self, Entry, Table};
use super::{clock, errors, thread};

/// A cluster's settings from `replicant.conf`, which has checked each value.
#[expect(clippy::struct_excessive_bools, reason = "as many as the contract has")]
#[derive(Debug, FromPyObject)]
pub struct Spec {
    primary: String,
    replicas: Vec<(String, f64)>,
    reads: String,
    primary_weight: f64,
    balance: String,
    primary_only: Vec<String>,
    outside_requests: String,
    models: Vec<String>,
    sticky: bool,
    consistent: bool,
    has_positions: bool,
    /// Seconds; `None` for no monitor.
    probe: Option<f64>,
    /// Seconds.
    pin: f64,
    /// Seconds.
    wait: f64,
    on_unavailable: String,
    primary_spill: f64,
    forbidden: Vec<String>,
    are_mirrors: bool,
    /// Seconds.
    max_lag: Option<f64>,
    addresses: Vec<u64>,
}

impl Spec {
    fn settings(&self) -> PyResult<Settings> {
        let mut names = table::names();
        Ok(Settings {
            primary: names.intern(&self.primary),
            replicas: self.replicas.iter().map(|(alias, weight)| (names.intern(alias), *weight)).collect(),
            reads: home(&self.reads)?,
            primary_weight: self.primary_weight,
            balance: match self.balance.as_str() {
                "random" => Balance::Random,
                "round_robin" => Balance::RoundRobin,
                "least_latency" => Balance::LeastLatency,
                other => {
                    return Err(errors::unknown(
                        "value of BALANCE",
                        other,
                        "\"random\", \"round_robin\" or \"least_latency\"",
                    ));
                }
            },
            outside_requests: home(&self.outside_requests)?,
            sticky: self.sticky,
            consistent: self.consistent,
            has_positions: self.has_positions,
            watched: self.probe.is_some(),
            lease: self.probe.map_or(Ok(Duration::ZERO), lease)?,
            pin: seconds("PIN_SECONDS", self.pin)?,
            wait: seconds("WAIT_SECONDS", self.wait)?,
            on_unavailable: match self.on_unavailable.as_str() {
                "primary" => OnUnavailable::Primary,
                "replica" => OnUnavailable::Replica,
                "error" => OnUnavailable::Error,
                other => {
                    return Err(errors::unknown(
                        "value of ON_UNAVAILABLE",
                        other,
                        "\"primary\", \"replica\" or \"error\"",
                    ));
                }
            },
            primary_spill: self.primary_spill,
            forbidden: self.forbidden.iter().map(|alias| names.intern(alias)).collect(),
            are_mirrors: self.are_mirrors,
            max_lag: self.max_lag.map(|limit| seconds("MAX_LAG", limit)).transpose()?,
            addresses: self.addresses.clone(),
        })
    }
}

/// How long a probe result that a member is out of service stays valid: two intervals, and the longest time that a
/// probe may take (`replicant.monitor.watch` has the same bounds).
fn lease(interval: f64) -> PyResult<Duration> {
    seconds("PROBE_SECONDS", 2.0 * interval + (0.8 * interval).clamp(0.8, 5.0))
}

fn seconds(key: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| errors::unknown(&format!("value of {key}"), seconds, "seconds, 0 or more"))
}

fn home(name: &str) -> PyResult<ReadTarget> {
    match name {
        "primary" => Ok(ReadTarget::Primary),
        "replica" => Ok(ReadTarget::Replica),
        other => Err(errors::unknown("value of READS or OUTSIDE_REQUESTS", other, "\"primary\" or \"replica\"")),
    }
}

/// Puts clusters in force under the number `generation`, unless the settings have changed since they were read. Keeps
/// what was measured of members that were there before. Returns whether the clusters are in force.
#[pyfunction]
pub fn configure(py: Python<'_>, clusters: Vec<Spec>, generation: u64) -> PyResult<bool> {
    let before = table::last();
    let mut entries = Vec::with_capacity(clusters.len());
    let mut names = Vec::with_capacity(clusters.len());
    let mut rest = None;
    for (index, spec) in clusters.into_iter().enumerate() {
        let cluster =
            Cluster::try_new(spec.settings()?).map_err(|error| errors::settings(py, &spec.primary, &error))?;
        let same = |entry: &&Entry| entry.cluster.name() == cluster.name();
        let cluster = match before.as_ref().and_then(|table| table.entries.iter().find(same)) {
            Some(entry) => {
                let cluster = cluster.inheriting(&entry.cluster);
                cluster.admit_those_that_joined(&entry.cluster, clock::now());
                cluster
            }
            None => cluster,
        };
        cluster.start_turn(thread::draw());
        if spec.primary == "default" {
            rest = Some(index);
        }
        let aliases = std::iter::once(&spec.primary).chain(spec.replicas.iter().map(|(alias, _)| alias));
        let strings = aliases.map(|alias| PyString::intern(py, alias).unbind()).collect();
        entries.push(Entry { cluster: Arc::new(cluster), strings });
        names.push(ModelLabels { models: spec.models, primary_only: spec.primary_only });
    }
    let models = ModelMap::new(&names, rest);
    let lookup = Lookup::new(py)?;
    let table = Table::new(entries.into(), models, lookup, &table::names());
    Ok(table::install(table, generation))
}

/// The settings have changed: the next read builds the table anew.
#[pyfunction]
pub fn invalidate() {
    table::drop_table();
}

/// The number of the configuration in force. Each configuration has a number of its own.
#[pyfunction]
pub fn generation() -> u64 {
    table::configured()
}

/// The role of `alias`: `"primary"`, `"replica"`, or None for a member of no cluster.
#[pyfunction]
pub fn role(py: Python<'_>, alias: &str) -> PyResult<Option<&'static str>> {
    let place = table::in_force(py)?.places.get(alias).copied();
    Ok(place.map(|(_, member)| if member == PRIMARY { "primary" } else { "replica" }))
}

/// Forces the state of a member, whatever probes find; "up" ends that. Returns the state before.
#[pyfunction]
pub fn set_state(py: Python<'_>, alias: &str, state: &str) -> PyResult<&'static str> {
    let table = table::in_force(py)?;
    let Some(&(index, member)) = table.places.get(alias) else {
        return Err(errors::no_cluster(alias));
    };
    let Some(state) = State::ALL.into_iter().find(|known| known.name() == state) else {
        return Err(errors::unknown("state of a member", state, &State::ALL.map(State::name).join(", ")));
    };
    Ok(table.entries[index].cluster.set_state(member, state).name())
}

/// Starts the monitor if it does not run for the present configuration.
#[pyfunction]
pub fn watch(py: Python<'_>) -> PyResult<()> {
    table::watch(py)
}

/// The next read that is routed starts the monitor.
#[pyfunction]
pub fn unwatch() {
    table::unwatch();
}

/// Seeds this thread's draws, for repeatable tests; None lets the operating system seed them again.
#[pyfunction]
#[pyo3(signature = (seed=None))]
pub fn seed(seed: Option<u64>) {
    thread::seed(seed);
}

/// Called in a forked child, whose draws must not repeat those of its parent.
#[pyfunction]
pub fn after_fork() {
    thread::forked();
    if let Some(table) = table::present() {
        table.entries.iter().for_each(|entry| entry.cluster.start_turn(thread::draw()));
    }
}
