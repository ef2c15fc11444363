//! Clients that read slowly, and clients that have stopped reading.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Message, Raw};
use process_tests::{run, within};
use tokio::time::{Instant, sleep_until};

use super::{ADMIN_SHUTDOWN, assert_exit, millis};

#[test]
fn a_reader_slower_than_the_grace_gets_every_row_and_then_its_fatal() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "400ms", "--stall-grace", "5s"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut slow = Raw::session_with_small_window(plane.port, "slow").await;
        slow.send(&raw::query("select repeat('x', 1000) from generate_series(1, 20000)")).await;
        postgres().wait_until_active("slow").await;

        plane.drain().await;
        let (mut rows, mut ready, mut fatal) = (0, 0, None);
        let last = within(millis(30_000), "the end of a slow client's session", async {
            while let Some(message) = slow.messages.next().await.expect("a reset has destroyed what was on its way") {
                match message.tag {
                    b'D' => rows += 1,
                    b'Z' => ready += 1,
                    _ => fatal = message.error().or(fatal.take()),
                }
                if rows % 2000 == 1 {
                    tokio::time::sleep(millis(200)).await;
                }
            }
            plane.since_signal()
        })
        .await;
        drop(slow);
        let exit = plane.exit().await;

        assert_eq!((rows, ready), (20_000, 1));
        let fatal = fatal.expect("a FATAL is the last message");
        assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
        assert!(last > millis(1500), "it was not slow: {last:?}");
        assert_exit(exit, 0, last);
    });
}

#[test]
fn a_client_that_has_stopped_reading_is_let_go_after_the_stall_grace() {
    run(async {
        let flags = ["--lame-duck", "200ms", "--idle-grace", "400ms", "--stall-grace", "1s", "--close-linger", "500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut stalled = Raw::session_with_small_window(plane.port, "stalled").await;
        stalled.send(&raw::query("select repeat('x', 1000) from generate_series(1, 100000)")).await;
        postgres().wait_until_active("stalled").await;

        plane.drain().await;
        let exit = plane.exit().await;

        assert!(exit.after >= millis(1000), "{exit:?}");
        assert_exit(exit, 0, millis(1000 + 500));
        let records = plane.records();
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0]["reason"], "stall_grace", "{records:?}");
    });
}

#[test]
fn a_reader_that_never_pauses_is_never_stalled_although_its_kernel_wakes_nobody_for_longer_than_the_stall_grace() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "400ms", "--stall-grace", "1500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut steady = Raw::session(plane.port, "steady").await;
        // All of it may fit into the buffers on the way: when it is under way, its worker may be done already.
        steady.send(&raw::query("select repeat('x', 1000) from generate_series(1, 7000)")).await;
        assert_eq!(steady.messages.next().await.unwrap().expect("an answer").tag, b'T');

        plane.drain().await;
        let (mut rows, mut rest) = (0, String::new());
        let started = Instant::now();
        // At 20 kB every 40 ms, it takes three seconds and more until a third of a send buffer of 4 MB is free.
        for step in 1.. {
            let read = steady.messages.read_bytes(20_000).await.expect("a reset has destroyed what was on its way");
            if read == 0 {
                break;
            }
            while let Some(message) = steady.messages.take() {
                match message.tag {
                    b'D' => rows += 1,
                    tag => rest.push(char::from(tag)),
                }
            }
            sleep_until(started + millis(40 * step)).await;
        }
        drop(steady);
        let exit = plane.exit().await;

        assert_eq!((rows, rest.as_str()), (7000, "CZE"));
        assert!(exit.after > millis(8000), "it was not slow: {exit:?}");
        assert_exit(exit, 0, millis(25_000));
        assert_eq!(plane.records()[0]["reason"], "boundary");
    });
}

#[test]
fn an_answer_that_its_client_does_not_read_is_waited_for_until_the_stall_grace_wherever_it_is_queued() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "400ms", "--stall-grace", "3s", "--close-linger", "500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut late = Raw::session_with_small_window(plane.port, "late").await;
        let mut never = Raw::session_with_small_window(plane.port, "never").await;
        for client in [&mut late, &mut never] {
            // All of it fits into a send buffer.
            client.send(&raw::query("select repeat('x', 1000) from generate_series(1, 400)")).await;
        }
        postgres().wait_until_idle(&["late", "never"]).await;

        plane.drain().await;
        plane.until(millis(2000)).await;
        let rest = within(millis(10_000), "an answer", late.messages.rest()).await;
        let rest = rest.expect("a reset has destroyed what was on its way");
        drop(late);
        let exit = plane.exit().await;

        assert_eq!(rest.iter().filter(|message| message.tag == b'D').count(), 400);
        assert_eq!(rest.last().and_then(Message::error).unwrap()[&'C'], ADMIN_SHUTDOWN.0);
        assert!(exit.after >= millis(3000), "{exit:?}");
        assert_exit(exit, 0, millis(3000 + 500));
        let mut reasons: Vec<_> = plane.records().iter().map(|record| record["reason"].clone()).collect();
        reasons.sort_by_key(|reason| reason.to_string());
        assert_eq!(reasons, ["boundary", "stall_grace"]);
        drop(never);
    });
}
