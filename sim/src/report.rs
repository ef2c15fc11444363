//! What the command prints: a line for each file, what failed and why, a summary; or all of it as JSON. And what it draws:
//! a page for a run, with its picture.

pub mod across;
pub mod explain;
pub mod folder;
mod html;
pub mod junit;
mod page;
mod picture;
mod run_page;
mod summary;
mod svg;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use owo_colors::{OwoColorize, Style};
use serde::Serialize;

pub use self::run_page::{page_of, svg_of};
use crate::cast::pod::Report;
use crate::cast::run::EngineName;
use crate::judge::coverage::{self, Coverage};
use crate::judge::gate::{Failure, Judgement, Verdict};
use crate::scenario::Promise;
use crate::story::holders;
use crate::suite::{self, Asked, Line, Scope, Seeds};

/// The report in words. Plain text; `colour` adds colours to verdicts.
pub fn text(lines: &[Line], asked: Asked, wall: Duration, colour: bool) -> String {
    let mut out = String::new();
    let widest = lines.iter().map(|line| line.judgement.file.len()).max().unwrap_or_default();
    for Line { judgement, wall } in lines {
        let _ = write!(out, "{}  {:<widest$}", verdict(&judgement.verdict, colour), judgement.file);
        match &judgement.verdict {
            Verdict::NotSupported(lacks) => {
                let _ = writeln!(out, "  not supported by {}: {}", asked.engine.name(), lacks.join(", "));
            }
            Verdict::Pass | Verdict::Fail(_) => {
                let _ = writeln!(
                    out,
                    "  {:>12} simulated  {:>9} wall  {}",
                    span(judgement.simulated),
                    milliseconds(*wall),
                    checked(judgement)
                );
                if judgement.seeds > 1 {
                    let _ = writeln!(out, "      orders seen under {} seeds", judgement.seeds);
                    for line in coverage::orders(&judgement.coverage) {
                        let _ = writeln!(out, "      {line}");
                    }
                }
                if asked.scope == Scope::Files {
                    for line in holders::text(&judgement.holders) {
                        let _ = writeln!(out, "      {line}");
                    }
                }
            }
        }
    }
    for Line { judgement, .. } in lines {
        if let Verdict::Fail(failures) = &judgement.verdict {
            failed(&mut out, judgement, failures, asked);
        }
    }
    coverage_and_gaps(&mut out, lines, asked, colour);
    for line in not_judged(lines) {
        let _ = write!(out, "\n{line}");
    }
    let _ = writeln!(out, "\n{}", summary_line(lines, asked, wall));
    out
}

/// How many passed, and how much was run.
fn summary_line(lines: &[Line], asked: Asked, wall: Duration) -> String {
    let count = Count::of(lines);
    format!(
        "{} passed, {} failed, {} skipped: {} files, {} runs, engine {}, {} wall",
        count.passed,
        count.failed,
        count.not_supported,
        lines.len(),
        lines.iter().map(|line| line.judgement.seeds).sum::<usize>(),
        asked.engine.name(),
        milliseconds(wall)
    )
}

/// The verdict in one word.
fn verdict(verdict: &Verdict, colour: bool) -> String {
    let (word, style) = match verdict {
        Verdict::Pass => ("pass", Style::new().green()),
        Verdict::Fail(_) => ("FAIL", Style::new().red().bold()),
        Verdict::NotSupported(_) => ("skip", Style::new().yellow()),
    };
    if colour { word.style(style).to_string() } else { word.to_owned() }
}

/// What the whole suite has reached, and what it lacks.
fn coverage_and_gaps(out: &mut String, lines: &[Line], asked: Asked, colour: bool) {
    if asked.scope != Scope::Suite {
        return;
    }
    let coverage = suite::coverage(lines);
    let _ = write!(out, "\n{}", coverage::text(&coverage, colour));
    for unmet in unmet_by_all(&coverage, lines, asked) {
        let _ = writeln!(out, "FAIL  {unmet}");
    }
}

