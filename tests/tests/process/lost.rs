//! Workers that are lost in the middle of a session: the client is told, once.

use std::collections::BTreeMap;

use process_tests::control_plane::ControlPlane;
use process_tests::fake_worker::{FakeWorker, error, ready};
use process_tests::raw::{self, Raw};
use process_tests::{run, within};
use tokio::time::sleep;

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
