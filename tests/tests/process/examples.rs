//! The examples of lastcall-core drain as `lastcall` does: somebody else's loop around the same values keeps both promises.

use futures_util::future::join_all;
use process_tests::client::Client;
use process_tests::control_plane::Signal;
use process_tests::example::{self, Example};
use process_tests::postgres::postgres;
use process_tests::run;
use tokio_postgres::NoTls;

use super::{ADMIN_SHUTDOWN, assert_exit, millis, told};

/// Workers of the example `messages`, whoever many its clients are.
const WORKERS: usize = 4;

macro_rules! each_example {
    ($($example:ident: $name:literal)*) => {$(
        mod $example {
            #[test]
            fn idle_clients_are_let_go_within_the_grace_and_late_ones_not_let_in() {
                super::idle($name);
            }

            #[test]
            fn a_statement_longer_than_the_grace_is_answered() {
                super::running($name);
            }

            #[test]
            fn transactions_opened_before_and_during_the_drain_commit() {
                super::transaction($name);
            }

            #[test]
            fn a_cancel_request_ends_what_runs_while_draining_too() {
                super::cancel($name);
            }
        }
    )*};
}

each_example! {
    of_tokio: "tokio"
    of_blocking: "blocking"
    of_messages: "messages"
}

fn idle(name: &str) {
    let program = example::built(name);
    run(async {
        let grace = millis(2000);
        let mut proxy = Example::start(&program, &["lame_duck=200ms", "idle_grace=2s"]).await;
        let mut clients = connect(&proxy, 12).await;
        for client in &clients {
            client.simple_query("select 1").await.unwrap();
        }

        proxy.signal(Signal::TERM);
        proxy.until(millis(500)).await;
        let late = Client::try_connect(proxy.port, "late").await.map(|_| ()).unwrap_err();
        let proxy_ref = &proxy;
        let ends = join_all(clients.iter_mut().map(|client| async move {
            let fatal = client.fatal().await;
            (told(&fatal).0.to_owned(), told(&fatal).1.to_owned(), proxy_ref.since_signal())
        }))
        .await;
        let exit = proxy.exit().await;

        assert_eq!(late.as_db_error().map(|late| late.code().code()), Some("57P03"), "{late:?}");
        for (code, message, after) in &ends {
            assert_eq!((code.as_str(), message.as_str()), ADMIN_SHUTDOWN);
            assert!(*after >= grace / 2, "let go before the second half of the grace: {after:?}");
        }
        assert_exit(exit, 0, grace);
    });
}

fn running(name: &str) {
    let program = example::built(name);
    run(async {
        let mut proxy = Example::start(&program, &["lame_duck=200ms", "idle_grace=1s"]).await;
        let mut client = proxy.connect("running").await;
        let statement = format!("select 'the row of {name}' from pg_sleep(4)");
        let (row, ()) = tokio::join!(client.value(&statement), async {
            postgres().wait_until_running(&statement, 1).await;
            proxy.signal(Signal::TERM);
        });
        let answered = proxy.since_signal();
        let fatal = client.fatal().await;
        let exit = proxy.exit().await;

        assert_eq!(row.unwrap(), format!("the row of {name}"));
        assert!(answered > millis(2500), "it did not run to its end: {answered:?}");
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(exit, 0, answered);
    });
}

fn transaction(name: &str) {
    let program = example::built(name);
    run(async {
        let grace = millis(1500);
        let mut proxy = Example::start(&program, &["lame_duck=200ms", "idle_grace=1500ms", "pacing=none"]).await;
        let (direct, table) = (postgres().connect("direct").await, format!("drained_by_{name}"));
        direct.batch_execute(&format!("create table {table} (id int primary key)")).await.unwrap();
        let insert = |id: i32| format!("insert into {table} values ({id})");
        let mut clients = connect(&proxy, 2).await;
        clients[0].batch_execute("begin").await.unwrap();
        clients[0].batch_execute(&insert(1)).await.unwrap();

        proxy.signal(Signal::TERM);
        proxy.until(millis(400)).await;
        clients[1].batch_execute("begin").await.unwrap();
        clients[1].batch_execute(&insert(2)).await.unwrap();
        proxy.until(grace + millis(500)).await;
        for (number, client) in clients.iter().enumerate() {
            client.batch_execute(&insert(number as i32 + 3)).await.unwrap();
            client.batch_execute("commit").await.unwrap();
        }
        let committed = proxy.since_signal();
        let fatals = join_all(clients.iter_mut().map(Client::fatal)).await;
        let exit = proxy.exit().await;

        let rows = direct.query(&format!("select id from {table} order by id"), &[]).await.unwrap();
        let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
        assert!(fatals.iter().all(|fatal| told(fatal) == ADMIN_SHUTDOWN), "{fatals:?}");
        assert_exit(exit, 0, committed);
    });
}

