//! What the tracker makes of COPY, where who waits for whom changes in the middle of a request.

use lastcall_core::Activity;
use lastcall_core::tracker::Gate;

use crate::talk::{client, connected, messages, talk, talk_on};

#[test]
fn a_copy_out_is_an_answer_like_any_other() {
    talk(
        "> Q       | executing 1
         < H d d c | executing 1
         < C Z:I   | idle
         > B E H   | executing
         < 2 H d c | executing
         < C       | open_batch",
    );
}

#[test]
fn a_copy_in_by_query_waits_on_its_client_until_copy_done() {
    talk(
        "> Q     | executing 1
         < G     | copy_in 1
         > d d   | copy_in 1
         > c     | executing 1
         < C Z:I | idle",
    );
}

#[test]
fn a_copy_fail_ends_a_copy_in_as_well() {
    talk(
        "> Q     | executing 1
         < G     | copy_in 1
         > f     | executing 1
         < E Z:I | idle",
    );
}

#[test]
fn two_copies_of_one_query_each_wait_for_their_own_data() {
    talk(
        "> Q     | executing 1
         < G     | copy_in 1
         > d c   | executing 1
         < C G   | copy_in 1
         > c     | executing 1
         < C Z:I | idle",
    );
    talk(
        "> Q c   | executing 1
         < G     | executing 1
         < C G   | copy_in 1
         > c     | executing 1
         < C Z:I | idle",
    );
}

#[test]
fn a_copy_in_by_execute_waits_on_its_client_until_copy_done() {
    talk(
        "> B E H | executing
         < 2 G   | copy_in
         > d c   | executing
         > S     | executing 1
         < C Z:I | idle",
    );
}

#[test]
fn the_sync_sent_with_a_copy_in_is_dropped_by_the_worker() {
    // tokio-postgres.
    talk(
        "> B E S | executing 1
         < 2 G   | copy_in
         > d c S | executing 1
         < C Z:I | idle",
    );
    // The Sync that comes behind the CopyInResponse is dropped all the same.
    talk(
        "> B E H | executing
         < 2 G   | copy_in
         > S d   | copy_in
         > c S   | executing 1
         < C Z:I | idle",
    );
}

#[test]
fn copy_data_may_be_sent_before_the_copy_in_response_is_seen() {
    for (pipelined, outstanding) in [("Q d c", 1), ("B E d c S", 1), ("B E S d c S", 2), ("B E S S d c S", 3)] {
        let mut tracker = connected();
        client(&mut tracker, pipelined);
        assert_eq!(tracker.outstanding(), outstanding, "{pipelined}");
        talk_on(
            tracker,
            "< 2 G | executing 1
             < C   | executing 1
             < Z:I | idle",
        );
    }
}

#[test]
fn copies_pipelined_in_one_batch_are_ended_one_by_one() {
    talk(
        "> B E c B E | executing
         < 2 G       | executing
         < C 2 G     | copy_in
         > c S       | executing 1
         < C Z:I     | idle",
    );
}

#[test]
fn a_copy_done_that_belongs_to_no_copy_ends_none() {
    // One for a COPY that has failed, one behind a SELECT, one behind a batch: the worker drops them all.
    talk(
        "> Q         | executing 1
         < G         | copy_in 1
         < E Z:I     | idle
         > d c       | idle
         > Q         | executing 1
         < G         | copy_in 1
         > c         | executing 1
         < C Z:I     | idle",
    );
    talk(
        "> B E c B E | executing
         < 2 C 2 G   | copy_in",
    );
    talk(
        "> B E c S c B E S | executing 2
         < 2 C Z:I         | executing 1
         < 2 G             | copy_in",
    );
}

#[test]
fn an_error_during_a_copy_by_query_is_followed_by_ready_for_query() {
    talk(
        "> Q     | executing 1
         < G     | copy_in 1
         > d     | copy_in 1
         < E     | executing 1
         > d c   | executing 1
         < Z:I   | idle",
    );
}

#[test]
fn an_error_during_a_copy_by_execute_skips_to_the_sync() {
    talk(
        "> B E S | executing 1
         < 2 G   | copy_in
         > d     | copy_in
         < E     | open_batch
         > d c   | open_batch
         > S     | executing 1
         < Z:I   | idle",
    );
}

#[test]
fn the_end_of_a_copy_sits_in_the_workers_buffer_until_it_is_flushed() {
    // The Flush that went before the data does nothing for the answer behind it.
    for pipelined in [
        "> B E H | executing \n < 2 G | copy_in \n > d c | executing",
        "> B E H c | executing \n < 2 G | executing",
        "> B E S H c | executing 1 \n < 2 G | executing",
    ] {
        let mut tracker = talk(pipelined);
        assert!(tracker.needs_flush(), "{pipelined}");
        tracker.flush_sent();
        talk_on(tracker, "< C | open_batch");
    }
}

