//! Workers that are lost in the middle of a session: the client is told, once.

use std::collections::BTreeMap;

use process_tests::control_plane::ControlPlane;
use process_tests::fake_worker::{FakeWorker, complete, error, ready};
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::{SLACK, run, within};
use tokio::time::{Instant, sleep};

use super::{SOON, millis};

/// A session in front of a worker whose other end the test has.
async fn session(plane: &ControlPlane, worker: &FakeWorker) -> (Raw, Raw) {
    futures_util::future::join(Raw::session(plane.port, "lost"), worker.session()).await
}

/// The FATALs that the session ends with.
async fn fatals(client: &mut Raw) -> Vec<BTreeMap<char, String>> {
    let rest = within(millis(15_000), "the end of a session", client.messages.rest()).await;
    let rest = rest.expect("a reset has destroyed what was on its way");
    rest.iter().filter_map(raw::Message::error).filter(|error| error[&'S'] == "FATAL").collect()
}

fn codes(fatals: &[BTreeMap<char, String>]) -> Vec<&str> {
    fatals.iter().map(|fatal| fatal[&'C'].as_str()).collect()
}

#[test]
fn a_worker_that_is_lost_after_a_failed_batch_or_inside_one_is_told() {
    run(async {
        let worker = FakeWorker::listen().await;
        let plane = ControlPlane::start_in_front_of(&worker.address(), &[]).await;
        let batch = [raw::parse("nonsense"), raw::bind(), raw::execute()].concat();
        let failed = error("ERROR", "42601", "syntax error");

        // Lost before its Sync, in the statement behind it, and while nothing was asked.
        let (mut client, mut lost) = session(&plane, &worker).await;
        client.send(&[batch.clone(), raw::flush()].concat()).await;
        lost.send(&failed).await;
        assert_eq!(client.messages.next().await.unwrap().unwrap().tag, b'E');
        drop(lost);
        assert_eq!(codes(&fatals(&mut client).await), ["08006"]);

        let (mut client, mut lost) = session(&plane, &worker).await;
        client.send(&[batch.clone(), raw::sync()].concat()).await;
        lost.send(&[failed.clone(), ready(b'I')].concat()).await;
        while client.messages.next().await.unwrap().unwrap().tag != b'Z' {}
        client.send(&raw::query("select 1")).await;
        while lost.messages.next().await.unwrap().unwrap().tag != b'Q' {}
        drop(lost);
        assert_eq!(codes(&fatals(&mut client).await), ["08006"]);

        let (mut client, mut lost) = session(&plane, &worker).await;
        client.send(&[batch, raw::sync()].concat()).await;
        lost.send(&[failed, ready(b'I')].concat()).await;
        while client.messages.next().await.unwrap().unwrap().tag != b'Z' {}
        drop(lost);
        assert_eq!(codes(&fatals(&mut client).await), ["08006"]);
    });
}

#[test]
fn a_worker_that_says_fatal_and_stays_open_is_let_go_and_its_client_has_one_fatal() {
    run(async {
        let worker = FakeWorker::listen().await;
        let plane = ControlPlane::start_in_front_of(&worker.address(), &["--close-linger", "1s"]).await;
        let (mut client, mut stays) = session(&plane, &worker).await;
        client.send(&raw::query("select 1")).await;
        while stays.messages.next().await.unwrap().unwrap().tag != b'Q' {}
        stays.send(&error("FATAL", "57P01", "terminating connection due to administrator command")).await;

        let started = Instant::now();
        assert_eq!(codes(&fatals(&mut client).await), ["57P01"]);
        drop(client);
        within(SOON, "the end of the worker's connection", async {
            while let Ok(Some(_)) = stays.messages.next().await {}
        })
        .await;
        assert!(started.elapsed() < millis(2000) + SLACK, "{:?}", started.elapsed());
    });
}

#[test]
fn a_worker_s_own_fatal_is_read_by_a_client_that_reads_late_and_still_sends() {
    run(async {
        let worker = FakeWorker::listen().await;
        let plane = ControlPlane::start_in_front_of(&worker.address(), &[]).await;
        let (mut client, mut ends) = session(&plane, &worker).await;
        client.send(&raw::query("select 1")).await;
        while ends.messages.next().await.unwrap().unwrap().tag != b'Q' {}
        // What is not read when the worker closes, and what comes afterwards.
        client.send(&raw::query(&"x".repeat(100_000))).await;
        ends.send(&complete("SELECT 0")).await;
        ends.send(&error("FATAL", "57P05", "terminating connection due to idle-session timeout")).await;
        drop(ends);
        sleep(millis(500)).await;
        for _ in 0..10 {
            // Whoever has closed for good answers this with a reset, which destroys what is unread.
            client.send(&raw::query("select 'another'")).await;
            sleep(millis(100)).await;
        }
        assert_eq!(codes(&fatals(&mut client).await), ["57P05"]);
    });
}

#[test]
fn a_client_whose_backend_is_terminated_reads_postgresql_s_own_fatal_whenever_it_looks() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let administrator = postgres().connect("administrator").await;
        let mut client = Raw::session(plane.port, "terminated").await;
        let terminated = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'terminated'";
        assert_eq!(administrator.value(terminated).await.unwrap(), "t");
        postgres().wait_until_gone(SOON, "terminated").await;
        for _ in 0..5 {
            client.send(&raw::query("select 'another'")).await;
            sleep(millis(100)).await;
        }
        let fatals = fatals(&mut client).await;
        assert_eq!(codes(&fatals), ["57P01"]);
        assert_eq!(fatals[0].get(&'D'), None, "it is the administrator's, and no drain's");
    });
}

#[test]
fn a_client_that_was_reset_in_its_handshake_lets_its_worker_go_though_bytes_of_it_are_held() {
    run(async {
        let worker = FakeWorker::listen().await;
        let plane = ControlPlane::start_in_front_of(&worker.address(), &[]).await;
        let mut client = Raw::connect(plane.port).await;
        client.start_up("somebody", "in-handshake").await;
        let mut silent = worker.accept().await;
        // More than a direction keeps for a worker that answers nothing.
        client.send(&raw::password(&"x".repeat(40_000))).await;
        sleep(millis(200)).await;
        client.reset();
        within(SOON, "the end of a login", async { while let Ok(Some(_)) = silent.messages.next().await {} }).await;
    });
}
