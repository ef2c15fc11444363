//! The report on all engines: a line for each file, where engines disagree, and what each of them could judge.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use owo_colors::OwoColorize;
use serde::Serialize;

use super::{
    Count, Json, counted, coverage_and_gaps, document, failed, is_green as is_green_on, milliseconds, verdict,
};
use crate::across::{Across, Compared, Disagreement, OnEngine, REFERENCE};
use crate::judge::compare::Difference;
use crate::judge::gate::Verdict;

/// The report in words. Plain text; `colour` adds colours to verdicts.
pub fn text(across: &Across, wall: Duration, colour: bool) -> String {
    let mut out = String::new();
    let widest = across.compared.iter().map(|compared| compared.file.len()).max().unwrap_or_default();
    for (index, compared) in across.compared.iter().enumerate() {
        let _ = write!(out, "{:<widest$}", compared.file);
        for engine in &across.engines {
            let word = verdict(&engine.lines[index].judgement.verdict, colour);
            let _ = write!(out, "  {} {word}", engine.asked.engine.name());
        }
        let chance = match compared.left_to_chance {
            0 => String::new(),
            some => format!(", {some} left to chance"),
        };
        let facts = counted(compared.decided, "fact");
        let _ = match differences(compared) {
            0 => writeln!(out, "  {facts} alike{chance}"),
            differ => writeln!(out, "  {facts}, {differ} DIFFER{chance}"),
        };
    }
    for OnEngine { asked, lines, .. } in &across.engines {
        for judgement in lines.iter().map(|line| &line.judgement) {
            if let Verdict::Fail(failures) = &judgement.verdict {
                failed(&mut out, judgement, failures, *asked);
            }
        }
    }
    for compared in across.compared.iter().filter(|compared| !compared.disagreements.is_empty()) {
        disagreement(&mut out, compared);
    }
    if let Some(OnEngine { asked, lines, .. }) = reference(across) {
        coverage_and_gaps(&mut out, lines, *asked, colour);
    }
    table(&mut out, across, colour);
    let sum = |of: fn(&Compared) -> usize| across.compared.iter().map(of).sum::<usize>();
    let _ = writeln!(
        out,
        "\n{} files on {} engines: {} compared, {} differ, {} left to chance; {} wall",
        across.compared.len(),
        across.engines.len(),
        counted(sum(|compared| compared.decided), "fact"),
        sum(differences),
        sum(|compared| compared.left_to_chance),
        milliseconds(wall)
    );
    out
}

fn differences(compared: &Compared) -> usize {
    compared.disagreements.iter().map(|other| other.differences.len()).sum()
}

fn reference(across: &Across) -> Option<&OnEngine> {
    across.engines.iter().find(|engine| engine.asked.engine == REFERENCE)
}

/// Both sides of what differs in the first run that shows it, on each engine.
pub(super) fn disagreement(out: &mut String, compared: &Compared) {
    let _ = writeln!(out, "\nFAIL  {}: the engines tell different stories", compared.file);
    let mut told = Vec::new();
    for Disagreement { engine, seed, differences } in &compared.disagreements {
        if told.contains(engine) {
            continue;
        }
        told.push(*engine);
        for Difference { about, expected, came } in differences {
            let [expected, came] = [expected, came].map(|words| words.as_deref().unwrap_or("not known"));
            let (here, there) = (REFERENCE.name(), engine.name());
            let _ = writeln!(out, "  {about}\n    on {here}: {expected}\n    on {there}: {came}");
        }
        let more = compared.disagreements.iter().filter(|other| other.engine == *engine).count() - 1;
        let more = if more > 0 { format!("  (and under {})", counted(more, "more seed")) } else { String::new() };
        let _ = writeln!(out, "  again: {}{more}", replay(&compared.file, *seed));
    }
}

/// The command that repeats a comparison.
fn replay(file: &str, seed: u64) -> String {
    format!("cargo run --release -p sim -- run {file} --seed {seed} --engine all")
}

