//! The worker's protocol, byte by byte, and with a real client library.

mod copy;

use std::time::Duration;

use bytes::BytesMut;
use futures_util::TryStreamExt;
use lastcall_world::World;
use pgwire::messages::Message;
use pgwire::messages::extendedquery::{Bind, Describe, Execute, Flush, Parse, Sync};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::Startup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls};

use super::run;
use crate::cast::frame::{Frame, Inbox};
use crate::cast::history::{Event, Recorder, StatementEnd};
use crate::cast::test_world::{Pipe, TestWorld};

/// A client that sees what arrives, and when.
struct Probe {
    stream: Pipe,
    inbox: Inbox,
}

impl Probe {
    /// A session that has begun.
    async fn connect(world: &TestWorld) -> Probe {
        Probe::connect_as(world, "probe").await
    }

    async fn connect_as(world: &TestWorld, application: &str) -> Probe {
        let mut probe = Probe::open(world).await;
        let mut startup = Startup::new();
        startup.parameters.insert("user".to_owned(), "app".to_owned());
        startup.parameters.insert("application_name".to_owned(), application.to_owned());
        probe.send(&[&startup]).await;
        assert!(probe.kinds().await.ends_with("Z"));
        probe
    }

    async fn open(world: &TestWorld) -> Probe {
        Probe { stream: world.connect("worker:5432").await.unwrap(), inbox: Inbox::default() }
    }

    async fn send(&mut self, messages: &[&dyn Encode]) {
        let mut bytes = BytesMut::new();
        for message in messages {
            message.put(&mut bytes);
        }
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The types of the messages that come until nothing has come for a second; `.` for the end of the stream.
    async fn kinds(&mut self) -> String {
        self.frames().await.iter().map(|frame| char::from(frame.kind)).collect()
    }

    async fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let second = Duration::from_secs(1);
        #[expect(clippy::disallowed_methods, reason = "only looks whether more comes")]
        while let Ok(read) = tokio::time::timeout(second, self.stream.read_buf(self.inbox.bytes())).await {
            while let Some(frame) = self.inbox.next_frame(1 << 20).unwrap() {
                frames.push(frame);
            }
            if read.unwrap() == 0 {
                frames.push(Frame { kind: b'.', body: bytes::Bytes::new() });
                break;
            }
        }
        frames
    }
}

/// Messages of different types in one list.
trait Encode {
    fn put(&self, into: &mut BytesMut);
}

impl<M: Message> Encode for M {
    fn put(&self, into: &mut BytesMut) {
        self.encode(into).unwrap();
    }
}

fn query(text: &str) -> Query {
    Query::new(text.to_owned())
}

fn parse(text: &str) -> Parse {
    Parse::new(None, text.to_owned(), vec![])
}

fn bind() -> Bind {
    Bind::new(None, None, vec![], vec![], vec![])
}

fn execute(max_rows: i32) -> Execute {
    Execute::new(None, max_rows)
}

fn with_worker<F: Future<Output = ()>>(test: impl FnOnce(TestWorld, Recorder) -> F) {
    TestWorld::run(|world| async move {
        let recorder = Recorder::default();
        world.spawn("worker", run(world.clone(), recorder.clone(), super::Worker::default()));
        world.at(Duration::from_millis(1)).await;
        test(world, recorder).await;
    });
}

const SELECT: &str = "/* t.1/1 */ SELECT work('1ms', rows => 2, row_bytes => 4)";

#[test]
fn a_simple_query_is_answered_with_its_rows_and_ready() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(SELECT)]).await;
        let frames = probe.frames().await;
        assert_eq!(frames[1].body, b"\0\x01\0\0\0\x04xxxx"[..]);
        assert_eq!(frames[3].body, b"SELECT 2\0"[..]);
        assert_eq!(frames.iter().map(|frame| char::from(frame.kind)).collect::<String>(), "TDDCZ");
        probe.send(&[&query("")]).await;
        assert_eq!(probe.kinds().await, "IZ");
    });
}

