//! The clients that people have, each as its users use it: it works through lastcall, and a drain cuts nothing of what it does,
//! is told to it with a SQLSTATE that it passes on, and can be hurried by its own way to cancel.

use std::path::Path;
use std::process::Command;

use process_tests::certificates::{Authority, Pair};
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::verifying;
use process_tests::run;
use process_tests::script::{self, Script};

use super::{assert_exit, millis};

const IDLE_GRACE_MS: u64 = 500;

/// In front of the tests' PostgreSQL, with a certificate for `localhost`, and for those only who ask for it.
async fn encrypted(authority: &Authority) -> ControlPlane {
    let Pair { cert, key } = authority.signs("front", &["localhost"]);
    let grace = format!("{IDLE_GRACE_MS}ms");
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tls-required", "true"];
    // All are due at once: where one has been told that it is over, the others have come to their due time as well.
    let drain = ["--lame-duck", "200ms", "--idle-grace", &grace, "--pacing", "none"];
    ControlPlane::start(&[&flags[..], &drain].concat()).await
}

fn beside_this_file(name: &str) -> impl AsRef<Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/clients").join(name)
}

/// A driver's script is ready, with a statement that runs and one that would run for ever; then the drain begins, and it sees
/// this. The statement that runs is told of last and takes longer than the grace.
async fn sees_of_a_drain(driver: &str, command: Command, seen: &[&str]) {
    let authority = Authority::new();
    let mut plane = encrypted(&authority).await;
    let mut script = Script::start(verifying(command, plane.port, driver, &authority));
    script.says("ready").await;
    for running in ["running", "cancelled"] {
        postgres().wait_until_active(&format!("{driver}-{running}")).await;
    }
    plane.drain().await;
    for line in seen {
        script.says(line).await;
    }
    let answered = plane.since_signal();
    assert!(answered > millis(2 * IDLE_GRACE_MS), "{answered:?}");
    let (code, errors) = script.ends().await;
    assert_eq!(code, Some(0), "{errors}");
    assert_exit(plane.exit().await, 0, answered);
}

#[test]
fn psycopg_pipelines_copies_reads_by_cursors_and_cancels_and_is_told_of_a_drain() {
    let seen = [
        "idle: the FATAL",
        "cancelled: 57014, then the FATAL",
        "transaction: 100 rows, then the FATAL",
        "copy: the FATAL",
        "running: [0, 1, 2], then the FATAL",
    ];
    run(async {
        let command = script::psycopg(beside_this_file("with_psycopg.py").as_ref());
        sees_of_a_drain("psycopg", command, &seen).await;
        let observer = postgres().connect("observer").await;
        let copied = observer.value("select count(*) || ' rows, ' || sum(n) from with_psycopg").await.unwrap();
        assert_eq!(copied, "100 rows, 5050");
    });
}

#[test]
fn node_postgres_pools_reads_by_cursors_listens_and_cancels_and_is_told_of_a_drain() {
    let seen = [
        "idle: 57P01",
        "cancelled: 57014, then 57P01",
        "transaction: 100 rows, then 57P01",
        "running: the row, then 57P01",
    ];
    run(async {
        let command = script::node_postgres(beside_this_file("with_pg.js").as_ref());
        sees_of_a_drain("node", command, &seen).await;
    });
}

#[test]
fn jdbc_batches_copies_reads_by_portals_and_cancels_and_is_told_of_a_drain() {
    let seen = [
        "idle: 57P01",
        "cancelled: 57014, then 57P01",
        "transaction: 100 rows, then 57P01",
        "running: the row, then 57P01",
    ];
    run(async {
        let command = script::jdbc(beside_this_file("WithJdbc.java").as_ref());
        sees_of_a_drain("jdbc", command, &seen).await;
    });
}
