//! Whether two engines tell the same story: what the clients, the workers and the exit show of a run.
//!
//! No two engines give the same schedule, so times, packets and the order between two connections say nothing. What a scenario
//! decides must come out on each:
//!
//! - the exit: its code, or that the process was killed, or never left;
//! - of each copy of a client: how its connections ended (a SQLSTATE, a reset, by itself), how each of its requests ended, and
//!   how many of its rows are durable;
//! - of its statements, how each ended at a worker.
//!
//! Of a client that repeats something for ever, or streams, how often is a matter of time: then the kinds count, and not the
//! numbers.
//!
//! **Which facts does a scenario decide?** Whether the request that a client sends in the instant of its due time is answered
//! or refused is decided by a millisecond, and by no promise. A seed is another latency for each packet and another order of
//! all that is due together. So that is tried and not guessed: a fact that comes out the same under every seed on the engine
//! that others are compared with is decided ([`Decided`]); one that doesn't is a race, left to chance, and not compared. Copies of
//! a client do the same a little later, so what is left to chance for one of them is so for all. Promises and expectations are
//! judged on each engine by themselves.
//!
//! Of a client that reads late, which error its request ends with hangs on what the buffers on the way hold just then: whether the
//! worker's own error still fits before the FATAL. That it was an error is compared. And a request that was refused with its
//! connection, before any worker heard of it, is none of its client's requests: whether it still asks hangs on which packets
//! the answer before and the FATAL come in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cast::history::{Outcome, StatementEnd};
use crate::scenario::{Client, Scenario, Step, Times};
use crate::story::rollout::Rollout;
use crate::story::{Ending, Request, Story};

/// What a run shows, by what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<About, String>);

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// Whom: a client, or the process.
    who: String,
    /// Which copy of the client.
    copy: Option<u32>,
    what: &'static str,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About { who, copy, what } = self;
        match copy {
            Some(copy) => write!(f, "{who}.{copy}, {what}"),
            None => write!(f, "{who} {what}"),
        }
    }
}

/// What comes out under every seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    facts: Facts,
    /// What some seeds show, and others otherwise.
    left_to_chance: BTreeSet<About>,
}

/// One fact, and what two engines say about it; nothing, if it is not known there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub about: About,
    /// What the runs show that decided it.
    pub expected: Option<String>,
    /// What the other one shows.
    pub came: Option<String>,
}

/// Whom a fact is about that is about no client: no client has such a name.
const PROCESS: &str = "the process";

impl Facts {
    /// What a run with several pods shows: how many pods of each revision there were, and whether all came to rest. Which pod a
    /// connection came to is left to chance.
    pub(super) fn of_deployment(rollout: &Rollout) -> Facts {
        let about = |what| About { who: "the deployment".to_owned(), copy: None, what };
        let mut revisions: BTreeMap<u32, usize> = BTreeMap::new();
        rollout.pods.values().for_each(|pod| *revisions.entry(pod.revision).or_default() += 1);
        let ended = if rollout.settled.is_some() { "settled" } else { "did not settle" };
        Facts([(about("pods"), format!("{revisions:?}")), (about("end"), ended.to_owned())].into())
    }

    /// What this run of the scenario shows.
    pub fn of(scenario: &Scenario, story: &Story) -> Facts {
        let mut facts = BTreeMap::new();
        facts.insert(About { who: PROCESS.to_owned(), copy: None, what: "at its end" }, exit(story));
        for client in &scenario.clients {
            let list = if is_endless(&client.steps) { kinds } else { sequence };
            for copy in 1..=client.count {
                facts.extend(of_copy(story, client, copy, list));
            }
        }
        Facts(facts)
    }

    /// The same, and one more of the process.
    pub fn with(mut self, what: &'static str, fact: String) -> Facts {
        self.0.insert(About { who: PROCESS.to_owned(), copy: None, what }, fact);
        self
    }

