//! The search for what nobody wrote a scenario for: scenarios are drawn, run and judged by the promises, and what breaks one is
//! made small and kept as a file.
//!
//! Everything of a run follows from its seed, so what a range of seeds finds does not hang on how many processors look.

mod corpus;
mod draw;
mod mutate;
mod shrink;
mod text;
pub mod variants;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::corpus::{Candidate, Corpus};
pub use self::draw::scenario as draw;
pub use self::shrink::{Smaller, shrink};
use self::variants::{Compared, Tally, Tries, Variant};
use crate::cast::pod::Pod;
use crate::cast::run::EngineName;
use crate::judge::coverage::{self, Coverage, Mark};
use crate::judge::gate::{self, Failure};
use crate::judge::occasions::Occasions;
use crate::parallel;
use crate::scenario::{self, Promise, Purpose, Scenario, ScenarioFile, Step};
use crate::stopwatch::Stopwatch;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The first seed.
    pub from: u64,
    /// How many seeds, over all shards.
    pub seeds: u64,
    /// Which of how many shards this is, from 0.
    pub shard: (u64, u64),
    /// Which seeds try a variant of their scenario, too.
    pub variants: Tries,
    /// Where finds are kept.
    pub out: PathBuf,
    /// A folder of scenarios that reached something rare, to draw from and to add to; without it each is drawn afresh.
    pub corpus: Option<PathBuf>,
}

/// Which shard `i/n` is, or `/n` with `index` for `i`; all seeds if there is none.
///
/// # Errors
/// What is wrong with it, ready to print.
pub fn shard(shard: Option<&str>, index: Option<&str>) -> Result<(u64, u64), String> {
    let Some(shard) = shard else { return Ok((0, 1)) };
    let read = || {
        let (this, of) = shard.split_once('/')?;
        let this = if this.is_empty() { index? } else { this };
        let (this, of) = (this.parse().ok()?, of.parse().ok()?);
        (this < of).then_some((this, of))
    };
    let remedy = "such as 0/4 for the first of four; or /4, where JOB_COMPLETION_INDEX says which";
    read().ok_or_else(|| format!("error: there is no shard {shard:?}: {remedy}"))
}

/// What the runs showed.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// How many runs there were.
    pub runs: u64,
    /// How many seeds gave what does not fit together, and was not run.
    pub misfits: u64,
    /// Simulated time of them all.
    pub simulated: Duration,
    /// How often each word of a step and each event was drawn.
    pub words: BTreeMap<&'static str, u64>,
    /// What they reached.
    pub coverage: Coverage,
    /// In how many of them each promise could have been broken.
    pub occasions: Occasions,
    /// How often each variant was tried.
    pub variants: BTreeMap<Variant, Tally>,
    /// What broke, by promise or variant: the first, and how many more.
    pub finds: BTreeMap<String, Find>,
}

/// A promise that broke.
#[derive(Clone, Debug)]
pub struct Find {
    /// The smallest seed from which a scenario was drawn that shows it.
    pub seed: u64,
    /// The seed under which the file shows it.
    pub shows_under: u64,
    /// How it broke.
    pub failure: Failure,
    /// The scenario.
    pub text: String,
    /// How many more seeds broke the same promise.
    pub more: u64,
    /// Where it is kept.
    pub path: PathBuf,
}

/// One scenario that was run: what broke, and what it reached.
struct Run {
    seed: u64,
    text: String,
    scenario: Scenario,
    trial: gate::Trial,
    /// What a variant came to, if one was tried.
    compared: Option<(Variant, Compared)>,
}

/// Runs `text` once.
pub(crate) fn try_text(pod: &Arc<dyn Pod>, text: &str, seed: u64) -> Option<(Scenario, gate::Trial)> {
    let scenario = scenario::parse_for(Purpose::Tried, "drawn", text).ok()?;
    let file = ScenarioFile { path: "drawn".into(), scenario };
    let trial = gate::trial(pod, &file, seed, EngineName::default(), None);
    Some((file.scenario, trial))
}

