//! `never-cut`: no statement that a worker began was ended before its answer was complete and acknowledged: by the pod, by the
//! process's exit, or by the kubelet's SIGKILL.
//!
//! A begun statement must end for its client's machine with a complete answer, with the statement's own error, or with 57014
//! after a cancel request of its session. Anything else is a cut: a FATAL, an answer of another's making, or silence. It does
//! not matter whether the worker had finished: an answer that never arrived is a cut too, and so is one that a FATAL
//! overtook. Of a client that does not read, what its machine had at the end of the run is what arrived.
//!
//! A cancel request ends what its session runs when it arrives, which need not be the request that it was meant for; each
//! ends one statement at most.
//!
//! An open transaction is running work as well, as long as its clocks are: whoever has all answers in it and is told to go
//! before `transaction_grace` or `transaction_budget` is over, or for being idle, was cut.
//!
//! Excused is what the pod did not decide or was told to do:
//!
//! - the client left first; it half-closed, let `stall_grace` pass while a drain ran, or was out of reach for so long that its
//!   machine counts as gone;
//! - the worker crashed, ended its session with a FATAL of its own, talked nonsense and its client read 08P01, or was out of
//!   reach and its client read 08006;
//! - a wall that is set was reached, in a drain that was taken back later too; `flat`'s cap is not such a wall;
//! - SIGQUIT; or SIGKILL, if the file says that this client is killed, the worker could say nothing then, or the process stood
//!   still when it was told to go and knew too late.
//!
//! A statement that still runs when the run is stopped was not cut. Before the signal the promise holds as well.

use std::time::Duration;

use super::{Judged, Violation, words};
use crate::cast::history::{Outcome, RequestKind, StatementEnd};
use crate::scenario::model::Promise;
use crate::story::{Batch, Connection, GIVEN_UP, Moment, Request, Statement};

/// What the client reads when its worker is lost or out of reach.
const WORKER_LOST: &str = "08006";

/// What the client reads when its worker has talked nonsense.
const WORKER_MALFORMED: &str = "08P01";

/// How a drain, and how `idle_timeout`, ends a session.
const CLOSED: [&str; 2] = ["57P01", "57P05"];

/// What a cancelled statement fails with.
const CANCELLED: &str = "57014";

/// One violation for each statement that was cut, and for each transaction.
pub fn check(run: &Judged) -> Vec<Violation> {
    let statements = run.story.requests.iter().filter_map(|request| cut(run, request));
    let transactions = run.story.connections.iter().filter_map(|connection| cut_transaction(run, connection));
    statements.chain(transactions).collect()
}

/// The violation, if a FATAL ended a transaction of this connection's whose client had all of its answers and whose clocks were
/// not over.
fn cut_transaction(run: &Judged, connection: &Connection) -> Option<Violation> {
    let story = &run.story;
    let fatal = connection.fatals.first().filter(|fatal| CLOSED.contains(&fatal.code))?;
    let end = fatal.moment;
    // What a batch or a stream is in, and what is seen late, has other clocks; a network or a worker that fails has its own rules.
    let by_batch = |request: &Request| matches!(request.kind, RequestKind::Execute | RequestKind::ExecuteInsert);
    let plain = connection.fed.is_empty() && connection.replicates.is_none() && !connection.reads_late();
    let by_itself = connection.half_closed.is_none() && connection.garbage.is_none() && connection.left.is_none();
    // What was answered just now may not be acknowledged yet.
    let excused =
        story.faulty() || run.is_impatient() || story.quit().is_some() || run.at_wall(end) || !plain || !by_itself;
    if excused || story.dismissed(connection, connection.connecting.at, end.at) {
        return None;
    }
    let drain = story.drains.iter().rfind(|drain| drain.began < end).map(|drain| drain.began);
    let (mut open, mut answered, mut paused) = (None, None, Duration::ZERO);
    for request in story.requests_of(connection) {
        if let (Some(_), Some(answered), Some(drain)) = (open, answered, drain) {
            paused += pause(drain, answered, request.sent);
        }
        let (moment, outcome) = request.end().filter(|(moment, _)| *moment < end)?;
        answered = Some(moment);
        match request.kind {
            RequestKind::Begin if *outcome == Outcome::Complete => open = Some(request.sent),
            // The pauses of a batch count as well.
            _ if by_batch(request) => return None,
            RequestKind::Commit | RequestKind::Rollback => open = None,
            _ => {}
        }
    }
    let (open, answered) = open.zip(answered)?;
    // Before a drain nothing ends it.
    let over = drain.is_some_and(|drain| {
        let last = pause(drain, answered, end) + run.slack();
        let budget = run.settings.transaction_budget;
        let slacks = run.slack() * u32::try_from(connection.requests.len()).unwrap_or(u32::MAX);
        last >= run.settings.transaction_grace || !budget.is_zero() && paused + last + slacks >= budget
    });
    (!over).then(|| {
        let what = format!(
            "the transaction of {} was cut {}: its client had paused for {} and read FATAL {}",
            connection.conn,
            run.when(end.at),
            words(end.at - answered.at),
            fatal.code
        );
        Violation::new(Promise::NeverCut, what, [open, answered, end])
    })
}

