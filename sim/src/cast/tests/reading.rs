//! Clients that stop reading, or read slowly.

use super::*;

fn read(read: Reading) -> Step {
    Step::Read(ReadAt { read })
}

fn wide(rows: u32, wait: bool) -> Step {
    Step::Query(Query { rows, row_bytes: 1000, wait, ..query(10) })
}

#[test]
fn a_query_that_is_not_waited_for_is_answered_in_its_turn() {
    let steps = vec![connect(), wide(1, false), think(5), wide(1, true), Step::Disconnect];
    assert_eq!(
        with_worker(steps, ms(1000))[1..],
        [
            "0 a.1/1 sent Query",
            "0 w a.1/1 began",
            "5 a.1/2 sent Query",
            "10 w a.1/1 Complete",
            "10 w a.1/2 began",
            "10 a.1/1 Complete",
            "20 w a.1/2 Complete",
            "20 a.1/2 Complete",
            "20 left disconnect",
            "20 done",
            "20 w over",
        ]
    );
}

#[test]
fn a_client_that_has_stopped_reading_sees_its_answer_when_it_reads_again() {
    let steps = vec![
        connect(),
        wide(1, false),
        read(Reading::Stop),
        think(500),
        read(Reading::Resume),
        wide(1, true),
        Step::Disconnect,
    ];
    let log = with_worker(steps, ms(1000));
    assert_eq!(
        log[1..7],
        [
            "0 a.1/1 sent Query",
            "0 stops reading",
            "0 w a.1/1 began",
            "10 w a.1/1 Complete",
            "500 reads again",
            "500 a.1/2 sent Query",
        ],
        "{log:#?}"
    );
    assert!(log.contains(&"500 a.1/1 Complete".to_owned()), "{log:#?}");
}

#[test]
fn a_client_that_does_not_read_sees_neither_the_fatal_nor_the_end_and_is_done_with_its_steps() {
    let serve = |world, stream| say_and_close(world, stream, fatal("57P01"));
    let steps = vec![connect(), read(Reading::Stop), think(5000)];
    assert_eq!(with_server(steps, ms(10_000), serve), ["0 a.1#1 session", "0 stops reading", "5000 done"]);
    let steps = vec![connect(), read(Reading::Stop), Step::Query(query(1))];
    assert_eq!(
        with_server(steps, ms(10_000), serve),
        ["0 a.1#1 session", "0 stops reading", "0 a.1/1 sent Query", "0 done"]
    );
}

#[test]
fn what_was_said_meanwhile_is_read_later() {
    let serve = |world, stream| say_and_close(world, stream, fatal("57P01"));
    let steps = vec![connect(), read(Reading::Stop), think(5000), read(Reading::Resume), think(1)];
    assert_eq!(
        with_server(steps, ms(10_000), serve)[2..],
        ["5000 reads again", "5000 fatal 57P01 mid=false", "5000 eof mid=false", "5000 done"]
    );
}

#[test]
fn the_connection_of_a_client_that_does_not_read_stays_open() {
    let steps = vec![connect(), read(Reading::Stop)];
    let log = with_worker(steps, ms(10_000));
    assert_eq!(log, ["0 a.1#1 session", "0 stops reading", "0 done"]);
}

#[test]
fn a_slow_reader_takes_its_rate_and_no_more() {
    let slow = read("1KB/s".parse().unwrap());
    let log = with_worker(vec![connect(), slow, wide(10, true), Step::Disconnect], ms(60_000));
    // Ten rows of 1011 bytes, and some: the eleventh second brings the last of it.
    assert_eq!(log[4..6], ["10 w a.1/1 Complete", "10000 a.1/1 Complete"], "{log:#?}");
}
