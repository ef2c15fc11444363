//! How long something takes on this machine: for reports only. Nothing that is simulated or judged depends on it.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "wall time is what is reported, and no run depends on it"
)]

use std::time::Duration;

/// Counts wall time from its start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Counts from now on.
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// How long it has counted.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Does `work` and says how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Stopwatch::start();
    let result = work();
    (result, begun.elapsed())
}
