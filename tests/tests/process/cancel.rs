//! Whoever holds the process must be able to let go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::psql::psql;
use process_tests::{SLACK, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;

use super::{ADMIN_SHUTDOWN, millis, told};

/// Nobody waits for it: it would hold the process for longer than any test may take.
const ENDLESS: &str = "select pg_sleep(600)";

#[test]
fn a_driver_s_cancel_request_stops_its_statement_during_the_drain_and_the_process_exits() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "500ms"]).await;
        let mut client = plane.connect("cancelled").await;
        let token = client.cancel_token();
        let running = async { client.value(ENDLESS).await };
        let cancel = async {
            postgres().wait_until_active("cancelled").await;
            plane.drain().await;
            plane.until(millis(1000)).await;
            token.cancel_query(NoTls).await.unwrap();
            plane.since_signal()
        };
        let (answer, cancelled) = futures_util::future::join(running, cancel).await;
        let fatal = client.fatal().await;
        let exit = plane.exit().await;

        assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"));
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_eq!(exit.code, Some(0));
        assert!(exit.after < cancelled + SLACK, "cancelled after {cancelled:?}, {exit:?}");
    });
}

#[test]
fn ctrl_c_in_psql_stops_its_statement_during_the_drain_and_the_process_exits() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "500ms"]).await;
        let running = psql(plane.port, "interrupted", &[ENDLESS]);
        postgres().wait_until_active("interrupted").await;

        plane.drain().await;
        plane.until(millis(1000)).await;
        running.interrupt();
        let finished = running.finished().await;
        let cancelled = plane.since_signal();
        let exit = plane.exit().await;

        assert!(finished.err.contains("ERROR:  canceling statement due to user request"), "{finished:?}");
        assert_eq!(exit.code, Some(0));
        assert!(exit.after < cancelled + SLACK, "cancelled after {cancelled:?}, {exit:?}");
    });
}

#[test]
fn a_cancel_request_that_any_of_three_replicas_is_sent_stops_a_statement_of_a_fourth_that_drains() {
    run(async {
        let replicas = [ControlPlane::start(&[]).await, ControlPlane::start(&[]).await, ControlPlane::start(&[]).await];
        let mut drains = ControlPlane::start(&["--lame-duck", "0", "--idle-grace", "40s"]).await;
        let client = drains.connect("at-the-fourth").await;
        drains.drain().await;
        for replica in &replicas {
            let cancel = async {
                postgres().wait_until_active("at-the-fourth").await;
                let stream = TcpStream::connect(("127.0.0.1", replica.port)).await.unwrap();
                client.cancel_token().cancel_query_raw(stream, NoTls).await.unwrap();
            };
            let (answer, ()) = futures_util::future::join(client.value("select pg_sleep(600)"), cancel).await;
            assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"));
        }
    });
}

#[test]
fn a_cancel_request_for_nobody_costs_each_worker_one_connection_and_a_crowd_of_them_no_more_than_it_would_directly() {
    run(async {
        let workers = [Counting::listen().await, Counting::listen().await];
        let [first, other] = workers.each_ref().map(|worker| worker.address.to_string());
        let plane = ControlPlane::start_in_front_of(&first, &["--worker", &other]).await;
        // Length, code, process id, and a secret that nobody has.
        let request =
            [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &4711_u32.to_be_bytes(), b"none"].concat();
        let ask = async || {
            let mut stream = TcpStream::connect(("127.0.0.1", plane.port)).await.unwrap();
            stream.write_all(&request).await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "no answer but the end");
        };
        ask().await;
        assert_eq!(workers.each_ref().map(Counting::so_far), [1, 1]);
        futures_util::future::join_all((0..200).map(|_| ask())).await;
        for worker in &workers {
            let so_far = worker.so_far();
            assert!((2..=201).contains(&so_far), "{so_far} connections");
        }
    });
}

/// A worker that knows nobody, and counts who comes.
struct Counting {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Counting {
    async fn listen() -> Counting {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move { _ = stream.read_exact(&mut [0; 16]).await });
            }
        });
        Counting { address, connections }
    }

    fn so_far(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}
