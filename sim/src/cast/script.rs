//! A client's steps one by one, repetitions unrolled.

use std::time::Duration;

use lastcall_core::Time;

use super::statement::{Action, CopyInto, Work};
use crate::scenario::model::{CopyIn, CopyTarget, Ping, PingAs, Protocol, Sends, Step, Times};

/// Rest after a round of a repetition in which no time passed. Without it, a round that does nothing would stop
/// simulated time for ever.
const ROUND_REST: Duration = Duration::from_millis(1);

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next<'a> {
    /// This step; never a repetition.
    Step(&'a Step),
    /// Wait until then.
    Rest(Time),
}

/// Where a client is in its steps.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    /// The innermost repetition last. As deep as the file nests them.
    open: Vec<Round<'a>>,
}

#[derive(Debug)]
struct Round<'a> {
    steps: &'a [Step],
    at: usize,
    /// Rounds to come, this one included.
    left: Times,
    began: Time,
}

impl<'a> Script<'a> {
    /// The beginning of `steps`.
    pub(crate) fn new(steps: &'a [Step], now: Time) -> Self {
        Script { open: vec![Round { steps, at: 0, left: Times::Count(1), began: now }] }
    }

    /// The next step; none at the end.
    pub(crate) fn next(&mut self, now: Time) -> Option<Next<'a>> {
        loop {
            let round = self.open.last_mut()?;
            match round.steps.get(round.at) {
                Some(Step::Repeat(repeat)) => {
                    round.at += 1;
                    if repeat.repeat != Times::Count(0) {
                        self.open.push(Round { steps: &repeat.steps, at: 0, left: repeat.repeat, began: now });
                    }
                }
                Some(step) => {
                    round.at += 1;
                    return Some(Next::Step(step));
                }
                None => {
                    if let Times::Count(left) = &mut round.left {
                        *left -= 1;
                        if *left == 0 {
                            self.open.pop();
                            continue;
                        }
                    }
                    round.at = 0;
                    let took_no_time = round.began == now;
                    round.began = now;
                    if took_no_time {
                        round.began = now + ROUND_REST;
                        return Some(Next::Rest(now + ROUND_REST));
                    }
                }
            }
        }
    }
}

/// A request with a sync point of its own, answered with ReadyForQuery.
#[derive(Debug)]
pub(crate) struct Request {
    /// What its statement does.
    pub(crate) action: Action,
    /// How it is sent.
    pub(crate) protocol: Protocol,
    /// How long after it a cancel request is sent.
    pub(crate) cancel_after: Option<Duration>,
    /// Whether the next step begins behind its answer.
    pub(crate) waits: bool,
}

/// The request of a step that is one; none if it is no such step.
pub(crate) fn request(step: &Step) -> Option<Request> {
    let (mut protocol, mut cancel_after) = (Protocol::Simple, None);
    let action = match step {
        Step::Begin => Action::Begin,
        Step::Commit => Action::Commit,
        Step::Rollback => Action::Rollback,
        Step::Query(query) => {
            (protocol, cancel_after) = (query.protocol, query.cancel_after);
            Action::Work(Work {
                takes: query.query.0,
                inserts: None,
                rows: query.rows,
                row_bytes: query.row_bytes,
                fails: query.fails.as_ref().map(|code| code.0.clone()),
            })
        }
        Step::Ping(Ping { ping }) => {
            protocol = match ping {
                PingAs::Simple => Protocol::Simple,
                PingAs::Extended => Protocol::Extended,
                PingAs::Batch => return None,
            };
            Action::Nothing
        }
        Step::Insert(insert) => Action::Work(select(insert.takes.0, 0, Some(insert.insert))),
        Step::CopyOut(copy) => {
            cancel_after = copy.cancel_after;
            Action::CopyOut(Work { row_bytes: copy.row_bytes, ..select(copy.takes.0, copy.copy_out, None) })
        }
        Step::Declare(declare) => Action::Declare {
            cursor: declare.declare.clone(),
            work: Work { row_bytes: declare.row_bytes, ..select(declare.query.0, declare.rows, None) },
        },
        Step::Fetch(fetch) => Action::Fetch { cursor: fetch.fetch.clone(), rows: fetch.rows },
        Step::Listen => Action::Listen,
        Step::Call(call) => one_row(call.call.0),
        _ => return None,
    };
    let waits = matches!(step.sends(), Sends::Request { waits: true, .. });
    Some(Request { action, protocol, cancel_after: cancel_after.map(|after| after.0), waits })
}

