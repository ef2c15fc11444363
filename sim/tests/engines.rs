//! Files of every kind on every engine: each judges those that it can, and what they show is the same.

use std::path::Path;
use std::time::Duration;

use sim::cast::pod::last_call;
use sim::cast::run::EngineName;
use sim::scenario;
use sim::suite::{Asked, Scope, Seeds};
use sim::{across, report};

/// What they need of a network grows from one to the next; the last two are more than every engine can do.
const FILES: [&str; 7] = [
    "acceptance/idle-clients-cannot-hold-the-pod.toml",
    "acceptance/an-open-transaction-is-not-idle.toml",
    "hazards/h07-fatal-survives-unread-bytes.toml",
    "incidents/short-query-at-the-wall.toml",
    "incidents/lame-duck-races.toml",
    "found/a-slow-link-is-waited-for.toml",
    "found/a-worker-out-of-reach-is-lost.toml",
];

#[test]
fn files_of_every_kind_show_the_same_on_every_engine_that_can_play_them() {
    // As a user at the root would name them.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the workspace is there");
    let load = |file: &&str| scenario::load(&Path::new("scenarios").join(file)).expect("it is a good file");
    let files: Vec<_> = FILES.iter().map(load).collect();
    let sim = Path::new(env!("CARGO_BIN_EXE_sim"));
    let another = |file: &_, seed, engine, shows| sim::another_process::log(sim, file, seed, engine, shows);
    let asked = Asked { seeds: Some(Seeds::Only(1)), engine: EngineName::default(), scope: Scope::Files };
    let across = across::judge(&last_call(), &files, asked, &another, || {});
    let text = report::across::text(&across, Duration::ZERO, false);
    assert!(report::across::is_green(&across), "{text}");
    let judged = |on: &across::OnEngine| on.lines.iter().filter(|line| line.judgement.seeds > 0).count();
    assert_eq!(across.engines.iter().map(judged).collect::<Vec<_>>(), [7, 5, 7], "{text}");
}
