//! Metamorphic checks: a scenario that is told otherwise must come out the same.
//!
//! What a scenario decides is what its runs under several seeds agree about ([`Decided`]); that no promise breaks is one more fact.
//! A [`Variant`] makes another scenario of it, or plays it in another way, in which each of these facts must be as before. A
//! difference counts only if a third of the variant's runs shows it and none of many of the scenario's: what comes out so
//! one time in twenty is chance. Where packets take another time than the scenario's each of its runs must show it: then a race
//! may come out in another way than it ever did.
//!
//! Where a variant can't be compared, because something in the scenario must come out otherwise in it, that is said, and counted
//! as not compared.

mod pieces;
#[cfg(test)]
mod tests;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use self::pieces::InPieces;
use crate::across::REFERENCE;
use crate::cast::pod::Pod;
use crate::cast::run::{self, EngineName};
use crate::judge::compare::{Decided, Difference, Facts};
use crate::judge::gate::{self, Failure, Trial};
use crate::scenario::{
    self, Action, Client, Event, ExpectExit, Idle, Patience, Purpose, Reading, Scenario, ScenarioFile, Span, Step,
};
use crate::stage::random::Stream;

/// Under how many seeds a scenario is run to know what it decides.
const SEEDS: u64 = 4;
/// Under how many, if a variant shows something else.
const SEEDS_TO_DIFFER: u64 = 60;
/// And under how many the variant, of which so many must show it, where packets are the same.
const VARIANT_SEEDS: u64 = 9;
const VARIANTS_THAT_DIFFER: usize = 3;

/// Another way to tell a scenario, in which it must come out the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Variant {
    /// Clients have other names: longer ones, in the other order of the alphabet.
    Renamed,
    /// Clients stand in the file in the other order. Takes two of them.
    Reordered,
    /// One more client, which connects and is idle.
    ///
    /// It is there until its own due time or the wall, and takes a place. So it is not compared where a client came when the
    /// process was gone, or may have been late for it by a fault of the network or a SIGSTOP, where a wall may end it, and where few connections are allowed.
    Bystander,
    /// All times are a 60th, settings included.
    ///
    /// What a packet takes is no such time. So what is decided is decided on networks that are up to 180 times slower, too; and
    /// times are rounded up to 60 ms first, so that all have a 60th. Not compared where a clock plays a part that is no setting:
    /// those of TCP and of the control plane's search for a worker, with faults of the network or the worker and with machines
    /// that vanish; that of a second cancel request, at a wall; that by which a client reads so many bytes each second; and how long a worker is watched whose control plane has left its statements behind, by SIGQUIT. Nor where few
    /// connections are allowed: who gets a place hangs on who has just left one.
    Scaled,
    /// The control plane reads what arrives in pieces of a few bytes, and its kernel takes what it writes so.
    ///
    /// Not compared with SIGQUIT, where an answer may be lost that nobody has asked for yet, nor where a wall falls while the
    /// process stands still: what it finds then is a matter of its first look.
    Split,
    /// The other engines play it, those that can, to two milliseconds and in a moment; with times that are ten times longer on all:
    /// no engine's packets take as long as another's, and drawn times like to be a millisecond apart.
    ///
    /// What has left when a client resets its connection, what a client's machine has that does not read, who is first at the very
    /// beginning, and what a client still asks between the end of its statement at a wall and its FATAL is each engine's own:
    /// where one of these plays a part it is not compared.
    Engine,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The variant shows all that is decided.
    Alike {
        /// How many facts that are.
        facts: usize,
    },
    /// It shows something else.
    Differs(Failure),
    /// There is nothing to compare: why.
    Not(&'static str),
}

impl Compared {
    /// What differs, if something does.
    pub fn into_failure(self) -> Option<Failure> {
        match self {
            Compared::Differs(failure) => Some(failure),
            Compared::Alike { .. } | Compared::Not(_) => None,
        }
    }
}

/// Which seeds try a variant too.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    /// One seed in so many; none if it is 0.
    pub one_in: u64,
    /// The only ones that are tried; all if there are none.
    pub only: Vec<Variant>,
}