/// Runs all seeds until `is_over`. `progress` hears of each run, and each first find of a promise is kept before it is told.
///
/// # Errors
/// A find can't be written, or the corpus not be read or written.
pub fn explore(
    pod: &Arc<dyn Pod>,
    asked: &Asked,
    is_over: &(dyn Fn() -> bool + Sync),
    progress: impl Fn(&Explored) + Sync,
) -> io::Result<Explored> {
    let (shard, shards) = asked.shard;
    let seeds = (asked.from..asked.from.saturating_add(asked.seeds)).filter(|seed| seed % shards == shard);
    let mut seeds = seeds.take_while(|_| !is_over());
    let variants = asked.variants.variants().into_iter().map(|variant| (variant, Tally::default())).collect();
    let explored = Mutex::new(Explored { variants, ..Explored::default() });
    let search = Search { pod, asked, progress, explored };
    let Some(folder) = &asked.corpus else {
        search.run(seeds, None)?;
        return Ok(search.end());
    };
    let mut corpus = Corpus::open(folder)?;
    loop {
        let generation: Vec<u64> = seeds.by_ref().take(corpus::GENERATION).collect();
        if generation.is_empty() {
            return Ok(search.end());
        }
        let candidates = search.run(generation.into_iter().take_while(|_| !is_over()), Some(&corpus))?;
        corpus.take_in(candidates)?;
    }
}

/// What goes on while seeds are run.
struct Search<'a, P> {
    pod: &'a Arc<dyn Pod>,
    asked: &'a Asked,
    progress: P,
    explored: Mutex<Explored>,
}

impl<P: Fn(&Explored) + Sync> Search<'_, P> {
    /// Runs these seeds. Returns what the corpus may take in.
    fn run(&self, seeds: impl Iterator<Item = u64> + Send, corpus: Option<&Corpus>) -> io::Result<Vec<Candidate>> {
        let kept = Mutex::new(Ok(Vec::new()));
        parallel::each_of(seeds, |seed| {
            let text = draw::beside(seed, corpus.map_or(&[], |corpus| &corpus.drafts));
            let tried = try_text(self.pod, &text, seed);
            let compare = |variant| Some((variant, variants::compare(self.pod, &text, seed, variant)?));
            let compared = self.asked.variants.of_seed(seed).and_then(compare);
            let mut explored = self.explored.lock().expect("nothing panics in here");
            let mut kept = kept.lock().expect("nothing panics in here");
            match tried {
                Some((scenario, trial)) => {
                    let corpus = corpus.filter(|_| trial.events <= corpus::MAX_EVENTS);
                    let new = corpus.map(|corpus| corpus.new_of(&trial.together)).filter(|new| !new.is_empty());
                    let candidate = new.map(|reached| Candidate { seed, text: text.clone(), reached });
                    let added = explored.add(Run { seed, text, scenario, trial, compared }, &self.asked.out);
                    match (&mut *kept, added) {
                        (Ok(kept), Ok(())) => kept.extend(candidate),
                        (Ok(_), Err(error)) => *kept = Err(error),
                        (Err(_), _) => {}
                    }
                }
                None => explored.misfits += 1,
            }
            (self.progress)(&explored);
        });
        kept.into_inner().expect("nothing panics in here")
    }

    fn end(self) -> Explored {
        self.explored.into_inner().expect("nothing panics in here")
    }
}

