//! What a client's steps can come to at most: an expectation beyond it can't be met.

use super::model::*;

/// What a list of steps can come to at most; `None` if that has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    /// Steps done.
    pub(super) steps: Option<u64>,
    /// Requests sent.
    pub(super) requests: Option<u64>,
    /// Rows inserted.
    pub(super) rows: Option<u64>,
}

impl Most {
    const NOTHING: Most = Most { steps: Some(0), requests: Some(0), rows: Some(0) };

    const ONE_STEP: Most = Most { steps: Some(1), ..Most::NOTHING };

    /// Of these steps together.
    pub(super) fn of(steps: &[Step]) -> Most {
        steps.iter().map(Most::of_step).fold(Most::NOTHING, |a, b| a.with(b, |a, b| Some(a?.saturating_add(b?))))
    }

    fn of_step(step: &Step) -> Most {
        let request = |rows: u32| Most { steps: Some(1), requests: Some(1), rows: Some(rows.into()) };
        match step {
            Step::Insert(insert) => request(insert.insert),
            Step::Execute(execute) => request(execute.insert),
            Step::CopyIn(copy) if copy.fails || copy.stops_after.is_some() || copy.into != CopyTarget::Table => {
                request(0)
            }
            Step::CopyIn(copy) => request(copy.copy_in),
            Step::Query(_) | Step::CopyOut(_) | Step::Declare(_) | Step::Fetch(_) | Step::Listen | Step::Call(_) => {
                request(0)
            }
            Step::Begin | Step::Commit | Step::Rollback | Step::Prepare(_) | Step::Partial(_) => request(0),
            // A sync point may be counted as a request of its own; for the most, it is.
            Step::Flush | Step::Sync => request(0),
            Step::Pipeline(pipeline) => Most::of(&pipeline.pipeline).times(pipeline.repeat),
            Step::Repeat(repeat) => Most::of(&repeat.steps).times(repeat.repeat),
            Step::Connect(_)
            | Step::Replication(_)
            | Step::Garbage(_)
            | Step::Read(_)
            | Step::Think(_)
            | Step::Idle(_)
            | Step::WaitUntil(_) => Most::ONE_STEP,
            Step::Disconnect | Step::Close(_) | Step::Reset | Step::Vanish => Most::ONE_STEP,
        }
    }

    fn times(self, times: Times) -> Most {
        let times = match times {
            Times::Count(times) => Some(u64::from(times)),
            Times::Forever => None,
        };
        let all = Most { steps: times, requests: times, rows: times };
        // Nothing is nothing, however often.
        self.with(all, |each, times| if each == Some(0) { each } else { Some(each?.saturating_mul(times?)) })
    }

    fn with(self, other: Most, f: impl Fn(Option<u64>, Option<u64>) -> Option<u64>) -> Most {
        Most {
            steps: f(self.steps, other.steps),
            requests: f(self.requests, other.requests),
            rows: f(self.rows, other.rows),
        }
    }
}