/// How often a variant was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Compared with its scenario.
    pub compared: u64,
    /// Not compared.
    pub not_compared: u64,
}

impl Tally {
    pub(super) fn add(&mut self, compared: &Compared) {
        match compared {
            Compared::Not(_) => self.not_compared += 1,
            Compared::Alike { .. } | Compared::Differs(_) => self.compared += 1,
        }
    }
}

impl Variant {
    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Renamed => "renamed",
            Variant::Reordered => "reordered",
            Variant::Bystander => "bystander",
            Variant::Scaled => "scaled",
            Variant::Split => "split",
            Variant::Engine => "engine",
        }
    }

    /// How many chances it has to be tried: the rarer it can be compared, the more.
    const fn chances(self) -> u64 {
        match self {
            Variant::Renamed | Variant::Reordered => 1,
            Variant::Split => 2,
            Variant::Engine | Variant::Scaled => 4,
            Variant::Bystander => 7,
        }
    }

    /// What a find of it is called.
    pub fn find(self) -> String {
        format!("variant-{}", self.name())
    }

    /// The one that a find is about.
    pub fn of_find(broke: &str) -> Option<Variant> {
        Variant::value_variants().iter().copied().find(|variant| variant.find() == broke)
    }

    /// The scenario and the other one, or why they can't be compared.
    fn pair(self, scenario: Scenario, text: &str) -> Result<Pair, &'static str> {
        let names = scenario.clients.iter().map(|client| (client.name.clone(), client.name.clone())).collect();
        let mut pair = Pair { variant: self, other: scenario.clone(), scenario, slow: &[], names };
        match self {
            Variant::Renamed => pair.names = rename(&mut pair.other),
            Variant::Reordered if pair.other.clients.len() < 2 => return Err("there is one client"),
            Variant::Reordered => pair.other.clients.reverse(),
            Variant::Bystander => add_bystander(&mut pair.other)?,
            Variant::Scaled => {
                hangs_on_no_other_clock(&pair.scenario)?;
                let all = |change| times::all(text, change);
                (pair.scenario, pair.other) = all(times::whole).zip(all(times::sixtieth)).ok_or("it has no 60th")?;
                pair.slow = &[60, 120, 180];
            }
            Variant::Split => is_cut_by_nothing_else(&pair.scenario)?,
            Variant::Engine => {
                is_no_engines_own(&pair.scenario)?;
                pair.scenario = times::all(text, times::tenfold).ok_or("it can't last longer")?;
                pair.other = pair.scenario.clone();
                pair.slow = &[3, 10, 30];
            }
        }
        Ok(pair)
    }
}

impl Tries {
    /// Those that may be tried.
    pub fn variants(&self) -> Vec<Variant> {
        let may = |variant: &Variant| self.only.is_empty() || self.only.contains(variant);
        Variant::value_variants().iter().copied().filter(|variant| self.one_in > 0 && may(variant)).collect()
    }

    /// The one that this seed tries.
    pub(super) fn of_seed(&self, seed: u64) -> Option<Variant> {
        let mut dice = Stream::new(seed, "explore", "variant");
        let variants = self.variants();
        if variants.is_empty() || dice.below(self.one_in) > 0 {
            return None;
        }
        let mut chosen = dice.below(variants.iter().map(|variant| variant.chances()).sum());
        variants.into_iter().find(|variant| {
            let is_chosen = chosen < variant.chances();
            chosen = chosen.saturating_sub(variant.chances());
            is_chosen
        })
    }
}

/// Compares the scenario of this text, from this seed on, with a variant of it; `None` if it is none.
pub fn compare(pod: &Arc<dyn Pod>, text: &str, seed: u64, variant: Variant) -> Option<Compared> {
    let scenario = scenario::parse_for(Purpose::Tried, "told", text).ok()?;
    if scenario.deployment.is_some() {
        return Some(Compared::Not("there are several pods"));
    }
    let pair = match variant.pair(scenario, text) {
        Ok(pair) => pair,
        Err(why) => return Some(Compared::Not(why)),
    };
    Some(pair.compare(pod, seed).unwrap_or_else(Compared::Not))
}

