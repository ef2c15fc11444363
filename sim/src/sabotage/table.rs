//! The table of sabotages: what caught each, in which scenario, after how many seeds. For people, for machines, and as the
//! file that is kept beside the patches.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use owo_colors::{OwoColorize, Style};
use serde::Serialize;

use super::{Catcher, FOLDER, Outcome, Row, SEEDS};

/// The kept table's file, in the folder of the patches.
pub const FILE: &str = "table.md";

/// The table as it is kept: without times, in Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::from("| sabotage | caught by | in | seeds |\n|---|---|---|---|\n");
    for row in rows {
        let [by, file, seeds] = row.cells();
        let _ = writeln!(out, "| {} | {by} | {file} | {seeds} |", row.sabotage);
    }
    out
}

/// The table in aligned columns, what is wrong and what to do about it, and a summary. `stale` is what [`stale`] says.
pub fn text(rows: &[Row], stale: Option<&str>, wall: Duration, colour: bool) -> String {
    let mut out = String::new();
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let [by, file, seeds] = row.cells();
            [row.sabotage.clone(), by, file, seeds, format!("{:.1} s", row.wall.as_secs_f64())]
        })
        .collect();
    let width = |column: usize| cells.iter().map(|cells| cells[column].len()).max().unwrap_or_default();
    let [name, by, file, seeds, wall_width] = [0, 1, 2, 3, 4].map(width);
    for (row, cells) in rows.iter().zip(&cells) {
        let caught = row.outcome.is_caught();
        let (word, style) =
            if caught { ("caught", Style::new().green()) } else { ("MISSED", Style::new().red().bold()) };
        let word = if colour { word.style(style).to_string() } else { word.to_owned() };
        let _ = writeln!(
            out,
            "{word}  {:<name$}  {:<by$}  {:<file$}  {:>seeds$}  {:>wall_width$}",
            cells[0], cells[1], cells[2], cells[3], cells[4]
        );
    }
    for row in rows.iter().filter(|row| !row.outcome.is_caught()) {
        let (what, remedy) = row.wrong();
        let _ = writeln!(out, "\nMISSED  {}: {}\n  {remedy}", row.sabotage, what.trim_end().replace('\n', "\n  "));
    }
    if let Some(stale) = stale {
        let _ = writeln!(out, "\n{}", stale.trim_end());
    }
    let caught = rows.iter().filter(|row| row.outcome.is_caught()).count();
    let _ = writeln!(
        out,
        "\n{caught} caught, {} missed: {} sabotages, {SEEDS} seeds at most, {:.1} s wall",
        rows.len() - caught,
        rows.len(),
        wall.as_secs_f64()
    );
    out
}

/// One row, for a log.
pub fn line(row: &Row) -> String {
    let [by, file, seeds] = row.cells();
    let word = if row.outcome.is_caught() { "caught" } else { "MISSED" };
    format!("{word} {}: {by} {file} {seeds} ({:.1} s)", row.sabotage, row.wall.as_secs_f64())
}

/// How the kept table differs from this one, in words; `None` if it does not.
pub fn stale(kept: &str, rows: &[Row]) -> Option<String> {
    let now = markdown(rows);
    if kept == now {
        return None;
    }
    let mut out = format!("The table in {FOLDER}/{FILE} differs; `sim sabotage --update` writes it anew:\n");
    for line in kept.lines().filter(|line| !now.lines().any(|other| other == *line)) {
        let _ = writeln!(out, "- {line}");
    }
    for line in now.lines().filter(|line| !kept.lines().any(|other| other == *line)) {
        let _ = writeln!(out, "+ {line}");
    }
    Some(out)
}

/// All of it as one JSON document.
pub fn json(rows: &[Row], stale: Option<&str>, wall: Duration) -> String {
    let report = Json {
        seeds: SEEDS,
        wall_ms: wall.as_secs_f64() * 1000.0,
        caught: rows.iter().filter(|row| row.outcome.is_caught()).count(),
        sabotages: rows.iter().map(JsonRow::of).collect(),
        stale,
    };
    serde_json::to_string_pretty(&report).expect("a table holds only strings and numbers") + "\n"
}

#[derive(Serialize)]
struct Json<'a> {
    seeds: u64,
    wall_ms: f64,
    caught: usize,
    sabotages: Vec<JsonRow<'a>>,
    stale: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    sabotage: &'a str,
    caught: bool,
    by: String,
    scenario: Option<&'a Path>,
    seed: Option<u64>,
    what: String,
    wall_ms: f64,
}

impl<'a> JsonRow<'a> {
    fn of(row: &'a Row) -> Self {
        let catch = match &row.outcome {
            Outcome::Caught(catch) => Some(catch),
            _ => None,
        };
        let [by, ..] = row.cells();
        JsonRow {
            sabotage: &row.sabotage,
            caught: row.outcome.is_caught(),
            by,
            scenario: catch.map(|catch| Path::new(&catch.file)),
            seed: catch.map(|catch| catch.seed),
            what: catch.map_or_else(|| row.wrong().0, |catch| catch.what.clone()),
            wall_ms: row.wall.as_secs_f64() * 1000.0,
        }
    }
}

