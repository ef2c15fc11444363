//! An administrator ends one session, and no other.

use std::time::Instant;

use process_tests::control_plane::{ControlPlane, command};
use process_tests::http::{self, ask as request};
use process_tests::postgres::postgres;
use process_tests::raw::{Message, Raw, query};
use process_tests::{SLACK, eventually, run, within};
use serde_json::Value;

use super::control::{ask, said};
use super::{ADMIN_SHUTDOWN, SOON, assert_exit, millis};

/// What its client is told.
const DETAIL: &str = "An administrator ended this session.";

/// What `GET /sessions` says.
async fn sessions(plane: &ControlPlane) -> Value {
    let (status, json) = request(plane.admin, "GET /sessions", "").await.unwrap();
    assert_eq!(status, 200, "{json}");
    serde_json::from_str(&json).unwrap()
}

/// The session of this application, as it is listed.
async fn session_of(plane: &ControlPlane, application: &str) -> Value {
    let all = sessions(plane).await;
    let of_it = all["sessions"].as_array().unwrap().iter().find(|session| session["application"] == application);
    of_it.unwrap_or_else(|| panic!("{application} is not listed: {all}")).clone()
}

/// What `lastcall end` says of the session of this application, which must be one that it ends.
async fn end(plane: &ControlPlane, application: &str) {
    let session = session_of(plane, application).await["session"].to_string();
    let output = ask(plane, &["end", &session]).await;
    assert_eq!(output.status.code(), Some(0), "{:?}", said(&output));
    assert_eq!(said(&output).1, format!("lastcall: session {session} is being ended\n"));
}

/// The end of a client's connection: the tags of the messages before its FATAL, which must be an administrator's.
async fn told(client: &mut Raw) -> String {
    let rest = within(SOON + millis(3000), "the end of a session", client.messages.rest()).await.unwrap();
    let (fatal, before) = rest.split_last().expect("it is told something");
    let fatal = fatal.error().expect("the last word is an error");
    assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
    assert_eq!((fatal[&'S'].as_str(), fatal[&'D'].as_str()), ("FATAL", DETAIL));
    if let Some(cancelled) = before.iter().find_map(Message::error) {
        assert_eq!(cancelled[&'C'], "57014", "{cancelled:?}");
    }
    before.iter().map(|message| char::from(message.tag)).collect()
}

/// Why the session of this application ended, once its record is written.
async fn reason(plane: &ControlPlane, application: &str) -> Value {
    let record = async || plane.records().into_iter().find(|record| record["application"] == application);
    eventually(SOON, "the end record", record).await["reason"].clone()
}

#[test]
fn a_statement_that_runs_is_cancelled_and_its_client_told_who_ended_its_session_and_nobody_else_is_touched() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let other = plane.connect("other").await;
        let mut running = Raw::session(plane.port, "running").await;
        running.send(&query("select pg_sleep(600)")).await;
        postgres().wait_until_active("running").await;

        let listed = session_of(&plane, "running").await;
        assert_eq!(listed["worker"], format!("127.0.0.1:{}", postgres().port), "{listed}");
        assert_eq!(listed["worker_pid"], running.process(), "{listed}");
        assert_eq!((&listed["user"], &listed["activity"]), (&"postgres".into(), &"executing".into()), "{listed}");
        end(&plane, "running").await;
        assert_eq!(told(&mut running).await, "TEZ");
        postgres().wait_until_gone(SOON, "running").await;
        assert_eq!(reason(&plane, "running").await, "administrator");

        assert_eq!(other.value("select 'the row'").await.unwrap(), "the row");
        assert_eq!(http::status(plane.admin, "/readyz").await.unwrap(), 200);
    });
}

#[test]
fn who_is_idle_or_pauses_in_a_transaction_is_ended_at_once() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut idle = Raw::session(plane.port, "idle").await;
        let mut paused = Raw::session(plane.port, "paused").await;
        paused.send(&query("begin")).await;
        while paused.messages.next().await.unwrap().unwrap().tag != b'Z' {}
        for (client, application) in [(&mut idle, "idle"), (&mut paused, "paused")] {
            end(&plane, application).await;
            assert_eq!(told(client).await, "");
            assert_eq!(reason(&plane, application).await, "administrator");
        }
        let (_, page) = request(plane.admin, "GET /metrics", "").await.unwrap();
        assert!(page.contains("lastcall_connections_ended_total{reason=\"administrator\"} 2\n"), "{page}");
    });
}

