//! The one notion of time: how long after its epoch a world is now.
//!
//! Not a clock. `core` is told the time with every call and reads none; what an epoch is (process start, start of the
//! simulation) is the world's business. Only differences mean anything.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, as the time passed since the world's epoch: nanoseconds, of which 64 bits have 584 years.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The world's epoch.
    pub const EPOCH: Time = Time(0);

    /// The moment `since_epoch` after the epoch; the last that there is, if it is later.
    pub const fn from_epoch(since_epoch: Duration) -> Time {
        Time(nanos(since_epoch))
    }

    /// How long after the epoch this moment is.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a setting of "practically never" is as good as never.
    fn add(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(nanos(delay)))
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
        write!(f, "{:.3}s", self.since_epoch().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_the_last_is_the_last() {
        let last = Time::from_epoch(Duration::from_nanos(u64::MAX));
        assert_eq!((Time::from_epoch(Duration::from_secs(u64::MAX)), Time::EPOCH + Duration::MAX), (last, last));
        assert_eq!(last - Time::EPOCH, Duration::from_nanos(u64::MAX));
        assert_eq!(Time::EPOCH - last, Duration::ZERO);
    }

    #[test]
    fn a_time_is_shown_in_seconds_since_the_epoch() {
        assert_eq!(format!("{:?}", Time::from_epoch(Duration::from_millis(1_500))), "1.500s");
    }
}