impl Row {
    /// What caught it, where, after how many seeds.
    fn cells(&self) -> [String; 3] {
        let nowhere = |by: &str| [by.to_owned(), String::new(), String::new()];
        match &self.outcome {
            Outcome::Caught(catch) => [catch.broke.clone(), scenario(&catch.file), catch.seed.to_string()],
            Outcome::Failed => nowhere(&self.must()),
            Outcome::Survived(Some(catch)) => {
                [format!("{}, not {}", catch.broke, self.must()), scenario(&catch.file), catch.seed.to_string()]
            }
            Outcome::Survived(None) => nowhere("nothing"),
            Outcome::Missed(_) => nowhere("not by all who say so"),
            Outcome::DoesNotApply(_) => nowhere("does not apply"),
            Outcome::Trouble(_) => nowhere("no answer"),
        }
    }

    /// What must catch it.
    fn must(&self) -> String {
        match &self.catcher {
            Catcher::Suite(breaks) => breaks.clone(),
            Catcher::Test(arguments) => format!("cargo {}", arguments.join(" ")),
        }
    }

    /// What is wrong, and what to do about it.
    fn wrong(&self) -> (String, String) {
        let patch = format!("{FOLDER}/{}.patch", self.sabotage);
        let must = self.must();
        match &self.outcome {
            Outcome::Caught(_) | Outcome::Failed => Default::default(),
            Outcome::Survived(Some(catch)) => (
                format!("{SEEDS} seeds and {must} holds; only {} broke in {}: {}", catch.broke, catch.file, catch.what),
                format!("Make {must} see it, or say in {patch} what must catch it instead."),
            ),
            Outcome::Survived(None) => (
                format!("it survived: {must} holds, and so does everything else"),
                "Write a scenario in which its users would notice.".to_owned(),
            ),
            Outcome::Missed(files) => (
                format!("nothing breaks in {}, where `catches` says so", files.join(", ")),
                "Take it from there, or make the file see it.".to_owned(),
            ),
            Outcome::DoesNotApply(why) => (
                format!("it does not apply: {why}"),
                format!("The source has changed under it: make the same mistake anew in {patch}."),
            ),
            Outcome::Trouble(why) => {
                (why.clone(), format!("Correct {patch}: a sabotage must build, and its suite must end."))
            }
        }
    }
}

/// A scenario file, as short as it can be found by.
fn scenario(file: &str) -> String {
    file.trim_start_matches("scenarios/").trim_end_matches(".toml").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::hunt::Catch;
    use super::*;

    fn row(sabotage: &str, outcome: Outcome) -> Row {
        let catcher = Catcher::Suite("never-cut".to_owned());
        Row { sabotage: sabotage.to_owned(), catcher, outcome, wall: Duration::from_secs(2) }
    }

    fn catch(broke: &str) -> Catch {
        let [what, file] = ["It was cut.", "scenarios/hazards/h16-x.toml"].map(str::to_owned);
        Catch { broke: broke.to_owned(), what, file, seed: 3 }
    }

    #[test]
    fn the_kept_table_has_no_times_and_a_difference_is_shown_line_by_line() {
        let rows = [row("h16-x", Outcome::Caught(catch("never-cut")))];
        let kept = markdown(&rows);
        assert_eq!(kept.lines().last(), Some("| h16-x | never-cut | hazards/h16-x | 3 |"));
        assert_eq!(stale(&kept, &rows), None);
        let stale = stale(&kept.replace("| 3 |", "| 2 |"), &rows).unwrap();
        assert!(stale.contains("- | h16-x | never-cut | hazards/h16-x | 2 |\n+ | h16-x"), "{stale}");
        assert!(stale.contains("--update"), "{stale}");
    }

    #[test]
    fn whatever_is_not_caught_is_told_with_what_to_do() {
        let rows = [
            row("a", Outcome::Survived(None)),
            row("b", Outcome::Survived(Some(catch("expect.exit.code")))),
            row("c", Outcome::DoesNotApply("cp/src/x.rs, hunk 2 (@@ @@): no".to_owned())),
            row("d", Outcome::Trouble("cargo build: exit status: 101".to_owned())),
        ];
        let text = text(&rows, None, Duration::ZERO, false);
        for told in [
            "Write a scenario in which its users would notice.",
            "expect.exit.code, not never-cut",
            "make the same mistake anew in sim/sabotage/c.patch",
            "a sabotage must build",
            "0 caught, 4 missed",
        ] {
            assert!(text.contains(told), "{told} is not in\n{text}");
        }
    }
}
