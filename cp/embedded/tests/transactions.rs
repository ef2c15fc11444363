//! Transactions, and what two sessions see of each other.

mod common;

use common::{Bare, connect, rows, soon, state};
use lastcall_embedded::Engine;

#[tokio::test]
async fn ready_for_query_tells_where_the_transaction_is() {
    let engine = Engine::start().await.unwrap();
    for extended in [false, true] {
        let mut bare = Bare::connect(&engine).await;
        assert_eq!(bare.until_ready().await, "ZI");
        for (sql, told) in [
            ("begin", "C BEGIN ZT"),
            ("select 1", "D C SELECT 1 ZT"),
            ("begin", "N 25001 C BEGIN ZT"),
            ("savepoint a", "C SAVEPOINT ZT"),
            ("selec 1", "E 42601 ZE"),
            ("select 1", "E 25P02 ZE"),
            ("begin", "E 25P02 ZE"),
            ("rollback to a", "C ROLLBACK ZT"),
            ("release a", "C RELEASE ZT"),
            ("end", "C COMMIT ZI"),
            ("commit", "N 25P01 C COMMIT ZI"),
            ("rollback", "N 25P01 C ROLLBACK ZI"),
            ("savepoint a", "E 25P01 ZI"),
            ("start transaction isolation level repeatable read", "C BEGIN ZT"),
            ("selec 1", "E 42601 ZE"),
            ("commit", "C ROLLBACK ZI"),
            ("selec 1", "E 42601 ZI"),
            ("begin", "C BEGIN ZT"),
            ("rollback to missing", "E 3B001 ZE"),
            ("abort", "C ROLLBACK ZI"),
        ] {
            let answer = match extended {
                false => bare.query(sql).await.replace("T D", "D"),
                true => {
                    let answer = bare.extended(sql).await;
                    answer.trim_start_matches("1 ").trim_start_matches("2 ").to_owned()
                }
            };
            assert_eq!(answer, told, "{sql}, extended: {extended}");
        }
    }
}

#[tokio::test]
async fn a_protocol_error_fails_the_transaction_too() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.query("begin").await;
    bare.send(|buffer| {
        postgres_protocol::message::frontend::execute("nothing", 0, buffer).unwrap();
        postgres_protocol::message::frontend::sync(buffer);
    })
    .await;
    assert_eq!(bare.until_ready().await, "E 34000 ZE");
    assert_eq!(bare.query("select 1").await, "E 25P02 ZE");
    assert_eq!(bare.query("rollback").await, "C ROLLBACK ZI");
}

#[tokio::test]
async fn a_failed_transaction_leaves_nothing() {
    let engine = Engine::start().await.unwrap();
    let client = connect(&engine).await;
    soon(client.batch_execute("create table t (a int)")).await.unwrap();
    soon(client.batch_execute("begin; insert into t values (1)")).await.unwrap();
    assert_eq!(state(&client, "selec 1").await, "42601");
    soon(client.batch_execute("commit")).await.unwrap();
    assert!(rows(&client, "select * from t").await.is_empty());
}

#[tokio::test]
async fn a_commit_that_fails_rolls_back() {
    let engine = Engine::start().await.unwrap();
    let mut bare = Bare::connect(&engine).await;
    bare.until_ready().await;
    bare.query("create table a (id integer primary key)").await;
    bare.query("create table b (a int references a deferrable initially deferred)").await;
    assert_eq!(bare.query("begin; insert into b values (7)").await, "C BEGIN C INSERT 0 1 ZT");
    assert_eq!(bare.query("commit").await, "E 23503 ZI");
    assert_eq!(bare.query("select * from b").await, "T C SELECT 0 ZI");
    assert_eq!(bare.query("begin").await, "C BEGIN ZT");
}

#[tokio::test]
async fn a_reader_does_not_wait_for_a_writer_and_sees_nothing_before_its_commit() {
    let engine = Engine::start().await.unwrap();
    let (writer, reader) = (connect(&engine).await, connect(&engine).await);
    soon(writer.batch_execute("create table t (a int); begin; insert into t values (1)")).await.unwrap();
    assert!(rows(&reader, "select * from t").await.is_empty());
    soon(writer.batch_execute("commit")).await.unwrap();
    assert_eq!(rows(&reader, "select * from t").await, ["1"]);
}

#[tokio::test]
async fn a_writer_waits_for_a_writer() {
    let engine = Engine::start().await.unwrap();
    let (first, second) = (connect(&engine).await, connect(&engine).await);
    soon(first.batch_execute("create table t (a int); begin; insert into t values (1)")).await.unwrap();
    let mut waiting = std::pin::pin!(second.batch_execute("insert into t values (2)"));
    // The first answers while the second waits; it can't have gone by.
    std::future::poll_fn(|cx| {
        assert!(waiting.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    assert_eq!(rows(&first, "select a from t").await, ["1"]);
    soon(first.batch_execute("commit")).await.unwrap();
    soon(waiting).await.unwrap();
    assert_eq!(rows(&first, "select a from t order by a").await, ["1", "2"]);
}

#[tokio::test]
async fn a_transaction_that_writes_after_others_did_cannot_be_serialized() {
    let engine = Engine::start().await.unwrap();
    let (first, second) = (connect(&engine).await, connect(&engine).await);
    soon(first.batch_execute("create table t (a int); begin; select * from t")).await.unwrap();
    soon(second.batch_execute("insert into t values (2)")).await.unwrap();
    assert_eq!(state(&first, "insert into t values (1)").await, "40001");
    soon(first.batch_execute("rollback; insert into t values (1)")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_gone_is_rolled_back() {
    let engine = Engine::start().await.unwrap();
    let (first, second) = (connect(&engine).await, connect(&engine).await);
    soon(first.batch_execute("create table t (a int); begin; insert into t values (1)")).await.unwrap();
    drop(first);
    // Waits for the lock until the first's transaction is gone.
    soon(second.batch_execute("insert into t values (2)")).await.unwrap();
    assert_eq!(rows(&second, "select a from t").await, ["2"]);
}
