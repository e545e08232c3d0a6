//! The settings of a cluster.
//!
//! `replicant.conf` reads and checks each value; [`Settings::check`] checks what concerns several of them.

use std::time::Duration;

use crate::alias::Alias;
use crate::member::{Member, PRIMARY};

/// The servers that a class of reads goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTarget {
    /// The primary.
    Primary,
    /// The replicas.
    Replica,
}

/// `ON_UNAVAILABLE`: where a read goes when no replica is eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// To the primary, for up to `PRIMARY_SPILL` of the scopes.
    Primary,
    /// To any replica that answers, however late it is.
    Replica,
    /// Nowhere: the read is refused.
    Error,
}

/// `BALANCE`: how the pool chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Independent weighted draws.
    Random,
    /// Smooth weighted turns: in each cycle every member is chosen exactly as often as its weight says.
    RoundRobin,
    /// Two weighted draws, of which the faster member is the more likely choice.
    LeastLatency,
}

/// The settings of a cluster, as the contract names them.
#[expect(clippy::struct_excessive_bools, reason = "as many as the contract has")]
#[derive(Clone, Debug)]
pub struct Settings {
    /// The alias of the primary, which names the cluster.
    pub primary: Alias,
    /// `REPLICAS`, in the order given, with their weights.
    pub replicas: Vec<(Alias, f64)>,
    /// `READS`.
    pub reads: ReadTarget,
    /// `PRIMARY_WEIGHT`.
    pub primary_weight: f64,
    /// `BALANCE`.
    pub balance: Balance,
    /// `OUTSIDE_REQUESTS`.
    pub outside_requests: ReadTarget,
    /// `STICKY`.
    pub sticky: bool,
    /// `CONSISTENCY` is not `"eventual"`: a scope sees what it wrote and never goes back.
    pub consistent: bool,
    /// `CONSISTENCY` is `"session"` and the engine has positions.
    pub has_positions: bool,
    /// `PROBE_SECONDS` is not None: a monitor probes the servers periodically.
    pub watched: bool,
    /// How long a probe result that a member is out of service stays valid.
    pub lease: Duration,
    /// `PIN_SECONDS`.
    pub pin: Duration,
    /// `WAIT_SECONDS`.
    pub wait: Duration,
    /// `ON_UNAVAILABLE`.
    pub on_unavailable: OnUnavailable,
    /// `PRIMARY_SPILL`, from 0 to 1.
    pub primary_spill: f64,
    /// The members that must not be used, whatever their state: a test does not list them, or they have left the
    /// cluster.
    pub forbidden: Vec<Alias>,
    /// In a test, the replicas share the primary's connection, so that the states of the servers do not matter.
    pub are_mirrors: bool,
    /// `MAX_LAG`.
    pub max_lag: Option<Duration>,
    /// The address of each member as a number, in their order; equal numbers are equal addresses. Empty if addresses
    /// are not compared.
    pub addresses: Vec<u64>,
}

impl Settings {
    /// Whether reads outside of every scope stay on the primary.
    #[inline]
    #[must_use]
    pub fn keeps_to_primary(&self) -> bool {
        self.replicas.is_empty() || self.reads == ReadTarget::Primary || self.outside_requests == ReadTarget::Primary
    }

    /// The weight of `member` in the read pool.
    #[must_use]
    pub fn weight(&self, member: Member) -> f64 {
        if member == PRIMARY { self.primary_weight } else { self.replicas[member as usize - 1].1 }
    }

    /// The aliases of all members: the primary, then the replicas.
    pub fn members(&self) -> impl Iterator<Item = Alias> {
        [self.primary].into_iter().chain(self.replicas.iter().map(|&(alias, _)| alias))
    }

    /// Whether a cluster can be built from these settings.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn check(&self) -> Result<(), SettingsError> {
        let weights = || self.replicas.iter().map(|&(_, weight)| weight).chain([self.primary_weight]);
        if weights().any(|weight| weight.is_nan() || weight < 0.0) || !weights().sum::<f64>().is_finite() {
            return Err(SettingsError::Weight);
        }
        if !(0.0..=1.0).contains(&self.primary_spill) {
            return Err(SettingsError::Spill);
        }
        let mut sorted: Vec<Alias> = self.members().collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(SettingsError::Twice);
        }
        Ok(())
    }
}

/// Why a cluster's settings cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A weight is negative, infinite or not a number, or the weights add up to infinity.
    #[error("a weight must be a finite number of 0 or more, and so must their sum")]
    Weight,
    /// An alias is listed twice.
    #[error("an alias is listed twice, or the primary is listed among its own replicas")]
    Twice,
    /// `PRIMARY_SPILL` is not from 0 to 1.
    #[error("PRIMARY_SPILL must be a number from 0 to 1")]
    Spill,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Cluster 0 with replicas 1, 2, ... of the weights given.
    pub(crate) fn settings(weights: &[f64]) -> Settings {
        Settings {
            primary: Alias::from_number(0),
            replicas: (1..).map(Alias::from_number).zip(weights.iter().copied()).collect(),
            reads: ReadTarget::Replica,
            primary_weight: 0.0,
            balance: Balance::Random,
            outside_requests: ReadTarget::Replica,
            sticky: true,
            consistent: true,
            has_positions: false,
            watched: true,
            lease: Duration::ZERO,
            pin: Duration::from_secs(5),
            wait: Duration::ZERO,
            on_unavailable: OnUnavailable::Primary,
            primary_spill: 1.0,
            forbidden: Vec::new(),
            are_mirrors: false,
            max_lag: None,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn settings_are_checked_once() {
        assert!(settings(&[]).check().is_ok());
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(settings(&[1.0, weight]).check().unwrap_err(), SettingsError::Weight);
        }
        assert_eq!(settings(&[1e308, 1e308]).check().unwrap_err(), SettingsError::Weight);
        let own = Settings { replicas: vec![(Alias::from_number(0), 1.0)], ..settings(&[]) };
        assert_eq!(own.check().unwrap_err(), SettingsError::Twice);
        let spill = Settings { primary_spill: 1.5, ..settings(&[]) };
        assert_eq!(spill.check().unwrap_err(), SettingsError::Spill);
    }
}
