//! Clients whose process was killed: their kernel sends a FIN, and nothing says whether somebody still reads.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::raw::{self, Message, Raw};
use process_tests::{run, within};
use tokio::io::AsyncWriteExt;

use super::{SOON, assert_exit, millis};

const SIX_HOURS: &str = "select pg_sleep(21600)";

#[test]
fn the_statement_of_six_hours_of_a_psql_that_was_killed_holds_the_process_for_the_stall_grace() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "400ms", "--stall-grace", "1500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let before = psql(plane.port, "killed-before", &[SIX_HOURS]);
        let after = psql(plane.port, "killed-after", &[SIX_HOURS]);
        postgres().wait_until_active("killed-before").await;
        postgres().wait_until_active("killed-after").await;

        before.kill().await;
        plane.drain().await;
        plane.until(millis(1000)).await;
        let killed = plane.since_signal();
        after.kill().await;
        let exit = plane.exit().await;

        assert!(exit.after > killed + millis(1400), "nobody could know yet: {exit:?}");
        assert_exit(exit, 0, killed + millis(1500));
        assert_eq!(plane.records().len(), 2);
        postgres().wait_until_gone(SOON, "killed-").await;
    });
}

#[test]
fn the_statement_of_a_psql_that_was_killed_runs_on_as_without_lastcall_and_its_worker_is_gone_with_it() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table killed (text text)").await.unwrap();
        let mut plane = ControlPlane::start(&["--stall-grace", "100ms"]).await;
        let mut running = Vec::new();
        for (application, port) in [("direct", postgres().port), ("through", plane.port)] {
            let application = format!("runs-on-{application}");
            let insert = format!("insert into killed select '{application}' from pg_sleep(2)");
            running.push(psql(port, &application, &[&insert, SIX_HOURS]));
            postgres().wait_until_active(&application).await;
        }
        for client in running {
            client.kill().await;
        }
        postgres().wait_until_gone(millis(2000) + SOON, "runs-on-").await;
        let rows: i64 = setup.query_one("select count(*) from killed", &[]).await.unwrap().get(0);
        assert_eq!(rows, 2, "one direct, one through lastcall");
        assert!(plane.is_running());
    });
}

#[test]
fn the_answer_of_a_client_that_has_ended_its_side_is_delivered() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "400ms"]).await;
        let mut answers = Vec::new();
        for port in [postgres().port, plane.port] {
            let mut client = Raw::session(port, "half-closed").await;
            client.send(&raw::query("select 'the row' from pg_sleep(1)")).await;
            client.output.shutdown().await.unwrap();
            answers.push(client.messages.rest().await.unwrap());
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(tags(&answers[1]), "TDCZ");
        postgres().wait_until_gone(SOON, "half-closed").await;

        let mut client = Raw::session(plane.port, "half-closed").await;
        client.send(&raw::query("select 'the row' from pg_sleep(2)")).await;
        client.output.shutdown().await.unwrap();
        postgres().wait_until_active("half-closed").await;
        plane.drain().await;
        let rest = within(millis(10_000), "an answer", client.messages.rest()).await.unwrap();
        drop(client);
        assert_eq!(tags(&rest)[..4], *"TDCZ");
        assert_exit(plane.exit().await, 0, millis(2000));
        postgres().wait_until_gone(SOON, "half-closed").await;
    });
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}
