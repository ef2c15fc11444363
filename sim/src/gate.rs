//! The verdict on a scenario file: does what it promises hold, and could it have failed?
//!
//! A file passes if every promise of the contract and every expectation of the file holds under its own settings, if its run
//! is the same in another process, and if under each of its `fails_under` exactly the promises named there break. A file
//! that can't fail proves nothing, so the last is as much a condition as the first.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::oracle::{Judged, check_expectations, check_promises, same_seed_same_run};
use crate::run::{self, EngineName, Run};
use crate::scenario::{Expect, FailsUnder, Promise, Scenario, ScenarioFile};
use crate::timeline;

/// What came out for one file.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The file's path, as it was given.
    pub file: String,
    /// Its title.
    pub title: String,
    /// Pass, fail, or not supported.
    pub verdict: Verdict,
    /// How long the run under the file's own settings was, in simulated time.
    pub simulated: Duration,
    /// How many promises were checked.
    pub promises: usize,
    /// How many expectations of its own the file has.
    pub expectations: usize,
    /// How many `fails_under` it has.
    pub fails_under: usize,
}

/// The verdict on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything holds.
    Pass,
    /// Something does not: at least one.
    Fail(Vec<Failure>),
    /// The engine can't do what the file needs: these. Never counted as passed.
    NotSupported(Vec<&'static str>),
}

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What broke: the promise's name, the expectation's key, or `fails_under`.
    pub broke: String,
    /// One sentence.
    pub what: String,
    /// The few events that show it, one a line.
    pub evidence: String,
}

/// How a run's log in another process is had: given the file, the seed and the engine.
pub type Elsewhere<'a> = dyn Fn(&ScenarioFile, u64, EngineName) -> Result<String, String> + Sync + 'a;

/// Runs a file and judges it. `elsewhere` runs the same in another process and returns its event log.
pub fn judge(file: &ScenarioFile, seed: u64, engine: EngineName, elsewhere: &Elsewhere<'_>) -> Judgement {
    let scenario = &file.scenario;
    let mut judgement = Judgement {
        file: file.path.display().to_string(),
        title: scenario.title.clone(),
        verdict: Verdict::Pass,
        simulated: Duration::ZERO,
        promises: Promise::ALL.len(),
        expectations: expectations(scenario),
        fails_under: scenario.fails_under.len(),
    };
    let lacks = run::lacks(scenario, engine);
    if !lacks.is_empty() {
        judgement.verdict = Verdict::NotSupported(lacks);
        return judgement;
    }
    let run = run::run(scenario, &run::settings(scenario), seed, engine);
    judgement.simulated = run.simulated();
    let mut failures = failures_of(scenario, &run);
    failures.extend(differences(file, &run, seed, engine, elsewhere));
    for other in &scenario.fails_under {
        failures.extend(survives(scenario, other, seed, engine));
    }
    if !failures.is_empty() {
        judgement.verdict = Verdict::Fail(failures);
    }
    judgement
}

/// What does not hold in the run of a file with this seed, under its own settings. No more than that is asked: not whether
/// the run is the same elsewhere, nor whether the file can fail.
pub fn broken(file: &ScenarioFile, seed: u64, engine: EngineName) -> Vec<Failure> {
    let scenario = &file.scenario;
    failures_of(scenario, &run::run(scenario, &run::settings(scenario), seed, engine))
}

/// How many things the file expects.
fn expectations(scenario: &Scenario) -> usize {
    let Expect { exit, timeline, client } = &scenario.expect;
    let of_exit = exit.iter().flat_map(|exit| [exit.within.is_some(), exit.after.is_some(), exit.code.is_some()]);
    let of_clients = client.values().flat_map(|client| {
        [
            client.answered.is_some(),
            client.committed.is_some(),
            client.ends.is_some(),
            client.between.is_some(),
            client.errors.is_some(),
        ]
    });
    of_exit.chain(of_clients).chain([!timeline.is_empty()]).filter(|expected| *expected).count()
}

/// What does not hold in a run under the file's own settings.
fn failures_of(scenario: &Scenario, run: &Run) -> Vec<Failure> {
    let judged = judged(run);
    let broken = check_promises(&judged).into_iter().map(|violation| Failure {
        broke: violation.promise.to_string(),
        what: violation.what,
        evidence: timeline::of(&run.history, &violation.evidence),
    });
    let unmet = check_expectations(scenario, &judged).into_iter().map(|unmet| Failure {
        broke: format!("expect.{}", unmet.key),
        what: unmet.what,
        evidence: timeline::of(&run.history, &unmet.evidence),
    });
    broken.chain(unmet).collect()
}

/// Whether the same run in another process came out differently.
fn differences(
    file: &ScenarioFile,
    run: &Run,
    seed: u64,
    engine: EngineName,
    elsewhere: &Elsewhere<'_>,
) -> Vec<Failure> {
    let failure = |what| Failure { broke: Promise::SameSeedSameRun.to_string(), what, evidence: String::new() };
    match elsewhere(file, seed, engine) {
        Ok(log) => {
            let differ = same_seed_same_run::check(&run.history.to_lines(), &log);
            differ.into_iter().map(|violation| failure(violation.what)).collect()
        }
        Err(error) => vec![failure(format!("the run in another process gave no log: {error}"))],
    }
}

/// What is wrong with what breaks under other settings, if anything.
fn survives(scenario: &Scenario, other: &FailsUnder, seed: u64, engine: EngineName) -> Option<Failure> {
    let mut settings = run::settings(scenario);
    other.settings.apply(&mut settings);
    let run = run::run(scenario, &settings, seed, engine);
    let violations = check_promises(&judged(&run));
    let broken: BTreeSet<Promise> = violations.iter().map(|violation| violation.promise).collect();
    let named: BTreeSet<Promise> = other.breaks.iter().copied().collect();
    if broken == named {
        return None;
    }
    let evidence: Vec<String> = violations
        .iter()
        .filter(|violation| !named.contains(&violation.promise))
        .map(|violation| format!("{violation}\n{}", timeline::of(&run.history, &violation.evidence)))
        .collect();
    Some(Failure {
        broke: "fails_under".to_owned(),
        what: format!(
            "under {} exactly {} should break, and what breaks is {}",
            other.settings,
            list(&named),
            list(&broken)
        ),
        evidence: evidence.join("\n"),
    })
}

fn list(promises: &BTreeSet<Promise>) -> String {
    if promises.is_empty() {
        return "nothing".to_owned();
    }
    promises.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn judged(run: &Run) -> Judged<'_> {
    Judged::new(&run.history, &run.settings, run.termination_grace, run.resolution)
}