/// Which engine could judge how many files, and what the others need that it can't do.
fn table(out: &mut String, across: &Across, colour: bool) {
    let _ = writeln!(out, "\n{:<12}  judged  passed  failed  not supported", "engine");
    for OnEngine { asked, lines, .. } in &across.engines {
        let count = Count::of(lines);
        let lacks: Vec<String> = lacks(lines).iter().map(|(what, files)| format!("{what} {files}")).collect();
        let lacks = if lacks.is_empty() { String::new() } else { format!(": {}", lacks.join(", ")) };
        let mut failed = format!("{:>6}", count.failed);
        if colour && count.failed > 0 {
            failed = failed.red().bold().to_string();
        }
        let _ = writeln!(
            out,
            "{:<12}  {:>6}  {:>6}  {failed}  {:>13}{lacks}",
            asked.engine.name(),
            count.passed + count.failed,
            count.passed,
            count.not_supported,
        );
    }
}

/// How many files an engine did not judge for want of each capability. A file may want several.
fn lacks(lines: &[crate::suite::Line]) -> BTreeMap<&'static str, usize> {
    let mut lacks = BTreeMap::new();
    for line in lines {
        if let Verdict::NotSupported(wanted) = &line.judgement.verdict {
            wanted.iter().for_each(|what| *lacks.entry(*what).or_default() += 1);
        }
    }
    lacks
}

/// Whether nothing failed on any engine, the first one is green, and they tell the same stories.
pub fn is_green(across: &Across) -> bool {
    let alike = across.compared.iter().all(|compared| compared.disagreements.is_empty());
    let none_failed = across.engines.iter().all(|engine| Count::of(&engine.lines).failed == 0);
    alike && none_failed && reference(across).is_some_and(|engine| is_green_on(&engine.lines, engine.asked))
}

/// The report as one JSON document.
pub fn json(across: &Across, wall: Duration) -> String {
    let report = All {
        engine: "all",
        wall_ms: wall.as_secs_f64() * 1000.0,
        support: across.engines.iter().map(Support::of).collect(),
        engines: across.engines.iter().map(|on| document(&on.lines, on.asked, on.wall)).collect(),
        compared: across.compared.iter().map(JsonCompared::of).collect(),
    };
    serde_json::to_string_pretty(&report).expect("a report holds only strings and numbers") + "\n"
}

#[derive(Serialize)]
struct All<'a> {
    engine: &'static str,
    wall_ms: f64,
    support: Vec<Support>,
    /// Each as for that engine alone.
    engines: Vec<Json<'a>>,
    compared: Vec<JsonCompared<'a>>,
}

#[derive(Serialize)]
struct Support {
    engine: &'static str,
    judged: usize,
    passed: usize,
    failed: usize,
    not_supported: usize,
    lacks: BTreeMap<&'static str, usize>,
}

impl Support {
    fn of(on: &OnEngine) -> Support {
        let Count { passed, failed, not_supported } = Count::of(&on.lines);
        let (engine, judged) = (on.asked.engine.name(), passed + failed);
        Support { engine, judged, passed, failed, not_supported, lacks: lacks(&on.lines) }
    }
}

#[derive(Serialize)]
struct JsonCompared<'a> {
    file: &'a str,
    facts: usize,
    left_to_chance: usize,
    disagreements: Vec<JsonDisagreement<'a>>,
}

#[derive(Serialize)]
struct JsonDisagreement<'a> {
    engine: &'static str,
    seed: u64,
    differences: Vec<JsonDifference<'a>>,
    again: String,
}

#[derive(Serialize)]
struct JsonDifference<'a> {
    about: String,
    expected: Option<&'a str>,
    came: Option<&'a str>,
}

impl<'a> JsonCompared<'a> {
    fn of(compared: &'a Compared) -> Self {
        let difference = |Difference { about, expected, came }: &'a Difference| JsonDifference {
            about: about.to_string(),
            expected: expected.as_deref(),
            came: came.as_deref(),
        };
        let disagreement = |Disagreement { engine, seed, differences }: &'a Disagreement| JsonDisagreement {
            engine: engine.name(),
            seed: *seed,
            differences: differences.iter().map(difference).collect(),
            again: replay(&compared.file, *seed),
        };
        JsonCompared {
            file: &compared.file,
            facts: compared.decided,
            left_to_chance: compared.left_to_chance,
            disagreements: compared.disagreements.iter().map(disagreement).collect(),
        }
    }
}
