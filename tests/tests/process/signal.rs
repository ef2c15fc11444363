//! What each signal does.

use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::run;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

#[test]
fn sigint_drains() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "1s"]).await;
        let mut client = plane.connect("sigint").await;
        plane.signal(Signal::INT);
        let fatal = client.fatal().await;
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(plane.exit().await, 0, millis(1000));
    });
}

#[test]
fn sigquit_exits_at_once_whatever_runs() {
    run(async {
        let mut plane = ControlPlane::start(&[]).await;
        let _running = psql(plane.port, "quit", &["select pg_sleep(60)"]);
        postgres().wait_until_active("quit").await;
        plane.signal(Signal::QUIT);
        assert_exit(plane.exit().await, 131, millis(0));
        assert_eq!(plane.records().len(), 1, "the session has its record all the same");
    });
}

#[test]
fn a_signal_that_means_nothing_here_ends_nothing() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "500ms"]).await;
        let client = plane.connect("unmoved").await;
        // HUP, USR1, USR2, ALRM, STKFLT, XCPU, XFSZ, VTALRM, PROF, IO, PWR as Linux numbers them, and all real-time ones.
        for number in [1, 10, 12, 14, 16, 24, 25, 26, 27, 29, 30].into_iter().chain(34..=64) {
            let kill = format!("kill -{number} {}", plane.id());
            assert!(std::process::Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
            assert_eq!(client.value("select 'the row'").await.unwrap(), "the row", "after signal {number}");
        }
        let said = || plane.log().iter().filter(|line| line["message"] == "signal ignored").count();
        process_tests::eventually(millis(5000), "the signals to be logged", async || (said() > 40).then_some(())).await;
        let reload = |line: &serde_json::Value| line["signal"] == "SIGHUP";
        assert!(plane.log().iter().any(reload), "SIGHUP leaves a line");
        plane.drain().await;
        assert_exit(plane.exit().await, 0, millis(500));
    });
}

#[test]
fn a_second_sigterm_changes_nothing() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "500ms"]).await;
        let running = psql(plane.port, "twice", &["select 'the row' from pg_sleep(2)"]);
        postgres().wait_until_active("twice").await;
        plane.drain().await;
        plane.until(millis(700)).await;
        plane.signal(Signal::TERM);
        let finished = running.finished().await;
        assert_eq!(finished.out, "the row\n", "{finished:?}");
        assert_exit(plane.exit().await, 0, millis(2000));
    });
}

#[test]
fn a_second_sigint_is_the_wall() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "500ms"]).await;
        let running = psql(plane.port, "impatient", &["select pg_sleep(20)"]);
        postgres().wait_until_active("impatient").await;
        plane.signal(Signal::INT);
        plane.until(millis(1000)).await;
        assert!(plane.is_running(), "the first SIGINT was the wall already");
        plane.signal(Signal::INT);
        let finished = running.finished().await;
        let exit = plane.exit().await;
        assert!(finished.err.contains("ERROR:  canceling statement due to user request"), "{finished:?}");
        assert_exit(exit, 3, millis(1000));
    });
}
