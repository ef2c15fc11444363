//! What the kubelet is told.

use process_tests::control_plane::ControlPlane;
use process_tests::http::{self, Prober};
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::{run, within};

use super::{assert_exit, millis};

#[test]
fn readiness_is_false_from_the_signal_on_and_liveness_true_until_the_exit() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        let running = psql(plane.port, "probed", &["select pg_sleep(2)"]);
        postgres().wait_until_active("probed").await;
        assert_eq!(http::status(plane.admin, "/readyz").await.unwrap(), 200);
        assert_eq!(http::status(plane.admin, "/livez").await.unwrap(), 200);

        plane.drain().await;
        let mut seen = Vec::new();
        // Until nobody listens any more. A probe that the exit has cut off is one as well.
        while let Ok(live) = http::status(plane.admin, "/livez").await {
            seen.push((live, http::status(plane.admin, "/readyz").await.unwrap_or(503)));
            tokio::time::sleep(millis(50)).await;
        }
        let unreachable = plane.since_signal();
        let exit = plane.exit().await;

        assert!(seen.len() > 5, "{seen:?}");
        assert!(seen.iter().all(|answers| *answers == (200, 503)), "{seen:?}");
        assert!(unreachable > millis(1000), "liveness ended before the process: {unreachable:?}, {exit:?}");
        assert_eq!(running.finished().await.code, Some(0));
        assert_exit(exit, 0, millis(2000));
    });
}

#[test]
fn a_probe_s_connection_that_is_kept_open_does_not_hold_the_process() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        let mut kept = Prober::connect(plane.admin).await.unwrap();
        assert_eq!(kept.status("/readyz").await.unwrap(), 200);

        plane.drain().await;
        assert_eq!(kept.status("/readyz").await.unwrap(), 503);
        let exit = plane.exit().await;

        assert_exit(exit, 0, millis(400));
        within(millis(1000), "the end of the probe's connection", kept.closed()).await.unwrap();
    });
}
