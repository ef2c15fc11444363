//! `lastcall serve` alone, and the demo: what somebody sees who has no PostgreSQL.

use process_tests::control_plane::{ControlPlane, command};
use process_tests::psql::psql;
use process_tests::{eventually, run, within};
use tokio_postgres::NoTls;

use super::{ADMIN_SHUTDOWN, millis, told};

#[test]
fn without_a_worker_it_serves_psql_says_what_it_is_and_drains_like_in_front_of_any_other() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "500ms", "--pacing", "none"];
        let mut plane = ControlPlane::start_in_front_of("embedded", &flags).await;
        let statements = [
            "create table t (n int primary key, name text); insert into t values (1, 'one'), (2, null)",
            "begin",
            "delete from t",
            "rollback",
            "select n, name from t order by n",
        ];
        let finished = psql(plane.port, "newcomer", &statements).finished().await;
        assert_eq!((finished.code, finished.out.as_str()), (Some(0), "1|one\n2|\n"), "{finished:?}");
        assert!(plane.text().contains("it is no PostgreSQL"), "{}", plane.text());

        let mut idle = plane.connect("idle").await;
        let rows = idle.query("select name from t where n = $1", &[&"1"]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>(0), "one");
        let busy = plane.connect("busy").await;
        let cancelled = plane.connect("cancelled").await;
        let token = cancelled.cancel_token();
        let endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n";
        let cancel = async {
            let runs = async || (plane.connect("observer").await.value("select 1").await.ok()?).parse::<i32>().ok();
            eventually(millis(5000), "another session", runs).await;
            token.cancel_query(NoTls).await.unwrap();
        };
        let (answer, ()) = futures_util::future::join(cancelled.value(endless), cancel).await;
        assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"));

        let running = busy.value("select pg_sleep(2)");
        let drained = async {
            plane.drain().await;
            assert_eq!(told(&idle.fatal().await), ADMIN_SHUTDOWN);
            plane.since_signal()
        };
        let (answer, idle_for) = futures_util::future::join(running, drained).await;
        assert_eq!(answer.unwrap(), "");
        assert!(idle_for < millis(1900), "the idle session had to wait: {idle_for:?}");
        assert_eq!(plane.exit().await.code, Some(0));
    });
}

#[test]
fn the_demo_shows_both_promises_kept_and_each_of_them_broken_by_a_simple_drain() {
    run(async {
        let mut command = tokio::process::Command::from(command());
        let demo = within(millis(55_000), "the end of the demo", command.arg("demo").kill_on_drop(true).output()).await;
        let demo = demo.unwrap();
        let text = String::from_utf8_lossy(&demo.stdout);
        assert_eq!(demo.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&demo.stderr));
        let rounds: Vec<&str> = text.split("$ lastcall serve").collect();
        let [_, last_call, unbounded, flat] = rounds[..] else { panic!("{text}") };
        assert!(last_call.contains("report: its statement is done, and answered"), "{text}");
        assert!(last_call.contains("idle client: FATAL 57P01"), "{text}");
        assert!(last_call.contains("newcomer: FATAL 57P03"), "{text}");
        assert!(last_call.contains("the process is gone: exit status: 0"), "{text}");
        assert!(unbounded.contains("STILL THERE"), "{text}");
        assert!(flat.contains("its statement is CUT"), "{text}");
    });
}
