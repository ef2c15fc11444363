//! A pool that takes its workers back between two transactions, and owns messages.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lastcall_core::drain::Pace;
use lastcall_core::fatal::NOT_EXECUTED;
use lastcall_core::wire::{Malformed, Side};
use lastcall_core::{Activity, Drain, EndReason, Session, Settings, Time, Verdict};

use crate::talk::{WELCOME, messages};

fn at(seconds: u64) -> Time {
    Time::from_epoch(Duration::from_secs(seconds))
}

/// A session that was let in at the epoch, and whose worker was taken back; due 15 seconds after a signal.
fn between_transactions() -> (Session, Drain) {
    let drain = Drain::new(Arc::new(Settings::default()));
    let mut session = Session::new(Pace(0), &drain, at(0));
    session.handle_startup(&drain, at(0));
    session.handle_worker_found(&drain, at(0));
    assert!(session.needs_worker(), "in its handshake");
    says(&mut session, WELCOME, &drain, at(0));
    assert!(!session.needs_worker());
    (session, drain)
}

fn asks(session: &mut Session, types: &str, drain: &Drain, now: Time) -> bool {
    session.handle_client_message(&messages(types), drain, now)
}

fn says(session: &mut Session, types: &str, drain: &Drain, now: Time) {
    let bytes = messages(types);
    assert_eq!(session.handle_worker(&bytes, drain, now), bytes.len());
    session.handle_output(bytes.len(), 0, drain, now);
    session.handle_look(0, drain, now);
}

#[test]
fn a_worker_is_needed_from_the_first_message_of_a_transaction_to_its_end() {
    let (mut session, drain) = between_transactions();
    for (asked, said, needed) in
        [("Q", "C Z:T", true), ("Q", "E Z:E", true), ("Q", "C Z:I", false), ("P", "1", true), ("S", "Z:I", false)]
    {
        assert!(asks(&mut session, asked, &drain, at(1)));
        assert!(session.needs_worker(), "> {asked}");
        says(&mut session, said, &drain, at(1));
        assert_eq!(session.needs_worker(), needed, "< {said}");
    }
}

#[test]
fn a_worker_is_needed_until_all_of_a_pipeline_is_answered_and_as_long_as_both_sides_stream() {
    let (mut session, drain) = between_transactions();
    assert!(asks(&mut session, "Q", &drain, at(1)) && asks(&mut session, "Q", &drain, at(1)));
    says(&mut session, "C Z:I", &drain, at(1));
    assert!(session.needs_worker());
    says(&mut session, "C Z:I", &drain, at(1));
    assert!(!session.needs_worker());
    assert!(asks(&mut session, "Q", &drain, at(1)));
    says(&mut session, "W", &drain, at(1));
    assert_eq!(session.activity(), Activity::Idle);
    assert!(session.needs_worker());
}

#[test]
fn a_message_waits_for_a_worker_as_long_as_the_queue_allows_and_not_on_the_idle_clock() {
    let (mut session, drain) = between_transactions();
    session.handle_worker_wanted(&drain, at(890));
    assert_eq!(session.activity(), Activity::Acquiring);
    assert_eq!(session.next_timeout(&drain, at(890)), Some(at(950)));
    assert_eq!(session.poll_verdict(&drain, at(950)), Verdict::CloseNow(EndReason::WorkerUnreachable));

    session.handle_worker_found(&drain, at(949));
    assert!(asks(&mut session, "Q", &drain, at(949)));
    assert_eq!(session.activity(), Activity::Executing);
    says(&mut session, "C Z:I", &drain, at(5000));
    assert_eq!(session.poll_verdict(&drain, at(5000)), Verdict::CloseAt(at(5900), EndReason::IdleTimeout));
}

