//! Clients that do nothing don't hold the process.

use futures_util::future::join_all;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::{BY_MD5, postgres};
use process_tests::psql::psql_script;
use process_tests::raw::{self, Raw};
use process_tests::{SLACK, run, within};

use tokio::io::AsyncWriteExt;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

#[test]
fn twenty_idle_clients_and_a_watching_psql_are_let_go_within_the_grace() {
    run(async {
        let grace = millis(2000);
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "2s"]).await;
        let mut clients = Vec::new();
        for number in 0..20 {
            let client = plane.connect(&format!("idle-{number}")).await;
            client.simple_query("select 1").await.unwrap();
            clients.push(client);
        }
        let watching = psql_script(plane.port, "watching", "select 'tick' \\watch 0.2\n").await;
        postgres_has_seen("watching").await;

        plane.drain().await;
        let plane_ref = &plane;
        let ends = join_all(clients.iter_mut().map(|client| async move {
            let fatal = client.fatal().await;
            (told(&fatal).0.to_owned(), told(&fatal).1.to_owned(), plane_ref.since_signal())
        }))
        .await;
        let watched = watching.finished().await;
        let exit = plane.exit().await;

        for (code, message, after) in &ends {
            assert_eq!((code.as_str(), message.as_str()), ADMIN_SHUTDOWN);
            assert!(*after >= grace / 2, "let go before the second half of the grace: {after:?}");
            assert!(*after < grace + SLACK, "let go after the grace: {after:?}");
        }
        let (first, last) = (ends.iter().map(|end| end.2).min().unwrap(), ends.iter().map(|end| end.2).max().unwrap());
        assert!(last - first > grace / 4, "not spread over the second half of the grace: {first:?} to {last:?}");
        assert!(watched.err.contains(&format!("FATAL:  {}", ADMIN_SHUTDOWN.1)), "{watched:?}");
        assert!(watched.out.contains("tick"), "{watched:?}");
        assert_exit(exit, 0, grace);
    });
}

#[test]
fn connections_that_never_become_sessions_do_not_hold_the_process() {
    run(async {
        let mut plane =
            ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "1s", "--close-linger", "500ms"]).await;
        let mut silent = Raw::connect(plane.port).await;
        let mut without_password = Raw::connect(plane.port).await;
        without_password.start_up(BY_MD5.0, "without-password").await;
        assert_eq!(without_password.messages.next().await.unwrap().expect("AuthenticationMD5Password").tag, b'R');

        plane.drain().await;
        let exit = plane.exit().await;

        assert_eq!(silent.messages.rest().await.unwrap(), [], "before its startup packet there is nobody to tell");
        let told = without_password.messages.rest().await.unwrap();
        assert!(told.len() <= 1 && told.iter().all(|message| message.error().is_some()), "{told:?}");
        assert_exit(exit, 0, millis(1000 + 500));
    });
}

#[test]
fn half_a_message_is_idle_and_its_client_is_told_that_it_was_not_executed() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "2s"]).await;
        let request = raw::query("create table half_a_message ()");
        let mut never = Raw::session(plane.port, "never the rest").await;
        never.send(&request[..12]).await;
        // The other half comes while the process drains, before its connection is due.
        let mut late = Raw::session(plane.port, "late").await;
        late.send(&raw::query("select 1")[..12]).await;

        plane.drain().await;
        late.send(&raw::query("select 1")[12..]).await;
        let answer: Vec<_> = late.messages.rest().await.unwrap().into_iter().map(|message| message.tag).collect();
        let rest = never.messages.rest().await.unwrap();
        drop((never, late));
        let exit = plane.exit().await;

        assert_eq!(answer, *b"TDCZE");
        let [fatal] = &rest[..] else { panic!("{rest:?}") };
        let fatal = fatal.error().unwrap();
        assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
        assert_eq!(fatal[&'D'], "The last request was not executed.");
        assert_exit(exit, 0, millis(2000));
    });
}

#[test]
fn with_nobody_there_the_process_exits_when_the_lame_duck_is_over() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "500ms", "--idle-grace", "30s"]).await;
        plane.drain().await;
        let exit = plane.exit().await;
        assert!(exit.after >= millis(500), "{exit:?}");
        assert_exit(exit, 0, millis(500));
    });
}

#[test]
fn a_client_that_never_stops_sending_reads_its_fatal_and_the_end_of_the_stream() {
    run(async {
        let grace = millis(1000);
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "1s"]).await;
        let Raw { mut messages, mut output, .. } = Raw::session_with_small_window(plane.port, "hot").await;
        // Long ones: the sockets' buffers are full after a hundred, and what they hold has been forwarded and is
        // answered.
        let request = raw::query(&format!("select repeat('x', 8 * 1024) /* {} */", "x".repeat(64 * 1024)));
        // Sends until its reader has seen the end. An error here is not what is asked: a client sees what it reads.
        let sender = tokio::spawn(async move { while output.write_all(&request).await.is_ok() {} });

        plane.drain().await;
        let mut answers = 0;
        let (fatal, after) = within(millis(15_000), "the last message of a hot client", async {
            let mut last = None;
            while let Some(message) = messages.next().await.expect("a reset has destroyed the FATAL") {
                assert!(last.is_none(), "{message:?} after the FATAL");
                answers += usize::from(message.tag == b'Z');
                // What the client has not taken yet when the FATAL is sent is what a reset would destroy.
                if answers % 20 == 1 {
                    tokio::time::sleep(millis(1)).await;
                }
                last = message.error();
            }
            (last.expect("the last message is an ErrorResponse"), plane.since_signal())
        })
        .await;
        sender.abort();
        let _ = sender.await;
        drop(messages);
        let exit = plane.exit().await;

        assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
        assert_eq!((fatal[&'S'].as_str(), fatal[&'V'].as_str()), ("FATAL", "FATAL"));
        assert_eq!(fatal[&'D'], "The last request was not executed.");
        assert!(answers > 0, "nothing was answered before");
        assert!(after < grace + SLACK, "{after:?}");
        assert_exit(exit, 0, grace);
    });
}

async fn postgres_has_seen(application: &str) {
    let observer = postgres().connect("observer").await;
    process_tests::eventually(millis(10_000), "a session at the worker", async || {
        let rows = observer
            .query(
                "select 1 from pg_stat_activity where application_name = $1 and query like '%tick%'",
                &[&application],
            )
            .await
            .unwrap();
        (!rows.is_empty()).then_some(())
    })
    .await;
}
