//! Clients against workers, with nothing between them, and against servers that say goodbye.

mod copy;
mod leaving;
mod reading;
mod reconnecting;
mod startup;

use std::time::Duration;

use lastcall_world::{Listener, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::service::{Endpoint, Way};
use super::test_world::{Pipe, TestWorld};
use super::{client, worker};
use crate::cast::history::{Entry, Event, Inserted, Outcome, Recorder, StatementEnd};
use crate::scenario::model::*;

fn ms(ms: u64) -> Span {
    Span(Duration::from_millis(ms))
}

fn connect() -> Step {
    Step::Connect(Connect::default())
}

fn query(takes: u64) -> Query {
    Query {
        query: ms(takes),
        rows: 1,
        row_bytes: 16,
        fails: None,
        protocol: Protocol::Simple,
        cancel_after: None,
        wait: true,
    }
}

fn insert() -> Step {
    Step::Insert(Insert { insert: 1, takes: ms(1) })
}

fn execute(takes: u64, insert: u32) -> Step {
    Step::Execute(Execute { execute: ms(takes), insert, rows: None, max_rows: 0, cancel_after: None })
}

fn think(takes: u64) -> Step {
    Step::Think(Think { think: ms(takes) })
}

fn forever() -> Step {
    Step::Idle(Idle { idle: Patience::Forever })
}

fn pipeline(steps: Vec<Step>, repeat: Times, depth: u32) -> Step {
    Step::Pipeline(Pipeline { pipeline: steps, repeat, depth })
}

/// Makes any client a raw one, and does nothing else.
fn raw_connect() -> Step {
    Step::Connect(Connect { pause: ms(1), ..Connect::default() })
}

fn client_of(steps: Vec<Step>) -> Client {
    let (name, start, stagger) = ("a".to_owned(), Span::default(), Span::default());
    Client { name, count: 1, start, stagger, steps, reconnect: None }
}

/// What the log of a client and a worker says, a line an entry: milliseconds, then the event.
fn lines(entries: &[Entry]) -> Vec<String> {
    entries.iter().filter_map(line).collect()
}

fn line(entry: &Entry) -> Option<String> {
    let what = match &entry.event {
        Event::Connecting { .. } | Event::WorkerSessionBegan { .. } => return None,
        Event::BatchBegan { .. }
        | Event::BatchSynced { .. }
        | Event::BatchFed { .. }
        | Event::CopyEnded { .. }
        | Event::StartupSent { .. } => {
            return None;
        }
        Event::BatchAnswered { .. } => return None,
        Event::SessionBegan { conn } => format!("{conn} session"),
        Event::ConnectFailed { .. } => "connect failed".to_owned(),
        Event::RequestSent { tag, kind, .. } => format!("{tag} sent {kind:?}"),
        Event::RequestEnded { tag, outcome: Outcome::Error(code), .. } => format!("{tag} error {code}"),
        Event::RequestEnded { tag, outcome, .. } => format!("{tag} {outcome:?}"),
        Event::FatalRead { code, mid_message, .. } => format!("fatal {code} mid={mid_message}"),
        Event::EofRead { mid_message, .. } => format!("eof mid={mid_message}"),
        Event::ResetRead { .. } => "reset".to_owned(),
        Event::ClientLeft { how, .. } => format!("left {how}"),
        Event::CancelSent { tag, .. } => format!("{tag} cancel"),
        Event::ClientDone { .. } => "done".to_owned(),
        Event::ReadingStopped { .. } => "stops reading".to_owned(),
        Event::ReadingSlowed { .. } => "reads slowly".to_owned(),
        Event::ReadingResumed { .. } => "reads again".to_owned(),
        Event::WorkerWaits { .. } => "w waits".to_owned(),
        Event::WorkerGoesOn { .. } => "w goes on".to_owned(),
        Event::StatementBegan { tag, .. } => format!("w {tag} began"),
        Event::StatementEnded { tag, end: StatementEnd::Failed(code), .. } => format!("w {tag} failed {code}"),
        Event::StatementEnded { tag, end, .. } => format!("w {tag} {end:?}"),
        Event::Committed { inserts, .. } => format!("w committed {}", tags(inserts).join(" ")),
        Event::RolledBack { inserts, .. } => format!("w rolled back {}", inserts.join(" ")),
        Event::WorkerSessionEnded { .. } => "w over".to_owned(),
        other => format!("{other:?}"),
    };
    Some(format!("{} {what}", entry.at.since_epoch().as_millis()))
}

fn tags(inserts: &[Inserted]) -> Vec<&str> {
    inserts.iter().map(|insert| insert.tag.as_str()).collect()
}

/// The log of one client with one worker, up to `until`.
fn with_worker(steps: Vec<Step>, until: Span) -> Vec<String> {
    run(client_of(steps), until, |world, recorder| async move {
        worker::run(world, recorder, worker::Worker::default()).await
    })
}

/// The log of one client with a server that does `serve` with every connection.
fn with_server<F>(steps: Vec<Step>, until: Span, serve: fn(TestWorld, Pipe) -> F) -> Vec<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    run(client_of(steps), until, move |world, _| async move {
        let mut listener = world.bind("server:5432").await.unwrap();
        loop {
            let (stream, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            world.spawn("serve", serve(world.clone(), stream));
        }
    })
}

fn run<F>(client: Client, until: Span, server: impl FnOnce(TestWorld, Recorder) -> F) -> Vec<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let recorder = Recorder::default();
    run_into(&recorder, client, until, server);
    lines(&recorder.history().entries)
}

