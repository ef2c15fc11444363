//! The clients that people have, each as its users use it: it works through lastcall, and a drain cuts nothing of what it does,
//! is told to it with a SQLSTATE that it passes on, and can be hurried by its own way to cancel.

use std::path::Path;
use std::process::Command;

use futures_util::future::join3;
use process_tests::certificates::{Authority, Pair};
use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::encryption::Encryption;
use process_tests::postgres::{DATABASE, postgres};
use process_tests::psql::{Program, verifying};
use process_tests::script::{self, Script};
use process_tests::{eventually, run};

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

const IDLE_GRACE_MS: u64 = 500;
const FATAL: &str = "FATAL:  terminating connection due to administrator command";

/// For those only who are under TLS.
const TLS_ONLY: [&str; 2] = ["--tls-required", "true"];

/// In front of the tests' PostgreSQL, with a certificate for `localhost`.
async fn encrypted(authority: &Authority, flags: &[&str]) -> ControlPlane {
    let Pair { cert, key } = authority.signs("front", &["localhost"]);
    let grace = format!("{IDLE_GRACE_MS}ms");
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    // All are due at once: where one has been told that it is over, the others have come to their due time as well.
    let drain = ["--lame-duck", "200ms", "--idle-grace", &grace, "--pacing", "none"];
    ControlPlane::start(&[&tls[..], &drain, flags].concat()).await
}

/// One of PostgreSQL's programs, not yet started, in `database`.
fn client_program(name: &str, plane: &ControlPlane, authority: &Authority, database: &str) -> Command {
    let mut command = verifying(Command::new(postgres().program(name)), plane.port, name, authority);
    command.env("PGDATABASE", database);
    command
}

/// A superuser's session in `database` that bypasses the control plane.
async fn observer_in(database: &str) -> Client {
    let observer = Client::try_connect_with(postgres().port, "observer", |config| {
        config.dbname(database);
    });
    observer.await.unwrap()
}

/// Waits until the session of `application` waits for a lock.
async fn waits_for_a_lock(application: &str) {
    let observer = postgres().connect("observer").await;
    let waits =
        format!("select 1 from pg_stat_activity where application_name = '{application}' and wait_event_type = 'Lock'");
    eventually(millis(20_000), "a wait for a lock", async || {
        (observer.value(&waits).await.unwrap() == "1").then_some(())
    })
    .await;
}

fn beside_this_file(name: &str) -> impl AsRef<Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/clients").join(name)
}

/// A driver's script is ready, with a statement that runs and one that would run for ever; then the drain begins, and it sees
/// this. The statement that runs is told of last and takes longer than the grace.
async fn sees_of_a_drain(driver: &str, command: Command, seen: &[&str]) {
    let authority = Authority::new();
    let mut plane = encrypted(&authority, &TLS_ONLY).await;
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

#[test]
fn tokio_postgres_under_tls_reads_by_portals_and_cancels_in_private_and_is_told_of_a_drain() {
    run(async {
        let authority = Authority::new();
        let encryption = Encryption::verifying(&authority);
        let plane = &mut encrypted(&authority, &TLS_ONLY).await;
        let port = plane.port;
        let connect =
            async |name: &str| Client::connect_encrypted(port, &format!("rust-{name}"), encryption.clone()).await;
        let (mut idle, running, cancelled) =
            (connect("idle").await, connect("running").await, connect("cancelled").await);
        let mut reads = connect("transaction").await;
        let row = idle.query_one("select $1::int4 + 1, $2::text", &[&41, &None::<String>]).await.unwrap();
        assert_eq!((row.get::<_, i32>(0), row.get::<_, Option<String>>(1)), (42, None));
        let transaction = reads.transaction().await.unwrap();
        let portal = transaction.bind("select generate_series(1, 100)", &[]).await.unwrap();
        assert_eq!(transaction.query_portal(&portal, 50).await.unwrap().len(), 50);

        let token = cancelled.cancel_token();
        let drain = async {
            for application in ["rust-running", "rust-cancelled"] {
                postgres().wait_until_active(application).await;
            }
            plane.drain().await;
            assert_eq!(told(&idle.fatal().await), ADMIN_SHUTDOWN);
            token.cancel_query(encryption.clone()).await.unwrap();
            assert_eq!(transaction.query_portal(&portal, 100).await.unwrap().len(), 50);
            drop(portal);
            transaction.commit().await.unwrap();
        };
        let row = running.value("select 'the row' from pg_sleep(3)");
        let (row, error, ()) = join3(row, cancelled.value("select pg_sleep(600)"), drain).await;
        let answered = plane.since_signal();

        assert_eq!(row.unwrap(), "the row");
        assert_eq!(error.unwrap_err().code().map(|code| code.code()), Some("57014"));
        for mut client in [running, cancelled, reads] {
            assert_eq!(told(&client.fatal().await), ADMIN_SHUTDOWN);
        }
        assert!(answered > millis(2 * IDLE_GRACE_MS), "{answered:?}");
        assert_exit(plane.exit().await, 0, answered);
    });
}

#[test]
fn psql_prepares_copies_and_goes_on_in_a_transaction_and_shows_the_sqlstate_of_its_end() {
    run(async {
        let authority = Authority::new();
        let mut plane = encrypted(&authority, &TLS_ONLY).await;
        let psql = |application: &str| {
            let mut command = client_program("psql", &plane, &authority, DATABASE);
            command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set", "VERBOSITY=verbose"]);
            command.env("PGAPPNAME", application);
            Script::start(command)
        };
        let (mut running, mut idle) = (psql("psql-running"), psql("psql-idle"));
        running.say("create table with_psql (n int);").await;
        running.say("\\copy with_psql from program 'seq 100'").await;
        running.say("prepare total (int) as select sum(n) + $1 from with_psql;").await;
        for (line, answer) in [
            ("execute total(1);", "5051"),
            ("\\copy (select n from with_psql where n = 42) to stdout", "42"),
            ("\\set n 7\nselect n from with_psql where n = :n;", "7"),
            ("select 1 / 0;\n\\echo :LAST_ERROR_SQLSTATE", "22012"),
        ] {
            running.say(line).await;
            running.says(answer).await;
        }
        idle.say("select 'is in';").await;
        idle.says("is in").await;
        running.say("begin; delete from with_psql;").await;
        running.say("select 'the row' from pg_sleep(3);").await;
        postgres().wait_until_running("select 'the row' from pg_sleep(3);", 1).await;

        plane.drain().await;
        plane.until(millis(2 * IDLE_GRACE_MS)).await;
        idle.say("select 'not any more';").await;
        let (code, errors) = idle.ends().await;
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("FATAL:  57P01: terminating connection due to administrator command"), "{errors}");
        running.says("the row").await;
        running.say("select count(*) from with_psql;").await;
        running.says("0").await;
        running.say("commit;").await;
        running.say("select 'not any more';").await;
        let answered = plane.since_signal();
        let (code, errors) = running.ends().await;
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains("FATAL:  57P01: terminating connection due to administrator command"), "{errors}");
        assert_exit(plane.exit().await, 0, answered);
        let observer = postgres().connect("observer").await;
        assert_eq!(observer.value("select count(*) from with_psql").await.unwrap(), "0", "it was committed");
    });
}

