//! A driver's script that dies at each point of a batch: its backend is gone, with its transaction and its locks.

use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::raw::{self, Raw};
use process_tests::run;
use tokio::time::sleep;

use super::{SOON, assert_exit, millis};

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// Its kernel closes its connection.
    Fin,
    /// It had not read everything.
    Reset,
}

/// What every prefix of a batch says, by the name of its last message. As psycopg's `executemany`, without a Flush and with
/// one; the last but one is the whole, and the last an Execute that has arrived in part.
fn prefixes(table: &str, application: &str) -> Vec<(&'static str, Vec<u8>)> {
    let insert = format!("insert into {table} values ('{application}')");
    let (mut prefixes, mut said) = (vec![("nothing", Vec::new())], Vec::new());
    for (name, message) in [
        ("parse", raw::parse(&insert)),
        ("bind", raw::bind()),
        ("describe", raw::describe()),
        ("execute", raw::execute()),
        ("second-bind", raw::bind()),
        ("second-execute", raw::execute()),
        ("flush", raw::flush()),
        ("sync", raw::sync()),
    ] {
        said.extend(message);
        prefixes.push((name, said.clone()));
    }
    let torn = [raw::parse(&insert), raw::bind(), raw::execute()[..3].to_vec()].concat();
    prefixes.push(("torn", torn));
    prefixes
}

/// A client for each prefix, death, and place in or outside of a transaction: it has said its prefix, and will die.
async fn clients(port: u16, drain: &str) -> Vec<(Raw, Death)> {
    let mut clients = Vec::new();
    for death in [Death::Fin, Death::Reset] {
        for place in ["outside", "inside"] {
            for (prefix, said) in prefixes("batch", &format!("batch-{drain}-{death:?}-{place}")) {
                let mut client = Raw::session(port, &format!("batch-{drain}-{death:?}-{place}-{prefix}")).await;
                if place == "inside" {
                    client.send(&raw::query("begin; insert into batch values ('inside')")).await;
                    while client.messages.next().await.unwrap().expect("an answer").tag != b'Z' {}
                }
                client.send(&said).await;
                clients.push((client, death));
            }
        }
    }
    clients
}

fn die((client, death): (Raw, Death)) {
    match death {
        Death::Fin => drop(client),
        Death::Reset => client.reset(),
    }
}

/// Nobody who has died has left anything but what was committed: by its Sync outside of a transaction, two rows. A reset may
/// have been faster than that.
async fn nothing_is_left(drain: &str) {
    postgres().wait_until_gone(SOON, &format!("batch-{drain}-")).await;
    let observer = postgres().connect("observer").await;
    let rows = format!("select count(*) from batch where text like 'batch-{drain}-Fin-%'");
    let others = "select count(*) from batch where text = 'inside'";
    let locks = "select count(*) from pg_locks join pg_class on pg_class.oid = relation where relname = 'batch'";
    assert_eq!(observer.value(&rows).await.unwrap(), "2");
    assert_eq!(observer.value(others).await.unwrap(), "0");
    assert_eq!(observer.value(locks).await.unwrap(), "0");
}

#[test]
fn a_script_that_dies_at_any_point_of_a_batch_leaves_no_backend() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table batch (text text)").await.unwrap();
        // No clock helps.
        let patient = ["--stall-grace", "10m", "--transaction-grace", "10m", "--lame-duck", "0"];

        let plane = ControlPlane::start(&patient).await;
        let serving = clients(plane.port, "serving").await;
        sleep(millis(300)).await;
        serving.into_iter().for_each(die);
        nothing_is_left("serving").await;
        drop(plane);

        let mut plane = ControlPlane::start(&[&patient[..], &["--idle-grace", "10m"]].concat()).await;
        let draining = clients(plane.port, "draining").await;
        plane.drain().await;
        sleep(millis(300)).await;
        draining.into_iter().for_each(die);
        nothing_is_left("draining").await;
        assert_exit(plane.exit().await, 0, SOON);

        let mut plane = ControlPlane::start(&[&patient[..], &["--idle-grace", "200ms"]].concat()).await;
        let due = clients(plane.port, "due").await;
        plane.drain().await;
        plane.until(millis(600)).await;
        due.into_iter().for_each(die);
        nothing_is_left("due").await;
        assert_exit(plane.exit().await, 0, millis(600) + SOON);
    });
}

#[test]
fn a_script_that_dies_the_moment_it_has_said_something_leaves_no_backend() {
    run(async {
        let setup = postgres().connect("setup").await;
        setup.batch_execute("create table batch_at_once (text text)").await.unwrap();
        let plane = ControlPlane::start(&["--stall-grace", "10m"]).await;
        for death in [Death::Fin, Death::Reset] {
            for (prefix, said) in prefixes("batch_at_once", "at-once") {
                let mut client = Raw::session(plane.port, &format!("at-once-{death:?}-{prefix}")).await;
                client.send(&said).await;
                die((client, death));
            }
        }
        postgres().wait_until_gone(SOON, "at-once-").await;
    });
}