/// A scenario, and the same told otherwise.
struct Pair {
    variant: Variant,
    scenario: Scenario,
    other: Scenario,
    /// What packets take on the slow networks on which the scenario must decide the same, in milliseconds.
    slow: &'static [u64],
    /// What clients are called in the scenario, by their names in the other one.
    names: BTreeMap<String, String>,
}

impl Pair {
    fn compare(mut self, pod: &Arc<dyn Pod>, seed: u64) -> Result<Compared, &'static str> {
        let trials: Vec<Trial> = (0..SEEDS).map(|nth| self.run(pod, seed, nth)).collect();
        // How far a run is followed is no time that a scenario names, and the engines have more than one limit.
        if !self.slow.is_empty() && !trials.iter().all(|trial| trial.ended) {
            return Err("its run has no end");
        }
        // Nor is what a judge allows for.
        if !self.slow.is_empty() && trials.iter().any(|trial| !broken(trial).is_empty()) {
            return Err("it breaks a promise as it is");
        }
        let engines = self.engines(trials.iter().map(|trial| trial.simulated).max().unwrap_or_default())?;
        let mut runs: Vec<Facts> = trials.into_iter().map(facts).collect();
        if self.variant == Variant::Bystander && runs.iter().any(|run| run.any_says("connect failed")) {
            return Err("a client came when the process was gone");
        }
        let other_pod: Arc<dyn Pod> =
            if self.variant == Variant::Split { Arc::new(InPieces(pod.clone())) } else { pod.clone() };
        for engine in engines {
            let run_other = |nth| facts(trial(&other_pod, &self.other, seed.wrapping_add(nth), engine));
            let run_other = |nth| run_other(nth).called(|name| self.names.get(name).cloned());
            let differences = self.differences(&mut runs, run_other, |nth| facts(self.run(pod, seed, nth)));
            if !differences.is_empty() {
                return Ok(Compared::Differs(failure(self.variant, &differences, seed)));
            }
        }
        Ok(Compared::Alike { facts: Decided::by(&runs).count() })
    }

    /// What the variant shows otherwise, and not only once, where the scenario never does. More is run only as long as something
    /// is left.
    fn differences(
        &self,
        runs: &mut Vec<Facts>,
        run_other: impl Fn(u64) -> Facts,
        run: impl Fn(u64) -> Facts,
    ) -> Vec<Difference> {
        let decided = Decided::by(&*runs);
        let mut differences = decided.differences(&run_other(0));
        while !differences.is_empty() && (runs.len() as u64) < SEEDS_TO_DIFFER {
            runs.push(run(runs.len() as u64));
            let decided = Decided::by(&*runs);
            differences.retain(|difference| decided.decides(&difference.about));
        }
        if differences.is_empty() {
            return differences;
        }
        let again: Vec<_> = (1..VARIANT_SEEDS).map(|nth| decided.differences(&run_other(nth))).collect();
        let enough = if self.slow.is_empty() { VARIANTS_THAT_DIFFER } else { 1 + again.len() };
        differences.retain(|Difference { about, .. }| {
            let shows = |others: &&Vec<Difference>| others.iter().any(|other| other.about == *about);
            1 + again.iter().filter(shows).count() >= enough
        });
        differences
    }

    /// The scenario's run under the `nth` seed from this one on: every other on a slow network, if there are some.
    fn run(&self, pod: &Arc<dyn Pod>, seed: u64, nth: u64) -> Trial {
        let mut scenario = self.scenario.clone();
        if !self.slow.is_empty() && nth % 2 == 1 {
            let millis = self.slow[(nth / 2) as usize % self.slow.len()];
            slow_down(&mut scenario, Duration::from_millis(millis));
        }
        trial(pod, &scenario, seed.wrapping_add(nth), REFERENCE)
    }

    /// Who plays the other one, which takes so long.
    fn engines(&mut self, long: Duration) -> Result<Vec<EngineName>, &'static str> {
        /// What of the time to its end a run is given at the least: the sooner it is, the shorter are ticks.
        const PART: u32 = 3;
        /// The longest tick that tells apart what drawn scenarios do.
        const TICK: Duration = Duration::from_millis(2);
        /// How long a run may be that costs as much for each of its ticks.
        const LONGEST: Duration = Duration::from_secs(6 * 60);
        if self.variant != Variant::Engine {
            return Ok(vec![REFERENCE]);
        }
        self.other.expect.exit = Some(ExpectExit { within: Some(Span(long / PART)), after: None, code: None });
        let settings = run::settings(&self.other);
        let in_a_moment = |engine| {
            engine != EngineName::Turmoil || long <= LONGEST && run::resolution(&self.other, &settings, engine) <= TICK
        };
        let can = |engine: &EngineName| {
            *engine != REFERENCE
                && engine.missing().is_none()
                && run::lacks(&self.other, *engine).is_empty()
                && in_a_moment(*engine)
        };
        let engines: Vec<EngineName> = EngineName::ALL.into_iter().filter(can).collect();
        if engines.is_empty() { Err("no other engine can play it") } else { Ok(engines) }
    }
}

