//! Whoever holds the process must be able to let go.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::{SLACK, run};
use tokio_postgres::NoTls;

use super::{ADMIN_SHUTDOWN, millis, told};

/// Nobody waits for it: it would hold the process for longer than any test may take.
const ENDLESS: &str = "select pg_sleep(600)";

#[test]
fn a_driver_s_cancel_request_stops_its_statement_during_the_drain_and_the_process_exits() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "500ms"]).await;
        let mut client = plane.connect("cancelled").await;
        let token = client.cancel_token();
        let running = async { client.value(ENDLESS).await };
        let cancel = async {
            postgres().wait_until_active("cancelled").await;
            plane.drain().await;
            plane.until(millis(1000)).await;
            token.cancel_query(NoTls).await.unwrap();
            plane.since_signal()
        };
        let (answer, cancelled) = futures_util::future::join(running, cancel).await;
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"));
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_eq!(exit.code, Some(0));
        assert!(exit.after < cancelled + SLACK, "cancelled after {cancelled:?}, {exit:?}");
    });
}

#[test]
fn ctrl_c_in_psql_stops_its_statement_during_the_drain_and_the_process_exits() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "500ms"]).await;
        let running = psql(plane.port, "interrupted", &[ENDLESS]);
        postgres().wait_until_active("interrupted").await;

        plane.drain().await;
        plane.until(millis(1000)).await;
        running.interrupt();
        let finished = running.finished().await;
        let cancelled = plane.since_signal();
        let exit = plane.exit().await;

        assert!(finished.err.contains("ERROR:  canceling statement due to user request"), "{finished:?}");
        assert_eq!(exit.code, Some(0));
        assert!(exit.after < cancelled + SLACK, "cancelled after {cancelled:?}, {exit:?}");
    });
}
