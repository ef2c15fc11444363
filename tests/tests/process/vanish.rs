//! Clients that are gone in the middle of a statement: the worker would run on to its next write.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::{eventually, run};

use super::{assert_exit, millis};

/// Nobody waits for it.
const ENDLESS: &str = "select pg_sleep(600)";

/// Waits until the worker has no session of this application any more.
async fn gone_from_the_worker(application: &str) {
    let observer = postgres().connect("observer").await;
    eventually(millis(10_000), "the end of the statement", async || {
        let rows = observer
            .query("select 1 from pg_stat_activity where application_name = $1", &[&application])
            .await
            .unwrap();
        rows.is_empty().then_some(())
    })
    .await;
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
        assert_eq!((&records[0]["reason"], &records[0]["requests"]), (&"client_reset".into(), &0.into()));
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
