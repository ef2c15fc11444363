//! `honest-signs`: readiness was false from the signal on; the exit code and the drain report tell what happened.
//!
//! - **Readiness**: a probe sent after the signal must not find the pod ready, and one before it must not find it unready
//!   once it has started. `/livez` says that it lives to its end: a kubelet kills what does not.
//! - **Status**: from the signal to its end `GET /drain` answers, says that the signal has come, names each session that is
//!   here, and nobody who never came.
//! - **Exit code**: 131 after SIGQUIT; 3 exactly if a wall of this drain ended a running statement, whatever became of its client
//!   then (where it fell on a session without one, 0 and 3 are both true); 0 otherwise, and never when a statement was cut or no signal was sent. `flat`'s cap
//!   is a wall here: whatever ends running work must say so.
//! - **Report**: there is one exactly if there was a drain, and its signal, policy, times and totals agree with the log. The
//!   log shows sessions exactly and connections without one only from their client's side, so the totals may be
//!   higher than the sessions by at most the number of those. After SIGQUIT the totals are not judged: nobody waits for them.
//!
//! Of a pod that has no readiness, or gives no report, only the rest is judged.

use lastcall_core::Time;

use super::{Judged, Violation, apart, never_cut};
use crate::cast::history::StatementEnd;
use crate::cast::pod::Report;
use crate::cast::pod::report::{Cause, DrainReport, EndReason};
use crate::scenario::model::Promise;
use crate::story::{Connection, Drain, GIVEN_UP, Moment, Request};

/// Exit code: every session ended as promised.
const EXIT_DRAINED: u8 = 0;
/// Exit code: a wall was reached and running work was ended.
const EXIT_WALL: u8 = 3;
/// Exit code: SIGQUIT.
const EXIT_QUIT: u8 = 131;

/// One violation for each sign that is false.
pub fn check(run: &Judged) -> Vec<Violation> {
    let mut broken = Vec::new();
    if run.has(Report::Readiness) {
        broken.extend(readiness(run));
        broken.extend(liveness(run));
    }
    if run.has(Report::Status) {
        broken.extend(listed(run));
    }
    if let Some((moment, code)) = run.story.exit {
        broken.extend(exit_code(run, moment, code));
        broken.extend(if run.has(Report::DrainReport) { report(run, moment) } else { Vec::new() });
    }
    broken
}

fn violation(what: String, evidence: impl IntoIterator<Item = Moment>) -> Violation {
    Violation::new(Promise::HonestSigns, what, evidence)
}

/// The first probe of either kind that was told the wrong thing.
fn readiness(run: &Judged) -> Vec<Violation> {
    let story = &run.story;
    let Some(started) = story.started else {
        return Vec::new();
    };
    let told = story.told();
    let there = |moment: &Moment| *moment > started && story.gone().is_none_or(|gone| *moment < gone);
    let mut probes = story.readiness.iter().copied().filter(|(moment, _)| there(moment));
    // An answer may have been on its way when the signal came.
    let late =
        |probe: Moment, told: Moment| probe.at > told.at + run.slack() && !story.outages.of_kubelet(told.at, probe.at);
    let ready_after = probes.clone().find(|(probe, ready)| *ready && told.is_some_and(|told| late(*probe, told)));
    // No answer at all may have been the network's.
    let of_pod = |probe: Moment| !asked_to_drain(run, probe.at) && !story.outages.of_kubelet(probe.at, probe.at);
    let unready_before =
        probes.find(|(probe, ready)| !ready && told.is_none_or(|told| probe.at < told.at) && of_pod(*probe));
    let ready_after = ready_after.map(|(probe, _)| {
        violation(format!("/readyz said ready {}", run.when(probe.at)), told.into_iter().chain([probe]))
    });
    let unready_before = unready_before.map(|(probe, _)| {
        violation(format!("/readyz said not ready {}, while serving", run.when(probe.at)), [started, probe])
    });
    ready_after.into_iter().chain(unready_before).collect()
}

/// The first probe of a process that was there and did not say so.
fn liveness(run: &Judged) -> Option<Violation> {
    let story = &run.story;
    let there = |at: Time| story.gone().is_none_or(|gone| at + run.slack() < gone.at);
    let probe = *story.dead.iter().find(|probe| there(probe.at) && !story.outages.of_kubelet(probe.at, probe.at))?;
    Some(violation(format!("/livez said dead {}", run.when(probe.at)), [probe]))
}

