//! The verdict on a scenario file: does what it promises hold, and could it have failed?
//!
//! A file passes if every promise of the contract and every expectation of the file holds under its own settings, if its run
//! is the same in another process, and if under each of its `fails_under` exactly the promises named there break. A file
//! that can't fail proves nothing, so the last is as much a condition as the first, on every engine that can tell.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lastcall_core::Settings;

use crate::cast::history::History;
use crate::cast::pod::{Pod, Report};
use crate::cast::run::{self, EngineName, Run};
use crate::judge::compare::Facts;
use crate::judge::coverage::{Coverage, Mark};
use crate::judge::occasions::Occasions;
use crate::judge::whole::{self, Counts, Shown};
use crate::judge::{Judged, same_seed_same_run};
use crate::scenario::{Expect, FailsUnder, Promise, Scenario, ScenarioFile};
use crate::stage::Ending;
use crate::story::holders::Holder;
use crate::suite::{self, Asked, Scope, Seeds};

/// What a run must tell apart to show what an old policy breaks.
const EXACT: Duration = Duration::from_millis(1);

/// What came out for one file.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The file's path, as it was given.
    pub file: String,
    /// Its title.
    pub title: String,
    /// Pass, fail, or not supported.
    pub verdict: Verdict,
    /// Whether the file has several pods.
    pub several: bool,
    /// How many seeds it was run under.
    pub seeds: usize,
    /// How long the longest run under the file's own settings was, in simulated time.
    pub simulated: Duration,
    /// How many promises were judged.
    pub promises: usize,
    /// Those that could not be, or not wholly, and did not break: and the reports that the pod does not give.
    pub not_judged: Vec<(Promise, Vec<Report>)>,
    /// How many expectations of its own the file has.
    pub expectations: usize,
    /// How many `fails_under` it was put to.
    pub fails_under: usize,
    /// The sabotages that it catches.
    pub catches: Vec<String>,
    /// What its runs reached.
    pub coverage: Coverage,
    /// Who held the pod in the first of them.
    pub holders: Vec<Holder>,
    /// What each of them shows, with its seed.
    pub facts: Vec<(u64, Facts)>,
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
    /// The seed of the run that shows it.
    pub seed: u64,
    /// Under how many more seeds the same broke.
    pub more_seeds: usize,
}

/// One run of a file under its own settings, judged.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Everything drawn by chance was drawn from this.
    pub seed: u64,
    /// How long it was, in simulated time.
    pub simulated: Duration,
    /// How many events it had.
    pub events: usize,
    /// Whether it came to its end, and was not stopped.
    pub ended: bool,
    /// What does not hold.
    pub failures: Vec<Failure>,
    /// What it reached.
    pub coverage: Coverage,
    /// What came together in it.
    pub together: BTreeSet<(Mark, Mark)>,
    /// Who held the pod.
    pub holders: Vec<Holder>,
    /// What it shows, to be compared with another engine.
    pub facts: Facts,
    /// The promises that were at stake.
    pub occasions: Occasions,
}

/// How the log of the same run elsewhere is had, or what is to be shown of it: given the file, the seed and the engine.
pub type Elsewhere<'a> = dyn Fn(&ScenarioFile, u64, EngineName, Shows) -> Result<String, String> + Sync + 'a;

/// What is asked of a run elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Its [`History::fingerprint`], as text.
    Fingerprint,
    /// Its [`History::to_lines`].
    Lines,
}

impl Shows {
    /// That of a run.
    pub fn of(self, history: &History) -> String {
        match self {
            Shows::Fingerprint => format!("{:016x}\n", history.fingerprint()),
            Shows::Lines => history.to_lines(),
        }
    }
}

/// Runs a file under all its seeds, or under the one that is asked for, and judges it. `elsewhere` runs the same in another
/// process and returns its event log.
pub fn judge(
    pod: &Arc<dyn Pod>,
    file: &ScenarioFile,
    seed: Option<u64>,
    engine: EngineName,
    elsewhere: &Elsewhere<'_>,
) -> Judgement {
    let asked = Asked { seeds: seed.map(Seeds::Only), engine, scope: Scope::Files };
    let lines = suite::judge(pod, std::slice::from_ref(file), asked, elsewhere, || {});
    lines.into_iter().map(|line| line.judgement).next().expect("a line for each file")
}

/// The seeds of a file, or those that are asked for.
pub fn seeds(scenario: &Scenario, asked: Option<Seeds>) -> RangeInclusive<u64> {
    let own = u64::from(scenario.seeds);
    match asked {
        None => 1..=own,
        Some(Seeds::Only(seed)) => seed..=seed,
        Some(Seeds::AtLeast(seeds)) => 1..=own.max(seeds),
    }
}