impl Explored {
    fn add(&mut self, run: Run, out: &Path) -> io::Result<()> {
        let Run { seed, text, scenario, mut trial, compared } = run;
        self.runs += 1;
        self.simulated += trial.simulated;
        self.coverage.add(&trial.coverage);
        self.occasions.add(&trial.occasions);
        let steps = scenario.clients.iter().flat_map(|client| Step::every(&client.steps)).map(|step| step.word());
        let events = scenario.events.iter().map(|event| event.action.name());
        for word in steps.chain(events) {
            *self.words.entry(word).or_default() += 1;
        }
        if let Some((variant, compared)) = compared {
            self.variants.entry(variant).or_default().add(&compared);
            trial.failures.extend(compared.into_failure());
        }
        for failure in trial.failures {
            let known = self.finds.get_mut(&failure.broke);
            let more = known.as_ref().map_or(0, |known| known.more + 1);
            if let Some(known) = known
                && known.seed <= seed
            {
                known.more = more;
                continue;
            }
            let path = out.join(format!("{}-{seed}.toml", failure.broke));
            keep(&path, &text, &failure, seed)?;
            let (broke, text) = (failure.broke.clone(), text.clone());
            let find = Find { seed, shows_under: seed, failure, text, more, path };
            if let Some(later) = self.finds.insert(broke, find) {
                fs::remove_file(&later.path)?;
            }
        }
        Ok(())
    }

    /// Makes each find smaller, for `long` at most, and keeps the smaller one in its place.
    ///
    /// # Errors
    /// It can't be written.
    pub fn shrink(&mut self, pod: &Arc<dyn Pod>, long: Duration) -> io::Result<()> {
        for find in self.finds.values_mut() {
            let begun = Stopwatch::start();
            let smaller = shrink(pod, &find.text, &find.failure, find.seed, &|| begun.elapsed() < long);
            keep(&find.path, &smaller.text, &smaller.failure, smaller.seed)?;
            (find.text, find.failure, find.shows_under) = (smaller.text, smaller.failure, smaller.seed);
        }
        Ok(())
    }

    /// Where it stands, in a few words.
    pub fn brief(&self, wall: Duration) -> String {
        let rate = self.runs as f64 / wall.as_secs_f64().max(f64::MIN_POSITIVE);
        let (all, missing) = (Mark::all().len(), self.coverage.missing().len());
        format!("{rate:.0}/s, {} of {all} reached, {} promises broken", all - missing, self.finds.len())
    }

    /// For people.
    pub fn text(&self, wall: Duration, colour: bool) -> String {
        let mut out = String::new();
        for (broke, find) in &self.finds {
            let _ = writeln!(out, "BROKEN  {broke}: {}", find.failure.what);
            let _ = writeln!(out, "        {}; {} more runs broke it", find.path.display(), find.more);
            let _ = writeln!(out, "        again: {}\n", again(&find.path, broke, find.shows_under));
            out.extend(find.text.lines().map(|line| format!("        {line}\n")));
            let _ = writeln!(out, "\n{}\n", find.failure.evidence.trim_end());
        }
        let _ = writeln!(out, "{}", coverage::text(&self.coverage, colour));
        let _ = writeln!(out, "at stake in so many runs");
        for promise in Promise::ALL.into_iter().filter(|promise| *promise != Promise::SameSeedSameRun) {
            let _ = writeln!(out, "  {:<20}  {:>9}", promise.name(), self.occasions.of_promise(promise));
        }
        if !self.variants.is_empty() {
            let _ = writeln!(out, "\nvariants, compared and not");
        }
        for (variant, tally) in &self.variants {
            let _ = writeln!(out, "  {:<20}  {:>9}  {:>9}", variant.name(), tally.compared, tally.not_compared);
        }
        let unused = self.unused();
        if !unused.is_empty() {
            let _ = writeln!(out, "\nwarning: never drawn: {}", unused.join(", "));
        }
        let missing: Vec<String> = self.coverage.missing().into_iter().map(Mark::name).collect();
        if !missing.is_empty() {
            let _ = writeln!(out, "\nwarning: never reached: {}", missing.join(", "));
        }
        let simulated = humantime::format_duration(Duration::from_secs(self.simulated.as_secs()));
        let (runs, misfits, brief) = (self.runs, self.misfits, self.brief(wall));
        let _ =
            writeln!(out, "\n{runs} runs in {wall:.1?}, {simulated} simulated: {brief}; {misfits} seeds fit nothing");
        out
    }

