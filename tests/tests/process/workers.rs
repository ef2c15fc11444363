//! Several workers: the sessions are spread, whoever takes none is passed over, and a cancel request finds the right one.
//!
//! The workers are control planes themselves, in front of the tests' PostgreSQL: they can be drained.

use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::{run, within};
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

use super::millis;

async fn in_front_of(ports: &[u16], flags: &[&str]) -> ControlPlane {
    let workers: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let (first, others) = workers.split_first().unwrap();
    let others = others.iter().flat_map(|worker| ["--worker", worker]);
    ControlPlane::start_in_front_of(first, &others.chain(flags.iter().copied()).collect::<Vec<_>>()).await
}

/// How many sessions a worker has had that have ended.
async fn sessions(worker: &ControlPlane, all: usize) -> usize {
    postgres().wait_until_gone(millis(10_000), "spread").await;
    let ended = async || Some(worker.records().len()).filter(|ended| *ended >= all);
    process_tests::eventually(millis(5000), "their records", ended).await
}

#[test]
fn sessions_are_spread_and_a_worker_that_drains_gets_no_new_ones_while_its_own_go_on() {
    run(async {
        let flags = ["--lame-duck", "0s", "--idle-grace", "20s", "--pacing", "none"];
        let (mut one, other) = (ControlPlane::start(&flags).await, ControlPlane::start(&[]).await);
        let plane = in_front_of(&[one.port, other.port], &[]).await;
        let mut clients = Vec::new();
        for number in 0..6 {
            clients.push(plane.connect(&format!("spread {number}")).await);
        }
        drop(clients);
        assert_eq!((sessions(&one, 3).await, sessions(&other, 3).await), (3, 3));

        let stays = plane.connect("stays").await;
        one.drain().await;
        for number in 0..6 {
            let client = plane.connect(&format!("spread {number}")).await;
            assert_eq!(client.value("select 41 + 1").await.unwrap(), "42");
        }
        assert_eq!((sessions(&one, 3).await, sessions(&other, 9).await), (3, 9));
        assert_eq!(stays.value("select 41 + 1").await.unwrap(), "42", "it is at the one that drains");
    });
}

#[test]
fn a_cancel_request_goes_to_the_worker_that_has_the_session() {
    run(async {
        let (one, other) = (ControlPlane::start(&[]).await, ControlPlane::start(&[]).await);
        let plane = in_front_of(&[one.port, other.port], &[]).await;
        let clients = [plane.connect("here").await, plane.connect("there").await];
        for (client, name) in clients.iter().zip(["here", "there"]) {
            let cancel = async {
                postgres().wait_until_active(name).await;
                client.cancel_token().cancel_query(NoTls).await.unwrap();
            };
            let (answer, ()) = futures_util::future::join(client.value("select pg_sleep(600)"), cancel).await;
            assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"), "{name}");
        }
        // Neither asked the other for a session that is not there.
        for worker in [one, other] {
            assert!(!worker.text().contains("no session here"), "{}", worker.text());
        }
    });
}

#[test]
fn a_worker_that_refuses_or_says_nothing_costs_its_clients_a_moment() {
    run(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let plane = in_front_of(&[1, port, postgres().port], &[]).await;
        for _ in 0..3 {
            // The attempt itself would take 15 s.
            let client = within(millis(5000), "a session", plane.connect("patient")).await;
            assert_eq!(client.value("select 41 + 1").await.unwrap(), "42");
        }
    });
}

#[test]
fn where_nobody_takes_a_session_the_client_is_told_who_was_asked() {
    run(async {
        let plane = in_front_of(&[1, 2], &["--worker-queue-timeout", "300ms"]).await;
        let error = Client::try_connect(plane.port, "nobody").await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "08006");
        assert!(error.detail().unwrap().contains("127.0.0.1:1, 127.0.0.1:2"), "{error:?}");
    });
}