/// Runs a file once and judges the run. With `proof` also by what a file is asked once, whatever the number of its seeds:
/// whether the run is the same in another process, and whether the file can fail.
pub fn trial(
    pod: &Arc<dyn Pod>,
    file: &ScenarioFile,
    seed: u64,
    engine: EngineName,
    proof: Option<&Elsewhere<'_>>,
) -> Trial {
    let scenario = &file.scenario;
    // Both at a time: a long file would take twice as long.
    let (run, theirs) = thread::scope(|scope| {
        let theirs = proof.map(|elsewhere| scope.spawn(|| elsewhere(file, seed, engine, Shows::Fingerprint)));
        let run = run_of(pod, scenario, seed, engine);
        (run, theirs.map(|theirs| theirs.join().unwrap_or_else(|panic| resume_unwind(panic))))
    });
    let mut failures = failures(pod, scenario, &run, seed);
    if let Some((elsewhere, theirs)) = proof.zip(theirs) {
        let log = || elsewhere(file, seed, engine, Shows::Lines);
        failures.extend(differences(&run.history, theirs, log, seed));
        failures.extend(proofs(scenario, engine).filter_map(|other| survives(pod, scenario, other, seed, engine)));
    }
    let Counts { coverage, together, holders, facts, occasions } = whole::counts(scenario, &run);
    let ended =
        matches!(run.ending, Ending::Finished { .. }) && !failures.iter().any(|failure| failure.broke == "budget");
    let (simulated, events) = (run.simulated(), run.history.entries.len());
    Trial { seed, simulated, events, ended, failures, coverage, together, holders, facts, occasions }
}

/// What does not hold in a run under the file's own settings.
pub(crate) fn failures(pod: &Arc<dyn Pod>, scenario: &Scenario, run: &Run, seed: u64) -> Vec<Failure> {
    whole::failures(pod, scenario, run).into_iter().map(|shown| Failure::of(shown, seed)).collect()
}

/// What one run of a file shows, without a judgement.
pub fn facts(pod: &Arc<dyn Pod>, file: &ScenarioFile, seed: u64, engine: EngineName) -> Facts {
    whole::counts(&file.scenario, &run_of(pod, &file.scenario, seed, engine)).facts
}

/// A run under the file's own settings.
fn run_of(pod: &Arc<dyn Pod>, scenario: &Scenario, seed: u64, engine: EngineName) -> Run {
    run::run(pod, scenario, &run::settings(scenario), seed, engine)
}

impl Failure {
    fn of(Shown { broke, what, evidence, .. }: Shown, seed: u64) -> Failure {
        Failure { broke, what, evidence, seed, more_seeds: 0 }
    }
}

impl Judgement {
    /// Whether something shows that the file can fail: a policy under which it must, or a sabotage.
    pub fn is_proven(&self) -> bool {
        self.fails_under > 0 || !self.catches.is_empty()
    }

    /// The judgement that follows from these runs, of which the first was put to the proof. No runs at all: the engine can't
    /// do what the file needs.
    pub fn new(pod: &Arc<dyn Pod>, file: &ScenarioFile, engine: EngineName, trials: Vec<Trial>) -> Judgement {
        let scenario = &file.scenario;
        let mut judgement = Judgement {
            file: file.path.display().to_string(),
            title: scenario.title.clone(),
            verdict: Verdict::Pass,
            several: scenario.deployment.is_some(),
            seeds: trials.len(),
            simulated: trials.iter().map(|trial| trial.simulated).max().unwrap_or_default(),
            promises: Promise::of(scenario).count(),
            not_judged: Vec::new(),
            expectations: expectations(scenario),
            fails_under: proofs(scenario, engine).count(),
            catches: scenario.catches.clone(),
            coverage: Coverage::default(),
            holders: trials.first().map(|trial| trial.holders.clone()).unwrap_or_default(),
            facts: trials.iter().map(|trial| (trial.seed, trial.facts.clone())).collect(),
        };
        if trials.is_empty() {
            judgement.verdict = Verdict::NotSupported(run::lacks(scenario, engine));
            return judgement;
        }
        let mut failures: Vec<Failure> = Vec::new();
        for trial in trials {
            judgement.coverage.add(&trial.coverage);
            let (again, new): (Vec<Failure>, Vec<Failure>) = trial
                .failures
                .into_iter()
                .partition(|failure| failures.iter().any(|first| first.broke == failure.broke));
            // The first run shows it; of the others only how many there are is of interest.
            for first in &mut failures {
                first.more_seeds += usize::from(again.iter().any(|failure| failure.broke == first.broke));
            }
            failures.extend(new);
        }
        let lacks = Promise::ALL.map(|promise| (promise, Judged::lacks(promise, pod.reports())));
        let is_broken = |promise: &Promise| failures.iter().any(|failure| failure.broke == promise.name());
        judgement.not_judged =
            lacks.into_iter().filter(|(promise, lacks)| !lacks.is_empty() && !is_broken(promise)).collect();
        judgement.promises -= judgement.not_judged.len();
        if !failures.is_empty() {
            judgement.verdict = Verdict::Fail(failures);
        }
        judgement
    }
}

