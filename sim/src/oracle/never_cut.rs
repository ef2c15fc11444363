//! `never-cut`: no statement that a worker began was ended by `cp` before its answer was complete.
//!
//! A begun statement must end for its client with a complete answer, with the statement's own error, or with 57014 after its
//! client's own cancel request. Anything else is a cut: a FATAL, an answer of another's making, or silence. It does not
//! matter whether the worker had finished: an answer that never arrived is a cut too, and so is one that a FATAL overtook.
//!
//! Excused is what `cp` did not decide or was told to do: the client left first; the worker crashed; SIGKILL or SIGQUIT came first (a pod that
//! lives until its SIGKILL is `bounded-exit`'s); a wall that is set was reached. `flat`'s cap is not such a wall. A
//! statement that still runs when the run is stopped was not cut.
//!
//! Before the signal the promise holds as well.

use super::story::{Moment, Request};
use super::{Judged, Violation, words};
use crate::history::{Outcome, StatementEnd};
use crate::scenario::model::Promise;

/// One violation for each statement that was cut.
pub fn check(run: &Judged) -> Vec<Violation> {
    run.story.requests.iter().filter_map(|request| cut(run, request)).collect()
}

/// The violation, if this request's statement was cut.
fn cut(run: &Judged, request: &Request) -> Option<Violation> {
    let story = &run.story;
    let statement = story.statements_of(request).next()?;
    let connection = story.connection_of(request);
    let (ended, saw) = match request.end() {
        Some((_, Outcome::Complete)) => return None,
        Some((ended, Outcome::Error(code))) => match story.refused_by_fatal(request) {
            Some(_) => (ended, format!("its client read FATAL {code}")),
            None if failed_by_itself(run, request, code) || cancelled(request, ended, code) => return None,
            None => (ended, format!("its client read ERROR {code}, which is not the statement's own")),
        },
        Some((ended, Outcome::Lost)) => (ended, "its client never got an answer".to_owned()),
        None => {
            let over = connection.ending().map(|(moment, _)| moment).or(story.exit.map(|(moment, _)| moment))?;
            (over, "its client never got an answer".to_owned())
        }
    };
    if story.crashed(statement)
        || story.shot_before(ended)
        || connection.left_before(ended)
        || run.at_wall(ended)
        || stalled(run, request, ended)
    {
        return None;
    }
    let what = format!(
        "{} was cut {}, when it had run for {}: {saw}",
        request.tag,
        run.when(ended.at),
        words(ended.at - statement.began.at)
    );
    let worker = statement.end.map(|(moment, _)| moment);
    let fatal = connection.fatals.first().map(|fatal| fatal.moment);
    let evidence = [Some(request.sent), Some(statement.began), worker, fatal, Some(ended)];
    Some(Violation::new(Promise::NeverCut, what, evidence.into_iter().flatten()))
}

/// Whether the error is the one that the statement failed with at its worker.
fn failed_by_itself(run: &Judged, request: &Request, code: &str) -> bool {
    run.story
        .statements_of(request)
        .any(|statement| matches!(statement.end, Some((_, StatementEnd::Failed(own))) if own == code))
}

/// Whether the error is what the client's own cancel request asked for.
fn cancelled(request: &Request, ended: Moment, code: &str) -> bool {
    code == "57014" && request.cancels.iter().any(|cancel| *cancel < ended)
}

