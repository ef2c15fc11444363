//! How far a connect goes, and when its startup packet is with the network. Statements that only sessions have.

use super::*;

fn entries(steps: Vec<Step>, until: Span) -> Vec<Entry> {
    let recorder = Recorder::default();
    let worker = |world, recorder| async move { worker::run(world, recorder, worker::Worker::default()).await };
    run_into(&recorder, client_of(steps), until, worker);
    recorder.history().entries
}

fn startups(first: Connect) -> Vec<u128> {
    let entries = entries(vec![Step::Connect(first)], ms(5000));
    let sent = entries.iter().filter(|entry| matches!(entry.event, Event::StartupSent { .. }));
    sent.map(|entry| entry.at.since_epoch().as_millis()).collect()
}

#[test]
fn the_startup_packet_is_told_once_it_is_sent_as_a_whole() {
    let until = |until| Connect { until, ..Connect::default() };
    assert_eq!(startups(Connect::default()), [0], "by the library");
    assert_eq!(startups(Connect { pause: ms(300), ..Connect::default() }), [300], "by hand");
    assert_eq!(startups(Connect { tls: true, ..Connect::default() }), [0]);
    assert_eq!(startups(until(Until::Password)), [0]);
    for early in [Until::Tcp, Until::Tls, Until::Startup] {
        assert_eq!(startups(until(early)), [], "{early}");
    }
}

#[test]
fn a_client_that_asks_for_tls_goes_on_in_the_clear() {
    let tls = Step::Connect(Connect { tls: true, ..Connect::default() });
    let log = with_worker(vec![tls, Step::Query(query(1)), Step::Disconnect], ms(1000));
    assert_eq!(log[0], "0 a.1#1 session");
    assert_eq!(log[4..], ["1 a.1/1 Complete", "1 left disconnect", "1 done", "1 w over"], "{log:#?}");
}

#[test]
fn a_client_that_asked_for_tls_or_has_no_password_is_silent() {
    for until in [Until::Tls, Until::Password] {
        let first = Step::Connect(Connect { until, ..Connect::default() });
        let log = with_worker(vec![first, think(50), Step::Close(Close::default())], ms(5000));
        assert_eq!(log[..2], ["50 left close", "50 done"], "{until}");
    }
}

#[test]
fn a_worker_that_asks_for_a_password_has_a_session_but_says_nothing_more() {
    let first = Step::Connect(Connect { until: Until::Password, ..Connect::default() });
    let entries = entries(vec![first], ms(5000));
    assert!(entries.iter().any(|entry| matches!(entry.event, Event::WorkerSessionBegan { .. })));
    assert!(!entries.iter().any(|entry| matches!(entry.event, Event::SessionBegan { .. })));
}

#[test]
fn a_cursor_gives_its_rows_in_pieces_and_is_gone_with_its_transaction() {
    let declare = Step::Declare(Declare { declare: "c".to_owned(), query: ms(20), rows: 5, row_bytes: 16 });
    let fetch = |rows| Step::Fetch(Fetch { fetch: "c".to_owned(), rows });
    for first in [connect(), raw_connect()] {
        let steps = vec![
            first,
            declare.clone(),
            Step::Begin,
            declare.clone(),
            fetch(3),
            fetch(3),
            declare.clone(),
            Step::Rollback,
            fetch(1),
            Step::Begin,
            fetch(1),
        ];
        let log = with_worker(steps, ms(10_000));
        let ended: Vec<&str> = log
            .iter()
            .filter(|line| !line.contains(" w ") && (line.contains("error") || line.contains("Complete")))
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(
            ended,
            [
                "a.1/1 error 25P01",
                "a.1/2 Complete",
                "a.1/3 Complete",
                "a.1/4 Complete",
                "a.1/5 Complete",
                "a.1/6 error 42P03",
                "a.1/7 Complete",
                "a.1/8 error 34000",
                "a.1/9 Complete",
                "a.1/10 error 34000",
            ]
        );
    }
}

#[test]
fn listen_and_a_function_call_are_statements() {
    let steps = vec![connect(), Step::Listen, Step::Call(Call { call: ms(20) }), Step::Disconnect];
    assert_eq!(
        with_worker(steps, ms(1000))[1..],
        [
            "0 a.1/1 sent Query",
            "0 w a.1/1 began",
            "0 w a.1/1 Complete",
            "0 a.1/1 Complete",
            "0 a.1/2 sent Query",
            "0 w a.1/2 began",
            "20 w a.1/2 Complete",
            "20 a.1/2 Complete",
            "20 left disconnect",
            "20 done",
            "20 w over",
        ]
    );
}