/// The settings under which this engine can show that the file fails. What an old policy breaks may hang on a millisecond, so
/// its run must tell one apart; and it is the file that is put to the proof, so one engine that does is enough.
fn proofs(scenario: &Scenario, engine: EngineName) -> impl Iterator<Item = &FailsUnder> {
    let exact = move |other: &&FailsUnder| run::resolution(scenario, &under(scenario, other), engine) <= EXACT;
    scenario.fails_under.iter().filter(exact)
}

/// The settings of such a run.
fn under(scenario: &Scenario, other: &FailsUnder) -> Settings {
    let mut settings = run::settings(scenario);
    other.settings.apply(&mut settings);
    settings
}

/// How many things the file expects.
fn expectations(scenario: &Scenario) -> usize {
    let Expect { exit, rollout, timeline, client } = &scenario.expect;
    let of_exit = exit.iter().flat_map(|exit| [exit.within.is_some(), exit.after.is_some(), exit.code.is_some()]);
    let of_clients = client.values().flat_map(|client| {
        [
            client.answered.is_some(),
            client.committed.is_some(),
            client.ends.is_some(),
            client.told.is_some(),
            client.between.is_some(),
            client.errors.is_some(),
            client.killed,
            client.failed.is_some(),
            client.slowest.is_some(),
        ]
    });
    let of_rollout = rollout
        .iter()
        .flat_map(|rollout| [rollout.within.is_some(), rollout.ready_within.is_some(), rollout.held.is_some()]);
    of_exit.chain(of_rollout).chain(of_clients).chain([!timeline.is_empty()]).filter(|expected| *expected).count()
}

/// Whether the same run in another process came out differently.
fn differences(
    history: &History,
    theirs: Result<String, String>,
    log: impl FnOnce() -> Result<String, String>,
    seed: u64,
) -> Vec<Failure> {
    let failure = |what| Failure {
        broke: Promise::SameSeedSameRun.to_string(),
        what,
        evidence: String::new(),
        seed,
        more_seeds: 0,
    };
    let is_same = |theirs: &String| *theirs == Shows::Fingerprint.of(history);
    match theirs.and_then(|theirs| if is_same(&theirs) { Ok(None) } else { log().map(Some) }) {
        Ok(None) => Vec::new(),
        Ok(Some(log)) => {
            let mut whats: Vec<String> = same_seed_same_run::check(&history.to_lines(), &log)
                .into_iter()
                .map(|violation| violation.what)
                .collect();
            if whats.is_empty() {
                whats.push("a second run differed, and a third did not".to_owned());
            }
            whats.into_iter().map(failure).collect()
        }
        Err(error) => vec![failure(format!("the run in another process gave no log: {error}"))],
    }
}

/// What is wrong with what breaks under other settings, if anything.
fn survives(
    pod: &Arc<dyn Pod>,
    scenario: &Scenario,
    other: &FailsUnder,
    seed: u64,
    engine: EngineName,
) -> Option<Failure> {
    let run = run::run(pod, scenario, &under(scenario, other), seed, engine);
    let violations = whole::broken(pod, scenario, &run);
    let broken: BTreeSet<Promise> = violations.iter().filter_map(|shown| shown.promise).collect();
    let named: BTreeSet<Promise> = other.breaks.iter().copied().collect();
    if broken == named {
        return None;
    }
    let evidence: Vec<String> = violations
        .iter()
        .filter(|shown| shown.promise.is_some_and(|promise| !named.contains(&promise)))
        .map(|Shown { broke, what, evidence, .. }| format!("{broke}: {what}\n{evidence}"))
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
        seed,
        more_seeds: 0,
    })
}

