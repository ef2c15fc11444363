//! Who is let into a process, what is counted of them, and when it exits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lastcall_core::drain::Pace;
use lastcall_core::process::{EXIT_DRAINED, EXIT_WALL, Effect, NotRecalled, Process, Tally};
use lastcall_core::{Activity, Bound, DrainPolicy, EndReason, Phase, Settings, Term, Time};

fn at(seconds: u64) -> Time {
    Time::from_epoch(Duration::from_secs(seconds))
}

/// A process whose lame duck lasts 5 seconds, and its grace 30.
fn serving() -> Process<()> {
    Process::new(Arc::new(Settings::default()), 0)
}

fn with(settings: Settings) -> Process<()> {
    Process::new(Arc::new(settings), 0)
}

/// Lets a connection in that comes at the epoch, and returns its number.
fn enter(process: &mut Process<()>) -> u32 {
    process.handle_accepted((), at(0)).expect("it serves").number
}

fn leave(process: &mut Process<()>, number: u32, reason: EndReason) {
    process.handle_decided(number, reason);
    assert_eq!(process.handle_gone(number), Some(()));
}

#[test]
fn who_comes_behind_the_lame_duck_is_not_let_in_and_not_waited_for() {
    let mut process = serving();
    process.handle_term(at(10));
    let entered = process.handle_accepted((), at(14)).expect("in the lame duck");
    assert!(process.accepts(at(14)) && !process.accepts(at(15)));
    assert_eq!(process.handle_accepted((), at(15)), None);
    assert_eq!((process.members().len(), process.tally().came), (1, 1));
    leave(&mut process, entered.number, EndReason::Terminate);
    assert_eq!(process.poll_exit(at(15)), Some(EXIT_DRAINED));
}

#[test]
fn each_connection_has_a_number_and_a_place_among_the_due_times_of_its_own() {
    let mut process = Process::new(Arc::new(Settings::default()), 7);
    let entered = [(); 3].map(|()| process.handle_accepted((), at(0)).unwrap());
    assert_eq!(entered.map(|entered| entered.number), [1, 2, 3]);
    assert_eq!(entered.map(|entered| entered.pace), [1, 2, 3].map(|number| Pace::nth(number, 7)));
}

#[test]
fn what_a_connection_does_and_what_the_host_keeps_of_it_is_found_under_its_number() {
    let mut process = Process::new(Arc::new(Settings::default()), 0);
    let one = process.handle_accepted("one", at(1)).unwrap().number;
    let other = process.handle_accepted("other", at(2)).unwrap().number;
    process.handle_activity(other, Activity::Executing, at(3));
    process.handle_activity(99, Activity::Closing, at(3));
    process.member_mut(one).unwrap().data = "changed";
    let seen = |number| process.members().get(&number).map(|member| (member.activity, member.since, member.data));
    assert_eq!(seen(one), Some((Activity::Handshake, at(1), "changed")));
    assert_eq!(seen(other), Some((Activity::Executing, at(3), "other")));
    assert!(process.any(|activity| activity == Activity::Executing));
    assert!(!process.any(|activity| activity == Activity::Idle));
    process.handle_decided(other, EndReason::Terminate);
    assert_eq!((process.handle_gone(other), process.handle_gone(other)), (Some("other"), None));
}

#[test]
fn a_startup_packet_that_is_complete_behind_the_lame_duck_is_too_late() {
    let mut process = serving();
    let numbers = [enter(&mut process), enter(&mut process)];
    process.handle_term(at(10));
    assert_eq!(process.handle_startup(numbers[0], at(14)), Ok(()));
    assert_eq!(process.handle_startup(numbers[1], at(15)), Err(EndReason::ShuttingDown));
}

#[test]
fn only_sessions_take_the_places_that_there_are_and_give_them_back_when_they_are_gone() {
    let mut process = with(Settings { max_connections: 2, ..Settings::default() });
    let [silent, first, second, third] = [(); 4].map(|()| enter(&mut process));
    assert_eq!(process.handle_startup(first, at(0)), Ok(()));
    assert_eq!(process.handle_startup(second, at(0)), Ok(()));
    assert_eq!(process.handle_startup(third, at(0)), Err(EndReason::TooManyConnections));
    leave(&mut process, silent, EndReason::ClientClosed);
    assert_eq!(process.handle_startup(third, at(0)), Err(EndReason::TooManyConnections), "it had none");
    process.handle_decided(first, EndReason::Terminate);
    assert_eq!(process.handle_startup(third, at(0)), Err(EndReason::TooManyConnections), "it is still here");
    process.handle_gone(first);
    assert_eq!(process.handle_startup(third, at(0)), Ok(()));
}