/// How long a client paused in a drain.
fn pause(drain: Moment, answered: Moment, next: Moment) -> Duration {
    next.at.since(answered.at.max(drain.at))
}

/// The violation, if this request's statement was cut.
fn cut(run: &Judged, request: &Request) -> Option<Violation> {
    let story = &run.story;
    let statement = story.statements_of(request).next()?;
    let connection = story.connection_of(request);
    let (ended, saw, code) = match request.delivered() {
        Some((_, Outcome::Complete)) => return None,
        Some((ended, Outcome::Error(code))) => match story.refused_by_fatal(request) {
            // Its own end is told with its batch's, which the FATAL came before.
            Some(_) if cancelled(run, request, ended, CANCELLED) && is_cancelled(statement) => return None,
            Some(_) => (ended, format!("its client read FATAL {code}"), Some(code.as_str())),
            None if failed_by_itself(run, request, code) || cancelled(run, request, ended, code) => return None,
            None => (ended, format!("its client read ERROR {code}, which is not the statement's own"), None),
        },
        Some((ended, Outcome::Lost)) => (ended, "its client never got an answer".to_owned(), None),
        None => {
            let over = connection.ending().map(|(moment, _)| moment).or(story.gone())?;
            (over, "its client never got an answer".to_owned(), None)
        }
    };
    if excused(run, connection, statement, ended, code)
        || half_closed(run, request, ended)
        || owes_its_sync(run, request, statement)
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
    let killed = story.killed.filter(|killed| *killed <= ended);
    let evidence = [Some(request.sent), Some(statement.began), worker, killed, fatal, Some(ended)];
    Some(Violation::new(Promise::NeverCut, what, evidence.into_iter().flatten()))
}

/// Whether the statement, whose end its client saw at `ended` with this code of a FATAL, was ended by others or as the pod was
/// told.
fn excused(run: &Judged, connection: &Connection, statement: &Statement, ended: Moment, fatal: Option<&str>) -> bool {
    let story = &run.story;
    let over = statement.end.map_or(ended, |(end, _)| end.min(ended));
    // A process that stood still when the signal came has its wall too late.
    let late = |killed: Moment| {
        let known = run.settings.termination_grace.filter(|grace| *grace <= run.termination_grace);
        let told = story.signals.first().map(|(signal, _)| signal.at);
        let kubelets = told.zip(known).is_some_and(|(told, grace)| told + grace <= killed.at);
        kubelets && story.certain_wall().is_some_and(|wall| wall > killed.at)
    };
    let condemning = run.killed.contains(connection.conn.client.as_str());
    // At its end, or when it was closed.
    let closed = story.worker_let_go(connection).filter(|closed| *closed < ended);
    let is_deaf = [Some(ended), closed].into_iter().flatten().any(|moment| connection.deaf_at(moment).is_some());
    // Nobody looked into its machine.
    let unknown = connection.unread.is_none() && is_deaf && connection.ending().is_none();
    story.crashed(statement)
        || story.quit().is_some_and(|quit| quit < ended)
        || story.killed.is_some_and(|killed| killed <= ended && story.outages.of_worker(killed.at, killed.at))
        || story.killed.is_some_and(|killed| killed <= ended && late(killed))
        || condemning && story.killed.is_some_and(|killed| killed <= ended)
        || connection.left_before(ended)
        || story.drew_a_reset(connection)
        || (run.at_wall(ended) || run.at_wall(over)) && !closed_over(run, connection, statement, fatal)
        || connection.garbage.is_some() && is_deaf
        || (is_deaf || fatal.or(connection.unread.flatten()) == Some(WORKER_MALFORMED))
            && story.garbled(connection, statement.began.at, ended.at)
        || (connection.garbage.is_some() || is_deaf || fatal.is_none_or(|fatal| fatal == WORKER_LOST))
            && story.outages.worker_lost(statement.began.at, ended.at)
        || [Some(over), Some(ended), story.worker_let_go(connection)]
            .iter()
            .flatten()
            .any(|end| story.outages.client_away_for(connection.conn, end.at) + run.slack() >= GIVEN_UP)
        || unknown && story.killed.is_none()
        || (fatal.is_some() || connection.unread.flatten().is_some() || is_deaf)
            && story.dismissed(connection, statement.began.at, ended.at)
}