#[test]
fn pgbench_in_every_mode_is_told_of_a_drain_between_transactions_and_counts_what_the_table_has() {
    run(async {
        let authority = Authority::new();
        let mut plane = encrypted(&authority, &TLS_ONLY).await;
        let observer = postgres().connect("observer").await;
        let scripts = tempfile::tempdir().unwrap();
        let modes = ["simple", "extended", "prepared"];
        let mut benches = Vec::new();
        for mode in modes {
            observer.batch_execute(&format!("create table with_pgbench_{mode} (n int)")).await.unwrap();
            let script = scripts.path().join(mode);
            let insert = format!("insert into with_pgbench_{mode} values (:client_id);\n");
            std::fs::write(&script, format!("begin;\n{insert}{insert}commit;\n")).unwrap();
            let mut bench = client_program("pgbench", &plane, &authority, DATABASE);
            bench.args(["--no-vacuum", "-M", mode, "-c", "3", "-T", "40", "-f"]).arg(&script);
            benches.push(Program::start(bench));
        }
        for mode in modes {
            let begun = format!("select count(distinct n) from with_pgbench_{mode}");
            eventually(millis(20_000), "committed rows", async || {
                (observer.value(&begun).await.unwrap() == "3").then_some(())
            })
            .await;
        }

        plane.drain().await;
        for (mode, bench) in modes.into_iter().zip(benches) {
            let finished = bench.finished().await;
            assert_eq!(finished.code, Some(2), "{finished:?}");
            assert_eq!(finished.err.matches(FATAL).count(), 3, "{finished:?}");
            let counted = finished.out.split_once("actually processed: ").unwrap().1.lines().next().unwrap();
            let rows = observer.value(&format!("select count(*) / 2.0 from with_pgbench_{mode}")).await.unwrap();
            assert_eq!(rows.parse::<f64>().unwrap(), counted.parse::<f64>().unwrap(), "{mode}: {finished:?}");
        }
        assert_exit(plane.exit().await, 0, millis(IDLE_GRACE_MS));
    });
}

/// What must be the same in two databases.
const CHECKSUM: &str = "select count(*) || ' ' || md5(string_agg(n || text, ',' order by n)) from dumped";

