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
        match (step, step.sends()) {
            (Step::Pipeline(pipeline), _) => Most::of(&pipeline.pipeline).times(pipeline.repeat),
            (Step::Repeat(repeat), _) => Most::of(&repeat.steps).times(repeat.repeat),
            // A sync point may be counted as a request of its own; for the most, it is.
            (_, Sends::Request { inserts, .. } | Sends::Batch { inserts }) => {
                Most { requests: Some(1), rows: Some(inserts.into()), ..Most::ONE_STEP }
            }
            (_, Sends::Other) => Most::ONE_STEP,
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
