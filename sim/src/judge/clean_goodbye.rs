//! `clean-goodbye`: every closed client that was reading got a well-formed FATAL and then EOF, at a message boundary,
//! exactly one.
//!
//! Judged is every connection that its client did not end itself. A FATAL inside another message, a second one, a reset
//! before the EOF, an EOF without a FATAL, and a session that the process forgot (its exit told the client nothing)
//! break it. A reset after FATAL and EOF does not: by then everything has been said. Neither a deploy nor an idle timeout is
//! an administrator's doing: a FATAL for either must have a DETAIL that says so. Its text is PostgreSQL's own, which drivers know. The worker's own, which is passed on, need not.
//!
//! Before the startup packet is complete there is nobody to tell: such a connection may be closed without a word, also when
//! the packet and the end of `session_init_timeout` cross; if it was told something, then properly. A client that does not read, or can't be reached, is owed nothing. After SIGKILL and SIGQUIT
//! nobody is.

use lastcall_core::{Settings, Time};

use super::{Judged, LATE_ONES, Violation};
use crate::scenario::model::Promise;
use crate::story::{Connection, FatalRead, GIVEN_UP, Moment};

/// The SQLSTATEs of an end by the drain, of a refusal by it, and of an idle timeout.
const EXPLAINED: [&str; 3] = ["57P01", "57P03", "57P05"];

/// PostgreSQL's own texts: drivers and pools know a FATAL by them.
pub(super) const TEXTS: [(&str, &str); 4] = [
    ("57P01", "terminating connection due to administrator command"),
    ("57P03", "the database system is shutting down"),
    ("57P05", "terminating connection due to idle-session timeout"),
    ("53300", "sorry, too many clients already"),
];

/// At most one violation for each connection.
pub fn check(run: &Judged) -> Vec<Violation> {
    run.story.connections.iter().filter_map(|connection| goodbye(run, connection)).collect()
}

fn goodbye(run: &Judged, connection: &Connection) -> Option<Violation> {
    let (what, shown) = flaw(run, connection)?;
    let linger = run.settings.close_linger + run.slack();
    // Who reads again when it has been given up finds what is left of the connection.
    let closed = run.story.worker_let_go(connection);
    let given_up = connection.deaf_before(shown).any(|(from, to)| {
        let then =
            |closed: Moment| from.at <= closed.at && to.at + run.slack() >= closed.at + run.settings.close_linger;
        let since = if connection.fatals.is_empty() { closed.or(run.story.gone()) } else { Some(from) };
        since.is_some_and(then)
    });
    // Nor does the wall wait for who reads slowly.
    let walled = connection.reads_late() && run.story.gone().is_some_and(|gone| run.at_wall(gone));
    let stopped = connection.deaf_at(shown).or(run.story.last.and_then(|last| connection.deaf_at(last)));
    let stalled =
        connection.fatals.is_empty() && (run.is_too_slow(connection) || run.story.may_have_stalled(connection, shown));
    let reads = stopped.is_none() && !given_up && !stalled && !run.story.drew_a_reset(connection);
    // Out of reach when it saw its end, or when it was closed: its worker knows when that was.
    // Its own machine may have given the connection up while it did not read, which it sees when it reads again.
    let gave_up = |(from, to): (Moment, Moment)| {
        to.at + run.slack() >= shown.at && run.story.outages.client_away_in(connection.conn, from.at, to.at) >= GIVEN_UP
    };
    let away = run.story.outages.client_away_for(connection.conn, shown.at) >= run.settings.close_linger
        || connection.deaf_before(shown).any(gave_up)
        || closed.is_some_and(|closed| run.story.outages.of_client(connection.conn, closed.at, closed.at + linger))
        // Where it has no worker, or one that has hung, nobody says. But the process has lingered before it exited.
        || run.story.gone().is_some_and(|gone| {
            let from = Time::EPOCH + gone.at.since(Time::EPOCH + linger);
            let unsaid = connection.began.is_none() || run.story.outages.of_worker(from, gone.at);
            unsaid && run.story.outages.between(connection.conn, from, gone.at)
        });
    if run.story.shot_before(shown) || connection.left_before(shown) || !reads || away || walled || run.is_hasty() {
        return None;
    }
    let fatals = connection.fatals.iter().map(|fatal| fatal.moment);
    let evidence: Vec<Moment> = connection.began.into_iter().chain(fatals).chain([shown]).collect();
    let what = format!("{} {what} {}", connection.conn, run.when(shown.at));
    Some(Violation::new(Promise::CleanGoodbye, what, evidence))
}