/// A statement that is executed as a part of a batch.
#[derive(Debug)]
pub(crate) struct Batched {
    /// What it does.
    pub(crate) action: Action,
    /// After so many rows its portal is suspended; 0: never.
    pub(crate) max_rows: u32,
    /// How long after it a cancel request is sent.
    pub(crate) cancel_after: Option<Duration>,
}

/// The Execute of a step that sends one in a batch; none if it is no such step.
pub(crate) fn batched(step: &Step) -> Option<Batched> {
    Some(match step {
        Step::Execute(execute) => {
            let inserts = (execute.insert > 0).then_some(execute.insert);
            let rows = execute.rows.unwrap_or(if inserts.is_some() { 0 } else { 1 });
            let action = Action::Work(select(execute.execute.0, rows, inserts));
            Batched { action, max_rows: execute.max_rows, cancel_after: execute.cancel_after.map(|after| after.0) }
        }
        Step::Ping(Ping { ping: PingAs::Batch }) => {
            Batched { action: Action::Nothing, max_rows: 0, cancel_after: None }
        }
        _ => return None,
    })
}

/// What the statement of a `copy_in` step does.
pub(crate) fn copy_in(step: &CopyIn) -> Action {
    Action::CopyIn(match (step.into, step.trigger) {
        (CopyTarget::Table, None) => CopyInto::Table,
        (CopyTarget::Table, Some(works)) => CopyInto::Triggered(works.0),
        (CopyTarget::View, _) => CopyInto::View,
        (CopyTarget::Missing, _) => CopyInto::Missing,
    })
}

/// A SELECT of one narrow row: what `prepare` and `partial` steps ask for.
pub(crate) fn one_row(takes: Duration) -> Action {
    Action::Work(select(takes, 1, None))
}

/// Bytes of a row where a step can't say.
const DEFAULT_ROW_BYTES: u32 = 16;

fn select(takes: Duration, rows: u32, inserts: Option<u32>) -> Work {
    Work { takes, inserts, rows, row_bytes: DEFAULT_ROW_BYTES, fails: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::model::Repeat;

    fn steps_of(steps: &[Step], mut now: Time, per_step: Duration, most: usize) -> String {
        let mut script = Script::new(steps, now);
        let mut done = String::new();
        while let Some(next) = script.next(now) {
            done.push(match next {
                Next::Step(Step::Begin) => 'b',
                Next::Step(Step::Commit) => 'c',
                Next::Step(_) => '?',
                Next::Rest(until) => {
                    assert!(until > now, "a rest takes time");
                    now = until;
                    '.'
                }
            });
            now = now + per_step;
            if done.len() >= most {
                break;
            }
        }
        done
    }

    fn repeat(repeat: Times, steps: Vec<Step>) -> Step {
        Step::Repeat(Repeat { repeat, steps })
    }

    #[test]
    fn repetitions_are_unrolled_inside_out() {
        let inner = repeat(Times::Count(2), vec![Step::Begin]);
        let steps = [repeat(Times::Count(2), vec![inner, Step::Commit]), Step::Begin];
        let per_step = Duration::from_millis(5);
        assert_eq!(steps_of(&steps, Time::EPOCH, per_step, 100), "bbcbbcb");
    }

    #[test]
    fn a_round_without_time_is_followed_by_a_rest() {
        let forever = [repeat(Times::Forever, vec![Step::Begin])];
        assert_eq!(steps_of(&forever, Time::EPOCH, Duration::ZERO, 6), "b.b.b.");
        let nothing = [repeat(Times::Forever, vec![]), Step::Begin];
        assert_eq!(steps_of(&nothing, Time::EPOCH, Duration::ZERO, 3), "...");
        let never = [repeat(Times::Count(0), vec![Step::Begin]), Step::Commit];
        assert_eq!(steps_of(&never, Time::EPOCH, Duration::ZERO, 9), "c");
    }
}
