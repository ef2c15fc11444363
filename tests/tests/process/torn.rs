//! A session that ends inside a message: what the client did not say, the worker must not do.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::{eventually, run, within};

use super::{ADMIN_SHUTDOWN, assert_exit, millis};

#[test]
fn a_statement_whose_last_bytes_never_came_is_not_executed() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table torn (n int)").await.unwrap();
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        let mut torn = Raw::session(plane.port, "torn").await;
        // Two bytes are missing. Any two complete it, such as the first two of a goodbye.
        let statement = raw::query("insert into torn values (1) --x");
        torn.send(&statement[..statement.len() - 2]).await;

        plane.drain().await;
        let rest = within(millis(10_000), "a FATAL", torn.messages.rest()).await.unwrap();
        drop(torn);
        assert_exit(plane.exit().await, 0, millis(400));

        let fatal = rest[0].error().unwrap();
        assert_eq!(
            (fatal[&'C'].as_str(), fatal[&'D'].as_str()),
            (ADMIN_SHUTDOWN.0, "The last request was not executed.")
        );
        eventually(millis(5_000), "the worker to be free", async || {
            let left = "select 1 from pg_stat_activity where application_name = 'torn'";
            setup.query(left, &[]).await.unwrap().is_empty().then_some(())
        })
        .await;
        let rows: i64 = setup.query_one("select count(*) from torn", &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "the worker has executed what the client was told is not executed");
    });
}