    /// The same of clients that go by other names.
    ///
    /// Of whom `name` does not know there are none.
    pub fn called(self, name: impl Fn(&str) -> Option<String>) -> Facts {
        let renamed = |(about, fact): (About, String)| match about.copy {
            None => Some((about, fact)),
            Some(_) => Some((About { who: name(&about.who)?, ..about }, fact)),
        };
        Facts(self.0.into_iter().filter_map(renamed).collect())
    }

    /// Whether one of them has this word.
    pub fn any_says(&self, word: &str) -> bool {
        self.0.values().any(|fact| fact.contains(word))
    }
}

fn exit(story: &Story) -> String {
    match (story.exit, story.killed) {
        (Some((_, code)), _) => format!("exit code {code}"),
        (None, Some(_)) => "killed".to_owned(),
        (None, None) => "still there".to_owned(),
    }
}

fn of_copy(story: &Story, client: &Client, copy: u32, list: fn(Vec<&str>) -> String) -> Vec<(About, String)> {
    let connections = || {
        let mine = |index: &usize| {
            let conn = story.connections[*index].conn;
            conn.client == client.name && conn.copy == copy
        };
        (0..story.connections.len()).filter(mine)
    };
    let requests = || connections().flat_map(|index| story.requests_of(&story.connections[index]));
    // Whether a client still asks between an answer and the FATAL behind it hangs on whether they come in one packet.
    let asked = || requests().filter(|request| !was_refused_at_the_end(story, request));
    let ends = connections().map(|index| ending(story.connections[index].ending().map(|(_, ending)| ending)));
    let told = asked().map(|request| {
        let word = outcome(request.delivered().map(|(_, outcome)| outcome));
        let late = story.connection_of(request).reads_late();
        if late && matches!(request.delivered(), Some((_, Outcome::Error(_)))) { "an error" } else { word }
    });
    let done = requests().flat_map(|request| story.statements_of(request)).map(|run| end(run.end.map(|(_, end)| end)));
    let rows: u64 = requests().filter_map(|request| story.rows.get(request.tag)).sum();
    let rows = match rows {
        0 => "none".to_owned(),
        _ if is_endless(&client.steps) => "some".to_owned(),
        rows => rows.to_string(),
    };
    let facts = [
        ("its connections", list(ends.collect())),
        ("its requests", list(told.collect())),
        ("its statements at the worker", list(done.collect())),
        ("its durable rows", rows),
    ];
    let about = |what| About { who: client.name.clone(), copy: Some(copy), what };
    facts.into_iter().map(|(what, fact)| (about(what), fact)).collect()
}

/// Whether the end of its connection is all that became of it: no worker ever heard of it.
fn was_refused_at_the_end(story: &Story, request: &Request) -> bool {
    let end = story.connection_of(request).ending().map(|(_, ending)| ending);
    let is_end = match (request.delivered(), end) {
        (Some((_, Outcome::Error(code))), Some(Ending::Fatal(fatal))) => code == fatal,
        (Some((_, Outcome::Lost)), Some(_)) => true,
        _ => false,
    };
    is_end && story.statements_of(request).next().is_none()
}

fn is_endless(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Repeat(repeat) => repeat.repeat == Times::Forever || is_endless(&repeat.steps),
        Step::Pipeline(_) | Step::CopyIn(_) | Step::Replication(_) => true,
        _ => false,
    })
}

fn ending<'a>(ending: Option<Ending<'a>>) -> &'a str {
    match ending {
        None => "open",
        Some(Ending::Fatal(code)) => code,
        Some(Ending::Left(how)) => how,
        Some(Ending::Eof) => "end of stream",
        Some(Ending::Reset) => "reset",
        Some(Ending::ConnectFailed) => "connect failed",
    }
}

fn outcome(outcome: Option<&Outcome>) -> &str {
    match outcome {
        None => "open",
        Some(Outcome::Complete) => "complete",
        Some(Outcome::Error(code)) => code,
        Some(Outcome::Lost) => "lost",
    }
}