#[test]
fn the_answers_of_a_batch_wait_for_a_flush_or_a_sync() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&parse(SELECT), &Describe::new(b'S', None), &bind(), &execute(0)]).await;
        assert_eq!(probe.kinds().await, "");
        probe.send(&[&Flush::new()]).await;
        assert_eq!(probe.kinds().await, "1tT2DDC");
        probe.send(&[&Sync::new()]).await;
        assert_eq!(probe.kinds().await, "Z");
    });
}

#[test]
fn a_full_send_buffer_leaves_without_a_flush() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        let wide = "/* t.1/1 */ SELECT work('1ms', rows => 3, row_bytes => 8000)";
        probe.send(&[&parse(wide), &bind(), &execute(0)]).await;
        // Two blocks of 8 KiB: two rows, and the beginning of the third.
        assert_eq!(probe.kinds().await, "12DD");
        probe.send(&[&Sync::new()]).await;
        assert_eq!(probe.kinds().await, "DCZ");
    });
}

#[test]
fn a_portal_is_suspended_goes_on_and_ends() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&parse(SELECT), &bind(), &execute(1), &execute(1), &execute(1), &execute(0), &Sync::new()]).await;
        // As in PostgreSQL: after its second row the portal does not know yet that there is no third.
        assert_eq!(probe.kinds().await, "12DsDsCCZ");
        let began = |event: &Event| matches!(event, Event::StatementBegan { .. });
        assert_eq!(recorder.history().entries.iter().filter(|entry| began(&entry.event)).count(), 1);
    });
}

#[test]
fn an_error_is_sent_at_once_and_everything_up_to_the_sync_is_skipped() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        let fails = "/* t.1/1 */ SELECT work('1ms', rows => 1, fails => '22012')";
        probe.send(&[&parse(fails), &bind(), &execute(0), &parse(SELECT), &bind(), &execute(0), &Flush::new()]).await;
        assert_eq!(probe.kinds().await, "12E");
        probe.send(&[&query(SELECT), &Sync::new(), &query(SELECT)]).await;
        assert_eq!(probe.kinds().await, "ZTDDCZ");
        let began = |event: &Event| matches!(event, Event::StatementBegan { .. });
        assert_eq!(recorder.history().entries.iter().filter(|entry| began(&entry.event)).count(), 2);
    });
}

#[test]
fn what_is_no_statement_is_a_syntax_error_and_not_the_end() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query("SELECT 1"), &query("/* t.1/1 */ BEGIN")]).await;
        let frames = probe.frames().await;
        assert!(String::from_utf8_lossy(&frames[0].body).contains("\0C42601\0M"));
        assert_eq!(frames.iter().map(|frame| char::from(frame.kind)).collect::<String>(), "EZCZ");
        assert_eq!((&frames[1].body[..], &frames[3].body[..]), (&b"I"[..], &b"T"[..]));
    });
}

#[test]
fn what_is_no_message_is_the_end() {
    with_worker(|world, recorder| async move {
        for garbage in [&b"!\0\0\0\x04"[..], b"Q\0\0\0\x03", b"Q\x7f\0\0\0", b"B\0\0\0\x05p", b"D\0\0\0\x06xy"] {
            let mut probe = Probe::connect(&world).await;
            probe.stream.write_all(garbage).await.unwrap();
            assert_eq!(probe.kinds().await, "E.", "{garbage:?}");
        }
        let ended = |event: &Event| matches!(event, Event::WorkerSessionEnded { .. });
        assert_eq!(recorder.history().entries.iter().filter(|entry| ended(&entry.event)).count(), 5);
        // And before a session has begun.
        let mut probe = Probe::open(&world).await;
        probe.stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(probe.kinds().await, "E.");
    });
}

#[test]
fn encryption_is_refused_politely() {
    with_worker(|world, _| async move {
        let mut probe = Probe::open(&world).await;
        probe.stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
        assert_eq!(probe.stream.read_u8().await.unwrap(), b'N');
        probe.send(&[&Startup::new()]).await;
        assert!(probe.kinds().await.ends_with('Z'));
    });
}

