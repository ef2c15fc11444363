//! A process that was stopped, or whose machine slept: what had arrived in time counts.

use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::run;

use super::{assert_exit, is_answered_and_told, millis};

#[test]
fn a_commit_that_came_before_its_clock_is_answered_although_the_process_was_stopped_past_it() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table stopped (n int)").await.unwrap();
        let flags = ["--lame-duck", "0", "--idle-grace", "300ms", "--transaction-grace", "3s"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut clients = Vec::new();
        for number in 0..8 {
            let mut client = Raw::session(plane.port, "stopped").await;
            client.send(&raw::query(&format!("begin; insert into stopped values ({number})"))).await;
            while client.messages.next().await.unwrap().expect("an answer").tag != b'Z' {}
            clients.push(client);
        }

        plane.drain().await;
        plane.until(millis(1000)).await;
        plane.signal(Signal::STOP);
        plane.until(millis(1500)).await;
        for client in &mut clients {
            client.send(&raw::query("commit")).await;
        }
        plane.until(millis(4500)).await;
        plane.signal(Signal::CONT);

        for client in &mut clients {
            is_answered_and_told(client).await;
        }
        drop(clients);
        assert_exit(plane.exit().await, 0, millis(4500));
        let rows: i64 = setup.query_one("select count(*) from stopped", &[]).await.unwrap().get(0);
        assert_eq!(rows, 8);
    });
}
