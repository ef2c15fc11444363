//! Clients that connect again, as connection pools do.

use super::*;

fn pooled(steps: Vec<Step>, retries: u32) -> Client {
    Client { reconnect: Some(Reconnect { backoff: ms(100), retries }), ..client_of(steps) }
}

/// The log of a client with a server that does `serve`, by the number of the connection.
fn with_connections<F>(client: Client, serve: fn(TestWorld, Pipe, u32) -> F) -> Vec<String>
where
    F: Future<Output = ()> + Send + 'static,
{
    run(client, ms(60_000), move |world, _| async move {
        let mut listener = world.bind("server:5432").await.unwrap();
        for number in 1.. {
            let (stream, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            world.spawn("serve", serve(world.clone(), stream, number));
        }
    })
}

fn not_executed(code: &str) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{code}\0Mgone\0D{}\0\0", crate::cast::history::NOT_EXECUTED);
    let mut message = vec![b'E'];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body.as_bytes());
    message
}

/// Greets, and ends the connection half a second after the first request.
async fn end_with(world: TestWorld, mut stream: Pipe, last: Vec<u8>) {
    let mut bytes = [0; 1024];
    let _ = stream.read(&mut bytes).await;
    stream.write_all(GREETING).await.unwrap();
    let _ = stream.read(&mut bytes).await;
    world.sleep_until(world.now() + Duration::from_millis(500)).await;
    stream.write_all(&last).await.unwrap();
}

/// Greets, and answers each request.
async fn answer_all(mut stream: Pipe) {
    let mut bytes = [0; 1024];
    let _ = stream.read(&mut bytes).await;
    stream.write_all(GREETING).await.unwrap();
    let answer = b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I";
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) && stream.write_all(answer).await.is_ok() {}
}

async fn end_once(world: TestWorld, stream: Pipe, number: u32) {
    match number {
        1 => end_with(world, stream, not_executed("57P01")).await,
        _ => answer_all(stream).await,
    }
}

#[test]
fn a_request_that_was_not_executed_is_asked_anew() {
    let steps = |first: Step| vec![first, Step::Begin, Step::Commit, Step::Disconnect];
    let by_library = with_connections(pooled(steps(connect()), 5), end_once);
    assert_eq!(
        by_library,
        [
            "0 a.1#1 session",
            "0 a.1/1 sent Begin",
            "500 fatal 57P01 mid=false",
            "500 eof mid=false",
            "500 a.1/1 error 57P01",
            "600 a.1#2 session",
            "600 a.1/2 sent Begin",
            "600 a.1/2 Complete",
            "600 a.1/3 sent Commit",
            "600 a.1/3 Complete",
            "600 left disconnect",
            "600 done",
        ]
    );
    let by_hand = with_connections(pooled(steps(raw_connect()), 5), end_once);
    assert_eq!(
        by_hand[5..],
        [
            "602 a.1#2 session",
            "602 a.1/2 sent Begin",
            "602 a.1/2 Complete",
            "602 a.1/3 sent Commit",
            "602 a.1/3 Complete",
            "602 left disconnect",
            "602 done",
        ],
        "{by_hand:#?}"
    );
}

#[test]
fn a_request_that_may_have_been_executed_is_not_asked_again() {
    async fn cut_once(world: TestWorld, stream: Pipe, number: u32) {
        match number {
            1 => end_with(world, stream, fatal("57P01")).await,
            2 => end_with(world, stream, Vec::new()).await,
            _ => answer_all(stream).await,
        }
    }
    let steps = vec![connect(), Step::Begin, Step::Commit, Step::Rollback, Step::Disconnect];
    let log = with_connections(pooled(steps, 5), cut_once);
    let sent: Vec<&String> = log.iter().filter(|line| line.contains("sent") || line.contains("Lost")).collect();
    assert_eq!(
        sent,
        ["0 a.1/1 sent Begin", "600 a.1/2 sent Commit", "1100 a.1/2 Lost", "1200 a.1/3 sent Rollback"],
        "{log:#?}"
    );
}

#[test]
fn a_pause_lasts_to_its_end_over_a_reconnect() {
    async fn close_once(world: TestWorld, stream: Pipe, number: u32) {
        match number {
            1 => say_and_close(world, stream, fatal("57P05")).await,
            _ => answer_all(stream).await,
        }
    }
    let steps = vec![connect(), think(5000), Step::Begin, forever()];
    let log = with_connections(pooled(steps, 5), close_once);
    assert_eq!(
        log[1..],
        [
            "1000 fatal 57P05 mid=false",
            "1000 eof mid=false",
            "1100 a.1#2 session",
            "5000 a.1/1 sent Begin",
            "5000 a.1/1 Complete"
        ]
    );
}

#[test]
fn the_backoff_doubles_up_to_its_limit_and_retries_are_counted_in_a_row() {
    async fn refuse(_: TestWorld, mut stream: Pipe, _: u32) {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes).await;
        let _ = stream.write_all(&fatal("57P03")).await;
    }
    for first in [connect(), raw_connect()] {
        let raw = u64::from(first == raw_connect());
        let log = with_connections(pooled(vec![first, Step::Begin], 8), refuse);
        let fatals: Vec<u64> = log
            .iter()
            .filter(|line| line.contains("fatal"))
            .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
            .collect();
        let gaps: Vec<u64> = fatals.windows(2).map(|pair| pair[1] - pair[0] - raw).collect();
        assert_eq!(gaps, [100, 200, 400, 800, 1600, 3200, 3200, 3200], "{log:#?}");
        assert!(log.last().unwrap().ends_with("done"), "{log:#?}");
    }
}

#[test]
fn a_client_that_is_done_or_left_by_itself_does_not_come_back() {
    let serve = |world, stream, _| say_and_close(world, stream, fatal("57P01"));
    let log = with_connections(pooled(vec![connect()], 5), serve);
    assert_eq!(log, ["0 a.1#1 session", "1000 fatal 57P01 mid=false", "1000 eof mid=false", "1000 done"]);
    let log = with_connections(pooled(vec![connect(), Step::Disconnect, think(5000)], 5), serve);
    assert_eq!(log, ["0 a.1#1 session", "0 left disconnect", "5000 done"]);
}

#[test]
fn a_client_that_finds_its_connection_closed_when_it_wants_to_leave_goes_on() {
    async fn close_behind_the_answer(world: TestWorld, mut stream: Pipe, _: u32) {
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes).await;
        stream.write_all(GREETING).await.unwrap();
        let _ = stream.read(&mut bytes).await;
        let answer = [b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05I".to_vec(), fatal("57P01")].concat();
        stream.write_all(&answer).await.unwrap();
        world.at(Duration::from_secs(30)).await;
    }
    let round = vec![raw_connect(), Step::Begin, think(10), Step::Disconnect];
    let steps = vec![Step::Repeat(Repeat { repeat: Times::Count(2), steps: round })];
    let log = with_connections(pooled(steps, 5), close_behind_the_answer);
    assert!(log.iter().any(|line| line.contains("a.1#3")), "{log:#?}");
}
