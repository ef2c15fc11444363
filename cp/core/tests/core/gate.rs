//! What may pass to the worker while a connection is due.

use lastcall_core::tracker::Gate;

use crate::talk::{client, connected, messages, passing_when_due, talk, talk_on, worker};

#[test]
fn nothing_new_passes_at_a_boundary() {
    for request in ["Q", "F", "P", "B", "E", "S", "d", "c"] {
        let mut tracker = connected();
        assert_eq!(passing_when_due(&mut tracker, request), 0, "{request}");
    }
}

#[test]
fn a_goodbye_passes_at_a_boundary() {
    assert_eq!(passing_when_due(&mut connected(), "X"), 1);
}

#[test]
fn the_rest_of_a_half_message_does_not_pass_at_a_boundary() {
    for request in ["Q", "P"] {
        let mut tracker = connected();
        let bytes = messages(request);
        for half in 1..bytes.len() {
            assert_eq!(tracker.forward(&bytes[half - 1..half], Gate::Open), Ok(1));
            assert_eq!(tracker.forward(&bytes[half..], Gate::Due), Ok(0), "{request} after {half} bytes");
        }
    }
}

#[test]
fn nothing_passes_behind_a_request_that_is_not_answered() {
    for (ahead, request) in [("Q", "Q"), ("Q", "P"), ("P B E S", "P"), ("Q", "S")] {
        let mut tracker = connected();
        client(&mut tracker, ahead);
        assert_eq!(passing_when_due(&mut tracker, request), 0, "{request} behind {ahead}");
    }
}

#[test]
fn inside_a_transaction_one_sync_point_passes_at_a_time() {
    let mut tracker = talk("> Q | executing 1 \n < C Z:T | idle_in_transaction");
    assert_eq!(passing_when_due(&mut tracker, "Q Q"), 1);
    worker(&mut tracker, "C Z:T");
    assert_eq!(passing_when_due(&mut tracker, "P B E S P B E S"), 4);
    worker(&mut tracker, "E Z:E");
    assert_eq!(passing_when_due(&mut tracker, "S Q"), 1);
    worker(&mut tracker, "Z:E");
    assert_eq!(passing_when_due(&mut tracker, "Q Q"), 1);
    worker(&mut tracker, "C Z:I");
    assert_eq!(passing_when_due(&mut tracker, "Q"), 0);
}

#[test]
fn a_batch_that_was_begun_passes_through_its_sync() {
    let mut tracker = talk("> P | open_batch");
    assert_eq!(passing_when_due(&mut tracker, "B D E H B E S Q"), 7);
    let mut tracker = talk("> P B E H | executing \n < 1 2 E | open_batch");
    assert_eq!(passing_when_due(&mut tracker, "B E Q S Q"), 4, "and through what the worker skips before it");
}

#[test]
fn copy_data_flows() {
    let tracker = talk("> Q | executing 1 \n < G | copy_in 1");
    let mut tracker = talk_on(tracker, "> d | copy_in 1");
    assert_eq!(passing_when_due(&mut tracker, "d d c Q"), 3);
    let mut tracker = talk("> B E S | executing 1 \n < 2 G | copy_in");
    assert_eq!(passing_when_due(&mut tracker, "d c S B"), 3);
}

#[test]
fn copy_data_sent_ahead_waits_for_the_copy_in_response() {
    let mut tracker = talk("> Q | executing 1");
    assert_eq!(passing_when_due(&mut tracker, "d c"), 0);
    worker(&mut tracker, "G");
    assert_eq!(passing_when_due(&mut tracker, "d c"), 2);
}

#[test]
fn nothing_passes_into_a_replication_stream() {
    let mut tracker = talk("> Q | executing 1 \n < W | idle 1");
    assert_eq!(passing_when_due(&mut tracker, "d"), 0);
    assert_eq!(passing_when_due(&mut tracker, "c"), 0);
}
