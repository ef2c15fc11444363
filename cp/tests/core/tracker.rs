//! What the tracker makes of each situation of the protocol: one test each. COPY has a file of its own.

use cp::core::tracker::{Gate, MAX_OUTSTANDING, Tracker};
use cp::core::wire::CancelKey;
use cp::core::{Activity, TransactionStatus};

use crate::talk::{OWN_KEY, WELCOME, client, connected, fresh, messages, talk, talk_on, worker};

#[test]
fn a_simple_query_executes_until_ready_for_query() {
    let tracker = talk(
        "> Q       | executing 1
         < T D D C | executing 1
         < Z:I     | idle",
    );
    assert_eq!(tracker.answered(), 1);
}

#[test]
fn the_statements_of_one_query_are_one_request() {
    talk(
        "> Q           | executing 1
         < C T D C I C | executing 1
         < Z:I         | idle",
    );
}

#[test]
fn an_empty_query_is_answered_like_any_other() {
    talk(
        "> Q     | executing 1
         < I Z:I | idle",
    );
}

#[test]
fn a_failed_query_still_owes_its_ready_for_query() {
    talk(
        "> Q   | executing 1
         < E   | executing 1
         < Z:I | idle",
    );
}

#[test]
fn a_function_call_counts_as_a_simple_query() {
    talk(
        "> F     | executing 1
         < V Z:I | idle
         > F     | executing 1
         < E Z:I | idle",
    );
}

#[test]
fn a_transaction_block_is_told_by_ready_for_query_alone() {
    let tracker = talk(
        "> Q     | executing 1
         < C Z:T | idle_in_transaction
         > Q     | executing 1
         < E Z:E | idle_in_transaction
         > Q     | executing 1
         < C Z:I | idle",
    );
    assert_eq!(tracker.status(), TransactionStatus::Idle);
}

#[test]
fn a_batch_is_open_until_its_execute_and_executes_until_ready_for_query() {
    talk(
        "> P           | open_batch
         > B D         | open_batch
         > E           | executing
         > S           | executing 1
         < 1 2 T D C   | executing 1
         < Z:I         | idle",
    );
}

#[test]
fn a_batch_without_an_execute_waits_on_its_client() {
    talk(
        "> P D H   | open_batch
         < 1 t T   | open_batch
         > S       | executing 1
         < Z:I     | idle",
    );
}

#[test]
fn a_flushed_execute_executes_until_its_answer_and_is_open_afterwards() {
    talk(
        "> P B E H | executing
         < 1 2 D   | executing
         < C       | open_batch
         > S       | executing 1
         < Z:I     | idle",
    );
}

#[test]
fn an_empty_statement_and_a_suspended_portal_answer_their_execute_too() {
    talk(
        "> B E H | executing
         < 2 I   | open_batch
         > B E H | executing
         < 2 D s | open_batch",
    );
}

#[test]
fn each_execute_of_a_batch_is_answered_by_itself() {
    talk(
        "> B E B E H | executing
         < 2 C       | executing
         < 2 C       | open_batch",
    );
}

#[test]
fn a_suspended_portal_outside_a_transaction_is_idle() {
    talk(
        "> B E S     | executing 1
         < 2 D s Z:I | idle",
    );
}

#[test]
fn a_flush_is_wanted_for_an_execute_that_has_none() {
    let mut tracker = talk("> P B | open_batch");
    assert!(!tracker.needs_flush());
    for execute in ["E", "B E"] {
        client(&mut tracker, execute);
        assert!(tracker.needs_flush());
        tracker.flush_sent();
        assert!(!tracker.needs_flush());
    }
    client(&mut tracker, "B E H");
    assert!(!tracker.needs_flush(), "the client's own does as well");
    client(&mut tracker, "S");
    assert!(!tracker.needs_flush(), "and a Sync even better");
}

