//! `bounded-exit`: the process exited within the contract's bound.
//!
//! The sum is the contract's ([`lastcall_core::bound`]); what happened is taken from the log. How it is read here:
//!
//! - **L**, the last instant at which a worker was executing or a statement's bytes moved, is in [`moves`].
//! - **Somebody queued for a worker** if a session that was let in had none when the grace was over.
//! - **No exit at all** breaks the promise, whether the kubelet's SIGKILL or the end of the run came first. Not so if a
//!   statement that counts was still running and no wall was due: then the pod rightly waited. Nor if the SIGKILL or
//!   the end of the run came before the bound: the pod was not given the time.
//! - **SIGQUIT**: at once.
//! - **Nobody there**: a drain is over as soon as it is, so the process is gone when everybody is who can have been there.
//! - **A SIGKILL** of a process that knew when it comes breaks it, `teardown_budget` is there for that.
//!
//! A pod that exits too early breaks other promises, not this one.

mod moves;

use std::cmp::Ordering;
use std::time::Duration;

use lastcall_core::{DrainPolicy, Progress, Settings, Term, Time};

use self::moves::LastMove;
use super::{Judged, Violation, words};
use crate::scenario::model::Promise;
use crate::story::{Connection, Drain, Moment};

/// At most one violation.
pub fn check(run: &Judged) -> Vec<Violation> {
    let story = &run.story;
    let (Some(told), Some(bound)) = (story.told(), bound(run)) else {
        return Vec::new();
    };
    let (what, shown) = match story.exit {
        Some((exit, _)) if exit.at <= bound.at => return idles_on(run, exit).into_iter().collect(),
        Some((exit, _)) => {
            (format!("exited {}, but the bound was {} ({})", run.when(exit.at), run.when(bound.at), bound.why), exit)
        }
        None => {
            let end = story.killed.or(story.last).unwrap_or(told);
            let in_time = end.at <= bound.at && !expected(run, end);
            if in_time || bound.waits && moves::still_executing(run, end) {
                return Vec::new();
            }
            let how = if story.killed.is_some() { "was SIGKILLed" } else { "was still there when the run was stopped" };
            (format!("{how} {}, but the bound was {} ({})", run.when(end.at), run.when(bound.at), bound.why), end)
        }
    };
    let evidence = [Some(told), bound.shown, Some(shown)];
    vec![Violation::new(Promise::BoundedExit, what, evidence.into_iter().flatten())]
}

/// Whether this is a SIGKILL that the process knew of, and had `teardown_budget` to be gone before.
fn expected(run: &Judged, end: Moment) -> bool {
    let (story, rules) = (&run.story, run.settings);
    let grace = rules.termination_grace.filter(|grace| *grace <= run.termination_grace);
    let comes = story.signal().zip(grace).map(|(signal, grace)| signal.at + grace);
    let kubelets = story.killed == Some(end) && comes.is_some_and(|comes| end.at >= comes);
    let stood_still = !story.outages.stopped_since(Time::EPOCH, end.at).is_zero();
    let aware = rules.drain_policy == DrainPolicy::IdleAware;
    kubelets && aware && !stood_still && rules.teardown_budget > rules.close_linger + run.slack() * 2
}

/// When the process has to be gone; none if it was never told to go.
pub fn bound(run: &Judged) -> Option<Bound> {
    let story = &run.story;
    let bounds =
        [story.quit().map(|quit| Bound::of_quit(run, quit)), story.signal().map(|signal| Bound::of_drain(run, signal))];
    bounds.into_iter().flatten().min_by_key(|bound| bound.at)
}

/// When the process has to be gone, and why then.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The time.
    pub at: Time,
    /// The terms of the sum, for people.
    pub why: String,
    /// The entry that sets it, if there is one.
    shown: Option<Moment>,
    /// Whether it may be late as long as a worker is executing.
    waits: bool,
}

