//! What happens in the three acceptance scenarios, in words that a reviewer can read and approve.

use std::path::Path;

use sim::cast::pod::last_call;
use sim::cast::run::{self, EngineName};
use sim::scenario;
use sim::story::{Story, timeline};

fn timeline(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/acceptance").join(name);
    let file = scenario::load(&path).expect("the acceptance scenarios are good files");
    let run = run::run(&last_call(), &file.scenario, &run::settings(&file.scenario), 1, EngineName::TurmoilNet);
    timeline::whole(&Story::of(&run.history, &run.settings))
}

#[test]
fn idle_clients_cannot_hold_the_pod() {
    insta::assert_snapshot!(timeline("idle-clients-cannot-hold-the-pod.toml"));
}

#[test]
fn long_query_is_not_cut() {
    insta::assert_snapshot!(timeline("long-query-is-not-cut.toml"));
}

#[test]
fn transaction_opened_during_the_drain_commits() {
    insta::assert_snapshot!(timeline("transaction-opened-during-the-drain-commits.toml"));
}