/// The first thing that is wrong with the end of this connection, and the entry that shows it.
fn flaw(run: &Judged, connection: &Connection) -> Option<(&'static str, Moment)> {
    let told = connection.fatals.first();
    if let Some(fatal) = connection.fatals.iter().find(|fatal| fatal.mid_message) {
        return Some(("read a FATAL inside another message", fatal.moment));
    }
    if let Some(second) = connection.fatals.get(1) {
        return Some(("read a second FATAL", second.moment));
    }
    if let Some(fatal) = told.filter(|fatal| is_unexplained(run, connection, fatal)) {
        return Some(("read a FATAL without a DETAIL", fatal.moment));
    }
    let foreign = |fatal: &&FatalRead| TEXTS.iter().any(|(code, text)| *code == fatal.code && *text != fatal.message);
    if let Some(fatal) = told.filter(foreign) {
        return Some(("read a FATAL with another text than PostgreSQL's", fatal.moment));
    }
    // A late one is told why not as long as the process is there; nobody waits for it.
    let lame_duck_end = run.story.drain().map(|drain| drain.serves_until(run.settings));
    let came = run.story.outages.heard(connection.connecting.at, run.slack());
    let late = lame_duck_end.is_some_and(|end| came.is_none_or(|came| came + run.accepting() >= end));
    let given_up = given_up(run, connection, late);
    let end = connection.reset.or(connection.eof.map(|(eof, _)| eof));
    let in_time = connection.startup.is_some_and(|startup| {
        // What was lost on its way comes when it is sent again.
        let away = end.is_some_and(|end| run.story.outages.of_client(connection.conn, startup.at, end.at));
        let walled =
            connection.began.is_none() && run.story.wall().is_some_and(|wall| startup.at + run.slack() >= wall);
        startup.at + run.slack() < given_up && !away && !walled
    });
    // The last that it did: a process that is stopped then does not go, but has closed its listener all the same.
    let done = run.story.gone().map(|gone| run.story.outages.stopped_at(gone.at).unwrap_or(gone.at));
    let crossed = late && end.zip(done).is_some_and(|(end, done)| end.at + run.slack() + LATE_ONES >= done);
    let owed = in_time && !crossed || connection.began.is_some() || told.is_some();
    match (connection.eof, connection.reset) {
        (None, Some(reset)) if owed => Some(("was reset", reset)),
        (Some((eof, _)), Some(reset)) if owed && reset < eof => Some(("was reset", reset)),
        // Whose worker crashed in the middle of a message can't be told anything.
        (Some((eof, true)), _) if crashed(run, connection, eof) => None,
        // Nor one that waited for the rest of a message while the process stood still.
        (Some((eof, true)), _) if stood_still(run, eof) => None,
        (Some((eof, true)), _) if owed => Some(("read the end of the stream inside a message", eof)),
        // Who has closed its side has said goodbye itself.
        (Some((eof, false)), _) if connection.half_closed.is_some_and(|closed| closed < eof) => None,
        (Some((eof, _)), _) if owed && told.is_none_or(|fatal| fatal.moment > eof) => {
            Some(("read the end of the stream without a FATAL", eof))
        }
        (None, None) if connection.half_closed.is_some() && run.story.exit.is_some() => None,
        (None, None) if owed => unfinished(run, connection),
        _ => None,
    }
}

