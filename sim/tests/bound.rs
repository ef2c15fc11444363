//! The bound is tight: for each of its terms there is a scenario whose drain comes within 5 % of it.
//!
//! A bound that no run comes near could hide a drain that waits twice as long as it should.

use sim::cast::pod::{Report, last_call};
use sim::cast::run::{self, EngineName};
use sim::judge::{Judged, bounded_exit, check_promises};
use sim::scenario::{self, Scenario};

/// What a drain takes, as a part of what it may take, is to be no less.
const TIGHT: f64 = 0.95;

fn comes_near_its_bound(name: &str, text: &str) {
    let scenario: Scenario = match scenario::parse(name, &format!("title = \"{name}\"\n{text}\n{SIGNAL}{EXPECT}")) {
        Ok(scenario) => scenario,
        Err(bad) => panic!("{}", bad.render(false)),
    };
    let settings = run::settings(&scenario);
    let run = run::run(&last_call(), &scenario, &settings, 1, EngineName::default());
    let judged =
        Judged::new(&Report::ALL, &run.history, &settings, run.termination_grace, run.resolution).of_file(&scenario);
    let broken: Vec<String> = check_promises(&judged).iter().map(ToString::to_string).collect();
    assert_eq!(broken, [""; 0], "{name}");
    let (signal, exit) = judged.drained().expect("bounded-exit holds");
    let bound = bounded_exit::bound(&judged).expect("there is a signal");
    let part = (exit - signal).as_secs_f64() / (bound.at - signal).as_secs_f64();
    assert!((TIGHT..=1.0).contains(&part), "{name}: {:.1} % of the bound: {}", part * 100.0, bound.why);
}

const EXPECT: &str = "[expect]\ntimeline = [\"signal\"]\n";

const SIGNAL: &str = r#"
[[event]]
at = "1m"
do = "sigterm"
"#;

#[test]
fn idle_grace_and_close_linger_are_used_up_by_an_idle_client_that_does_not_read_its_fatal() {
    comes_near_its_bound(
        "idle",
        r#"
        drain = { pacing = "none" }
        [[client]]
        name  = "idle"
        steps = ["connect", { read = "stop" }, { idle = "forever" }]
        "#,
    );
}

#[test]
fn transaction_grace_is_used_up_behind_the_last_statement_of_a_transaction() {
    comes_near_its_bound(
        "transaction",
        r#"
        [[client]]
        name  = "thinks"
        steps = ["connect", "begin", { query = "10m" }, { idle = "forever" }]
        "#,
    );
}

#[test]
fn stall_grace_is_used_up_behind_the_last_byte_of_a_copy() {
    comes_near_its_bound(
        "copy",
        r#"
        drain = { transaction_grace = "1m" }
        [[client]]
        name  = "silent"
        steps = ["connect", { copy_in = 100, every = "10s", stops_after = 30 }]
        "#,
    );
}

#[test]
fn stall_grace_is_used_up_behind_the_last_byte_that_a_reader_took() {
    comes_near_its_bound(
        "reader",
        r#"
        drain = { transaction_grace = "1m" }
        [[client]]
        name  = "stops"
        steps = [
          "connect", { read = "10KB/s" }, { query = "1s", rows = 20000, row_bytes = 1000, wait = false },
          { think = "5m" }, { read = "stop" }, { idle = "forever" },
        ]
        "#,
    );
}

#[test]
fn stall_grace_is_used_up_by_a_batch_without_its_sync() {
    comes_near_its_bound(
        "batch",
        r#"
        drain = { transaction_grace = "1m" }
        [[client]]
        name  = "silent"
        steps = ["connect", { execute = "5m" }, "flush", { idle = "forever" }]
        "#,
    );
}

#[test]
fn worker_queue_timeout_is_used_up_by_a_session_that_came_at_the_end_of_the_lame_duck() {
    comes_near_its_bound(
        "queue",
        r#"
        drain = { worker_queue_timeout = "10m" }
        [[client]]
        name  = "waits"
        start = "64900ms"
        steps = ["connect"]
        [[event]]
        at = "64s"
        do = "partition"
        between = ["pod", "worker"]
        "#,
    );
}

#[test]
fn a_wall_is_reached_by_a_statement() {
    comes_near_its_bound(
        "wall",
        r#"
        drain = { handover_drain_timeout = "15m" }
        [[client]]
        name  = "runs"
        steps = ["connect", { query = "1h" }]
        "#,
    );
}