#[test]
fn a_replication_stream_is_idle_until_one_side_ends_it() {
    assert!(talk("> Q | executing 1 \n < W | idle 1").is_stream());
    assert!(!talk("> Q | executing 1 \n < W | idle 1 \n > c | executing 1").is_stream());
    talk(
        "> Q     | executing 1
         < W     | idle 1
         < d d   | idle 1
         > d     | idle 1
         > c     | executing 1
         < d c   | executing 1
         < C Z:I | idle",
    );
    talk(
        "> Q     | executing 1
         < W d E | executing 1
         < Z:I   | idle",
    );
    // As a server does that shuts down.
    talk(
        "> Q     | executing 1
         < W d C | executing 1",
    );
}

#[test]
fn a_request_behind_the_end_of_a_replication_stream_is_counted() {
    talk(
        "> Q       | executing 1
         < W       | idle 1
         > c Q     | executing 2
         < c C Z:I | executing 1
         < C Z:I   | idle",
    );
}

#[test]
fn a_replication_stream_owes_the_rest_of_its_message_and_no_more() {
    let mut tracker = talk("> Q | executing 1 \n < W | idle 1");
    assert_eq!(tracker.owed(), None);
    let data = messages("d");
    assert_eq!(tracker.observe(&data[..3]), Ok(3));
    assert_eq!(tracker.owed(), Some(2), "of the header");
    assert_eq!(tracker.observe(&data[3..5]), Ok(2));
    assert_eq!(tracker.owed(), Some(4), "of the body");
    assert_eq!(tracker.observe(&data[5..6]), Ok(1));
    assert_eq!(tracker.owed(), Some(3), "of the rest of it");
    assert_eq!(tracker.observe(&data[6..]), Ok(3));
    assert_eq!((tracker.owed(), tracker.activity()), (None, Activity::Idle));
}

#[test]
fn half_a_message_waits_for_the_flush_of_the_data_sent_ahead() {
    // The first Sync gets no answer, and the second never comes: only a Flush tells that the COPY is over.
    let mut tracker = talk("> B E S c | executing 1");
    let half = &messages("S")[..2];
    assert_eq!(tracker.forward(half, Gate::Open), Ok(0));
    assert!(tracker.needs_flush());
    tracker.flush_sent();
    assert_eq!(tracker.forward(half, Gate::Open), Ok(2));
    talk_on(tracker, "< 2 G | executing \n < C | open_batch");
}

#[test]
fn a_sync_behind_a_copy_that_fails_before_it_reads_is_answered() {
    // A view as its target, a statement trigger that fails, a cancel before the first read.
    let tracker = talk(
        "> P B E S | executing 1
         < 1 2 G E | open_batch
         < Z:I     | idle",
    );
    assert_eq!(tracker.answered(), 1);
    // What comes behind it is counted as ever.
    talk_on(
        tracker,
        "> Q     | executing 1
         < T D C | executing 1
         < Z:T   | idle_in_transaction",
    );
}

#[test]
fn a_failed_copy_whose_syncs_are_answered_or_not_executes_while_a_statement_may_run_and_no_longer() {
    // The driver ends the COPY and sends a second Sync before it has seen the answer to the first.
    let failed = || talk("> B E S | executing 1 \n < 2 G | copy_in \n > f S | executing 1 \n < E | executing 1");
    // Both are answered,
    talk_on(
        failed(),
        "< Z:I | idle
         < Z:I | idle
         > Q   | executing 1
         < C   | executing 1
         < Z:I | idle",
    );
    // or one,
    talk_on(
        failed(),
        "< Z:I | idle
         > Q   | executing 1
         < C   | executing 1
         < Z:I | idle",
    );
    // or the second when the next statement is on its way already: it must not be taken for that one's answer.
    talk_on(
        failed(),
        "< Z:I | idle
         > Q   | executing 1
         < Z:I | executing 1
         < C   | executing 1
         < Z:T | idle_in_transaction",
    );
    talk_on(
        failed(),
        "< Z:I       | idle
         > P B E S Q | executing 2
         < Z:I       | executing 2
         < 1 2 C Z:I | executing 1
         < C Z:I     | idle",
    );
    talk_on(
        failed(),
        "< Z:I       | idle
         > P B E S Q | executing 2
         < 1 2 C Z:I | executing 1
         < C Z:I     | idle",
    );
}

