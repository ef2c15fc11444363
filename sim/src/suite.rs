//! All runs of many files: each file under each of its seeds, as many at a time as the machine has processors; and the same
//! for any control plane ([`Suite`]).

pub mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::table::{Column, Table};
use lastcall_core::settings;

use crate::cast::pod::Pod;
use crate::cast::run::{self, EngineName};
use crate::judge::coverage::Coverage;
use crate::judge::gate::{self, Elsewhere, Judgement, Shows, Trial};
use crate::parallel;
use crate::scenario::{self, Purpose, ScenarioFile};
use crate::stopwatch::timed;

/// Judges control planes by scenario files.
///
/// A control plane is a function of a world and of what it is told, and returns an exit code. It runs on every engine; what it
/// does not report of itself is not judged. The files' own expectations are judged too. What shows that a file can fail is not
/// asked of a control plane, and that a run is repeated byte for byte is shown by a second one in this process.
///
/// ```
/// use lastcall_world::World;
///
/// let table = sim::Suite::new("../scenarios/acceptance/idle-clients-cannot-hold-the-pod.toml")
///     .pod("deaf", |world: sim::AnyWorld, config: sim::Config| async move {
///         let _listener = world.bind(&config.listen).await.expect("the address is free");
///         let _signal = world.next_signal().await;
///         0
///     })
///     .run()?;
/// let broken = table.column("deaf").on(sim::scenario::Promise::CleanGoodbye).broken;
/// assert_eq!(broken.len(), 1, "nobody was told anything: {table}");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone)]
pub struct Suite {
    paths: Vec<PathBuf>,
    seeds: Option<Seeds>,
    engine: EngineName,
    pods: Vec<(String, Arc<dyn Pod>)>,
}

impl Suite {
    /// One of this scenario file, or of all that are in this folder and below it.
    pub fn new(path: impl AsRef<Path>) -> Suite {
        Suite { paths: vec![path.as_ref().to_owned()], seeds: None, engine: EngineName::default(), pods: Vec::new() }
    }

    /// And of these.
    pub fn and(mut self, path: impl AsRef<Path>) -> Suite {
        self.paths.push(path.as_ref().to_owned());
        self
    }

    /// Judges this one, too.
    pub fn pod(mut self, name: &str, pod: impl Pod + 'static) -> Suite {
        self.pods.push((name.to_owned(), Arc::new(pod)));
        self
    }

    /// Under these seeds, instead of those that each file says.
    pub fn seeds(self, seeds: Seeds) -> Suite {
        Suite { seeds: Some(seeds), ..self }
    }

    /// On this engine.
    pub fn engine(self, engine: EngineName) -> Suite {
        Suite { engine, ..self }
    }

    /// Runs everything.
    ///
    /// # Errors
    /// What is wrong with the files, ready to print.
    pub fn run(&self) -> Result<Table, String> {
        let mut files = load(Purpose::Tried, &self.paths, false)?;
        files.iter_mut().for_each(|file| file.scenario.fails_under.clear());
        let asked = Asked { seeds: self.seeds, engine: self.engine, scope: Scope::Files };
        let column = |(name, pod): &(String, Arc<dyn Pod>)| {
            let again = |file: &ScenarioFile, seed, engine, shows: Shows| {
                let scenario = &file.scenario;
                Ok(shows.of(&run::run(pod, scenario, &run::settings(scenario), seed, engine).history))
            };
            Column { name: name.clone(), lines: judge(pod, &files, asked, &again, || {}) }
        };
        Ok(Table { columns: self.pods.iter().map(column).collect() })
    }
}

/// Loads all these files, and all in these folders.
///
/// # Errors
/// Complains of all that are bad, ready to print, with colours if there are to be some; or that there is none.
pub fn load(purpose: Purpose, paths: &[PathBuf], colour: bool) -> Result<Vec<ScenarioFile>, String> {
    let mut files = Vec::new();
    let mut complaints = Vec::new();
    for path in paths {
        if !path.exists() {
            complaints.push(format!("error: there is no {}{}", path.display(), did_you_mean(path)));
            continue;
        }
        let found = if path.is_dir() {
            scenario::find(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?
        } else {
            vec![path.clone()]
        };
        for path in found {
            match scenario::load_for(purpose, &path) {
                Ok(file) => files.push(file),
                Err(error) => complaints.push(error.render(colour)),
            }
        }
    }
    if !complaints.is_empty() {
        return Err(complaints.join("\n"));
    }
    if files.is_empty() {
        let where_to = "run it where the folder `scenarios` is, or name the files";
        return Err(format!("error: there is no scenario file here: {where_to}"));
    }
    Ok(files)
}

/// The scenario file whose name is nearest to that of a file that does not exist, as a question; or nothing.
fn did_you_mean(path: &Path) -> String {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let known = scenario::find(Path::new("scenarios")).unwrap_or_default();
    let names: Vec<String> = known.iter().map(|path| stem(path)).collect();
    let nearest = scenario::nearest(&stem(path), names.iter().map(String::as_str));
    let nearest = nearest.and_then(|nearest| known.iter().find(|path| stem(path) == nearest));
    settings::did_you_mean(nearest.map(|path| path.display().to_string()).as_deref())
}

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
pub fn judge(
    pod: &Arc<dyn Pod>,
    files: &[ScenarioFile],
    asked: Asked,
    elsewhere: &Elsewhere<'_>,
    done: impl Fn() + Sync,
) -> Vec<Line> {
    let all = files.iter().flat_map(|file| jobs(file, asked)).collect();
    let mut trials = parallel::each(all, |(file, seed, first)| {
        let proof = first.then_some(elsewhere);
        let trial = timed(|| gate::trial(pod, file, seed, asked.engine, proof));
        done();
        trial
    })
    .into_iter();
    let line = |file| {
        let (trials, walls): (Vec<Trial>, Vec<Duration>) = trials.by_ref().take(jobs(file, asked).len()).unzip();
        Line { judgement: Judgement::new(pod, file, asked.engine, trials), wall: walls.iter().sum() }
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