/// Until when its startup packet must have come: a handshake has its time, which ends with the grace of a drain; who came too
/// late to be a session has that of a goodbye.
fn given_up(run: &Judged, connection: &Connection, late: bool) -> Time {
    let Settings { session_init_timeout, idle_grace, close_linger, .. } = *run.settings;
    let came = connection.connecting.at;
    let drains = run.story.drains.iter().map(|drain| drain.began.at + idle_grace).filter(|over| came < *over);
    let patience = if late { close_linger.min(session_init_timeout) } else { session_init_timeout };
    drains.fold(came + patience, Time::min)
}

/// Whether this FATAL should say why, and does not. What the worker may have said itself is left alone.
fn is_unexplained(run: &Judged, connection: &Connection, fatal: &FatalRead) -> bool {
    let at = fatal.moment.at;
    let of_worker = if fatal.code == "57P03" {
        run.story.worker_refuses_within(connection.connecting.at, at)
    } else {
        run.story.dismissed(connection, connection.connecting.at, at)
    };
    EXPLAINED.contains(&fatal.code) && fatal.detail.is_none_or(str::is_empty) && !of_worker
}

/// Whether this connection's worker crashed or hung, or the rest of what it said was lost on its way.
fn crashed(run: &Judged, connection: &Connection, end: Moment) -> bool {
    let story = &run.story;
    let mut statements = story.requests_of(connection).flat_map(|request| story.statements_of(request));
    story.outages.of_worker(connection.connecting.at, end.at) || statements.any(|it| story.crashed(it))
}

/// Whether the process stood still when it would have waited for the end of a message.
fn stood_still(run: &Judged, end: Moment) -> bool {
    let waits = run.settings.close_linger + run.slack();
    let from = Time::EPOCH + end.at.since(Time::EPOCH + waits);
    !run.story.outages.stopped_since(from, end.at).is_zero()
}

