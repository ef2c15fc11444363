//! Cancel requests.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real sockets, never simulated")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod common;

use common::{Bare, code, connect, rows, soon};
use lastcall_embedded::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::{Client, NoTls};

const ENDLESS: &str = "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c";
const ENDLESS_ROWS: &str = "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c";

/// Cancels `client`'s statement until it ends: the first request may come before it runs.
async fn cancelled(client: &Client, sql: &str) -> String {
    let mut running = std::pin::pin!(client.simple_query(sql));
    soon(async {
        loop {
            let token = client.cancel_token();
            let mut cancel = std::pin::pin!(token.cancel_query(NoTls));
            let ended = std::future::poll_fn(|cx| match running.as_mut().poll(cx) {
                std::task::Poll::Ready(result) => std::task::Poll::Ready(Some(result)),
                std::task::Poll::Pending => cancel.as_mut().poll(cx).map(|sent| {
                    sent.unwrap();
                    None
                }),
            })
            .await;
            if let Some(result) = ended {
                return code(result.unwrap_err());
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_cancel_ends_a_sleep_an_endless_statement_and_an_endless_result() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    for sql in ["select pg_sleep(3600)", ENDLESS, ENDLESS_ROWS] {
        assert_eq!(cancelled(&client, sql).await, "57014", "{sql}");
        assert_eq!(rows(&client, "select 1").await, ["1"]);
    }
}

#[tokio::test]
async fn a_cancel_ends_the_wait_for_a_lock() {
    let engine = Engine::start().await.unwrap();
    let (holder, waiter) = (connect(&engine).await, connect(&engine).await);
    soon(holder.batch_execute("create table t (a int); begin; insert into t values (1)")).await.unwrap();
    assert_eq!(cancelled(&waiter, "insert into t values (2)").await, "57014");
    soon(holder.batch_execute("commit")).await.unwrap();
    assert_eq!(rows(&waiter, "select a from t").await, ["1"]);
}

#[tokio::test]
async fn a_cancel_in_a_transaction_fails_it_and_rollback_ends_it() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    soon(client.batch_execute("create table t (a int); begin; insert into t values (1)")).await.unwrap();
    let endless = format!("insert into t {ENDLESS}");
    assert_eq!(cancelled(&client, &endless).await, "57014");
    assert_eq!(common::state(&client, "select 1").await, "25P02");
    soon(client.batch_execute("rollback")).await.unwrap();
    assert!(rows(&client, "select * from t").await.is_empty());
}

#[tokio::test]
async fn a_cancel_while_idle_hits_nothing_later() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    for _ in 0..20 {
        rows(&client, "select 1").await;
        // Done when its connection is closed.
        soon(client.cancel_token().cancel_query(NoTls)).await.unwrap();
        assert_eq!(rows(&client, "select pg_sleep(0.001); select 2").await, ["", "2"]);
    }
}

#[tokio::test]
async fn a_cancel_with_a_wrong_secret_hits_nothing() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    let key = loop {
        let (tag, body) = bare.next().await;
        if tag == 'K' {
            break body;
        }
    };
    let pid = i32::from_be_bytes(key[..4].try_into().unwrap());
    let secret = i32::from_be_bytes(key[4..8].try_into().unwrap());
    bare.until_ready().await;
    // It runs, for its first row is there; its rows are so long that the sockets' buffers hold few of them.
    let sql = ENDLESS_ROWS.replace("select x from", "select printf('%01000d', x) from");
    bare.send(|buffer| postgres_protocol::message::frontend::query(&sql, buffer).unwrap()).await;
    while bare.next().await.0 != 'D' {}
    cancel(&engine, pid, secret ^ 1).await;
    cancel(&engine, pid + 1, secret).await;
    for _ in 0..30_000 {
        assert_eq!(bare.next().await.0, 'D');
    }
    cancel(&engine, pid, secret).await;
    assert!(bare.until_ready().await.ends_with("E 57014 ZI"));
}

/// Sends a cancel request and waits until its connection is closed.
async fn cancel(engine: &Engine, pid: i32, secret: i32) {
    let mut stream = TcpStream::connect(engine.address()).await.unwrap();
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::cancel_request(pid, secret, &mut request);
    stream.write_all(&request).await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_is_gone_ends_its_endless_result() {
    let engine = Engine::start().await.unwrap();
    let other = connect(&engine).await;
    soon(other.batch_execute("create table t (a int)")).await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    // Holds the lock as long as the session is there.
    let sql = format!("begin; insert into t values (1); {ENDLESS_ROWS}");
    bare.send(|buffer| postgres_protocol::message::frontend::query(&sql, buffer).unwrap()).await;
    while bare.next().await.0 != 'D' {}
    drop(bare);
    soon(other.batch_execute("insert into t values (2)")).await.unwrap();
    assert_eq!(rows(&other, "select a from t").await, ["2"]);
}