/// What the suite as a whole, which reached this, lacks, where it must lack nothing: a line each.
fn unmet_by_all(coverage: &Coverage, lines: &[Line], asked: Asked) -> Vec<String> {
    if !asked.must_reach_all() {
        return Vec::new();
    }
    let missing =
        coverage.missing().into_iter().map(|mark| format!("no run reached {}: a scenario is missing", mark.name()));
    let remedy = "give it a `[[fails_under]]`, or `catches` with a sabotage";
    let unproven = unproven(lines).map(|file| format!("nothing shows that {file} can fail: {remedy}"));
    missing.chain(unproven).collect()
}

fn failed(out: &mut String, judgement: &Judgement, failures: &[Failure], asked: Asked) {
    let _ = writeln!(out, "\nFAIL  {}: {}", judgement.file, judgement.title);
    // Seeds are few here: each promise or expectation that broke names one.
    let mut seeds: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    for seed in seeds {
        for failure in failures.iter().filter(|failure| failure.seed == seed) {
            let more = match failure.more_seeds {
                0 => String::new(),
                more => format!(" (and under {} of {})", counted(more, "more seed"), judgement.seeds),
            };
            let _ = writeln!(out, "  {}: {}{more}", failure.broke, failure.what);
            for line in failure.evidence.lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
        let _ = writeln!(out, "  again: {}", replay(judgement, seed, asked));
    }
}

/// What could not be judged, and why: a line for each promise.
fn not_judged(lines: &[Line]) -> Vec<String> {
    let mut files: BTreeMap<(Promise, &[Report]), usize> = BTreeMap::new();
    for (promise, lacks) in lines.iter().flat_map(|line| &line.judgement.not_judged) {
        *files.entry((*promise, lacks)).or_default() += 1;
    }
    let line = |((promise, lacks), files): ((Promise, &[Report]), usize)| {
        let lacks: Vec<&str> = lacks.iter().map(|lack| lack.name()).collect();
        format!("{promise} was not judged in {}: the pod gives no {}", counted(files, "file"), lacks.join(", no "))
    };
    files.into_iter().map(line).collect()
}

/// The files that nothing shows to be able to fail.
fn unproven(lines: &[Line]) -> impl Iterator<Item = &str> {
    let unproven = lines.iter().map(|line| &line.judgement).filter(|judgement| !judgement.is_proven());
    unproven.map(|judgement| judgement.file.as_str())
}

/// The command that repeats a run.
fn replay(judgement: &Judgement, seed: u64, asked: Asked) -> String {
    again(&judgement.file, seed, asked.engine)
}

fn again(file: &str, seed: u64, engine: EngineName) -> String {
    format!("cargo run --release -p sim -- run {file} --seed {seed} --engine {}", engine.name())
}

fn checked(judgement: &Judgement) -> String {
    let mut words = vec![format!("{} promises", judgement.promises)];
    if !judgement.not_judged.is_empty() {
        words.push(format!("{} not judged", judgement.not_judged.len()));
    }
    if judgement.expectations > 0 {
        words.push(counted(judgement.expectations, "expectation"));
    }
    if judgement.seeds > 1 {
        words.push(counted(judgement.seeds, "seed"));
    }
    if judgement.fails_under > 0 {
        words.push(format!(
            "fails under {}",
            counted(judgement.fails_under, "old policy").replace("policys", "policies")
        ));
    }
    if !judgement.catches.is_empty() {
        words.push(format!("catches {}", counted(judgement.catches.len(), "sabotage")));
    }
    words.join(", ")
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn span(duration: Duration) -> String {
    // To the millisecond: finer times don't exist in a simulation.
    humantime::format_duration(Duration::from_millis(duration.as_millis() as u64)).to_string().replace(' ', "")
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

struct Count {
    passed: usize,
    failed: usize,
    not_supported: usize,
}

impl Count {
    fn of(lines: &[Line]) -> Count {
        let mut count = Count { passed: 0, failed: 0, not_supported: 0 };
        for line in lines {
            match line.judgement.verdict {
                Verdict::Pass => count.passed += 1,
                Verdict::Fail(_) => count.failed += 1,
                Verdict::NotSupported(_) => count.not_supported += 1,
            }
        }
        count
    }
}

/// Whether the gate is green: at least one file passed and none failed, and the whole suite has reached everything.
pub fn is_green(lines: &[Line], asked: Asked) -> bool {
    is_green_with(&unmet_by_all(&suite::coverage(lines), lines, asked), lines)
}

/// The same where it is known what the suite as a whole lacks.
fn is_green_with(unmet: &[String], lines: &[Line]) -> bool {
    let count = Count::of(lines);
    count.passed > 0 && count.failed == 0 && unmet.is_empty()
}

/// The report as one JSON document.
pub fn json(lines: &[Line], asked: Asked, wall: Duration) -> String {
    let report = document(lines, asked, wall);
    serde_json::to_string_pretty(&report).expect("a report holds only strings and numbers") + "\n"
}

fn document(lines: &[Line], asked: Asked, wall: Duration) -> Json<'_> {
    let count = Count::of(lines);
    Json {
        engine: asked.engine.name(),
        seed: if let Some(Seeds::Only(seed)) = asked.seeds { Some(seed) } else { None },
        runs: lines.iter().map(|line| line.judgement.seeds).sum(),
        wall_ms: wall.as_secs_f64() * 1000.0,
        passed: count.passed,
        failed: count.failed,
        not_supported: count.not_supported,
        files: lines.iter().map(|line| JsonFile::of(line, asked)).collect(),
        coverage: coverage::json(&suite::coverage(lines)),
    }
}

#[derive(Serialize)]
struct Json<'a> {
    engine: &'a str,
    /// The one that was asked for; none if each file was run under its own.
    seed: Option<u64>,
    runs: usize,
    wall_ms: f64,
    passed: usize,
    failed: usize,
    not_supported: usize,
    files: Vec<JsonFile<'a>>,
    coverage: Vec<coverage::Json>,
}

#[derive(Serialize)]
struct JsonFile<'a> {
    file: &'a str,
    title: &'a str,
    verdict: &'static str,
    simulated_ms: u64,
    wall_ms: f64,
    promises: usize,
    not_judged: Vec<&'static str>,
    expectations: usize,
    seeds: usize,
    fails_under: usize,
    catches: &'a [String],
    held: Vec<String>,
    not_supported: Vec<&'static str>,
    failures: Vec<JsonFailure<'a>>,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    broke: &'a str,
    what: &'a str,
    evidence: Vec<&'a str>,
    seed: u64,
    more_seeds: usize,
    again: String,
}

