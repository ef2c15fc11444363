//! Rollouts drawn at random: several pods, applications with pools, and what befalls a deployment.
//!
//! Only what a right control plane can come through is drawn: nodes learn of a deletion before the lame duck is over and before
//! anybody is due, a pod is left for those who are let go, and the termination grace lasts for all that runs.

use std::fmt::Write;
use std::time::Duration;

use super::Dice;
use crate::scenario::{Action, PoolKind, Span};

/// What a job is.
const JOBS: [&str; 6] = [
    "{ query = \"5ms\" }",
    "{ query = \"1s\", protocol = \"extended\" }",
    "{ query = \"20ms\", rows = 50, row_bytes = 1000 }",
    "{ repeat = 1, steps = [\"begin\", { insert = 1 }, \"commit\"] }",
    "{ repeat = 1, steps = [\"begin\", { insert = 1 }, { think = \"3s\" }, { insert = 1 }, \"commit\"] }",
    "{ repeat = 1, steps = [\"begin\", { query = \"2s\" }, \"rollback\"] }",
];

pub(super) fn scenario(dice: &mut Dice, seed: u64) -> String {
    let mut text = format!("#:schema ../scenario.schema.json\ntitle = \"Seed {seed} of the explorer\"\n");
    let say = |text: &mut String, line: String| writeln!(text, "{line}").expect("a String takes everything");
    let replicas = 2 + dice.below(3);
    let lag = Span(dice.millis(3_000));
    let lame_duck = lag.0 + Duration::from_millis(500) + dice.millis(3_000);
    let idle_grace = 2 * lame_duck + dice.millis(10_000);
    say(&mut text, "[pod]\ntermination_grace = \"20m\"".to_owned());
    say(&mut text, format!("readiness_period = \"{}s\"", 1 + dice.below(3)));
    say(&mut text, format!("[deployment]\nreplicas = {replicas}"));
    let (surge, unavailable) = dice.one_of(&[(1, 0), (1, 1), (0, 1), (2, 0)]);
    say(&mut text, format!("max_surge = {surge}\nmax_unavailable = {unavailable}"));
    say(&mut text, format!("startup = \"{}\"", Span(dice.millis(4_000))));
    if dice.once_in(4) {
        say(&mut text, "pod_replacement_policy = \"TerminationComplete\"".to_owned());
    }
    if dice.once_in(3) {
        say(&mut text, format!("pre_stop_sleep = \"{}\"", Span(dice.millis(8_000))));
        say(&mut text, format!("pre_stop_drain = {}", dice.once_in(2)));
    }
    say(&mut text, "min_available = 1".to_owned());
    let affinity = dice.one_of(&["None", "ClientIP"]);
    say(&mut text, format!("[service]\nendpoint_lag = \"{lag}\"\nsession_affinity = \"{affinity}\""));
    say(&mut text, format!("[drain]\nlame_duck = \"{}\"\nidle_grace = \"{}\"", Span(lame_duck), Span(idle_grace)));
    for number in 0..=dice.below(2) {
        say(&mut text, format!("[[application]]\nname = \"app-{number}\"\npool = \"{}\"", dice.one_of(&PoolKind::ALL)));
        let (instances, size, callers) = (1 + dice.below(3), 1 + dice.below(8), 1 + dice.below(8));
        say(&mut text, format!("instances = {instances}\nsize = {size}\ncallers = {callers}"));
        say(
            &mut text,
            format!("think = \"{}ms\"\nretries = {}\nuntil = \"1m30s\"", 20 + dice.below(2_000), dice.below(3)),
        );
        say(&mut text, format!("jobs = [{}]", dice.some_of(&JOBS).join(", ")));
        if dice.once_in(3) {
            say(&mut text, format!("max_lifetime = \"{}s\"", 2 + dice.below(20)));
        }
    }
    if dice.once_in(2) {
        let takes = Span(dice.millis(60_000));
        let steps = format!("[\"connect\", {{ query = \"{takes}\" }}, {{ idle = \"forever\" }}]");
        let count = 1 + dice.below(10);
        say(
            &mut text,
            format!("[[client]]\nname = \"idler\"\ncount = {count}\nsteps = {steps}\nreconnect = {{ retries = 50 }}"),
        );
    }
    let mut at = Duration::from_secs(5) + dice.millis(20_000);
    for nth in 0..=dice.below(3) {
        // What begins with a crash has nobody who is let go.
        let action = if nth == 0 { Action::Rollout } else { event(dice) };
        say(&mut text, format!("[[event]]\nat = \"{}\"\ndo = \"{action}\"", Span(at)));
        match action {
            Action::Scale => say(&mut text, format!("replicas = {}", 2 + dice.below(3))),
            Action::NodeDrain => say(&mut text, format!("pods = {}", 1 + dice.below(replicas))),
            _ => {}
        }
        at += dice.millis(40_000);
    }
    text
}

fn event(dice: &mut Dice) -> Action {
    dice.one_of(&[Action::Rollout, Action::Scale, Action::NodeDrain, Action::PodCrash])
}