/// Whether the wall ended a session with a FATAL although its statement had obeyed the cancel in time: the statement's own error
/// comes first. Told only of a whole network and a client that reads.
fn closed_over(run: &Judged, connection: &Connection, statement: &Statement, fatal: Option<&str>) -> bool {
    let Some((end, StatementEnd::Cancelled)) = statement.end else { return false };
    let patience = run.settings.wall_patience();
    let walls = || run.story.drains.iter().flat_map(|drain| drain.walls());
    let in_time = walls().any(|wall| statement.began.at + run.slack() < wall && end.at + run.slack() < wall + patience);
    let of_it = statement.request.map(|request| &run.story.requests[request]);
    let plain = of_it.is_some_and(|request| request.kind == RequestKind::Query && request.cancels.is_empty());
    let stays = connection.half_closed.is_none() && connection.left.is_none() && connection.garbage.is_none();
    let told = fatal.is_some_and(|code| CLOSED.contains(&code));
    told && in_time && plain && stays && statement.waits.is_empty() && !run.story.faulty() && !connection.reads_late()
}

/// Whether the client had closed its side, so that the worker, whom the end is passed on to, threw an answer away that it held
/// back for the Sync; or `stall_grace` has passed since in a drain.
fn half_closed(run: &Judged, request: &Request, ended: Moment) -> bool {
    let closed = run.story.connection_of(request).half_closed.filter(|closed| *closed < ended);
    let in_batch = matches!(request.kind, RequestKind::Execute | RequestKind::ExecuteInsert);
    closed.is_some_and(|closed| {
        let mut drains = run.story.drains.iter().filter(|drain| drain.began < ended);
        in_batch
            || drains.any(|drain| drain.began.at.max(closed.at) + run.settings.stall_grace <= ended.at + run.slack())
    })
}

/// Whether a COPY was over, and its worker waited for the end of its batch: what ends that is no cut of the statement.
fn owes_its_sync(run: &Judged, request: &Request, statement: &Statement) -> bool {
    let over = matches!(statement.end, Some((_, StatementEnd::Complete | StatementEnd::Failed(_))));
    let copied = request.kind == RequestKind::Insert && over;
    // Without its Sync it ends with its session.
    let session = run.story.worker_sessions.get(&statement.worker_session);
    let open = |batch: &&Batch| batch.ended.is_none() || batch.ended == session.and_then(|session| session.ended);
    let its = |batch: &&Batch| batch.worker_session == statement.worker_session && batch.began <= statement.began;
    let waits = || run.story.batches.iter().rfind(its).as_ref().is_some_and(open);
    copied && waits()
}

/// Whether the error is the one that the statement failed with at its worker.
fn failed_by_itself(run: &Judged, request: &Request, code: &str) -> bool {
    run.story
        .statements_of(request)
        .any(|statement| matches!(statement.end, Some((_, StatementEnd::Failed(own))) if own == code))
}

fn is_cancelled(statement: &Statement) -> bool {
    matches!(statement.end, Some((_, StatementEnd::Cancelled)))
}

/// Whether the error is what a cancel request of its session asked for: there was one for each statement that ended so.
fn cancelled(run: &Judged, request: &Request, ended: Moment, code: &str) -> bool {
    let of_session = || run.story.requests_of(run.story.connection_of(request));
    let asked = of_session().flat_map(|other| &other.cancels).filter(|cancel| **cancel < ended).count();
    let statements = of_session().flat_map(|other| run.story.statements_of(other));
    let over = statements
        .filter(|statement| matches!(statement.end, Some((moment, StatementEnd::Cancelled)) if moment < ended));
    code == CANCELLED && asked > 0 && over.count() <= asked
}

