//! COPY in both directions, from both sides.

use super::*;

fn copy_in(rows: u32, every: u64) -> CopyIn {
    CopyIn {
        copy_in: rows,
        every: ms(every),
        row_bytes: 16,
        stops_after: None,
        buffer: 0,
        fails: false,
        cancel_after: None,
        protocol: Protocol::Simple,
        early_sync: true,
        late_sync: true,
        into: CopyTarget::Table,
        trigger: None,
    }
}

fn extended(rows: u32, every: u64) -> CopyIn {
    CopyIn { protocol: Protocol::Extended, ..copy_in(rows, every) }
}

fn copy_out(rows: u32, row_bytes: u32, takes: u64) -> CopyOut {
    CopyOut { copy_out: rows, row_bytes, takes: ms(takes), cancel_after: None, wait: true }
}

/// The log without what every session begins with.
fn of(steps: Vec<Step>) -> Vec<String> {
    with_worker([connect()].into_iter().chain(steps).collect(), ms(10_000))[1..].to_vec()
}

#[test]
fn a_copy_in_is_committed_with_its_answer_and_the_worker_waits_between_its_rows() {
    assert_eq!(
        of(vec![Step::CopyIn(copy_in(3, 50)), Step::Disconnect]),
        [
            "0 a.1/1 sent Insert",
            "0 w a.1/1 began",
            "0 w waits",
            "0 w goes on",
            "0 w waits",
            "50 w goes on",
            "50 w waits",
            "100 w goes on",
            "100 w committed a.1/1",
            "100 w a.1/1 Complete",
            "100 a.1/1 Complete",
            "100 left disconnect",
            "100 done",
            "100 w over",
        ]
    );
}

#[test]
fn a_copy_in_a_transaction_waits_for_its_commit() {
    let log = of(vec![Step::Begin, Step::CopyIn(copy_in(3, 0)), think(100), Step::Commit]);
    assert!(log.contains(&"100 w committed a.1/2".to_owned()), "{log:#?}");
}

#[test]
fn a_copy_that_its_client_gives_up_is_an_error_and_nothing_is_kept() {
    let fails = Step::CopyIn(CopyIn { fails: true, ..copy_in(3, 0) });
    let log = of(vec![fails, Step::Query(query(10))]);
    assert!(log.contains(&"0 w a.1/1 failed 57014".to_owned()), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("committed")), "{log:#?}");
    assert_eq!(log.last().unwrap(), "10 a.1/2 Complete", "{log:#?}");
}

#[test]
fn a_client_that_buffers_sends_nothing_until_its_buffer_is_full() {
    let buffers = CopyIn { buffer: 32, ..copy_in(5, 10) };
    let log = of(vec![Step::CopyIn(buffers)]);
    let moved: Vec<&String> = log.iter().filter(|line| line.ends_with("goes on")).collect();
    // A message has 21 bytes: two of them fill the buffer. The last row comes with the end.
    assert_eq!(moved, ["10 w goes on", "30 w goes on", "40 w goes on"], "{log:#?}");
    assert!(log.contains(&"40 w committed a.1/1".to_owned()), "{log:#?}");
}

#[test]
fn a_client_that_stops_sends_neither_the_end_nor_the_failure() {
    let stops = CopyIn { stops_after: Some(2), ..copy_in(5, 10) };
    let log = of(vec![Step::CopyIn(stops)]);
    assert_eq!(log[log.len() - 2..], ["10 w goes on", "10 w waits"], "{log:#?}");
}

#[test]
fn a_cancel_request_is_noticed_with_the_next_row() {
    let cancelled = CopyIn { cancel_after: Some(ms(110)), ..copy_in(1000, 50) };
    let log = of(vec![Step::CopyIn(cancelled), Step::Query(query(1))]);
    let from = log.iter().position(|line| line.ends_with("cancel")).unwrap();
    assert_eq!(
        log[from..from + 5],
        ["110 a.1/1 cancel", "150 w goes on", "150 w a.1/1 Cancelled", "150 a.1/1 error 57014", "150 a.1/2 sent Query",],
        "{log:#?}"
    );
    assert_eq!(log.last().unwrap(), "151 a.1/2 Complete");
}

#[test]
fn a_copy_in_the_extended_protocol_is_answered_once_wherever_its_sync_stands() {
    for early_sync in [true, false] {
        let copy = CopyIn { early_sync, ..extended(3, 50) };
        let log = of(vec![Step::CopyIn(copy), Step::Query(query(1)), Step::Disconnect]);
        let ends: Vec<&String> = log.iter().filter(|line| line.contains("Complete") || line.contains("left")).collect();
        let expected = ["100 w a.1/1 Complete", "100 a.1/1 Complete", "101 w a.1/2 Complete", "101 a.1/2 Complete"];
        assert_eq!(ends[..4], expected, "{log:#?}");
        assert_eq!(ends[4], "101 left disconnect");
        assert!(log.contains(&"100 w committed a.1/1".to_owned()), "{log:#?}");
    }
}

