//! What the tracker makes of each situation of the protocol: one test each. COPY has a file of its own.

use lastcall_core::tracker::{Gate, MAX_OUTSTANDING, Tracker};
use lastcall_core::wire::CancelKey;
use lastcall_core::{Activity, TransactionStatus};

use crate::talk::{WELCOME, client, connected, fresh, messages, talk, talk_on, worker};

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
fn the_status_is_the_first_byte_behind_a_ready_for_querys_header() {
    for split in 1..messages("Z:TI").len() {
        let mut tracker = talk("> Q | executing 1");
        for piece in [&messages("Z:TI")[..split], &messages("Z:TI")[split..]] {
            assert_eq!(tracker.observe(piece), Ok(piece.len()));
        }
        assert_eq!(tracker.status(), TransactionStatus::InTransaction, "split at {split}");
    }
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
fn half_an_answer_is_owed_by_the_worker() {
    for (kind, before) in [("D", "Q"), ("N", "Q"), ("S", "Q"), ("N", "P H"), ("E", "")] {
        let mut tracker = connected();
        client(&mut tracker, before);
        let answer = messages(kind);
        for at in 1..answer.len() {
            tracker.observe(&answer[at - 1..at]).unwrap();
            assert_eq!(
                (tracker.activity(), tracker.may_speak()),
                (Activity::Executing, false),
                "{kind} behind {before}"
            );
            assert!(!tracker.is_unasked());
        }
    }
}

#[test]
fn half_a_message_that_comes_unasked_leaves_the_connection_what_it_is() {
    for (script, activity) in [
        ("> Q | executing 1 \n < C Z:I | idle", Activity::Idle),
        ("> Q | executing 1 \n < C Z:T | idle_in_transaction", Activity::IdleInTransaction),
    ] {
        for kind in ["N", "S", "A"] {
            let mut tracker = talk(script);
            let notice = messages(kind);
            for at in 0..notice.len() {
                assert_eq!((tracker.activity(), tracker.may_speak()), (activity, at == 0), "{kind}");
                assert_eq!((tracker.is_unasked(), tracker.owed().is_some()), (true, at > 0), "{kind}");
                assert_eq!(tracker.observe(&notice[at..=at]), Ok(1));
            }
            assert_eq!((tracker.activity(), tracker.may_speak(), tracker.owed()), (activity, true, None));
        }
    }
    let mut tracker = talk("> P H | open_batch \n < 1 | open_batch");
    tracker.observe(&messages("A")[..3]).unwrap();
    assert_eq!((tracker.activity(), tracker.is_unasked()), (Activity::OpenBatch, true));
    let mut tracker = talk("> Q | executing 1");
    tracker.observe(&messages("A")[..3]).unwrap();
    assert_eq!((tracker.activity(), tracker.is_unasked()), (Activity::Executing, false), "the answer is still to come");
}

#[test]
fn a_request_behind_half_a_notification_executes_and_the_rest_of_it_is_no_answer() {
    let mut tracker = connected();
    let notification = messages("A");
    tracker.observe(&notification[..3]).unwrap();
    client(&mut tracker, "Q");
    assert_eq!((tracker.activity(), tracker.is_unasked()), (Activity::Executing, false));
    let end = tracker.answer_end();
    tracker.observe(&notification[3..]).unwrap();
    assert_eq!(tracker.answer_end(), end);
    worker(&mut tracker, "C Z:I");
    assert!(tracker.is_unasked());
}

#[test]
fn nothing_is_unasked_while_something_is_asked() {
    assert!(!fresh().is_unasked());
    assert!(connected().is_unasked());
    for (script, unasked) in [
        ("> Q | executing 1", false),
        ("> Q | executing 1 \n < G | copy_in 1", false),
        ("> Q | executing 1 \n < W | idle 1", true),
        ("> P | open_batch", false),
        ("> P H | open_batch \n < 1 | open_batch", true),
        ("> P B H | open_batch \n < E | open_batch", true),
        ("> P B H | open_batch \n < E | open_batch \n > S | executing 1", false),
    ] {
        assert_eq!(talk(script).is_unasked(), unasked, "{script}");
    }
}

#[test]
fn the_end_of_the_answers_is_behind_the_last_byte_that_was_asked_for() {
    let mut tracker = fresh();
    let mut sent = 0;
    let mut say = |tracker: &mut Tracker, types: &str, answers: bool| {
        for byte in messages(types) {
            let before = tracker.answer_end();
            tracker.observe(&[byte]).unwrap();
            sent += 1;
            assert_eq!(tracker.answer_end(), if answers { sent } else { before }, "{types}");
        }
    };
    say(&mut tracker, WELCOME, true);
    say(&mut tracker, "A N S A", false);
    client(&mut tracker, "Q");
    say(&mut tracker, "A", false);
    say(&mut tracker, "N S T D C Z:T", true);
    say(&mut tracker, "N S A", false);
    client(&mut tracker, "P H");
    say(&mut tracker, "1 N S", true);
    client(&mut tracker, "S");
    say(&mut tracker, "Z:I", true);
    client(&mut tracker, "Q");
    say(&mut tracker, "W", true);
    say(&mut tracker, "d N d", false);
    client(&mut tracker, "c");
    say(&mut tracker, "d c C Z:I", true);
    say(&mut tracker, "E", true);
}

#[test]
fn only_a_complete_error_of_severity_fatal_or_panic_ends_the_session() {
    let fatal = messages("E:SFATAL\0VFATAL\0C57P01\0\0");
    for split in 0..=fatal.len() {
        let mut tracker = connected();
        client(&mut tracker, "Q");
        worker(&mut tracker, "E:SERROR\0VERROR\0MFATAL\0\0 N:SFATAL\0VFATAL\0\0 Z:I");
        tracker.observe(&fatal[..split]).unwrap();
        assert_eq!(tracker.said_fatal(), split == fatal.len(), "split at {split}");
        tracker.observe(&fatal[split..]).unwrap();
        assert!(tracker.said_fatal(), "split at {split}");
    }
    let mut tracker = fresh();
    worker(&mut tracker, "R E:SPANIC\0\0");
    assert!(tracker.said_fatal());
}

#[test]
fn the_workers_key_is_kept_wherever_its_bytes_are_split() {
    for length in [8, 9, 36, CancelKey::MAX] {
        let body: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let key = [b"K", &(length as u32 + 4).to_be_bytes()[..], &body].concat();
        let welcome = [messages("R S"), key, messages("S Z:I")].concat();
        for split in 0..=welcome.len() {
            let mut tracker = fresh();
            let (first, second) = welcome.split_at(split);
            tracker.observe(first).unwrap();
            tracker.observe(second).unwrap();
            assert_eq!(tracker.worker_key(), CancelKey::read(&body).as_ref(), "{length} bytes split at {split}");
            assert!(tracker.worker_key().is_some());
        }
        let mut tracker = fresh();
        welcome.chunks(1).for_each(|byte| assert_eq!(tracker.observe(byte), Ok(1)));
        assert_eq!(tracker.worker_key(), CancelKey::read(&body).as_ref(), "{length} single bytes");
    }
}

#[test]
fn a_key_that_is_too_short_or_too_long_is_none() {
    assert_eq!(CancelKey::MAX, 260, "a process id, and the longest secret of version 3.2");
    for length in [0, 7, CancelKey::MAX + 1, 10_000] {
        let key = [b"K", &(length as u32 + 4).to_be_bytes()[..], &vec![0; length]].concat();
        let mut tracker = fresh();
        tracker.observe(&key).unwrap();
        worker(&mut tracker, "Z:I");
        assert_eq!(tracker.worker_key(), None, "{length}");
    }
}

#[test]
fn a_cancel_request_carries_the_key_and_a_log_does_not() {
    let key = CancelKey::read(&[&[0, 0, 1, 2][..], &[200; 6]].concat()).unwrap();
    assert_eq!(key.process_id(), 258);
    assert_eq!(key.request(), [&[0, 0, 0, 18, 4, 210, 22, 46, 0, 0, 1, 2][..], &[200; 6]].concat());
    assert_eq!(format!("{key:?}"), "CancelKey(258, …)");
    for (other, matches) in [
        (&[0, 0, 1, 2, 200, 200, 200, 200, 200, 200][..], true),
        (&[0, 0, 1, 2, 200, 200, 200, 200], false),
        (&[0, 0, 1, 2, 200, 200, 200, 200, 200, 201], false),
        (&[0, 0, 1, 2, 200, 200, 200, 200, 201, 201], false),
    ] {
        assert_eq!(key.matches(&CancelKey::read(other).unwrap()), matches);
    }
}

#[test]
fn the_key_is_the_handshakes_whatever_comes_later() {
    let mut tracker = connected();
    worker(&mut tracker, "K:another's");
    assert_eq!(tracker.worker_key(), CancelKey::read(b"worker's").as_ref());
}

#[test]
fn the_key_is_not_known_before_its_last_byte() {
    let bytes = messages("K:worker's");
    let (rest, last) = bytes.split_at(bytes.len() - 1);
    let mut tracker = fresh();
    tracker.observe(rest).unwrap();
    assert_eq!(tracker.worker_key(), None);
    tracker.observe(last).unwrap();
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
fn a_password_passes_in_whatever_pieces_it_comes() {
    let mut tracker = fresh();
    for byte in messages("p") {
        assert_eq!(tracker.forward(&[byte], Gate::Open), Ok(1));
    }
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

#[test]
fn a_query_behind_a_failed_message_without_a_sync_between_is_skipped_with_it() {
    talk(
        "> P Q | executing 1
         < E   | open_batch
         > S   | executing 1
         < Z:I | idle",
    );
}
