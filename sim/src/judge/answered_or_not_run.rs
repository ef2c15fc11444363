//! `answered-or-not-run`: every request was answered, or refused with a SQLSTATE and never began at a worker; none ran
//! twice; a COMMIT is told done exactly if it was done.
//!
//! Judged are, request by request: an end that says something (a FATAL answers all requests that were waiting); one answer,
//! not two; one run at a worker, not two, and of something that a client sent; no `The last request was not executed.` for
//! one that a worker began; no result that no worker produced; no request left lying that came before anybody was due. And, transaction by transaction: rows are durable exactly if
//! the client was told so.
//!
//! A begun statement without its answer is `never-cut`'s, excuses included, and so is the doubt that it leaves about its
//! rows.

use lastcall_core::{Pacing, Settings};

use super::{Judged, Violation};
use crate::cast::history::{NOT_EXECUTED, Outcome, RequestKind};
use crate::scenario::model::Promise;
use crate::story::{Connection, Ending, Request};

/// One violation for each request, and for each transaction, that breaks it.
pub fn check(run: &Judged) -> Vec<Violation> {
    let story = &run.story;
    let by_request = story.requests.iter().flat_map(|request| {
        [
            unanswered(run, request),
            answered_twice(run, request),
            ran_twice(run, request),
            lied_to(run, request),
            ignored(run, request),
        ]
    });
    let unasked = story.statements.iter().filter(|statement| statement.request.is_none()).map(|statement| {
        let what = format!("a worker began {} {}, which no client sent", statement.tag, run.when(statement.began.at));
        violation(what, [statement.began])
    });
    let by_connection = story.connections.iter().flat_map(|connection| commits(run, connection));
    by_request.flatten().chain(unasked).chain(by_connection).chain(committed_twice(run)).collect()
}

fn violation(what: String, evidence: impl IntoIterator<Item = super::Moment>) -> Violation {
    Violation::new(Promise::AnsweredOrNotRun, what, evidence)
}

/// A request that never began and ended without a word.
fn unanswered(run: &Judged, request: &Request) -> Option<Violation> {
    let story = &run.story;
    let connection = story.connection_of(request);
    if !request.statements.is_empty() {
        return None;
    }
    let over = match request.end() {
        Some((_, Outcome::Complete)) => return None,
        Some((_, Outcome::Error(code))) if is_sqlstate(code) => return None,
        Some((moment, Outcome::Error(_) | Outcome::Lost)) => moment,
        None => match connection.ending() {
            Some((_, Ending::Left(_))) => return None,
            Some((moment, _)) => moment,
            None => story.exit.map(|(moment, _)| moment)?,
        },
    };
    let told = connection.fatals.iter().any(|fatal| fatal.moment > request.sent);
    // What was read is judged. Who does not read, or can't be reached, may have been told.
    // So may who was closed while nothing reached it, and has asked for more since: of a process that is gone nothing is sent
    // again.
    let closed = story.worker_let_go(connection).map(|closed| closed.at);
    let since = closed.map_or(request.sent.at, |closed| closed.min(request.sent.at));
    let gone = story.gone().filter(|gone| *gone < request.sent);
    let unseen = connection.deaf_at(over).is_some()
        || story.drew_a_reset(connection)
        || story.may_have_stalled(connection, over)
        || story.worker_let_go(connection).is_some_and(|closed| connection.deaf_near(closed, run.slack()).is_some())
        || gone.is_some_and(|gone| story.outages.of_client(connection.conn, connection.connecting.at, gone.at))
        || story.outages.of_client(connection.conn, request.sent.at, over.at)
        || story.outages.of_client(connection.conn, since, since);
    // Whoever lost its worker in the middle of a message can't be told, nor who has closed its side and waits for one that hung.
    let cut_short = connection.eof.is_some_and(|(_, mid_message)| mid_message) || connection.half_closed.is_some();
    let lost = cut_short && story.outages.of_worker(request.sent.at, over.at);
    if told || unseen || lost || story.shot_before(over) || connection.left_before(over) {
        return None;
    }
    let what = format!("{} was sent {} and never answered", request.tag, run.when(request.sent.at));
    Some(violation(what, [request.sent, over]))
}