#[test]
fn half_a_message_waits_for_the_flush_of_the_execute_before_it() {
    let mut tracker = talk("> B | open_batch");
    let bytes = messages("E B");
    let (execute, half) = (messages("E").len(), &bytes[..bytes.len() - 1]);
    assert_eq!(tracker.forward(half, Gate::Open), Ok(execute));
    assert!(tracker.needs_flush());
    tracker.flush_sent();
    assert_eq!(tracker.forward(&half[execute..], Gate::Open), Ok(half.len() - execute));
    assert!(!tracker.needs_flush(), "there is no place for one");
}

#[test]
fn a_whole_message_waits_for_no_flush() {
    let tracker = talk("> E B E S | executing 1");
    assert!(!tracker.needs_flush());
}

#[test]
fn behind_an_error_in_a_batch_the_worker_waits_for_the_sync() {
    talk(
        "> P B E H | executing
         < E       | open_batch
         > B E H   | open_batch
         > S       | executing 1
         < Z:I     | idle",
    );
}

#[test]
fn an_error_in_a_batch_whose_sync_is_sent_waits_on_the_worker() {
    talk(
        "> P B E S | executing 1
         < 1 E     | executing 1
         < Z:I     | idle",
    );
}

#[test]
fn an_error_of_the_sync_itself_skips_nothing() {
    talk(
        "> P B E S | executing 1
         > B E     | executing 1
         < 1 2 C   | executing 1
         < E Z:I   | executing
         > H       | executing
         < 2 C     | open_batch",
    );
}

#[test]
fn a_query_behind_a_failed_batch_without_a_sync_is_skipped_and_owed_no_answer() {
    talk(
        "> P     | open_batch
         > Q     | executing 1
         < E     | open_batch
         > Q F   | open_batch
         > S     | executing 1
         < Z:I   | idle",
    );
    talk(
        "> P Q S | executing 2
         < E     | executing 1
         < Z:I   | idle",
    );
}

#[test]
fn a_query_behind_a_batch_without_a_sync_is_answered_when_nothing_fails() {
    talk(
        "> P B E Q       | executing 1
         < 1 2 C T D C   | executing 1
         < Z:I           | idle",
    );
    talk(
        "> P B E Q  | executing 1
         < 1 2 C E  | executing 1
         < Z:I      | idle",
    );
}

#[test]
fn pipelined_requests_count_one_by_one() {
    let tracker = talk(
        "> Q Q P B E S S F | executing 5
         < C Z:I           | executing 4
         < C Z:T           | executing 3
         < 1 2 C Z:T       | executing 2
         < Z:T             | executing 1
         < V Z:T           | idle_in_transaction",
    );
    assert_eq!(tracker.answered(), 5);
}

#[test]
fn an_error_in_one_pipelined_batch_is_over_with_its_sync() {
    talk(
        "> P B E S P B E S | executing 2
         < E Z:I           | executing 1
         < 1 2 C Z:I       | idle",
    );
}

#[test]
fn notices_and_notifications_answer_nothing() {
    talk(
        "< N A S   | idle
         > B E H   | executing
         < N 2 N   | executing
         < N C A   | open_batch
         > S       | executing 1
         < N A S   | executing 1
         < Z:T     | idle_in_transaction
         < A       | idle_in_transaction",
    );
}

#[test]
fn half_a_request_is_idle_at_every_byte() {
    let mut tracker = connected();
    let query = messages("Q");
    for (at, byte) in query.iter().enumerate() {
        assert_eq!((tracker.activity(), tracker.is_mid_request()), (Activity::Idle, at > 0));
        assert_eq!(tracker.forward(&[*byte], Gate::Open), Ok(1));
    }
    assert_eq!((tracker.activity(), tracker.is_mid_request()), (Activity::Executing, false));
}