#[test]
fn what_waits_for_a_worker_at_its_due_time_is_told_that_it_was_not_executed() {
    let (mut session, mut drain) = between_transactions();
    session.handle_worker_wanted(&drain, at(10));
    drain.handle_signal(at(20));
    assert_eq!(session.poll_verdict(&drain, at(20)), Verdict::CloseAt(at(35), EndReason::Boundary));
    assert_eq!(session.poll_verdict(&drain, at(35)), Verdict::CloseNow(EndReason::Boundary));
    // A worker comes too late.
    session.handle_worker_found(&drain, at(35));
    assert!(!asks(&mut session, "Q", &drain, at(35)));
    assert_eq!(session.poll_verdict(&drain, at(35)), Verdict::CloseNow(EndReason::Boundary));
    session.close(EndReason::Boundary, &drain, at(35));
    assert_eq!(session.farewell("db:5432").unwrap().detail.as_deref(), Some(NOT_EXECUTED));
}

#[test]
fn the_first_worker_is_waited_for_past_the_due_time() {
    let mut drain = Drain::new(Arc::new(Settings::default()));
    let mut session = Session::new(Pace(0), &drain, at(0));
    session.handle_startup(&drain, at(0));
    drain.handle_signal(at(1));
    assert_eq!(session.poll_verdict(&drain, at(20)), Verdict::CloseAt(at(60), EndReason::WorkerUnreachable));
}

#[test]
fn a_queue_does_not_outlast_its_own_time_while_draining() {
    let (mut session, mut drain) = between_transactions();
    session.handle_worker_wanted(&drain, at(10));
    drain.handle_signal(at(60));
    assert_eq!(session.poll_verdict(&drain, at(60)), Verdict::CloseAt(at(70), EndReason::WorkerUnreachable));
}

#[test]
fn nonsense_that_the_host_has_found_is_told_behind_the_answers_that_are_owed() {
    let (mut session, drain) = between_transactions();
    assert!(asks(&mut session, "Q", &drain, at(1)));
    session.handle_malformed(Malformed::UnknownType { side: Side::Frontend, kind: b'?' });
    assert!(!matches!(session.poll_verdict(&drain, at(1)), Verdict::CloseNow(_)), "it runs");
    says(&mut session, "C Z:I", &drain, at(2));
    assert_eq!(session.poll_verdict(&drain, at(2)), Verdict::CloseNow(EndReason::Malformed));
    session.close(EndReason::Malformed, &drain, at(2));
    let detail = session.farewell("db:5432").unwrap().detail;
    assert_eq!(detail.as_deref(), Some("unknown message type 0x3f from the client."));
}

/// What a host does.
type Call = fn(&mut Session, &Drain);

#[test]
fn a_call_out_of_order_is_noticed_in_a_debug_build() {
    let wrong: [(&str, Call); 6] = [
        ("a second startup packet", |session, drain| session.handle_startup(drain, at(1))),
        ("a worker found that nobody waits for", |session, drain| session.handle_worker_found(drain, at(1))),
        ("a worker wanted though it has one that runs", |session, drain| {
            session.handle_client_message(&messages("Q"), drain, at(1));
            session.handle_worker_wanted(drain, at(1));
        }),
        ("a client's message while a worker is waited for", |session, drain| {
            session.handle_worker_wanted(drain, at(1));
            session.handle_client_message(&messages("Q"), drain, at(1));
        }),
        ("a worker's message while one is waited for", |session, drain| {
            session.handle_worker_wanted(drain, at(1));
            session.handle_worker(&messages("Z:I"), drain, at(1));
        }),
        ("closed twice", |session, drain| {
            session.close(EndReason::Boundary, drain, at(1));
            session.close(EndReason::Boundary, drain, at(1));
        }),
    ];
    for (what, call) in wrong {
        let (mut session, drain) = between_transactions();
        let noticed = catch_unwind(AssertUnwindSafe(|| call(&mut session, &drain))).is_err();
        assert_eq!(noticed, cfg!(debug_assertions), "{what}");
    }
}