#[test]
fn a_copy_that_fails_before_it_reads_is_answered_and_so_is_the_next_request() {
    for (into, code) in [(CopyTarget::View, "42809"), (CopyTarget::Missing, "42P01")] {
        for copy in [extended(3, 50), CopyIn { early_sync: false, ..extended(3, 50) }, copy_in(3, 50)] {
            let copy = CopyIn { into, ..copy };
            let log = of(vec![Step::CopyIn(copy), Step::Query(query(1)), Step::Disconnect]);
            let answers: Vec<&String> =
                log.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
            assert!(answers.contains(&&format!("0 a.1/1 error {code}")), "{log:#?}");
            assert!(answers.contains(&&"1 a.1/2 Complete".to_owned()), "{log:#?}");
        }
    }
}

#[test]
fn a_driver_that_knows_of_no_copy_is_answered_where_it_is_refused_and_waits_for_ever_where_it_is_not() {
    let alone = |into| CopyIn { late_sync: false, into, ..extended(3, 1) };
    let log = of(vec![Step::CopyIn(alone(CopyTarget::View)), Step::Query(query(1))]);
    assert_eq!(log.last().unwrap(), "1 a.1/2 Complete", "{log:#?}");
    let log = of(vec![Step::CopyIn(alone(CopyTarget::Table)), Step::Query(query(1))]);
    assert!(log.contains(&"2 w a.1/1 Complete".to_owned()), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("a.1/2")), "{log:#?}");
}

#[test]
fn a_trigger_can_be_cancelled_before_the_copy_has_read_a_row() {
    let copy = CopyIn { trigger: Some(ms(500)), cancel_after: Some(ms(100)), ..extended(3, 1) };
    let log = of(vec![Step::CopyIn(copy), Step::Query(query(1))]);
    assert!(log.contains(&"100 a.1/1 error 57014".to_owned()), "{log:#?}");
    assert_eq!(log.last().unwrap(), "101 a.1/2 Complete", "{log:#?}");
    let copy = CopyIn { trigger: Some(ms(500)), ..extended(3, 1) };
    let log = of(vec![Step::CopyIn(copy)]);
    assert_eq!(log.last().unwrap(), "500 a.1/1 Complete", "{log:#?}");
}

#[test]
fn a_copy_without_an_end_is_lost_with_its_connection() {
    async fn hang_up(world: TestWorld, mut stream: Pipe) {
        let mut startup = [0; 1024];
        let _ = stream.read(&mut startup).await;
        stream.write_all(GREETING).await.unwrap();
        let _ = stream.read(&mut startup).await;
        stream.write_all(b"G\0\0\0\x09\0\0\x01\0\0").await.unwrap();
        world.at(Duration::from_secs(1)).await;
    }
    let stops = CopyIn { stops_after: Some(1), ..copy_in(5, 10) };
    let log = with_server(vec![connect(), Step::CopyIn(stops)], ms(10_000), hang_up);
    assert_eq!(log[1..], ["0 a.1/1 sent Insert", "1000 eof mid=false", "1000 a.1/1 Lost", "1000 done"]);
}

#[test]
fn rows_without_pauses_go_out_as_fast_as_the_socket_takes_them() {
    let bulk = CopyIn { row_bytes: 60_000, ..copy_in(100, 0) };
    let log = of(vec![Step::CopyIn(bulk)]);
    assert_eq!(log.last().unwrap(), "0 a.1/1 Complete", "{log:#?}");
    assert!(log.contains(&"0 w committed a.1/1".to_owned()));
}

#[test]
fn the_rows_of_a_copy_out_are_spread_over_its_time() {
    let log = of(vec![Step::CopyOut(copy_out(10, 8192, 1000)), Step::Disconnect]);
    assert_eq!(
        log,
        [
            "0 a.1/1 sent Query",
            "0 w a.1/1 began",
            "1000 w a.1/1 Complete",
            "1000 a.1/1 Complete",
            "1000 left disconnect",
            "1000 done",
            "1000 w over",
        ]
    );
    let log = of(vec![Step::CopyOut(copy_out(0, 16, 500))]);
    assert_eq!(log.last().unwrap(), "500 a.1/1 Complete");
}

#[test]
fn a_copy_out_is_cancelled_between_two_rows() {
    let cancelled = CopyOut { cancel_after: Some(ms(150)), ..copy_out(10, 16, 1000) };
    let log = of(vec![Step::CopyOut(cancelled)]);
    assert_eq!(log[2..], ["150 a.1/1 cancel", "150 w a.1/1 Cancelled", "150 a.1/1 error 57014"]);
}

#[test]
fn a_worker_waits_for_a_client_that_takes_nothing_and_goes_on_with_the_first_byte_that_it_takes() {
    let read = |read| Step::Read(ReadAt { read });
    let rows = CopyOut { wait: false, ..copy_out(100, 8187, 100) };
    let steps = vec![Step::CopyOut(rows), read(Reading::Stop), think(5000), read(Reading::Resume), Step::Disconnect];
    let log = of(steps);
    let waits: Vec<&String> = log.iter().filter(|line| line.contains("waits") || line.contains("goes on")).collect();
    // The pipe holds 64 KiB: eight rows of 8 KiB, and the ninth waits. Then they go as the client takes them.
    assert_eq!(waits[..2], ["9 w waits", "5000 w goes on"], "{log:#?}");
    assert!(waits[2..].iter().all(|line| line.starts_with("5000 ")), "{log:#?}");
    assert!(log.contains(&"5000 a.1/1 Complete".to_owned()), "{log:#?}");
}