/// Whether the client let `stall_grace` pass while a drain ran: the worker waited for it all that time, to send the data of
/// a COPY or to take output; or it did not read, and what the worker had finished was still on its way.
fn stalled(run: &Judged, request: &Request, ended: Moment) -> bool {
    let Some(signal) = run.story.signal() else {
        return false;
    };
    let long_ago = |since: Moment| since.at.max(signal.at) + run.settings.stall_grace <= ended.at + run.slack();
    let waited = run.story.statements_of(request).any(|statement| {
        let moved = statement.last_moved(ended);
        statement.waits.iter().any(|(began, _)| *began == moved) && long_ago(moved)
    });
    waited || run.story.connection_of(request).deaf_at(ended).is_some_and(long_ago)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cp::core::DrainPolicy;

    use super::super::fixture::{Log, conn, error};
    use super::*;
    use crate::history::Event;
    use crate::history::RequestKind::Query;

    /// A query that began before the signal and that FATAL 57P01 ended 15 minutes after it.
    fn cut_at_the_cap() -> Log {
        running().statement_ended(960.0, "etl.1/1", StatementEnd::Aborted).fatal(960.0, "etl.1", "57P01", None).ended(
            960.0,
            "etl.1/1",
            error("57P01"),
        )
    }

    fn running() -> Log {
        Log::default().session(1.0, "etl.1").begun(5.0, "etl.1/1", Query).term(60.0)
    }

    #[test]
    fn a_statement_that_is_answered_after_the_signal_was_not_cut() {
        assert_eq!(running().complete(10_000.0, "etl.1/1").goodbye(10_000.0, "etl.1").judge(check), [""; 0]);
    }

    #[test]
    fn a_statement_that_a_fatal_ended_was_cut_and_the_evidence_shows_it() {
        assert_eq!(
            cut_at_the_cap().judge(check),
            ["etl.1/1 was cut 15m after the signal, when it had run for 15m 55s: its client read FATAL 57P01"]
        );
        assert_eq!(cut_at_the_cap().run(|run| check(run)[0].evidence.clone()), [4, 5, 7, 8, 9]);
    }

    #[test]
    fn a_wall_excuses_a_cut_from_its_time_on_and_the_flat_cap_never() {
        let wall = |secs| {
            move |settings: &mut cp::core::Settings| {
                settings.handover_drain_timeout = Duration::from_secs(secs);
            }
        };
        assert_eq!(cut_at_the_cap().with(wall(900)).judge(check), [""; 0]);
        assert_eq!(cut_at_the_cap().with(wall(901)).judge(check).len(), 1);
        let flat = cut_at_the_cap().with(wall(900)).with(|settings| settings.drain_policy = DrainPolicy::Flat);
        assert_eq!(flat.judge(check).len(), 1);
    }

    #[test]
    fn a_statement_that_ended_without_an_answer_was_cut() {
        let aborted = running().statement_ended(70.0, "etl.1/1", StatementEnd::Aborted);
        assert_eq!(aborted.clone().reset(70.0, "etl.1").ended(70.0, "etl.1/1", Outcome::Lost).judge(check).len(), 1);
        assert_eq!(aborted.clone().eof(70.0, "etl.1").judge(check).len(), 1);
        assert_eq!(aborted.exit(70.0, 0).judge(check).len(), 1);
    }

    #[test]
    fn a_fatal_that_overtook_the_answer_of_a_finished_statement_cut_it() {
        let finished = running().statement_ended(70.0, "etl.1/1", StatementEnd::Complete);
        let overtaken = finished.fatal(70.0, "etl.1", "57P01", None).ended(70.0, "etl.1/1", error("57P01"));
        assert_eq!(overtaken.judge(check).len(), 1);
    }

    #[test]
    fn a_statement_that_still_runs_when_the_run_is_stopped_was_not_cut() {
        assert_eq!(running().out_of_time(100_000.0).judge(check), [""; 0]);
    }

    #[test]
    fn a_statement_may_fail_by_itself_but_not_with_an_error_of_another() {
        assert_eq!(running().failed(70.0, "etl.1/1", "22012").judge(check), [""; 0]);
        let own = StatementEnd::Failed("22012".to_owned());
        let other = running().statement_ended(70.0, "etl.1/1", own).ended(70.0, "etl.1/1", error("58000"));
        assert_eq!(other.judge(check).len(), 1);
    }

    #[test]
    fn a_cancel_is_an_excuse_for_its_own_statement_only() {
        let end = |log: Log| {
            log.statement_ended(70.0, "etl.1/1", StatementEnd::Cancelled).ended(70.0, "etl.1/1", error("57014"))
        };
        assert_eq!(end(running().cancel(69.9, "etl.1/1")).judge(check), [""; 0]);
        let of_another = Log::default().session(1.0, "bi.1").sent(1.0, "bi.1/1", Query).session(1.0, "etl.1");
        let of_another = of_another.begun(5.0, "etl.1/1", Query).cancel(69.9, "bi.1/1");
        assert_eq!(end(of_another).judge(check).len(), 1);
    }

    #[test]
    fn a_client_for_whom_the_worker_waited_through_stall_grace_cut_itself() {
        let waits = |at: f64| running().event(at, Event::WorkerWaits { worker_session: 1 });
        let closed = |log: Log, at: f64| {
            let log = log.statement_ended(at, "etl.1/1", StatementEnd::Aborted).fatal(at, "etl.1", "57P01", None);
            log.ended(at, "etl.1/1", error("57P01")).judge(check).len()
        };
        assert_eq!(closed(waits(100.0), 400.0), 0);
        assert_eq!(closed(waits(100.0), 399.0), 1);
        let moved = waits(100.0).event(300.0, Event::WorkerGoesOn { worker_session: 1 });
        assert_eq!(closed(moved.clone(), 400.0), 1);
        assert_eq!(closed(moved.event(300.0, Event::WorkerWaits { worker_session: 1 }), 600.0), 0);
    }

    #[test]
    fn before_the_signal_no_stall_is_too_long() {
        let log = Log::default().session(1.0, "etl.1").begun(5.0, "etl.1/1", Query);
        let log = log.event(6.0, Event::WorkerWaits { worker_session: 1 }).term(1000.0);
        let closed = |at: f64| {
            let log = log.clone().statement_ended(at, "etl.1/1", StatementEnd::Aborted);
            log.fatal(at, "etl.1", "57P01", None).ended(at, "etl.1/1", error("57P01")).judge(check).len()
        };
        assert_eq!(closed(1100.0), 1);
        assert_eq!(closed(1300.0), 0);
    }

    #[test]
    fn a_reader_that_stopped_for_stall_grace_gave_its_answer_up() {
        let stopped = running().event(70.0, Event::ReadingStopped { conn: conn("etl.1") });
        let finished = stopped.statement_ended(71.0, "etl.1/1", StatementEnd::Complete);
        let closed =
            |at: f64| finished.clone().reset(at, "etl.1").ended(at, "etl.1/1", Outcome::Lost).judge(check).len();
        assert_eq!(closed(370.0), 0);
        assert_eq!(closed(369.0), 1);
    }

    #[test]
    fn nothing_is_cut_under_a_client_that_left_or_in_a_pod_that_was_shot() {
        let lost = |log: Log| log.eof(70.0, "etl.1").ended(70.0, "etl.1/1", Outcome::Lost);
        assert_eq!(lost(running().left(70.0, "etl.1", "close")).judge(check), [""; 0]);
        assert_eq!(lost(running().killed(70.0)).judge(check), [""; 0]);
        assert_eq!(lost(running().quit(70.0)).judge(check), [""; 0]);
        assert_eq!(lost(running()).killed(70.0).judge(check).len(), 1);
    }
}
