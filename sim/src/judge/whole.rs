//! A run, judged as a whole: its one pod, or each of several pods by itself and then all together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::compare::Facts;
use super::coverage::{self, Coverage, Mark};
use super::occasions::Occasions;
use super::rollout::{self, FELT, JudgedRollout};
use super::{Judged, Unmet, Violation, check_expectations, check_promises};
use crate::cast::history::{Entry, Event, History, MAX_EVENTS};
use crate::cast::pod::{self, Pod};
use crate::cast::run::Run;
use crate::scenario::{Promise, Scenario};
use crate::story::holders::{self, Holder};
use crate::story::rollout::Rollout;
use crate::story::{Moment, Story, timeline};

/// Something that does not hold, and the few events that show it, one a line.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// The promise's name, the expectation's key, or `budget`.
    pub(super) broke: String,
    /// The promise, if it is one.
    pub(super) promise: Option<Promise>,
    pub(super) what: String,
    pub(super) evidence: String,
}

/// What the runs of a file are counted by, besides what does not hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) coverage: Coverage,
    pub(super) together: BTreeSet<(Mark, Mark)>,
    pub(super) holders: Vec<Holder>,
    pub(super) facts: Facts,
    pub(super) occasions: Occasions,
}

/// What of the promises does not hold.
pub(super) fn broken(pod: &Arc<dyn Pod>, scenario: &Scenario, run: &Run) -> Vec<Shown> {
    let Some(pods) = run.pods else {
        let judged = judged(pod, run, scenario, &run.history);
        return check_promises(&judged).into_iter().map(|violation| of_promise(violation, &judged.story)).collect();
    };
    let mut broken = Vec::new();
    let rollout = Rollout::of(&run.history);
    let is_cancel = |entry: &&Entry| matches!(entry.event, Event::CancelSent { .. });
    let strangers = Some(run.history.entries.iter().filter(is_cancel).count());
    for (number, history) in histories(run, pods) {
        let termination_grace = grace_after_signal(run, scenario);
        let mut judged = Judged { termination_grace, strangers, ..judged(pod, run, scenario, &history) };
        if rollout.has_crashed(number) {
            let applications = scenario.applications.iter().map(|application| application.name.as_str());
            judged.killed = scenario.clients.iter().map(|client| client.name.as_str()).chain(applications).collect();
        }
        // The pod that a cancel request came to may have been one that was cut off, or died.
        let elsewhere = |violation: &Violation| {
            let last = violation.evidence.iter().filter_map(|index| history.entries.get(*index)).next_back();
            let at = last.map(|entry| Moment { index: usize::MAX, at: entry.at });
            violation.promise == Promise::CancelWorks && at.is_some_and(|at| rollout.troubled(at, FELT))
        };
        let violations = check_promises(&judged).into_iter().filter(|violation| !elsewhere(violation));
        broken.extend(violations.map(|violation| {
            let shown = of_promise(violation, &judged.story);
            Shown { what: format!("{}: {}", pod::name(number), shown.what), ..shown }
        }));
    }
    let all = Story::of(&run.history, &run.settings);
    broken.extend(of_all(scenario, run).iter().flat_map(rollout::check).map(|violation| of_promise(violation, &all)));
    broken
}

/// What of it, and of what the file expects, does not hold.
pub(super) fn failures(pod: &Arc<dyn Pod>, scenario: &Scenario, run: &Run) -> Vec<Shown> {
    let all = judged(pod, run, scenario, &run.history);
    // What came behind is not known: nothing can be judged.
    if let Some((stopped, client, events)) = all.story.out_of_budget {
        let what = format!(
            "a run may have {MAX_EVENTS} events, and this one has more: {events} of them are requests of {client:?} and their \
             ends. Let it ask less often, or end earlier"
        );
        let evidence = timeline::of(&all.story, &[stopped.index]);
        return vec![Shown { broke: "budget".to_owned(), promise: None, what, evidence }];
    }
    let mut failures = broken(pod, scenario, run);
    let of_rollout = of_all(scenario, run).iter().flat_map(rollout::check_expectations).collect::<Vec<Unmet>>();
    let unmet = check_expectations(scenario, &all).into_iter().chain(of_rollout);
    failures.extend(unmet.map(|Unmet { key, what, evidence }| Shown {
        broke: format!("expect.{key}"),
        promise: None,
        what,
        evidence: timeline::of(&all.story, &evidence),
    }));
    failures
}

/// What the run is counted by.
pub(super) fn counts(scenario: &Scenario, run: &Run) -> Counts {
    let Some(pods) = run.pods else {
        let story = Story::of(&run.history, &run.settings);
        let coverage = Coverage::of(&story);
        return Counts {
            together: coverage::together(&story, &coverage),
            coverage,
            holders: holders::of(&story),
            facts: Facts::of(scenario, &story),
            occasions: Occasions::of(&story),
        };
    };
    let mut counts = Counts { facts: Facts::of_deployment(&Rollout::of(&run.history)), ..Counts::default() };
    for (_, history) in histories(run, pods) {
        let story = Story::of(&history, &run.settings);
        counts.coverage.add(&Coverage::of(&story));
        counts.holders.extend(holders::of(&story));
        counts.occasions.add(&Occasions::of(&story));
    }
    counts.occasions.add(&Occasions::of_deployment());
    counts
}

fn of_promise(Violation { promise, what, evidence }: Violation, story: &Story) -> Shown {
    Shown { broke: promise.to_string(), promise: Some(promise), what, evidence: timeline::of(story, &evidence) }
}

fn judged<'a>(pod: &'a Arc<dyn Pod>, run: &'a Run, scenario: &'a Scenario, history: &'a History) -> Judged<'a> {
    Judged::new(pod.reports(), history, &run.settings, run.termination_grace, run.resolution).of_file(scenario)
}

/// The log of each pod whose process ran.
fn histories(run: &Run, pods: u32) -> impl Iterator<Item = (u32, History)> + '_ {
    let ran = |history: &History| history.entries.iter().any(|entry| entry.event == Event::PodStarted);
    (1..=pods).map(|number| (number, run.history.of_pod(number))).filter(move |(_, history)| ran(history))
}

/// The preStop hooks have their time from the same grace.
fn grace_after_signal(run: &Run, scenario: &Scenario) -> Duration {
    let hooks = scenario.deployment.as_ref().map_or(Duration::ZERO, |deployment| deployment.pre_stop_sleep.0);
    run.termination_grace.saturating_sub(hooks)
}

fn of_all<'a>(scenario: &'a Scenario, run: &'a Run) -> Option<JudgedRollout<'a>> {
    let rules = scenario.deployment.as_ref()?;
    let story = Rollout::of(&run.history);
    Some(JudgedRollout { story, scenario, rules, settings: &run.settings, resolution: run.resolution })
}