#[test]
fn who_has_said_nothing_yet_is_just_closed() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut silent = Raw::connect(plane.port).await;
        let here = async || (sessions(&plane).await["connections"] == 1).then_some(());
        eventually(SOON, "the connection to be listed", here).await;
        let listed = &sessions(&plane).await["sessions"][0];
        assert_eq!((&listed["activity"], &listed["user"]), (&"handshake".into(), &Value::Null), "{listed}");
        let ended = ask(&plane, &["end", &listed["session"].to_string()]).await;
        assert_eq!(ended.status.code(), Some(0), "{:?}", said(&ended));
        assert_eq!(within(SOON, "the end", silent.messages.rest()).await.unwrap(), []);
    });
}

#[test]
fn a_session_that_is_not_here_is_an_answer_of_its_own() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let unknown = ask(&plane, &["end", "4711"]).await;
        assert_eq!(unknown.status.code(), Some(5));
        let sentence = "there is no session 4711; `lastcall status` lists those that are here";
        assert_eq!(said(&unknown), (String::new(), format!("lastcall: {sentence}\n")));
        let unknown = ask(&plane, &["end", "4711", "--format", "json"]).await;
        assert_eq!(unknown.status.code(), Some(5));
        let json: Value = serde_json::from_str(&said(&unknown).0).unwrap();
        assert_eq!(json, serde_json::json!({ "session": 4711, "ends": false, "told": sentence }));

        let (status, _) = request(plane.admin, "DELETE /sessions/one", "X-Lastcall: drain\r\n").await.unwrap();
        assert_eq!(status, 404);

        let client = plane.connect("listed").await;
        let (table, _) = said(&ask(&plane, &["status"]).await);
        let session = session_of(&plane, "listed").await["session"].to_string();
        let mut lines = table.lines().skip(1).map(|line| line.split_whitespace().next());
        assert_eq!((lines.next(), lines.next()), (Some(Some("SESSION")), Some(Some(session.as_str()))), "{table}");
        let ended = ask(&plane, &["end", &session, "--format", "json"]).await;
        let json: Value = serde_json::from_str(&said(&ended).0).unwrap();
        assert_eq!((ended.status.code(), &json["ends"]), (Some(0), &Value::Bool(true)), "{json}");
        drop(client);

        let admin = plane.admin;
        drop(plane);
        let mut command = command();
        command.args(["end", "1", "--admin", &format!("127.0.0.1:{admin}")]);
        let nobody = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(nobody.status.code(), Some(1), "{:?}", said(&nobody));
    });
}

#[test]
fn a_page_in_a_browser_and_whoever_does_not_know_the_token_end_nothing() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let file = file.to_string_lossy();
        let plane = ControlPlane::start(&["--admin-token-file", &file]).await;
        let mut client = Raw::session(plane.port, "guarded").await;
        let session = session_of(&plane, "guarded").await["session"].to_string();
        let delete = format!("DELETE /sessions/{session}");
        let (status, sentence) = request(plane.admin, &delete, "").await.unwrap();
        assert_eq!(status, 403);
        assert!(sentence.contains(&format!("-H 'X-Lastcall: drain' localhost:PORT/sessions/{session}")), "{sentence}");
        assert_eq!(request(plane.admin, &delete, "X-Lastcall: drain\r\n").await.unwrap().0, 401);
        let refused = ask(&plane, &["end", &session]).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).1.contains("this takes the token"), "{:?}", said(&refused));
        assert_eq!(sessions(&plane).await["connections"], 1, "it is still here");

        let ended = ask(&plane, &["end", &session, "--token-file", &file]).await;
        assert_eq!(ended.status.code(), Some(0), "{:?}", said(&ended));
        assert_eq!(told(&mut client).await, "");
    });
}

#[test]
fn the_last_session_of_a_drain_is_ended_and_the_process_has_drained() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "300ms"]).await;
        let mut holder = Raw::session(plane.port, "holder").await;
        holder.send(&query("select pg_sleep(600)")).await;
        postgres().wait_until_active("holder").await;
        plane.drain().await;
        plane.until(millis(600)).await;
        let began = Instant::now();
        end(&plane, "holder").await;
        assert_eq!(told(&mut holder).await, "TEZ");
        drop(holder);
        let exit = plane.exit().await;
        assert_exit(exit, 0, millis(600) + began.elapsed());
        assert!(began.elapsed() < SLACK, "nothing else held it: {:?}", began.elapsed());
        assert_eq!(reason(&plane, "holder").await, "administrator");
        let over = plane.log().into_iter().find(|line| line["message"] == "drain over").unwrap();
        assert_eq!(over["ended_by"], "administrator 1", "{over}");
    });
}
