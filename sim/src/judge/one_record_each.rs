//! `one-record-each`: every session that began has exactly one end record, with the right reason and times; none is lost
//! short of SIGKILL.
//!
//! A pod that writes no records is not judged by them. Sessions and records meet by `application_name` and by when they began; of several that could be meant, by what they say of
//! their end: first the sessions whose end can be told apart, then those whose client vanished or did not read. Right means: the reason is one that fits what
//! the client saw (the FATAL's SQLSTATE and, where it names a clock, its DETAIL; how the client left), `ended` is when the
//! client saw it, and `executing` is the time in which its worker ran its statements, no less and no more.
//!
//! Three allowances. Where the client left in the very moment in which the drain closed it, both reasons are true. A session
//! whose first ReadyForQuery never reached its client has a record, and no client who knows of it. After SIGKILL the
//! sessions that were alive at that moment have no record; those are the counted losses. SIGQUIT loses none.
//!
//! A record says what the pod could see: where its worker hung or was out of reach, `executing` goes on until the answer has
//! come through; a client that does not read or can't be reached sees its end later, or never; bytes that are no PostgreSQL
//! and the end of the stream behind them are two true reasons; and a FATAL of the worker's own is the worker's end.

use std::collections::BTreeMap;
use std::time::Duration;

use lastcall_core::Time;

use super::{Judged, Violation, apart, words};
use crate::cast::history::{Login, Outcome, RequestKind};
use crate::cast::pod::Report;
use crate::cast::pod::report::{EndReason, EndRecord};
use crate::scenario::model::Promise;
use crate::story::{Connection, Ending, Moment, Request};

/// One violation for each session and each record that breaks it.
pub fn check(run: &Judged) -> Vec<Violation> {
    if !run.has(Report::EndRecords) {
        return Vec::new();
    }
    let mut by_application: BTreeMap<String, Ledger> = BTreeMap::new();
    for connection in run.story.connections.iter().filter(|connection| connection.began.is_some()) {
        by_application.entry(connection.conn.application()).or_default().sessions.push(connection);
    }
    for (moment, record) in &run.story.records {
        by_application.entry(record.application.clone()).or_default().records.push((*moment, record));
    }
    by_application.into_values().flat_map(|ledger| ledger.balance(run)).collect()
}