#[test]
fn a_connection_ends_for_the_first_reason_that_is_decided() {
    let mut process = serving();
    let number = enter(&mut process);
    process.handle_decided(number, EndReason::Boundary);
    process.handle_decided(number, EndReason::ClientReset);
    process.handle_cancel_request(number);
    process.handle_decided(99, EndReason::Quit);
    let other = enter(&mut process);
    process.handle_decided(other, EndReason::Boundary);
    assert_eq!(process.tally(), &Tally { came: 2, ended: [(EndReason::Boundary, 2)].into(), ..Tally::default() });
}

#[test]
fn a_cancel_request_is_counted_by_itself() {
    let mut process = serving();
    let number = enter(&mut process);
    process.handle_cancel_request(number);
    process.handle_decided(number, EndReason::ClientClosed);
    assert_eq!(process.tally(), &Tally { came: 1, cancel_requests: 1, ..Tally::default() });
}

#[test]
fn those_who_were_here_and_came_are_as_many_as_those_who_ended_and_cancelled() {
    let mut process = serving();
    let [before, decided, here, cancels] = [(); 4].map(|()| enter(&mut process));
    leave(&mut process, before, EndReason::Terminate);
    process.handle_decided(decided, EndReason::IdleTimeout);
    process.handle_request(at(0));
    assert_eq!(process.tally(), &Tally { here: 2, ..Tally::default() });
    process.handle_gone(decided);
    let came = enter(&mut process);
    leave(&mut process, here, EndReason::Boundary);
    leave(&mut process, came, EndReason::Terminate);
    process.handle_cancel_request(cancels);
    process.handle_gone(cancels);
    let ended = [(EndReason::Boundary, 1), (EndReason::Terminate, 1)].into();
    assert_eq!(process.tally(), &Tally { here: 2, came: 1, ended, cancel_requests: 1, cut: 0 });
}

#[test]
fn each_drain_has_a_tally_of_its_own() {
    let mut process = serving();
    let number = enter(&mut process);
    process.handle_request(at(0));
    process.handle_cut(number);
    assert_eq!(process.handle_recall(), Ok(()));
    leave(&mut process, number, EndReason::Terminate);
    process.handle_request(at(1));
    assert_eq!((process.tally(), process.exit_code()), (&Tally::default(), EXIT_DRAINED));
}

#[test]
fn a_drain_is_begun_once() {
    let mut process = serving();
    assert_eq!((process.drain().signal(), process.next_timeout()), (None, None));
    assert_eq!(process.handle_term(at(10)), Effect::Begun);
    assert_eq!(process.handle_term(at(11)), Effect::None);
    assert_eq!(process.handle_request(at(12)), Effect::None);
    assert_eq!((process.drain().signal(), process.next_timeout()), (Some(at(10)), Some(at(15))));
}

#[test]
fn the_second_interrupt_is_the_wall_and_no_other_signal_is() {
    let mut process = serving();
    assert_eq!(process.handle_interrupt(at(10)), Effect::Begun);
    assert_eq!(process.handle_term(at(11)), Effect::None);
    assert_eq!((process.phase(at(12)), process.drain().wall()), (Phase::LameDuck, None));
    assert_eq!(process.handle_interrupt(at(12)), Effect::WallNow);
    assert_eq!((process.phase(at(12)), process.drain().wall()), (Phase::Wall, Some(at(12))));
    assert_eq!(process.handle_interrupt(at(13)), Effect::None);
    assert_eq!(process.drain().wall(), Some(at(12)));
}

#[test]
fn an_interrupt_behind_a_term_is_the_first() {
    let mut process = serving();
    process.handle_term(at(10));
    assert_eq!(process.handle_interrupt(at(11)), Effect::None);
    assert_eq!(process.handle_interrupt(at(12)), Effect::WallNow);
}

#[test]
fn a_drain_that_was_asked_for_is_taken_back_as_long_as_no_signal_came() {
    let mut process = serving();
    assert_eq!(process.handle_recall(), Err(NotRecalled::NoDrain));
    assert_eq!(process.handle_request(at(10)), Effect::Begun);
    assert_eq!(process.handle_request(at(11)), Effect::None);
    assert_eq!(process.handle_recall(), Ok(()));
    assert_eq!((process.phase(at(20)), process.accepts(at(20))), (Phase::Serving, true));
    assert_eq!(process.handle_recall(), Err(NotRecalled::NoDrain));
    process.handle_request(at(20));
    assert_eq!(process.handle_term(at(21)), Effect::Kept);
    assert_eq!(process.handle_term(at(21)), Effect::None);
    assert_eq!(process.handle_recall(), Err(NotRecalled::Signalled));
    assert_eq!(process.drain().signal(), Some(at(20)), "it began when it was asked for");
}

#[test]
fn an_interrupt_keeps_a_drain_as_well() {
    let mut process = serving();
    process.handle_request(at(10));
    assert_eq!(process.handle_interrupt(at(11)), Effect::Kept);
    assert_eq!(process.handle_recall(), Err(NotRecalled::Signalled));
}