fn run_into<F>(recorder: &Recorder, client: Client, until: Span, server: impl FnOnce(TestWorld, Recorder) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    TestWorld::run(|world| {
        let recorder = recorder.clone();
        let server = server(world.clone(), recorder.clone());
        async move {
            world.spawn("server", server);
            for copy in 1..=client.count {
                let (world_of, recorder, client) = (world.clone(), recorder.clone(), client.clone());
                let copy = async move { client::run(world_of, to_server(recorder), client, copy).await };
                world.spawn("client", copy);
            }
            world.at(until.0).await;
        }
    });
}

fn to_server(recorder: Recorder) -> Way {
    Way::Direct(Endpoint { address: "server:5432".to_owned(), recorder })
}

const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

fn fatal(code: &str) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{code}\0Mgone\0\0");
    let mut message = vec![b'E'];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body.as_bytes());
    message
}

/// Greets, lets the client do something for a second, then says `last` and closes.
async fn say_and_close(world: TestWorld, mut stream: Pipe, last: Vec<u8>) {
    let mut startup = [0; 1024];
    let _ = stream.read(&mut startup).await;
    stream.write_all(GREETING).await.unwrap();
    world.at(Duration::from_secs(1)).await;
    stream.write_all(&last).await.unwrap();
    stream.shutdown().await.unwrap();
    // What the client still says is read, as a polite server does.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[test]
fn a_transaction_of_a_library_client_is_told_from_both_sides() {
    let steps = vec![connect(), Step::Begin, insert(), think(10), Step::Commit, Step::Disconnect];
    let log = with_worker(steps, ms(1000));
    assert_eq!(
        log,
        [
            "0 a.1#1 session",
            "0 a.1/1 sent Begin",
            "0 w a.1/1 began",
            "0 w a.1/1 Complete",
            "0 a.1/1 Complete",
            "0 a.1/2 sent Insert",
            "0 w a.1/2 began",
            "1 w a.1/2 Complete",
            "1 a.1/2 Complete",
            "11 a.1/3 sent Commit",
            "11 w a.1/3 began",
            "11 w committed a.1/2",
            "11 w a.1/3 Complete",
            "11 a.1/3 Complete",
            "11 left disconnect",
            "11 done",
            "11 w over",
        ]
    );
}

#[test]
fn a_raw_client_logs_what_a_library_client_logs() {
    let rest = [
        Step::Begin,
        insert(),
        Step::Query(query(20)),
        Step::Query(Query { protocol: Protocol::Extended, rows: 3, ..query(5) }),
        Step::Query(Query { fails: Some(SqlState("22012".to_owned())), ..query(5) }),
        Step::Query(query(5)),
        Step::Rollback,
        Step::Query(Query { protocol: Protocol::Extended, fails: Some(SqlState("22012".to_owned())), ..query(5) }),
        insert(),
        think(10),
        Step::Disconnect,
    ];
    let log_of = |first: Vec<Step>| with_worker(first.into_iter().chain(rest.clone()).collect(), ms(1000));
    let library = log_of(vec![think(1), connect()]);
    assert_eq!(library, log_of(vec![raw_connect()]));
    // The error ends neither client; in a failed block a statement never reaches the worker.
    assert_eq!(
        library[17..26],
        [
            "27 a.1/5 sent Query",
            "27 w a.1/5 began",
            "32 w a.1/5 failed 22012",
            "32 w rolled back a.1/2",
            "32 a.1/5 error 22012",
            "32 a.1/6 sent Query",
            "32 a.1/6 error 25P02",
            "32 a.1/7 sent Rollback",
            "32 w a.1/7 began",
        ],
        "{library:#?}"
    );
    assert!(library.contains(&"38 w committed a.1/9".to_owned()), "{library:#?}");
}

#[test]
fn a_cancel_request_stops_the_statement_and_not_the_client() {
    for first in [connect(), raw_connect()] {
        let cancelled = Query { cancel_after: Some(ms(100)), ..query(3_600_000) };
        let too_late = Query { cancel_after: Some(ms(100)), ..query(50) };
        let steps = vec![first, Step::WaitUntil(WaitUntil { wait_until: ms(10) }), Step::Query(cancelled)];
        let steps = steps.into_iter().chain([Step::Query(too_late), Step::Disconnect]).collect();
        assert_eq!(
            with_worker(steps, ms(10_000))[1..],
            [
                "10 a.1/1 sent Query",
                "10 w a.1/1 began",
                "110 a.1/1 cancel",
                "110 w a.1/1 Cancelled",
                "110 a.1/1 error 57014",
                "110 a.1/2 sent Query",
                "110 w a.1/2 began",
                "160 w a.1/2 Complete",
                "160 a.1/2 Complete",
                "160 left disconnect",
                "160 done",
                "160 w over",
            ]
        );
    }
}

#[test]
fn output_of_a_batch_is_held_back_until_the_flush() {
    let steps = vec![connect(), execute(20, 1), think(1000), Step::Flush, think(1000), Step::Sync, Step::Disconnect];
    assert_eq!(
        with_worker(steps, ms(10_000)),
        [
            "0 a.1#1 session",
            "0 a.1/1 sent ExecuteInsert",
            "0 w a.1/1 began",
            "20 w a.1/1 Complete",
            "1000 a.1/1 Complete",
            "2000 w committed a.1/1",
            "2000 left disconnect",
            "2000 done",
            "2000 w over",
        ]
    );
}

#[test]
fn the_log_tells_when_a_batch_began_and_when_its_sync_came() {
    let recorder = Recorder::default();
    let steps = vec![connect(), Step::Query(query(5)), execute(20, 0), think(1000), Step::Sync, Step::Disconnect];
    let worker = |world, recorder| async move { worker::run(world, recorder, worker::Worker::default()).await };
    run_into(&recorder, client_of(steps), ms(10_000), worker);
    let entries = recorder.history().entries;
    let batches = entries.iter().filter_map(|entry| match entry.event {
        Event::BatchBegan { .. } => Some((entry.at.since_epoch(), "began")),
        Event::BatchSynced { .. } => Some((entry.at.since_epoch(), "synced")),
        Event::BatchAnswered { .. } => Some((entry.at.since_epoch(), "answered")),
        _ => None,
    });
    let wanted = [(5, "began"), (1005, "synced"), (1005, "answered")];
    let wanted = wanted.map(|(at, what)| (Duration::from_millis(at), what));
    assert_eq!(batches.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_batch_without_its_sync_is_rolled_back() {
    let steps = vec![connect(), execute(20, 1), Step::Flush, Step::Close(Close::default())];
    let log = with_worker(steps, ms(10_000));
    assert_eq!(log[4..], ["20 a.1/1 Complete", "20 left close", "20 done", "20 w rolled back a.1/1", "20 w over"]);
}

#[test]
fn an_error_in_a_batch_skips_to_the_sync() {
    // In a failed block every Parse is an error. PostgreSQL sends errors at once, and skips the Flush behind one.
    let fails = Step::Query(Query { fails: Some(SqlState("22012".to_owned())), ..query(1) });
    let steps = vec![
        connect(),
        Step::Begin,
        fails,
        execute(20, 1),
        execute(20, 0),
        Step::Flush,
        execute(20, 0),
        Step::Sync,
        Step::Rollback,
        execute(20, 0),
        Step::Sync,
    ];
    assert_eq!(
        with_worker(steps, ms(10_000))[8..],
        [
            "1 a.1/2 error 22012",
            "1 a.1/3 sent ExecuteInsert",
            "1 a.1/4 sent Execute",
            "1 a.1/3 error 25P02",
            "1 a.1/4 error 25P02",
            "1 a.1/5 sent Execute",
            "1 a.1/5 error 25P02",
            "1 a.1/6 sent Rollback",
            "1 w a.1/6 began",
            "1 w a.1/6 Complete",
            "1 a.1/6 Complete",
            "1 a.1/7 sent Execute",
            "1 w a.1/7 began",
            "21 w a.1/7 Complete",
            "21 a.1/7 Complete",
        ]
    );
}

#[test]
fn a_suspended_portal_is_an_answer() {
    let some = Step::Execute(Execute { execute: ms(5), insert: 0, rows: Some(10), max_rows: 3, cancel_after: None });
    let log = with_worker(vec![connect(), some, Step::Flush, forever()], ms(1000));
    assert_eq!(log[1..], ["0 a.1/1 sent Execute", "0 w a.1/1 began", "5 w a.1/1 Complete", "5 a.1/1 Complete"]);
}

#[test]
fn a_prepared_statement_is_no_request() {
    let log =
        with_worker(vec![connect(), Step::Prepare(Prepare { prepare: ms(1) }), Step::Flush, Step::Sync], ms(1000));
    assert_eq!(log, ["0 a.1#1 session"]);
}

#[test]
fn a_pipeline_leaves_no_more_than_its_depth_unanswered() {
    let steps = vec![connect(), pipeline(vec![Step::Query(query(10)), insert()], Times::Count(2), 3), Step::Disconnect];
    let log = with_worker(steps, ms(1000));
    let (mut unanswered, mut most) = (0, 0);
    for line in &log {
        unanswered += i32::from(line.contains(" sent "));
        most = most.max(unanswered);
        unanswered -= i32::from(line.contains(" Complete") && !line.contains(" w "));
    }
    assert_eq!((unanswered, most), (0, 3), "{log:#?}");
    assert_eq!(log.iter().filter(|line| line.contains("began")).count(), 4);
    assert_eq!(log[log.len() - 3..], ["22 left disconnect", "22 done", "22 w over"]);
}

#[test]
fn a_statement_whose_connection_is_closed_is_finished_and_its_transaction_undone() {
    let steps = vec![
        connect(),
        Step::Begin,
        insert(),
        pipeline(vec![Step::Query(query(10_000))], Times::Count(2), 8),
        think(100),
        Step::Close(Close::default()),
    ];
    assert_eq!(
        with_worker(steps, ms(20_000))[9..],
        [
            "1 a.1/3 sent Query",
            "1 a.1/4 sent Query",
            "1 w a.1/3 began",
            "101 left close",
            "101 a.1/3 Lost",
            "101 a.1/4 Lost",
            "101 done",
            "10001 w a.1/3 Complete",
            "10001 w rolled back a.1/2",
            "10001 w over",
        ],
        "who works reads no FIN"
    );
}

#[test]
fn half_a_message_is_no_request() {
    let partial = |after| Step::Partial(Partial { partial: 12, query: ms(20), after });
    let log = with_worker(vec![connect(), partial(Some(ms(500))), partial(None), forever()], ms(5000));
    let requests: Vec<&String> = log[1..].iter().filter(|line| line.contains("a.1/")).collect();
    assert_eq!(requests, ["500 a.1/1 sent Query", "500 w a.1/1 began", "520 w a.1/1 Complete", "520 a.1/1 Complete"]);
}

#[test]
fn a_connect_goes_no_further_than_it_says() {
    for until in [Until::Tcp, Until::Startup] {
        let first = Step::Connect(Connect { until, ..Connect::default() });
        assert_eq!(with_worker(vec![first.clone(), forever()], ms(5000)), Vec::<String>::new());
        assert_eq!(
            with_worker(vec![first, think(50), Step::Close(Close::default())], ms(5000)),
            ["50 left close", "50 done"]
        );
    }
    let late = Step::Connect(Connect { pause: ms(300), ..Connect::default() });
    assert_eq!(with_worker(vec![late], ms(5000)), ["300 a.1#1 session"]);
}

#[test]
fn copies_begin_one_after_the_other() {
    let client = Client { count: 3, start: ms(100), stagger: ms(10), ..client_of(vec![connect()]) };
    let log = run(client, ms(1000), |world, recorder| async move {
        worker::run(world, recorder, worker::Worker::default()).await
    });
    assert_eq!(log, ["100 a.1#1 session", "110 a.2#1 session", "120 a.3#1 session"]);
}

#[test]
fn a_client_may_connect_again_after_it_left() {
    let round = vec![connect(), Step::Query(query(1)), Step::Disconnect];
    let log = with_worker(vec![Step::Repeat(Repeat { repeat: Times::Count(2), steps: round })], ms(1000));
    assert!(log.contains(&"1 a.1#2 session".to_owned()), "{log:#?}");
    assert!(log.contains(&"2 a.1/2 Complete".to_owned()), "{log:#?}");
}

#[test]
fn a_goodbye_to_an_idle_client_is_read_to_its_end() {
    for first in [connect(), raw_connect()] {
        for second in [forever(), think(5000), Step::WaitUntil(WaitUntil { wait_until: ms(5000) })] {
            let log = with_server(vec![first.clone(), second, Step::Begin], ms(70_000), |world, stream| {
                say_and_close(world, stream, fatal("57P01"))
            });
            assert_eq!(log[1..], ["1000 fatal 57P01 mid=false", "1000 eof mid=false", "1000 done"]);
        }
    }
}

#[test]
fn a_goodbye_answers_the_request_that_waits() {
    let (error, eof) = ("1000 a.1/1 error 57P01", "1000 eof mid=false");
    // The library reads as far as it can before it passes anything on.
    for (first, then) in [(connect(), [eof, error]), (raw_connect(), [error, eof])] {
        let steps = vec![first, Step::WaitUntil(WaitUntil { wait_until: ms(900) }), Step::Query(query(1))];
        let log = with_server(steps, ms(70_000), |world, stream| say_and_close(world, stream, fatal("57P01")));
        let fatal = "1000 fatal 57P01 mid=false";
        assert_eq!(log[1..], ["900 a.1/1 sent Query", fatal, then[0], then[1], "1000 done"]);
    }
}

#[test]
fn a_connection_that_ends_without_a_word_loses_the_request() {
    for first in [connect(), raw_connect()] {
        let steps = vec![first, Step::WaitUntil(WaitUntil { wait_until: ms(900) }), Step::Query(query(1))];
        let log = with_server(steps, ms(70_000), |world, stream| say_and_close(world, stream, b"D\0\0\0".to_vec()));
        assert_eq!(log[1..], ["900 a.1/1 sent Query", "1000 eof mid=true", "1000 a.1/1 Lost", "1000 done"]);
    }
}

#[test]
fn a_reset_is_told_whoever_meets_it() {
    async fn greet_and_reset(world: TestWorld, mut stream: Pipe) {
        stream.write_all(GREETING).await.unwrap();
        world.at(Duration::from_secs(1)).await;
        stream.reset();
    }
    for first in [connect(), raw_connect()] {
        let log = with_server(vec![first.clone(), forever()], ms(70_000), greet_and_reset);
        assert_eq!(log[1..], ["1000 reset", "1000 done"]);
        // Here the client writes in the instant of the reset, or reads; either way it was a reset, and nothing else.
        let steps = vec![first, Step::WaitUntil(WaitUntil { wait_until: ms(1000) }), Step::Query(query(1))];
        let log = with_server(steps, ms(70_000), greet_and_reset);
        assert!(log.contains(&"1000 reset".to_owned()) && !log.iter().any(|line| line.contains("eof")), "{log:#?}");
    }
}

#[test]
fn a_goodbye_inside_a_message_is_found_and_is_no_clean_one() {
    for first in [connect(), raw_connect()] {
        let log = with_server(vec![first, forever()], ms(70_000), |world, stream| {
            say_and_close(world, stream, [b"N\0\0\x10\0half".to_vec(), fatal("57P01")].concat())
        });
        assert_eq!(log[1..], ["1000 fatal 57P01 mid=true", "1000 eof mid=true", "1000 done"]);
    }
}

#[test]
fn a_goodbye_that_no_end_follows_is_waited_for_with_patience() {
    async fn say_and_stay(world: TestWorld, mut stream: Pipe) {
        stream.write_all(GREETING).await.unwrap();
        stream.write_all(&fatal("57P01")).await.unwrap();
        world.at(Duration::from_secs(1000)).await;
    }
    for first in [connect(), raw_connect()] {
        let steps = vec![Step::WaitUntil(WaitUntil { wait_until: ms(10) }), first, forever()];
        let log = with_server(steps, ms(900_000), say_and_stay);
        let end = log.len() - 2;
        assert!(log[end].ends_with("left close") && log[end].starts_with("6001"), "{log:#?}");
        assert!(log[end + 1].ends_with("done"), "{log:#?}");
    }
}

#[test]
fn a_refusal_is_read_by_a_client_that_connects() {
    async fn refuse(_: TestWorld, mut stream: Pipe) {
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(&fatal("57P03")).await.unwrap();
    }
    let log = with_server(vec![connect(), Step::Begin], ms(1000), refuse);
    assert_eq!(log, ["0 fatal 57P03 mid=false", "0 eof mid=false", "0 done"]);
    let log = with_server(vec![raw_connect(), Step::Begin], ms(1000), refuse);
    assert_eq!(log, ["1 fatal 57P03 mid=false", "1 eof mid=false", "1 done"]);
}

#[test]
fn a_client_that_reaches_nobody_is_done() {
    for first in [connect(), raw_connect()] {
        let log = run(client_of(vec![first, Step::Begin]), ms(1000), |_, _| async {});
        assert_eq!(log, ["0 connect failed", "0 done"]);
    }
}

#[test]
fn a_hot_client_writes_on_after_the_goodbye_until_the_end_of_the_stream() {
    async fn linger(world: TestWorld, mut stream: Pipe) {
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(GREETING).await.unwrap();
        world.at(Duration::from_secs(1)).await;
        stream.write_all(&fatal("57P01")).await.unwrap();
        world.at(Duration::from_secs(3)).await;
    }
    let steps = vec![connect(), pipeline(vec![Step::Query(query(1))], Times::Forever, 2)];
    assert_eq!(
        with_server(steps, ms(70_000), linger)[1..],
        [
            "0 a.1/1 sent Query",
            "0 a.1/2 sent Query",
            "1000 fatal 57P01 mid=false",
            "1000 a.1/1 error 57P01",
            "1000 a.1/2 error 57P01",
            "1000 a.1/3 sent Query",
            "1000 a.1/4 sent Query",
            "3000 eof mid=false",
            "3000 a.1/3 error 57P01",
            "3000 a.1/4 error 57P01",
            "3000 done",
        ]
    );
}