/// The first thing that `GET /drain` said wrong: whether a signal had come, and who is here.
fn listed(run: &Judged) -> Option<Violation> {
    let story = &run.story;
    let wrong = story.listed.iter().find_map(|(asked, moment, listed)| {
        let there = story.gone().is_none_or(|gone| moment.at + run.slack() < gone.at);
        if !there || story.outages.of_kubelet(*asked, moment.at) {
            return None;
        }
        let Some(listed) = listed else { return Some(("said nothing".to_owned(), *moment)) };
        let signalled = story.signal().is_some_and(|signal| signal.at + run.slack() < *asked);
        if signalled && !(listed.signalled && listed.cause.is_some()) {
            return Some(("said nothing of the signal".to_owned(), *moment));
        }
        let names = || listed.clients.iter().filter_map(|client| client.application.as_deref());
        let came = |name: &str| {
            let mut connections = story.connections.iter().filter(|connection| connection.connecting < *moment);
            connections.any(|connection| connection.conn.application() == name)
        };
        if let Some(nobody) = names().find(|name| !came(name)) {
            return Some((format!("named {nobody}, who never came"), *moment));
        }
        let whole = listed.clients.len() == listed.connections;
        let mut here = story.connections.iter().filter(|connection| whole && is_here(run, connection, *asked, *moment));
        let missing = here.find(|connection| !names().any(|name| name == connection.conn.application()))?;
        Some((format!("did not name {}", missing.conn), *moment))
    });
    wrong.map(|(what, moment)| violation(format!("GET /drain {what} {}", run.when(moment.at)), [moment]))
}

/// Whether a session was there all this time, whatever happened just before and behind it.
fn is_here(run: &Judged, connection: &Connection, from: Time, to: Moment) -> bool {
    let (story, slack) = (&run.story, run.slack());
    let began = connection.began.is_some_and(|began| began.at + slack < from);
    let ends = [
        story.visible_end(connection).map(|(end, _)| end),
        connection.ending().map(|(end, _)| end),
        connection.half_closed,
        connection.left.map(|(left, _)| left),
        connection.fatals.first().map(|fatal| fatal.moment),
        story.worker_let_go(connection),
    ];
    let stays = ends.into_iter().flatten().all(|end| end.at > to.at + slack);
    // Who does not read, or can't be reached, may have been closed; so may who lost its worker.
    let reads = !connection.reads_late();
    let reached = !story.outages.of_client(connection.conn, connection.connecting.at, to.at + slack)
        && !story.outages.of_worker(connection.connecting.at, to.at + slack);
    began && stays && reads && reached
}

/// Whether a drain by request that was taken back, or perhaps was, ran then.
fn asked_to_drain(run: &Judged, at: Time) -> bool {
    let requests = &run.story.drain_requests;
    let answered = requests.iter().rev().find(|request| request.answered.is_some_and(|answered| answered.at <= at));
    answered.is_some_and(|last| last.begin) || requests.iter().any(|request| request.may_be_done_at(at, run.slack()))
}

fn exit_code(run: &Judged, exit: Moment, code: u8) -> Option<Violation> {
    let story = &run.story;
    let wrong = |what: String, shown: Option<Moment>| Some(violation(what, shown.into_iter().chain([exit])));
    if let Some(quit) = story.quit().filter(|quit| *quit < exit) {
        // The drain may have been over when the signal arrived.
        let empty = !story.connections.iter().any(|connection| connection.open_at(quit.at));
        let crossed = story.signal().is_some() && empty && exit.at <= quit.at + run.slack();
        let honest = code == EXIT_QUIT || crossed && by_drain(run, exit, code).is_none();
        return if honest {
            None
        } else {
            wrong(format!("exit code {code} after SIGQUIT, not {EXIT_QUIT}"), Some(quit))
        };
    }
    if story.signal().is_none_or(|signal| signal > exit) && !perhaps_asked(run, exit.at) {
        return wrong(format!("exit code {code}, although nothing told the process to exit"), None);
    }
    by_drain(run, exit, code).and_then(|(what, shown)| wrong(what, shown))
}

/// Whether a request for a drain may have been obeyed at this time, or long before, of which the answer had not come then.
fn perhaps_asked(run: &Judged, at: Time) -> bool {
    run.story.drain_requests.iter().any(|request| request.begin && request.may_be_done_at(at, run.slack()))
}