impl<'a> JsonFile<'a> {
    fn of(line: &'a Line, asked: Asked) -> Self {
        let judgement = &line.judgement;
        let (verdict, failures, not_supported) = match &judgement.verdict {
            Verdict::Pass => ("pass", [].as_slice(), Vec::new()),
            Verdict::Fail(failures) => ("fail", failures.as_slice(), Vec::new()),
            Verdict::NotSupported(lacks) => ("not_supported", [].as_slice(), lacks.clone()),
        };
        JsonFile {
            file: &judgement.file,
            title: &judgement.title,
            verdict,
            simulated_ms: judgement.simulated.as_millis() as u64,
            wall_ms: line.wall.as_secs_f64() * 1000.0,
            promises: judgement.promises,
            not_judged: judgement.not_judged.iter().map(|(promise, _)| promise.name()).collect(),
            expectations: judgement.expectations,
            seeds: judgement.seeds,
            fails_under: judgement.fails_under,
            catches: &judgement.catches,
            held: holders::text(&judgement.holders),
            not_supported,
            failures: failures
                .iter()
                .map(|failure| JsonFailure {
                    broke: &failure.broke,
                    what: &failure.what,
                    evidence: failure.evidence.lines().collect(),
                    seed: failure.seed,
                    more_seeds: failure.more_seeds,
                    again: replay(judgement, failure.seed, asked),
                })
                .collect(),
        }
    }
}

/// One file's failure or refusal, as the text report prints it.
pub fn one(judgement: &Judgement, asked: Asked) -> String {
    let mut out = String::new();
    match &judgement.verdict {
        Verdict::Pass => {}
        Verdict::Fail(failures) => failed(&mut out, judgement, failures, asked),
        Verdict::NotSupported(lacks) => {
            let _ = writeln!(out, "not supported by {}: {}", asked.engine.name(), lacks.join(", "));
        }
    }
    out
}