#[test]
fn pg_dump_and_a_restore_in_one_transaction_are_whole_after_a_drain_and_a_restore_in_many_ends_between_two() {
    run(async {
        let authority = Authority::new();
        let setup = postgres().connect("setup").await;
        for database in ["dumped", "restored", "half_restored"] {
            setup.batch_execute(&format!("create database {database}")).await.unwrap();
        }
        let source = observer_in("dumped").await;
        let rows = "create table dumped (n int primary key, text text); \
                    insert into dumped select n, md5(n::text) || repeat('x', n % 500) from generate_series(1, 10000) n";
        source.batch_execute(rows).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dump");

        let mut plane = encrypted(&authority, &TLS_ONLY).await;
        source.batch_execute("begin; lock table dumped").await.unwrap();
        let mut dump = client_program("pg_dump", &plane, &authority, "dumped");
        dump.args(["--format", "custom", "--file"]).arg(&file);
        let dump = Program::start(dump);
        waits_for_a_lock("pg_dump").await;
        plane.drain().await;
        plane.until(millis(2 * IDLE_GRACE_MS)).await;
        source.batch_execute("rollback").await.unwrap();
        let finished = dump.finished().await;
        let dumped = plane.since_signal();
        assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{finished:?}");
        assert_exit(plane.exit().await, 0, dumped);

        // A table of the same name that may still be committed holds up those that make it.
        let mut plane = encrypted(&authority, &TLS_ONLY).await;
        let restore = async |database: &str, arguments: &[&str]| {
            let other = observer_in(database).await;
            other.batch_execute("begin; create table dumped (n int)").await.unwrap();
            let mut restore = client_program("pg_restore", &plane, &authority, database);
            restore.env("PGAPPNAME", database).args(["--dbname", database]).args(arguments).arg(&file);
            let restore = Program::start(restore);
            waits_for_a_lock(database).await;
            (other, restore)
        };
        let (other, whole) = restore("restored", &["--single-transaction"]).await;
        let (another, half) = restore("half_restored", &["--exit-on-error"]).await;
        plane.drain().await;
        plane.until(millis(2 * IDLE_GRACE_MS)).await;
        other.batch_execute("rollback").await.unwrap();
        another.batch_execute("rollback").await.unwrap();
        let (whole, half) = (whole.finished().await, half.finished().await);
        let restored = plane.since_signal();
        // Behind its COMMIT, pg_restore has the server execute a comment: that is all that is lacking, and it is told of it.
        assert!(whole.err.contains("Command was: --\n-- PostgreSQL database dump complete"), "{whole:?}");
        for restore in [whole, half] {
            assert_eq!(restore.code, Some(1), "{restore:?}");
            assert!(restore.err.contains(FATAL), "{restore:?}");
        }
        assert_exit(plane.exit().await, 0, restored);

        let sum = source.value(CHECKSUM).await.unwrap();
        assert!(sum.starts_with("10000 "), "{sum}");
        assert_eq!(other.value(CHECKSUM).await.unwrap(), sum);
        let columns = "select count(*) || ' columns, ' || (select count(*) from dumped) || ' rows' \
                       from information_schema.columns where table_name = 'dumped'";
        assert_eq!(another.value(columns).await.unwrap(), "2 columns, 0 rows", "the statement that ran is complete");
    });
}

#[test]
fn pg_receivewal_has_every_byte_of_a_segment_and_is_told_of_a_drain_which_it_does_not_hold() {
    run(async {
        let authority = Authority::new();
        let mut plane = encrypted(&authority, &[]).await;
        let observer = postgres().connect("observer").await;
        let mut receivers = Vec::new();
        for mode in ["verify-full", "disable"] {
            let directory = tempfile::tempdir().unwrap();
            let mut receive = client_program("pg_receivewal", &plane, &authority, DATABASE);
            receive.env("PGSSLMODE", mode).env("PGAPPNAME", format!("receivewal {mode}"));
            receive.arg("--no-loop").arg("--directory").arg(directory.path());
            let receive = Program::start(receive);
            let streams = format!("select state from pg_stat_replication where application_name = 'receivewal {mode}'");
            eventually(millis(20_000), "replication", async || {
                (observer.value(&streams).await.unwrap() == "streaming").then_some(())
            })
            .await;
            receivers.push((mode, directory, receive));
        }
        // Other tests write as well: the first segment that ends may be one that had begun before they came.
        let mut segment = String::new();
        for _ in 0..2 {
            observer.value("select pg_logical_emit_message(false, 'a segment', 'is not empty')").await.unwrap();
            segment = observer.value("select pg_walfile_name(pg_switch_wal())").await.unwrap();
        }
        let read = "select pg_read_binary_file('pg_wal/' || $1)";
        let theirs: Vec<u8> = observer.query_one(read, &[&segment]).await.unwrap().get(0);
        for (mode, directory, _) in &receivers {
            let file = directory.path().join(&segment);
            let received = eventually(millis(20_000), "a segment", async || std::fs::read(&file).ok()).await;
            assert!(received == theirs, "{mode}: {segment} has {} bytes, and others", received.len());
        }

        plane.drain().await;
        for (mode, _directory, receive) in receivers {
            let finished = receive.finished().await;
            assert_eq!(finished.code, Some(1), "{mode}: {finished:?}");
            // As in front of PostgreSQL itself: libpq 15 forgets what it has read of a busy stream when it finds the end of TLS
            // behind it.
            let is_forgotten =
                mode != "disable" && finished.err.contains("SSL connection has been closed unexpectedly");
            assert!(finished.err.contains(FATAL) || is_forgotten, "{mode}: {finished:?}");
        }
        assert_exit(plane.exit().await, 0, millis(IDLE_GRACE_MS));
    });
}
