//! A Sync behind a COPY: only PostgreSQL knows whether it is swallowed. Whatever it did, a statement that runs afterwards is
//! running, and a client that does nothing afterwards is idle.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::{run, within};

use super::{SOON, assert_exit, is_answered_and_told, millis};

const SETUP: &str = "\
create table copied_to (n int);
create view copied_view as select n from copied_to;
create table triggered (n int);
create function refuses() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
create trigger refuses before insert on triggered for each statement execute function refuses();
create table copy_is_locked (n int)";

/// A COPY by the extended protocol, its Sync in the same send.
fn copy(into: &str) -> Vec<u8> {
    [raw::parse(&format!("copy {into} from stdin")), raw::bind(), raw::execute(), raw::sync()].concat()
}

/// A client whose COPY has failed before it read anything.
async fn refused(port: u16, application: &str, into: &str) -> Raw {
    let mut client = Raw::session(port, application).await;
    client.send(&copy(into)).await;
    client
}

/// Reads to ReadyForQuery: the tags on the way.
async fn to_ready(client: &mut Raw) -> String {
    let mut tags = String::new();
    while !tags.ends_with('Z') {
        let message = within(SOON, "ReadyForQuery", client.messages.next()).await.unwrap().expect("an answer");
        tags.push(char::from(message.tag));
    }
    tags
}

#[test]
fn what_follows_a_sync_behind_a_copy_runs_as_long_as_it_runs_and_is_idle_when_it_is_not() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute(SETUP).await.unwrap();
        let flags = ["--lame-duck", "0", "--idle-grace", "400ms", "--stall-grace", "1s"];
        let mut plane = ControlPlane::start(&flags).await;

        let mut view = refused(plane.port, "copy-view", "copied_view").await;
        assert_eq!(to_ready(&mut view).await, "12GEZ");

        let mut trigger = refused(plane.port, "copy-trigger", "triggered").await;
        assert_eq!(to_ready(&mut trigger).await, "12GEZ");

        // A cancel before the first byte is read: it waits for a lock.
        setup.batch_execute("begin; lock table copy_is_locked").await.unwrap();
        let mut locked = refused(plane.port, "copy-cancelled", "copy_is_locked").await;
        postgres().wait_until_active("copy-cancelled").await;
        let mut cancel = Raw::connect(plane.port).await;
        cancel.send(&raw::cancel_request(&locked.key)).await;
        assert_eq!(to_ready(&mut locked).await, "12EZ");
        setup.batch_execute("rollback").await.unwrap();

        let mut done = refused(plane.port, "copy-done", "copied_to").await;
        // Its Sync is swallowed: the COPY has begun to read.
        done.send(&[raw::copy_data(b"1\n"), raw::copy_done(), raw::sync()].concat()).await;
        assert_eq!(to_ready(&mut done).await, "12GCZ");

        let mut clients = [view, trigger, locked, done];
        for client in &mut clients {
            client.send(&raw::query("insert into copied_to select 2 from pg_sleep(3)")).await;
        }
        for application in ["copy-view", "copy-trigger", "copy-cancelled", "copy-done"] {
            postgres().wait_until_active(application).await;
        }
        plane.drain().await;
        for client in &mut clients {
            is_answered_and_told(client).await;
        }
        drop(clients);
        assert_exit(plane.exit().await, 0, millis(3000));
        let rows = "select count(*) from copied_to where n = 2";
        assert_eq!(setup.value(rows).await.unwrap(), "4");
    });
}

#[test]
fn a_client_that_does_nothing_after_a_copy_was_refused_is_idle() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup
            .batch_execute("create table refusing (n int); create view refusing_view as select n from refusing")
            .await
            .unwrap();
        let flags = ["--idle-timeout", "1s", "--lame-duck", "0", "--idle-grace", "400ms", "--stall-grace", "10m"];
        let mut plane = ControlPlane::start(&flags).await;
        let mut idle = refused(plane.port, "copy-idle", "refusing_view").await;
        assert_eq!(to_ready(&mut idle).await, "12GEZ");
        let rest = within(millis(1000) + SOON, "idle_timeout", idle.messages.rest()).await.unwrap();
        assert_eq!(rest[0].error().unwrap()[&'C'], "57P05");
        drop(idle);

        // And one that pings does not hold the process.
        let mut pinger = refused(plane.port, "copy-pings", "refusing_view").await;
        assert_eq!(to_ready(&mut pinger).await, "12GEZ");
        plane.drain().await;
        let pinging = async move {
            loop {
                pinger.send(&raw::query("select 1")).await;
                loop {
                    match pinger.messages.next().await.unwrap() {
                        Some(message) if message.tag == b'Z' => break,
                        Some(_) => {}
                        None => return,
                    }
                }
                tokio::time::sleep(millis(20)).await;
            }
        };
        let ((), exit) = futures_util::future::join(pinging, plane.exit()).await;
        assert_exit(exit, 0, millis(400 + 1000));
    });
}
