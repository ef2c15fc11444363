//! How long something takes on this machine: for reports only. Nothing that is simulated or judged depends on it.

use std::time::Duration;

/// Does `work` and says how long it took.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "wall time is what is reported, and nothing depends on it"
)]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = std::time::Instant::now();
    let result = work();
    (result, begin.elapsed())
}
