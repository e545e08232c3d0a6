//! Whether one member may serve, by the outcomes of its reads and probes.
//!
//! Two conditions are kept apart. A member that refuses a connection, or does not answer its probes, is *down*: it
//! cannot be read from, and the first answer ends that. A member that answers and fails too often is *ejected*, for a
//! time that doubles with each ejection (as in Envoy's outlier detection and linkerd's breaker). How many members may
//! be ejected at once is decided for the whole cluster: see [`crate::health::cluster_health`].
//!
//! An ejected member is tried again (*half-open*) by a probe, at no user's expense. Without a monitor, one read is the
//! trial.
//!
//! Times are since the clock's origin; `jitter` is from 0 to 1.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::health::window::Window;
use crate::member::State;
use crate::reason::Outcome;
use crate::support::sync::AtomicBool;

/// Envoy's and Finagle's threshold. A sound server may lose a connection or two.
const FAILURES_IN_A_ROW: u32 = 5;
/// A failure rate over fewer reads than these in the window says nothing: half of them could fail by chance.
const LEAST_READS: u64 = 20;
/// The duration of the first ejection.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest duration. The server should have been repaired by then, and it should come back without further action.
const LONGEST: Duration = Duration::from_secs(300);
/// An ejection lasts up to this part longer, drawn once. Otherwise all processes would readmit the server at the same
/// moment, and it would fail again under their load.
const JITTER: f64 = 0.2;
/// One ejection is forgotten for each such time that the member has served.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Where a read is the trial: if its outcome is not reported for this long, another read becomes the trial.
const TRIAL: Duration = Duration::from_secs(5);
/// A member that comes back begins with a tenth of its weight, because its caches are cold, and has its full weight
/// after this time.
const SLOW_START: Duration = Duration::from_secs(5);
/// The number of steps to the full weight. Each step builds the pool anew.
pub const FULL: u8 = 10;

/// An ejection.
#[derive(Clone, Debug)]
struct Ejection {
    until: Duration,
    /// The trial by a read, once it is due.
    trial: Option<Trial>,
}

#[derive(Clone, Debug)]
struct Trial {
    /// Set by the read that takes the trial.
    taken: Arc<AtomicBool>,
    ends: Duration,
}

/// The outcomes of one member.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    window: Window,
    failures_in_a_row: u32,
    down_since: Option<Duration>,
    ejected: Option<Ejection>,
    /// The ejections that are not forgotten yet.
    ejections: u32,
    /// When it returned to service.
    restored_at: Option<Duration>,
    /// When the last probe was sent, whatever its outcome.
    probed_at: Option<Duration>,
}

