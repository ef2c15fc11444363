//! When a process that was told to stop is gone at the latest.
//!
//! One definition of the sum, for whoever asks a running drain and for whoever proves a finished one. No term depends on what
//! an idle, pinging or hot client does. The time to flush the meter, which is no setting, comes on top.

use std::time::Duration;

use super::settings::Settings;
use super::time::Time;

/// How a drain went, as far as its bound depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// When it began.
    pub signal: Time,
    /// The last instant at which a worker was executing or a statement's bytes moved: now, if that is so now. The signal,
    /// where a transaction, a statement, a batch or an answer was open then, however long its client had been silent before.
    /// `None`: there was nothing of the kind.
    pub moved: Option<Time>,
    /// Whether a session that was let in waited for a worker behind the grace.
    pub queued: bool,
    /// When the wall stands, if there is one.
    pub wall: Option<Time>,
}

/// When the process is gone, and which term says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The time, without the flush.
    pub at: Time,
    /// The term that is the largest; at the wall, the only one.
    pub term: Term,
}

/// The terms of the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// The last due time.
    IdleGrace,
    /// A session that came at the end of the lame duck, and its wait for a worker.
    WorkerQueue,
    /// The last that moved, and the longest clock of a client.
    LastMove,
    /// The wall, and the time to tear down.
    Wall,
}

/// The longest that a client may be silent inside a statement, a batch or a transaction.
fn longest_clock(rules: &Settings) -> Duration {
    rules.transaction_grace.max(rules.stall_grace)
}

impl Progress {
    /// The bound of a drain that goes so, under these rules.
    pub fn bound(&self, rules: &Settings) -> Bound {
        let idle = (self.signal + rules.idle_grace, Term::IdleGrace);
        let queued =
            self.queued.then(|| (self.signal + rules.lame_duck + rules.worker_queue_timeout, Term::WorkerQueue));
        let moved = self.moved.map(|moved| (moved + longest_clock(rules), Term::LastMove));
        let last = queued.into_iter().chain(moved).fold(idle, |last, next| if next.0 > last.0 { next } else { last });
        let drained = Bound { at: last.0 + rules.close_linger, term: last.1 };
        let walled = self.wall.map(|wall| Bound { at: wall + rules.teardown_budget, term: Term::Wall });
        walled.into_iter().fold(drained, |first, next| if next.at < first.at { next } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_epoch(Duration::from_secs(seconds))
    }

    fn bound(change: impl FnOnce(&mut Progress)) -> (u64, Term) {
        let mut progress = Progress { signal: at(100), moved: None, queued: false, wall: None };
        change(&mut progress);
        let Bound { at, term } = progress.bound(&Settings::default());
        (at.since(progress.signal).as_secs(), term)
    }

    #[test]
    fn each_term_counts_from_its_own_instant_and_the_latest_bounds() {
        assert_eq!(bound(|_| {}), (30 + 5, Term::IdleGrace));
        assert_eq!(bound(|progress| progress.queued = true), (5 + 60 + 5, Term::WorkerQueue));
        assert_eq!(bound(|progress| progress.moved = Some(at(100))), (300 + 5, Term::LastMove));
        assert_eq!(
            bound(|progress| (progress.moved, progress.queued) = (Some(at(700)), true)),
            (600 + 305, Term::LastMove)
        );
    }

    #[test]
    fn a_wall_bounds_what_would_last_longer_and_nothing_else() {
        let walled = |moved| bound(|progress| (progress.moved, progress.wall) = (moved, Some(at(200))));
        assert_eq!(walled(Some(at(700))), (100 + 20, Term::Wall));
        assert_eq!(walled(None), (35, Term::IdleGrace));
    }

    #[test]
    fn of_terms_that_come_to_the_same_the_first_is_named_and_the_wall_last() {
        let rules = Settings { worker_queue_timeout: Duration::from_secs(25), ..Settings::default() };
        let progress = Progress { signal: at(100), moved: None, queued: true, wall: None };
        let of = |wall| Progress { wall, ..progress }.bound(&rules);
        assert_eq!(of(None), Bound { at: at(135), term: Term::IdleGrace });
        assert_eq!(of(Some(at(115))), of(None));
    }
}