impl Bound {
    fn of_quit(run: &Judged, quit: Moment) -> Bound {
        let at = quit.at + may_be_late(run, quit);
        Bound { at, why: "SIGQUIT: at once".to_owned(), shown: Some(quit), waits: false }
    }

    fn of_drain(run: &Judged, signal: Moment) -> Bound {
        let rules = run.settings;
        let moved = moves::last(run, signal);
        let queued = queued(run, signal);
        let progress = Progress {
            signal: signal.at,
            moved: moved.map(|last| last.moment.at),
            queued: queued.is_some(),
            wall: run.story.certain_wall(),
        };
        let bound = progress.bound(rules);
        let linger = format!("close_linger {}, flush", words(rules.close_linger));
        let (why, shown) = match bound.term {
            Term::IdleGrace => (format!("idle_grace {}, {linger}", words(rules.idle_grace)), None),
            Term::WorkerQueue => {
                let Settings { lame_duck, worker_queue_timeout, .. } = *rules;
                let (wait, lame_duck) = (words(worker_queue_timeout), words(lame_duck));
                let who = queued.map_or(String::new(), |(who, _)| run.story.name_of(who));
                let why =
                    format!("{who} had no worker yet; lame_duck {lame_duck}, worker_queue_timeout {wait}, {linger}");
                (why, queued.map(|(_, startup)| startup))
            }
            Term::LastMove => {
                let why = moved.map_or(String::new(), |last| last_move(run, &last));
                (format!("{why}; from there {}, {linger}", longest_clock(rules)), moved.map(|last| last.moment))
            }
            Term::Wall => {
                let budget = words(rules.teardown_budget);
                let wall = run.story.drain().and_then(Drain::certain_wall);
                let wall = wall.map_or(String::new(), |(at, why)| format!("{}, set by {}", run.when(at), why.name()));
                (format!("a wall {wall}; teardown_budget {budget}"), None)
            }
        };
        // A slow client's machine is looked at now and then: what it has taken is known as much later.
        let seldom = |last: &LastMove| last.connection.reads_late() || last.what == moves::CUT_OFF;
        let looks = moved.filter(seldom).map_or(Duration::ZERO, |_| between_looks(rules));
        let at = bound.at + may_be_late(run, signal) + late_ones(run, signal) + under_way(run) + looks;
        Bound { at, why, shown, waits: progress.wall.is_none() }
    }
}

/// What a stall clock is exact to.
fn between_looks(rules: &Settings) -> Duration {
    (rules.stall_grace / 256).clamp(Duration::from_millis(1), Duration::from_millis(250))
}

/// Whose the last move was, when, and what it was.
fn last_move(run: &Judged, last: &LastMove) -> String {
    let (who, when) = (run.story.name_of(last.connection), run.when(last.moment.at));
    let who = match last.others {
        0 => format!("the last move was that of {who}"),
        1 => format!("the last moves were those of {who} and one other"),
        others => format!("the last moves were those of {who} and {others} others"),
    };
    format!("{who}, {when}, when {}", last.what)
}

/// The longest clock that can run behind it.
fn longest_clock(rules: &Settings) -> String {
    let (transaction, stall) = (rules.transaction_grace, rules.stall_grace);
    match transaction.cmp(&stall) {
        Ordering::Greater => format!("transaction_grace {}", words(transaction)),
        Ordering::Less => format!("stall_grace {}", words(stall)),
        Ordering::Equal => format!("transaction_grace or stall_grace {}", words(stall)),
    }
}

/// How much later than its bound a process that was told so may be gone: one that is stopped can't do anything in time.
fn may_be_late(run: &Judged, told: Moment) -> Duration {
    run.slack() + run.story.outages.stopped_since(told.at, run.story.last.unwrap_or(told).at)
}

/// How long a worker's last answer may be on its way where its rate is limited: it moves all that time.
fn under_way(run: &Judged) -> Duration {
    let longest = run.story.records.iter().map(|(_, record)| run.transit(record.sent)).max();
    longest.filter(|_| run.story.is_rate_limited()).unwrap_or_default()
}