fn end(end: Option<&StatementEnd>) -> &str {
    match end {
        None => "open",
        Some(StatementEnd::Complete) => "complete",
        Some(StatementEnd::Failed(code)) => code,
        Some(StatementEnd::Cancelled) => "cancelled",
        Some(StatementEnd::Aborted) => "aborted",
    }
}

/// All of them, in their order: `complete ×12, 57P01`.
fn sequence(words: Vec<&str>) -> String {
    let runs = words.chunk_by(|one, next| one == next);
    let run = |run: &[&str]| if run.len() == 1 { run[0].to_owned() } else { format!("{} ×{}", run[0], run.len()) };
    or_none(&runs.map(run).collect::<Vec<_>>().join(", "))
}

/// Each of them once.
fn kinds(mut words: Vec<&str>) -> String {
    words.sort_unstable();
    words.dedup();
    or_none(&words.join(", "))
}

fn or_none(words: &str) -> String {
    if words.is_empty() { "none" } else { words }.to_owned()
}

impl Decided {
    /// What all of these runs of one scenario show.
    pub fn by<'a>(runs: impl IntoIterator<Item = &'a Facts>) -> Decided {
        let mut runs = runs.into_iter();
        let mut decided = Decided { facts: runs.next().cloned().unwrap_or_default(), ..Decided::default() };
        for Facts(run) in runs {
            let Facts(facts) = &decided.facts;
            let other = |about: &&About| facts.get(about) != run.get(about);
            decided.left_to_chance.extend(facts.keys().chain(run.keys()).filter(other).cloned());
        }
        let Decided { facts: Facts(facts), left_to_chance } = &mut decided;
        let alike = |one: &About, other: &About| one.who == other.who && one.what == other.what;
        let copies = facts.keys().filter(|about| left_to_chance.iter().any(|chance| alike(about, chance)));
        let copies: Vec<About> = copies.cloned().collect();
        left_to_chance.extend(copies);
        facts.retain(|about, _| !left_to_chance.contains(about));
        decided
    }

    /// How many facts that are.
    pub fn count(&self) -> usize {
        self.facts.0.len()
    }

    /// Whether this comes out under every seed, or never came up.
    pub fn decides(&self, about: &About) -> bool {
        !self.left_to_chance.contains(about)
    }

    /// How many more there are, which some seeds show otherwise.
    pub fn left_to_chance(&self) -> usize {
        self.left_to_chance.len()
    }

    /// What a run on another engine shows otherwise: decided facts that it denies or knows nothing about, and facts that nobody
    /// else knows.
    pub fn differences(&self, Facts(other): &Facts) -> Vec<Difference> {
        let Facts(facts) = &self.facts;
        let abouts: BTreeSet<&About> = facts.keys().chain(other.keys()).collect();
        let compared = abouts.into_iter().filter(|about| !self.left_to_chance.contains(*about));
        let difference = |about: &About| Difference {
            about: about.clone(),
            expected: facts.get(about).cloned(),
            came: other.get(about).cloned(),
        };
        compared.map(difference).filter(|difference| difference.expected != difference.came).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Log;
    use super::*;
    use crate::cast::history::RequestKind;
    use crate::scenario::parse;

    /// A client that inserts and is told to go, and one that pings for ever.
    fn scenario() -> Scenario {
        let text = "title = 't'\n[[client]]\nname = 'etl'\nsteps = ['connect', { insert = 1 }, { query = '1s' }]\n\
                    [[client]]\nname = 'pings'\nsteps = ['connect', { repeat = 'forever', steps = [{ query = '1s' }] }]\n\
                    [[event]]\nat = '1m'\ndo = 'sigterm'\n[expect]\nexit = { code = 0 }\n\
                    [[fails_under]]\nlame_duck = '0s'\nbreaks = ['never-cut']\n";
        parse("t.toml", text).unwrap()
    }

    /// The pings end at `pings` seconds, one a second; everything else a little later than `late` says.
    fn log(late: f64, pings: u32) -> Log {
        let mut log = Log::default().session(1.0 + late, "etl.1").session(1.0 + late, "pings.1");
        for ping in 1..=pings {
            let at = 1.0 + late + f64::from(ping);
            log = log.answered(at, at, &format!("pings.1/{ping}"), RequestKind::Query);
        }
        log.answered(40.0, 40.0 + late, "etl.1/1", RequestKind::Insert)
            .committed(40.0 + late, &["etl.1/1"])
            .answered(50.0, 51.0 + late, "etl.1/2", RequestKind::Query)
            .term(60.0)
            .goodbye(80.0 + late, "etl.1")
            .goodbye(85.0 + late, "pings.1")
    }

    fn facts(log: Log) -> Facts {
        log.run(|run| Facts::of(&scenario(), &run.story))
    }

    fn differences(here: &Facts, there: &Facts) -> Vec<[Option<String>; 3]> {
        let differences = Decided::by([here]).differences(there);
        differences
            .into_iter()
            .map(|Difference { about, expected, came }| [Some(about.to_string()), expected, came])
            .collect()
    }

    fn words(words: [&str; 3]) -> [Option<String>; 3] {
        words.map(|word| Some(word.to_owned()))
    }

    #[test]
    fn another_latency_and_another_number_of_pings_are_no_difference() {
        let (fast, slow) = (facts(log(0.0, 20).exit(85.0, 0)), facts(log(0.3, 12).exit(86.0, 0)));
        assert_eq!(differences(&fast, &slow), [[None, None, None]; 0]);
        assert_eq!(Decided::by([&fast]).count(), 9);
    }

    #[test]
    fn what_a_client_was_told_what_is_durable_and_the_exit_are_differences_from_both_sides() {
        let good = facts(log(0.0, 20).exit(85.0, 0));
        let bad = Log::default()
            .session(1.0, "etl.1")
            .session(1.0, "pings.1")
            .answered(2.0, 2.0, "pings.1/1", RequestKind::Query)
            .begun(40.0, "etl.1/1", RequestKind::Insert)
            .term(60.0)
            .failed(80.0, "etl.1/1", "57P01")
            .reset(80.0, "etl.1")
            .goodbye(85.0, "pings.1")
            .exit(85.0, 3);
        let bad = facts(bad);
        let expected = [
            ["etl.1, its connections", "57P01", "reset"],
            ["etl.1, its durable rows", "1", "none"],
            ["etl.1, its requests", "complete ×2", "57P01"],
            ["the process at its end", "exit code 0", "exit code 3"],
        ];
        let came = differences(&good, &bad);
        let reversed: Vec<_> = expected.iter().map(|[about, one, other]| words([about, other, one])).collect();
        for difference in expected.map(words) {
            assert!(came.contains(&difference), "{difference:?} in {came:?}");
        }
        for difference in reversed {
            assert!(differences(&bad, &good).contains(&difference), "{difference:?}");
        }
    }

    #[test]
    fn what_seeds_do_not_agree_about_is_left_to_chance() {
        let (one, other) = (facts(log(0.0, 20).exit(85.0, 0)), facts(log(0.0, 20).exit(85.0, 3)));
        let decided = Decided::by([&one, &other, &one]);
        assert_eq!((decided.count(), decided.left_to_chance()), (8, 1));
        assert!(decided.differences(&one).is_empty() && decided.differences(&other).is_empty());
    }

    #[test]
    fn a_fact_that_only_one_of_two_knows_is_a_difference() {
        let all = facts(log(0.0, 20).exit(85.0, 0));
        let Facts(mut some) = all.clone();
        some.retain(|about, _| about.copy.is_some());
        let some = Facts(some);
        for (here, there) in [(&all, &some), (&some, &all)] {
            assert_eq!(differences(here, there).len(), 1);
        }
    }
}
