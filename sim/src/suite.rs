//! All runs of many files: each file under each of its seeds, as many at a time as the machine has processors.

use std::time::Duration;

use crate::cast::run::{self, EngineName};
use crate::judge::coverage::Coverage;
use crate::judge::gate::{self, Elsewhere, Judgement, Trial};
use crate::parallel;
use crate::scenario::ScenarioFile;
use crate::stopwatch::timed;

/// What was asked for: it goes into the commands that repeat a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which seeds, instead of those that each file says.
    pub seeds: Option<Seeds>,
    /// The engine.
    pub engine: EngineName,
    /// Which files.
    pub scope: Scope,
}

/// Which seeds were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// This one.
    Only(u64),
    /// From 1 to this one, and more where a file says so.
    AtLeast(u64),
}

/// Which files were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that there are.
    Suite,
    /// Some.
    Files,
}

impl Asked {
    /// Whether everything must be reached: by all files, each under all its seeds, on the engine that can do everything.
    pub fn must_reach_all(&self) -> bool {
        self.scope == Scope::Suite
            && !matches!(self.seeds, Some(Seeds::Only(_)))
            && self.engine == EngineName::default()
    }
}

/// What all of these runs reached together.
pub fn coverage(lines: &[Line]) -> Coverage {
    let mut coverage = Coverage::default();
    lines.iter().for_each(|line| coverage.add(&line.judgement.coverage));
    coverage
}

/// One file's judgement and how long it took to come to it.
#[derive(Clone, Debug)]
pub struct Line {
    /// The judgement.
    pub judgement: Judgement,
    /// Wall time of everything that was run for it.
    pub wall: Duration,
}

/// How many runs these files take.
pub fn runs(files: &[ScenarioFile], asked: Asked) -> usize {
    files.iter().map(|file| jobs(file, asked).len()).sum()
}

/// Runs and judges all files; a line for each, in their order. Calls `done` after each run.
pub fn judge(files: &[ScenarioFile], asked: Asked, elsewhere: &Elsewhere<'_>, done: impl Fn() + Sync) -> Vec<Line> {
    let all = files.iter().flat_map(|file| jobs(file, asked)).collect();
    let mut trials = parallel::each(all, |(file, seed, first)| {
        let proof = first.then_some(elsewhere);
        let trial = timed(|| gate::trial(file, seed, asked.engine, proof));
        done();
        trial
    })
    .into_iter();
    let line = |file| {
        let (trials, walls): (Vec<Trial>, Vec<Duration>) = trials.by_ref().take(jobs(file, asked).len()).unzip();
        Line { judgement: Judgement::new(file, asked.engine, trials), wall: walls.iter().sum() }
    };
    files.iter().map(line).collect()
}

/// A file, one of its seeds, and whether that is the first.
fn jobs(file: &ScenarioFile, asked: Asked) -> Vec<(&ScenarioFile, u64, bool)> {
    if !run::lacks(&file.scenario, asked.engine).is_empty() {
        return Vec::new();
    }
    let seeds = gate::seeds(&file.scenario, asked.seeds);
    let first = *seeds.start();
    seeds.map(|seed| (file, seed, seed == first)).collect()
}
