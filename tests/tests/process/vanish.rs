//! Clients that are gone in the middle of a statement, by a reset or with their machine (no FIN, no RST, nothing, ever again):
//! the worker would run on to its next write.

use std::process::{Child, Command, Stdio};

use process_tests::control_plane::ControlPlane;
use process_tests::machine::{HERE, Machine, in_own_network};
use process_tests::postgres::{SUPERUSER, postgres};
use process_tests::raw::{self, Raw};
use process_tests::run;
use process_tests::watchdog::Watchdog;
use tokio::io::AsyncWriteExt;

use super::{SOON, assert_exit, millis};

/// Nobody waits for it.
const ENDLESS: &str = "select pg_sleep(600)";

async fn gone_from_the_worker(application: &str) {
    postgres().wait_until_gone(SOON, application).await;
}

#[test]
fn the_statement_of_a_client_that_was_reset_is_cancelled_and_its_record_is_one() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "200ms"]).await;
        let mut client = Raw::session(plane.port, "vanished").await;
        client.send(&raw::query(ENDLESS)).await;
        postgres().wait_until_active("vanished").await;
        client.reset();
        gone_from_the_worker("vanished").await;

        plane.drain().await;
        assert_exit(plane.exit().await, 0, millis(200));
        let records = plane.records();
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((&records[0]["reason"], &records[0]["statements"]), (&"client_reset".into(), &0.into()));
    });
}

#[test]
fn the_process_does_not_exit_before_the_last_statement_is_cancelled() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "200ms"]).await;
        let mut client = Raw::session(plane.port, "last").await;
        client.send(&raw::query(ENDLESS)).await;
        postgres().wait_until_active("last").await;
        plane.drain().await;
        plane.until(millis(500)).await;
        client.reset();
        assert_eq!(plane.exit().await.code, Some(0));
        gone_from_the_worker("last").await;
    });
}

#[test]
fn the_statement_of_a_client_that_was_reset_while_its_next_request_is_held_back_is_cancelled_at_once() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "200ms"]).await;
        let mut client = Raw::session(plane.port, "held").await;
        client.send(&raw::query(ENDLESS)).await;
        postgres().wait_until_active("held").await;
        plane.drain().await;
        plane.until(millis(500)).await;
        client.send(&raw::query("select 'not any more'")).await;
        plane.until(millis(800)).await;
        client.reset();
        let reset = plane.since_signal();
        assert_exit(plane.exit().await, 0, reset);
        assert_eq!(reasons(&plane), ["client_reset"]);
        gone_from_the_worker("held").await;
    });
}

#[test]
fn the_statement_of_a_client_that_was_reset_behind_a_long_pipeline_is_cancelled_at_once() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut client = Raw::session(plane.port, "pipeline").await;
        let mut pipeline = raw::query(ENDLESS);
        // More of them than are forwarded unanswered, and more bytes than are read.
        pipeline.extend(raw::query("select 1").repeat(20_000));
        client.send(&pipeline).await;
        postgres().wait_until_active("pipeline").await;
        client.reset();
        gone_from_the_worker("pipeline").await;
    });
}

#[test]
fn the_copy_of_a_client_that_was_reset_is_cancelled_while_its_worker_takes_nothing() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table vanished (n int primary key, pad text)").await.unwrap();
        let plane = ControlPlane::start(&[]).await;
        let mut client = Raw::session(plane.port, "copying").await;
        client.send(&raw::query("copy vanished from stdin")).await;
        assert_eq!(client.messages.next().await.unwrap().unwrap().tag, b'G', "CopyInResponse");
        // The first row waits for this transaction, and the rest for the first row.
        setup.batch_execute("begin; insert into vanished values (0)").await.unwrap();
        let rows = async {
            for row in 0.. {
                client.output.write_all(&raw::copy_data(format!("{row}\t{:1000}\n", "").as_bytes())).await.unwrap();
            }
        };
        // By then nothing moves any more.
        let stuck = tokio::time::timeout(millis(1500), rows).await;
        assert!(stuck.is_err(), "the worker has taken everything");
        client.reset();
        gone_from_the_worker("copying").await;
        setup.batch_execute("rollback").await.unwrap();
    });
}

#[test]
fn the_statement_of_a_client_that_vanished_is_cancelled_at_its_worker() {
    in_own_network("vanish::the_statement_of_a_client_that_vanished_is_cancelled_at_its_worker", async {
        let machine = Machine::plug_in();
        let flags =
            ["--lame-duck", "200ms", "--idle-grace", "400ms", "--tcp-keepalive", "1s", "--tcp-user-timeout", "2s"];
        let mut plane = ControlPlane::start_at(HERE, &flags).await;
        let _client = Client::start(&machine, &plane, "vanishes", "select pg_sleep(600)", Stdio::null());
        postgres().wait_until_active("vanishes").await;

        machine.vanish();
        plane.drain().await;
        let exit = plane.exit().await;
        let after = exit.after;

        // The second probe goes out ten seconds after the first.
        assert_exit(exit, 0, millis(12_000));
        assert_eq!(reasons(&plane), ["client_reset"]);
        assert!(after > millis(1000), "{after:?}: nobody could know yet");
        gone_from_the_worker("vanishes").await;
    });
}

#[test]
fn a_client_that_vanished_in_the_middle_of_a_result_is_given_up_after_tcp_user_timeout() {
    in_own_network(
        "vanish::a_client_that_vanished_in_the_middle_of_a_result_is_given_up_after_tcp_user_timeout",
        async {
            let machine = Machine::plug_in();
            let flags = ["--lame-duck", "200ms", "--idle-grace", "400ms", "--tcp-user-timeout", "2s"];
            let mut plane = ControlPlane::start_at(HERE, &flags).await;
            let rows = "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout";
            let _client = Client::start(&machine, &plane, "vanishes", rows, Stdio::null());
            postgres().wait_until_active("vanishes").await;

            machine.vanish();
            plane.drain().await;
            let exit = plane.exit().await;

            assert_exit(exit, 0, millis(10_000));
            assert_eq!(reasons(&plane), ["client_reset"]);
            gone_from_the_worker("vanishes").await;
        },
    );
}

/// `psql` on another machine. Killed when dropped.
struct Client {
    process: Child,
    watchdog: Option<Watchdog>,
}

impl Client {
    fn start(machine: &Machine, plane: &ControlPlane, application: &str, statement: &str, out: Stdio) -> Client {
        let mut command: Command = machine.command(postgres().program("psql"));
        let process = command
            .args(["--no-psqlrc", "-h", HERE, "-p", &plane.port.to_string(), "-U", SUPERUSER, "-d", "postgres"])
            .args(["-c", statement])
            .env("PGAPPNAME", application)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let watchdog = Some(Watchdog::over(process.id(), "KILL", None));
        Client { process, watchdog }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
    }
}

fn reasons(plane: &ControlPlane) -> Vec<String> {
    plane.records().iter().map(|record| record["reason"].as_str().unwrap().to_owned()).collect()
}