impl Breaker {
    /// A read ended at `now`. `is_watched`: a monitor probes the member.
    pub fn read(&mut self, outcome: Outcome, is_watched: bool, jitter: f64, now: Duration) {
        self.window.add(outcome == Outcome::Ok, now);
        let is_on_trial = self.ejected.as_ref().is_some_and(|ejected| ejected.trial.is_some());
        if outcome == Outcome::Ok {
            self.failures_in_a_row = 0;
            if is_on_trial {
                self.restore(now);
            }
            return;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let is_gone = outcome == Outcome::Gone;
        if is_gone {
            self.down_since = self.down_since.max(Some(now));
        }
        // Without a monitor nothing else detects its return, so that a read has to try it after a time.
        if is_on_trial || (is_gone && !is_watched && self.ejected.is_none()) {
            self.eject(jitter, now);
        }
    }

    /// A probe that was sent at `sent` ended by `now`. A failed probe never improves the state.
    pub fn probe(&mut self, outcome: Outcome, sent: Duration, now: Duration) {
        if self.probed_at.is_some_and(|before| sent < before) {
            return;
        }
        self.probed_at = Some(sent);
        match outcome {
            Outcome::Gone => self.down_since = self.down_since.max(Some(sent)),
            // The server answered, though the probe may not query it: that changes nothing.
            Outcome::Failed => {}
            Outcome::Ok => {
                let was_down = self.down_since.take_if(|since| sent > *since).is_some();
                let is_over = self.ejected.as_ref().is_some_and(|ejected| ejected.until <= now);
                if self.down_since.is_none() && (is_over || (was_down && self.ejected.is_none())) {
                    self.restore(now);
                }
            }
        }
    }

    /// Time has passed. Without a monitor, a member whose ejection is over is tried by a read.
    pub fn tick(&mut self, is_watched: bool, now: Duration) {
        if is_watched {
            if let Some(ejected) = &mut self.ejected {
                ejected.trial = None;
            }
            return;
        }
        if let Some(since) = self.down_since.filter(|_| self.ejected.is_none()) {
            self.ejected = Some(Ejection { until: since + SHORTEST, trial: None });
        }
        if let Some(ejected) = self.ejected.as_mut().filter(|ejected| ejected.until <= now)
            && ejected.trial.as_ref().is_none_or(|trial| trial.ends <= now)
        {
            ejected.trial = Some(Trial { taken: Arc::new(AtomicBool::new(false)), ends: now + TRIAL });
            self.down_since = None;
        }
    }

    /// Whether it fails too often to serve.
    pub fn is_to_be_ejected(&mut self, now: Duration) -> bool {
        if self.ejected.is_some() || self.down_since.is_some() {
            return false;
        }
        let (succeeded, failed) = self.window.counts(now);
        self.failures_in_a_row >= FAILURES_IN_A_ROW || (succeeded + failed >= LEAST_READS && failed > succeeded)
    }

    /// Whether it is ejected, or on trial after an ejection.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// Ejects it.
    pub fn eject(&mut self, jitter: f64, now: Duration) {
        self.forget(now);
        self.ejections = self.ejections.saturating_add(1);
        let doubled = SHORTEST.saturating_mul(2_u32.saturating_pow(self.ejections - 1));
        // The limit leaves room for the jitter, which would otherwise be lost where all processes have the same
        // duration.
        let time = doubled.min(LONGEST.div_f64(1.0 + JITTER)).mul_f64(1.0 + JITTER * jitter);
        self.ejected = Some(Ejection { until: now + time, trial: None });
    }

    /// Forgets one ejection for each [`FORGOTTEN_AFTER`] that it has served.
    fn forget(&mut self, now: Duration) {
        let served = self.restored_at.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let forgotten = u32::try_from(served.as_secs() / FORGOTTEN_AFTER.as_secs()).unwrap_or(u32::MAX);
        self.ejections = self.ejections.saturating_sub(forgotten);
    }

    fn restore(&mut self, now: Duration) {
        // It may have served before a moment of being down.
        self.forget(now);
        (self.ejected, self.down_since, self.failures_in_a_row) = (None, None, 0);
        self.window.clear();
        self.restored_at = Some(now);
    }

    /// Its state at `now`, whatever its lag.
    #[must_use]
    pub fn state(&self, now: Duration) -> State {
        match &self.ejected {
            _ if self.down_since.is_some() => State::Down,
            Some(ejected) if ejected.trial.is_some() || ejected.until <= now => State::Probing,
            Some(_) => State::Ejected,
            None => State::Up,
        }
    }

    /// When the last probe that has ended was sent.
    #[must_use]
    pub fn probed_at(&self) -> Option<Duration> {
        self.probed_at
    }

    /// Its share of its weight at `now`, in parts of [`FULL`]: less than all shortly after its return.
    #[must_use]
    pub fn ramp(&self, now: Duration) -> u8 {
        let Some(served) =
            self.restored_at.map(|since| now.saturating_sub(since)).filter(|served| *served < SLOW_START)
        else {
            return FULL;
        };
        let steps = served.as_millis() * u128::from(FULL - 1) / SLOW_START.as_millis();
        1 + u8::try_from(steps).unwrap_or(FULL - 1)
    }

    /// The right to be the read on trial, if a trial is due.
    #[must_use]
    pub fn trial(&self) -> Option<Arc<AtomicBool>> {
        self.ejected.as_ref()?.trial.as_ref().map(|trial| trial.taken.clone())
    }
}

/// Takes the right to try a member; false if another read has taken it.
pub fn take(trial: &AtomicBool) -> bool {
    !trial.swap(true, Ordering::Relaxed)
}

#[cfg(all(test, not(loom)))]
mod tests;