/// What is wrong with this exit code after a drain, and what shows it.
fn by_drain(run: &Judged, exit: Moment, code: u8) -> Option<(String, Option<Moment>)> {
    let heard_late = run.story.drain().map(Drain::heard_late).unwrap_or_default();
    let has_fallen = |wall: &Time| exit.at + run.resolution + heard_late >= *wall;
    match code {
        EXIT_DRAINED => {
            let cut = never_cut::check(run);
            if let Some(cut) = cut.first() {
                let shown = cut.evidence.last().map(|index| run.story.moment(*index));
                return Some((format!("exit code 0, but {}", cut.what), shown));
            }
            let certain = run.story.certain_wall().into_iter().chain(run.story.flat_cap());
            let wall = certain.filter(has_fallen).min()?;
            let began = run.story.requests.iter().find_map(|request| ended_by_wall(run, request, wall))?;
            Some((format!("exit code 0, but a wall fell {} on a running statement", run.when(wall)), Some(began)))
        }
        EXIT_WALL => {
            let there = |at: Time| {
                let mut connections =
                    run.story.connections.iter().filter(|it| it.connecting.at <= at && !gone_before(run, it));
                connections.any(|it| {
                    let seen = run.story.visible_end(it);
                    // What a client leaves running is waited for, and so is the news of its end.
                    let told = |over: &Moment| !run.story.outages.of_worker(over.at, over.at + run.slack());
                    let runs_on =
                        run.story.worker_session_of(it).map(|session| session.ended.filter(told).unwrap_or(exit));
                    let over = |end: Moment| runs_on.map_or(end.at, |over| over.at.max(end.at));
                    seen.is_none_or(|(end, _)| over(end) + run.slack() >= at)
                })
            };
            let walls = run.story.drain().into_iter().flat_map(Drain::walls).chain(run.story.flat_cap());
            let fell = walls.filter(has_fallen).any(there);
            (!fell).then(|| (format!("exit code {EXIT_WALL}, but no wall fell on a session"), None))
        }
        other => Some((format!("exit code {other} after a drain"), None)),
    }
}

/// When the statement of this request began, if the wall ended it.
fn ended_by_wall(run: &Judged, request: &Request, wall: Time) -> Option<Moment> {
    let connection = run.story.connection_of(request);
    let stayed = connection.left.is_none_or(|(left, _)| left.at > wall);
    let statement = run.story.statements_of(request).find(|statement| {
        // What ended or began within the slack may have been seen either way.
        let ran = statement.began.at + run.slack() < wall;
        let ended = statement.end.filter(|(end, _)| end.at + run.resolution >= wall);
        let by_wall = match ended {
            Some((_, StatementEnd::Cancelled)) => request.cancels.is_empty(),
            Some((_, StatementEnd::Aborted)) => connection.left.is_none() && !run.story.crashed(statement),
            _ => false,
        };
        // What its client holds back does not run: its clock is another one, which may have been the first.
        let held_back = statement.waits.iter().any(|wait| {
            let from = run.story.drain().map_or(wait.began.at, |drain| drain.began.at.max(wait.began.at));
            let stalled = from + run.settings.stall_grace <= wall + run.slack();
            let holds = !wait.for_input || stalled;
            holds && wait.began.at <= wall && wait.went_on.is_none_or(|went_on| went_on.at > wall)
        });
        ran && by_wall && stayed && !held_back
    });
    statement.map(|statement| statement.began)
}

/// Whether a connection's session was over before this drain began, whatever its client had read of that: its worker knows.
fn gone_before(run: &Judged, connection: &Connection) -> bool {
    let over = run.story.worker_let_go(connection);
    over.zip(run.story.drain())
        .is_some_and(|(over, drain)| over < drain.asked && !run.story.outages.of_worker(over.at, drain.asked.at))
}

/// Every statement of the report that the log contradicts.
fn report(run: &Judged, exit: Moment) -> Vec<Violation> {
    let (report, (signal, first)) = match (run.story.report, run.story.drain().map(|drain| (drain.began, drain.cause)))
    {
        (Some(report), Some(told)) if told.0 < exit => (report, told),
        // Of a drain whose beginning the kubelet never heard of, little can be said.
        (Some(_), _) if perhaps_asked(run, exit.at) => return Vec::new(),
        (None, Some((signal, _))) if signal < exit && !run.story.shot_before(exit) => {
            return vec![violation("no drain report, although there was a drain".to_owned(), [signal, exit])];
        }
        (Some(_), _) => return vec![violation("a drain report without a drain".to_owned(), [exit])],
        (None, _) => return Vec::new(),
    };
    let mut wrong = Vec::new();
    // A request may have been first of which the answer is still on its way when the signal comes.
    let crossed = report.cause == Cause::Request && perhaps_asked(run, signal.at);
    let perhaps = run.story.drain().and_then(|drain| drain.perhaps);
    if report.cause != first && Some(report.cause) != perhaps && !crossed {
        wrong.push(format!("says that {} began the drain, but that was {first}", report.cause));
    }
    if report.policy != run.settings.drain_policy {
        wrong.push(format!("says policy {:?}, but that was {:?}", report.policy, run.settings.drain_policy));
    }
    let asked = report.cause == Cause::Request && perhaps_asked(run, report.started);
    if apart(report.started, signal.at) > run.slack() && !asked {
        wrong.push(format!("says that the drain began {}", run.when(report.started)));
    }
    let last_record =
        run.story.records.iter().map(|(_, record)| record.ended).max().unwrap_or(signal.at).max(signal.at);
    if report.ended + run.slack() < last_record || report.ended > exit.at + run.slack() {
        wrong.push(format!(
            "says that the drain ended {}, but the last session ended {} and the process {}",
            run.when(report.ended),
            run.when(last_record),
            run.when(exit.at)
        ));
    }
    if !run.story.shot_before(exit) {
        wrong.extend(totals(run, signal, exit, report));
    }
    wrong.extend(last_out(run, report));
    wrong.into_iter().map(|what| violation(format!("the drain report {what}"), [signal, exit])).collect()
}

