//! Clients that leave without a word.

use super::*;

#[test]
fn a_reset_ends_the_session_at_its_worker() {
    let steps = vec![connect(), Step::Begin, insert(), think(100), Step::Reset];
    assert_eq!(
        with_worker(steps, ms(1000))[7..],
        [
            "1 w a.1/2 Complete",
            "1 a.1/2 Complete",
            "101 left reset",
            "101 done",
            "101 w rolled back a.1/2",
            "101 w over"
        ]
    );
}

#[test]
fn nobody_hears_of_a_machine_that_has_vanished() {
    let query = Step::Query(Query { wait: false, ..query(1000) });
    let log = with_worker(vec![connect(), query, think(100), Step::Vanish], ms(60_000));
    assert_eq!(
        log[1..],
        [
            "0 a.1/1 sent Query",
            "0 w a.1/1 began",
            "100 left vanish",
            "100 a.1/1 Lost",
            "100 done",
            "1000 w a.1/1 Complete",
        ]
    );
}

#[test]
fn a_client_that_was_reset_or_vanished_may_connect_again() {
    for end in [Step::Reset, Step::Vanish] {
        let steps = vec![connect(), end, connect(), Step::Query(query(1)), Step::Disconnect];
        let log = with_worker(steps, ms(1000));
        assert!(log.contains(&"0 a.1#2 session".to_owned()), "{log:#?}");
        assert!(log.contains(&"1 left disconnect".to_owned()), "{log:#?}");
    }
}

#[test]
fn a_client_that_was_told_goodbye_has_nothing_left_to_reset() {
    let serve = |world, stream| say_and_close(world, stream, fatal("57P01"));
    let steps = vec![raw_connect(), Step::Query(query(1)), Step::Reset];
    let log = with_server(steps, ms(10_000), serve);
    assert!(!log.iter().any(|line| line.contains("left")), "{log:#?}");
}