/// How much longer the process may be there for those who came too late, if there were some.
fn late_ones(run: &Judged, signal: Moment) -> Duration {
    let over = signal.at + run.settings.lame_duck;
    let late = run.story.connections.iter().any(|connection| connection.connecting.at + run.slack() >= over);
    if late { super::LATE_ONES } else { Duration::ZERO }
}

/// The violation, if the process stayed although the lame duck was over and nobody there.
fn idles_on(run: &Judged, exit: Moment) -> Option<Violation> {
    let signal = run.story.signal().filter(|signal| *signal < exit)?;
    let emptied = emptied(run, signal)?;
    let late = may_be_late(run, signal) + late_ones(run, signal) + under_way(run) + between_looks(run.settings);
    let what = || {
        let [exited, emptied] = [exit.at, emptied].map(|at| run.when(at));
        format!("exited {exited}, but the lame duck was over and nobody was there from {emptied} on")
    };
    (exit.at > emptied + late).then(|| Violation::new(Promise::BoundedExit, what(), [signal, exit]))
}

/// When the lame duck was over and the last one gone who can have been there; none if that can't be said.
fn emptied(run: &Judged, signal: Moment) -> Option<Time> {
    let story = &run.story;
    let mut last = signal.at + run.settings.lame_duck;
    for connection in story.connections.iter().filter(|it| it.failed.is_none()) {
        // Of who leaves before it has its session nobody says what it had begun.
        let known = connection.began.is_some() || connection.left.is_none();
        last = last.max(run.there_until(connection).filter(|_| known)?);
    }
    let cancels = story.requests.iter().flat_map(|request| &request.cancels);
    let served = cancels.map(|cancel| cancel.at + super::CANCEL_PATIENCE + run.settings.close_linger);
    Some(served.fold(last, Time::max))
}