/// The report's numbers, each against the least and the most that the log allows.
fn totals(run: &Judged, signal: Moment, exit: Moment, report: &DrainReport) -> Vec<String> {
    let story = &run.story;
    let (slack, connections) = (run.slack(), &story.connections);
    // What happened within the slack of the signal, the pod may have counted or not.
    let (before, after) = (Time::EPOCH + signal.at.since(Time::EPOCH + slack), signal.at + slack);
    // A process that is stopped sees an end when it goes on.
    let heard = |end: Time| story.outages.heard(end, slack).unwrap_or(exit.at);
    let without_session = connections.iter().filter(|connection| connection.began.is_none());
    let without_session = without_session
        .filter(|it| it.failed.is_none() && story.visible_end(it).is_none_or(|(end, _)| heard(end.at) >= before))
        .count();

    let at_least = connections.iter().filter(|connection| {
        let began = connection.began.is_some_and(|began| began.at < before);
        // One whose end was decided before belongs to a drain before, however long its client takes to see it.
        let over = story.worker_let_go(connection);
        let decided = over.is_some_and(|over| over.at <= after);
        // Nor can it be told when one was closed who does not read or can't be reached.
        let deaf = connection.deaf_at(signal).is_some();
        let away = story.outages.client_away_for(connection.conn, signal.at) + slack >= GIVEN_UP;
        // Nor where neither its client nor its worker can say.
        let unsaid = over.is_none_or(|over| over.at > after)
            && story.outages.of_client(connection.conn, signal.at, signal.at)
            && story.outages.of_worker(signal.at, signal.at);
        began && !decided && !deaf && !away && !unsaid && connection.ending().is_none_or(|(end, _)| end.at > after)
    });
    let at_most = connections.iter().filter(|connection| {
        // Who gave up may have been let in without knowing.
        let failed = connection
            .failed
            .is_some_and(|failed| !story.outages.of_client(connection.conn, connection.connecting.at, failed.at));
        let there = connection.connecting.at <= after && !failed;
        there && run.there_until(connection).is_none_or(|over| over >= before)
    });
    let mut wrong = Vec::new();
    let mut compare = |what: &str, said: u64, least: usize, most: usize| {
        if said < least as u64 || said > most as u64 {
            let seen = if least == most { least.to_string() } else { format!("{least} to {most}") };
            wrong.push(format!("says {what}: {said}, but the log has {seen}"));
        }
    };
    // Cancel requests come on connections of their own, and until they are read nobody knows what they bring.
    let sent =
        || story.requests.iter().flat_map(|request| request.cancels.iter().map(move |cancel| (request, cancel.at)));
    let unread = sent().filter(|(_, at)| apart(heard(*at), signal.at) <= slack).count();
    let strangers = run.strangers.unwrap_or_default();
    let most = at_most.count() + unread + strangers;
    compare("connections at the signal", report.connections_at_signal, at_least.count(), most);
    // Of a cancel request that never arrives there may be a connection.
    let lost = sent()
        .filter(|(request, at)| story.outages.of_client(story.connection_of(request).conn, *at, *at + slack))
        .count();
    // And the wall may end one whose request has just come.
    let walls = || story.drain().into_iter().flat_map(Drain::walls);
    let walled = sent().filter(|(_, at)| walls().any(|wall| apart(wall, *at) <= slack)).count();
    for reason in EndReason::ALL.into_iter().filter(|_| run.has(Report::EndRecords)) {
        let ended: Vec<Time> = story
            .records
            .iter()
            .filter(|(_, record)| record.reason == reason)
            .map(|(_, record)| record.ended)
            .collect();
        let least = ended.iter().filter(|ended| **ended > after).count();
        let most = ended.iter().filter(|ended| **ended >= before).count() + without_session + lost;
        let most = most + if reason == EndReason::Wall { walled } else { 0 };
        let said = report.ended_by.get(reason.name()).copied().unwrap_or(0);
        compare(&format!("ended by {reason}"), said, least, most);
    }
    let refusal = |it: &Connection| it.fatals.iter().find(|fatal| fatal.code == "57P03").map(|fatal| fatal.moment.at);
    let refused = || connections.iter().filter_map(|it| Some((it, refusal(it)?)));
    let at_least = refused().filter(|(it, told)| {
        // The worker says the same when it takes no new sessions.
        *told > after && !story.worker_refuses_within(it.connecting.at, *told)
    });
    compare("refused", report.refused, at_least.count(), without_session.max(refused().count()));
    let arrived =
        |request: &Request, at| story.outages.arrived(story.connection_of(request).conn, at, slack).unwrap_or(exit.at);
    // One that came too late for its statement was of no use to anybody, and perhaps not counted.
    let useful = |request: &Request| {
        story.statements_of(request).any(|statement| matches!(statement.end, Some((_, StatementEnd::Cancelled))))
    };
    // One that could not be handed over in time may have been of use when its worker was there again.
    let counted = |request: &Request, at: Time| {
        let in_time = arrived(request, at) + slack < exit.at && !story.outages.of_worker(at, at + slack);
        at > after && in_time && !run.is_far() && useful(request)
    };
    // Of several pods any may have passed it on.
    let least = if run.strangers.is_some() { 0 } else { sent().filter(|(request, at)| counted(request, *at)).count() };
    // Counted is one that its worker has taken.
    let taken_after = |request: &Request, at: Time| {
        let arrived = arrived(request, at);
        arrived >= before || story.outages.of_worker(at, arrived + slack)
    };
    let most = sent().filter(|(request, at)| taken_after(request, *at) && *at <= exit.at).count();
    compare("cancel requests", report.cancels, least, most + strangers);
    wrong
}

