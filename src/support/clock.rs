//! One moment on two clocks that run at the same rate and began at different times.

use std::time::Duration;

/// An offset found within this time is good enough.
const CLOSE: Duration = Duration::from_micros(50);
/// How often the clocks are compared until the offset is good enough.
const LOOKS: usize = 10;

/// How many nanoseconds `theirs` is ahead of `ours`: never too few, and too many by no more than the time between two
/// readings of `ours` around one of `theirs`.
///
/// A thread may lose the processor between two readings. `ours` is therefore read first: a time of `theirs` then seems
/// earlier than it was, never later. A server that was queried just before a write must not seem to have been queried
/// after it; one that was queried after it, and seems not to have been, is merely queried again.
///
/// # Errors
/// That of `theirs`.
pub fn ahead<E>(ours: impl Fn() -> Duration, theirs: impl Fn() -> Result<u64, E>) -> Result<u64, E> {
    let look = || {
        let before = ours();
        let ahead = theirs()?.saturating_sub(u64::try_from(before.as_nanos()).unwrap_or(u64::MAX));
        Ok((ours().saturating_sub(before), ahead))
    };
    let mut best = look()?;
    for _ in 1..LOOKS {
        if best.0 <= CLOSE {
            break;
        }
        best = best.min(look()?);
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Theirs is this far ahead.
    const AHEAD: u64 = 7_000_000_000;

    /// The offset that is found if the time in `delays`, in nanoseconds, passes between two readings.
    fn found(delays: &[u64]) -> u64 {
        let (now, mut delays) = (Cell::new(0), delays.iter().copied().chain(std::iter::repeat(1_000_000)));
        let delays = std::cell::RefCell::new(&mut delays);
        let look = || {
            let seen = now.get();
            now.set(seen + delays.borrow_mut().next().unwrap_or_default());
            seen
        };
        ahead::<Infallible>(|| Duration::from_nanos(look()), || Ok(look() + AHEAD)).unwrap()
    }

    #[test]
    fn two_looks_in_a_row_tell_the_distance() {
        assert_eq!(found(&[0, 0, 0]), AHEAD);
        assert_eq!(found(&[100, 0, 0]), AHEAD + 100);
    }

    #[test]
    fn an_interruption_is_looked_past() {
        assert_eq!(found(&[5_000_000, 0, 0, 100, 100, 0]), AHEAD + 100);
        assert_eq!(found(&[0, 5_000_000, 0, 100, 100, 0]), AHEAD + 100);
    }

    proptest! {
        #[test]
        fn nothing_is_ever_dated_too_late(delays in prop::collection::vec(0..10_000_000_u64, 0..30)) {
            prop_assert!(found(&delays) >= AHEAD);
        }
    }
}
