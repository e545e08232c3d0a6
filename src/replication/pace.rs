//! How fast a replica follows the primary: its last answers predict the next ones.
//!
//! Each answer gives the moment of the primary that the replica had not passed yet: the time of the answer minus its
//! lag. Where replicas are steadily late, a position of now is out of reach, and a read that waits for it waits in
//! vain.

use std::collections::VecDeque;
use std::time::Duration;

/// How many answers are remembered.
const KEPT: usize = 4;
/// How many answers it takes to tell a rate: two may agree by chance.
const FEWEST: usize = 3;
/// Answers that follow each other faster count as one: over so short a time a rate says nothing.
const SPACING: Duration = Duration::from_millis(20);

/// One answer.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    /// The replica lacked something that the primary had by then.
    limit: Duration,
}

/// The last answers of a replica, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
}

impl Pace {
    /// The replica answered at `at` with this lag; `None` if the lag is unknown, and then the rate is unknown, too.
    #[must_use]
    pub fn answering(mut self, at: Duration, lag: Option<Duration>) -> Self {
        let Some(lag) = lag else { return Self::default() };
        let is_next = |last: &Sample| at.saturating_sub(last.at) >= SPACING;
        if self.samples.len() > 1 && !self.samples.back().is_some_and(is_next) {
            self.samples.pop_back();
        } else if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, limit: at.saturating_sub(lag) });
        self
    }

    /// The moment of the primary that the replica will not pass before `moment`, at its recent rate; `None` if no rate
    /// is known. A replica that stands still may resume at any time, and is then at least as fast as the primary.
    #[must_use]
    pub fn limit_at(&self, moment: Duration) -> Option<Duration> {
        if self.samples.len() < FEWEST {
            return None;
        }
        let rate = |from: &Sample, to: &Sample| {
            to.limit.saturating_sub(from.limit).as_secs_f64() / to.at.saturating_sub(from.at).as_secs_f64()
        };
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let before = &self.samples[self.samples.len() - 2];
        let fastest = rate(first, last).max(rate(before, last)).max(1.0);
        let ahead = Duration::try_from_secs_f64(moment.saturating_sub(last.at).as_secs_f64() * fastest);
        Some(last.limit.saturating_add(ahead.unwrap_or(Duration::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Answers at these times, with these lags.
    fn pace(answers: &[(u64, u64)]) -> Pace {
        answers.iter().fold(Pace::default(), |pace, &(at, lag)| pace.answering(millis(at), Some(millis(lag))))
    }

    #[test]
    fn a_replica_that_is_steadily_late_stays_late() {
        let steady = pace(&[(1000, 500), (2000, 500), (3000, 500)]);
        assert_eq!(steady.limit_at(millis(3000)), Some(millis(2500)));
        assert_eq!(steady.limit_at(millis(3950)), Some(millis(3450)));
    }

    #[test]
    fn a_replica_that_catches_up_goes_on_as_fast() {
        // It has replayed six seconds in two.
        let catching_up = pace(&[(5000, 5000), (6000, 3000), (7000, 1000)]);
        assert_eq!(catching_up.limit_at(millis(7500)), Some(millis(7500)));
        // Its recent rate is higher than its mean.
        let speeding_up = pace(&[(5000, 4000), (6000, 4000), (7000, 2000)]);
        assert_eq!(speeding_up.limit_at(millis(8000)), Some(millis(8000)));
    }

    #[test]
    fn a_replica_that_stands_still_may_go_on() {
        let still = pace(&[(5000, 1000), (6000, 2000), (7000, 3000)]);
        assert_eq!(still.limit_at(millis(8000)), Some(millis(5000)));
    }

    #[test]
    fn few_answers_tell_no_rate() {
        assert_eq!(pace(&[(1000, 500), (2000, 500)]).limit_at(millis(3000)), None);
        let lost = pace(&[(1000, 500), (2000, 500), (3000, 500)]).answering(millis(4000), None);
        assert_eq!(lost.limit_at(millis(5000)), None);
    }

    #[test]
    fn answers_at_once_count_as_one_and_old_ones_are_forgotten() {
        let crowded = pace(&[(1000, 500), (2000, 500), (2001, 400), (2002, 300)]);
        assert_eq!(crowded.limit_at(millis(3000)), None);
        // The rate of the first two seconds is forgotten: four of the primary's in one.
        let long_ago = pace(&[(5000, 5000), (6000, 2000), (7000, 2000), (8000, 2000), (9000, 2000)]);
        assert_eq!(long_ago.limit_at(millis(9500)), Some(millis(7500)));
    }
}