/// A request that was whole and alone before its connection can have been due, and was never begun all the same.
fn ignored(run: &Judged, request: &Request) -> Option<Violation> {
    let story = &run.story;
    let connection = story.connection_of(request);
    let fatal = story.refused_by_fatal(request).filter(|fatal| fatal.code == "57P01")?;
    let alone = matches!(request.kind, RequestKind::Query | RequestKind::Insert | RequestKind::Begin);
    let excused = story.faulty() || run.at_wall(fatal.moment) || connection.reads_late();
    if !alone || excused || !request.statements.is_empty() {
        return None;
    }
    let earlier = story.requests_of(connection).take_while(|earlier| earlier.sent < request.sent);
    let answered = earlier.map(|earlier| earlier.end().map(|(end, _)| end.at));
    let free = answered
        .chain([connection.began.map(|began| began.at)])
        .try_fold(request.sent.at, |free, at| Some(free.max(at?)))?;
    let Settings { idle_grace, lame_duck, pacing, .. } = *run.settings;
    let first_due = if pacing == Pacing::None { idle_grace } else { (idle_grace / 2).max(lame_duck) };
    // It may have been an earlier drain, which was taken back since.
    let drain = story.drains.iter().rfind(|drain| drain.began < fatal.moment)?;
    (free + run.slack() < drain.began.at + first_due).then(|| {
        let what =
            format!("{} was sent {}, before anybody was due, and never begun", request.tag, run.when(request.sent.at));
        violation(what, [request.sent, fatal.moment])
    })
}

fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

fn answered_twice(run: &Judged, request: &Request) -> Option<Violation> {
    let [(first, _), (second, _), ..] = request.ends[..] else {
        return None;
    };
    let what = format!("{} was answered twice, again {}", request.tag, run.when(second.at));
    Some(violation(what, [first, second]))
}

fn ran_twice(run: &Judged, request: &Request) -> Option<Violation> {
    let mut began = run.story.statements_of(request).map(|statement| statement.began);
    let (first, second) = (began.next()?, began.next()?);
    let what = format!("{} was begun by a worker twice, again {}", request.tag, run.when(second.at));
    Some(violation(what, [first, second]))
}

/// What the client was told about whether it ran, and what the workers say.
fn lied_to(run: &Judged, request: &Request) -> Option<Violation> {
    let began = run.story.statements_of(request).next();
    match (run.story.refused_by_fatal(request), began) {
        (Some(fatal), Some(statement)) if fatal.detail == Some(NOT_EXECUTED) => {
            let what = format!("{} was told \"{NOT_EXECUTED}\", but a worker had begun it", request.tag);
            Some(violation(what, [statement.began, fatal.moment]))
        }
        (None, None) if request.complete() && works(request.kind) => {
            let what = format!("{} got an answer, but no worker ever began it", request.tag);
            Some(violation(what, [Some(request.sent), request.end().map(|(end, _)| end)].into_iter().flatten()))
        }
        _ => None,
    }
}

/// Whether only a worker can answer it.
fn works(kind: RequestKind) -> bool {
    !matches!(kind, RequestKind::Begin | RequestKind::Commit | RequestKind::Rollback)
}

/// What a client knows about its rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    NotDone,
    /// Nothing: the answer was cut or the client did not wait for it. `never-cut` judges that.
    Nothing,
}

/// A transaction block that is open.
#[derive(Default)]
struct Block<'s, 'a> {
    inserts: Vec<&'s Request<'a>>,
    /// A statement in it failed: its COMMIT is complete, and is a ROLLBACK.
    failed: bool,
}