    /// For machines.
    pub fn json(&self, wall: Duration) -> String {
        let finds = self.finds.iter().map(|(broke, find)| {
            serde_json::json!({
                "promise": broke,
                "what": find.failure.what,
                "evidence": find.failure.evidence,
                "file": find.path,
                "drawn_from": find.seed,
                "seed": find.shows_under,
                "more": find.more,
            })
        });
        let stake = Promise::ALL.into_iter().map(|promise| (promise.to_string(), self.occasions.of_promise(promise)));
        let variants = self.variants.iter().map(|(variant, tally)| {
            let tally = serde_json::json!({ "compared": tally.compared, "not_compared": tally.not_compared });
            (variant.name(), tally)
        });
        let json = serde_json::json!({
            "runs": self.runs,
            "wall_ms": wall.as_secs_f64() * 1e3,
            "simulated_s": self.simulated.as_secs(),
            "finds": finds.collect::<Vec<_>>(),
            "words": self.words,
            "never_drawn": self.unused(),
            "at_stake": stake.collect::<BTreeMap<_, _>>(),
            "variants": variants.collect::<BTreeMap<_, _>>(),
            "coverage": coverage::json(&self.coverage),
        });
        format!("{json:#}\n")
    }

    /// What a search that is complete has come upon, and this one has not; none if it is complete.
    pub fn lacks(&self) -> Option<String> {
        let unjudged = Promise::ALL.into_iter().filter(|promise| self.occasions.of_promise(*promise) == 0);
        let uncompared = self.variants.iter().filter(|(_, tally)| tally.compared == 0);
        let never: Vec<String> = (self.runs == 0)
            .then(|| "no scenario was run".to_owned())
            .into_iter()
            .chain(self.coverage.missing().into_iter().map(|mark| format!("never reached: {}", mark.name())))
            .chain(self.unused().into_iter().map(|word| format!("never drawn: {word}")))
            .chain(unjudged.map(|promise| format!("never at stake: {promise}")))
            .chain(uncompared.map(|(variant, _)| format!("never compared: {}", variant.name())))
            .collect();
        (!never.is_empty()).then(|| never.join("; "))
    }

    /// Words of the vocabulary that were never drawn.
    pub fn unused(&self) -> Vec<&'static str> {
        let steps = Step::WORDS.iter().map(|word| word.name);
        let actions = scenario::Action::ALL.into_iter().map(scenario::Action::name);
        steps.chain(actions).filter(|word| !self.words.contains_key(*word) && !NEVER_DRAWN.contains(word)).collect()
    }
}

/// SIGKILL cuts what runs, and a file would have to say whom: it proves nothing here.
const NEVER_DRAWN: [&str; 1] = ["sigkill"];

/// The command that shows a find again.
pub(crate) fn again(path: &Path, broke: &str, seed: u64) -> String {
    let variant = Variant::of_find(broke).map_or(String::new(), |variant| format!(" --variant {}", variant.name()));
    format!("sim run {} --seed {seed}{variant}", path.display())
}

/// The seed under which a find shows what it was kept for, of the file's head; `None` if it is no find.
pub fn seed_of(text: &str) -> Option<u64> {
    let again = text.lines().find(|line| line.starts_with("# again: sim run "))?;
    let (_, seed) = again.rsplit_once(" --seed ")?;
    seed.split_whitespace().next()?.parse().ok()
}

/// Writes a find: the file that shows it, what it shows, and how to see it again.
pub(crate) fn keep(path: &Path, text: &str, failure: &Failure, seed: u64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let what = failure.what.replace('\n', " ");
    let head = format!("# breaks {}: {what}\n# again: {}\n", failure.broke, again(path, &failure.broke, seed));
    // Under another name first: whoever is killed here leaves no half of a file.
    let unfinished = path.with_extension("unfinished");
    let (schema, rest) = text.split_once('\n').unwrap_or((text, ""));
    fs::write(&unfinished, format!("{schema}\n{head}{rest}"))?;
    fs::rename(&unfinished, path)
}