/// A session that was let in and had no worker when the grace was over, and its startup packet.
fn queued<'r>(run: &'r Judged, signal: Moment) -> Option<(&'r Connection<'r>, Moment)> {
    let Settings { lame_duck, idle_grace, .. } = *run.settings;
    let story = &run.story;
    let grace_over = signal.at + idle_grace;
    story.connections.iter().find_map(|connection| {
        let startup = connection.startup.filter(|startup| startup.at <= signal.at + lame_duck + run.slack())?;
        let application = connection.conn.application();
        let taken = story.worker_sessions.values().any(|session| {
            session.application == application && session.began > startup && session.began.at + run.slack() < grace_over
        });
        let left = connection.ending().is_some_and(|(end, _)| end.at < grace_over);
        (!taken && !left).then_some((connection, startup))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Log, conn};
    use super::*;
    use crate::cast::history::RequestKind::{Begin, Commit, Query};
    use crate::cast::history::{Event, Fault, Outcome, StatementEnd};

    fn idle() -> Log {
        Log::default().session(1.0, "idle.1").answered(2.0, 3.0, "idle.1/1", Query).term(60.0)
    }

    fn holds(log: &Log) -> bool {
        log.judge(check).is_empty()
    }

    #[test]
    fn a_batch_without_its_sync_has_a_clock_from_the_signal_on() {
        let began = Log::default().session(1.0, "etl.1").event(50.0, Event::BatchBegan { worker_session: 1 });
        assert!(holds(&began.clone().term(60.0).exit(364.0, 0)));
        assert!(!holds(&began.clone().term(60.0).exit(366.0, 0)));
        let synced = began.event(51.0, Event::BatchSynced { worker_session: 1 });
        assert!(!holds(&synced.term(60.0).exit(364.0, 0)));
    }

    #[test]
    fn a_drain_is_over_when_the_lame_duck_is_and_nobody_is_there() {
        assert!(holds(&Log::default().term(60.0).exit(65.1, 0)));
        assert!(!holds(&Log::default().term(60.0).exit(65.4, 0)));
        let left = |at: f64| holds(&idle().left(70.0, "idle.1", "disconnect").goodbye(70.0, "idle.1").exit(at, 0));
        assert_eq!((left(75.0), left(75.4)), (true, false));
        // What somebody runs who is gone is cancelled, and not waited for.
        let gone = |how| {
            let log = Log::default().session(1.0, "etl.1").begun(5.0, "etl.1/1", Query).term(60.0);
            holds(
                &log.left(70.0, "etl.1", how).statement_ended(300.0, "etl.1/1", StatementEnd::Complete).exit(300.1, 0),
            )
        };
        assert_eq!((gone("reset"), gone("close")), (false, true));
        // Nobody knows whether it is still there.
        assert!(holds(&idle().left(70.0, "idle.1", "vanish").exit(94.0, 0)));
    }

    #[test]
    fn a_sigkill_that_the_pod_knew_of_breaks_it() {
        let killed = |known: bool| {
            let log = Log::default().session(1.0, "etl.1").begun(5.0, "etl.1/1", Query);
            let log =
                if known { log.with(|rules| rules.termination_grace = Some(Duration::from_secs(30))) } else { log };
            holds(&log.term(60.0).killed(90.0))
        };
        assert_eq!((killed(true), killed(false)), (false, true));
    }

    #[test]
    fn a_pod_of_idle_clients_is_gone_after_idle_grace_and_linger() {
        assert!(holds(&idle().goodbye(90.0, "idle.1").exit(95.0, 0)));
        let late = idle().goodbye(90.0, "idle.1").exit(95.2, 0).judge(check);
        assert_eq!(
            late,
            ["exited 35s 200ms after the signal, but the bound was 35s 108ms after the signal (idle_grace 30s, \
              close_linger 5s, flush)"]
        );
    }

    #[test]
    fn a_pod_that_idle_clients_hold_to_its_sigkill_breaks_it() {
        assert_eq!(idle().killed(86_460.0).run(|run| check(run)[0].evidence.clone()), [8, 9]);
        assert!(!holds(&idle().out_of_time(86_460.0)));
    }

    #[test]
    fn a_statement_moves_the_bound_to_its_end_and_a_clock() {
        let worked = |end: f64| Log::default().session(1.0, "a.1").answered(5.0, end, "a.1/1", Query);
        let drained = |exit| worked(50.0).term(60.0).goodbye(61.0, "a.1").exit(exit, 0);
        assert!(!holds(&drained(96.0)));
        let running = |exit| {
            let log = Log::default().session(1.0, "a.1").begun(5.0, "a.1/1", Query).term(60.0);
            log.complete(1_000.0, "a.1/1").goodbye(1_300.0, "a.1").exit(exit, 0)
        };
        assert!(holds(&running(1_305.0)));
        assert!(!holds(&running(1_306.0)));
    }

    #[test]
    fn a_slow_client_is_looked_at_four_times_a_second() {
        let exit = |slow: bool, at: f64| {
            let log = Log::default().session(1.0, "a.1");
            let log = if slow { log.event(2.0, Event::ReadingSlowed { conn: conn("a.1") }) } else { log };
            holds(&log.begun(5.0, "a.1/1", Query).term(60.0).complete(100.0, "a.1/1").goodbye(400.0, "a.1").exit(at, 0))
        };
        assert_eq!([exit(true, 405.3), exit(true, 405.4), exit(false, 405.3)], [true, false, false]);
    }

    #[test]
    fn what_a_replication_has_streamed_is_waited_for_until_a_slow_client_has_it() {
        let streamed = |slow: bool| {
            let log = Log::default().session(1.0, "a.1").event(50.0, Event::Replicates { conn: conn("a.1") });
            let log = if slow { log.event(50.0, Event::ReadingSlowed { conn: conn("a.1") }) } else { log };
            log.term(60.0).goodbye(200.0, "a.1").exit(205.0, 0)
        };
        assert!(holds(&streamed(true)));
        assert!(!holds(&streamed(false)));
    }

    #[test]
    fn who_left_as_the_network_broke_may_not_have_acknowledged_its_last_answer() {
        let broke = |at: f64| {
            let left =
                Log::default().session(1.0, "a.1").answered(50.0, 50.0, "a.1/1", Query).left(50.0, "a.1", "reset");
            let what = Fault::Partition { between: ["a".to_owned(), "pod".to_owned()] };
            holds(&left.event(at, Event::Fault { what }).term(60.0).exit(364.0, 0))
        };
        assert_eq!((broke(50.0), broke(51.0)), (true, false));
    }

    #[test]
    fn a_commit_that_was_skipped_behind_an_error_ends_no_transaction() {
        let committed = |outcome: Outcome| {
            let begun = Log::default().session(1.0, "a.1").answered(2.0, 2.1, "a.1/1", Begin);
            let log = begun.sent(3.0, "a.1/2", Commit).ended(3.1, "a.1/2", outcome);
            log.term(60.0).goodbye(360.0, "a.1").exit(361.0, 0)
        };
        assert!(holds(&committed(Outcome::Error("57014".to_owned()))));
        assert!(!holds(&committed(Outcome::Complete)));
    }

    #[test]
    fn what_waits_for_its_client_excuses_no_pod_that_does_not_exit() {
        let waiting = Log::default().session(1.0, "a.1").begun(50.0, "a.1/1", Query).term(60.0);
        let waiting = waiting.event(100.0, Event::WorkerWaits { worker_session: 1, for_input: true });
        assert!(!holds(&waiting.clone().killed(86_460.0)));
        assert!(holds(&waiting.event(101.0, Event::WorkerGoesOn { worker_session: 1 }).killed(86_460.0)));
    }

    #[test]
    fn what_waits_for_its_client_moves_the_bound_no_further_than_its_last_byte() {
        let waiting = Log::default().session(1.0, "a.1").begun(50.0, "a.1/1", Query).term(60.0);
        let waiting = waiting.event(100.0, Event::WorkerWaits { worker_session: 1, for_input: true });
        assert!(holds(&waiting.clone().exit(404.0, 0)));
        assert!(!holds(&waiting.clone().exit(406.0, 0)));
        let moved = waiting.event(200.0, Event::WorkerGoesOn { worker_session: 1 });
        assert!(holds(
            &moved.clone().event(200.0, Event::WorkerWaits { worker_session: 1, for_input: true }).exit(504.0, 0)
        ));
        let ended = moved.statement_ended(300.0, "a.1/1", crate::cast::history::StatementEnd::Complete);
        assert!(holds(&ended.exit(604.0, 0)));
    }

    #[test]
    fn a_bound_says_whose_the_last_move_was_and_which_clock_runs_behind_it() {
        let log = Log::default().session(1.0, "etl.1").session(1.0, "web.1").session(1.0, "web.2").term(60.0);
        let log = log.answered(61.0, 62.0, "web.1/1", Query).answered(63.0, 70.0, "etl.1/1", Query);
        let why = |log: &Log| log.run(|run| bound(run).map(|bound| bound.why));
        let of_etl = "the last move was that of etl, 10s after the signal, when it had its answer; from there";
        let rest = "close_linger 5s, flush";
        assert_eq!(why(&log), Some(format!("{of_etl} transaction_grace or stall_grace 5m, {rest}")));
        let hasty = log.clone().with(|settings| settings.stall_grace = Duration::from_secs(20));
        assert_eq!(why(&hasty), Some(format!("{of_etl} transaction_grace 5m, {rest}")));
        let both = log.answered(70.0, 70.0, "web.2/1", Query);
        let of_both = "the last moves were those of web.2 and one other, 10s after the signal, when it had its answer";
        assert_eq!(why(&both), Some(format!("{of_both}; from there transaction_grace or stall_grace 5m, {rest}")));
    }

    #[test]
    fn a_reader_that_stops_moves_the_bound_to_where_it_stopped() {
        let stopped = Log::default().session(1.0, "a.1").begun(50.0, "a.1/1", Query).term(60.0);
        let stopped = stopped.statement_ended(61.0, "a.1/1", crate::cast::history::StatementEnd::Complete);
        let stopped = stopped.event(500.0, Event::ReadingStopped { conn: conn("a.1") });
        assert!(holds(&stopped.clone().exit(804.0, 0)));
        assert!(!holds(&stopped.exit(806.0, 0)));
    }

    #[test]
    fn a_session_that_was_let_in_may_wait_for_its_worker() {
        let waiting = Log::default().term(60.0).connecting(62.0, "a.1");
        let waiting = waiting.event(62.0, Event::StartupSent { conn: conn("a.1") });
        assert!(holds(&waiting.clone().exit(129.0, 0)));
        assert!(!holds(&waiting.exit(131.0, 0)));
        let late = Log::default().term(60.0).connecting(67.0, "a.1");
        assert!(!holds(&late.event(67.0, Event::StartupSent { conn: conn("a.1") }).exit(129.0, 0)));
    }

    #[test]
    fn a_transaction_that_is_open_at_the_signal_may_use_its_clock() {
        let open =
            |exit| Log::default().session(1.0, "a.1").answered(5.0, 6.0, "a.1/1", Begin).term(60.0).exit(exit, 0);
        assert!(holds(&open(364.0)));
        assert!(!holds(&open(366.0)));
        let closed = Log::default().session(1.0, "a.1").answered(5.0, 6.0, "a.1/1", Begin);
        assert!(!holds(&closed.answered(7.0, 8.0, "a.1/2", Commit).term(60.0).exit(364.0, 0)));
    }

    #[test]
    fn a_running_statement_excuses_a_pod_that_does_not_exit_and_a_hot_client_does_not() {
        let running = Log::default().session(1.0, "a.1").begun(5.0, "a.1/1", Query).term(60.0);
        assert!(holds(&running.clone().killed(86_460.0)));
        assert!(holds(&running.out_of_time(86_460.0)));
        let hot = Log::default().session(1.0, "a.1").term(60.0).begun(91.0, "a.1/1", Query);
        assert!(!holds(&hot.clone().killed(86_460.0)));
        assert!(!holds(&hot.complete(86_000.0, "a.1/1").exit(86_001.0, 0)));
    }

    #[test]
    fn work_in_a_transaction_counts_even_when_it_is_sent_after_the_last_due_time() {
        let log = Log::default().session(1.0, "a.1").term(60.0).answered(70.0, 71.0, "a.1/1", Begin);
        let log = log.answered(300.0, 400.0, "a.1/2", Query).answered(401.0, 402.0, "a.1/3", Commit);
        assert!(holds(&log.clone().exit(700.0, 0)));
        let again = log.answered(403.0, 404.0, "a.1/4", Begin).answered(690.0, 700.0, "a.1/5", Query);
        assert!(!holds(&again.exit(720.0, 0)));
    }

    #[test]
    fn work_in_a_transaction_counts_until_its_pauses_have_used_up_the_budget() {
        let ping = |log: Log, minute: u32| {
            let at = 60.0 * f64::from(minute);
            log.answered(at, at + 1.0, &format!("a.1/{}", minute + 2), Query)
        };
        let begun = Log::default().session(1.0, "a.1").answered(2.0, 3.0, "a.1/1", Begin).term(60.0);
        let to = |last: u32| (2..=last).step_by(4).fold(begun.clone(), ping).exit(60.0 * f64::from(last) + 5.0, 0);
        assert!(holds(&to(58)));
        assert!(!holds(&to(90)));
        assert!(holds(&to(90).with(|settings| settings.transaction_budget = Duration::ZERO)));
    }

    #[test]
    fn that_its_worker_was_lost_is_no_answer_of_the_workers() {
        let lost = |between: [&str; 2]| {
            let what = Fault::Partition { between: between.map(str::to_owned) };
            let log = idle().event(61.0, Event::Fault { what }).sent(62.0, "idle.1/2", Query);
            let told = log.fatal(152.0, "idle.1", "08006", None);
            holds(&told.ended(152.0, "idle.1/2", crate::judge::fixture::error("08006")).exit(153.0, 0))
        };
        assert!(lost(["pod", "worker"]) && !lost(["b", "pod"]));
    }

    #[test]
    fn a_wall_bounds_even_a_running_statement() {
        let running = Log::default().session(1.0, "a.1").begun(5.0, "a.1/1", Query).term(60.0);
        let walled = running.with(|settings| settings.handover_drain_timeout = Duration::from_secs(900));
        assert!(holds(&walled.clone().exit(980.0, 3)));
        assert!(!holds(&walled.clone().exit(981.0, 3)));
        assert!(!holds(&walled.killed(86_460.0)));
    }

    #[test]
    fn a_bound_by_a_wall_says_what_set_it() {
        let running = Log::default().session(1.0, "a.1").begun(5.0, "a.1/1", Query).term(60.0);
        let walled = running.with(|settings| settings.handover_drain_timeout = Duration::from_secs(900)).exit(965.0, 3);
        let why = walled.run(|run| bound(run).map(|bound| bound.why));
        let words = "a wall 15m after the signal, set by handover_drain_timeout; teardown_budget 20s";
        assert_eq!(why.as_deref(), Some(words));
    }

    #[test]
    fn a_sigkill_before_the_bound_left_no_time_to_keep_it() {
        assert!(holds(&idle().killed(80.0)));
    }

    #[test]
    fn a_sigquit_is_obeyed_at_once() {
        assert!(holds(&idle().quit(70.0).exit(70.05, 131)));
        assert!(!holds(&idle().quit(70.0).exit(71.0, 131)));
        assert!(!holds(&Log::default().quit(70.0).exit(71.0, 131)));
    }

    #[test]
    fn what_a_worker_that_hangs_was_sent_may_run_as_far_as_anybody_knows() {
        let fed = || Log::default().session(1.0, "a.1").event(50.0, Event::Fault { what: Fault::WorkerHang });
        let fed = fed().event(51.0, Event::BatchFed { conn: conn("a.1") }).term(60.0);
        assert!(holds(&fed.killed(86_460.0)));
        let idle = Log::default().session(1.0, "a.1").event(50.0, Event::Fault { what: Fault::WorkerHang });
        assert!(!holds(&idle.term(60.0).killed(86_460.0)));
    }

    #[test]
    fn a_batch_in_a_transaction_whose_begin_has_an_answer_that_nobody_reads_goes_on() {
        let begun = |end: StatementEnd| {
            let log = Log::default().session(1.0, "a.1").sent(2.0, "a.1/1", Begin);
            let log = log.event(2.0, Event::ReadingStopped { conn: conn("a.1") });
            let log = log.began(2.1, "a.1/1").statement_ended(2.2, "a.1/1", end).term(3.0);
            log.event(60.0, Event::BatchFed { conn: conn("a.1") }).event(60.1, Event::BatchBegan { worker_session: 1 })
        };
        assert!(holds(&begun(StatementEnd::Complete).exit(365.2, 0)));
        assert!(!holds(&begun(StatementEnd::Failed("42601".to_owned())).exit(365.2, 0)));
    }

    #[test]
    fn who_came_too_late_may_keep_the_process_for_half_a_second() {
        let late = || idle().goodbye(90.0, "idle.1").connecting(94.9, "b.1");
        assert!(holds(&late().exit(95.5, 0)));
        assert!(!holds(&late().exit(95.7, 0)));
        assert!(!holds(&idle().goodbye(90.0, "idle.1").exit(95.5, 0)));
    }

    #[test]
    fn a_process_that_is_stopped_obeys_a_sigquit_when_it_goes_on() {
        let stopped = Log::default().event(50.0, Event::Fault { what: Fault::PodStopped }).quit(60.0);
        let goes_on = stopped.event(70.0, Event::Fault { what: Fault::PodGoesOn });
        assert!(holds(&goes_on.clone().exit(70.0, 131)));
        assert!(!holds(&goes_on.exit(71.0, 131)));
    }
}
