//! The harness of the whole-process tests: the real binary, real sockets, real clients, a real PostgreSQL.
//!
//! The simulator shows the promises under simulated time, with every fault that it can think of. What it can't show is
//! that the simulated network, the simulated clients and the simulated signals behave like the real ones. That is shown
//! here, with few cases, short graces and the machine's own clock.
//!
//! | module | stands for |
//! |---|---|
//! | [`postgres`] | the worker: one PostgreSQL per test process, made for it and gone with it |
//! | [`control_plane`] | the binary `lastcall` as a process: its flags, and what its log says |
//! | [`example`] | the examples of lastcall-core as processes |
//! | [`program`] | what both are: a program that is built and started, its log, its signals, its exit |
//! | [`client`] | a driver: tokio-postgres |
//! | [`encryption`] | TLS for that driver |
//! | [`psql`] | the programs that people use: `psql`, `pgbench`, `pg_dump` and their like |
//! | [`script`] | drivers of other languages, in scripts that the test talks to |
//! | [`raw`] | clients that no driver would be: they read slowly, never, or send without end |
//! | [`fake_worker`] | a worker that does what no PostgreSQL would, when the test wants it |
//! | [`http`] | the kubelet's probes |
//! | [`browser`] | who looks at a page of `sim report`: Chromium |
//! | [`simulator`] | the program `sim` |
//! | [`machine`] | the client's machine, which can vanish |
//! | [`certificates`] | an authority of the tests' own, and what it signs |
//! | [`watchdog`] | nothing started here outlives the test process |
//!
//! Whatever is missing or takes too long fails the test, with the process's log; nothing is skipped.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests run on the real machine")]

pub mod browser;
pub mod certificates;
pub mod client;
pub mod control_plane;
pub mod encryption;
pub mod example;
pub mod fake_worker;
pub mod http;
pub mod machine;
pub mod postgres;
pub mod program;
pub mod psql;
pub mod raw;
pub mod script;
pub mod simulator;
pub mod watchdog;

use std::future::Future;
use std::time::{Duration, Instant};

/// No test takes longer, however slow the machine: what does hangs.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two looks at something that will change soon.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How much later than promised something may be seen to happen: other processes want the processors too. Short beside
/// what happens where a promise is broken, which is nothing at all for a long time.
pub const SLACK: Duration = Duration::from_secs(3);

/// Runs a test to its end, and fails it if it has none.
///
/// On one thread, the test's own: what is printed when it fails is then printed for this test.
///
/// # Panics
/// If there is no binary or no PostgreSQL to test with, or the test takes too long.
pub fn run(test: impl Future<Output = ()>) {
    // Made by the first test for all of them, and however long that takes, it is not the test's time.
    postgres::postgres();
    run_within(TEST_LIMIT, test);
}

/// The same for a test that has a PostgreSQL of its own, and another limit.
///
/// # Panics
/// If there is no binary to test with, or the test takes longer.
pub fn run_within(limit: Duration, test: impl Future<Output = ()>) {
    control_plane::binary();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(async {
        let done = tokio::time::timeout(limit, test).await.is_ok();
        assert!(done, "the test hangs");
    });
}

/// Waits for `work`, and fails the test with `what` if it takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// Looks again and again until `look` finds something, and fails the test with `what` after `limit`.
pub async fn eventually<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
