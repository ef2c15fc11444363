//! The policies of before, and the wall: these tests can fail.

use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::postgres::postgres;
use process_tests::run;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

#[test]
fn under_unbounded_one_idle_client_holds_the_process_beyond_the_grace() {
    run(async {
        let flags = ["--drain-policy", "unbounded", "--lame-duck", "200ms", "--idle-grace", "500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let client = plane.connect("holder").await;

        plane.drain().await;
        plane.until(millis(2500)).await;
        assert!(plane.is_running(), "the idle client was let go");
        client.simple_query("select 1").await.expect("the idle client was let go");
        plane.signal(Signal::QUIT);
        assert_eq!(plane.exit().await.code, Some(131));
    });
}

#[test]
fn under_flat_a_running_statement_is_cut_at_the_wall_and_the_exit_code_says_so() {
    run(async {
        let flags = ["--drain-policy", "flat", "--handover-drain-timeout", "1s"];
        let flags = [&flags[..], &["--lame-duck", "200ms", "--idle-grace", "500ms"]].concat();
        let mut plane = ControlPlane::start(&flags).await;
        let client = plane.connect("cut").await;
        let running = tokio::spawn(async move { client.value("select 'the row' from pg_sleep(10)").await });
        postgres().wait_until_active("cut").await;

        plane.drain().await;
        let answer = running.await.unwrap();
        let exit = plane.exit().await;

        assert!(answer.is_err(), "{answer:?}");
        assert!(exit.after >= millis(1000), "{exit:?}");
        assert_exit(exit, 3, millis(1000));
    });
}

#[test]
fn at_a_wall_that_is_set_a_running_statement_is_cancelled_and_its_client_told() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "500ms", "--handover-drain-timeout", "1s"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut client = plane.connect("walled").await;
        let running = async { client.value("select pg_sleep(20)").await };
        let drain = async {
            postgres().wait_until_active("walled").await;
            plane.drain().await;
        };
        let (answer, ()) = futures_util::future::join(running, drain).await;
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"));
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert!(fatal.detail().is_some(), "{fatal:?}");
        assert!(exit.after >= millis(1000), "{exit:?}");
        assert_exit(exit, 3, millis(1000));
    });
}
