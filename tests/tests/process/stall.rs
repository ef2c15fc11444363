//! Clients that read slowly, and clients that have stopped reading.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::{run, within};

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
