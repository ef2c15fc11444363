//! Who holds this pod, and until when: what `lastcall status`, `lastcall drain` and a scrape tell whoever asks.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use process_tests::control_plane::{ControlPlane, command};
use process_tests::http;
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::script::promtool;
use process_tests::{run, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{SOON, assert_exit, millis};

/// What a subcommand says when it asks this process.
pub(super) async fn ask(plane: &ControlPlane, arguments: &[&str]) -> Output {
    let mut command = command();
    command.args(arguments).args(["--admin", &format!("127.0.0.1:{}", plane.admin)]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What it wrote to stdout and to stderr.
pub(super) fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn status_names_who_holds_a_drain_and_drain_waits_until_the_process_is_gone() {
    run(async {
        let plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        let running = psql(plane.port, "holder", &["select pg_sleep(3)"]);
        postgres().wait_until_active("holder").await;

        let (serving, _) = said(&ask(&plane, &["status"]).await);
        assert!(serving.starts_with("serving, connections: 1\n"), "{serving}");
        assert!(said(&ask(&plane, &["drain", "--undo"]).await).1.contains("no drain to take back"));

        let late = ask(&plane, &["drain", "--wait", "--timeout", "100ms"]).await;
        assert_eq!(late.status.code(), Some(4), "{:?}", said(&late));
        let (draining, _) = said(&ask(&plane, &["status"]).await);
        let holder = draining.lines().find(|line| line.contains("  holder  ")).expect("who holds it is named");
        assert!(holder.contains("executing"), "{draining}");
        assert!(draining.contains("by request, can be taken back, connections: 1"), "{draining}");
        let (json, _) = said(&ask(&plane, &["status", "--format", "json"]).await);
        assert!(json.contains(r#""application": "holder""#), "{json}");

        let waited = ask(&plane, &["drain", "--wait"]).await;
        assert_eq!(waited.status.code(), Some(0), "{:?}", said(&waited));
        assert!(said(&waited).1.contains("gone after"), "{:?}", said(&waited));
        assert_eq!(running.finished().await.code, Some(0));

        let gone = ask(&plane, &["status"]).await;
        assert_eq!(gone.status.code(), Some(1));
        assert!(said(&gone).1.contains("no answer from 127.0.0.1:"), "{:?}", said(&gone));
    });
}

#[test]
fn where_there_is_a_token_only_who_knows_it_drains_and_whoever_asks_is_answered() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (right, wrong) = (file("right", "s3cret\n"), file("wrong", "guess\n"));
        let flags = ["--lame-duck", "0s", "--idle-grace", "100ms", "--admin-token-file", &right];
        let plane = ControlPlane::start(&flags).await;
        assert_eq!(ask(&plane, &["status"]).await.status.code(), Some(0));
        for arguments in [&["drain"][..], &["drain", "--token-file", &wrong], &["drain", "--undo"]] {
            let refused = ask(&plane, arguments).await;
            assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
            assert!(said(&refused).1.contains("this takes the token"), "{:?}", said(&refused));
        }
        assert!(said(&ask(&plane, &["status"]).await).0.starts_with("serving"));
        let drained = ask(&plane, &["drain", "--wait", "--token-file", &right]).await;
        assert_eq!(drained.status.code(), Some(0), "{:?}", said(&drained));

        let mut serve = command();
        serve.args(["serve", "--worker", "127.0.0.1:1", "--admin-token-file", &file("empty", "\n")]);
        let output = serve.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).1.contains("there is no token in the first line of"), "{:?}", said(&output));
    });
}

/// Prometheus' own checker finds nothing wrong with this.
fn checked(arguments: &[&str], input: &[u8]) {
    let mut checker = promtool();
    checker.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checker = checker.spawn().unwrap();
    checker.stdin.take().unwrap().write_all(input).unwrap();
    let output = checker.wait_with_output().unwrap();
    let (said, complained) = self::said(&output);
    // For metrics it exits with 3 where a name is not as it should be.
    assert!(output.status.success() && complained.is_empty(), "{said}{complained}");
}

/// The names of metrics in a file of `cp/monitoring`.
fn asked_for(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../cp/monitoring").join(file)).unwrap();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("lastcall_")).map(str::to_owned).collect()
}

#[test]
fn a_scrape_counts_who_is_there_and_what_was_done() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        assert_eq!(psql(plane.port, "counted", &["select 1", "select 2"]).finished().await.code, Some(0));
        let running = psql(plane.port, "scraped", &["select pg_sleep(2)"]);
        postgres().wait_until_active("scraped").await;
        let scrape = async |admin| http::ask(admin, "GET /metrics", "").await.unwrap().1;
        let has = |page: &str, sample: &str| assert!(page.lines().any(|line| line == sample), "{sample}: {page}");

        let serving = scrape(plane.admin).await;
        has(&serving, "lastcall_connections{activity=\"executing\"} 1");
        has(&serving, "lastcall_connections_ended_total{reason=\"terminate\"} 1");
        has(&serving, "lastcall_statements_total 2");
        has(&serving, "lastcall_drain_phase{phase=\"serving\"} 1");
        plane.drain().await;
        let draining = scrape(plane.admin).await;
        has(&draining, "lastcall_drain_phase{phase=\"serving\"} 0");
        assert!(draining.contains("\nlastcall_drain_latest_exit_seconds "), "{draining}");
        for page in [serving, draining.clone()] {
            checked(&["check", "metrics"], page.as_bytes());
        }
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cp/monitoring/alerts.yaml");
        checked(&["check", "rules", alerts.to_str().unwrap()], b"");
        // What alerts and the dashboard ask for is there.
        let asked = ["alerts.yaml", "dashboard.json"].map(asked_for);
        assert!(asked.iter().all(|names| names.len() >= 5), "{asked:?}");
        for name in asked.iter().flatten() {
            assert!(draining.contains(&format!("# TYPE {name} ")), "{name}: {draining}");
        }

        assert_eq!(running.finished().await.code, Some(0));
        assert_exit(plane.exit().await, 0, millis(2000));
    });
}

#[test]
fn whoever_answers_but_is_no_control_plane_is_not_drained() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let stranger = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n\x1b[31mx").await;
            }
        });
        for order in [&["drain"][..], &["drain", "--undo"], &["status"]] {
            let mut command = command();
            command.args(order).args(["--admin", &admin]);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let (_, errors) = said(&output);
            assert_eq!(output.status.code(), Some(1), "{order:?}: {errors}");
            assert!(errors.contains("not as lastcall does") && !errors.contains('\u{1b}'), "{order:?}: {errors}");
        }
        stranger.abort();
    });
}

#[test]
fn a_table_that_nobody_reads_any_more_is_not_told_again() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut command = tokio::process::Command::from(command());
        command.args(["status", "--watch", "--admin", &format!("127.0.0.1:{}", plane.admin)]);
        let mut watching = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut table = watching.stdout.take().unwrap();
        let mut first = [0; 7];
        table.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"serving");
        drop(table);
        let ended = within(SOON + millis(2000), "the end of the watch", watching.wait()).await.unwrap();
        assert_eq!(ended.code(), Some(0));
    });
}
