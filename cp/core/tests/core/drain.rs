//! The drain's verdict, against the contract's table of activities and clocks.

use std::sync::Arc;
use std::time::Duration;

use lastcall_core::drain::{Cancelling, Pace, Standing};
use lastcall_core::settings::FLUSH_LIMIT;
use lastcall_core::{Activity, Drain, DrainPolicy, EndReason, Pacing, Phase, Settings, Time, Verdict};

/// When the signal comes.
const SIGNAL: u64 = 1000;

/// Paces at the ends and in between.
const PACES: [Pace; 4] = [Pace(0), Pace(1), Pace(1 << 31), Pace(u32::MAX)];

fn at(seconds: u64) -> Time {
    Time::from_epoch(Duration::from_secs(seconds))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn serving(settings: Settings) -> Drain {
    settings.check().expect("a test's settings fit together");
    Drain::new(Arc::new(settings))
}

fn draining(settings: Settings) -> Drain {
    let mut drain = serving(settings);
    drain.handle_signal(at(SIGNAL));
    drain
}

/// A connection that has been doing this for ten seconds when the signal comes.
fn standing(activity: Activity) -> Standing {
    Standing {
        activity,
        since: at(SIGNAL - 10),
        moved: at(SIGNAL - 10),
        pace: Pace(0),
        init_deadline: at(SIGNAL + 50),
        mid_message: false,
        acquired: at(SIGNAL - 10),
        paused: Duration::ZERO,
        cancelling: None,
        left: None,
        begun: false,
        streams: false,
        condemned: None,
    }
}

/// When and why the connection is closed if nothing happens; checked to be so a moment before and from then on.
fn closed(drain: &Drain, standing: &Standing) -> Option<(Time, EndReason)> {
    match drain.verdict(standing, Time::EPOCH) {
        Verdict::CarryOn => {
            assert_eq!(drain.verdict(standing, at(1 << 40)), Verdict::CarryOn);
            None
        }
        Verdict::CloseAt(time, reason) => {
            let before = Time::from_epoch(time.since_epoch() - Duration::from_nanos(1));
            assert_eq!(drain.verdict(standing, before), Verdict::CloseAt(time, reason));
            assert_eq!(drain.verdict(standing, time), Verdict::CloseNow(reason));
            assert_eq!(drain.verdict(standing, time + seconds(1)), Verdict::CloseNow(reason));
            Some((time, reason))
        }
        Verdict::CancelAt(_) | Verdict::CancelNow | Verdict::LookNow | Verdict::LetGo => {
            panic!("no wall is set that could cancel")
        }
        Verdict::CloseNow(reason) => panic!("{reason} before the world began"),
    }
}

#[test]
fn each_activity_has_its_clock_in_the_steady_state_and_while_draining() {
    use Activity::*;
    let due = at(SIGNAL + 15);
    let table = [
        // activity, steady state, draining
        (
            Handshake,
            Some((at(SIGNAL + 50), EndReason::HandshakeTimeout)),
            Some((at(SIGNAL + 30), EndReason::ShuttingDown)),
        ),
        (
            Acquiring,
            Some((at(SIGNAL + 50), EndReason::WorkerUnreachable)),
            Some((at(SIGNAL + 50), EndReason::WorkerUnreachable)),
        ),
        (Idle, Some((at(SIGNAL + 890), EndReason::IdleTimeout)), Some((due, EndReason::Boundary))),
        (IdleInTransaction, None, Some((at(SIGNAL + 300), EndReason::TransactionGrace))),
        (Executing, None, None),
        (StreamingOut, None, Some((at(SIGNAL + 300), EndReason::StallGrace))),
        (CopyIn, None, Some((at(SIGNAL + 300), EndReason::StallGrace))),
        (OpenBatch, None, Some((at(SIGNAL + 300), EndReason::StallGrace))),
        (Closing, None, None),
    ];
    assert_eq!(table.map(|(activity, ..)| activity), Activity::ALL);
    let steady_clocks = serving(Settings::default());
    let draining_clocks = draining(Settings::default());
    for (activity, steady, drain) in table {
        assert_eq!(closed(&steady_clocks, &standing(activity)), steady, "{activity}, serving");
        assert_eq!(closed(&draining_clocks, &standing(activity)), drain, "{activity}, draining");
    }
}

#[test]
fn the_old_policies_keep_the_steady_clocks_while_draining() {
    for drain_policy in [DrainPolicy::Unbounded, DrainPolicy::Flat] {
        let settings = Settings { drain_policy, handover_drain_timeout: seconds(100_000), ..Settings::default() };
        let (serving, draining) = (serving(settings.clone()), draining(settings));
        for activity in Activity::ALL {
            let steady = closed(&serving, &standing(activity));
            let wall = (drain_policy == DrainPolicy::Flat).then_some((at(SIGNAL + 100_000), EndReason::Wall));
            assert_eq!(closed(&draining, &standing(activity)), steady.or(wall), "{activity}, {drain_policy}");
        }
        assert_eq!(draining.due(Pace(0)), None);
    }
}

#[test]
fn an_idle_timeout_of_zero_closes_nobody() {
    let drain = serving(Settings { idle_timeout: Duration::ZERO, ..Settings::default() });
    assert_eq!(closed(&drain, &standing(Activity::Idle)), None);
}

#[test]
fn the_flat_wall_ends_everything_at_once_and_says_so_even_at_another_clocks_time() {
    let settings =
        Settings { drain_policy: DrainPolicy::Flat, handover_drain_timeout: seconds(50), ..Settings::default() };
    let drain = draining(settings);
    for activity in Activity::ALL {
        assert_eq!(closed(&drain, &standing(activity)), Some((at(SIGNAL + 50), EndReason::Wall)), "{activity}");
    }
    assert_eq!((drain.phase(at(SIGNAL + 49)), drain.phase(at(SIGNAL + 50))), (Phase::Boundary, Phase::Wall));
}

#[test]
fn due_times_fill_the_second_half_of_the_grace() {
    let drain = draining(Settings::default());
    assert_eq!(drain.due(Pace(0)), Some(at(SIGNAL + 15)));
    assert_eq!(drain.due(Pace(u32::MAX)), Some(at(SIGNAL + 30)));
    let middle = drain.due(Pace(1 << 31)).unwrap().since(at(SIGNAL));
    assert!(middle.abs_diff(Duration::from_millis(22_500)) < Duration::from_millis(1), "{middle:?}");
    for pace in PACES {
        let due = drain.due(pace).unwrap();
        assert!((at(SIGNAL + 15)..=at(SIGNAL + 30)).contains(&due), "{pace:?}: {due:?}");
        assert!(drain.is_due(pace, due) && !drain.is_due(pace, at(SIGNAL + 14)));
    }
}

#[test]
fn no_due_time_is_rounded_beyond_the_grace() {
    for nanos in 0..200 {
        // So long that a float has no place for single nanoseconds.
        let idle_grace = Duration::new(364 * 86_400, nanos);
        let drain = draining(Settings { idle_grace, ..Settings::default() });
        assert!(drain.due(Pace(u32::MAX)).unwrap() <= at(SIGNAL) + idle_grace, "{nanos}");
    }
}

#[test]
fn no_due_time_falls_into_the_lame_duck() {
    for lame_duck in [15, 20, 30] {
        let drain = draining(Settings { lame_duck: seconds(lame_duck), ..Settings::default() });
        assert_eq!(drain.due(Pace(0)), Some(at(SIGNAL + lame_duck)));
        assert_eq!(drain.due(Pace(u32::MAX)), Some(at(SIGNAL + 30)));
    }
}

#[test]
fn a_grace_of_nothing_is_due_at_the_signal() {
    let settings = Settings { lame_duck: Duration::ZERO, idle_grace: Duration::ZERO, ..Settings::default() };
    for pacing in Pacing::ALL {
        let drain = draining(Settings { pacing, ..settings.clone() });
        assert!(PACES.iter().all(|pace| drain.due(*pace) == Some(at(SIGNAL))), "{pacing}");
    }
}

#[test]
fn without_pacing_all_fall_due_at_the_end_of_the_grace() {
    let drain = draining(Settings { pacing: Pacing::None, ..Settings::default() });
    assert!(PACES.iter().all(|pace| drain.due(*pace) == Some(at(SIGNAL + 30))));
}

#[test]
fn nobody_is_due_before_the_signal_and_a_second_signal_changes_nothing() {
    let mut drain = serving(Settings::default());
    assert!(!drain.is_due(Pace(0), at(1 << 40)));
    drain.handle_signal(at(SIGNAL));
    drain.handle_signal(at(SIGNAL + 5));
    assert_eq!(drain.signal(), Some(at(SIGNAL)));
}

#[test]
fn the_rules_that_a_drain_was_given_are_those_that_it_shows() {
    let settings = Settings { idle_grace: seconds(77), ..Settings::default() };
    assert_eq!(serving(settings).settings().idle_grace, seconds(77));
}

#[test]
fn a_drain_that_is_taken_back_leaves_the_steady_clocks_and_the_next_one_begins_anew() {
    let mut drain = draining(Settings::default());
    drain.handle_wall(at(SIGNAL + 3));
    drain.handle_recall();
    let later = SIGNAL + 100;
    assert_eq!((drain.phase(at(later)), drain.signal(), drain.earliest_exit()), (Phase::Serving, None, None));
    assert!(drain.accepts(at(later)) && !drain.is_due(Pace(0), at(1 << 40)));
    for activity in Activity::ALL {
        let steady = closed(&serving(Settings::default()), &standing(activity));
        assert_eq!(closed(&drain, &standing(activity)), steady, "{activity}");
    }
    drain.handle_signal(at(later));
    assert_eq!((drain.due(Pace(0)), drain.phase(at(later))), (Some(at(later + 15)), Phase::LameDuck));
}

#[test]
fn transaction_grace_runs_anew_in_each_pause() {
    let drain = draining(Settings::default());
    let pause = Standing { since: at(SIGNAL + 200), ..standing(Activity::IdleInTransaction) };
    assert_eq!(closed(&drain, &pause), Some((at(SIGNAL + 500), EndReason::TransactionGrace)));
}

#[test]
fn a_pause_that_began_before_the_signal_is_measured_from_the_signal() {
    let drain = draining(Settings::default());
    let pause = Standing { since: at(10), ..standing(Activity::IdleInTransaction) };
    assert_eq!(closed(&drain, &pause), Some((at(SIGNAL + 300), EndReason::TransactionGrace)));
}

#[test]
fn transaction_budget_takes_all_pauses_together() {
    let drain = draining(Settings::default());
    let pause = |paused| Standing { since: at(SIGNAL + 4000), paused, ..standing(Activity::IdleInTransaction) };
    let (grace, budget) = (EndReason::TransactionGrace, EndReason::TransactionBudget);
    assert_eq!(closed(&drain, &pause(seconds(3000))), Some((at(SIGNAL + 4300), grace)));
    assert_eq!(closed(&drain, &pause(seconds(3500))), Some((at(SIGNAL + 4100), budget)));
    assert_eq!(closed(&drain, &pause(seconds(3600))), Some((at(SIGNAL + 4000), budget)));
    assert_eq!(closed(&drain, &pause(seconds(9999))), Some((at(SIGNAL + 4000), budget)));
}

#[test]
fn a_batch_lives_no_longer_on_bytes_than_its_budget() {
    let drain = draining(Settings::default());
    let batch = |paused| {
        let since = at(SIGNAL + 1000);
        Standing { since, moved: at(SIGNAL + 1200), paused, ..standing(Activity::OpenBatch) }
    };
    assert_eq!(closed(&drain, &batch(seconds(3000))), Some((at(SIGNAL + 1500), EndReason::StallGrace)));
    assert_eq!(closed(&drain, &batch(seconds(3200))), Some((at(SIGNAL + 1400), EndReason::TransactionBudget)));
    for activity in [Activity::CopyIn, Activity::StreamingOut] {
        let statement = Standing { activity, ..batch(seconds(9999)) };
        assert_eq!(closed(&drain, &statement), Some((at(SIGNAL + 1500), EndReason::StallGrace)), "{activity}");
    }
}

#[test]
fn a_transaction_budget_of_zero_is_none() {
    let drain = draining(Settings { transaction_budget: Duration::ZERO, ..Settings::default() });
    let pause = Standing { paused: seconds(1 << 30), ..standing(Activity::IdleInTransaction) };
    assert_eq!(closed(&drain, &pause), Some((at(SIGNAL + 300), EndReason::TransactionGrace)));
}

#[test]
fn no_clock_of_a_client_inside_a_statement_or_transaction_ends_before_it_is_due() {
    let one = seconds(1);
    let drain = draining(Settings {
        transaction_grace: one,
        transaction_budget: one,
        stall_grace: one,
        pacing: Pacing::None,
        ..Settings::default()
    });
    for activity in [Activity::IdleInTransaction, Activity::StreamingOut, Activity::CopyIn, Activity::OpenBatch] {
        let (time, reason) = closed(&drain, &standing(activity)).unwrap();
        assert_eq!(time, at(SIGNAL + 30), "{activity}: {reason}");
    }
}

#[test]
fn stall_grace_runs_from_the_last_byte_that_moved() {
    let drain = draining(Settings::default());
    for activity in [Activity::StreamingOut, Activity::CopyIn, Activity::OpenBatch] {
        let standing = Standing { moved: at(SIGNAL + 77), ..standing(activity) };
        assert_eq!(closed(&drain, &standing), Some((at(SIGNAL + 377), EndReason::StallGrace)), "{activity}");
    }
}

#[test]
fn a_handshake_ends_with_its_own_timeout_or_the_grace_whichever_is_first() {
    let drain = draining(Settings::default());
    for (init_deadline, end) in [
        (SIGNAL + 29, (at(SIGNAL + 29), EndReason::HandshakeTimeout)),
        (SIGNAL + 31, (at(SIGNAL + 30), EndReason::ShuttingDown)),
    ] {
        let standing = Standing { init_deadline: at(init_deadline), ..standing(Activity::Handshake) };
        assert_eq!(closed(&drain, &standing), Some(end));
    }
}

#[test]
fn a_handshake_whose_worker_came_late_has_a_moment_behind_the_grace() {
    let drain = draining(Settings::default());
    for (acquired, end) in [(SIGNAL + 24, SIGNAL + 30), (SIGNAL + 30, SIGNAL + 30), (SIGNAL + 40, SIGNAL + 45)] {
        let standing = Standing { acquired: at(acquired), ..standing(Activity::Handshake) };
        assert_eq!(closed(&drain, &standing), Some((at(end), EndReason::ShuttingDown)), "acquired at {acquired}");
    }
}

#[test]
fn new_sessions_are_accepted_in_the_lame_duck_and_not_after_it() {
    let drain = draining(Settings::default());
    assert!(serving(Settings::default()).accepts(at(SIGNAL)));
    assert!(drain.accepts(at(SIGNAL)) && drain.accepts(at(SIGNAL + 4)) && !drain.accepts(at(SIGNAL + 5)));
    assert_eq!(drain.earliest_exit(), Some(at(SIGNAL + 5)));
    for drain_policy in [DrainPolicy::Unbounded, DrainPolicy::Flat] {
        let settings = Settings { drain_policy, handover_drain_timeout: seconds(900), ..Settings::default() };
        assert!(serving(settings.clone()).accepts(at(SIGNAL)));
        assert!(!draining(settings.clone()).accepts(at(SIGNAL)), "{drain_policy}");
        assert_eq!(draining(settings).earliest_exit(), Some(at(SIGNAL)), "{drain_policy}");
    }
}

#[test]
fn the_phases_follow_one_another() {
    assert_eq!(serving(Settings::default()).phase(at(SIGNAL)), Phase::Serving);
    let drain = draining(Settings::default());
    let phases = [0, 4, 5, 29, 30, 1 << 30].map(|after| drain.phase(at(SIGNAL + after)));
    use Phase::*;
    assert_eq!(phases, [LameDuck, LameDuck, Grace, Grace, Boundary, Boundary]);
    let names = ["serving", "lame_duck", "grace", "boundary", "wall", "drained"];
    assert_eq!([Serving, LameDuck, Grace, Boundary, Wall, Drained].map(Phase::name), names);
}

/// The golden ratio's multiples leave no gap above 1.9 times the even one; 2 is the promise.
#[test]
fn consecutive_connections_are_spread_evenly_whatever_the_offset() {
    for offset in [0, 1, 0x8000_0000, 0xdead_beef] {
        for first in [0, 1, 12_345, u32::MAX - 3] {
            for count in [10_u32, 100, 1000] {
                let mut places: Vec<u32> = (0..count).map(|n| Pace::nth(first.wrapping_add(n), offset).0).collect();
                places.sort_unstable();
                let around = places[0].wrapping_sub(places[places.len() - 1]);
                let largest = places.windows(2).map(|pair| pair[1] - pair[0]).fold(around, u32::max);
                let even = f64::from(u32::MAX) / f64::from(count);
                assert!(f64::from(largest) < 2.0 * even, "{count} from {first}: {}", f64::from(largest) / even);
            }
        }
    }
}

fn walled(change: impl FnOnce(&mut Settings)) -> Drain {
    let mut settings = Settings::default();
    change(&mut settings);
    draining(settings)
}

#[test]
fn the_wall_is_the_earlier_of_the_timeout_and_the_end_of_the_termination_grace() {
    let timeout = walled(|settings| settings.handover_drain_timeout = seconds(900));
    let grace = walled(|settings| settings.termination_grace = Some(seconds(620)));
    let both = walled(|settings| {
        settings.handover_drain_timeout = seconds(900);
        settings.termination_grace = Some(seconds(620));
    });
    for (drain, wall) in [(timeout, 900), (grace, 600), (both, 600)] {
        assert_eq!(drain.verdict(&standing(Activity::Executing), at(SIGNAL)), Verdict::CancelAt(at(SIGNAL + wall)));
        assert_eq!(drain.phase(at(SIGNAL + wall - 1)), Phase::Boundary);
        assert_eq!(drain.phase(at(SIGNAL + wall)), Phase::Wall);
    }
}

#[test]
fn at_the_wall_what_runs_is_cancelled_and_given_a_moment_and_what_does_not_is_closed() {
    let drain = walled(|settings| settings.handover_drain_timeout = seconds(900));
    let wall = at(SIGNAL + 900);
    let running = standing(Activity::Executing);
    assert_eq!(drain.verdict(&running, wall), Verdict::CancelNow);
    let moment = wall + Settings::default().wall_patience();
    let cancelling = Cancelling { first: wall, again: wall + seconds(1), wall: true };
    let cancelled = Standing { cancelling: Some(cancelling), ..running };
    assert_eq!(drain.verdict(&cancelled, wall), Verdict::CancelAt(wall + seconds(1)), "one may be lost");
    assert_eq!(drain.verdict(&cancelled, wall + seconds(1)), Verdict::CancelNow);
    let cancelled = Standing { cancelling: Some(Cancelling { again: moment, ..cancelling }), ..running };
    assert_eq!(drain.verdict(&cancelled, wall), Verdict::CloseAt(moment, EndReason::Wall), "the last one");
    assert_eq!(drain.verdict(&cancelled, moment), Verdict::CloseNow(EndReason::Wall));
    let answered = Standing { activity: Activity::Idle, ..cancelled };
    assert_eq!(drain.verdict(&answered, wall + seconds(1)), Verdict::CloseNow(EndReason::Wall));
    for activity in [Activity::IdleInTransaction, Activity::CopyIn, Activity::StreamingOut, Activity::OpenBatch] {
        let busy = Standing { since: wall, moved: wall, ..standing(activity) };
        assert_eq!(drain.verdict(&busy, wall), Verdict::CloseNow(EndReason::Wall), "{activity}");
    }
}

#[test]
fn a_wall_that_is_called_for_falls_at_once_and_none_falls_while_serving() {
    let mut drain = draining(Settings::default());
    assert_eq!(drain.verdict(&standing(Activity::Executing), at(SIGNAL + 7)), Verdict::CarryOn);
    drain.handle_wall(at(SIGNAL + 7));
    assert_eq!(drain.verdict(&standing(Activity::Executing), at(SIGNAL + 7)), Verdict::CancelNow);
    assert_eq!(drain.verdict(&standing(Activity::Idle), at(SIGNAL + 7)), Verdict::CloseNow(EndReason::Wall));
    let mut serving = serving(Settings::default());
    serving.handle_wall(at(SIGNAL));
    assert_eq!(serving.verdict(&standing(Activity::Executing), at(SIGNAL)), Verdict::CarryOn);
}

#[test]
fn the_wall_makes_no_end_later_than_it_would_have_been_without_it() {
    let mut drain = draining(Settings::default());
    let reader = Standing { mid_message: true, moved: at(SIGNAL), ..standing(Activity::StreamingOut) };
    let stalled = at(SIGNAL) + Settings::default().stall_grace;
    drain.handle_wall(at(SIGNAL + 299));
    assert_eq!(drain.verdict(&reader, at(SIGNAL + 299)), Verdict::CloseAt(stalled, EndReason::StallGrace));
}

#[test]
fn what_the_wall_takes_fits_into_its_budget() {
    let rules = Settings::default();
    assert!(rules.wall_patience() + rules.close_linger + FLUSH_LIMIT <= rules.teardown_budget);
    let drain = walled(|settings| settings.handover_drain_timeout = seconds(900));
    let gone = at(SIGNAL + 900) + rules.wall_patience() + rules.close_linger;
    for said in [SIGNAL + 890, SIGNAL + 900] {
        assert_eq!(drain.farewell_deadline(at(said)), gone);
    }
}

#[test]
fn a_statement_whose_client_has_left_has_the_stall_grace_and_is_then_cancelled() {
    let drain = draining(Settings::default());
    let grace = Settings::default().stall_grace;
    for (left, from) in [(SIGNAL - 5, SIGNAL), (SIGNAL + 7, SIGNAL + 7)] {
        let running = Standing { left: Some(at(left)), ..standing(Activity::Executing) };
        assert_eq!(drain.verdict(&running, at(from)), Verdict::CancelAt(at(from) + grace));
        let cancel = at(from) + grace;
        assert_eq!(drain.verdict(&running, cancel), Verdict::CancelNow);
        let patience = cancel + Settings::default().wall_patience();
        let cancelling = Some(Cancelling { first: cancel, again: patience, wall: false });
        let hung = Standing { cancelling, ..running };
        assert_eq!(drain.verdict(&hung, cancel), Verdict::CloseAt(patience, EndReason::ClientClosed));
        let again = cancel + seconds(1);
        let cancelling = Some(Cancelling { first: cancel, again, wall: false });
        let asked_once = Standing { cancelling, ..running };
        assert_eq!(drain.verdict(&asked_once, cancel), Verdict::CancelAt(again), "one may be lost");
        let closing = Standing { activity: Activity::Closing, ..running };
        assert_eq!(drain.verdict(&closing, cancel), Verdict::CarryOn, "nothing is left to cancel");
    }
    let unbounded = draining(Settings { drain_policy: DrainPolicy::Unbounded, ..Settings::default() });
    let running = Standing { left: Some(at(SIGNAL)), ..standing(Activity::Executing) };
    assert_eq!(unbounded.verdict(&running, at(SIGNAL + 9999)), Verdict::CarryOn, "it waits for every connection");
    let serving = serving(Settings::default());
    let running = Standing { left: Some(at(SIGNAL)), ..standing(Activity::Executing) };
    assert_eq!(serving.verdict(&running, at(SIGNAL + 9999)), Verdict::CarryOn, "as with PostgreSQL");
}

#[test]
fn a_replication_stream_has_no_idle_timeout() {
    let serving = serving(Settings::default());
    let stream = Standing { streams: true, ..standing(Activity::Idle) };
    assert_eq!(serving.verdict(&stream, at(SIGNAL + 999_999)), Verdict::CarryOn);
    let drain = draining(Settings::default());
    assert_eq!(drain.verdict(&stream, at(SIGNAL + 15)), Verdict::CloseNow(EndReason::Boundary));
}

#[test]
fn a_message_that_nobody_asked_for_may_end_before_its_idle_client_is_told() {
    let drain = draining(Settings::default());
    let (due, linger) = (at(SIGNAL + 15), Settings::default().close_linger);
    let half = Standing { mid_message: true, ..standing(Activity::Idle) };
    assert_eq!(drain.verdict(&half, due), Verdict::CloseAt(due + linger, EndReason::Boundary));
    let late = Standing { since: at(SIGNAL + 100), ..half };
    assert_eq!(drain.verdict(&late, late.since), Verdict::CloseAt(late.since + linger, EndReason::Boundary));
}

#[test]
fn a_wall_in_the_lame_duck_ends_it() {
    let mut drain = draining(Settings::default());
    drain.handle_wall(at(SIGNAL + 2));
    assert_eq!(drain.earliest_exit(), Some(at(SIGNAL + 2)));
    drain = walled(|settings| settings.handover_drain_timeout = seconds(900));
    assert_eq!(drain.earliest_exit(), Some(at(SIGNAL + 5)));
}

#[test]
fn nor_does_the_wall_end_anybody_inside_a_message_that_may_still_come() {
    let drain = walled(|settings| settings.handover_drain_timeout = seconds(1));
    let patience = at(SIGNAL + 1) + Settings::default().wall_patience();
    for activity in [Activity::StreamingOut, Activity::Idle, Activity::IdleInTransaction, Activity::OpenBatch] {
        let half = Standing { mid_message: true, ..standing(activity) };
        assert_eq!(drain.verdict(&half, at(SIGNAL + 1)), Verdict::CloseAt(patience, EndReason::Wall), "{activity}");
    }
}

#[test]
fn to_whoever_an_administrator_ends_the_same_happens_as_at_a_wall_in_every_phase_and_under_every_policy() {
    for drain_policy in [DrainPolicy::IdleAware, DrainPolicy::Unbounded, DrainPolicy::Flat] {
        let settings = Settings { drain_policy, handover_drain_timeout: seconds(900), ..Settings::default() };
        for (drain, phase) in [(serving(settings.clone()), "serving"), (draining(settings), "draining")] {
            let condemned =
                |activity| Standing { condemned: Some(at(SIGNAL + 1)), streams: true, ..standing(activity) };
            for activity in Activity::ALL {
                let end = match activity {
                    Activity::Executing => Verdict::CancelNow,
                    _ => Verdict::CloseNow(EndReason::Administrator),
                };
                assert_eq!(drain.verdict(&condemned(activity), at(SIGNAL + 1)), end, "{activity}, {phase}");
                assert_eq!(drain.walled(&condemned(activity), at(SIGNAL + 1)), Some(EndReason::Administrator));
                assert_eq!(drain.walled(&standing(activity), at(SIGNAL + 1)), None);
            }
            let patience = at(SIGNAL + 1) + Settings::default().wall_patience();
            let cancelling = Cancelling { first: at(SIGNAL + 1), again: patience, wall: false };
            let stubborn = Standing { cancelling: Some(cancelling), ..condemned(Activity::Executing) };
            let end = Verdict::CloseAt(patience, EndReason::Administrator);
            assert_eq!(drain.verdict(&stubborn, at(SIGNAL + 2)), end, "{phase}");
        }
    }
}

#[test]
fn of_an_administrator_and_the_wall_it_is_the_first_that_ends_a_connection() {
    let drain = walled(|settings| settings.handover_drain_timeout = seconds(900));
    for (condemned, reason) in [(899, EndReason::Administrator), (900, EndReason::Wall), (901, EndReason::Wall)] {
        let condemned = Standing { condemned: Some(at(SIGNAL + condemned)), ..standing(Activity::IdleInTransaction) };
        assert_eq!(drain.walled(&condemned, at(SIGNAL + 901)), Some(reason));
    }
}
