//! Whether one member may serve, by what became of the reads and the probes it was sent.
//!
//! Two things are kept apart. A member that refuses a connection, or does not answer its probes, is *down*: nothing could be
//! read from it, and the first answer ends that. A member that answers and fails too often is *ejected*, for a time that
//! doubles with each time (the breaker of Envoy's outlier detection, and of linkerd). How many may be ejected at once is
//! not for one of them to decide: see [`crate::health::cluster_health`].
//!
//! Who was ejected is tried again (*half-open*) by a probe, not by a user. Where nobody probes, one read is the trial.
//!
//! Times are since the clock's origin; `jitter` is from 0 to 1.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::health::window::Window;
use crate::member::State;
use crate::reason::Outcome;
use crate::support::sync::AtomicBool;

/// Envoy's and Finagle's. A lost connection or two happen to a sound server.
const FAILURES_IN_A_ROW: u32 = 5;
/// A rate of fewer reads than these in the window says nothing: half of them could fail by chance.
const LEAST_READS: u64 = 20;
/// The first ejection.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest one: somebody should have looked after the server by then, and it should come back without them.
const LONGEST: Duration = Duration::from_secs(300);
/// An ejection is up to this part longer, drawn once: or all processes would come back at the same moment, and the server
/// would fall again under all of them.
const JITTER: f64 = 0.2;
/// One ejection is forgotten for each such time that the member served.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Where a read is the trial: the next one is admitted when nobody has said for so long what became of it.
const TRIAL: Duration = Duration::from_secs(5);
/// A member that comes back begins with a tenth of its weight, its caches cold, and has all of it after this time.
const SLOW_START: Duration = Duration::from_secs(5);
/// In so many steps: each one builds the pool anew.
pub const FULL: u8 = 10;

/// A member out of service for its failures.
#[derive(Clone, Debug)]
struct Ejection {
    until: Duration,
    /// The read that is admitted to try it.
    trial: Option<Trial>,
}

#[derive(Clone, Debug)]
struct Trial {
    /// Set by the read that takes it.
    taken: Arc<AtomicBool>,
    ends: Duration,
}

/// What is known of one member.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    window: Window,
    failures_in_a_row: u32,
    down_since: Option<Duration>,
    ejected: Option<Ejection>,
    /// How often it was ejected lately.
    ejections: u32,
    /// Since when it serves again.
    restored_at: Option<Duration>,
    /// The time of the last probe that was answered or not.
    probed_at: Option<Duration>,
}

impl Breaker {
    /// A read came to an end at `now`. `is_watched`: somebody probes the member.
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
        // Where nobody else finds out that it is back, it is to be tried after a time.
        if is_on_trial || (is_gone && !is_watched && self.ejected.is_none()) {
            self.eject(jitter, now);
        }
    }

    /// A probe that was sent at `sent` came to an end by `now`. One that fails never makes anything better.
    pub fn probe(&mut self, outcome: Outcome, sent: Duration, now: Duration) {
        if self.probed_at.is_some_and(|before| sent < before) {
            return;
        }
        self.probed_at = Some(sent);
        match outcome {
            Outcome::Gone => self.down_since = self.down_since.max(Some(sent)),
            // It answered, if only that the prober may not look: nothing is known that was not known before.
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

    /// Time has gone by. Where nobody probes, a member whose ejection is over is to be tried by a read.
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

    /// Whether it has failed too often to serve.
    pub fn is_to_be_ejected(&mut self, now: Duration) -> bool {
        if self.ejected.is_some() || self.down_since.is_some() {
            return false;
        }
        let (succeeded, failed) = self.window.counts(now);
        self.failures_in_a_row >= FAILURES_IN_A_ROW || (succeeded + failed >= LEAST_READS && failed > succeeded)
    }

    /// Whether it is out of service for its failures, or still to be tried after that.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }

    /// Takes it out of service.
    pub fn eject(&mut self, jitter: f64, now: Duration) {
        self.forget(now);
        self.ejections = self.ejections.saturating_add(1);
        let doubled = SHORTEST.saturating_mul(2_u32.saturating_pow(self.ejections - 1));
        // So that the jitter is not lost at the limit: there, of all places, all would have the same time.
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
        // It may have served, and been down for a moment.
        self.forget(now);
        (self.ejected, self.down_since, self.failures_in_a_row) = (None, None, 0);
        self.window.clear();
        self.restored_at = Some(now);
    }

    /// Its state at `now`, its lag aside.
    #[must_use]
    pub fn state(&self, now: Duration) -> State {
        match &self.ejected {
            _ if self.down_since.is_some() => State::Down,
            Some(ejected) if ejected.trial.is_some() || ejected.until <= now => State::Probing,
            Some(_) => State::Ejected,
            None => State::Up,
        }
    }

    /// When the last probe of it was sent that came to an end.
    #[must_use]
    pub fn probed_at(&self) -> Option<Duration> {
        self.probed_at
    }

    /// What it is to be given of its weight at `now`, in parts of [`FULL`]: it serves again since a short time.
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

    /// The right to be the read that tries it, if one is to.
    #[must_use]
    pub fn trial(&self) -> Option<Arc<AtomicBool>> {
        self.ejected.as_ref()?.trial.as_ref().map(|trial| trial.taken.clone())
    }
}

/// Takes the right to try a member; false if another read has it.
pub fn take(trial: &AtomicBool) -> bool {
    !trial.swap(true, Ordering::Relaxed)
}

#[cfg(all(test, not(loom)))]
mod tests;
