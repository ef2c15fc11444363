//! Records in a file: what they add up to is what the worker did, and nothing that is wrong with the file holds anybody up.

use std::process::Command;

use process_tests::client::Client;
use process_tests::control_plane::{ControlPlane, Signal, command};
use process_tests::postgres::{BY_MD5, DATABASE, SUPERUSER, postgres};
use process_tests::{SLACK, eventually, run};
use serde_json::Value;

use super::{assert_exit, millis};

/// What `lastcall records sum` says of this file.
fn sum(file: &str) -> Value {
    let mut sum: Command = command();
    let output = sum.args(["records", "sum", "--format", "json", file]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Compute seconds of this user.
fn executing(sum: &Value, user: &str) -> f64 {
    let used = sum["used"].as_array().unwrap().iter().find(|used| used["user"] == user);
    used.and_then(|used| used["executing_s"].as_f64()).unwrap_or_default()
}

#[test]
fn the_records_of_a_process_add_up_to_what_its_worker_did() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("records").to_string_lossy().into_owned();
        let mut plane = ControlPlane::start(&["--lame-duck", "0s", "--idle-grace", "100ms", "--records", &file]).await;
        let (user, password) = BY_MD5;
        let asleep = plane.connect("one").await;
        let other = Client::try_connect_with(plane.port, "other", |config| {
            config.user(user).password(password);
        });
        let other = other.await.unwrap();
        // The worker measures itself.
        let sleep = "with began as materialized (select clock_timestamp() at), slept as materialized \
                     (select pg_sleep(0.3) from began) select extract(epoch from clock_timestamp() - at) from began, slept";
        let mut did = 0.0;
        for _ in 0..3 {
            did += asleep.value(sleep).await.unwrap().parse::<f64>().unwrap();
        }
        let did_other: f64 = other.value(sleep).await.unwrap().parse().unwrap();
        plane.drain().await;
        assert_exit(plane.exit().await, 0, millis(100));

        let sum = sum(&file);
        for (user, did, statements) in [(SUPERUSER, did, 3), (user, did_other, 1)] {
            let executing = executing(&sum, user);
            // Plans and round trips come on top.
            assert!((did..did + 0.5).contains(&executing), "{executing} s for {did} s: {sum}");
            let used = sum["used"].as_array().unwrap().iter().find(|used| used["user"] == user).unwrap();
            assert_eq!((&used["statements"], &used["database"]), (&statements.into(), &DATABASE.into()), "{sum}");
        }
        for none in ["without_end", "without_stop", "lost_records", "unreadable"] {
            assert_eq!(sum[none], 0, "{sum}");
        }
        assert!(plane.records().is_empty(), "they are in the file, and not in the log: {}", plane.text());
    });
}

#[test]
fn a_sigkill_loses_no_more_than_a_checkpoint_s_time_and_the_next_process_says_so() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("records").to_string_lossy().into_owned();
        let flags = ["--records", &file, "--records-checkpoint", "200ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let client = plane.connect("killed").await;
        let running = async { client.value("select pg_sleep(600)").await };
        let killed = async {
            postgres().wait_until_active("killed").await;
            let grown = async || Some(executing(&sum(&file), SUPERUSER)).filter(|executing| *executing > 1.0);
            let executing = eventually(millis(10_000), "checkpoints", grown).await;
            plane.signal(Signal::KILL);
            plane.exit().await;
            executing
        };
        let (_, before) = futures_util::future::join(running, killed).await;
        let left = sum(&file);
        assert!(executing(&left, SUPERUSER) >= before, "{left}");
        assert_eq!((&left["without_end"], &left["without_stop"]), (&1.into(), &1.into()), "{left}");

        let next = ControlPlane::start(&flags).await;
        let told = async || next.log().into_iter().find(|line| line["sessions"] == 1 && line["processes"] == 1);
        let line = eventually(SLACK, "a line about what is lost", told).await;
        assert!(line["message"].as_str().unwrap().starts_with("records of before"), "{line}");
    });
}

#[test]
fn a_full_disk_and_a_pipe_that_nobody_reads_hold_up_nobody_and_what_is_lost_is_counted() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe").to_string_lossy().into_owned();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Somebody who has opened it and reads nothing.
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        for (file, lost) in [("/dev/full", true), (pipe.as_str(), false)] {
            let flags = ["--lame-duck", "0s", "--idle-grace", "100ms", "--records", file];
            let mut plane = ControlPlane::start(&flags).await;
            for number in 0..20 {
                assert_eq!(plane.connect(&format!("{number}")).await.value("select 41 + 1").await.unwrap(), "42");
            }
            plane.drain().await;
            let exit = plane.exit().await;
            let report = plane.log().into_iter().find(|line| line["message"] == "drain over").unwrap();
            assert_exit(exit, 0, millis(100));
            assert_eq!(report["lost_records"].as_u64().unwrap() >= 20, lost, "{report}");
        }
        drop(reader);
    });
}

#[test]
fn a_file_that_can_not_be_opened_stops_the_start_and_is_named() {
    run(async {
        let mut serve = command();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--worker", "127.0.0.1:1", "--records", "/nowhere/records"]);
        let output = serve.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("records: cannot open /nowhere/records"), "{err}");
    });
}
