//! A client whose machine is gone: no FIN, no RST, nothing, ever again.

use std::process::{Child, Command, Stdio};

use process_tests::control_plane::ControlPlane;
use process_tests::machine::{HERE, Machine, in_own_network};
use process_tests::postgres::{SUPERUSER, postgres};
use process_tests::{eventually, watchdog::Watchdog};

use super::{assert_exit, millis};

#[test]
fn the_statement_of_a_client_that_vanished_is_cancelled_at_its_worker() {
    in_own_network("vanished::the_statement_of_a_client_that_vanished_is_cancelled_at_its_worker", async {
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
        nobody_works_for("vanishes").await;
    });
}

#[test]
fn a_client_that_vanished_in_the_middle_of_a_result_is_given_up_after_tcp_user_timeout() {
    in_own_network(
        "vanished::a_client_that_vanished_in_the_middle_of_a_result_is_given_up_after_tcp_user_timeout",
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
            nobody_works_for("vanishes").await;
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

async fn nobody_works_for(application: &str) {
    let observer = postgres().connect("observer").await;
    eventually(millis(5_000), "the worker to be free", async || {
        let left = "select 1 from pg_stat_activity where application_name = $1";
        observer.query(left, &[&application]).await.unwrap().is_empty().then_some(())
    })
    .await;
}