#[test]
fn a_worker_stops_when_nobody_reads_and_goes_on_when_somebody_does() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query("/* t.1/1 */ SELECT work('1ms', rows => 100, row_bytes => 8000)")]).await;
        world.at(Duration::from_secs(100)).await;
        let ended =
            || recorder.history().entries.iter().any(|entry| matches!(entry.event, Event::StatementEnded { .. }));
        assert!(!ended());
        assert_eq!(probe.frames().await.len(), 103);
        assert!(ended());
    });
}

#[test]
fn a_connection_that_is_closed_under_rows_aborts_the_statement() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query("/* t.1/1 */ SELECT work('1ms', rows => 100, row_bytes => 8000)")]).await;
        world.at(Duration::from_secs(100)).await;
        drop(probe);
        world.at(Duration::from_secs(101)).await;
        let aborted = |event: &Event| matches!(event, Event::StatementEnded { end: StatementEnd::Aborted, .. });
        assert!(recorder.history().entries.iter().any(|entry| aborted(&entry.event)));
    });
}

#[test]
fn a_cancel_request_needs_the_secret_and_hits_only_what_runs() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        let cancel = |secret: u8| {
            let world = world.clone();
            async move {
                let mut other = world.connect("worker:5432").await.unwrap();
                // Length, code 80877102, the first session's process id, secret.
                other.write_all(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x12\x6a\0\0\0").await.unwrap();
                other.write_all(&[secret]).await.unwrap();
                assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
            }
        };
        // The test world draws 1 first. Nothing runs yet, so this one is for nobody.
        cancel(1).await;
        probe.send(&[&query("/* t.1/1 */ SELECT work('10s', rows => 0)")]).await;
        cancel(2).await;
        assert_eq!(probe.kinds().await, "");
        cancel(1).await;
        assert_eq!(probe.kinds().await, "TEZ");
    });
}

#[test]
fn a_cancel_request_frees_a_worker_whose_client_is_gone() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query("/* t.1/1 */ SELECT work('1h', rows => 0)")]).await;
        world.at(Duration::from_secs(10)).await;
        drop(probe);
        let ended = |event: &Event| matches!(event, Event::WorkerSessionEnded { .. });
        world.at(Duration::from_secs(20)).await;
        assert!(!recorder.any(ended), "who works reads no FIN");
        let mut other = world.connect("worker:5432").await.unwrap();
        // The test world draws 1 first.
        other.write_all(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x12\x6a\0\0\0\x01").await.unwrap();
        world.at(Duration::from_secs(21)).await;
        assert!(recorder.any(ended));
        assert!(recorder.any(|event| matches!(event, Event::StatementEnded { end: StatementEnd::Cancelled, .. })));
    });
}

#[test]
fn who_closes_its_side_gets_its_answer_and_then_the_end() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query("/* t.1/1 */ BEGIN"), &query("/* t.1/2 */ INSERT work('10s', rows => 1)")]).await;
        probe.stream.shutdown().await.unwrap();
        world.at(Duration::from_secs(11)).await;
        assert_eq!(probe.kinds().await, "CZCZ.");
        assert!(recorder.any(|event| matches!(event, Event::StatementEnded { end: StatementEnd::Complete, .. })));
        assert!(recorder.any(|event| matches!(event, Event::RolledBack { .. })), "its transaction goes with it");
    });
}

#[test]
fn a_reset_cuts_a_statement_at_the_moment_in_which_it_comes() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query("/* t.1/1 */ SELECT work('1h', rows => 0)")]).await;
        world.at(Duration::from_secs(10)).await;
        probe.stream.reset();
        world.at(Duration::from_secs(11)).await;
        assert!(recorder.any(|event| matches!(event, Event::StatementEnded { end: StatementEnd::Aborted, .. })));
        assert!(!recorder.any(|event| matches!(event, Event::WorkerSessionEnded { .. })));
    });
}

