//! The key that a client is told is its backend's: its process id can be used, and any process can pass a cancel on.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::{run, within};

use super::{SOON, millis};

/// Nobody waits for it.
const ENDLESS: &str = "select pg_sleep(600)";

/// The first field of the only row that `sql` answers with.
async fn value(client: &mut Raw, sql: &str) -> String {
    client.send(&raw::query(sql)).await;
    let mut value = String::new();
    loop {
        let message = client.messages.next().await.unwrap().expect("an answer");
        match message.tag {
            // How many fields, and the first one's length.
            b'D' => value = String::from_utf8(message.body[6..].to_vec()).unwrap(),
            b'Z' => return value,
            _ => assert_eq!(message.error(), None),
        }
    }
}

/// The SQLSTATE of the error that the running statement ends with.
async fn cancelled(client: &mut Raw) -> String {
    let end = async {
        loop {
            let message = client.messages.next().await.unwrap().expect("an answer");
            if let Some(error) = message.error() {
                return error[&'C'].clone();
            }
        }
    };
    within(SOON, "the end of a cancelled statement", end).await
}

#[test]
fn the_process_id_that_a_client_is_told_is_its_backend_s() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut client = Raw::session(plane.port, "told-its-id").await;
        let told = client.process();
        assert_eq!(value(&mut client, "select pg_backend_pid()").await, told.to_string());

        let admin = plane.connect("administrator").await;
        client.send(&raw::query(ENDLESS)).await;
        postgres().wait_until_active("told-its-id").await;
        assert_eq!(admin.value(&format!("select pg_cancel_backend({told})")).await.unwrap(), "t");
        assert_eq!(cancelled(&mut client).await, "57014");

        assert_eq!(admin.value(&format!("select pg_terminate_backend({told})")).await.unwrap(), "t");
        let rest = within(SOON, "the end of a session", client.messages.rest()).await.unwrap();
        let fatals: Vec<_> = rest.iter().filter_map(raw::Message::error).collect();
        assert_eq!(fatals.len(), 1, "{fatals:?}");
        assert_eq!((fatals[0][&'C'].as_str(), fatals[0][&'S'].as_str()), ("57P01", "FATAL"));
    });
}

#[test]
fn a_cancel_is_passed_on_by_the_process_that_knows_the_session() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut client = Raw::session(plane.port, "knows").await;
        try_both_keys(&mut client, "knows", plane.port).await;
    });
}

#[test]
fn a_cancel_is_passed_on_by_a_process_that_does_not_know_the_session() {
    run(async {
        let flags = ["--lame-duck", "0", "--idle-grace", "300ms"];
        let (mut own, other) = (ControlPlane::start(&flags).await, ControlPlane::start(&flags).await);
        let mut client = Raw::session(own.port, "replicas").await;
        try_both_keys(&mut client, "replicas", other.port).await;

        // Through a Service it reaches another replica than the one that drains.
        client.send(&raw::query(ENDLESS)).await;
        postgres().wait_until_active("replicas").await;
        own.drain().await;
        own.until(millis(600)).await;
        cancel(other.port, &client.key).await;
        assert_eq!(cancelled(&mut client).await, "57014");
        let rest = within(SOON, "the end of a session", client.messages.rest()).await.unwrap();
        assert_eq!(rest.len(), 2, "ReadyForQuery and FATAL: {rest:?}");
        drop(client);
        assert_eq!(own.exit().await.code, Some(0));
    });
}

/// Asks the process at `port` to cancel the client's statement, with a wrong key and then with the right one.
async fn try_both_keys(client: &mut Raw, application: &str, port: u16) {
    let mut wrong = client.key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    client.send(&raw::query(ENDLESS)).await;
    postgres().wait_until_active(application).await;
    cancel(port, &wrong).await;
    postgres().wait_until_active(application).await;
    cancel(port, &client.key).await;
    assert_eq!(cancelled(client).await, "57014");
    assert_eq!(client.messages.next().await.unwrap().unwrap().tag, b'Z');
}

/// Sends a cancel request, and waits until its connection is closed: nothing is hit later.
async fn cancel(port: u16, key: &[u8]) {
    let mut request = Raw::connect(port).await;
    request.send(&raw::cancel_request(key)).await;
    let said = within(SOON, "the end of a cancel request", request.messages.rest()).await.unwrap();
    assert_eq!(said, [], "a cancel request has no answer");
}