fn cancel(name: &str) {
    let program = example::built(name);
    run(async {
        let mut proxy = Example::start(&program, &["lame_duck=200ms", "idle_grace=1s"]).await;
        let mut client = proxy.connect("cancelled").await;
        let (statement, token) = (format!("select 'nothing of {name}' from pg_sleep(60)"), client.cancel_token());
        let (answer, ()) = tokio::join!(client.value(&statement), async {
            postgres().wait_until_running(&statement, 1).await;
            proxy.signal(Signal::TERM);
            proxy.until(millis(1500)).await;
            token.cancel_query(NoTls).await.unwrap();
        });
        let answered = proxy.since_signal();
        let fatal = client.fatal().await;
        let exit = proxy.exit().await;

        let error = answer.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_exit(exit, 0, answered);
    });
}

#[test]
fn a_pool_gives_its_few_workers_to_many_clients_in_turn() {
    let program = example::built("messages");
    run(async {
        let proxy = Example::start(&program, &[]).await;
        let clients = connect(&proxy, 5 * WORKERS).await;
        // All at once, so most of them wait for a worker.
        let statement = "select pg_backend_pid() from pg_sleep(0.2)";
        let mut workers = join_all(clients.iter().map(|client| client.value(statement))).await;
        workers.sort_by_key(|worker| worker.as_ref().unwrap().clone());
        workers.dedup_by_key(|worker| worker.as_ref().unwrap().clone());
        assert_eq!(workers.len(), WORKERS, "{workers:?}");
    });
}

#[test]
fn what_waits_for_a_worker_of_the_pool_at_its_due_time_is_not_executed_and_told_so() {
    let program = example::built("messages");
    run(async {
        let settings = ["lame_duck=200ms", "idle_grace=1s", "pacing=none"];
        let mut proxy = Example::start(&program, &settings).await;
        postgres().connect("direct").await.batch_execute("create table waits_in_the_pool ()").await.unwrap();
        let (busy, mut waiting) = (connect(&proxy, WORKERS).await, proxy.connect("waiting").await);
        let statement = "select 'busy' from pg_sleep(4)";
        let (rows, answer) = tokio::join!(join_all(busy.iter().map(|client| client.value(statement))), async {
            postgres().wait_until_running(statement, WORKERS).await;
            proxy.signal(Signal::TERM);
            waiting.batch_execute("drop table waits_in_the_pool").await
        });
        let (answered, fatal) = (proxy.since_signal(), answer.unwrap_err());
        let exit = {
            drop(busy);
            proxy.exit().await
        };

        assert!(rows.iter().all(|row| row.as_ref().is_ok_and(|row| row == "busy")), "{rows:?}");
        let fatal = match fatal.as_db_error() {
            Some(fatal) => fatal.clone(),
            None => waiting.fatal().await,
        };
        assert_eq!(told(&fatal), ADMIN_SHUTDOWN);
        assert_eq!(fatal.detail(), Some("The last request was not executed."));
        postgres().connect("direct").await.batch_execute("drop table waits_in_the_pool").await.unwrap();
        assert_exit(exit, 0, answered);
    });
}

async fn connect(proxy: &Example, count: usize) -> Vec<Client> {
    join_all((0..count).map(|number| Client::connect(proxy.port, ["even", "odd"][number % 2]))).await
}