/// Who held the pod: a session that has such a record, and none went later.
fn last_out(run: &Judged, report: &DrainReport) -> Option<String> {
    let last = report.last.as_ref()?;
    let records = || run.story.records.iter().map(|(_, record)| record);
    // A connection that never had a session has no record; of sessions, `one-record-each` misses it.
    let record = records().find(|record| record.session == last.session)?;
    if record.reason != last.reason {
        return Some(format!("says that {} left by {}, but its record says {}", last.who, last.reason, record.reason));
    }
    // A session is recorded when its end is decided and gone when its client has let go: a slow one takes its time.
    if run.story.connections.iter().any(|it| it.reads_late() && it.conn.application() == record.application) {
        return None;
    }
    let its = run.story.connections.iter().filter(|it| it.conn.application() == record.application);
    let told = its.filter_map(|it| it.ending()).map(|(end, _)| end.at).max();
    let ended = told.map_or(record.ended, |told| told.max(record.ended));
    let gone_by = run.story.outages.heard(ended + run.settings.close_linger, run.slack())? + run.slack();
    let later = records().find(|record| record.ended > gone_by)?;
    Some(format!("says that {} left last, but {} left {}", last.who, later.application, run.when(later.ended)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lastcall_core::DrainPolicy;
    use lastcall_world::Signal;

    use super::super::fixture::{Log, conn, error};
    use super::*;
    use crate::cast::history::RequestKind::Query;
    use crate::cast::history::{Event, Fault};
    use crate::cast::pod::report::{Left, Listed, ListedClient};

    fn client() -> Log {
        Log::default().session(1.0, "a.1").ready(10.0, true).term(60.0).ready(70.0, false)
    }

    fn drained() -> Log {
        client().goodbye(80.0, "a.1").exit(80.0, 0)
    }

    fn holds(log: &Log) -> bool {
        log.judge(check).is_empty()
    }

    #[test]
    fn a_drain_that_says_what_happened_holds() {
        assert_eq!(drained().judge(check), [""; 0]);
    }

    #[test]
    fn readiness_is_true_before_the_signal_and_false_after_it() {
        assert_eq!(client().ready(71.0, true).judge(check), ["/readyz said ready 11s after the signal"]);
        assert!(holds(&Log::default().term(60.0).ready(60.001, true)));
        let unready = Log::default().ready(50.0, false).term(60.0);
        assert_eq!(unready.judge(check), ["/readyz said not ready 10s before the signal, while serving"]);
        assert!(holds(&drained().ready(90.0, true)));
    }

    /// A query that a wall at 960 s ends, or that is cut there.
    fn at_960(code: u8) -> Log {
        let log = client().with(|settings| settings.handover_drain_timeout = Duration::from_secs(900));
        let log = log.begun(70.0, "a.1/1", Query).statement_ended(960.0, "a.1/1", StatementEnd::Cancelled);
        let log = log.ended(960.0, "a.1/1", error("57014")).fatal(960.0, "a.1", "57P01", None).eof(960.0, "a.1");
        log.recorded(960.0, "a.1", EndReason::Wall).exit(960.0, code)
    }

    #[test]
    fn the_code_for_a_wall_is_three_if_it_fell_on_work_and_only_then() {
        assert!(holds(&at_960(3)));
        assert_eq!(
            at_960(0).judge(check),
            ["exit code 0, but a wall fell 15m after the signal on a running statement"]
        );
        let early = client().goodbye(80.0, "a.1").exit(80.0, 3);
        assert_eq!(early.judge(check), ["exit code 3, but no wall fell on a session"]);
    }

    #[test]
    fn what_a_wall_cancelled_counts_although_its_client_resets_then() {
        let reset = |code| {
            let log = client().with(|settings| settings.handover_drain_timeout = Duration::from_secs(900));
            let log = log.begun(70.0, "a.1/1", Query).statement_ended(960.0, "a.1/1", StatementEnd::Cancelled);
            let log = log.left(960.1, "a.1", "reset").recorded(960.1, "a.1", EndReason::ClientReset);
            log.exit(960.1, code)
        };
        assert!(holds(&reset(3)) && !holds(&reset(0)));
    }

    #[test]
    fn a_wall_of_a_drain_that_was_taken_back_is_none_of_a_later_one() {
        let asked = |begin, status| Event::DrainAnswered { begin, status: Some(status) };
        let log = Log::default().with(|settings| settings.handover_drain_timeout = Duration::from_secs(5));
        let log = log.session(1.0, "a.1").event(2.0, Event::ReadingStopped { conn: conn("a.1") });
        let log = log.event(10.0, asked(true, 202)).recorded(15.0, "a.1", EndReason::Wall);
        let log = log.event(16.0, asked(false, 200)).term(60.0).exit(65.0, 3);
        assert_eq!(log.judge(check), ["exit code 3, but no wall fell on a session"]);
    }

    #[test]
    fn who_is_here_is_named_and_nobody_else_and_that_a_signal_has_come_is_said() {
        let said = |cause: Option<&str>, signalled, names: &[&str]| {
            let clients = names.iter().map(|name| ListedClient { application: Some((*name).to_owned()) });
            let clients: Vec<ListedClient> = clients.collect();
            Listed { cause: cause.map(str::to_owned), signalled, connections: clients.len(), clients }
        };
        let judged = |listed: Option<Listed>| {
            let asked = Time::from_epoch(Duration::from_secs(70));
            let log = Log::default().session(1.0, "a.1").session(1.0, "b.1").term(60.0).goodbye(65.0, "b.1");
            log.event(70.1, Event::DrainListed { asked, listed }).goodbye(80.0, "a.1").exit(80.0, 0).judge(check)
        };
        assert_eq!(judged(Some(said(Some("SIGTERM"), true, &["a.1"]))), [""; 0]);
        assert_eq!(judged(Some(said(Some("SIGTERM"), true, &["a.1", "b.1"]))), [""; 0], "it may still be closing");
        assert_eq!(
            judged(Some(said(Some("SIGTERM"), true, &[]))),
            ["GET /drain did not name a.1#1 10s 100ms after the signal"]
        );
        assert_eq!(judged(Some(said(Some("SIGTERM"), true, &["a.1", "c.1"]))).len(), 1);
        assert_eq!(judged(Some(said(Some("POST /drain"), false, &["a.1"]))).len(), 1);
        assert_eq!(judged(Some(said(None, true, &["a.1"]))).len(), 1);
        assert_eq!(judged(None), ["GET /drain said nothing 10s 100ms after the signal"]);
    }

    #[test]
    fn a_pod_that_drains_is_alive() {
        let probed = |live| drained_after(Event::LivenessProbed { live });
        assert_eq!(probed(true).judge(check), [""; 0]);
        assert_eq!(probed(false).judge(check), ["/livez said dead 10s after the signal"]);
    }

    #[test]
    fn a_drain_may_be_over_before_its_answer_comes_and_a_refused_one_excuses_nothing() {
        let asked = || Log::default().event(10.0, Event::DrainAsked { begin: true });
        let answered = Event::DrainAnswered { begin: true, status: None };
        let exited = || Event::PodExited { code: 0, tasks: Vec::new() };
        assert!(holds(&asked().event(10.02, exited()).event(10.05, answered.clone())));
        assert!(holds(&asked().event(60.0, exited())), "nothing is known of its answer");
        assert!(!holds(&asked().event(10.05, answered).event(60.0, exited())));
    }

    #[test]
    fn a_drain_whose_request_has_no_answer_yet_when_the_signal_comes_began_when_it_was_asked_for() {
        let asked = |at| {
            let log = Log::default().event(at, Event::DrainAsked { begin: true }).term(60.0).exit(90.0, 0);
            log.but_reported(|report| {
                (report.cause, report.started) = (Cause::Request, Time::from_epoch(Duration::from_secs(10)));
            })
        };
        assert!(holds(&asked(10.0)));
        assert!(!holds(&asked(11.0)));
    }

    #[test]
    fn a_kubelet_that_is_cut_off_hears_late_or_nothing() {
        let probed = |between: [&str; 2]| {
            let what = Fault::Partition { between: between.map(str::to_owned) };
            let log = Log::default().event(50.0, Event::Fault { what }).ready(55.0, false);
            log.term(60.0).ready(70.0, true).event(71.0, Event::LivenessProbed { live: false }).judge(check).len()
        };
        assert_eq!((probed(["kubelet", "pod"]), probed(["clients", "pod"])), (0, 3));
    }

    fn drained_after(event: Event) -> Log {
        client().event(70.0, event).goodbye(80.0, "a.1").exit(80.0, 0)
    }

    #[test]
    fn a_client_that_did_not_read_at_the_signal_may_have_been_closed_before() {
        let deaf = Log::default().session(1.0, "a.1").event(2.0, Event::ReadingStopped { conn: conn("a.1") });
        let closed = deaf.recorded(50.0, "a.1", EndReason::IdleTimeout).term(60.0).exit(65.0, 0);
        assert!(holds(&closed));
    }

    #[test]
    fn a_cut_makes_code_zero_a_lie_and_three_honest_even_under_flat() {
        let flat = |code| {
            let log = Log::default().with(|settings| {
                settings.drain_policy = DrainPolicy::Flat;
                settings.handover_drain_timeout = Duration::from_secs(900);
            });
            let log = log.session(1.0, "a.1").term(60.0).begun(70.0, "a.1/1", Query);
            let log = log.statement_ended(960.0, "a.1/1", StatementEnd::Aborted).fatal(960.0, "a.1", "57P01", None);
            let log = log.ended(960.0, "a.1/1", error("57P01")).eof(960.0, "a.1");
            log.recorded(960.0, "a.1", EndReason::Wall).exit(960.0, code)
        };
        assert!(holds(&flat(3)));
        assert_eq!(flat(0).judge(check).len(), 1);
    }

    #[test]
    fn a_cut_before_any_wall_makes_code_zero_a_lie() {
        let cut = client().begun(71.0, "a.1/1", Query).statement_ended(80.0, "a.1/1", StatementEnd::Aborted);
        let cut = cut.fatal(80.0, "a.1", "57P01", None).ended(80.0, "a.1/1", error("57P01")).eof(80.0, "a.1");
        let cut = cut.recorded(80.0, "a.1", EndReason::Boundary).exit(80.0, 0);
        assert_eq!(
            cut.judge(check),
            [
                "exit code 0, but a.1/1 was cut 20s after the signal, when it had run for 9s: its client read FATAL 57P01"
            ]
        );
    }

    #[test]
    fn a_wall_on_a_session_without_work_may_be_told_either_way() {
        let idle = |code| {
            let log = client().with(|settings| settings.handover_drain_timeout = Duration::from_secs(900));
            log.fatal(960.0, "a.1", "57P01", None)
                .eof(960.0, "a.1")
                .recorded(960.0, "a.1", EndReason::Wall)
                .exit(960.0, code)
        };
        assert!(holds(&idle(0)) && holds(&idle(3)));
        assert!(!holds(&idle(1)));
    }

    #[test]
    fn the_code_after_sigquit_is_131_and_nobody_exits_unasked() {
        let quit = |code| client().quit(75.0).recorded(75.0, "a.1", EndReason::Quit).exit(75.5, code);
        assert!(holds(&quit(131)));
        assert!(!holds(&quit(0)));
        assert!(!holds(&client().quit(75.0).exit(75.0, 0)));
        assert!(holds(&client().goodbye(75.0, "a.1").quit(75.0).exit(75.0, 0)));
        assert!(!holds(&Log::default().exit(80.0, 0)));
        assert!(!holds(&client().goodbye(80.0, "a.1").exit(80.0, 131)));
    }

    #[test]
    fn a_drain_has_a_report_and_nothing_else_has() {
        let none = client().goodbye(80.0, "a.1").event(80.0, Event::PodExited { code: 0, tasks: Vec::new() });
        assert_eq!(none.judge(check), ["no drain report, although there was a drain"]);
        assert_eq!(drained().without(|event| matches!(event, Event::SignalSent { .. })).judge(check).len(), 3);
    }

    #[test]
    fn the_report_names_the_signal_the_policy_and_the_times() {
        let lies: [fn(&mut DrainReport); 5] = [
            |report| report.cause = Cause::Signal(Signal::Int),
            |report| report.policy = DrainPolicy::Flat,
            |report| report.started = Time::EPOCH,
            |report| report.ended = Time::EPOCH,
            |report| report.ended = report.ended + Duration::from_secs(1),
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            assert_eq!(drained().but_reported(lie).judge(check).len(), 1, "lie {number}");
        }
    }

    #[test]
    fn the_totals_of_the_report_agree_with_the_log() {
        let lies: [fn(&mut DrainReport); 6] = [
            |report| report.connections_at_signal = 0,
            |report| report.connections_at_signal = 2,
            |report| report.ended_by.clear(),
            |report| *report.ended_by.entry("wall").or_default() += 1,
            |report| report.refused = 1,
            |report| report.cancels = 1,
        ];
        for (number, lie) in lies.into_iter().enumerate() {
            assert_eq!(drained().but_reported(lie).judge(check).len(), 1, "lie {number}");
        }
        let lie = drained().but_reported(|report| report.ended_by.clear()).judge(check);
        assert_eq!(lie, ["the drain report says ended by boundary: 0, but the log has 1"]);
    }

    #[test]
    fn cancel_requests_are_counted_if_they_were_of_use() {
        let cancelled = |end| {
            let log = client().begun(71.0, "a.1/1", Query).cancel(72.0, "a.1/1").statement_ended(72.0, "a.1/1", end);
            log.ended(72.0, "a.1/1", error("57014")).goodbye(80.0, "a.1").exit(80.0, 0)
        };
        let uncounted = |log: Log| log.but_reported(|report| report.cancels = 0);
        assert!(holds(&cancelled(StatementEnd::Cancelled)));
        assert!(!holds(&uncounted(cancelled(StatementEnd::Cancelled))));
        assert!(holds(&uncounted(cancelled(StatementEnd::Failed("57014".to_owned())))));
    }

    #[test]
    fn connections_without_a_session_may_be_counted() {
        let log = Log::default().session(1.0, "a.1").connecting(2.0, "tcp.1").term(60.0);
        let log = log.eof(70.0, "tcp.1").goodbye(80.0, "a.1").exit(80.0, 0);
        assert!(holds(&log));
        let counted = log.but_reported(|report| {
            report.connections_at_signal = 2;
            report.ended_by.insert("handshake_timeout", 1);
        });
        assert!(holds(&counted));
        assert!(!holds(&counted.but_reported(|report| report.connections_at_signal = 3)));
    }

    #[test]
    fn the_report_names_who_left_last() {
        let two = client().session(71.0, "b.1").goodbye(75.0, "b.1").goodbye(85.0, "a.1").exit(85.0, 0);
        let named = |session, reason| {
            let who = if session == 1 { "a.1" } else { "b.1" }.to_owned();
            let last = Left { session, who, reason, at: Time::from_epoch(Duration::from_secs(85)) };
            two.clone().but_reported(|report| report.last = Some(last)).judge(check).len()
        };
        assert_eq!(named(1, EndReason::Boundary), 0);
        assert_eq!(named(1, EndReason::Wall), 1);
        assert_eq!(named(2, EndReason::Boundary), 1);
    }

    #[test]
    fn a_pod_that_gives_no_signs_of_its_own_is_judged_by_its_exit_code_alone() {
        let lies = |code| {
            let log = Log::default().term(60.0).ready(75.0, true).exit(90.0, code);
            log.but_reported(|report| report.refused = 7)
        };
        assert_eq!((lies(0).judge(check).len(), lies(0).reporting(&[]).judge(check).len()), (2, 0));
        assert_eq!(lies(1).reporting(&[]).judge(check), ["exit code 1 after a drain"]);
    }
}
