//! `expect.timeline`: what must be reached, in order.
//!
//! Each milestone is the first thing of its kind after the one before, within its time; so a timeline that can be met is met.
//! What happens in the same instant has the order of the log.

use super::super::{Judged, words};
use super::{Reason, Unmet, signal, unmet};
use crate::cast::history::Outcome;
use crate::scenario::model::{Does, Milestone, Reached, Span, When};
use crate::story::{Connection, Moment};

/// Judges a run by a timeline: the first milestone that was not reached is told.
pub(super) fn check(timeline: &[Milestone], run: &Judged) -> Option<Unmet> {
    let mut before: Option<(&Milestone, Moment)> = None;
    for milestone in timeline {
        match reach(milestone, before, run) {
            Ok(moment) => before = Some((milestone, moment)),
            Err(reason) => return Some(unmet("timeline".to_owned(), reason)),
        }
    }
    None
}

fn reach(milestone: &Milestone, before: Option<(&Milestone, Moment)>, run: &Judged) -> Result<Moment, Reason> {
    let all = moments(&milestone.what, run);
    let is_next = |moment: &&Moment| before.is_none_or(|(_, before)| before < **moment);
    let mut next = all.iter().filter(is_next).copied();
    let Some(first) = next.clone().next() else {
        return Err(missed(milestone, before, &all, run));
    };
    let (in_time, expected) = match milestone.when {
        None => return Ok(first),
        Some(When::By(Span(length))) => {
            let latest = signal(run)?.at + length + run.resolution;
            (next.find(|moment| moment.at <= latest), format!("by {}", words(length)))
        }
        Some(When::After(Span(length))) => {
            let earliest = signal(run)?.at + length;
            (next.find(|moment| moment.at + run.resolution >= earliest), format!("after {}", words(length)))
        }
    };
    in_time.ok_or_else(|| {
        let what = format!("\"{milestone}\" was reached {}, expected {expected}", run.when(first.at));
        (what, vec![first])
    })
}

/// It did not come any more, or not at all.
fn missed(milestone: &Milestone, before: Option<(&Milestone, Moment)>, all: &[Moment], run: &Judged) -> Reason {
    match (before, all.last()) {
        (Some((previous, at)), Some(last)) => {
            let what = format!(
                "\"{milestone}\" was reached {} for the last time, and \"{previous}\" only {}",
                run.when(last.at),
                run.when(at.at)
            );
            (what, vec![*last, at])
        }
        (Some((previous, at)), None) => {
            (format!("\"{milestone}\" was never reached; \"{previous}\" was {}", run.when(at.at)), vec![at])
        }
        (None, _) => (format!("\"{milestone}\" was never reached"), run.story.last.into_iter().collect()),
    }
}

/// All moments at which it was reached, in the log's order.
fn moments<'r>(what: &Reached, run: &'r Judged<'r>) -> Vec<Moment> {
    let (name, does) = match what {
        Reached::Signal => return run.story.signals.iter().map(|(moment, _)| *moment).collect(),
        Reached::Exit => return run.story.exit.iter().map(|(moment, _)| *moment).collect(),
        Reached::Killed => return run.story.killed.into_iter().collect(),
        Reached::Client { name, does } => (name, does),
    };
    let story = &run.story;
    let mine = story.connections.iter().filter(|connection| connection.conn.client == *name);
    let answers = |connection| story.requests_of(connection).flat_map(|request| &request.ends);
    let mut moments: Vec<Moment> = match does {
        Does::Connects => mine.map(|connection| connection.connecting).collect(),
        Does::Begins => mine.filter_map(|connection| connection.began).collect(),
        Does::Ends => mine.filter_map(Connection::ending).map(|(moment, _)| moment).collect(),
        Does::Answered => {
            let complete = mine.flat_map(answers).filter(|(_, outcome)| **outcome == Outcome::Complete);
            complete.map(|(moment, _)| *moment).collect()
        }
        Does::Refused => {
            let told = |connection: &'r Connection<'r>| {
                let errors = answers(connection).filter(|(_, outcome)| matches!(outcome, Outcome::Error(_)));
                let fatals = connection.fatals.iter().map(|fatal| fatal.moment);
                errors.map(|(moment, _)| *moment).chain(fatals).chain(connection.failed)
            };
            mine.flat_map(told).collect()
        }
    };
    moments.sort_unstable();
    moments
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::Log;
    use super::*;
    use crate::cast::history::RequestKind::Query;

    fn judge(log: &Log, timeline: &[&str]) -> Option<String> {
        let timeline: Vec<Milestone> = timeline.iter().map(|text| text.parse().unwrap()).collect();
        log.run(|run| check(&timeline, run)).map(|unmet| unmet.what)
    }

    /// a.1 is answered before and after the signal, a.2 is refused, then the pod exits.
    fn log() -> Log {
        let log = Log::default().session(1.0, "a.1").answered(2.0, 3.0, "a.1/1", Query).term(60.0);
        let log = log.answered(61.0, 62.0, "a.1/2", Query).session(70.0, "a.2").goodbye(75.0, "a.2");
        log.goodbye(80.0, "a.1").exit(90.0, 0)
    }

    #[test]
    fn milestones_are_reached_in_order_with_other_things_between() {
        assert_eq!(judge(&log(), &["a begins", "a answered", "signal", "a answered", "a refused", "exit"]), None);
        assert_eq!(judge(&log(), &["a connects", "a ends", "a ends", "exit by 30s"]), None);
        assert_eq!(judge(&log(), &["signal", "a ends after 20s"]), None);
    }

    #[test]
    fn a_milestone_that_comes_too_soon_is_not_reached() {
        assert_eq!(
            judge(&log(), &["a refused", "a answered"]).as_deref(),
            Some(
                "\"a answered\" was reached 2s after the signal for the last time, \
                 and \"a refused\" only 15s after the signal"
            )
        );
        assert_eq!(judge(&log(), &["exit", "exit"]).unwrap().matches("30s after").count(), 2);
    }

    #[test]
    fn a_milestone_has_its_time() {
        assert_eq!(
            judge(&log(), &["exit by 29s"]).as_deref(),
            Some("\"exit by 29s\" was reached 30s after the signal, expected by 29s")
        );
        assert!(judge(&log(), &["a ends after 21s"]).unwrap().contains("15s after the signal, expected after 21s"));
        assert_eq!(
            judge(&Log::default().exit(1.0, 0), &["exit by 1s"]).unwrap(),
            "can't be evaluated: no signal was sent"
        );
    }

    #[test]
    fn a_milestone_that_never_comes_says_so() {
        assert_eq!(
            judge(&log(), &["signal", "killed"]).as_deref(),
            Some("\"killed\" was never reached; \"signal\" was at the signal")
        );
        assert_eq!(judge(&log(), &["killed"]).as_deref(), Some("\"killed\" was never reached"));
    }
}
