//! Clients and workers that mean no good, or know no better: each has a clear outcome, costs no more memory than it may, and leaves
//! nothing behind: others are served, and the drain ends. Crowds of them are `crowd`'s.

use std::time::Duration;

use process_tests::control_plane::ControlPlane;
use process_tests::fake_worker::FakeWorker;
use process_tests::raw::{Raw, message, query};
use process_tests::{eventually, run, within};
use tokio::io::AsyncWriteExt;

use super::{assert_exit, millis};

/// More than any of them may cost: two sessions' buffers, and what the runtime and the kernel's accounting make of them.
const MAY_COST_KB: u64 = 8 * 1024;

/// Others are served, what was done cost no more than it may, and a drain ends at once.
async fn is_unharmed(mut plane: ControlPlane, before_kb: u64) {
    assert_eq!(plane.connect("another").await.value("select 41 + 1").await.unwrap(), "42");
    let grown = plane.resident().saturating_sub(before_kb);
    assert!(grown < MAY_COST_KB, "{grown} kB more than before");
    plane.drain().await;
    assert_exit(plane.exit().await, 0, millis(200));
}

async fn plane() -> ControlPlane {
    ControlPlane::start(&["--lame-duck", "0s", "--idle-grace", "100ms", "--session-init-timeout", "2s"]).await
}

/// The SQLSTATEs of the errors that it reads up to its end.
async fn told(raw: &mut Raw) -> Vec<String> {
    let mut codes = Vec::new();
    while let Ok(Some(message)) = within(millis(20_000), "its end", raw.messages.next()).await {
        codes.extend(message.error().map(|error| error[&'C'].clone()));
    }
    codes
}

#[test]
fn lying_lengths_and_unknown_messages_are_told_08p01_and_never_waited_for() {
    run(async {
        let plane = plane().await;
        let _warm = plane.connect("warm").await;
        let before = plane.resident();
        for lie in [
            // A body of nearly 2 GiB, one that is shorter than its length, one that is longer than such a message can be.
            &b"Q\x7f\xff\xff\xff"[..],
            b"Q\0\0\0\x03",
            b"S\0\x01\0\0",
            b"\0\0\0\0\0",
            b"Z\0\0\0\x05I",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut liar = Raw::session(plane.port, "liar").await;
            liar.send(lie).await;
            assert_eq!(told(&mut liar).await, ["08P01"], "{lie:?}");
        }
        // The front itself says so: the worker, which would say the same, never sees them.
        let ended = async || Some(plane.records()).filter(|records| records.len() == 6);
        let records = eventually(millis(5000), "their records", ended).await;
        assert!(records.iter().all(|record| record["reason"] == "malformed"), "{records:?}");
        is_unharmed(plane, before).await;
    });
}

#[test]
fn what_is_no_startup_packet_is_closed_and_one_that_comes_byte_by_byte_has_until_its_timeout() {
    run(async {
        let plane = plane().await;
        let _warm = plane.connect("warm").await;
        let before = plane.resident();
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\xff\xff\xff\xff\0\x03\0\0",
            b"\0\0\0\0",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        ] {
            let mut stranger = Raw::connect(plane.port).await;
            stranger.send(garbage).await;
            assert_eq!(told(&mut stranger).await, [] as [&str; 0], "{garbage:?}");
        }
        let mut slow = Raw::connect(plane.port).await;
        let dripping = async {
            for byte in b"\0\0\0\x29\0\x03\0\0user\0postgres\0" {
                if slow.output.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(millis(400)).await;
            }
        };
        // Its time is 2 s, not 2 s a byte.
        let ended = within(millis(9_000), "the end of the slow one", slow.messages.rest());
        let (_, rest) = futures_util::future::join(dripping, ended).await;
        assert!(rest.is_err() || rest.is_ok_and(|rest| rest.is_empty()));
        is_unharmed(plane, before).await;
    });
}

#[test]
fn a_million_queries_without_a_look_at_an_answer_cost_a_few_buffers_and_their_sender_the_rest() {
    run(async {
        let plane = plane().await;
        let _warm = plane.connect("warm").await;
        let before = plane.resident();
        let mut flood = Raw::session(plane.port, "flood").await;
        let thousand = query("select repeat('x', 1000)").repeat(1000);
        let mut taken = 0;
        // It writes until nobody takes more: then the front has stopped reading, and holds what it holds.
        while let Ok(written) = tokio::time::timeout(millis(1000), flood.output.write_all(&thousand)).await {
            written.unwrap();
            taken += 1000;
            assert!(taken < 1_000_000, "all of them were taken");
        }
        let grown = plane.resident().saturating_sub(before);
        assert!(grown < MAY_COST_KB, "{grown} kB for {taken} queries");
        flood.reset();
        is_unharmed(plane, before).await;
    });
}

#[test]
fn rows_without_end_that_nobody_reads_cost_a_few_buffers() {
    run(async {
        let plane = plane().await;
        let _warm = plane.connect("warm").await;
        let before = plane.resident();
        let mut deaf = Raw::session(plane.port, "deaf").await;
        deaf.send(&query("select repeat('x', 1000), generate_series(1, 1000000000)")).await;
        // All buffers are full once the server waits for its client to read.
        let observer = plane.connect("observer").await;
        let waits =
            "select count(*) from pg_stat_activity where application_name = 'deaf' and wait_event = 'ClientWrite'";
        let full = async || (observer.value(waits).await.unwrap() == "1").then_some(());
        eventually(millis(20_000), "full buffers", full).await;
        let grown = plane.resident().saturating_sub(before);
        assert!(grown < MAY_COST_KB, "{grown} kB");
        deaf.reset();
        drop(observer);
        is_unharmed(plane, before).await;
    });
}

#[test]
fn a_worker_that_says_nothing_or_nonsense_is_told_and_holds_nobody() {
    run(async {
        let worker = FakeWorker::listen().await;
        let flags = ["--lame-duck", "0s", "--idle-grace", "100ms", "--session-init-timeout", "1s"];
        let mut plane = ControlPlane::start_in_front_of(&worker.address(), &flags).await;
        let mut waiting = Raw::connect(plane.port).await;
        waiting.start_up("app", "waiting").await;
        let silent = worker.accept().await;
        assert_eq!(told(&mut waiting).await, ["57014"], "its login took too long");
        drop(silent);

        for nonsense in [&b"<html>no</html>"[..], b"D\xff\xff\xff\xff", b"Z\0\0\0\x05X"] {
            let mut client = Raw::connect(plane.port).await;
            client.start_up("app", "client").await;
            let mut session = worker.session().await;
            while client.messages.next().await.unwrap().expect("its login").tag != b'Z' {}
            client.send(&query("select 1")).await;
            session.messages.next().await.unwrap().expect("the query");
            session.send(nonsense).await;
            assert_eq!(told(&mut client).await, ["08P01"], "{nonsense:?}");
        }

        // One that never stops to send rows cannot keep a client that is gone, nor the process.
        let mut client = Raw::connect(plane.port).await;
        client.start_up("app", "gone").await;
        let mut session = worker.session().await;
        while client.messages.next().await.unwrap().expect("its login").tag != b'Z' {}
        client.send(&query("select 1")).await;
        client.reset();
        let rows = message(b'D', &[0; 1000]).repeat(100);
        let sending = async { while session.output.write_all(&rows).await.is_ok() {} };
        within(Duration::from_secs(20), "the end of what is sent to nobody", sending).await;
        plane.drain().await;
        assert_exit(plane.exit().await, 0, millis(5_200));
    });
}
