//! What the whole process is doing, as every task needs to know it.

use std::fmt;

use crate::core::{Drain, Time};
use crate::world::Signal;

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Ready for new sessions.
    Serving,
    /// Not ready; the drain runs.
    Draining(Draining),
    /// Nothing is left to wait for: every task ends now. Nothing comes after it.
    Exiting,
}

/// A drain that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// When it began: t = 0 of the drain's rules.
    pub since: Time,
    /// What began it.
    pub cause: Cause,
    /// The first signal that came, if one has: from then on the drain can't be taken back.
    pub signal: Option<Signal>,
    /// When the wall was called for, if it was.
    pub wall: Option<Time>,
}

/// What began a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A signal.
    Signal(Signal),
    /// `POST /drain` on the admin port.
    Request,
}

impl Lifecycle {
    /// Lets `drain` know: the one way in which a task's drain follows the process's, there and back.
    pub fn tell(&self, drain: &mut Drain) {
        let draining = match self {
            Lifecycle::Serving => return drain.handle_recall(),
            Lifecycle::Draining(draining) => draining,
            Lifecycle::Exiting => return,
        };
        // One drain taken back and another begun between two looks.
        if drain.signal().is_some_and(|since| since != draining.since) {
            drain.handle_recall();
        }
        drain.handle_signal(draining.since);
        if let Some(wall) = draining.wall {
            drain.handle_wall(wall);
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Signal(signal) => signal.fmt(f),
            Cause::Request => f.write_str("request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::{Phase, Settings};

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn draining(since: u64, wall: Option<u64>) -> Lifecycle {
        Lifecycle::Draining(Draining { since: at(since), cause: Cause::Request, signal: None, wall: wall.map(at) })
    }

    /// A drain that was told all of these, one after the other.
    fn told(lifecycles: &[Lifecycle]) -> Drain {
        let mut drain = Drain::new(Arc::new(Settings::default()));
        lifecycles.iter().for_each(|lifecycle| lifecycle.tell(&mut drain));
        drain
    }

    #[test]
    fn a_drain_follows_the_process_there_and_back() {
        assert_eq!(told(&[draining(1, None)]).signal(), Some(at(1)));
        assert_eq!(told(&[draining(1, None), Lifecycle::Serving]).signal(), None);
        assert_eq!(told(&[draining(1, None), Lifecycle::Exiting]).signal(), Some(at(1)));
        assert_eq!(told(&[draining(1, Some(2))]).phase(at(2)), Phase::Wall);
    }

    #[test]
    fn a_drain_that_missed_the_moment_between_two_drains_follows_the_second() {
        let drain = told(&[draining(1, Some(2)), draining(9, None)]);
        assert_eq!((drain.signal(), drain.phase(at(9))), (Some(at(9)), Phase::LameDuck));
    }
}
