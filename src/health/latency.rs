//! The latency of a member.
//!
//! A mean hides that a server has just become slow, and the last answer alone is chance. The peak EWMA jumps to a slow
//! answer at once and decays over time, as in Finagle (`com.twitter.finagle.loadbalancer.PeakEwma`) and linkerd. Two
//! things differ. Theirs decays without answers, so that a slow server is tried again; here that would make a silent
//! server look fast, and the monitor probes every server anyway. And theirs multiplies by the requests in flight, of
//! which a prefork worker has none or one.

use std::time::Duration;

/// An answer that is this old still counts for 37 %: Finagle's default. With a shorter time, a slow server would be
/// forgiven between two probes.
const DECAY: Duration = Duration::from_secs(10);

/// The latency of one member.
#[derive(Clone, Debug, Default)]
pub struct PeakEwma {
    /// In seconds; `None` before the first answer.
    value: Option<f64>,
    at: Duration,
}

impl PeakEwma {
    /// An answer came at `now`, after `took`.
    pub fn answered(&mut self, took: Duration, now: Duration) {
        let took = took.as_secs_f64();
        self.value = Some(match self.value {
            Some(value) if took < value => {
                let kept = (-now.saturating_sub(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp();
                value * kept + took * (1.0 - kept)
            }
            _ => took,
        });
        self.at = self.at.max(now);
    }

    /// An error came at `now`, after `took`. It may show that a member is slow, never that it is fast, since a refusal
    /// takes no time.
    pub fn failed(&mut self, took: Duration, now: Duration) {
        if self.value.is_some_and(|value| took.as_secs_f64() > value) {
            self.answered(took, now);
        }
    }

    /// In seconds; `None` before the first answer.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn about(value: Option<f64>, expected: f64) {
        assert!((value.unwrap() - expected).abs() < 1e-6, "{value:?} is not {expected}");
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_with_time() {
        let mut latency = PeakEwma::default();
        assert_eq!(latency.get(), None);
        latency.answered(MS, SECOND);
        latency.answered(MS * 100, SECOND * 2);
        about(latency.get(), 0.1);
        // Ten seconds later exp(-1) = 0.367879 of the difference is left: 1 + 99 x 0.367879 = 37.420.
        latency.answered(MS, SECOND * 12);
        about(latency.get(), 0.037_420_065);
    }

    #[test]
    fn an_error_never_looks_fast() {
        let mut latency = PeakEwma::default();
        latency.failed(MS, SECOND);
        assert_eq!(latency.get(), None);
        latency.answered(MS * 10, SECOND);
        latency.failed(MS, SECOND * 60);
        about(latency.get(), 0.01);
        latency.failed(MS * 50, SECOND * 60);
        about(latency.get(), 0.05);
    }

    proptest! {
        #[test]
        fn it_stays_between_the_fastest_and_the_slowest_answer(
            answers in prop::collection::vec((0..10_000_u64, 0..20_000_u64, any::<bool>()), 1..50),
        ) {
            let (mut latency, mut now) = (PeakEwma::default(), Duration::ZERO);
            let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
            for (took, pause, is_error) in answers {
                now += MS * u32::try_from(pause).unwrap();
                let (took, before) = (Duration::from_micros(took), latency.get());
                if is_error {
                    latency.failed(took, now);
                    prop_assert!(latency.get() >= before);
                } else {
                    latency.answered(took, now);
                    least = least.min(took.as_secs_f64());
                }
                most = most.max(took.as_secs_f64());
                if let Some(value) = latency.get() {
                    prop_assert!(least - 1e-9 <= value && value <= most + 1e-9);
                }
            }
        }
    }
}