#[test]
fn a_drain_under_an_old_policy_can_not_be_taken_back_and_knows_no_bound() {
    for drain_policy in [DrainPolicy::Unbounded, DrainPolicy::Flat] {
        let mut process = with(Settings { drain_policy, ..Settings::default() });
        process.handle_request(at(10));
        assert_eq!(process.handle_recall(), Err(NotRecalled::Deaf));
        assert_eq!(process.bound(at(10)), None);
        assert!(!process.accepts(at(10)));
        assert_eq!(process.poll_exit(at(10)), Some(EXIT_DRAINED), "it has no lame duck");
    }
}

#[test]
fn a_process_exits_when_the_lame_duck_is_over_and_nobody_is_here() {
    let mut process = serving();
    assert_eq!(process.poll_exit(at(0)), None, "nobody told it to");
    process.handle_term(at(10));
    assert_eq!(process.poll_exit(at(14)), None);
    let entered = process.handle_accepted((), at(14)).unwrap();
    assert_eq!(process.poll_exit(at(20)), None, "somebody is here");
    process.handle_decided(entered.number, EndReason::Terminate);
    assert_eq!(process.poll_exit(at(20)), None, "and has not gone");
    process.handle_gone(entered.number);
    assert_eq!(process.phase(at(20)), Phase::Grace);
    assert_eq!(process.poll_exit(at(20)), Some(EXIT_DRAINED));
    assert_eq!(process.phase(at(20)), Phase::Drained);
    assert_eq!(process.poll_exit(at(21)), Some(EXIT_DRAINED));
    assert_eq!(process.phase(at(21)), Phase::Drained);
}

#[test]
fn nobody_is_let_in_behind_an_exit_even_if_the_drain_is_taken_back() {
    let mut process = serving();
    process.handle_request(at(10));
    assert_eq!(process.poll_exit(at(15)), Some(EXIT_DRAINED));
    let _ = process.handle_recall();
    assert_eq!(process.handle_accepted((), at(15)), None);
    assert_eq!(process.phase(at(15)), Phase::Drained);
}

#[test]
fn the_exit_code_tells_that_the_wall_cancelled_a_statement_or_ended_a_session() {
    let mut process = serving();
    let number = enter(&mut process);
    process.handle_term(at(10));
    process.handle_decided(number, EndReason::Boundary);
    assert_eq!(process.exit_code(), EXIT_DRAINED);
    for _ in 0..3 {
        process.handle_cut(number);
        process.handle_cut(99);
        assert_eq!((process.exit_code(), process.tally().cut), (EXIT_WALL, 1), "a session counts once");
    }
    let mut process = serving();
    let number = enter(&mut process);
    process.handle_term(at(10));
    leave(&mut process, number, EndReason::Wall);
    assert_eq!(process.poll_exit(at(20)), Some(EXIT_WALL));
}

#[test]
fn whom_an_administrator_ends_is_no_loss_of_the_drain() {
    let mut process = serving();
    let number = enter(&mut process);
    process.handle_term(at(10));
    leave(&mut process, number, EndReason::Administrator);
    assert_eq!(process.poll_exit(at(20)), Some(EXIT_DRAINED));
}

#[test]
fn the_bound_is_that_of_what_is_done_now() {
    let bound = |at, term| Some(Bound { at, term });
    let mut process = serving();
    let numbers = [enter(&mut process), enter(&mut process)];
    assert_eq!(process.bound(at(0)), None, "nobody told it to drain");
    process.handle_term(at(10));
    assert_eq!(process.bound(at(11)), bound(at(45), Term::IdleGrace));
    for (activity, expected) in [
        (Activity::Acquiring, bound(at(80), Term::WorkerQueue)),
        (Activity::Idle, bound(at(45), Term::IdleGrace)),
        (Activity::Executing, bound(at(316), Term::LastMove)),
        (Activity::CopyIn, bound(at(316), Term::LastMove)),
    ] {
        process.handle_activity(numbers[1], activity, at(11));
        assert_eq!(process.bound(at(11)), expected, "{activity}");
    }
    process.handle_interrupt(at(12));
    process.handle_interrupt(at(12));
    assert_eq!(process.bound(at(12)), bound(at(32), Term::Wall));
}

/// What a host does.
type Call = fn(&mut Process<()>, u32);

#[test]
fn a_call_out_of_order_is_noticed_in_a_debug_build() {
    let wrong: [(&str, Call); 2] = [
        ("a second startup packet", |process, number| {
            for _ in 0..2 {
                let _ = process.handle_startup(number, at(0));
            }
        }),
        ("gone, and nobody knows why", |process, number| {
            process.handle_gone(number);
        }),
    ];
    for (what, call) in wrong {
        let mut process = serving();
        let number = enter(&mut process);
        let noticed = catch_unwind(AssertUnwindSafe(|| call(&mut process, number))).is_err();
        assert_eq!(noticed, cfg!(debug_assertions), "{what}");
    }
}
