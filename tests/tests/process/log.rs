//! The log and the records: nobody who reads them, or doesn't, has a say in what the process does.

use std::process::Stdio;

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
