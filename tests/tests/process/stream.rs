//! What may never end by itself: a backlog of notifications.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Message, Raw};
use process_tests::run;
use tokio::time::{Instant, sleep_until};

use super::{ADMIN_SHUTDOWN, assert_exit, millis};

const NOTIFICATIONS: usize = 9_000;
/// 3 MB/s, in steps of twenty milliseconds.
const STEP: usize = 60_000;
const EVERY: u64 = 20;

#[test]
fn a_backlog_of_notifications_is_cut_at_a_message_s_end_and_holds_nobody() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "500ms", "--stall-grace", "5s", "--close-linger", "1s"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut client = Raw::session_with_small_window(plane.port, "listens").await;
        client.send(&raw::query("listen backlog")).await;
        while client.messages.next().await.unwrap().expect("an answer").tag != b'Z' {}
        let notify =
            format!("select pg_notify('backlog', i || repeat('x', 7000)) from generate_series(1, {NOTIFICATIONS}) i");
        postgres().connect("notifies").await.batch_execute(&notify).await.unwrap();
        let first = client.messages.next().await.unwrap().expect("a notification");
        assert_eq!(first.tag, b'A');

        plane.drain().await;
        let (mut notifications, mut last) = (1, None);
        let started = Instant::now();
        for step in 0.. {
            let mut left = STEP;
            while left > 0 {
                match client.messages.read_bytes(left).await.expect("a reset has destroyed a FATAL") {
                    0 => break,
                    read => left -= read,
                }
            }
            while let Some(message) = client.messages.take() {
                notifications += usize::from(message.tag == b'A');
                last = Some(message);
            }
            if left > 0 {
                break;
            }
            sleep_until(started + millis(EVERY * step)).await;
        }
        drop(client);
        let exit = plane.exit().await;

        let fatal = last.as_ref().and_then(Message::error).expect("a FATAL is the last message");
        assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
        assert!(notifications < NOTIFICATIONS, "it has waited for the whole backlog");
        // What the kernel had taken before is read before the FATAL; a client that reads is lingered for.
        assert_exit(exit, 0, millis(500 + 5000 + 1000));
    });
}
