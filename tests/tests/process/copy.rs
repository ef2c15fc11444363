//! COPY FROM STDIN while the process drains: bytes decide, not the clock on the wall.

use futures_util::future::join3;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Message, Raw};
use process_tests::{run, within};
use tokio::io::AsyncWriteExt;

use super::{ADMIN_SHUTDOWN, assert_exit, millis};

/// Rows of a kilobyte: more than the sockets on their way can hold.
const ROWS: i64 = 40_000;

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
        trickle.send(&raw::copy_done()).await;
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

#[test]
fn a_copy_whose_worker_waits_for_a_lock_is_waited_for() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table copy_locked (n int primary key, pad text)").await.unwrap();
        let mut plane = ControlPlane::start(&FLAGS).await;
        let mut raw = Raw::session(plane.port, "locked").await;
        raw.send(&raw::query("copy copy_locked from stdin")).await;
        assert_eq!(raw.messages.next().await.unwrap().unwrap().tag, b'G', "CopyInResponse");
        // The first row waits for this transaction, and the rest for the first row.
        setup.batch_execute("begin; insert into copy_locked values (0)").await.unwrap();
        let Raw { mut messages, mut output, .. } = raw;
        let send = async {
            for row in 0..ROWS {
                output.write_all(&data(&format!("{row}\t{:1000}\n", ""))).await.expect("the other side reads");
            }
            output.write_all(&raw::copy_done()).await.expect("the other side reads");
        };
        let lock = async {
            plane.drain().await;
            plane.until(millis(3_000)).await;
            setup.batch_execute("rollback").await.unwrap();
        };
        let rest = async { within(millis(30_000), "the rest of a COPY", messages.rest()).await.unwrap() };
        let ((), (), rest) = join3(send, lock, rest).await;
        drop((messages, output));
        let exit = plane.exit().await;

        assert_eq!(tags(&rest), "CZE", "CommandComplete, ReadyForQuery, FATAL");
        assert_eq!(exit.code, Some(0));
        assert_eq!(self::rows("locked").await, ROWS);
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

fn data(text: &str) -> Vec<u8> {
    raw::copy_data(text.as_bytes())
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}
