//! A transaction is waited for, as long as its client goes on with it.

use std::time::Duration;

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::run;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

#[test]
fn a_transaction_opened_during_the_drain_commits_though_it_pauses_for_longer_than_the_grace() {
    run(async {
        let grace = millis(2000);
        let flags = ["--lame-duck", "200ms", "--idle-grace", "2s", "--pacing", "none"];
        let mut plane = ControlPlane::start(&flags).await;
        let direct = postgres().connect("direct").await;
        direct.batch_execute("create table drained (id int primary key)").await.unwrap();
        let mut client = plane.connect("transaction").await;

        plane.drain().await;
        plane.until(millis(400)).await;
        client.batch_execute("begin").await.unwrap();
        client.batch_execute("insert into drained values (1)").await.unwrap();
        tokio::time::sleep(grace + millis(500)).await;
        client.batch_execute("insert into drained values (2)").await.unwrap();
        client.batch_execute("commit").await.unwrap();
        let committed = plane.since_signal();
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        let rows = direct.query("select id from drained order by id", &[]).await.unwrap();
        let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, [1, 2]);
        assert!(committed > grace, "{committed:?}");
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(exit, 0, committed);
    });
}

#[test]
fn a_transaction_that_is_left_open_is_ended_by_its_own_clock_and_nothing_is_committed() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "500ms", "--transaction-grace", "1500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let direct = postgres().connect("direct").await;
        direct.batch_execute("create table left_open (id int)").await.unwrap();
        let mut client = plane.connect("left-open").await;
        client.batch_execute("begin; insert into left_open values (1)").await.unwrap();

        plane.drain().await;
        let fatal = client.fatal().await;
        let after = plane.since_signal();
        let exit = plane.exit().await;

        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert!(fatal.detail().is_some_and(|detail| detail.contains("transaction_grace")), "{fatal:?}");
        assert!(after >= Duration::from_millis(1500), "{after:?}");
        assert_exit(exit, 0, millis(1500));
        let count = direct.query_one("select count(*) from left_open", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0);
    });
}