/// Whether the client let `stall_grace` pass while a drain ran: the worker waited for it all that time, to send the data of
/// a COPY; or it did not read, or was out of reach, and bytes of its answer were still on their way. A client that reads is
/// not stalled, however slow, unless its machine tells of that too seldom.
fn stalled(run: &Judged, request: &Request, ended: Moment) -> bool {
    let story = &run.story;
    let connection = story.connection_of(request);
    let stall_grace = run.settings.stall_grace;
    story.drains.iter().filter(|drain| drain.began < ended).any(|drain| {
        let goes_on = drain.recalled.is_none_or(|recalled| ended.at <= recalled.at + run.slack());
        let long_ago = |since: Moment| since.at.max(drain.began.at) + stall_grace <= ended.at + run.slack();
        let kept_waiting = story.statements_of(request).any(|statement| {
            let end = statement.end.map_or(ended, |(end, _)| end.min(ended));
            waits_for_input_since(run, statement, end)
                .or(owes_rows_since(connection, statement, end))
                .is_some_and(long_ago)
        });
        let away = |end: Moment| {
            story.outages.client_unheard_for(connection.conn, end.at).min(end.at.since(drain.began.at)) + run.slack()
        };
        let was_away = story.worker_let_go(connection).into_iter().chain([ended]).any(|end| away(end) >= stall_grace);
        // Who reads again behind its end has been given up before: its worker knows when.
        let session = |statement: &Statement| story.worker_sessions.get(&statement.worker_session)?.ended;
        let given_up = story.statements_of(request).filter_map(session).filter(|moment| *moment < ended);
        let deaf = run.is_too_slow(connection)
            || given_up.chain([ended]).any(|end| {
                let since = connection.deaf_near(end, run.slack());
                since.is_some_and(|since| since.at.max(drain.began.at) + stall_grace <= end.at + run.slack())
            });
        goes_on && (kept_waiting || deaf || was_away)
    })
}

/// Since when a worker has waited for input at `end`, as far as anybody else can see: not that one that has hung, or is out of
/// reach, took the last of it; nor that one that asked for some works instead.
fn waits_for_input_since(run: &Judged, statement: &Statement, end: Moment) -> Option<Moment> {
    let is_hidden = |on: Moment| run.story.outages.of_worker(on.at, on.at + run.slack());
    let waits = statement.waits.iter().rev().filter(|wait| wait.began < end);
    let unseen =
        waits.take_while(|wait| wait.for_input && wait.went_on.is_none_or(|on| on.at >= end.at || is_hidden(on)));
    let in_vain = statement.asked_in_vain();
    match (unseen.last(), statement.waits.len()) {
        (Some(wait), 2) => in_vain.or(Some(wait.began)),
        (Some(wait), _) => Some(wait.began),
        (None, 1) => in_vain.filter(|asked| run.story.outages.of_worker(asked.at, end.at)),
        (None, _) => None,
    }
}

