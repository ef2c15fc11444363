//! The one notion of time: how long after its epoch a world is now.
//!
//! Not a clock. `core` is told the time with every call and reads none; what an epoch is (process start, start of the
//! simulation) is the world's business. Only differences mean anything.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, as the time passed since the world's epoch.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The world's epoch.
    pub const EPOCH: Time = Time(Duration::ZERO);

    /// The moment `since_epoch` after the epoch.
    pub const fn from_epoch(since_epoch: Duration) -> Time {
        Time(since_epoch)
    }

    /// How long after the epoch this moment is.
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a setting of "practically never" is as good as never.
    fn add(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(delay))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}