/// Follows one connection's transactions, in the order in which its requests were sent.
///
/// Every request is taken as a sync point of its own, but for an Execute in a batch: see [`told_by_batch`].
fn commits(run: &Judged, connection: &Connection) -> Vec<Violation> {
    let mut block: Option<Block> = None;
    let mut broken = Vec::new();
    for request in run.story.requests_of(connection) {
        let failed = told(run, request) == Told::NotDone;
        match (request.kind, &mut block) {
            (RequestKind::Begin, None) => block = request.complete().then(Block::default),
            (RequestKind::Begin | RequestKind::Query | RequestKind::Execute, Some(block)) => block.failed |= failed,
            (RequestKind::ExecuteInsert, None) => {
                broken.extend(judge(run, &[request], told_by_batch(run, connection, request), Some(request)));
            }
            (RequestKind::Insert | RequestKind::ExecuteInsert, Some(block)) => {
                block.failed |= failed;
                block.inserts.push(request);
            }
            (RequestKind::Insert, None) => broken.extend(judge(run, &[request], told(run, request), Some(request))),
            (RequestKind::Commit, Some(open)) => {
                let told = match told(run, request) {
                    Told::Done if open.failed => Told::NotDone,
                    told => told,
                };
                broken.extend(judge(run, &open.inserts, told, Some(request)));
                block = None;
            }
            (RequestKind::Rollback, Some(open)) => {
                broken.extend(judge(run, &open.inserts, Told::NotDone, Some(request)));
                block = None;
            }
            (RequestKind::Query | RequestKind::Execute | RequestKind::Commit | RequestKind::Rollback, None) => {}
        }
    }
    if let Some(open) = block {
        broken.extend(judge(run, &open.inserts, Told::NotDone, None));
    }
    broken
}

fn told(run: &Judged, request: &Request) -> Told {
    match request.end() {
        Some((_, Outcome::Complete)) => Told::Done,
        Some((_, Outcome::Error(_))) if run.story.refused_by_fatal(request).is_none() => Told::NotDone,
        _ if request.statements.is_empty() => Told::NotDone,
        _ => Told::Nothing,
    }
}

/// What a client knows about the rows of an Execute outside a transaction block. They are promised with the answer to the
/// Sync of its batch, if nothing in the batch failed. A batch that is never synced promises nothing, but once begun it must
/// be let through to its Sync: closed under a client that was not silent for `stall_grace`, what was complete was promised.
fn told_by_batch(run: &Judged, connection: &Connection, request: &Request) -> Told {
    if !request.complete() {
        return told(run, request);
    }
    // A stream of replication begins with a statement that is no request here, and has no end that promised anything; nor
    // has nonsense, or the end of the client's side.
    if connection.replicates.is_some() || connection.garbage.is_some() || connection.half_closed.is_some() {
        return Told::Nothing;
    }
    let synced = connection.batches.iter().find(|synced| **synced > request.sent);
    // A statement of another kind behind it is its sync point, and its transaction is the batch's. BEGIN goes on with that one,
    // and what ends it is not followed.
    let mut behind = run.story.requests_of(connection).skip_while(|other| other.sent <= request.sent);
    let next = behind.find(|other| !matches!(other.kind, RequestKind::Execute | RequestKind::ExecuteInsert));
    match next.filter(|next| synced.is_none_or(|synced| next.sent < *synced)) {
        Some(next) if matches!(next.kind, RequestKind::Begin | RequestKind::Commit | RequestKind::Rollback) => {
            return Told::Nothing;
        }
        Some(next) if !next.statements.is_empty() || is_answered(run, next) => {
            return told(run, next);
        }
        _ => {}
    }
    if let Some(synced) = synced {
        let begun = connection.batches.iter().rfind(|other| **other < request.sent);
        let mut batch = run.story.requests_of(connection);
        let failed = batch.any(|other| {
            let between = begun.is_none_or(|begun| other.sent > *begun) && other.sent < *synced;
            // A simple query in front of the batch is a sync point of its own.
            let in_batch = matches!(other.kind, RequestKind::Execute | RequestKind::ExecuteInsert);
            between && in_batch && told(run, other) == Told::NotDone
        });
        return if failed { Told::NotDone } else { Told::Done };
    }
    let Some((closed, ending)) = connection.ending() else {
        return Told::Nothing;
    };
    // What crossed the close moved nothing.
    let begun = run.story.requests_of(connection).filter(|request| !request.statements.is_empty());
    // Who reads late has had its answer before.
    let answered = |request: &Request| request.end().filter(|_| !connection.reads_late()).map(|end| end.0);
    let moved = begun.flat_map(|request| [Some(request.sent), answered(request)]);
    let moved: Vec<_> = moved.flatten().filter(|moved| *moved < closed).map(|moved| moved.at).collect();
    let signal = run.story.signal().map(|signal| signal.at);
    let since = moved.iter().copied().max().into_iter().chain(signal).max();
    // All its pauses count together.
    let first = moved.into_iter().min().into_iter().chain(signal).max();
    let budget = run.settings.transaction_budget;
    let spent = !budget.is_zero() && first.is_some_and(|first| first + budget <= closed.at + run.slack());
    let silent = spent || since.is_none_or(|since| since + run.settings.stall_grace <= closed.at + run.slack());
    // Where the worker was lost, so was what it had not been asked to make durable.
    let lost = run.story.outages.worker_lost(request.sent.at, closed.at)
        || run.story.outages.between(connection.conn, request.sent.at, closed.at)
        || run.story.dismissed(connection, request.sent.at, closed.at)
        || run.story.garbled(connection, request.sent.at, closed.at);
    let excused = lost || matches!(ending, Ending::Left(_)) || run.story.shot_before(closed) || run.at_wall(closed);
    if silent || excused { Told::Nothing } else { Told::Done }
}

