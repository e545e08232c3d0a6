//! The process's clock, and the moments of Python's on it.

use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::support::clock;

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The time since the process first asked. The one place that reads the clock, which is monotonic.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> Duration {
    Instant::now().saturating_duration_since(*ORIGIN)
}

/// A moment of Python's monotonic clock on ours, and never a later one. A moment before our origin (other processes
/// probe the servers, too) counts as the origin, before which this process read and wrote nothing.
pub fn since_origin(py: Python<'_>, monotonic_ns: u64) -> PyResult<Duration> {
    static AHEAD: OnceLock<u64> = OnceLock::new();
    let ahead = if let Some(&ahead) = AHEAD.get() {
        ahead
    } else {
        let monotonic = py.import("time")?.getattr("monotonic_ns")?;
        let ahead = clock::ahead(now, || monotonic.call0()?.extract::<u64>())?;
        *AHEAD.get_or_init(|| ahead)
    };
    Ok(Duration::from_nanos(monotonic_ns.saturating_sub(ahead)))
}
