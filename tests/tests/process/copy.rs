//! COPY FROM STDIN while the process drains: bytes decide, not the clock on the wall.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Message, Raw};
use process_tests::{run, within};

use super::{ADMIN_SHUTDOWN, assert_exit, millis};

const FLAGS: [&str; 6] = ["--lame-duck", "200ms", "--idle-grace", "400ms", "--stall-grace", "1s"];

#[test]
fn a_copy_with_a_row_now_and_then_takes_longer_than_the_stall_grace_and_is_complete() {
    run(async {
        let mut plane = ControlPlane::start(&FLAGS).await;
        let mut trickle = copying(&plane, "trickle").await;

        plane.drain().await;
        for row in 0..8 {
            trickle.send(&data(&format!("{row}\n"))).await;
            plane.until(millis(400 * (row + 1))).await;
        }
        trickle.send(&[b'c', 0, 0, 0, 4]).await;
        let rest = within(millis(10_000), "the rest of a COPY", trickle.messages.rest()).await.unwrap();
        let ended = plane.since_signal();
        drop(trickle);
        let exit = plane.exit().await;

        assert_eq!(tags(&rest), "CZE", "CommandComplete, ReadyForQuery, FATAL");
        assert_eq!(rest[0].body, b"COPY 8\0");
        assert_eq!(rest[2].error().unwrap()[&'C'], ADMIN_SHUTDOWN.0);
        assert!(ended > millis(2800), "{ended:?}");
        assert_exit(exit, 0, ended);
        assert_eq!(rows("trickle").await, 8);
    });
}

#[test]
fn a_copy_that_falls_silent_is_ended_after_the_stall_grace_and_nothing_of_it_stays() {
    run(async {
        let mut plane = ControlPlane::start(&FLAGS).await;
        let mut silent = copying(&plane, "silent").await;
        silent.send(&data("1\n")).await;

        plane.drain().await;
        let rest = within(millis(10_000), "the rest of a COPY", silent.messages.rest()).await.unwrap();
        drop(silent);
        let exit = plane.exit().await;

        assert_eq!(tags(&rest), "E");
        let fatal = rest[0].error().unwrap();
        assert_eq!((fatal[&'C'].as_str(), fatal[&'M'].as_str()), ADMIN_SHUTDOWN);
        assert_eq!(fatal[&'D'], "No byte of the statement moved for longer than stall_grace.");
        assert!(exit.after >= millis(1000), "{exit:?}");
        assert_exit(exit, 0, millis(1000));
        assert_eq!(rows("silent").await, 0);
    });
}

/// A session in the middle of a COPY into a table of its own.
async fn copying(plane: &ControlPlane, table: &str) -> Raw {
    let setup = postgres().connect("setup").await;
    setup.batch_execute(&format!("create table copy_{table} (n int)")).await.unwrap();
    let mut raw = Raw::session(plane.port, table).await;
    raw.send(&raw::query(&format!("copy copy_{table} from stdin"))).await;
    let answer = raw.messages.next().await.unwrap().unwrap();
    assert_eq!(answer.tag, b'G', "CopyInResponse");
    raw
}

async fn rows(table: &str) -> i64 {
    let observer = postgres().connect("observer").await;
    observer.query_one(&format!("select count(*) from copy_{table}"), &[]).await.unwrap().get(0)
}

/// A CopyData message.
fn data(text: &str) -> Vec<u8> {
    let mut message = vec![b'd'];
    message.extend((text.len() as u32 + 4).to_be_bytes());
    message.extend(text.as_bytes());
    message
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}