#[test]
fn a_session_that_listens_is_notified_between_its_transactions() {
    TestWorld::run(|world| async move {
        let (recorder, worker) = (Recorder::default(), super::Worker::default());
        world.spawn("worker", run(world.clone(), recorder, worker.clone()));
        world.at(Duration::from_millis(1)).await;
        let mut probe = Probe::connect_as(&world, "bus.1").await;
        worker.notify("bus", 2, 10);
        probe.send(&[&query("/* t.1/1 */ BEGIN")]).await;
        assert_eq!(probe.kinds().await, "CZ", "nobody listens yet");
        probe.send(&[&query("/* t.1/2 */ LISTEN work")]).await;
        assert_eq!(probe.kinds().await, "CZ", "inside a transaction nothing is told");
        probe.send(&[&query("/* t.1/3 */ COMMIT")]).await;
        let frames = probe.frames().await;
        assert_eq!(frames.iter().map(|frame| char::from(frame.kind)).collect::<String>(), "CZAA");
        assert!(frames[2].body.ends_with(b"work\0xxxxxxxxxx\0"));
        worker.notify("other", 1, 10);
        assert_eq!(probe.kinds().await, "");
    });
}

#[test]
fn protocol_3_2_has_longer_secrets() {
    with_worker(|world, _| async move {
        for (minor, length) in [(0, 4), (2, 32)] {
            let mut probe = Probe::open(&world).await;
            let mut startup = Startup::new();
            startup.protocol_number_minor = minor;
            probe.send(&[&startup]).await;
            let frames = probe.frames().await;
            let key = frames.iter().find(|frame| frame.kind == b'K').unwrap();
            assert_eq!(key.body.len(), 4 + length);
            probe.send(&[&query("/* t.1/1 */ SELECT work('10s', rows => 0)")]).await;
            let mut other = world.connect("worker:5432").await.unwrap();
            let mut cancel = BytesMut::new();
            cancel.extend_from_slice(&(12 + length as u32).to_be_bytes());
            cancel.extend_from_slice(b"\x04\xd2\x16\x2e");
            cancel.extend_from_slice(&key.body);
            other.write_all(&cancel).await.unwrap();
            assert_eq!(probe.kinds().await, "TEZ", "minor version {minor}");
        }
    });
}

#[test]
fn commit_in_a_failed_block_says_rollback() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        let texts = ["BEGIN", "SELECT work('1ms', fails => '22012')", "SELECT work('1ms')", "COMMIT", "COMMIT"];
        let texts = texts.map(|text| query(&format!("/* t.1/1 */ {text}")));
        probe.send(&texts.each_ref().map(|text| text as &dyn Encode)).await;
        let frames = probe.frames().await;
        let told: Vec<String> = frames
            .iter()
            .map(|frame| match frame.kind {
                b'C' | b'Z' => String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned(),
                kind => char::from(kind).to_string(),
            })
            .collect();
        assert_eq!(told.join(" "), "BEGIN T T E E E E ROLLBACK I N COMMIT I");
    });
}

/// A session by tokio-postgres.
async fn library(world: &TestWorld) -> tokio_postgres::Client {
    let stream = world.connect("worker:5432").await.unwrap();
    let mut config = Config::new();
    config.user("app").dbname("app").application_name("t.1");
    let (client, connection) = config.connect_raw(stream, NoTls).await.unwrap();
    world.spawn("connection", async move { connection.await.unwrap() });
    client
}

#[test]
fn the_library_is_happy_with_all_that_it_does() {
    with_worker(|world, _| async move {
        let client = library(&world).await;
        let statement = client.prepare("/* t.1/1 */ SELECT work('1ms', rows => 2, row_bytes => 4)").await.unwrap();
        assert_eq!((statement.params(), statement.columns()[0].type_()), (&[][..], &Type::TEXT));
        let parameters: [&str; 0] = [];
        let rows: Vec<_> = client.query_raw(&statement, parameters).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), ["xxxx"; 2]);

        let insert = client.prepare("/* t.1/2 */ INSERT work('1ms', rows => 3)").await.unwrap();
        assert_eq!(client.execute(&insert, &[]).await.unwrap(), 3);
        assert_eq!(client.simple_query(SELECT).await.unwrap().len(), 4);
        let error = client.prepare("nonsense").await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42601");
        client.batch_execute("/* t.1/3 */ BEGIN").await.unwrap();
        client.batch_execute("/* t.1/4 */ COMMIT").await.unwrap();
    });
}
