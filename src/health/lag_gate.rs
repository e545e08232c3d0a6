//! `MAX_LAG`: a replica that is further behind is not read from until it has caught up.
//!
//! The lag comes from [`crate::replication::state`], and the age of the figure is added. An unknown lag is never zero:
//! where a replica's position cannot be compared any more, or it no longer reports one, its lag grows from the last
//! known figure.
//!
//! While the primary is silent, no replica is excluded: what a dead primary did not replicate can never be caught up
//! with, and one replica after the other would be lost for reads.

use std::time::Duration;

use crate::replication::state::LagSample;

/// A replica is excluded above the limit and readmitted below this part of it: a replica whose lag hovers around the
/// limit would otherwise alternate with each probe.
const COMES_BACK_BELOW: f64 = 0.5;

/// A replica may lack all positions that are known of the primary for this part of the limit. When a process has just
/// begun to probe, a healthy replica of a busy primary lacks the one known position until the next probe. After that
/// its lag has no upper bound.
const BENEFIT_OF_DOUBT: f64 = 0.1;

/// Whether one replica is too far behind.
#[derive(Clone, Debug, Default)]
pub struct LagGate {
    is_shut: bool,
    /// The last lag that was known, and its time.
    known: Option<(Duration, Duration)>,
}

impl LagGate {
    /// Judges the sample at `now` by `limit` (`MAX_LAG`, `None` for no limit).
    pub fn judge(&mut self, look: Option<LagSample>, limit: Option<Duration>, primary_is_silent: bool, now: Duration) {
        let (Some(limit), Some(look)) = (limit, look) else {
            self.is_shut &= limit.is_some();
            return;
        };
        if look.is_multiplexed {
            *self = Self::default();
            return;
        }
        match look.lag {
            Some(lag) => self.known = Some((lag, look.at)),
            None if look.has_position => drop(self.known.get_or_insert((Duration::ZERO, look.at))),
            None => {}
        }
        // The engine reports neither a position nor a lag.
        let Some((lag, at)) = self.known else { return };
        let late = lag.saturating_add(now.saturating_sub(at));
        let is_unknown = look.is_least && lag > limit.mul_f64(BENEFIT_OF_DOUBT);
        if late > limit || is_unknown {
            self.is_shut |= !primary_is_silent;
        } else if late <= limit.mul_f64(COMES_BACK_BELOW) && look.lag.is_some() {
            self.is_shut = false;
        }
    }

    /// Whether the replica is excluded.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.is_shut
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

    /// A sample of second `at` with a lag of so many seconds.
    fn look(at: u32, lag: Option<u32>) -> LagSample {
        let lag = lag.map(|lag| SECOND * lag);
        LagSample { at: SECOND * at, lag, is_least: false, has_position: true, is_multiplexed: false }
    }

    fn judge(gate: &mut LagGate, look: LagSample, now: u32) -> bool {
        gate.judge(Some(look), LIMIT, false, SECOND * now);
        gate.is_shut()
    }

    #[test]
    fn a_replica_rests_above_the_limit_and_comes_back_below_half_of_it() {
        let mut gate = LagGate::default();
        let shut: Vec<bool> =
            [9, 11, 9, 6, 5, 9].into_iter().map(|lag| judge(&mut gate, look(1, Some(lag)), 1)).collect();
        assert_eq!(shut, [false, true, true, true, false, false]);
    }

    #[test]
    fn the_age_of_the_figure_is_added() {
        let mut gate = LagGate::default();
        assert!(!judge(&mut gate, look(1, Some(4)), 7));
        assert!(judge(&mut gate, look(1, Some(4)), 8));
    }

    #[test]
    fn unknown_is_not_zero_and_readmits_no_replica() {
        let mut gate = LagGate::default();
        assert!(!judge(&mut gate, look(1, Some(2)), 1));
        // 2 seconds at 1, and nothing comparable since: 10 at 9, more after that.
        assert!(!judge(&mut gate, look(9, None), 9));
        assert!(judge(&mut gate, look(10, None), 10));
        assert!(judge(&mut gate, look(11, None), 11));
        assert!(!judge(&mut gate, look(12, Some(0)), 12));
    }

    #[test]
    fn a_position_that_could_never_be_compared_counts_from_the_first_look() {
        let mut gate = LagGate::default();
        assert!(!judge(&mut gate, look(5, None), 15));
        assert!(judge(&mut gate, look(16, None), 16));
    }

    #[test]
    fn an_engine_without_positions_has_no_gate() {
        let mut gate = LagGate::default();
        for second in 1..100 {
            assert!(!judge(&mut gate, LagSample { has_position: false, ..look(second, None) }, second));
        }
    }

    #[test]
    fn a_replica_that_lacks_all_known_positions_is_excluded_after_a_tenth_of_the_limit() {
        let mut gate = LagGate::default();
        let least = |at, lag| LagSample { is_least: true, ..look(at, Some(lag)) };
        assert!(!judge(&mut gate, least(1, 0), 1));
        assert!(!judge(&mut gate, least(2, 1), 2));
        assert!(judge(&mut gate, least(3, 2), 3));
    }

    #[test]
    fn while_the_primary_is_silent_no_replica_is_excluded_and_those_that_caught_up_are_readmitted() {
        let mut gate = LagGate::default();
        gate.judge(Some(look(30, Some(30))), LIMIT, true, SECOND * 30);
        assert!(!gate.is_shut());
        assert!(judge(&mut gate, look(30, Some(30)), 30));
        gate.judge(Some(look(31, Some(0))), LIMIT, true, SECOND * 31);
        assert!(!gate.is_shut());
    }

    #[test]
    fn without_a_limit_no_replica_is_excluded() {
        let mut gate = LagGate::default();
        assert!(judge(&mut gate, look(1, Some(11)), 1));
        gate.judge(Some(look(1, Some(11))), None, false, SECOND);
        assert!(!gate.is_shut());
    }

    #[test]
    fn one_of_several_servers_is_judged_by_time_only() {
        let mut gate = LagGate::default();
        assert!(judge(&mut gate, look(1, Some(11)), 1));
        assert!(!judge(&mut gate, LagSample { is_multiplexed: true, ..look(2, None) }, 2));
    }

    proptest! {
        #[test]
        fn a_replica_that_serves_was_within_the_limit(looks in prop::collection::vec((prop::option::of(0..30_u32), 0..5_u32), 1..40)) {
            let (mut gate, mut now, mut bound) = (LagGate::default(), 1, 0);
            for (lag, pause) in looks {
                now += pause;
                bound = lag.unwrap_or(if bound == 0 && gate.known.is_none() { 0 } else { bound + pause });
                prop_assert!(judge(&mut gate, look(now, lag), now) || bound <= 10);
            }
        }
    }
}