/// Since when a client owes rows of a COPY to a worker that asked for them and works instead: for whoever sees bytes alone it
/// waits for its client all the same.
fn owes_rows_since(connection: &Connection, statement: &Statement, end: Moment) -> Option<Moment> {
    let asked = statement.asked_in_vain()?;
    let sent = connection.copies_ended.iter().any(|sent| (statement.began..end).contains(sent));
    (!sent).then_some(asked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lastcall_core::DrainPolicy;

    use super::super::fixture::{Log, conn, error};
    use super::*;
    use crate::cast::history::RequestKind::Query;
    use crate::cast::history::{Event, Fault};

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
    fn a_statement_that_its_client_cancelled_is_not_cut_by_what_ends_its_batch() {
        let ended = |end| {
            let log = running().event(61.0, Event::CancelSent { conn: conn("etl.1"), tag: "etl.1/1".to_owned() });
            let log = log.statement_ended(62.0, "etl.1/1", end).fatal(80.0, "etl.1", "57P01", None);
            log.ended(80.0, "etl.1/1", error("57P01")).judge(check).len()
        };
        assert_eq!((ended(StatementEnd::Cancelled), ended(StatementEnd::Aborted)), (0, 1));
    }

    #[test]
    fn a_client_that_was_given_up_while_it_was_away_was_not_cut_whatever_it_sees_later() {
        let away = |given_up: f64| {
            let fault = |what| Event::Fault { what };
            let between = ["etl", "pod"].map(str::to_owned);
            let log = running().statement_ended(62.0, "etl.1/1", StatementEnd::Complete);
            let log = log.event(70.0, fault(Fault::Partition { between: between.clone() }));
            let log = log.event(given_up, Event::WorkerSessionEnded { worker_session: 1 });
            let log = log.event(180.0, fault(Fault::Heal { between }));
            log.reset(300.0, "etl.1").ended(300.0, "etl.1/1", Outcome::Lost).judge(check).len()
        };
        assert_eq!((away(160.5), away(120.0)), (0, 1));
    }

    #[test]
    fn an_open_transaction_is_running_work_until_its_clocks_are_over() {
        let ended = |last: RequestKind, at: f64, code: &str| {
            let log = Log::default().session(1.0, "etl.1").answered(2.0, 2.1, "etl.1/1", RequestKind::Begin);
            let log = log.answered(3.0, 3.1, "etl.1/2", last).term(60.0).fatal(at, "etl.1", code, None);
            log.eof(at, "etl.1").judge(check)
        };
        use RequestKind::{Commit, Insert};
        assert_eq!(
            ended(Insert, 90.0, "57P01"),
            [
                "the transaction of etl.1#1 was cut 30s after the signal: its client had paused for 1m 26s 900ms and read FATAL 57P01"
            ]
        );
        assert_eq!(ended(Insert, 90.0, "57P05").len(), 1);
        let hasty =
            Log::default().with(|settings| settings.stall_grace = Duration::from_millis(1)).session(1.0, "etl.1");
        let hasty = hasty.answered(2.0, 2.1, "etl.1/1", RequestKind::Begin).term(60.0);
        assert_eq!(hasty.fatal(90.0, "etl.1", "57P01", None).eof(90.0, "etl.1").judge(check), [""; 0]);
        assert_eq!(ended(Insert, 360.0, "57P01"), [""; 0]);
        assert_eq!(ended(Commit, 90.0, "57P01"), [""; 0]);
    }

    #[test]
    fn who_did_not_read_when_its_worker_talked_nonsense_or_went_was_not_cut_by_the_pod() {
        let lost = |what: Option<Fault>| {
            let deaf = running().event(61.0, Event::ReadingStopped { conn: conn("etl.1") });
            let log = deaf.statement_ended(62.0, "etl.1/1", StatementEnd::Complete);
            let log = what.into_iter().fold(log, |log, what| log.event(63.0, Event::Fault { what }));
            let log = log.event(63.1, Event::WorkerSessionEnded { worker_session: 1 });
            let log = log.event(90.0, Event::ReadingResumed { conn: conn("etl.1") });
            log.reset(100.0, "etl.1").ended(100.0, "etl.1/1", Outcome::Lost).judge(check).len()
        };
        let gone = Fault::Terminate { client: "etl".to_owned(), stays_open: false };
        assert_eq!([lost(Some(gone)), lost(Some(Fault::Garbage { client: "etl".to_owned() })), lost(None)], [0, 0, 1]);
    }

    #[test]
    fn who_was_away_for_a_stall_grace_when_it_was_closed_was_stalled_whatever_it_sees_later() {
        let lost = |from: f64| {
            let fault = |what| Event::Fault { what };
            let between = ["etl", "pod"].map(str::to_owned);
            let log = Log::default().with(|settings| settings.stall_grace = Duration::from_secs(10));
            let log = log.session(1.0, "etl.1").begun(5.0, "etl.1/1", Query).term(60.0);
            let log = log.event(from, fault(Fault::Partition { between: between.clone() }));
            let log = log.statement_ended(88.0, "etl.1/1", StatementEnd::Complete);
            let log = log.event(91.0, Event::WorkerSessionEnded { worker_session: 1 });
            let log = log.event(95.0, fault(Fault::Heal { between }));
            log.reset(190.0, "etl.1").ended(190.0, "etl.1/1", Outcome::Lost).judge(check).len()
        };
        assert_eq!((lost(80.0), lost(85.0)), (0, 1));
    }

    #[test]
    fn who_reads_again_just_when_its_clock_is_over_or_for_no_time_was_stalled() {
        let event = |log: Log, at: f64, reads: bool| {
            let conn = conn("etl.1");
            log.event(at, if reads { Event::ReadingResumed { conn } } else { Event::ReadingStopped { conn } })
        };
        let cut = |resumed: f64, stops: bool| {
            let log = event(running().statement_ended(60.0, "etl.1/1", StatementEnd::Complete), 61.0, false);
            let log = event(log, resumed, true);
            let log = if stops { event(log, resumed, false) } else { log };
            let log = log.event(361.0, Event::WorkerSessionEnded { worker_session: 1 });
            log.reset(450.0, "etl.1").ended(450.0, "etl.1/1", Outcome::Lost).judge(check).len()
        };
        assert_eq!([cut(360.99, false), cut(300.0, true), cut(300.0, false)], [0, 0, 1]);
    }

    #[test]
    fn an_answer_of_which_the_rest_was_lost_was_not_cut() {
        let lost = |between: [&str; 2]| {
            let what = Fault::Partition { between: between.map(str::to_owned) };
            let log =
                running().statement_ended(70.0, "etl.1/1", StatementEnd::Complete).event(70.0, Event::Fault { what });
            log.ended(160.0, "etl.1/1", Outcome::Lost).judge(check).len()
        };
        assert_eq!((lost(["pod", "worker"]), lost(["pod", "b"])), (0, 1));
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
            move |settings: &mut lastcall_core::Settings| {
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
    fn a_cancel_ends_what_its_session_runs_and_one_statement_only() {
        let two = || running().sent(61.0, "etl.1/2", Query).cancel(69.9, "etl.1/2");
        let cancelled = |log: Log, at: f64, tag: &str| {
            log.statement_ended(at, tag, StatementEnd::Cancelled).ended(at, tag, error("57014"))
        };
        let first = cancelled(two(), 70.0, "etl.1/1");
        assert_eq!(first.judge(check), [""; 0]);
        let both = cancelled(first.began(70.0, "etl.1/2"), 71.0, "etl.1/2");
        assert_eq!(both.judge(check).len(), 1);
    }

    #[test]
    fn a_client_that_reads_is_never_stalled_however_slow() {
        let slow = running().event(61.0, Event::ReadingSlowed { conn: conn("etl.1") });
        let waits = slow.event(62.0, Event::WorkerWaits { worker_session: 1, for_input: false });
        let cut = waits.statement_ended(500.0, "etl.1/1", StatementEnd::Aborted).fatal(500.0, "etl.1", "57P01", None);
        assert_eq!(cut.ended(500.0, "etl.1/1", error("57P01")).judge(check).len(), 1);
    }

    #[test]
    fn a_client_for_whom_the_worker_waited_through_stall_grace_cut_itself() {
        let waits = |at: f64| running().event(at, Event::WorkerWaits { worker_session: 1, for_input: true });
        let closed = |log: Log, at: f64| {
            let log = log.statement_ended(at, "etl.1/1", StatementEnd::Aborted).fatal(at, "etl.1", "57P01", None);
            log.ended(at, "etl.1/1", error("57P01")).judge(check).len()
        };
        assert_eq!(closed(waits(100.0), 400.0), 0);
        assert_eq!(closed(waits(100.0), 399.0), 1);
        let moved = waits(100.0).event(300.0, Event::WorkerGoesOn { worker_session: 1 });
        assert_eq!(closed(moved.clone(), 400.0), 1);
        assert_eq!(closed(moved.event(300.0, Event::WorkerWaits { worker_session: 1, for_input: true }), 600.0), 0);
    }

    #[test]
    fn a_client_that_owed_rows_through_stall_grace_cut_itself_though_its_worker_was_busy_before_it_read() {
        let asked = running().event(100.0, Event::WorkerWaits { worker_session: 1, for_input: true });
        let busy = asked.event(100.0, Event::WorkerGoesOn { worker_session: 1 });
        let closed = |log: &Log, at: f64| {
            let log = log.clone().statement_ended(at, "etl.1/1", StatementEnd::Aborted);
            log.fatal(at, "etl.1", "57P01", None).ended(at, "etl.1/1", error("57P01")).judge(check).len()
        };
        assert_eq!((closed(&busy, 399.0), closed(&busy, 400.0)), (1, 0));
        // One that has sent all of them is waited for.
        let sent = busy.event(101.0, Event::CopyEnded { conn: conn("etl.1") });
        assert_eq!(closed(&sent, 400.0), 1);
    }

    #[test]
    fn before_the_signal_no_stall_is_too_long() {
        let log = Log::default().session(1.0, "etl.1").begun(5.0, "etl.1/1", Query);
        let log = log.event(6.0, Event::WorkerWaits { worker_session: 1, for_input: true }).term(1000.0);
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
    fn a_reader_that_goes_on_when_its_worker_has_given_it_up_has_come_too_late() {
        let stopped = running().event(70.0, Event::ReadingStopped { conn: conn("etl.1") });
        let finished = stopped.statement_ended(71.0, "etl.1/1", StatementEnd::Complete);
        let given_up = |at: f64| {
            let log = finished.clone().event(at, Event::WorkerSessionEnded { worker_session: 1 });
            let reads = log.event(500.0, Event::ReadingResumed { conn: conn("etl.1") });
            let cut = reads.fatal(501.0, "etl.1", "57P01", None).ended(501.0, "etl.1/1", error("57P01"));
            cut.judge(check).len()
        };
        assert_eq!((given_up(370.0), given_up(369.0)), (0, 1));
    }

    #[test]
    fn nothing_is_cut_under_a_client_that_left_or_in_a_pod_that_was_shot() {
        let lost = |log: Log| log.eof(70.0, "etl.1").ended(70.0, "etl.1/1", Outcome::Lost);
        assert_eq!(lost(running().left(70.0, "etl.1", "close")).judge(check), [""; 0]);
        assert_eq!(lost(running().killed(70.0).condemning("etl")).judge(check), [""; 0]);
        assert_eq!(lost(running().quit(70.0)).judge(check), [""; 0]);
        assert_eq!(lost(running()).killed(70.0).condemning("etl").judge(check).len(), 1, "the SIGKILL came later");
    }

    #[test]
    fn a_sigkill_cuts_what_runs_unless_the_file_says_that_its_client_is_killed() {
        let killed = running().killed(90.0);
        let cut = "etl.1/1 was cut 30s after the signal, when it had run for 1m 25s: its client never got an answer";
        assert_eq!(killed.judge(check), [cut], "the machine is gone, and its client hears nothing");
        let reset = killed.clone().reset(90.0, "etl.1").ended(90.0, "etl.1/1", Outcome::Lost);
        assert_eq!(reset.judge(check), [cut]);
        assert_eq!(killed.clone().condemning("dashboard").judge(check), [cut]);
        assert_eq!(killed.condemning("etl").judge(check), [""; 0]);
    }

    #[test]
    fn a_wall_that_stands_before_the_sigkill_excuses_it() {
        let known = |settings: &mut lastcall_core::Settings| settings.termination_grace = Some(Duration::from_secs(30));
        assert_eq!(running().with(known).killed(90.0).judge(check), [""; 0]);
    }

    #[test]
    fn what_a_client_that_does_not_read_has_in_its_machine_is_delivered_and_nothing_else() {
        let deaf = running().event(61.0, Event::ReadingStopped { conn: conn("etl.1") });
        let exited = deaf.statement_ended(70.0, "etl.1/1", StatementEnd::Complete).exit(80.0, 0);
        assert_eq!(exited.clone().machine_has(82.0, "etl.1", &["etl.1/1"]).judge(check), [""; 0]);
        assert_eq!(exited.clone().machine_has(82.0, "etl.1", &[]).judge(check).len(), 1);
        assert_eq!(exited.judge(check), [""; 0], "nobody looked");
    }

    #[test]
    fn a_wall_that_fell_before_its_drain_was_taken_back_excuses_what_it_ended() {
        let asked = |log: Log, at: f64, begin| log.event(at, Event::DrainAnswered { begin, status: Some(202) });
        let running = || Log::default().session(1.0, "etl.1").begun(5.0, "etl.1/1", Query);
        let cancelled = |log: Log, at: f64| {
            let log = log.statement_ended(at, "etl.1/1", StatementEnd::Cancelled);
            log.ended(at, "etl.1/1", error("57014"))
        };
        let wall = |settings: &mut lastcall_core::Settings| settings.handover_drain_timeout = Duration::from_secs(5);
        let drained = asked(running(), 60.0, true);
        assert_eq!(asked(cancelled(drained.clone(), 65.0), 66.0, false).with(wall).judge(check), [""; 0]);
        assert_eq!(cancelled(asked(drained.clone(), 64.0, false), 65.0).with(wall).judge(check).len(), 1);
        assert_eq!(cancelled(asked(drained, 66.0, false), 70.0).with(wall).judge(check).len(), 1);
    }

    #[test]
    fn a_worker_out_of_reach_is_told_as_08006_and_nothing_else() {
        let between = ["pod", "worker"].map(str::to_owned);
        let lost = running().event(61.0, Event::Fault { what: Fault::Partition { between } });
        let told = |log: &Log, code| {
            let log = log.clone().fatal(150.0, "etl.1", code, None);
            log.ended(150.0, "etl.1/1", error(code)).judge(check).len()
        };
        assert_eq!((told(&lost, "08006"), told(&lost, "57P01"), told(&running(), "08006")), (0, 1, 1));
    }

    #[test]
    fn a_machine_that_nothing_reaches_is_gone_after_90_seconds() {
        let between = ["etl", "pod"].map(str::to_owned);
        let away = running().event(61.0, Event::Fault { what: Fault::Partition { between } });
        let reset = |at: f64| {
            let log = away.clone().statement_ended(at, "etl.1/1", StatementEnd::Cancelled).reset(at, "etl.1");
            log.ended(at, "etl.1/1", Outcome::Lost).judge(check).len()
        };
        assert_eq!((reset(151.0), reset(150.0)), (0, 1));
    }

    #[test]
    fn a_worker_that_talked_nonsense_ended_its_statement_itself() {
        let cut = |log: Log| {
            let log = log.statement_ended(70.0, "etl.1/1", StatementEnd::Failed("57P01".to_owned()));
            log.fatal(70.0, "etl.1", "08P01", None).ended(70.0, "etl.1/1", error("08P01")).judge(check).len()
        };
        let garbled = running().event(69.0, Event::Fault { what: Fault::Garbage { client: "etl".to_owned() } });
        let another = running().event(69.0, Event::Fault { what: Fault::Garbage { client: "b".to_owned() } });
        assert_eq!((cut(garbled), cut(another), cut(running())), (0, 1, 1));
    }

    #[test]
    fn a_sigkill_cuts_nothing_that_a_worker_which_hangs_could_have_ended() {
        let hangs = running().event(70.0, Event::Fault { what: Fault::WorkerHang });
        assert_eq!(hangs.killed(86_460.0).judge(check), [""; 0]);
        assert_eq!(running().killed(86_460.0).judge(check).len(), 1);
    }

    #[test]
    fn a_copy_that_is_done_and_whose_sync_was_swallowed_is_not_cut_by_what_ends_its_batch() {
        let told = |synced: bool| {
            let log = Log::default().session(1.0, "a.1").event(5.0, Event::BatchBegan { worker_session: 1 });
            let log = log.begun(5.0, "a.1/1", RequestKind::Insert).term(60.0);
            let log = log.statement_ended(61.0, "a.1/1", StatementEnd::Complete);
            let log = if synced { log.event(61.0, Event::BatchSynced { worker_session: 1 }) } else { log };
            let log = log.fatal(90.0, "a.1", "57P01", None).ended(90.0, "a.1/1", error("57P01"));
            log.judge(check).len()
        };
        assert_eq!((told(false), told(true)), (0, 1));
    }

    #[test]
    fn at_the_wall_the_error_of_a_statement_that_was_cancelled_comes_before_the_fatal() {
        let told = |code: &str| {
            let log = running().with(|settings| settings.handover_drain_timeout = Duration::from_secs(900));
            let log = log.statement_ended(960.0, "etl.1/1", StatementEnd::Cancelled);
            let log = log.ended(960.1, "etl.1/1", error(code)).fatal(960.1, "etl.1", "57P01", None);
            log.judge(check).len()
        };
        assert_eq!((told("57014"), told("57P01")), (0, 1));
    }

    #[test]
    fn a_process_that_stood_still_at_the_signal_does_not_know_when_it_is_killed() {
        let killed = |stands_still: bool, at: f64| {
            let known =
                |settings: &mut lastcall_core::Settings| settings.termination_grace = Some(Duration::from_secs(60));
            let log = Log::default().with(known).session(1.0, "etl.1").begun(5.0, "etl.1/1", Query);
            let log = if stands_still { log.event(59.0, Event::Fault { what: Fault::PodStopped }) } else { log };
            let log = log.term(60.0);
            let log = if stands_still { log.event(85.0, Event::Fault { what: Fault::PodGoesOn }) } else { log };
            log.killed(at).reset(at, "etl.1").judge(check).len()
        };
        assert_eq!([killed(true, 120.0), killed(true, 115.0), killed(false, 90.0)], [0, 1, 1]);
    }
}
