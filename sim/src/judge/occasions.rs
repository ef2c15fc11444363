//! In how many runs each promise could have been broken: a promise that is kept where nothing was at stake proves nothing.

use std::collections::BTreeMap;

use crate::scenario::Promise;
use crate::story::Story;

/// For each promise, how many of the runs it could have been broken in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occasions(BTreeMap<Promise, u64>);

impl Occasions {
    /// Of one run.
    pub fn of(story: &Story) -> Occasions {
        let at_stake = |promise: &Promise| match promise {
            Promise::NeverCut => !story.statements.is_empty(),
            Promise::BoundedExit | Promise::NothingLeaks | Promise::HonestSigns => story.signal().is_some(),
            Promise::AnsweredOrNotRun => !story.requests.is_empty(),
            Promise::CleanGoodbye => story.connections.iter().any(|connection| !connection.fatals.is_empty()),
            Promise::NoLateSession => {
                let signal = story.signal();
                signal.is_some_and(|signal| {
                    story.connections.iter().any(|connection| connection.connecting.at >= signal.at)
                })
            }
            Promise::CancelWorks => story.requests.iter().any(|request| !request.cancels.is_empty()),
            Promise::OneRecordEach => !story.records.is_empty(),
            Promise::SameSeedSameRun => true,
            // Of one pod nothing is asked that takes several.
            Promise::RolloutLosesNothing | Promise::RolloutEnds | Promise::ReconnectsArePaced => false,
        };
        Occasions(Promise::ALL.into_iter().filter(at_stake).map(|promise| (promise, 1)).collect())
    }

    /// Of all pods of a deployment together.
    pub fn of_deployment() -> Occasions {
        Occasions(
            Promise::ALL.into_iter().filter(|promise| promise.is_of_deployment()).map(|promise| (promise, 1)).collect(),
        )
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Occasions) {
        for (promise, runs) in &other.0 {
            *self.0.entry(*promise).or_default() += runs;
        }
    }

    /// In how many runs.
    pub fn of_promise(&self, promise: Promise) -> u64 {
        self.0.get(&promise).copied().unwrap_or_default()
    }
}
