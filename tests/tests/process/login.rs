//! Logins are between the client and the worker.

use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::{BY_MD5, BY_SCRAM};
use process_tests::psql::{Finished, Program, psql_as};
use process_tests::raw::{self, Raw};
use process_tests::{run, within};

use super::millis;

async fn log_in_with_psql(port: u16, user: &str, password: &str) -> Finished {
    let mut command = psql_as(port, "login", user, password);
    command.args(["-c", "select current_user"]);
    Program::start(command).finished().await
}

async fn log_in_with_driver(port: u16, user: &str, password: &str) -> Result<String, tokio_postgres::Error> {
    let client = Client::try_connect_with(port, "login", |config| {
        config.user(user).password(password);
    });
    Ok(client.await?.query_one("select current_user::text", &[]).await?.get(0))
}

#[test]
fn md5_and_scram_logins_pass_through() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        for (user, password) in [BY_MD5, BY_SCRAM] {
            let finished = log_in_with_psql(plane.port, user, password).await;
            assert_eq!(finished.out, format!("{user}\n"), "{finished:?}");
            assert_eq!(log_in_with_driver(plane.port, user, password).await.unwrap(), user);
        }
    });
}

#[test]
fn a_wrong_password_is_told_once() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        for (user, _) in [BY_MD5, BY_SCRAM] {
            let finished = log_in_with_psql(plane.port, user, "wrong").await;
            assert_eq!(finished.err.matches("FATAL").count(), 1, "{finished:?}");
            assert!(finished.err.contains("password authentication failed"), "{finished:?}");
            let error = log_in_with_driver(plane.port, user, "wrong").await.unwrap_err();
            assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
        }
    });
}

#[test]
fn after_the_worker_s_own_fatal_comes_the_end_of_the_stream_and_nothing_else() {
    run(async {
        let plane = ControlPlane::start(&[]).await;

        let mut wrong = Raw::connect(plane.port).await;
        wrong.start_up(BY_MD5.0, "wrong").await;
        assert_eq!(wrong.messages.next().await.unwrap().expect("AuthenticationMD5Password").tag, b'R');
        wrong.send(&raw::password("md5wrong")).await;
        assert_eq!(errors_to_the_end(&mut wrong).await, ["28P01"]);

        let mut terminated = Raw::session(plane.port, "terminated").await;
        terminated.send(&raw::query("select pg_terminate_backend(pg_backend_pid())")).await;
        assert_eq!(errors_to_the_end(&mut terminated).await, ["57P01"]);
    });
}

/// The SQLSTATEs of the errors up to the end of the stream, which follows the last of them.
async fn errors_to_the_end(client: &mut Raw) -> Vec<String> {
    let rest = within(millis(10_000), "the end of the stream", client.messages.rest()).await.unwrap();
    assert!(rest.last().is_some_and(|message| message.error().is_some()), "{rest:?}");
    rest.iter().filter_map(|message| message.error()?.remove(&'C')).collect()
}