/// A connection whose client never saw its end, although the process is gone or has said that it is closing.
fn unfinished(run: &Judged, connection: &Connection) -> Option<(&'static str, Moment)> {
    let last = run.story.last?;
    if let Some((exit, _)) = run.story.exit {
        return Some(("was still open when the process exited", exit));
    }
    let fatal = connection.fatals.first()?.moment;
    let due = fatal.at + run.settings.close_linger + run.slack();
    (last.at > due).then_some(("read a FATAL, but no end of the stream followed", fatal))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::{Log, conn};
    use super::*;
    use crate::cast::history::{Event, Fault};

    const WHY: Option<&str> = Some("It was time.");

    fn client() -> Log {
        Log::default().session(1.0, "a.1").term(60.0)
    }

    fn told() -> Log {
        client().fatal(80.0, "a.1", "57P01", WHY)
    }

    #[test]
    fn one_fatal_and_then_the_end_of_the_stream_is_a_goodbye() {
        assert_eq!(told().eof(80.0, "a.1").judge(check), [""; 0]);
        assert_eq!(told().eof(80.0, "a.1").reset(85.0, "a.1").judge(check), [""; 0]);
    }

    #[test]
    fn an_end_without_a_fatal_is_none() {
        assert_eq!(
            client().eof(80.0, "a.1").judge(check),
            ["a.1#1 read the end of the stream without a FATAL 20s after the signal"]
        );
    }

    #[test]
    fn a_reset_is_none_with_or_without_a_fatal_before_it() {
        assert_eq!(client().reset(80.0, "a.1").judge(check), ["a.1#1 was reset 20s after the signal"]);
        assert_eq!(told().reset(80.0, "a.1").judge(check).len(), 1);
        assert_eq!(told().reset(80.0, "a.1").eof(80.0, "a.1").judge(check).len(), 1);
    }

    #[test]
    fn a_client_is_owed_a_goodbye_from_its_startup_packet_on() {
        let connecting = Log::default().connecting(59.0, "a.1").term(60.0);
        assert_eq!(connecting.clone().eof(80.0, "a.1").judge(check), [""; 0]);
        let started = connecting.event(60.5, Event::StartupSent { conn: conn("a.1") });
        assert_eq!(started.clone().eof(80.0, "a.1").judge(check).len(), 1);
        let crossed = Log::default().connecting(1.0, "a.1").event(61.0, Event::StartupSent { conn: conn("a.1") });
        assert_eq!(crossed.reset(61.0, "a.1").judge(check), [""; 0]);
        assert_eq!(started.fatal(80.0, "a.1", "57P03", WHY).eof(80.0, "a.1").judge(check), [""; 0]);
    }

    #[test]
    fn who_says_who_it_is_when_the_grace_is_over_has_crossed_its_close() {
        let started = |at| {
            let connecting = Log::default().term(60.0).connecting(89.0, "a.1");
            connecting.event(at, Event::StartupSent { conn: conn("a.1") }).eof(90.1, "a.1").exit(99.0, 0)
        };
        assert_eq!(started(90.0).judge(check), [""; 0]);
        assert_eq!(started(89.5).judge(check).len(), 1);
    }

    #[test]
    fn who_comes_late_and_says_late_who_it_is_has_crossed_its_close_and_so_in_a_drain_that_is_taken_back() {
        let started = |log: Log, came: f64, at: f64| {
            let log = log.connecting(came, "a.1").event(at, Event::StartupSent { conn: conn("a.1") });
            log.eof(at, "a.1").judge(check).len()
        };
        let late = || Log::default().term(60.0);
        assert_eq!((started(late(), 66.0, 71.0), started(late(), 66.0, 70.0)), (0, 1));
        let asked = || Log::default().event(60.0, Event::DrainAsked { begin: true });
        let asked = || asked().event(60.0, Event::DrainAnswered { begin: true, status: Some(202) });
        assert_eq!((started(asked(), 80.0, 90.0), started(asked(), 61.0, 80.0)), (0, 1));
    }

    #[test]
    fn who_did_not_read_when_it_was_closed_has_been_given_up_when_it_reads_again() {
        let reset = |stops: f64, resumes: f64| {
            let log = client().event(stops, Event::ReadingStopped { conn: conn("a.1") });
            let log = log.event(81.0, Event::WorkerSessionEnded { worker_session: 1 });
            log.event(resumes, Event::ReadingResumed { conn: conn("a.1") }).reset(resumes, "a.1").judge(check).len()
        };
        assert_eq!((reset(70.0, 180.0), reset(70.0, 84.0)), (0, 1));
    }

    #[test]
    fn who_did_not_read_sees_later_that_its_own_machine_has_given_the_connection_up() {
        let partition = || Fault::Partition { between: ["clients".to_owned(), "pod".to_owned()] };
        let heal = || Fault::Heal { between: ["clients".to_owned(), "pod".to_owned()] };
        let reset = |heals: f64| {
            let log = Log::default().session(1.0, "a.1").event(2.0, Event::ReadingStopped { conn: conn("a.1") });
            let log = log.event(3.0, Event::Fault { what: partition() }).event(heals, Event::Fault { what: heal() });
            log.event(150.0, Event::ReadingResumed { conn: conn("a.1") }).reset(150.0, "a.1").judge(check).len()
        };
        assert_eq!((reset(93.0), reset(90.0)), (0, 1));
    }

    #[test]
    fn who_did_not_read_for_a_stall_grace_in_a_drain_may_have_been_given_up_whatever_its_worker_says() {
        let reset = |resumes: f64| {
            let log = client().event(60.0, Event::ReadingStopped { conn: conn("a.1") });
            log.event(resumes, Event::ReadingResumed { conn: conn("a.1") }).reset(resumes, "a.1").judge(check).len()
        };
        assert_eq!((reset(360.0), reset(359.0)), (0, 1));
    }

    #[test]
    fn who_has_closed_its_side_is_owed_no_goodbye_by_a_process_that_exits() {
        let half = client().event(80.0, Event::HalfClosed { conn: conn("a.1") });
        assert_eq!(half.exit(80.1, 0).judge(check), [""; 0]);
        assert_eq!(client().exit(80.1, 0).judge(check).len(), 1);
    }

    #[test]
    fn what_a_client_sends_to_a_process_that_is_gone_destroys_what_it_has_not_read() {
        let reset = |before: Log| {
            let sent = before.exit(100.0, 0).sent(180.0, "a.1/1", crate::cast::history::RequestKind::Query);
            sent.reset(180.1, "a.1").judge(check).len()
        };
        let slow = client().event(70.0, Event::ReadingSlowed { conn: conn("a.1") });
        assert_eq!((reset(slow), reset(client())), (0, 1));
    }

    #[test]
    fn who_reads_slowly_may_seem_to_read_nothing_for_a_short_stall_grace() {
        let reset = |stall_grace: Duration| {
            let log = client().with(|settings| settings.stall_grace = stall_grace);
            let slow = log.event(61.0, Event::ReadingSlowed { conn: conn("a.1") });
            slow.reset(80.0, "a.1").judge(check).len()
        };
        assert_eq!((reset(Duration::from_secs(10)), reset(Duration::from_secs(120))), (0, 1));
    }

    #[test]
    fn a_client_that_does_not_read_is_owed_nothing() {
        let deaf = client().event(70.0, Event::ReadingStopped { conn: conn("a.1") });
        assert_eq!(deaf.clone().exit(100.0, 0).judge(check), [""; 0]);
        let reads = deaf.event(75.0, Event::ReadingResumed { conn: conn("a.1") });
        assert_eq!(reads.exit(100.0, 0).judge(check).len(), 1);
    }

    #[test]
    fn a_client_that_is_out_of_reach_is_owed_nothing() {
        let between = ["a", "pod"].map(str::to_owned);
        let away = client().event(70.0, Event::Fault { what: Fault::Partition { between } });
        assert_eq!(away.clone().exit(75.0, 0).judge(check), [""; 0]);
        assert_eq!(away.exit(74.0, 0).judge(check).len(), 1);
    }

    #[test]
    fn a_client_that_has_closed_its_side_needs_no_fatal() {
        let closed = client().event(70.0, Event::HalfClosed { conn: conn("a.1") });
        assert_eq!(closed.clone().eof(80.0, "a.1").judge(check), [""; 0]);
        assert_eq!(closed.reset(80.0, "a.1").judge(check).len(), 1);
    }

    #[test]
    fn a_fatal_of_a_drain_or_a_clock_says_why() {
        let told = |code, why| client().fatal(80.0, "a.1", code, why).eof(80.0, "a.1").judge(check);
        for code in EXPLAINED {
            assert_eq!(told(code, WHY), [""; 0]);
            assert_eq!(told(code, None), ["a.1#1 read a FATAL without a DETAIL 20s after the signal"]);
            assert_eq!(told(code, Some("")).len(), 1);
        }
        assert_eq!(told("08006", None), [""; 0]);
    }

    #[test]
    fn a_fatal_of_the_workers_own_need_not_say_why() {
        let told = |what: Fault, code| {
            client()
                .event(79.0, Event::Fault { what })
                .fatal(80.0, "a.1", code, None)
                .eof(80.0, "a.1")
                .judge(check)
                .len()
        };
        let terminate = |client: &str| Fault::Terminate { client: client.to_owned(), stays_open: false };
        assert_eq!(told(terminate("a"), "57P01"), 0);
        assert_eq!(told(terminate("b"), "57P01"), 1);
        assert_eq!(told(Fault::WorkerShutdown, "57P01"), 0);
        assert_eq!(told(Fault::WorkerDrain, "57P03"), 0);
        assert_eq!(told(Fault::WorkerDrain, "57P01"), 1);
    }

    #[test]
    fn the_wall_does_not_wait_for_who_reads_slowly() {
        let reset = |wall: u64| {
            let log = client().with(|settings| settings.handover_drain_timeout = Duration::from_secs(wall));
            let slow = log.event(61.0, Event::ReadingSlowed { conn: conn("a.1") });
            slow.exit(75.0, 3).reset(160.0, "a.1").judge(check).len()
        };
        assert_eq!((reset(1), reset(900)), (0, 1));
    }

    #[test]
    fn a_fatal_has_postgresqls_own_text() {
        let told = |code: &str, message: &str| {
            let (conn, code, message) = (conn("a.1"), code.to_owned(), message.to_owned());
            let detail = WHY.map(str::to_owned);
            let log = client().event(80.0, Event::FatalRead { conn, code, message, detail, mid_message: false });
            log.eof(80.0, "a.1").judge(check).len()
        };
        for (code, text) in TEXTS {
            assert_eq!((told(code, text), told(code, "the server is being deployed")), (0, 1), "{code}");
        }
        assert_eq!(told("08006", "the connection to the worker was lost"), 0);
    }

    #[test]
    fn two_fatals_are_one_too_many() {
        assert_eq!(told().fatal(80.0, "a.1", "57P01", WHY).eof(80.0, "a.1").judge(check).len(), 1);
    }

    #[test]
    fn a_fatal_or_an_end_inside_a_message_is_not_well_formed() {
        let inside = |event: fn(bool) -> Event| client().event(80.0, event(true)).eof(80.0, "a.1").judge(check);
        let fatal = |mid_message| Event::FatalRead {
            conn: conn("a.1"),
            code: "57P01".to_owned(),
            message: String::new(),
            detail: None,
            mid_message,
        };
        assert_eq!(inside(fatal), ["a.1#1 read a FATAL inside another message 20s after the signal"]);
        let eof = Event::EofRead { conn: conn("a.1"), mid_message: true };
        assert_eq!(told().event(80.0, eof).judge(check).len(), 1);
    }

    #[test]
    fn an_end_must_follow_its_fatal_within_the_linger() {
        assert_eq!(told().out_of_time(84.0).judge(check), [""; 0]);
        assert_eq!(told().out_of_time(86.0).judge(check).len(), 1);
    }

    #[test]
    fn a_session_that_the_exit_forgot_breaks_it() {
        let forgotten = client().exit(80.0, 0).judge(check);
        assert_eq!(forgotten, ["a.1#1 was still open when the process exited 20s after the signal"]);
    }

    #[test]
    fn a_client_that_leaves_is_owed_nothing() {
        assert_eq!(client().left(70.0, "a.1", "disconnect").eof(70.0, "a.1").judge(check), [""; 0]);
        assert_eq!(client().left(70.0, "a.1", "close").exit(80.0, 0).judge(check), [""; 0]);
    }

    #[test]
    fn before_startup_there_is_nobody_to_tell() {
        let silent = Log::default().connecting(1.0, "tcp.1").term(60.0);
        assert_eq!(silent.clone().eof(80.0, "tcp.1").judge(check), [""; 0]);
        assert_eq!(silent.clone().reset(80.0, "tcp.1").judge(check), [""; 0]);
        assert_eq!(silent.fatal(80.0, "tcp.1", "57P03", WHY).reset(80.0, "tcp.1").judge(check).len(), 1);
    }

    #[test]
    fn a_pod_that_was_shot_says_nothing() {
        assert_eq!(client().killed(70.0).reset(70.0, "a.1").judge(check), [""; 0]);
        assert_eq!(client().quit(70.0).eof(70.0, "a.1").judge(check), [""; 0]);
    }
}
