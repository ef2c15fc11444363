//! `cancel-works`: every cancel request reached its statement.
//!
//! In every phase, to the process's exit: whoever holds the pod must be able to let go. Within [`REACHES`] of the cancel
//! request the statement must be over, by it or by itself. A request that no worker had begun has nothing to cancel; after
//! SIGKILL, SIGQUIT or the exit nobody serves the request.
//!
//! It must be able to arrive: the network is whole between the client, the pod and its worker, and the worker runs. And the
//! worker must be executing: as in PostgreSQL, one that waits for its client to send a row or to take one looks for a cancel
//! request only when it goes on.

use std::time::Duration;

use super::{Judged, Violation};
use crate::scenario::model::Promise;
use crate::story::{Moment, Request};

/// How long a cancel request may take to end its statement: three connections one after the other (client to the pod, the pod to
/// worker, and the answer's way back), with room for a slow network.
pub const REACHES: Duration = Duration::from_secs(1);

/// One violation for each cancel request without effect.
pub fn check(run: &Judged) -> Vec<Violation> {
    let requests = run.story.requests.iter();
    requests.flat_map(|request| request.cancels.iter().filter_map(|cancel| unheard(run, request, *cancel))).collect()
}

fn unheard(run: &Judged, request: &Request, cancel: Moment) -> Option<Violation> {
    let story = &run.story;
    let statement = story.statements_of(request).find(|statement| statement.began < cancel)?;
    let deadline = cancel.at + REACHES + run.slack();
    let conn = story.connection_of(request).conn;
    let away = story.outages.of_worker(cancel.at, deadline) || story.outages.of_client(conn, cancel.at, deadline);
    let far = run.is_far() || run.is_hasty();
    if away || far || statement.waits.iter().any(|wait| wait.lasts_within(cancel.at, deadline)) {
        return None;
    }
    let over = statement.end.is_some_and(|(end, _)| end.at <= deadline);
    let gone = story.gone().into_iter().chain(story.quit()).any(|gone| gone.at <= deadline);
    let stopped = story.last.is_some_and(|last| last.at <= deadline);
    if over || gone || stopped {
        return None;
    }
    let what = match statement.end {
        Some((end, _)) => {
            format!("{} was cancelled {}, but ran until {}", request.tag, run.when(cancel.at), run.when(end.at))
        }
        None => format!("{} was cancelled {}, but runs on", request.tag, run.when(cancel.at)),
    };
    let evidence = [Some(statement.began), Some(cancel), statement.end.map(|(end, _)| end)];
    Some(Violation::new(Promise::CancelWorks, what, evidence.into_iter().flatten()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Log;
    use super::*;
    use crate::cast::history::RequestKind::Query;
    use crate::cast::history::{Event, Fault, StatementEnd};
    use crate::scenario::Span;

    fn running() -> Log {
        Log::default().session(1.0, "a.1").begun(2.0, "a.1/1", Query).term(60.0)
    }

    #[test]
    fn a_cancel_ends_its_statement_within_a_second() {
        let cancelled = |at| running().cancel(70.0, "a.1/1").statement_ended(at, "a.1/1", StatementEnd::Cancelled);
        assert_eq!(cancelled(70.1).out_of_time(100.0).judge(check), [""; 0]);
        assert_eq!(
            cancelled(72.0).out_of_time(100.0).judge(check),
            ["a.1/1 was cancelled 10s after the signal, but ran until 12s after the signal"]
        );
    }

    #[test]
    fn a_cancel_that_nobody_hears_breaks_it() {
        let unheard = running().cancel(70.0, "a.1/1");
        assert_eq!(unheard.clone().out_of_time(100.0).judge(check).len(), 1);
        assert_eq!(unheard.clone().out_of_time(70.5).judge(check), [""; 0]);
        assert_eq!(unheard.clone().killed(70.5).out_of_time(100.0).judge(check), [""; 0]);
        assert_eq!(unheard.quit(70.5).exit(70.5, 131).out_of_time(100.0).judge(check), [""; 0]);
    }

    #[test]
    fn a_worker_that_waits_for_its_client_or_is_out_of_reach_hears_of_no_cancel() {
        let unheard = |event| running().event(69.0, event).cancel(70.0, "a.1/1").out_of_time(100.0).judge(check).len();
        assert_eq!(unheard(Event::WorkerWaits { worker_session: 1, for_input: false }), 0);
        assert_eq!(unheard(Event::Fault { what: Fault::WorkerHang }), 0);
        let partition = |one: &str, other: &str| Fault::Partition { between: [one, other].map(str::to_owned) };
        assert_eq!(unheard(Event::Fault { what: partition("clients", "pod") }), 0);
        assert_eq!(unheard(Event::Fault { what: partition("b", "pod") }), 1);
        let slow = |seconds| Fault::Latency {
            between: ["pod", "worker"].map(str::to_owned),
            latency: Span(Duration::from_secs(seconds)),
        };
        let late = |seconds| {
            let log = running().event(69.0, Event::Fault { what: slow(seconds) }).cancel(70.0, "a.1/1");
            log.out_of_time(200.0).judge(check).len()
        };
        assert_eq!((late(5), late(1)), (0, 1), "a cancel request that takes longer than 10 s is given up");
    }

    #[test]
    fn a_statement_that_ended_by_itself_or_never_began_needs_no_cancel() {
        let ended = running().complete(69.9, "a.1/1").cancel(70.0, "a.1/1").out_of_time(100.0);
        assert_eq!(ended.judge(check), [""; 0]);
        let queued =
            Log::default().session(1.0, "a.1").sent(2.0, "a.1/1", Query).cancel(3.0, "a.1/1").out_of_time(100.0);
        assert_eq!(queued.judge(check), [""; 0]);
    }
}