fn trial(pod: &Arc<dyn Pod>, scenario: &Scenario, seed: u64, engine: EngineName) -> Trial {
    let file = ScenarioFile { path: "told".into(), scenario: scenario.clone() };
    gate::trial(pod, &file, seed, engine, None)
}

/// What a run shows, and which promises it breaks.
fn facts(trial: Trial) -> Facts {
    let broken: Vec<&str> = broken(&trial).into_iter().collect();
    let broken = if broken.is_empty() { "nothing".to_owned() } else { broken.join(", ") };
    trial.facts.with("breaks", broken)
}

/// The promises that a run breaks.
fn broken(trial: &Trial) -> BTreeSet<&str> {
    let broken = trial.failures.iter().map(|failure| failure.broke.as_str());
    broken.filter(|broke| !broke.starts_with("expect.")).collect()
}

fn failure(variant: Variant, differences: &[Difference], seed: u64) -> Failure {
    let or_none = |fact: &Option<String>| fact.clone().unwrap_or_else(|| "nothing is known".to_owned());
    let mut evidence = String::new();
    for Difference { about, expected, came } in differences {
        let _ = writeln!(evidence, "{about}\n    in the scenario: {}", or_none(expected));
        let _ = writeln!(evidence, "    {variant}: {}", or_none(came), variant = variant.name());
    }
    let Difference { about, expected, came } = &differences[0];
    let what = format!("{about}: {}, and {} where it is {}", or_none(expected), or_none(came), variant.name());
    Failure { broke: variant.find(), what, evidence, seed, more_seeds: 0 }
}

/// Gives all clients other names, and returns what they were called.
fn rename(scenario: &mut Scenario) -> BTreeMap<String, String> {
    let count = scenario.clients.len();
    let renamed = |index: usize| format!("somebody-else-{:05}", count - index);
    let names: BTreeMap<String, String> =
        scenario.clients.iter().enumerate().map(|(index, client)| (client.name.clone(), renamed(index))).collect();
    let change = |name: &mut String| {
        if let Some(other) = names.get(name) {
            other.clone_into(name);
        }
    };
    scenario.clients.iter_mut().for_each(|client| change(&mut client.name));
    for event in &mut scenario.events {
        event.client.iter_mut().chain(event.between.iter_mut().flatten()).for_each(change);
    }
    scenario.expect.timeline.clear();
    let expected = std::mem::take(&mut scenario.expect.client);
    scenario.expect.client = expected.into_iter().map(|(name, seen)| (names[&name].clone(), seen)).collect();
    names.into_iter().map(|(name, other)| (other, name)).collect()
}

/// Adds a client that does nothing.
fn add_bystander(scenario: &mut Scenario) -> Result<(), &'static str> {
    const NAME: &str = "bystander";
    has_a_place_for_each(scenario)?;
    has_no_wall(scenario)?;
    if happens(scenario, &[Action::Partition, Action::Hold, Action::Sigstop]) {
        return Err("a client may come late");
    }
    if scenario.clients.iter().any(|client| client.name == NAME) {
        return Err("there is a bystander");
    }
    let steps = vec![Step::Connect(Default::default()), Step::Idle(Idle { idle: Patience::Forever })];
    let (name, start, stagger) = (NAME.to_owned(), Span::default(), Span::default());
    scenario.clients.push(Client { name, count: 1, start, stagger, steps, reconnect: None });
    Ok(())
}