/// Whether a request got an answer of its own, and not a FATAL.
fn is_answered(run: &Judged, request: &Request) -> bool {
    let answer = request.end().filter(|(_, outcome)| **outcome != Outcome::Lost);
    answer.is_some() && run.story.refused_by_fatal(request).is_none()
}

/// Compares what the client was told by `teller` (`None`: it never asked for a commit) with what became durable.
fn judge(run: &Judged, inserts: &[&Request], told: Told, teller: Option<&Request>) -> Option<Violation> {
    let commit_of = |insert: &&Request| run.story.commits.get(insert.tag).and_then(|commits| commits.first()).copied();
    let answer = teller.and_then(|teller| teller.end()).map(|(end, _)| end);
    match told {
        Told::Nothing => None,
        Told::Done => {
            let lost = inserts.iter().find(|insert| insert.complete() && commit_of(insert).is_none())?;
            let what = format!("{} was told to be committed, but its rows were not", lost.tag);
            Some(violation(what, [Some(lost.sent), answer].into_iter().flatten()))
        }
        Told::NotDone => {
            let (kept, commit) = inserts.iter().find_map(|insert| Some((insert, commit_of(insert)?)))?;
            let what = format!("{} was committed {}, but its client was told otherwise", kept.tag, run.when(commit.at));
            Some(violation(what, [Some(kept.sent), Some(commit), answer].into_iter().flatten()))
        }
    }
}