#[test]
fn what_answers_a_statement_behind_a_failed_copy_tells_that_no_sync_is_owed() {
    let failed = || {
        talk(
            "> B E S | executing 1
             < 2 G   | copy_in
             > f S   | executing 1
             < E     | executing 1
             < Z:I   | idle",
        )
    };
    talk_on(failed(), "> Q       | executing 1 \n < E     | executing 1 \n < Z:I | idle");
    talk_on(failed(), "> P B E S | executing 1 \n < E     | executing 1 \n < Z:I | idle");
    talk_on(failed(), "> Q       | executing 1 \n < G     | copy_in 1   \n > c   | executing 1 \n < C Z:I | idle");
    talk_on(failed(), "> E S     | executing 1 \n < G     | copy_in     \n > c S | executing 1 \n < C Z:I | idle");
    // A query without a Sync before it is not answered by a ReadyForQuery alone.
    talk_on(failed(), "> P Q     | executing 1 \n < Z:I   | executing 1 \n < 1 C Z:I | idle");
}

#[test]
fn a_sync_among_the_data_of_a_copy_that_fails_before_it_reads_is_answered() {
    talk(
        "> B E H | executing
         < 2 G   | copy_in
         > S d   | copy_in
         < E     | open_batch
         < Z:I   | idle",
    );
}

#[test]
fn a_request_behind_a_copy_that_wants_data_ends_it() {
    // With an error, as the worker sees it: nobody waits for the client.
    for behind in ["P B E S", "Q"] {
        let mut tracker = connected();
        client(&mut tracker, &format!("Q {behind}"));
        talk_on(tracker, "< G | executing 2");
    }
}

#[test]
fn a_copy_in_is_no_answer_to_its_execute() {
    let mut tracker = talk("> B E H | executing \n < 2 G | copy_in \n > c | executing");
    assert!(!tracker.is_unasked());
    tracker.flush_sent();
    assert!(talk_on(tracker, "< C | open_batch").is_unasked());
}

#[test]
fn a_worker_that_ends_a_copy_with_ready_for_query_alone_owes_nothing_more_of_it() {
    talk(
        "> Q   | executing 1
         < G   | copy_in 1
         > S   | copy_in 1
         < Z:I | executing 1
         < Z:I | idle",
    );
}

#[test]
fn a_sync_behind_a_copy_by_query_is_answered_if_the_copy_fails_before_it_reads() {
    talk(
        "> Q S     | executing 2
         < G       | copy_in 1
         < E       | executing 1
         < Z:I     | idle
         < Z:I     | idle
         > Q       | executing 1
         < C Z:I   | idle",
    );
    talk(
        "> Q S     | executing 2
         < G       | copy_in 1
         > d       | copy_in 1
         < E Z:I   | idle
         > Q       | executing 1
         < C Z:I   | idle",
    );
    talk(
        "> Q S d c | executing 2
         < G       | executing 1
         < C Z:I   | idle",
    );
}

#[test]
fn a_batch_whose_copy_failed_waits_on_its_client_and_is_forwarded_through_its_sync() {
    let mut tracker = talk("> B E S | executing 1 \n < 2 G | copy_in \n > d | copy_in \n < E | open_batch");
    assert_eq!(crate::talk::passing_when_due(&mut tracker, "d c S"), 3);
    talk_on(tracker, "< Z:I | idle");
}

#[test]
fn what_is_sent_behind_a_failed_copy_executes_if_its_sync_was_answered() {
    // Or the worker skips to the next one: nobody can tell, and what may execute counts.
    talk(
        "> P B E S | executing 1
         < 1 2 G E | open_batch
         > P B E   | executing
         < Z:I     | executing
         < 1 2 C   | open_batch
         > S       | executing 1
         < Z:I     | idle",
    );
    talk(
        "> P B E S   | executing 1
         < 1 2 G E   | open_batch
         > P B E S   | executing 1
         < Z:I       | executing
         < 1 2 C Z:I | idle",
    );
    // Nor if so many were sent that not all numbers of them are told apart.
    let mut tracker = connected();
    client(&mut tracker, &format!("B E {}", "S ".repeat(40)));
    talk_on(tracker, "< 2 G | copy_in \n < E | open_batch \n > P B E S | executing 1 \n < Z:I | executing");
}

#[test]
fn syncs_without_number_among_the_data_of_a_copy_cost_nothing() {
    let mut tracker = talk("> B E S | executing 1 \n < 2 G | copy_in");
    client(&mut tracker, &"d S ".repeat(5_000));
    talk_on(tracker, "> c S | executing 1 \n < C Z:I | idle");
    // All of them may have been sent too late.
    let mut tracker = talk("> B E S | executing 1 \n < 2 G | copy_in");
    client(&mut tracker, &"S ".repeat(40));
    talk_on(tracker, "< E | open_batch \n < Z:I | idle \n > Q | executing 1 \n < C Z:I | idle");
}