/// Whether what is under way is not lost, however it is cut.
fn is_cut_by_nothing_else(scenario: &Scenario) -> Result<(), &'static str> {
    if happens(scenario, &[Action::Sigquit, Action::Sigkill]) {
        return Err("answers are lost with the process");
    }
    if happens(scenario, &[Action::Sigstop]) && has_no_wall(scenario).is_err() {
        return Err("a wall may fall while it stands still");
    }
    Ok(())
}

fn happens(scenario: &Scenario, actions: &[Action]) -> bool {
    scenario.events.iter().any(|event| actions.contains(&event.action))
}

/// Whether nobody is turned away for want of a place.
fn has_a_place_for_each(scenario: &Scenario) -> Result<(), &'static str> {
    /// How many connections a client has at a time, at the most: one, and others that are not closed yet.
    const EACH: u32 = 4;
    let copies = scenario.clients.iter().fold(0_u32, |sum, client| sum.saturating_add(client.count));
    let places = run::settings(scenario).max_connections;
    if places < copies.saturating_mul(EACH) { Err("few connections are allowed") } else { Ok(()) }
}

/// Whether the process is told to end, once, and no wall is set.
fn has_no_wall(scenario: &Scenario) -> Result<(), &'static str> {
    let settings = run::settings(scenario);
    if !settings.handover_drain_timeout.is_zero() || settings.termination_grace.is_some() {
        return Err("a wall may end it");
    }
    let told = |event: &&Event| event.action.ends_pod() || matches!(event.action, Action::Drain | Action::Undrain);
    if scenario.events.iter().filter(told).count() == 1 { Ok(()) } else { Err("it is not told once to end") }
}

/// Whether no clock plays a part that a scenario can't name.
fn hangs_on_no_other_clock(scenario: &Scenario) -> Result<(), &'static str> {
    has_a_place_for_each(scenario)?;
    has_no_wall(scenario)?;
    if happens(scenario, &[Action::Sigquit, Action::Sigkill]) {
        return Err("statements outlive the process");
    }
    if scenario.events.iter().any(|event| event.action.is_network()) {
        return Err("TCP has clocks of its own");
    }
    if scenario.events.iter().any(|event| event.action.is_worker()) {
        return Err("the search for a worker has clocks of its own");
    }
    for step in scenario.clients.iter().flat_map(|client| Step::every(&client.steps)) {
        match step {
            Step::Vanish => return Err("TCP has clocks of its own"),
            Step::Read(read) if matches!(read.read, Reading::Rate(_)) => return Err("a client reads by the second"),
            _ => {}
        }
    }
    Ok(())
}

/// Whether nothing plays a part in which no two engines are alike.
fn is_no_engines_own(scenario: &Scenario) -> Result<(), &'static str> {
    /// By then everybody who comes at the beginning has its worker.
    const BEGINNING: Duration = Duration::from_millis(10);
    has_no_wall(scenario)?;
    if scenario.events.iter().any(|event| event.at.0 < BEGINNING) {
        return Err("something happens at the very beginning");
    }
    for step in scenario.clients.iter().flat_map(|client| Step::every(&client.steps)) {
        match step {
            Step::Reset | Step::Vanish => return Err("a client is gone before its bytes are"),
            Step::Read(_) => return Err("a client reads late"),
            _ => {}
        }
    }
    Ok(())
}

/// Packets take so long from the beginning on.
fn slow_down(scenario: &mut Scenario, latency: Duration) {
    let slow = |between: [&str; 2]| Event {
        at: Span::default(),
        action: Action::Latency,
        between: Some(between.map(str::to_owned)),
        latency: Some(Span(latency)),
        rate: None,
        back_after: None,
        client: None,
        count: None,
        bytes: None,
        stays_open: false,
        replicas: None,
        pods: None,
        pod: None,
    };
    let links = [["clients", "pod"], ["pod", "worker"], ["kubelet", "pod"]].map(slow);
    scenario.events.splice(0..0, links);
}