fn committed_twice(run: &Judged) -> impl Iterator<Item = Violation> {
    run.story.commits.iter().filter_map(|(tag, commits)| {
        let [first, second, ..] = commits[..] else {
            return None;
        };
        let what = format!("the rows of {tag} were committed twice, again {}", run.when(second.at));
        Some(violation(what, [first, second]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, conn, error};
    use super::*;
    use crate::cast::history::RequestKind::{Begin, Commit, Execute, ExecuteInsert, Insert, Query, Rollback};
    use crate::cast::history::{Event, Fault, StatementEnd};

    fn client() -> Log {
        Log::default().session(1.0, "a.1")
    }

    /// BEGIN and one insert, answered.
    fn in_block() -> Log {
        client().answered(2.0, 2.1, "a.1/1", Begin).answered(3.0, 3.1, "a.1/2", Insert)
    }

    #[test]
    fn a_request_that_comes_before_anybody_is_due_is_not_left_lying() {
        let refused = |sent: f64| {
            let log = Log::default().session(1.0, "a.1").term(60.0).sent(sent, "a.1/1", Query);
            log.fatal(85.0, "a.1", "57P01", None).ended(85.0, "a.1/1", error("57P01"))
        };
        assert_eq!(refused(63.0).judge(check).len(), 1);
        assert_eq!(refused(75.0).judge(check), [""; 0]);
        let waits =
            Log::default().session(1.0, "a.1").begun(50.0, "a.1/1", Query).term(60.0).sent(63.0, "a.1/2", Query);
        let waits = waits.complete(84.0, "a.1/1").fatal(85.0, "a.1", "57P01", Some(NOT_EXECUTED));
        assert_eq!(waits.ended(85.0, "a.1/2", error("57P01")).judge(check), [""; 0]);
    }

    #[test]
    fn what_was_lost_on_its_way_is_not_sent_again_by_a_process_that_is_gone() {
        let between = ["a", "pod"].map(str::to_owned);
        let cut = |from: f64| {
            let log =
                client().term(60.0).event(from, Event::Fault { what: Fault::Partition { between: between.clone() } });
            log.event(from + 4.0, Event::Fault { what: Fault::Heal { between: between.clone() } })
        };
        let asked = |log: Log| log.exit(96.0, 0).sent(110.0, "a.1/1", Query).ended(1_000.0, "a.1/1", Outcome::Lost);
        assert_eq!(asked(cut(91.0)).reset(1_000.0, "a.1").judge(check), [""; 0]);
        assert_eq!(asked(client().term(60.0)).reset(1_000.0, "a.1").judge(check).len(), 1);
    }

    #[test]
    fn an_answer_a_refusal_and_a_fatal_for_all_that_waits_are_answers() {
        let log = client().answered(2.0, 3.0, "a.1/1", Query).sent(60.0, "a.1/2", Query).sent(60.0, "a.1/3", Query);
        let log = log.fatal(60.0, "a.1", "57P01", Some(NOT_EXECUTED)).ended(60.0, "a.1/2", error("57P01"));
        assert_eq!(log.ended(60.0, "a.1/3", Outcome::Lost).eof(60.0, "a.1").judge(check), [""; 0]);
    }

    #[test]
    fn a_request_that_is_dropped_without_a_word_breaks_it() {
        let dropped = client().sent(60.0, "a.1/1", Query).term(61.0);
        assert_eq!(
            dropped.clone().eof(62.0, "a.1").ended(62.0, "a.1/1", Outcome::Lost).judge(check),
            ["a.1/1 was sent 1s before the signal and never answered"]
        );
        assert_eq!(dropped.clone().eof(62.0, "a.1").judge(check).len(), 1);
        assert_eq!(dropped.clone().exit(62.0, 0).judge(check).len(), 1);
        assert_eq!(dropped.clone().ended(62.0, "a.1/1", error("")).judge(check).len(), 1);
        assert_eq!(dropped.out_of_time(62.0).judge(check), [""; 0]);
    }

    #[test]
    fn a_client_that_does_not_read_or_is_out_of_reach_may_have_been_told() {
        let dropped = |event: Option<Event>| {
            let log = client();
            let log = event.into_iter().fold(log, |log, event| log.event(59.0, event));
            log.sent(60.0, "a.1/1", Query).term(61.0).exit(62.0, 0).judge(check).len()
        };
        let between = ["a", "pod"].map(str::to_owned);
        assert_eq!(dropped(None), 1);
        assert_eq!(dropped(Some(Event::ReadingStopped { conn: conn("a.1") })), 0);
        assert_eq!(dropped(Some(Event::Fault { what: Fault::Partition { between } })), 0);
    }

    #[test]
    fn nobody_owes_an_answer_to_a_client_that_left_or_from_a_pod_that_was_shot() {
        let sent = client().sent(60.0, "a.1/1", Query);
        assert_eq!(sent.clone().left(61.0, "a.1", "close").judge(check), [""; 0]);
        assert_eq!(sent.killed(61.0).eof(61.0, "a.1").ended(61.0, "a.1/1", Outcome::Lost).judge(check), [""; 0]);
    }

    #[test]
    fn a_begun_statement_without_an_answer_is_left_to_never_cut() {
        let cut = client().begun(2.0, "a.1/1", Insert).eof(3.0, "a.1").ended(3.0, "a.1/1", Outcome::Lost);
        assert_eq!(cut.judge(check), [""; 0]);
    }

    #[test]
    fn a_request_that_ran_twice_or_was_answered_twice_or_never_sent_breaks_it() {
        let answered = client().answered(2.0, 3.0, "a.1/1", Query);
        assert_eq!(
            answered.clone().began(4.0, "a.1/1").judge(check),
            ["a.1/1 was begun by a worker twice, again at 4s of the run"]
        );
        assert_eq!(answered.clone().ended(4.0, "a.1/1", error("57014")).judge(check).len(), 1);
        assert_eq!(answered.began(4.0, "a.1/9").judge(check).len(), 1);
    }

    #[test]
    fn an_answer_that_no_worker_gave_breaks_it() {
        let log = client().sent(2.0, "a.1/1", Query).ended(2.0, "a.1/1", Outcome::Complete);
        assert_eq!(log.judge(check), ["a.1/1 got an answer, but no worker ever began it"]);
    }

    #[test]
    fn not_executed_is_said_only_of_what_was_not_executed() {
        let refuse = |log: Log| {
            log.fatal(90.0, "a.1", "57P01", Some(NOT_EXECUTED)).ended(90.0, "a.1/1", error("57P01")).eof(90.0, "a.1")
        };
        assert_eq!(refuse(client().sent(90.0, "a.1/1", Query)).judge(check), [""; 0]);
        assert_eq!(refuse(client().begun(90.0, "a.1/1", Query)).judge(check).len(), 1);
    }

    #[test]
    fn a_commit_that_is_told_done_was_done() {
        let told = in_block().answered(4.0, 5.0, "a.1/3", Commit);
        assert_eq!(told.judge(check), ["a.1/2 was told to be committed, but its rows were not"]);
        let begun = in_block().begun(4.0, "a.1/3", Commit).committed(4.5, &["a.1/2"]);
        assert_eq!(begun.clone().complete(5.0, "a.1/3").judge(check), [""; 0]);
        assert_eq!(begun.committed(4.6, &["a.1/2"]).complete(5.0, "a.1/3").judge(check).len(), 1);
    }

    #[test]
    fn rows_that_nobody_was_told_of_are_not_there() {
        let kept = in_block().committed(3.5, &["a.1/2"]);
        assert_eq!(
            kept.judge(check),
            ["a.1/2 was committed at 3s 500ms of the run, but its client was told otherwise"]
        );
        let refused = kept.clone().sent(4.0, "a.1/3", Commit).ended(4.0, "a.1/3", error("57P01"));
        assert_eq!(refused.judge(check).len(), 1);
        let told = kept.clone().sent(4.0, "a.1/3", Commit).fatal(4.0, "a.1", "57P01", Some(NOT_EXECUTED));
        assert_eq!(told.ended(4.0, "a.1/3", error("57P01")).judge(check).len(), 1);
        assert_eq!(kept.clone().answered(4.0, 5.0, "a.1/3", Rollback).judge(check).len(), 1);
        assert_eq!(in_block().answered(4.0, 5.0, "a.1/3", Rollback).judge(check), [""; 0]);
    }

    #[test]
    fn a_commit_whose_answer_was_cut_is_in_doubt_and_left_to_never_cut() {
        let begun = in_block().begun(4.0, "a.1/3", Commit).committed(4.5, &["a.1/2"]);
        let cut = begun.fatal(5.0, "a.1", "57P01", None).ended(5.0, "a.1/3", error("57P01"));
        assert_eq!(cut.judge(check), [""; 0]);
    }

    #[test]
    fn the_commit_of_a_failed_transaction_is_a_rollback() {
        let failed = in_block().begun(4.0, "a.1/3", Query).failed(4.1, "a.1/3", "22012");
        let failed = failed.begun(5.0, "a.1/4", Commit);
        assert_eq!(failed.clone().complete(5.1, "a.1/4").judge(check), [""; 0]);
        assert_eq!(failed.committed(5.0, &["a.1/2"]).complete(5.1, "a.1/4").judge(check).len(), 1);
    }

    #[test]
    fn an_insert_outside_a_transaction_is_committed_exactly_if_it_is_answered() {
        let begun = client().begun(2.0, "a.1/1", Insert);
        assert_eq!(begun.clone().complete(3.0, "a.1/1").judge(check).len(), 1);
        let kept = begun.committed(2.5, &["a.1/1"]);
        assert_eq!(kept.clone().complete(3.0, "a.1/1").judge(check), [""; 0]);
        let cancelled = kept.statement_ended(3.0, "a.1/1", StatementEnd::Cancelled);
        assert_eq!(cancelled.ended(3.0, "a.1/1", error("57014")).judge(check).len(), 1);
    }

    /// An Execute that inserts, answered after a Flush.
    fn flushed() -> Log {
        client().answered(2.0, 2.1, "a.1/1", ExecuteInsert).term(60.0)
    }

    fn synced(log: Log, at: f64) -> Log {
        log.event(at, Event::BatchAnswered { conn: conn("a.1") })
    }

    #[test]
    fn the_rows_of_a_batch_are_promised_with_the_answer_to_its_sync() {
        let lost = synced(flushed(), 61.0).judge(check);
        assert_eq!(lost, ["a.1/1 was told to be committed, but its rows were not"]);
        let kept = synced(flushed().committed(61.0, &["a.1/1"]), 61.0);
        assert_eq!(kept.judge(check), [""; 0]);
    }

    #[test]
    fn a_batch_that_fails_later_keeps_none_of_its_rows() {
        let fails = flushed().begun(62.0, "a.1/2", Execute).failed(62.1, "a.1/2", "22012");
        assert_eq!(synced(fails.clone(), 63.0).judge(check), [""; 0]);
        assert_eq!(synced(fails.clone().committed(63.0, &["a.1/1"]), 63.0).judge(check).len(), 1);
        let another = synced(flushed().committed(61.0, &["a.1/1"]), 61.0);
        let another = another.begun(62.0, "a.1/2", Execute).failed(62.1, "a.1/2", "22012");
        assert_eq!(synced(another, 63.0).judge(check), [""; 0], "the failure was in the next batch");
    }

    #[test]
    fn a_simple_query_that_fails_in_front_of_a_batch_is_none_of_its_requests() {
        let failed = client().begun(2.0, "a.1/1", Query).failed(2.1, "a.1/1", "22012");
        let batch = failed.answered(3.0, 3.1, "a.1/2", ExecuteInsert);
        assert_eq!(synced(batch.clone().committed(3.2, &["a.1/2"]), 3.3).judge(check), [""; 0]);
        assert_eq!(synced(batch, 3.3).judge(check).len(), 1);
    }

    #[test]
    fn a_batch_is_let_through_to_its_sync_unless_its_client_is_silent_for_too_long() {
        assert_eq!(flushed().goodbye(80.0, "a.1").judge(check).len(), 1);
        assert_eq!(flushed().goodbye(360.0, "a.1").judge(check), [""; 0]);
        assert_eq!(flushed().left(80.0, "a.1", "close").judge(check), [""; 0]);
        assert_eq!(flushed().killed(80.0).eof(80.0, "a.1").judge(check), [""; 0]);
        assert_eq!(flushed().judge(check), [""; 0]);
    }

    #[test]
    fn a_statement_behind_an_open_batch_is_its_sync_point() {
        let fails = flushed().begun(62.0, "a.1/2", Query).failed(62.1, "a.1/2", "22012");
        assert_eq!(fails.clone().goodbye(80.0, "a.1").judge(check), [""; 0]);
        assert_eq!(fails.committed(62.1, &["a.1/1"]).goodbye(80.0, "a.1").judge(check).len(), 1);
        let done = flushed().answered(62.0, 62.1, "a.1/2", Query).goodbye(80.0, "a.1");
        assert_eq!(done.judge(check).len(), 1);
    }

    #[test]
    fn what_its_worker_took_with_it_was_never_promised() {
        let crashed = flushed().event(70.0, Event::Fault { what: Fault::WorkerCrash });
        assert_eq!(crashed.fatal(70.1, "a.1", "08006", None).eof(70.1, "a.1").judge(check), [""; 0]);
        assert_eq!(flushed().fatal(70.1, "a.1", "08006", None).eof(70.1, "a.1").judge(check).len(), 1);
    }
}
