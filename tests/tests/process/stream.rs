//! What never ends by itself: a backlog of notifications, and replication.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Message, Raw};
use process_tests::{run, within};
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

#[test]
fn replication_is_never_idle_while_serving_and_holds_nobody_while_draining() {
    run(async {
        let flags = ["--idle-timeout", "1s", "--lame-duck", "0", "--idle-grace", "500ms"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut standby = Raw::session_with(plane.port, "standby", &[("replication", "true")]).await;
        standby.send(&raw::query("IDENTIFY_SYSTEM")).await;
        let mut position = String::new();
        loop {
            let message = standby.messages.next().await.unwrap().expect("an answer");
            assert_eq!(message.error(), None);
            match message.tag {
                b'D' => position = third_field(&message.body),
                b'Z' => break,
                _ => {}
            }
        }
        standby.send(&raw::query(&format!("START_REPLICATION PHYSICAL {position}"))).await;
        assert_eq!(standby.messages.next().await.unwrap().expect("an answer").tag, b'W', "CopyBothResponse");

        // A message each way every quarter of a second, and then silence: PostgreSQL's own idle_session_timeout counts neither.
        let started = Instant::now();
        for number in 1..=10 {
            standby.send(&raw::copy_data(&status_update())).await;
            let answer = within(millis(10_000), "a keepalive", standby.messages.next()).await.unwrap();
            assert_eq!(answer.expect("replication goes on").tag, b'd');
            sleep_until(started + millis(250 * number)).await;
        }
        sleep_until(started + millis(4500)).await;
        standby.send(&raw::copy_data(&status_update())).await;
        let answer = within(millis(10_000), "a keepalive", standby.messages.next()).await.unwrap();
        assert_eq!(answer.expect("replication goes on").tag, b'd');
        assert_eq!(plane.records().len(), 0);

        plane.drain().await;
        let rest = within(millis(10_000), "the end of replication", standby.messages.rest()).await.unwrap();
        drop(standby);
        let fatal = rest.last().and_then(Message::error).expect("a FATAL is the last message");
        assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
        assert_exit(plane.exit().await, 0, millis(500));
        postgres().wait_until_gone(super::SOON, "standby").await;
    });
}

/// The answer to IDENTIFY_SYSTEM: systemid, timeline, xlogpos, dbname.
fn third_field(row: &[u8]) -> String {
    let mut rest = &row[2..];
    let mut field: &[u8] = &[];
    for _ in 0..3 {
        let length = u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize;
        (field, rest) = rest[4..].split_at(length);
    }
    String::from_utf8(field.to_vec()).unwrap()
}

/// Standby status update: nothing written, flushed or applied, no clock, and a reply wanted.
fn status_update() -> Vec<u8> {
    let mut update = vec![b'r'];
    update.extend([0; 32]);
    update.push(1);
    update
}
