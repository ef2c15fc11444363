//! The log and the records: nobody who reads them, or doesn't, has a say in what the process does.

use std::process::Stdio;

use process_tests::client::Client;
use process_tests::control_plane::{ControlPlane, Signal, command};
use process_tests::postgres::postgres;
use process_tests::raw::{Raw, query};
use process_tests::{eventually, run};

use super::{assert_exit, millis};

/// Lines that no pipe here has room for: one or more for each session.
const SESSIONS: usize = 40;

/// A process whose stderr is a pipe that is full, and a session that it still serves.
async fn unread(flags: &[&str]) -> (ControlPlane, process_tests::client::Client) {
    let plane = ControlPlane::start(flags).await;
    let client = plane.connect("served").await;
    plane.stop_reading();
    for _ in 0..SESSIONS {
        drop(Raw::session(plane.port, "unread").await);
    }
    let gone = async || {
        let left = client.value("select count(*) from pg_stat_activity where application_name = 'unread'").await;
        (left.unwrap() == "0").then_some(())
    };
    eventually(millis(10_000), "the sessions to end", gone).await;
    (plane, client)
}

#[test]
fn a_log_that_nobody_reads_holds_neither_a_session_nor_the_exit() {
    run(async {
        let (mut plane, client) = unread(&["--lame-duck", "0", "--idle-grace", "500ms"]).await;
        assert_eq!(client.value("select 'the row'").await.unwrap(), "the row");
        plane.signal(Signal::TERM);
        // The flush takes 2 s, and the last lines 200 ms.
        assert_exit(plane.exit().await, 0, millis(2700));
    });
}

#[test]
fn sigquit_does_not_wait_for_records_that_are_being_flushed() {
    run(async {
        let (mut plane, client) = unread(&["--lame-duck", "0", "--idle-grace", "0"]).await;
        plane.signal(Signal::TERM);
        let closed = async || client.is_closed().then_some(());
        eventually(millis(5000), "the session to end", closed).await;
        plane.signal(Signal::QUIT);
        let quit = std::time::Instant::now();
        assert_eq!(plane.exit().await.code, Some(131));
        assert!(quit.elapsed() < millis(1500), "{:?}", quit.elapsed());
    });
}

#[test]
fn no_level_silences_an_end_record_or_the_drain_s_report() {
    run(async {
        // Whoever is silenced does not say either where it listens.
        let port = process_tests::postgres::free_port().unwrap();
        let worker = format!("127.0.0.1:{}", postgres().port);
        let mut process = command();
        process.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--worker", &worker, "--log", "off"]);
        process.args(["--lame-duck", "0", "--idle-grace", "0"]).stderr(Stdio::piped());
        let child = process.spawn().unwrap();
        let listens = async || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        eventually(millis(10_000), "the process to listen", listens).await;
        let mut client = Raw::session(port, r#"x reason=boundary lasted_ms=1 " reason=wall"#).await;
        client.send(&query("select 1")).await;
        while client.messages.next().await.unwrap().unwrap().tag != b'Z' {}
        client.send(b"X\0\0\0\x04").await;
        while client.messages.next().await.unwrap().is_some() {}
        let kill = format!("kill -TERM {}", child.id());
        assert!(std::process::Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();

        let lines: Vec<&str> = log.lines().collect();
        let [record, report] = lines[..] else { panic!("a record and a report, and nothing else: {log}") };
        // A text of the client's is in quotes, with its own marked: it can't be taken for fields.
        assert!(record.contains(r#"application="x reason=boundary lasted_ms=1 \" reason=wall" "#), "{record}");
        assert!(record.contains(r#" reason=terminate "#), "{record}");
        assert!(record.contains(r#" peer=127.0.0.1:"#) && record.contains(" worker_pid="), "{record}");
        assert!(record.contains(" statements=1 received="), "{record}");
        assert!(report.contains("drain over code=0"), "{report}");
        assert!(report.contains(" lost_lines=0 lost_records=0 "), "{report}");
    });
}

/// The lines about connections that never became a session, with this reason.
fn without_session(plane: &ControlPlane, reason: &str) -> Vec<serde_json::Value> {
    let about = |line: &serde_json::Value| line["message"] == "connection ended before its session began";
    plane.log().into_iter().filter(|line| about(line) && line["reason"] == reason).collect()
}

#[test]
fn whoever_gets_no_session_leaves_a_line_that_says_why() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "300ms", "--max-connections", "1"];
        let mut plane = ControlPlane::start(&flags).await;
        let holder = plane.connect("holder").await;
        let refused = Client::try_connect_with(plane.port, "one-too-many", |_| {}).await;
        assert!(refused.is_err());
        let mut encrypted = Raw::connect(plane.port).await;
        encrypted.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await;
        drop(encrypted);
        holder.batch_execute("begin").await.unwrap();
        plane.drain().await;
        assert!(Client::try_connect_with(plane.port, "too-late", |_| {}).await.is_err());
        holder.batch_execute("commit").await.ok();
        assert_eq!(plane.exit().await.code, Some(0));

        let [too_many] = &without_session(&plane, "too_many_connections")[..] else { panic!("{:?}", plane.log()) };
        assert_eq!(too_many["application"], "one-too-many", "{too_many}");
        let [late] = &without_session(&plane, "shutting_down")[..] else { panic!("{:?}", plane.log()) };
        assert_eq!(late["application"], "too-late", "{late}");
        assert!(late["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{late}");
        let [encrypted] = &without_session(&plane, "client_closed")[..] else { panic!("{:?}", plane.log()) };
        assert!(encrypted["detail"].as_str().unwrap().contains("encryption"), "{encrypted}");
    });
}

#[test]
fn a_flood_without_a_login_writes_a_line_a_second_and_counts_the_rest() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "0"]).await;
        let flood = async || {
            for _ in 0..200 {
                let mut nonsense = Raw::connect(plane.port).await;
                nonsense.send(b"GET / HTTP/1.1\r\n\r\n").await;
                while let Ok(Some(_)) = nonsense.messages.next().await {}
            }
        };
        let began = std::time::Instant::now();
        flood().await;
        tokio::time::sleep(millis(1100)).await;
        flood().await;
        let seconds = began.elapsed().as_secs() as usize;
        plane.signal(Signal::TERM);
        assert_eq!(plane.exit().await.code, Some(0));
        let lines = without_session(&plane, "malformed");
        assert!((2..=seconds + 2).contains(&lines.len()), "{} in {seconds} s", lines.len());
        assert!(lines.iter().any(|line| line["left_out"].as_u64() > Some(10)), "{lines:?}");
    });
}