/// The sessions and the records of one `application_name`.
#[derive(Default)]
struct Ledger<'s, 'a> {
    sessions: Vec<&'s Connection<'a>>,
    records: Vec<(Moment, &'a EndRecord)>,
}

impl Ledger<'_, '_> {
    /// Strikes out what belongs together; what is left over is missing or too much.
    fn balance(mut self, run: &Judged) -> Vec<Violation> {
        let mut broken = Vec::new();
        // Those that agree about the beginning first, the others in their order: one wrong time must not shift all pairs.
        self.sessions.sort_by_key(|session| is_vague(session));
        let slack = run.slack();
        for (tolerance, agrees) in [(slack, true), (slack, false), (Duration::MAX, false)] {
            self.sessions.retain(|session| {
                let began = session.began.expect("only sessions are here").at;
                let fits = |(_, (moment, record)): &(usize, &(Moment, &EndRecord))| {
                    let near = apart(record.began, began) <= tolerance;
                    near && (!agrees || wrong(run, session, *moment, record).is_none())
                };
                let fitting = self.records.iter().enumerate().filter(fits);
                let Some((index, _)) = fitting.min_by_key(|(_, (_, record))| apart(record.began, began)) else {
                    return true;
                };
                let (moment, record) = self.records.remove(index);
                broken.extend(wrong(run, session, moment, record));
                false
            });
        }
        broken.extend(self.sessions.iter().filter_map(|session| missing(run, session)));
        broken.extend(self.records.iter().filter_map(|(moment, record)| excess(run, *moment, record)));
        broken
    }
}

/// Whether many ends would do for what its client saw: it vanished, or did not read.
fn is_vague(session: &Connection) -> bool {
    session.reads_late() || matches!(session.ending(), None | Some((_, Ending::Left("vanish"))))
}

fn violation(what: String, evidence: impl IntoIterator<Item = Moment>) -> Violation {
    Violation::new(Promise::OneRecordEach, what, evidence)
}

/// A session without a record, if it should have one by now.
fn missing(run: &Judged, session: &Connection) -> Option<Violation> {
    let story = &run.story;
    let ended = session.ending().map(|(moment, _)| moment);
    // Of a machine that has vanished or is out of reach the pod may know nothing for as long as it lives.
    let seen = story.visible_end(session).and_then(|(seen, ending)| match ending {
        // What a client leaves running is waited for.
        Ending::Left("close") if leaves_work(run, session) => {
            story.worker_session_of(session).map_or(Some(seen), |over| {
                let told = |over: &Moment| story.last.is_some_and(|last| !story.outages.of_worker(over.at, last.at));
                over.ended.filter(told)
            })
        }
        _ => Some(seen),
    });
    let due = seen.filter(|seen| {
        let heard = story.outages.heard(seen.at, run.slack());
        let over = story.gone().or(story.last).zip(heard);
        over.is_some_and(|(end, heard)| heard + run.slack() < end.at)
    });
    let over = due.or(story.exit.map(|(moment, _)| moment))?;
    let what = format!("the session {} has no end record", session.conn);
    Some(violation(what, session.began.into_iter().chain(ended).chain([over])))
}

/// Whether something that its client had asked for had no answer when it left.
fn leaves_work(run: &Judged, session: &Connection) -> bool {
    let mut requests = run.story.requests_of(session);
    !session.fed.is_empty() || requests.any(|it| it.end().is_none_or(|(_, outcome)| *outcome == Outcome::Lost))
}

/// A record without a session.
fn excess(run: &Judged, moment: Moment, record: &EndRecord) -> Option<Violation> {
    let unseen = run.story.connections.iter().any(|connection| {
        connection.began.is_none()
            && connection.conn.application() == record.application
            && connection.connecting.at <= record.began
            && connection.ending().is_none_or(|(end, _)| record.began <= end.at + run.slack())
    });
    if unseen {
        return None;
    }
    let twin = run.story.records.iter().find(|(other, twin)| *other != moment && twin.session == record.session);
    let what = match twin {
        Some(_) => format!("session {} ({}) has a second end record", record.session, record.application),
        None => format!("session {} ({}) has an end record, but never began", record.session, record.application),
    };
    Some(violation(what, twin.map(|(twin, _)| *twin).into_iter().chain([moment])))
}

/// A record that does not say what happened to its session.
fn wrong(run: &Judged, session: &Connection, moment: Moment, record: &EndRecord) -> Option<Violation> {
    let began = session.began?;
    let mut shown = vec![began, moment];
    // What the client could not be told it learned late.
    let late = record.began <= began.at && run.story.outages.of_client(session.conn, record.began, began.at);
    let what = if apart(record.began, began.at) > run.slack() && !late {
        format!("says that it began {}, but that was {}", run.when(record.began), run.when(began.at))
    } else if let Some((ended, ending)) = session.ending() {
        shown.push(ended);
        if run.story.shot_before(ended) {
            return None;
        }
        if !ended_then(run, session, ended, ending, record) {
            format!("says that it ended {}, but that was {}", run.when(record.ended), run.when(ended.at))
        } else if !fits(run, record, session, (ended, ending)) {
            format!("says {}, but {}", record.reason, seen(ending))
        } else {
            misnamed(run, session, record)
                .or_else(|| miscounted(run, session, record))
                .or_else(|| misbilled(run, session, record))?
        }
    } else if run.story.gone().is_none()
        && session.deaf_at(moment).is_none()
        && run.story.last.is_some_and(|last| {
            let away = run.story.outages.of_client(session.conn, record.ended, last.at);
            last.at > record.ended + run.slack() && !away
        })
    {
        format!("says that it ended {}, but it goes on", run.when(record.ended))
    } else {
        return None;
    };
    Some(violation(format!("the end record of {} {what}", session.conn), shown))
}

/// Whether the record's end is what the client saw. A client that reads slowly, or not at all, sees its FATAL later; and when
/// a machine has vanished, the pod finds out later. What a client leaves running is waited for: its end may be a half-close.
fn ended_then(run: &Judged, session: &Connection, ended: Moment, ending: Ending, record: &EndRecord) -> bool {
    // A process that is stopped sees it when it goes on.
    let heard = run.story.outages.heard(ended.at, run.slack());
    if heard.is_none_or(|heard| heard > ended.at && apart(record.ended, heard) <= run.slack()) {
        return true;
    }
    match ending {
        // What a client had left behind was still waited for.
        Ending::Left(_) if record.reason == EndReason::Quit && quit_then(run, record).is_some_and(|it| it >= ended) => {
            true
        }
        // A machine that nothing reaches gives the connection up by itself.
        Ending::Reset | Ending::Eof if run.story.outages.of_client(session.conn, ended.at, ended.at) => true,
        // Who does not read does not know that it was closed long ago.
        Ending::Left(_) if unseen(run, session, record, ended) => true,
        Ending::Left("vanish") => record.ended + run.slack() >= ended.at,
        Ending::Left("close") => {
            let mut either = runs_on_to(run, session, ended).chain([ended.at]);
            // Of a worker that says nothing it can't be told whether it still works.
            let away = || run.is_far() || run.story.outages.of_worker(ended.at, record.ended);
            let unheard = record.ended >= ended.at && away();
            unheard || either.any(|end| apart(record.ended, end) <= run.slack())
        }
        // Nor does one that is too far away.
        _ if session.reads_late()
            || run.is_hasty()
            || run.story.outages.of_client(session.conn, record.ended, ended.at) =>
        {
            record.ended <= ended.at + run.slack()
        }
        // What was said before is on its way before.
        _ => {
            let under_way = run.transit(record.sent);
            record.ended <= ended.at + run.slack() && ended.at <= record.ended + run.slack() + under_way
        }
    }
}

/// Whether the session can have ended before its client left, who did not read or could not be reached, and so did not know.
fn unseen(run: &Judged, session: &Connection, record: &EndRecord, left: Moment) -> bool {
    let away = || run.story.outages.of_client(session.conn, record.ended, left.at);
    let before = record.ended + run.slack() < left.at && (session.reads_late() || away());
    // Or its goodbye was lost or held on its way.
    before || record.ended >= left.at && run.story.outages.between(session.conn, left.at, record.ended)
}

/// The SIGQUIT, if it came when the record says that the session ended.
fn quit_then(run: &Judged, record: &EndRecord) -> Option<Moment> {
    let heard = |quit: &Moment| run.story.outages.heard(quit.at, run.slack());
    run.story.quit().filter(|quit| heard(quit).is_some_and(|heard| apart(heard, record.ended) <= run.slack()))
}

/// Until when a session's worker executed each statement that its client had left behind. The answer to the first may be
/// what tells the pod that nobody is there.
fn runs_on_to<'r>(run: &'r Judged, session: &'r Connection, left: Moment) -> impl Iterator<Item = Time> + use<'r> {
    let statements = run.story.requests_of(session).flat_map(|request| run.story.statements_of(request));
    let left_behind = statements.filter_map(|statement| statement.end).map(|(end, _)| end);
    left_behind.filter(move |end| *end > left).map(|end| end.at)
}

fn seen(ending: Ending) -> String {
    match ending {
        Ending::Fatal(code) => format!("its client read FATAL {code}"),
        Ending::Left(how) => format!("its client left ({how})"),
        Ending::Eof => "its client read the end of the stream".to_owned(),
        Ending::Reset => "its client was reset".to_owned(),
        Ending::ConnectFailed => "its client could not connect".to_owned(),
    }
}

/// Whether the record's reason fits what the client saw.
fn fits(run: &Judged, record: &EndRecord, session: &Connection, (ended, ending): (Moment, Ending)) -> bool {
    match ending {
        Ending::Fatal(code) => {
            let detail = session.fatals.first().and_then(|fatal| fatal.detail);
            let speaks = |reason: EndReason| reason.sqlstate() == Some(code);
            let names =
                |reason: &EndReason| detail.zip(reason.clock()).is_some_and(|(detail, clock)| detail.contains(clock));
            let named = EndReason::ALL.into_iter().filter(|reason| speaks(*reason)).find(names);
            let dismissed = run.story.dismissed(session, session.connecting.at, record.ended + run.slack());
            let of_worker = dismissed && record.reason == EndReason::WorkerLost;
            of_worker || speaks(record.reason) && named.is_none_or(|named| named == record.reason)
        }
        // Who was closed before it left was not closed by itself; whose goodbye came late or never may have been anything.
        Ending::Left(_) if unseen(run, session, record, ended) => {
            let by_itself = record.reason.by_client() && session.half_closed.is_none();
            // A machine that can't be reached is given up as though it had reset the connection.
            let given_up = record.reason == EndReason::ClientReset
                && run.story.outages.between(session.conn, record.ended, record.ended);
            !by_itself || record.ended >= ended.at || given_up
        }
        // Whichever clock was the first to miss it.
        Ending::Left("vanish") => record.reason != EndReason::Terminate,
        Ending::Left(how) => {
            let by_client = match how {
                // What it has not read is most likely what somebody else told it.
                "disconnect" => {
                    let unread = run.story.notified(session, session.connecting.at, ended.at);
                    record.reason == EndReason::Terminate || unread && record.reason == EndReason::ClientReset
                }
                // Closing a socket with unread bytes resets it.
                _ => matches!(record.reason, EndReason::ClientClosed | EndReason::ClientReset),
            };
            let garbled = session.garbage.is_some() && record.reason == EndReason::Malformed;
            by_client || garbled || closed_in_passing(run, session, record)
        }
        // `clean-goodbye` asks why there was no FATAL. Here: the client did not end it.
        Ending::Eof | Ending::ConnectFailed => session.half_closed.is_some() || !record.reason.by_client(),
        Ending::Reset => true,
    }
}

/// Whether a session can have been closed whose client was just leaving: its FATAL and the client's goodbye crossed.
fn closed_in_passing(run: &Judged, session: &Connection, record: &EndRecord) -> bool {
    let (story, slack) = (&run.story, run.slack());
    let (from, to) = (session.connecting.at, record.ended + slack);
    match record.reason {
        EndReason::Quit => return quit_then(run, record).is_some(),
        EndReason::IdleTimeout => return !run.settings.idle_timeout.is_zero(),
        EndReason::WorkerLost => return story.dismissed(session, from, to) || story.outages.worker_lost(from, to),
        EndReason::WorkerMalformed => return story.garbled(session, from, to),
        _ => {}
    }
    let drains = || run.story.drains.iter();
    if record.reason == EndReason::Wall {
        // It may stand in the lame duck.
        return drains()
            .any(|drain| drain.walls().any(|wall| record.ended + run.resolution + drain.heard_late() >= wall));
    }
    let draining = drains().any(|drain| record.ended >= drain.asked.at + run.settings.lame_duck);
    draining && record.reason.sqlstate() == Some("57P01")
}

/// Whose session it was: its worker was told the same.
fn misnamed(run: &Judged, session: &Connection, record: &EndRecord) -> Option<String> {
    let Login { user, database } = run.story.worker_session_of(session)?.login;
    let Login { user: named, database: of } = &record.login;
    (record.login != Login { user: user.clone(), database: database.clone() }).then(|| {
        format!("says user {named} and database {of}, but its worker was told user {user} and database {database}")
    })
}

/// How the number of statements differs from what the client asked and has read: a batch counts once, and what crossed its end
/// may count or not.
fn miscounted(run: &Judged, session: &Connection, record: &EndRecord) -> Option<String> {
    let requests = || run.story.requests_of(session);
    let alone = |request: &&Request| !matches!(request.kind, RequestKind::Execute | RequestKind::ExecuteInsert);
    let refused = |request: &&Request| run.story.refused_by_fatal(request).is_some();
    let answered = requests().filter(|request| alone(request) && request.complete() && !refused(request)).count();
    // A COPY that fails before it reads has a Sync in front of it and one behind, and both are answered.
    let twice =
        requests().filter(|it| it.kind == RequestKind::Insert && matches!(it.end(), Some((_, Outcome::Error(_)))));
    let asked = requests().count() + session.fed.len() + twice.count();
    let fits = answered as u64 <= record.statements && record.statements <= asked as u64;
    (!fits).then(|| format!("says {} statements, but its client sent {asked} and read {answered}", record.statements))
}

/// How `executing` differs from the time that the worker spent, if it does by more than the paths between them explain. What
/// a worker spends on waiting for its client is the client's.
fn misbilled(run: &Judged, session: &Connection, record: &EndRecord) -> Option<String> {
    let story = &run.story;
    let until = |moment: Option<Moment>| moment.map_or(record.ended, |moment| moment.at.min(record.ended));
    // Each request is a chain of messages of its own, also one that no statement begins for.
    let asked = story.requests_of(session).count() + session.fed.len();
    let (mut worked, mut steps) = (Duration::ZERO, 1 + u32::try_from(asked).unwrap_or(u32::MAX));
    let statements = || story.requests_of(session).flat_map(|request| story.statements_of(request));
    for statement in statements() {
        let end = statement.end.map(|(end, _)| end);
        let waited = statement.waits.iter().map(|wait| until(wait.went_on.or(end)).since(wait.began.at));
        worked += until(end).since(statement.began.at).saturating_sub(waited.sum());
        steps = steps.saturating_add(u32::try_from(statement.waits.len()).unwrap_or(u32::MAX));
    }
    let tolerance = run.slack().saturating_mul(steps);
    // The answer to an Execute stays in its worker's buffer until somebody asks: nobody can know how long it took.
    let application = session.conn.application();
    let unasked: Duration = story
        .batches
        .iter()
        .filter(|batch| batch.application == Some(application.as_str()))
        .map(|batch| {
            // That it was over may have come late.
            let over = until(batch.ended);
            let late = story.outages.of_worker(over, record.ended);
            if late { record.ended } else { over }.since(batch.began.at)
        })
        .sum();
    // The pod sees the end of an answer when all of it has come.
    let blind: Duration = statements().filter_map(|statement| statement.works_unseen(record.ended)).sum();
    let unseen = unasked + blind + run.transit(record.sent);
    // What was on its way for longer than a network takes was executing, as far as the pod could see.
    let late: Duration = story
        .requests_of(session)
        .filter_map(|request| {
            let answered = request.end().filter(|(_, outcome)| **outcome != Outcome::Lost);
            let end = until(answered.map(|(end, _)| end));
            story.outages.of_worker(request.sent.at, end).then(|| end.since(request.sent.at))
        })
        .sum();
    // The same of what is no request.
    let fed = session.fed.iter().filter(|fed| story.outages.of_worker(fed.at, record.ended));
    let late = late + fed.map(|fed| record.ended.since(fed.at)).max().unwrap_or_default();
    let fits = record.executing + tolerance + blind >= worked && record.executing <= worked + unseen + late + tolerance;
    (!fits).then(|| {
        let (billed, worked) = (words(record.executing), words(worked));
        format!("says that its worker executed for {billed}, but that was {worked}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, conn};
    use super::*;
    use crate::cast::history::RequestKind::Query;
    use crate::cast::history::{Event, Fault, StatementEnd};

    fn client() -> Log {
        Log::default().session(1.0, "a.1").term(60.0)
    }

    #[test]
    fn what_a_worker_waited_for_its_client_is_not_billed() {
        let waits = |to: f64, billed: u64| {
            let log = client()
                .begun(70.0, "a.1/1", Query)
                .event(71.0, Event::WorkerWaits { worker_session: 1, for_input: true });
            let log = log.event(to, Event::WorkerGoesOn { worker_session: 1 }).complete(101.0, "a.1/1");
            log.goodbye(101.0, "a.1").but_recorded(|record| record.executing = Duration::from_secs(billed)).judge(check)
        };
        assert_eq!(waits(100.0, 2), [""; 0]);
        assert_eq!(waits(100.0, 31).len(), 1);
        assert_eq!(waits(90.0, 2).len(), 1);
    }

    #[test]
    fn an_answer_of_megabytes_may_be_billed_for_its_way() {
        let billed = |sent: u64| {
            let log = client().begun(70.0, "a.1/1", Query).complete(71.0, "a.1/1").goodbye(75.0, "a.1");
            let log = log.but_recorded(|record| (record.executing, record.sent) = (Duration::from_secs(3), sent));
            log.judge(check).len()
        };
        assert_eq!((billed(20_000_000), billed(2_000_000)), (0, 1));
    }

    #[test]
    fn a_client_that_reads_late_sees_its_end_late_but_never_early() {
        let slow = client().event(62.0, Event::ReadingSlowed { conn: conn("a.1") });
        let told = |log: Log, recorded: u64| {
            let log = log.goodbye(80.0, "a.1");
            log.but_recorded(|record| record.ended = Time::from_epoch(Duration::from_secs(recorded))).judge(check)
        };
        assert_eq!(told(slow.clone(), 70), [""; 0]);
        assert_eq!(told(slow, 90).len(), 1);
        assert_eq!(told(client(), 70).len(), 1);
    }

    #[test]
    fn a_vanished_client_has_its_record_when_somebody_finds_out() {
        let vanished = client().left(70.0, "a.1", "vanish");
        assert_eq!(vanished.clone().recorded(160.0, "a.1", EndReason::ClientReset).judge(check), [""; 0]);
        assert_eq!(vanished.clone().recorded(160.0, "a.1", EndReason::Terminate).judge(check).len(), 1);
        assert_eq!(vanished.exit(161.0, 0).judge(check).len(), 1);
    }

    #[test]
    fn a_machine_that_vanished_and_came_back_at_once_has_two_records_in_either_order() {
        let both = client().left(70.0, "a.1", "vanish").session(70.0, "a.1#2").goodbye(80.0, "a.1#2");
        let began = |log: Log| log.but_recorded(|record| record.began = Time::from_epoch(Duration::from_secs(1)));
        assert_eq!(both.clone().recorded(160.0, "a.1", EndReason::ClientReset).judge(check), [""; 0]);
        let twins = Log::default().session(1.0, "a.1").left(1.0, "a.1", "vanish").session(1.0, "a.1#2").term(60.0);
        let twins = twins.goodbye(80.0, "a.1#2").recorded(91.0, "a.1", EndReason::ClientReset);
        assert_eq!(began(twins.clone()).judge(check), [""; 0]);
        assert_eq!(twins.but_recorded(|record| record.reason = EndReason::Terminate).judge(check).len(), 1);
    }

    #[test]
    fn a_client_that_does_not_read_may_have_a_record_and_not_know_it() {
        let ended = |log: Log| log.recorded(70.0, "a.1", EndReason::Boundary).out_of_time(80.0).judge(check).len();
        assert_eq!(ended(client().event(61.0, Event::ReadingStopped { conn: conn("a.1") })), 0);
        assert_eq!(ended(client()), 1);
    }

    #[test]
    fn garbage_and_the_end_behind_it_are_two_true_reasons() {
        let closed = |log: Log| log.left(70.0, "a.1", "close").recorded(70.0, "a.1", EndReason::Malformed).judge(check);
        assert_eq!(closed(client().event(70.0, Event::GarbageSent { conn: conn("a.1") })), [""; 0]);
        assert_eq!(closed(client()).len(), 1);
    }

    #[test]
    fn an_answer_that_an_outage_held_up_was_executing_as_far_as_the_pod_could_see() {
        let between = || ["pod", "worker"].map(str::to_owned);
        let billed = |outage: bool| {
            let log = client().begun(70.0, "a.1/1", Query);
            let begins = Event::Fault { what: Fault::Partition { between: between() } };
            let log = if outage { log.event(70.5, begins) } else { log };
            let log = log.statement_ended(71.0, "a.1/1", StatementEnd::Complete);
            let log =
                if outage { log.event(90.0, Event::Fault { what: Fault::Heal { between: between() } }) } else { log };
            let log = log.ended(95.0, "a.1/1", crate::cast::history::Outcome::Complete).goodbye(95.0, "a.1");
            log.but_recorded(|record| record.executing = Duration::from_secs(25)).judge(check).len()
        };
        assert_eq!((billed(true), billed(false)), (0, 1));
    }

    #[test]
    fn a_fatal_of_the_workers_own_is_the_workers_end() {
        let told = |log: Log| {
            let log = log.fatal(70.0, "a.1", "57P01", None).eof(70.0, "a.1");
            log.recorded(70.0, "a.1", EndReason::WorkerLost).judge(check).len()
        };
        let terminate = Fault::Terminate { client: "a".to_owned(), stays_open: false };
        assert_eq!(told(client().event(69.9, Event::Fault { what: terminate })), 0);
        assert_eq!(told(client()), 1);
    }

    #[test]
    fn one_record_for_each_session_that_says_what_its_client_saw_holds() {
        let both = client().goodbye(70.0, "a.1").session(71.0, "a.1#2").goodbye(80.0, "a.1#2");
        assert_eq!(both.exit(80.0, 0).judge(check), [""; 0]);
    }

    #[test]
    fn a_session_without_a_record_breaks_it() {
        let silent = client().fatal(70.0, "a.1", "57P01", None).eof(70.0, "a.1");
        assert_eq!(silent.clone().exit(80.0, 0).judge(check), ["the session a.1#1 has no end record"]);
        assert_eq!(client().quit(70.0).eof(70.0, "a.1").exit(70.0, 131).judge(check).len(), 1);
        assert_eq!(client().out_of_time(80.0).judge(check), [""; 0]);
    }

    #[test]
    fn a_sigkill_loses_the_records_of_those_alive_and_no_others() {
        assert_eq!(client().killed(70.0).reset(70.0, "a.1").judge(check), [""; 0]);
        assert_eq!(client().left(65.0, "a.1", "close").killed(70.0).judge(check).len(), 1);
    }

    #[test]
    fn a_second_record_and_one_without_a_session_break_it() {
        let twice = client().goodbye(70.0, "a.1").recorded(70.0, "a.1", EndReason::Boundary);
        assert_eq!(twice.judge(check), ["session 1 (a.1) has a second end record"]);
        let began = |event: &Event| matches!(event, Event::SessionBegan { .. } | Event::Connecting { .. });
        assert_eq!(
            client().recorded(70.0, "a.1", EndReason::Boundary).without(began).judge(check),
            ["session 1 (a.1) has an end record, but never began"]
        );
    }

    #[test]
    fn a_session_that_its_client_never_heard_of_may_have_a_record() {
        let began = |event: &Event| matches!(event, Event::SessionBegan { .. });
        let left = client().left(60.0, "a.1", "close").recorded(60.0, "a.1", EndReason::ClientClosed);
        assert_eq!(left.without(began).judge(check), [""; 0]);
    }

    #[test]
    fn the_reason_fits_the_fatal_and_its_detail() {
        let read = |code, detail, reason| {
            client().fatal(70.0, "a.1", code, detail).eof(70.0, "a.1").recorded(70.0, "a.1", reason).judge(check).len()
        };
        let wall = Some("The drain reached its wall.");
        assert_eq!(read("57P01", None, EndReason::TransactionGrace), 0);
        assert_eq!(read("57P05", None, EndReason::IdleTimeout), 0);
        assert_eq!(read("57P01", wall, EndReason::Wall), 0);
        assert_eq!(read("57P01", wall, EndReason::Boundary), 1);
        assert_eq!(read("57P01", None, EndReason::IdleTimeout), 1);
        assert_eq!(read("57P01", None, EndReason::Terminate), 1);
    }

    #[test]
    fn the_reason_fits_how_the_client_left() {
        let left = |at: f64, how, reason| {
            let log = Log::default().session(1.0, "a.1").left(at, "a.1", how).recorded(at, "a.1", reason);
            log.judge(check)
        };
        assert_eq!(left(50.0, "disconnect", EndReason::Terminate), [""; 0]);
        assert_eq!(left(50.0, "close", EndReason::ClientClosed), [""; 0]);
        assert_eq!(
            left(50.0, "disconnect", EndReason::ClientClosed),
            ["the end record of a.1#1 says client_closed, but its client left (disconnect)"]
        );
        assert_eq!(left(50.0, "close", EndReason::Boundary).len(), 1);
    }

    #[test]
    fn a_client_that_leaves_a_statement_behind_is_recorded_when_that_ends() {
        let recorded = |at: f64| {
            let log = client().begun(70.0, "a.1/1", Query).left(80.0, "a.1", "close");
            let ended = |log: Log| log.statement_ended(380.0, "a.1/1", StatementEnd::Cancelled);
            let recorded = |log: Log| log.recorded(at, "a.1", EndReason::ClientClosed);
            if at < 380.0 { ended(recorded(log)).judge(check) } else { recorded(ended(log)).judge(check) }
        };
        assert_eq!(recorded(380.0), [""; 0]);
        assert_eq!((recorded(200.0).len(), recorded(500.0).len()), (1, 1));
    }

    #[test]
    fn a_client_that_leaves_as_the_drain_closes_it_has_two_true_reasons() {
        let left = |at: f64| client().left(at, "a.1", "disconnect").recorded(at, "a.1", EndReason::Boundary);
        assert_eq!(left(70.0).judge(check), [""; 0]);
        assert_eq!(left(61.0).judge(check).len(), 1);
    }

    #[test]
    fn a_drain_that_was_asked_for_may_close_who_leaves_before_it_is_known_to_have_begun() {
        let left = |at: f64| {
            let log = Log::default().session(1.0, "a.1").event(60.0, Event::DrainAsked { begin: true });
            let log = log.event(61.0, Event::DrainAnswered { begin: true, status: Some(202) });
            log.left(at, "a.1", "reset").recorded(at, "a.1", EndReason::Boundary).judge(check).len()
        };
        assert_eq!((left(65.0), left(64.9)), (0, 1));
    }

    #[test]
    fn a_client_that_leaves_as_sigquit_comes_may_be_recorded_as_either() {
        let left = |reason| client().quit(70.0).left(70.0, "a.1", "disconnect").recorded(70.0, "a.1", reason);
        assert_eq!(left(EndReason::Quit).judge(check), [""; 0]);
        assert_eq!(left(EndReason::Terminate).judge(check), [""; 0]);
    }

    #[test]
    fn the_times_are_those_that_the_client_saw() {
        let early = client().goodbye(70.0, "a.1").but_recorded(|record| record.ended = Time::EPOCH);
        assert_eq!(
            early.judge(check),
            ["the end record of a.1#1 says that it ended 1m before the signal, but that was 10s after the signal"]
        );
        let wrong = client().goodbye(70.0, "a.1").but_recorded(|record| record.began = Time::EPOCH);
        assert_eq!(wrong.judge(check).len(), 1);
        assert_eq!(client().recorded(70.0, "a.1", EndReason::Boundary).out_of_time(80.0).judge(check).len(), 1);
    }

    #[test]
    fn the_worker_time_is_what_the_worker_spent() {
        let worked = client().answered(61.0, 66.0, "a.1/1", Query).goodbye(80.0, "a.1");
        assert_eq!(worked.judge(check), [""; 0]);
        let billed = |secs| {
            worked.clone().but_recorded(|record| record.executing = Duration::from_secs(secs)).judge(check).len()
        };
        assert_eq!((billed(0), billed(5), billed(19)), (1, 0, 1));
    }

    #[test]
    fn a_statement_that_outlives_its_client_is_billed_to_the_end_of_the_session() {
        let left = client().begun(61.0, "a.1/1", Query).left(65.0, "a.1", "close");
        let late = crate::cast::history::StatementEnd::Aborted;
        let left = left.recorded(65.0, "a.1", EndReason::ClientClosed).statement_ended(75.0, "a.1/1", late);
        assert_eq!(left.judge(check), [""; 0]);
    }

    #[test]
    fn a_pod_that_writes_no_records_is_not_judged() {
        let without = client().left(70.0, "a.1", "disconnect").exit(90.0, 0);
        assert_eq!((without.judge(check).len(), without.reporting(&[]).judge(check).len()), (1, 0));
    }

    fn ended_at(log: Log, seconds: u64, reason: EndReason) -> Vec<String> {
        let ended = Time::from_epoch(Duration::from_secs(seconds));
        log.but_recorded(|record| (record.ended, record.reason) = (ended, reason)).judge(check)
    }

    #[test]
    fn who_does_not_read_leaves_a_session_that_was_over_long_before() {
        let deaf = client().event(61.0, Event::ReadingStopped { conn: conn("a.1") });
        let left = |log: Log| log.left(300.0, "a.1", "vanish").recorded(300.0, "a.1", EndReason::ClientReset);
        assert_eq!(ended_at(left(deaf.clone()), 80, EndReason::Boundary), [""; 0]);
        assert_eq!(ended_at(left(deaf), 80, EndReason::ClientReset).len(), 1, "nobody had left then");
        assert_eq!(ended_at(left(client()), 80, EndReason::Boundary).len(), 1, "it read");
    }

    #[test]
    fn a_wall_in_the_lame_duck_crosses_who_leaves_then_and_not_before() {
        let left = |at: f64| {
            let log = client().with(|settings| settings.handover_drain_timeout = Duration::from_secs(2));
            log.left(at, "a.1", "close").recorded(at, "a.1", EndReason::Wall).judge(check).len()
        };
        assert_eq!((left(62.0), left(61.0)), (0, 1));
    }

    #[test]
    fn who_leaves_with_something_unread_resets_its_connection() {
        let left = |client: &str| {
            let what = Fault::Notify { client: client.to_owned(), count: 9, bytes: 9 };
            let log = self::client().event(61.0, Event::Fault { what }).left(62.0, "a.1", "disconnect");
            log.recorded(62.0, "a.1", EndReason::ClientReset).judge(check).len()
        };
        assert_eq!((left("a"), left("b")), (0, 1));
    }

    #[test]
    fn a_record_says_whose_session_it_was_and_how_much_it_asked() {
        let done = || client().answered(62.0, 63.0, "a.1/1", Query).goodbye(80.0, "a.1");
        assert_eq!(done().judge(check), [""; 0]);
        assert_eq!(done().but_recorded(|record| record.login.user.push('x')).judge(check).len(), 1);
        for statements in [0, 2] {
            assert_eq!(done().but_recorded(|record| record.statements = statements).judge(check).len(), 1);
        }
    }

    #[test]
    fn a_goodbye_that_is_held_on_its_way_ends_nothing_yet() {
        let between = ["clients", "pod"].map(str::to_owned);
        let held = client().event(61.0, Event::Fault { what: Fault::Hold { between } });
        let left = |log: Log| log.left(70.0, "a.1", "disconnect").recorded(70.0, "a.1", EndReason::Terminate);
        assert_eq!(ended_at(left(held), 360, EndReason::StallGrace), [""; 0]);
        assert_eq!(ended_at(left(client()), 360, EndReason::StallGrace).len(), 1);
    }

    #[test]
    fn a_process_that_is_stopped_sees_an_end_when_it_goes_on() {
        let stopped = client().event(61.0, Event::Fault { what: Fault::PodStopped }).left(62.0, "a.1", "reset");
        let goes_on = stopped.event(70.0, Event::Fault { what: Fault::PodGoesOn });
        let recorded = goes_on.recorded(70.0, "a.1", EndReason::ClientReset);
        assert_eq!(ended_at(recorded.clone(), 70, EndReason::ClientReset), [""; 0]);
        assert_eq!(ended_at(recorded, 90, EndReason::ClientReset).len(), 1);
    }
}
