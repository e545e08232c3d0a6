//! How many of the reads of the last seconds succeeded.
//!
//! Exact: each outcome counts for [`LENGTH`] and no longer. The obvious alternative, counters that are reset at
//! intervals, forgets all at once and misses a bad stretch that crosses a boundary.

use std::collections::VecDeque;
use std::time::Duration;

/// Ten seconds: Envoy's interval, long enough for some reads of a small site and short enough to follow a failing server.
pub const LENGTH: Duration = Duration::from_secs(10);
/// Outcomes closer together than this are kept as one entry, so that a busy server needs no more than a thousand.
const GRAIN: Duration = Duration::from_millis(10);

/// The outcomes of the last [`LENGTH`].
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Oldest first.
    entries: VecDeque<Entry>,
    succeeded: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Duration,
    succeeded: u64,
    failed: u64,
}

impl Window {
    /// One more outcome, at `now`.
    pub fn add(&mut self, succeeded: bool, now: Duration) {
        self.forget(now);
        let (good, bad) = (u64::from(succeeded), u64::from(!succeeded));
        self.succeeded += good;
        self.failed += bad;
        match self.entries.back_mut() {
            // The report of another thread may carry an earlier time and arrive later.
            Some(last) if now < last.at + GRAIN => {
                last.succeeded += good;
                last.failed += bad;
            }
            _ => self.entries.push_back(Entry { at: now, succeeded: good, failed: bad }),
        }
    }

    /// How many succeeded and how many failed, of those that count at `now`.
    pub fn counts(&mut self, now: Duration) -> (u64, u64) {
        self.forget(now);
        (self.succeeded, self.failed)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, now: Duration) {
        while let Some(oldest) = self.entries.front().filter(|oldest| oldest.at + LENGTH <= now) {
            self.succeeded -= oldest.succeeded;
            self.failed -= oldest.failed;
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_outcome_counts_for_ten_seconds_and_no_longer() {
        let mut window = Window::default();
        window.add(true, MS);
        window.add(false, MS * 500);
        assert_eq!(window.counts(MS * 10_000), (1, 1));
        assert_eq!(window.counts(MS * 10_001), (0, 1));
        assert_eq!(window.counts(MS * 10_500), (0, 0));
    }

    #[test]
    fn a_busy_server_is_remembered_in_a_thousand_entries() {
        let mut window = Window::default();
        (0..100_000).for_each(|tenth| window.add(true, MS * tenth / 10));
        assert_eq!(window.counts(MS * 9_999), (100_000, 0));
        assert_eq!(window.entries.len(), 1000);
    }

    proptest! {
        /// Compared with a list of all outcomes that is counted anew each time.
        #[test]
        fn it_counts_what_a_list_would_count(outcomes in prop::collection::vec((10..3_000_u32, any::<bool>()), 0..100)) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), Duration::ZERO);
            for (pause, succeeded) in outcomes {
                now += MS * pause;
                window.add(succeeded, now);
                list.push((now, succeeded));
                let count = |wanted| list.iter().filter(|(at, is)| now < *at + LENGTH && *is == wanted).count() as u64;
                prop_assert_eq!(window.counts(now), (count(true), count(false)));
            }
        }
    }
}