#[test]
fn half_an_answer_is_owed_by_the_worker_even_if_it_is_only_a_notice() {
    let mut tracker = connected();
    let mut notice = messages("N");
    for at in 0..notice.len() {
        assert_eq!(tracker.may_speak(), at == 0);
        assert_eq!(tracker.activity(), if at == 0 { Activity::Idle } else { Activity::Executing });
        assert_eq!(tracker.observe(&mut notice[at..=at]), Ok(1));
    }
    assert_eq!((tracker.activity(), tracker.may_speak()), (Activity::Idle, true));
}

#[test]
fn the_workers_key_is_kept_and_replaced_wherever_its_bytes_are_split() {
    let welcome = messages(WELCOME);
    for split in 0..=welcome.len() {
        let mut bytes = welcome.clone();
        let mut tracker = fresh();
        let (first, second) = bytes.split_at_mut(split);
        tracker.observe(first).unwrap();
        tracker.observe(second).unwrap();
        assert_eq!(tracker.worker_key(), Some(CancelKey(*b"worker's")), "split at {split}");
        let replaced = String::from_utf8_lossy(&welcome).replace("worker's", "ownownow");
        assert_eq!(String::from_utf8_lossy(&bytes), replaced, "split at {split}");
    }
}

#[test]
fn the_key_is_not_known_before_its_last_byte() {
    let mut bytes = messages("K:worker's");
    let (last, rest) = bytes.split_last_mut().unwrap();
    let mut tracker = Tracker::new(OWN_KEY);
    tracker.observe(rest).unwrap();
    assert_eq!(tracker.worker_key(), None);
    tracker.observe(std::slice::from_mut(last)).unwrap();
    assert!(tracker.worker_key().is_some());
}

#[test]
fn the_handshake_lasts_until_the_first_ready_for_query_which_answers_nothing() {
    let tracker = talk_on(
        fresh(),
        "< R       | handshake
         > p       | handshake
         < R S K N | handshake
         < Z:I     | idle",
    );
    assert_eq!((tracker.answered(), tracker.is_ready()), (0, true));
}

#[test]
fn a_request_is_held_during_the_handshake_and_a_password_is_not() {
    let mut tracker = fresh();
    let bytes = messages("p Q");
    assert_eq!(tracker.forward(&bytes, Gate::Open), Ok(messages("p").len()));
    worker(&mut tracker, WELCOME);
    assert_eq!(tracker.forward(&messages("Q"), Gate::Open), Ok(messages("Q").len()));
    assert_eq!(tracker.activity(), Activity::Executing);
}

#[test]
fn nothing_is_forwarded_behind_a_terminate() {
    let mut tracker = connected();
    assert_eq!(tracker.forward(&messages("X Q"), Gate::Open), Ok(messages("X").len()));
    assert!(tracker.terminated());
    assert_eq!(tracker.forward(&messages("Q"), Gate::Open), Ok(0));
    let mut tracker = fresh();
    client(&mut tracker, "X");
    assert!(tracker.terminated(), "in the handshake too");
}

#[test]
fn a_client_that_pipelines_without_end_is_held_until_answers_come() {
    let mut tracker = connected();
    let queries = messages(&"Q ".repeat(MAX_OUTSTANDING + 1));
    let one = messages("Q").len();
    assert_eq!(tracker.forward(&queries, Gate::Open), Ok(MAX_OUTSTANDING * one));
    worker(&mut tracker, "C Z:I");
    assert_eq!(tracker.forward(&queries, Gate::Open), Ok(one));
    assert_eq!(tracker.outstanding(), MAX_OUTSTANDING);
}

#[test]
fn a_batch_that_was_begun_is_forwarded_through_its_sync_however_much_is_outstanding() {
    let mut tracker = connected();
    client(&mut tracker, &"Q ".repeat(MAX_OUTSTANDING - 1));
    client(&mut tracker, "P B E");
    client(&mut tracker, "S");
    assert_eq!(tracker.outstanding(), MAX_OUTSTANDING);
    assert_eq!(tracker.forward(&messages("P"), Gate::Open), Ok(0));
}
