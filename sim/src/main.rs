//! The command `sim`: runs scenario files against the control plane and says whether its promises hold.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lastcall_core::settings;
use sim::cast::pod::last_call;
use sim::cast::pod::log::LogLevel;
use sim::cast::run::{self, EngineName};
use sim::explore::variants::{self, Compared, Tries, Variant};
use sim::judge::gate::Shows;
use sim::pools::Pools;
use sim::replay::Wanted;
use sim::report::explain::Explained;
use sim::scenario::{self, PoolKind, Purpose, ScenarioFile};
use sim::stopwatch::{Stopwatch, timed};
use sim::story::{Story, timeline};
use sim::suite::{self, Asked, Scope, Seeds};
use sim::{across, explore, report};

/// A promise or an expectation is broken.
const BROKEN: u8 = 1;
/// A file is bad, or there is none.
const BAD_FILE: u8 = 2;

/// Runs scenario files against the control plane under simulated time, and says whether its promises hold.
///
/// Without a command it runs every file under `scenarios/`. Exit codes: 0 everything holds, 1 a promise or an expectation is
/// broken, 2 a file is bad or there is none.
#[derive(Debug, Parser)]
#[command(
    name = "sim",
    version,
    after_help = "Examples:
  sim                                        all files under scenarios/
  sim run scenarios/acceptance/*.toml        some files
  sim run FILE --seed 7 --engine madsim      the run that a failure names
  sim --engine all                           all files on each engine, and whether these show the same
  sim explore --for 10m                      scenarios that nobody wrote; those that break a promise are kept
  sim explain FILE                           one run in a few words: why was this pod still there?
  sim replay FILE                            one run with every event and the control plane's own log
  sim check FILE                             only look for mistakes in the file
  sim report FILE -o run.html                one run as a page: a picture, and in words who held the pod
  sim report -o DIR                          all files as pages: an index, and each run that failed
  sim --format junit > junit.xml             all files, as tests for a CI system
  sim pools                                  what an application sees of a rollout, by its pool of connections
  sim steps query                            what a step can say; without a word all of them
  sim log FILE                               the run's events, one JSON object a line"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs files and judges them.
    Run {
        /// Scenario files, or folders of them; all of `scenarios/` if none is given.
        files: Vec<PathBuf>,
        /// Tell each file otherwise instead, and compare: what it decides must come out the same.
        #[arg(long, value_enum, conflicts_with_all = ["seeds", "engine", "reports", "format"])]
        variant: Option<Variant>,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Draws scenarios at random, and keeps those that break a promise.
    Explore(ExploreOptions),
    /// Looks for mistakes in files without running them.
    Check {
        /// Scenario files, or folders of them; all of `scenarios/` if none is given.
        files: Vec<PathBuf>,
    },
    /// Says what a client can do: the words of its steps, or the keys of one.
    Steps {
        /// A step's word; all of them, a line each, if none is given.
        word: Option<String>,
    },
    /// Lets each pool of connections go through a rollout, and prints what its application saw: how many of its jobs failed in
    /// one rollout, at least and at most, of how many nobody knows whether they ran, and how long the slowest took.
    Pools {
        /// How many rollouts each pool goes through under each way to drain.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
        seeds: u64,
        /// How to print it: text is a table of Markdown.
        #[arg(long, value_enum, default_value_t)]
        format: Words,
    },
    /// Prints the JSON Schema of scenario files, for editors.
    Schema,
    /// Runs one file and prints what happened, for people.
    Timeline {
        /// The scenario file.
        file: PathBuf,
        #[command(flatten)]
        options: SeedOptions,
    },
    /// Says in a few words why the pod of one file's run was still there: what told it to go, who waited for whom and which
    /// clock let it go, how it went and by when it had to, and what does not hold.
    ///
    /// The last to leave comes first, and copies of a client that did the same are told together; beyond five such lines only the
    /// sum is told. Exit codes: 0 everything
    /// holds, 1 a promise or an expectation is broken, 2 the file is bad or there is none.
    Explain {
        /// The scenario file.
        file: PathBuf,
        #[command(flatten)]
        options: SeedOptions,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Words,
    },
    /// Runs one scenario again and prints every event, between them what the control plane itself logs, in simulated time, and
    /// then the verdict.
    ///
    /// Exit codes: 0 everything holds, 1 a promise or an expectation is broken, 2 the file is bad or there is none.
    #[command(after_help = "Examples:
  sim replay scenarios/found/FILE.toml           a file; of a saved find also the seed that its head names
  sim replay 4711                                the scenario that `sim explore` draws from this seed
  sim replay FILE --seed 7 --log debug           with the lines for whoever looks for a defect")]
    Replay {
        /// A scenario file, a find that `sim explore` kept, or a number: the seed from which the explorer draws a scenario.
        what: String,
        /// Everything random in the run is drawn from this number. Default: the one in a find's head, of a number that number
        /// itself, or 1.
        #[arg(long)]
        seed: Option<u64>,
        /// The simulator to run on.
        #[arg(long, value_enum, default_value_t)]
        engine: EngineName,
        /// Which lines of the control plane's log are printed.
        #[arg(long, value_enum, default_value_t)]
        log: LogLevel,
    },
    /// Draws what happened in one file's run: a page for a browser, which needs no network. Of several files, or of all, a
    /// folder: an index, and a page for each run that failed, or for each file that was named.
    Report {
        /// A scenario file; several, or folders of them; all of `scenarios/` if none is given.
        files: Vec<PathBuf>,
        /// Where to write it: a page, or the folder.
        #[arg(short, long)]
        out: PathBuf,
        /// Of one file only the picture, as SVG.
        #[arg(long)]
        svg: bool,
        /// The seed. Default: 1 for one file, and for a folder as many as each file says.
        #[arg(long)]
        seed: Option<u64>,
        /// The simulator to run on.
        #[arg(long, value_enum, default_value_t)]
        engine: Engines,
    },
    /// Runs one file and prints its event log, one JSON object a line.
    Log {
        /// The scenario file.
        file: PathBuf,
        /// Print a number instead that two runs share if their logs do.
        #[arg(long)]
        fingerprint: bool,
        #[command(flatten)]
        options: SeedOptions,
    },
}

#[derive(Clone, Debug, Args)]
struct ExploreOptions {
    /// How many scenarios to draw, each from a seed of its own.
    #[arg(long, default_value_t = 10_000, conflicts_with = "time")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Draw for so long instead, such as `10m`.
    #[arg(long = "for", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Only every `n`th seed, the `i`th of them, counted from 0: for several machines. In an Indexed Job of Kubernetes `i` is
    /// `JOB_COMPLETION_INDEX`, and `/n` is enough.
    #[arg(long, value_name = "i/n")]
    shard: Option<String>,
    /// Stop at the first find.
    #[arg(long)]
    first: bool,
    /// Fail as well if some state was never reached, some word never drawn, some variant never compared, or nothing was run: for
    /// CI.
    #[arg(long)]
    complete: bool,
    /// One scenario in so many is also told otherwise, and must come out the same; 0: none.
    #[arg(long, value_name = "N", default_value_t = 15)]
    variants: u64,
    /// Tell it only in this way; may be given several times.
    #[arg(long, value_enum)]
    variant: Vec<Variant>,
    /// Where scenarios are kept that break a promise.
    #[arg(long, default_value = "scenarios/found")]
    out: PathBuf,
    /// A folder of scenarios that reached what is rarely reached: three of four are then drawn by changing one of them, and
    /// what reaches more is added. Files of your own may be in it.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// How long one of them may be made smaller.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    shrink: Duration,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Args)]
struct SeedOptions {
    /// Everything random in the run is drawn from this number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The simulator to run on.
    #[arg(long, value_enum, default_value_t)]
    engine: Engines,
}

#[derive(Clone, Debug, Args)]
struct RunOptions {
    /// The only seed that each file is run under. Default: as many as the file says, from 1.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Each file is run under the seeds from 1 to this one, or as many as it says, if those are more.
    #[arg(long)]
    seeds: Option<u64>,
    /// The simulator to run on.
    #[arg(long, value_enum, default_value_t)]
    engine: Engines,
    /// Also write pages into this folder: an index, and the picture of each run that failed.
    #[arg(long, value_name = "DIR")]
    reports: Option<PathBuf>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What `--engine` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engines {
    One(EngineName),
    All,
}

impl Default for Engines {
    fn default() -> Self {
        Engines::One(EngineName::default())
    }
}

impl Engines {
    fn list(self) -> Vec<EngineName> {
        match self {
            Engines::One(engine) => vec![engine],
            Engines::All => EngineName::ALL.to_vec(),
        }
    }
}

impl ValueEnum for Engines {
    fn value_variants<'a>() -> &'a [Self] {
        const {
            let [first, second, third] = EngineName::ALL;
            &[Engines::One(first), Engines::One(second), Engines::One(third), Engines::All]
        }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Engines::One(engine) => engine.to_possible_value(),
            Engines::All => Some(PossibleValue::new("all").help("Each of them; a run compares what they show")),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// JUnit's XML, which CI systems show as tests: a case for each file; of `explore` one for each promise.
    Junit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Words {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => run_files(&[], cli.options),
        Some(Command::Run { files, variant: Some(variant), options }) => run_variant(&files, variant, options.seed),
        Some(Command::Run { files, variant: None, options }) => run_files(&files, options),
        Some(Command::Explore(options)) => explore(&options),
        Some(Command::Check { files }) => check_files(&files),
        Some(Command::Steps { word }) => steps(word.as_deref()),
        Some(Command::Pools { seeds, format }) => pools(seeds, format),
        Some(Command::Schema) => print(&scenario::schema()),
        Some(Command::Timeline { file, options }) => show(
            &file,
            options,
            |engine| format!("engine {engine}\n"),
            |run| timeline::whole(&Story::of(&run.history, &run.settings)),
        ),
        Some(Command::Replay { what, seed, engine, log }) => replay(&what, seed, engine, log),
        Some(Command::Explain { file, options, format }) => explain(&file, options, format),
        Some(Command::Report { files, out, svg, seed, engine }) => match files.as_slice() {
            [file] if !file.is_dir() && !out.is_dir() => draw(file, &out, svg, seed.unwrap_or(1), engine),
            _ if svg => Err("error: `--svg` draws one file, into a file".to_owned()),
            files => {
                let format = Format::Text;
                run_files(files, RunOptions { seed, seeds: None, engine, reports: Some(out), format })
            }
        },
        Some(Command::Log { file, fingerprint, options }) => {
            let shows = if fingerprint { Shows::Fingerprint } else { Shows::Lines };
            let heading = |engine: &str| format!("{{\"engine\":\"{engine}\"}}\n");
            show(&file, options, heading, |run| shows.of(&run.history))
        }
    };
    done.unwrap_or_else(|complaint| {
        anstream::eprintln!("{complaint}");
        ExitCode::from(BAD_FILE)
    })
}

/// What applications see of a rollout, by their pools.
fn pools(seeds: u64, format: Words) -> Result<ExitCode, Complaint> {
    let progress = progress(usize::try_from(Pools::runs(&PoolKind::ALL, seeds)).unwrap_or(usize::MAX), "rollouts");
    let pools = Pools::roll(&last_call(), &PoolKind::ALL, seeds, || progress.inc(1));
    progress.finish_and_clear();
    match format {
        Words::Text => print(&pools.markdown()),
        Words::Json => {
            let json = serde_json::to_string_pretty(&pools).expect("numbers and text are JSON");
            print(&format!("{json}\n"))
        }
    }
}

/// What stops the command: ready to print.
type Complaint = String;

fn run_files(files: &[PathBuf], options: RunOptions) -> Result<ExitCode, Complaint> {
    must_be_built(options.engine)?;
    let scope = if files.is_empty() { Scope::Suite } else { Scope::Files };
    let files = if files.is_empty() { load(files)? } else { load_to_try(files)? };
    let seeds = options.seed.map(Seeds::Only).or(options.seeds.map(Seeds::AtLeast));
    let asked = match options.engine {
        Engines::One(engine) => Asked { seeds, engine, scope },
        Engines::All => {
            return run_across(&files, Asked { seeds, engine: EngineName::default(), scope }, &options);
        }
    };
    let progress = progress(suite::runs(&files, asked), "runs");
    let (lines, wall) =
        timed(|| suite::judge(&last_call(), &files, asked, &log_of_another_process, || progress.inc(1)));
    progress.finish_and_clear();
    write_reports(options.reports.as_deref(), &files, &lines, (asked, wall))?;
    match options.format {
        Format::Text => print(&report::text(&lines, asked, wall, std::io::stdout().is_terminal()))?,
        Format::Json => print(&report::json(&lines, asked, wall))?,
        Format::Junit => print(&report::junit::of_files(&lines, asked, wall))?,
    };
    Ok(if report::is_green(&lines, asked) { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// Runs files on every engine, and compares.
fn run_across(files: &[ScenarioFile], asked: Asked, options: &RunOptions) -> Result<ExitCode, Complaint> {
    let progress = progress(across::runs(files, asked), "runs");
    let (across, wall) =
        timed(|| across::judge(&last_call(), files, asked, &log_of_another_process, || progress.inc(1)));
    progress.finish_and_clear();
    for on in &across.engines {
        let dir = options.reports.as_ref().map(|dir| dir.join(on.asked.engine.name()));
        write_reports(dir.as_deref(), files, &on.lines, (on.asked, on.wall))?;
    }
    match options.format {
        Format::Text => print(&report::across::text(&across, wall, std::io::stdout().is_terminal()))?,
        Format::Json => print(&report::across::json(&across, wall))?,
        Format::Junit => print(&report::junit::of_engines(&across, wall))?,
    };
    Ok(if report::across::is_green(&across) { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// Compares files with a variant of each.
fn run_variant(files: &[PathBuf], variant: Variant, seed: Option<u64>) -> Result<ExitCode, Complaint> {
    let mut differ = false;
    for file in load_to_try(files)? {
        let path = file.path.display();
        let text =
            std::fs::read_to_string(&file.path).map_err(|error| format!("error: cannot read {path}: {error}"))?;
        let seed = seed.unwrap_or(1);
        print(&match variants::compare(&last_call(), &text, seed, variant) {
            Some(Compared::Alike { facts }) => format!("alike  {path}  {facts} facts\n"),
            Some(Compared::Differs(failure)) => {
                differ = true;
                format!("DIFFERS  {path}\n{}", failure.evidence)
            }
            Some(Compared::Not(why)) => format!("not compared  {path}  {why}\n"),
            None => format!("not compared  {path}  it has changed\n"),
        })?;
    }
    Ok(if differ { ExitCode::from(BROKEN) } else { ExitCode::SUCCESS })
}

/// An engine that this program lacks is a mistake in how it was built, and never skipped.
fn must_be_built(engines: Engines) -> Result<(), Complaint> {
    engines.list().into_iter().try_for_each(|engine| match engine.missing() {
        Some(remedy) => Err(format!("error: there is no engine {}: {remedy}", engine.name())),
        None => Ok(()),
    })
}

/// The event log of the same run, in a process of its own.
fn log_of_another_process(file: &ScenarioFile, seed: u64, engine: EngineName, shows: Shows) -> Result<String, String> {
    let itself = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    sim::another_process::log(&itself, file, seed, engine, shows)
}

fn explore(options: &ExploreOptions) -> Result<ExitCode, Complaint> {
    let asked = explore::Asked {
        from: options.from,
        seeds: if options.time.is_some() { u64::MAX } else { options.seeds },
        shard: explore::shard(options.shard.as_deref(), std::env::var("JOB_COMPLETION_INDEX").ok().as_deref())?,
        variants: Tries { one_in: options.variants, only: options.variant.clone() },
        out: options.out.clone(),
        corpus: options.corpus.clone(),
    };
    let bar = match options.time {
        None => progress(usize::try_from(options.seeds).unwrap_or(usize::MAX), "runs"),
        Some(_) => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(
            ProgressStyle::with_template("{spinner} {elapsed} {pos} runs  {msg}").expect("the template is right"),
        ),
    };
    let begun = Stopwatch::start();
    let found = AtomicBool::new(false);
    let is_over = || {
        let is_late = options.time.is_some_and(|time| begun.elapsed() >= time);
        is_late || options.first && found.load(Ordering::Relaxed)
    };
    // Nobody sees a hidden bar, and this is done for each run.
    let is_shown = !bar.is_hidden();
    let told = |explored: &explore::Explored| {
        found.store(!explored.finds.is_empty(), Ordering::Relaxed);
        if is_shown {
            bar.set_position(explored.runs);
            bar.set_message(explored.brief(begun.elapsed()));
        }
    };
    let not_kept = |error| format!("error: a find can't be kept in {}: {error}", options.out.display());
    let mut explored = explore::explore(&last_call(), &asked, &is_over, told).map_err(not_kept)?;
    let wall = begun.elapsed();
    bar.set_message("making finds smaller");
    explored.shrink(&last_call(), options.shrink).map_err(not_kept)?;
    bar.finish_and_clear();
    match options.format {
        Format::Text => print(&explored.text(wall, std::io::stdout().is_terminal()))?,
        Format::Json => print(&explored.json(wall))?,
        Format::Junit => print(&report::junit::of_explored(&explored, wall))?,
    };
    let lacks = explored.lacks().filter(|_| options.complete);
    if let Some(lacks) = &lacks {
        anstream::eprintln!("error: the search is not complete: {lacks}");
    }
    Ok(if explored.finds.is_empty() && lacks.is_none() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn check_files(files: &[PathBuf]) -> Result<ExitCode, Complaint> {
    let files = load(files)?;
    warn(&files);
    print(&format!(
        "{} good\n",
        if files.len() == 1 { "1 file is".to_owned() } else { format!("{} files are", files.len()) }
    ))
}

fn steps(word: Option<&str>) -> Result<ExitCode, Complaint> {
    let Some(name) = word else { return print(&scenario::all_steps()) };
    match scenario::Word::of(name) {
        Some(word) => print(&scenario::one_step(word)),
        None => {
            let nearest = scenario::nearest(name, scenario::Step::names());
            Err(format!("error: there is no step {name:?}{}", settings::did_you_mean(nearest)))
        }
    }
}

/// Runs one file and prints what `render` makes of it; on several engines, each behind what `heading` makes of its name.
fn show(
    file: &Path,
    options: SeedOptions,
    heading: impl Fn(&str) -> String,
    render: impl Fn(&run::Run) -> String,
) -> Result<ExitCode, Complaint> {
    each_run(file, options, heading, |_, _, run| {
        print(&render(run))?;
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs one file and explains the run.
fn explain(file: &Path, options: SeedOptions, format: Words) -> Result<ExitCode, Complaint> {
    if format == Words::Json && options.engine == Engines::All {
        return Err("error: one JSON document explains one run: name one engine".to_owned());
    }
    let mut holds = true;
    each_run(
        file,
        options,
        |_| String::new(),
        |file, engine, run| {
            must_have_one_pod(file, "`sim explain`")?;
            let explained = Explained::of(&last_call(), file, run, (options.seed, engine), None);
            holds &= explained.holds();
            let text = match format {
                Words::Text => explained.text(),
                Words::Json => explained.json(),
            };
            print(&text)?;
            Ok(())
        },
    )?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// Plays one run again, and says whether everything holds.
fn replay(what: &str, seed: Option<u64>, engine: EngineName, log: LogLevel) -> Result<ExitCode, Complaint> {
    must_be_built(Engines::One(engine))?;
    let wanted = Wanted::of(what, seed, std::io::stderr().is_terminal())?;
    warn(std::slice::from_ref(&wanted.file));
    must_be_supported(&wanted.file, engine)?;
    let replayed = wanted.play(&last_call(), engine, log);
    print(&replayed.text)?;
    Ok(if replayed.holds { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// Runs one file, on each engine that is asked for and can, and hands over the run.
fn each_run(
    file: &Path,
    options: SeedOptions,
    heading: impl Fn(&str) -> String,
    mut hand: impl FnMut(&ScenarioFile, EngineName, &run::Run) -> Result<(), Complaint>,
) -> Result<(), Complaint> {
    must_be_built(options.engine)?;
    for file in load_to_try(&[file.to_owned()])? {
        for engine in options.engine.list() {
            if let Some(lacks) = unsupported(&file, engine) {
                if options.engine != Engines::All {
                    return Err(format!("error: {lacks}"));
                }
                anstream::eprintln!("warning: {lacks}");
                continue;
            }
            if options.engine == Engines::All {
                print(&heading(engine.name()))?;
            }
            let run = run::run(&last_call(), &file.scenario, &run::settings(&file.scenario), options.seed, engine);
            hand(&file, engine, &run)?;
        }
    }
    Ok(())
}

/// Runs one file and writes its page, or its picture alone.
fn draw(file: &Path, out: &Path, svg: bool, seed: u64, engine: Engines) -> Result<ExitCode, Complaint> {
    must_be_built(engine)?;
    let Engines::One(engine) = engine else {
        return Err("error: a page shows one run: name one engine".to_owned());
    };
    for file in load_to_try(&[file.to_owned()])? {
        must_be_supported(&file, engine)?;
        if svg {
            must_have_one_pod(&file, "a picture")?;
        }
        let draw = if svg { report::svg_of } else { report::page_of };
        std::fs::write(out, draw(&last_call(), &file, seed, engine)).map_err(|error| cannot_write(out, &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What tells of one pod can't tell of several.
fn must_have_one_pod(file: &ScenarioFile, what: &str) -> Result<(), Complaint> {
    match file.scenario.deployment {
        Some(_) => Err(format!(
            "error: {} has several pods, and {what} is about one: `sim run` judges them, `sim timeline` and `sim replay` tell what \
             happened",
            file.path.display()
        )),
        None => Ok(()),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Complaint {
    format!("error: cannot write {}: {error}", path.display())
}

/// Writes the pages of these runs into a folder, if they are asked for.
fn write_reports(
    dir: Option<&Path>,
    files: &[ScenarioFile],
    lines: &[suite::Line],
    asked: (Asked, Duration),
) -> Result<(), Complaint> {
    let Some(dir) = dir else { return Ok(()) };
    let sabotages = std::fs::read_to_string("tests/sabotage/table.md").ok();
    let pages = report::folder::write(dir, &last_call(), files, lines, asked, sabotages.as_deref())
        .map_err(|error| cannot_write(dir, &error))?;
    let pages = if pages == 1 { "1 page".to_owned() } else { format!("{pages} pages") };
    anstream::eprintln!("wrote {}, and {pages} of runs beside it", dir.join("index.html").display());
    Ok(())
}

/// What the engine can't play can't be shown.
fn must_be_supported(file: &ScenarioFile, engine: EngineName) -> Result<(), Complaint> {
    unsupported(file, engine).map_or(Ok(()), |lacks| Err(format!("error: {lacks}")))
}

/// What the engine lacks for this file, in a sentence; none if it can play it.
fn unsupported(file: &ScenarioFile, engine: EngineName) -> Option<String> {
    let lacks = run::lacks(&file.scenario, engine);
    (!lacks.is_empty())
        .then(|| format!("{} is not supported by {}: {}", file.path.display(), engine.name(), lacks.join(", ")))
}

/// What is allowed and probably not meant.
fn warn(files: &[ScenarioFile]) {
    for file in files {
        for warning in scenario::warnings(&file.scenario) {
            anstream::eprintln!("warning: {}: {warning}", file.path.display());
        }
    }
}

/// Loads all files, and complains of all that are bad.
fn load(paths: &[PathBuf]) -> Result<Vec<ScenarioFile>, Complaint> {
    load_for(Purpose::Kept, paths)
}

/// Loads files of which somebody wants to see what happens. That one tests nothing is only a warning.
fn load_to_try(paths: &[PathBuf]) -> Result<Vec<ScenarioFile>, Complaint> {
    let files = load_for(Purpose::Tried, paths)?;
    warn(&files);
    Ok(files)
}

fn load_for(purpose: Purpose, paths: &[PathBuf]) -> Result<Vec<ScenarioFile>, Complaint> {
    let root = [PathBuf::from("scenarios")];
    suite::load(purpose, if paths.is_empty() { &root } else { paths }, std::io::stderr().is_terminal())
}

fn progress(all: usize, what: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}");
    let style = ProgressStyle::with_template(&template).expect("the template is right");
    // Drawn only on a terminal; logs and pipes get none of it.
    ProgressBar::with_draw_target(Some(all as u64), ProgressDrawTarget::stderr()).with_style(style)
}

fn print(text: &str) -> Result<ExitCode, Complaint> {
    // Whoever closes the pipe (`sim | head`) has read enough.
    let _ = anstream::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
