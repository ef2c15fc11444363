//! New sessions during the drain.

use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::run;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

#[test]
fn after_the_lame_duck_a_new_session_is_refused_and_what_runs_goes_on() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        let running = psql(plane.port, "refusals", &["select 'the row' from pg_sleep(3)"]);
        postgres().wait_until_active("refusals").await;

        plane.drain().await;
        plane.until(millis(400)).await;
        let refused = psql(plane.port, "too-late", &["select 1"]).finished().await;
        let error = Client::try_connect(plane.port, "too-late").await.unwrap_err();
        let finished = running.finished().await;
        let exit = plane.exit().await;

        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.err.contains("FATAL:  the database system is shutting down"), "{refused:?}");
        let error = error.as_db_error().expect("an answer, not a closed connection");
        assert_eq!(told(error), ("57P03", "the database system is shutting down"));
        assert_eq!(finished.out, "the row\n", "{finished:?}");
        assert_exit(exit, 0, millis(3000));
    });
}

#[test]
fn a_session_that_connects_during_the_lame_duck_is_served() {
    run(async {
        let flags = ["--lame-duck", "2s", "--idle-grace", "2s"];
        let mut plane = ControlPlane::start(&flags).await;

        plane.drain().await;
        let mut client = plane.connect("lame-duck").await;
        let row = client.value("select 'the row'").await.unwrap();
        let served = plane.since_signal();
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        assert!(served < millis(2000), "this machine is too slow to tell: {served:?}");
        assert_eq!(row, "the row");
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(exit, 0, millis(2000));
    });
}
