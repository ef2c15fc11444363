//! What is running is never cut.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::run;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

#[test]
fn a_statement_six_times_as_long_as_the_grace_returns_its_row_and_the_exit_follows_at_once() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "1s"]).await;
        let running = psql(plane.port, "long", &["select 'the row' from pg_sleep(6)"]);
        postgres().wait_until_active("long").await;

        plane.drain().await;
        let finished = running.finished().await;
        let answered = plane.since_signal();
        let exit = plane.exit().await;

        assert_eq!((finished.out.as_str(), finished.code), ("the row\n", Some(0)), "{finished:?}");
        assert!(answered > millis(5000), "it did not run to its end: {answered:?}");
        assert_eq!(exit.code, Some(0));
        assert!(exit.after < answered + millis(2000), "answered after {answered:?}, {exit:?}");
    });
}

#[test]
fn a_statement_that_begins_after_the_signal_and_ends_after_the_grace_is_answered() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "2s", "--pacing", "none"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut client = plane.connect("late-statement").await;

        plane.drain().await;
        plane.until(millis(400)).await;
        let row = client.value("select 'the row' from pg_sleep(3)").await.unwrap();
        let answered = plane.since_signal();
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        assert_eq!(row, "the row");
        assert!(answered >= millis(3400), "{answered:?}");
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(exit, 0, answered);
    });
}

#[test]
fn every_request_of_a_pipeline_that_was_forwarded_is_answered() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "1s", "--pacing", "none"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut client = plane.connect("pipeline").await;
        let statement = client.prepare("select $1::int4 from pg_sleep(0.5)").await.unwrap();

        plane.signal(process_tests::control_plane::Signal::TERM);
        // All are sent before the first is answered, and none later than the grace.
        let answers = futures_util::future::join_all((0..4).map(|number| {
            let (client, statement) = (&client, &statement);
            async move { client.query_one(statement, &[&number]).await.map(|row| row.get::<_, i32>(0)) }
        }))
        .await;
        let answered = plane.since_signal();
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        let numbers: Vec<i32> = answers.into_iter().map(|answer| answer.expect("forwarded, so answered")).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(exit, 0, answered);
    });
}