fn list(promises: &BTreeSet<Promise>) -> String {
    if promises.is_empty() {
        return "nothing".to_owned();
    }
    promises.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(crate) fn judged<'a>(pod: &'a Arc<dyn Pod>, run: &'a Run, scenario: &'a Scenario) -> Judged<'a> {
    Judged::new(pod.reports(), &run.history, &run.settings, run.termination_grace, run.resolution).of_file(scenario)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lastcall_world::World;

    use super::*;
    use crate::cast::pod::{Config, last_call};
    use crate::scenario;
    use crate::stage::AnyWorld;

    /// A pod without clients, under three seeds.
    fn file(expect: &str) -> ScenarioFile {
        let text = format!("title = \"t\"\nseeds = 3\n[[event]]\nat = \"1s\"\ndo = \"sigterm\"\n[expect]\n{expect}\n");
        ScenarioFile { path: Path::new("t.toml").to_owned(), scenario: scenario::parse("t.toml", &text).unwrap() }
    }

    /// The log of another process, which is none: the very same run.
    fn here(file: &ScenarioFile, seed: u64, engine: EngineName, shows: Shows) -> Result<String, String> {
        Ok(shows.of(&run_of(&last_call(), &file.scenario, seed, engine).history))
    }

    #[test]
    fn a_run_that_differs_elsewhere_is_told_with_the_line() {
        let another = |file: &ScenarioFile, seed, engine, shows| here(file, seed + 1, engine, shows);
        let judgement = judge(&last_call(), &file("exit = { code = 0 }"), None, EngineName::default(), &another);
        let Verdict::Fail(failures) = &judgement.verdict else { panic!("{judgement:?}") };
        assert_eq!(failures[0].broke, "same-seed-same-run");
        assert!(failures[0].what.contains("differs: the first run has"), "{failures:?}");
        let none = |_: &ScenarioFile, _, _, _| Err("it is not there".to_owned());
        let judgement = judge(&last_call(), &file("exit = { code = 0 }"), None, EngineName::default(), &none);
        let Verdict::Fail(failures) = &judgement.verdict else { panic!("{judgement:?}") };
        assert_eq!(failures[0].what, "the run in another process gave no log: it is not there");
    }

    #[test]
    fn a_file_is_run_under_each_of_its_seeds_or_under_the_one_that_is_asked_for() {
        let judgement = judge(&last_call(), &file("exit = { code = 0 }"), None, EngineName::default(), &here);
        assert_eq!((judgement.verdict, judgement.seeds), (Verdict::Pass, 3));
        assert_eq!(judge(&last_call(), &file("exit = { code = 0 }"), Some(7), EngineName::default(), &here).seeds, 1);
    }

    #[test]
    fn what_breaks_under_many_seeds_is_told_once_with_the_first_and_how_many_more_there_are() {
        let judgement = judge(&last_call(), &file("exit = { code = 3 }"), None, EngineName::default(), &here);
        let Verdict::Fail(failures) = judgement.verdict else { panic!("no exit has this code") };
        let told: Vec<_> =
            failures.iter().map(|failure| (failure.broke.as_str(), failure.seed, failure.more_seeds)).collect();
        assert_eq!(told, [("expect.exit.code", 1, 2)]);
    }

    #[test]
    fn another_log_from_another_process_is_told_once_for_the_file() {
        let judgement =
            judge(&last_call(), &file("exit = { code = 0 }"), None, EngineName::default(), &|_, _, _, _| {
                Ok("{}".to_owned())
            });
        let Verdict::Fail(failures) = judgement.verdict else { panic!("the logs differ") };
        assert_eq!((failures.len(), failures[0].broke.as_str()), (1, "same-seed-same-run"));
    }

    #[test]
    fn what_a_pod_says_nothing_about_is_neither_kept_nor_broken() {
        let exits = |code| -> Arc<dyn Pod> {
            Arc::new(move |world: AnyWorld, _: Config| async move {
                let _signal = world.next_signal().await;
                code
            })
        };
        let judged = |code| {
            judge(
                &exits(code),
                &file("exit = { code = 0 }"),
                Some(1),
                EngineName::default(),
                &|file, seed, engine, shows| Ok(shows.of(&run_of(&exits(code), &file.scenario, seed, engine).history)),
            )
        };
        let silent = judged(0);
        let names: Vec<Promise> = silent.not_judged.iter().map(|(promise, _)| *promise).collect();
        assert_eq!((names, silent.promises), (vec![Promise::OneRecordEach, Promise::HonestSigns], 8));
        let lies = judged(3);
        assert_eq!((lies.not_judged.len(), lies.promises), (1, 9), "what is broken all the same is judged");
    }
}
