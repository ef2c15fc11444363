//! A drain by request: begun, taken back, and asked about.

use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::http::{self, ask};
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::{eventually, run};

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

/// What the admin port answers to a request of an administrator's.
async fn answer(plane: &ControlPlane, request: &str) -> (u16, String) {
    ask(plane.admin, request, "X-Lastcall: drain\r\n").await.unwrap()
}

#[test]
fn a_drain_that_is_taken_back_leaves_a_process_that_serves_as_before() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "200ms", "--pacing", "none", "--transaction-grace", "2s"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut idle = plane.connect("idle").await;
        let paused = plane.connect("paused").await;
        paused.batch_execute("begin").await.unwrap();

        let (status, sentence) = answer(&plane, "POST /drain").await;
        assert_eq!((status, sentence.contains("DELETE /drain")), (202, true), "{sentence}");
        assert_eq!(answer(&plane, "POST /drain").await, (200, "draining already\n".to_owned()));
        assert_eq!(http::status(plane.admin, "/readyz").await.unwrap(), 503);
        assert_eq!(told(&idle.fatal().await), ADMIN_SHUTDOWN);

        assert_eq!(answer(&plane, "DELETE /drain").await, (200, "serving again\n".to_owned()));
        assert_eq!(answer(&plane, "DELETE /drain").await, (200, "there is no drain to take back\n".to_owned()));
        assert_eq!(http::status(plane.admin, "/readyz").await.unwrap(), 200);
        let second = plane.connect("second").await;
        // The clock of a pause that went on from the drain would have ended it by then.
        tokio::time::sleep(millis(2500)).await;
        paused.batch_execute("commit").await.unwrap();
        assert_eq!(second.value("select 'the row'").await.unwrap(), "the row");
        drop((idle, paused, second));

        plane.signal(Signal::TERM);
        assert_exit(plane.exit().await, 0, millis(200));
        let over = plane.log().into_iter().find(|line| line["message"] == "drain over").unwrap();
        assert_eq!(over["cause"], "SIGTERM", "{over}");
    });
}

#[test]
fn a_drain_by_request_ends_the_process_and_says_what_began_it() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "400ms"]).await;
        let mut client = plane.connect("asked").await;
        assert_eq!(answer(&plane, "POST /drain").await.0, 202);
        assert_eq!(told(&client.fatal().await), ADMIN_SHUTDOWN);
        assert_eq!(plane.ends().await, Some(0));
        let over = plane.log().into_iter().find(|line| line["message"] == "drain over").unwrap();
        assert_eq!(over["cause"], "request", "{over}");
    });
}

#[test]
fn a_signal_makes_a_drain_by_request_final_and_does_not_start_it_anew() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "5s", "--pacing", "none"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut client = plane.connect("final").await;
        assert_eq!(answer(&plane, "POST /drain").await.0, 202);
        tokio::time::sleep(millis(3000)).await;
        plane.signal(Signal::TERM);
        let taken = async || plane.log().iter().any(|line| line["signal"] == "SIGTERM").then_some(());
        eventually(millis(10_000), "the signal to be taken", taken).await;
        let refused = (409, "SIGTERM has come: the drain can't be taken back any more\n".to_owned());
        assert_eq!(answer(&plane, "DELETE /drain").await, refused);
        assert_eq!(told(&client.fatal().await), ADMIN_SHUTDOWN);
        // Three seconds of the grace were over when the signal came.
        assert_exit(plane.exit().await, 0, millis(2000));
        let over = plane.log().into_iter().find(|line| line["message"] == "drain over").unwrap();
        assert_eq!(over["cause"], "request", "{over}");
    });
}

#[test]
fn whoever_asks_why_the_process_is_still_there_is_told_who_holds_it_and_until_when() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "200ms"]).await;
        let serving = answer(&plane, "GET /drain").await;
        assert_eq!(serving, (200, "no drain; connections: 0\n".to_owned()));
        let running = psql(plane.port, "etl", &["select 'the row' from pg_sleep(3)"]);
        postgres().wait_until_active("etl").await;
        let paused = plane.connect("paused").await;
        paused.batch_execute("begin").await.unwrap();
        let backend = paused.value("select pg_backend_pid()::text").await.unwrap();
        let (_, text) = answer(&plane, "GET /drain").await;
        assert!(text.starts_with("no drain; connections: 2\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains(" from 127.0.0.1:")).count(), 2, "{text}");

        plane.drain().await;
        let (_, text) = answer(&plane, "GET /drain").await;
        assert!(text.contains("begun by SIGTERM; a signal has come"), "{text}");
        let line = |who: &str| text.lines().find(|line| line.starts_with(who)).unwrap_or_default();
        assert!(line("\"etl\" (1) ").ends_with(": no clock, its worker has the turn"), "{text}");
        assert!(line("\"paused\" (2) ").contains(", idle_in_transaction for "), "{text}");
        assert!(line("\"paused\" (2) ").contains(&format!(" worker {backend}, ")), "{text}");
        assert!(line("\"paused\" (2) ").contains(": transaction_grace ends it in 4m "), "{text}");
        let (_, json) = ask(plane.admin, "GET /drain", "Accept: application/json\r\n").await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["connections"], &json["signalled"]), (&2.into(), &true.into()), "{json}");
        let paused_now = &json["clients"][1];
        assert_eq!(paused_now["clock"], "transaction_grace", "{json}");
        assert_eq!(paused_now["worker_pid"].to_string(), backend, "{json}");
        paused.batch_execute("commit").await.unwrap();
        assert_eq!(running.finished().await.out, "the row\n");
        assert_eq!(plane.exit().await.code, Some(0));
    });
}

#[test]
fn an_empty_process_without_a_lame_duck_answers_before_it_is_gone() {
    run(async {
        for _ in 0..5 {
            let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "0"]).await;
            assert_eq!(answer(&plane, "POST /drain").await.0, 202);
            assert_eq!(plane.ends().await, Some(0));
        }
    });
}

#[test]
fn a_page_in_a_browser_can_not_drain_the_process() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "0"]).await;
        let form = "Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://evil.example\r\n";
        let (status, sentence) = ask(plane.admin, "POST /drain", form).await.unwrap();
        assert_eq!((status, sentence.contains("X-Lastcall: drain")), (403, true), "{sentence}");
        assert_eq!(http::status(plane.admin, "/readyz").await.unwrap(), 200);
        plane.signal(Signal::TERM);
        assert_eq!(plane.exit().await.code, Some(0));
    });
}

#[test]
fn under_a_policy_that_closes_the_listener_nothing_is_taken_back() {
    run(async {
        let mut plane = ControlPlane::start(&["--drain-policy", "unbounded"]).await;
        let _holder = plane.connect("holder").await;
        assert_eq!(answer(&plane, "POST /drain").await.0, 202);
        let (status, sentence) = answer(&plane, "DELETE /drain").await;
        assert_eq!((status, sentence.contains("unbounded")), (409, true), "{sentence}");
        plane.signal(Signal::QUIT);
        assert_eq!(plane.exit().await.code, Some(131));
    });
}
