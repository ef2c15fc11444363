//! The command `sabotage`: builds known defects of the control plane into a copy of its sources, one at a time, and shows that
//! the suite catches each.
//!
//! A copy of the workspace ([`workshop`]) is changed by a patch ([`patch`]) and built; the sources themselves hold no trace of
//! it. What is run there is what everybody runs, `sim run` and `cargo test`, and what must break has to be in its report
//! ([`report`]). The scenario files that say that they catch the sabotage come first, and each of them must; where what must
//! break does not break in these, the whole suite follows, seed after seed.
//!
//! A sabotage that survives, does not apply or does not build makes the gate red, and so does a table that differs from the
//! one that is kept.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "programs are built and run here, on the real machine"
)]

mod claims;
mod explored;
mod patch;
mod report;
mod workshop;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use owo_colors::OwoColorize;

use claims::Claims;
use patch::Sabotage;
use report::Catch;
use workshop::Workshop;

/// The workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Where the patches are, from the workspace's root.
const PATCHES: &str = "tests/sabotage/patches";
/// What catches each, as it is kept.
const TABLE: &str = "tests/sabotage/table.md";
/// The command that puts one to the proof.
const COMMAND: &str = "cargo run --release -p sabotage --";
/// The suite gets this many seeds to catch a sabotage.
const SEEDS: u64 = 32;
/// And this much time, with its build. What takes longer has a defect that spins.
const LIMIT: Duration = Duration::from_secs(5 * 60);
/// Without a sabotage there is perhaps everything to build.
const FIRST_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Builds each deliberate defect of `tests/sabotage/patches` into a copy of the sources, and shows what of the suite catches it.
///
/// Exit codes: 0 each is caught by what the table says, 1 one is missed or the table differs, 2 nothing can be shown.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Names of sabotages, or hazards such as `h03`; all if none is given.
    names: Vec<String>,
    /// Lets `sim explore` look for them in so many drawn scenarios instead of the suite, and says how many it needs.
    #[arg(long, value_name = "SEEDS", num_args = 0..=1, require_equals = true, default_missing_value = "20000")]
    explore: Option<u64>,
    /// Lets it draw from a corpus that it makes itself, instead of afresh each time.
    #[arg(long, requires = "explore", conflicts_with = "update")]
    steered: bool,
    /// Only every Nth of them, from the Ith on: of so many machines, or commits, each has its share.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Writes the table that is kept beside the patches anew.
    #[arg(long, conflicts_with_all = ["names", "shard"])]
    update: bool,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    numbers.filter(|(i, n)| (1..=*n).contains(i)).ok_or_else(|| "expected I/N, such as 1/3 to 3/3".to_owned())
}

/// What the kept table says of these, and its head.
fn only(kept: &str, rows: &[Row]) -> String {
    let is_of = |line: &str| rows.iter().any(|row| line.starts_with(&format!("| {} |", row.name)));
    let lines = kept.lines().enumerate().filter(|(number, line)| *number < 2 || is_of(line));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

/// A sabotage, and what became of it.
struct Row {
    name: String,
    outcome: Result<Catch, Miss>,
    wall: Duration,
}

/// Why a sabotage is not caught as it must be.
#[derive(Debug, PartialEq, Eq)]
struct Miss {
    what: String,
    remedy: String,
}

/// What stops everything, ready to print.
type Complaint = String;

fn main() -> ExitCode {
    match show(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(complaint) => {
            anstream::eprintln!("error: {complaint}");
            ExitCode::from(2)
        }
    }
}

/// Shows what catches what. Returns whether all is as it must be.
fn show(cli: &Cli) -> Result<bool, Complaint> {
    let begin = Instant::now();
    let root = Path::new(ROOT);
    let all = patch::load(&root.join(PATCHES))?;
    let mut chosen = patch::select(&all, &cli.names)?;
    if let Some((i, n)) = cli.shard {
        chosen = chosen.into_iter().skip(i - 1).step_by(n).collect();
    }
    let claims = Claims::load(root, &all)?;
    let workshop = Workshop::open(root).map_err(|error| format!("cannot copy the sources: {error}"))?;
    if let Some(seeds) = cli.explore {
        let asked = explored::Asked { seeds, steered: cli.steered };
        return explored::show(&workshop, &chosen, asked, cli.update.then(|| root.join(explored::TABLE)).as_deref());
    }
    let files = claims.of(&chosen);
    holds(&workshop, &chosen, &files)?;
    let widest = chosen.iter().map(|sabotage| sabotage.name.len()).max().unwrap_or_default();
    let mut rows = Vec::new();
    for sabotage in &chosen {
        let begin = Instant::now();
        let outcome = put_to_the_proof(&workshop, sabotage, &claims)?;
        let row = Row { name: sabotage.name.clone(), outcome, wall: begin.elapsed() };
        anstream::println!("{}", line(&row, widest));
        rows.push(row);
    }
    holds_too(&workshop, &rows, &files)?;
    let differs = if cli.update {
        fs::write(root.join(TABLE), table(&rows)).map_err(|error| format!("cannot write {TABLE}: {error}"))?;
        None
    } else {
        let kept = fs::read_to_string(root.join(TABLE)).unwrap_or_default();
        let all = cli.names.is_empty() && cli.shard.is_none();
        difference(&if all { kept } else { only(&kept, &rows) }, &table(&rows))
    };
    let missed: Vec<&str> = rows.iter().filter(|row| row.outcome.is_err()).map(|row| row.name.as_str()).collect();
    anstream::print!("\n{}", differs.as_deref().unwrap_or_default());
    let wall = begin.elapsed().as_secs_f64();
    anstream::println!("{} caught, {} missed, {wall:.1} s", rows.len() - missed.len(), missed.len());
    if !missed.is_empty() {
        anstream::println!("again: {COMMAND} {}", missed.join(" "));
    }
    Ok(missed.is_empty() && differs.is_none())
}

/// What is to catch these sabotages holds without any: the files that say so, and each test that must fail.
fn holds(workshop: &Workshop, sabotages: &[&Sabotage], files: &[&str]) -> Result<(), Complaint> {
    let until = Instant::now() + FIRST_LIMIT;
    workshop.build(until)?;
    if !files.is_empty() {
        workshop.sim(&[&["run"], files].concat(), until)?.is_whole()?;
    }
    let mut tests: Vec<Vec<&str>> = sabotages.iter().filter_map(|sabotage| sabotage.test()).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        if !workshop.test(&test, until)? {
            return Err(format!("`cargo {}` fails without any sabotage", test.join(" ")));
        }
    }
    Ok(())
}

/// And so does every other run that has caught one.
fn holds_too(workshop: &Workshop, rows: &[Row], files: &[&str]) -> Result<(), Complaint> {
    let until = Instant::now() + LIMIT;
    let caught = rows.iter().filter_map(|row| row.outcome.as_ref().ok());
    let mut others = caught.filter(|catch| catch.seed.is_some() && !files.contains(&catch.file.as_str())).peekable();
    if others.peek().is_some() {
        workshop.build(until)?;
    }
    others.try_for_each(|Catch { file, seed, .. }| {
        let seed = seed.unwrap_or_default().to_string();
        workshop.sim(&["run", file, "--seed", &seed], until)?.is_whole()
    })
}

fn put_to_the_proof(
    workshop: &Workshop,
    sabotage: &Sabotage,
    claims: &Claims,
) -> Result<Result<Catch, Miss>, Complaint> {
    let path = sabotage.path.display();
    if let Err(why) = workshop.apply(&sabotage.path)? {
        let what = format!("it does not apply: {why}");
        return Ok(Err(Miss {
            what,
            remedy: format!("The source has changed under it: make the same mistake anew in {path}."),
        }));
    }
    let outcome = hunt(workshop, sabotage, claims).unwrap_or_else(|what| {
        Err(Miss { what, remedy: format!("Correct {path}: a sabotage must build, and its suite must end.") })
    });
    workshop.restore(&sabotage.path)?;
    Ok(outcome)
}

/// Looks for what must break.
fn hunt(workshop: &Workshop, sabotage: &Sabotage, claims: &Claims) -> Result<Result<Catch, Miss>, Complaint> {
    let until = Instant::now() + LIMIT;
    let (must, remedy) = (&sabotage.caught_by, "Write a scenario in which its users would notice.".to_owned());
    if let Some(test) = sabotage.test() {
        let catch = Catch { broke: must.clone(), ..Catch::default() };
        let what = format!("it survived: `{must}` passes");
        return Ok(if workshop.test(&test, until)? { Err(Miss { what, remedy }) } else { Ok(catch) });
    }
    workshop.build(until)?;
    let mut instead = None;
    let claimants = claims.of(&[sabotage]);
    if !claimants.is_empty() {
        let report = workshop.sim(&[["run"].as_slice(), &claimants].concat(), until)?;
        let missed = report.without_failure();
        if !missed.is_empty() {
            let what = format!("nothing breaks in {}, where `catches` says so", missed.join(", "));
            return Ok(Err(Miss { what, remedy: "Take it from there, or make the file see it.".to_owned() }));
        }
        if let Some(catch) = report.first(|broke| sabotage.is_caught_by(broke)) {
            return Ok(Ok(catch));
        }
        instead = report.first(|_| true);
    }
    let mut seeds = 0;
    while seeds < SEEDS {
        let report = match workshop.sim(&["--seed", &(seeds + 1).to_string()], until) {
            // Time is up. What was run by then has shown nothing.
            Err(_) if seeds > 0 && Instant::now() >= until => break,
            report => report?,
        };
        if let Some(catch) = report.first(|broke| sabotage.is_caught_by(broke)) {
            return Ok(Ok(catch));
        }
        instead = instead.or_else(|| report.first(|_| true));
        seeds += 1;
    }
    let path = sabotage.path.display();
    Ok(Err(match instead {
        Some(Catch { broke, what, file, .. }) => Miss {
            what: format!("{seeds} seeds and {must} holds; only {broke} broke in {file}: {what}"),
            remedy: format!("Make {must} see it, or say in {path} what must catch it instead."),
        },
        None => Miss { what: format!("it survived: {seeds} seeds and everything holds"), remedy },
    }))
}

/// A row, and what is wrong with it.
fn line(Row { name, outcome, wall }: &Row, widest: usize) -> String {
    let wall = wall.as_secs_f64();
    match outcome {
        Ok(Catch { broke, file, seed, .. }) => {
            let seed = seed.map(|seed| format!(" in {}, seed {seed}", report::short(file))).unwrap_or_default();
            format!("{}  {name:<widest$}  {wall:>5.1} s  {broke}{seed}", "caught".green())
        }
        Err(Miss { what, remedy }) => {
            let what = what.trim_end().replace('\n', "\n    ");
            format!(
                "{}  {name:<widest$}  {wall:>5.1} s\n    {what}\n    {remedy}\n    again: {COMMAND} {name}",
                "MISSED".red().bold()
            )
        }
    }
}

/// The table as it is kept: without times, in Markdown.
fn table(rows: &[Row]) -> String {
    let row = |row: &Row| match &row.outcome {
        Ok(Catch { broke, file, seed, .. }) => {
            let seed = seed.map(|seed| seed.to_string()).unwrap_or_default();
            format!("| {} | {broke} | {} | {seed} |\n", row.name, report::short(file))
        }
        Err(_) => format!("| {} | MISSED |  |  |\n", row.name),
    };
    ["| sabotage | caught by | in | seeds |\n|---|---|---|---|\n".to_owned()]
        .into_iter()
        .chain(rows.iter().map(row))
        .collect()
}

/// How the kept table differs from this one, in words.
fn difference(kept: &str, now: &str) -> Option<String> {
    let lacking = |sign, from: &str, other: &str| -> String {
        from.lines()
            .filter(|line| !other.lines().any(|it| it == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    let title = format!("{TABLE} differs; `{COMMAND} --update` writes it anew:\n");
    (kept != now).then(|| title + &lacking('-', kept, now) + &lacking('+', now, kept) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_kept_table_only_the_lines_of_those_are_compared_that_were_run() {
        let kept = "| sabotage |\n|---|\n| a | x |\n| ab | y |\n| b | z |\n";
        let row = |name: &str| Row {
            name: name.to_owned(),
            outcome: Err(Miss { what: String::new(), remedy: String::new() }),
            wall: Duration::ZERO,
        };
        assert_eq!(only(kept, &[row("a"), row("b")]), "| sabotage |\n|---|\n| a | x |\n| b | z |\n");
    }

    #[test]
    fn a_shard_is_one_of_those_that_there_are() {
        assert_eq!((shard("1/3"), shard("3/3")), (Ok((1, 3)), Ok((3, 3))));
        for wrong in ["0/3", "4/3", "3", "a/b", "/"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kept_table_has_no_times_and_a_difference_is_shown_line_by_line() {
        let [broke, file] = ["never-cut", "scenarios/hazards/h16-x.toml"].map(str::to_owned);
        let caught = Catch { broke, file, seed: Some(3), ..Catch::default() };
        let kept = table(&[Row { name: "h16-x".to_owned(), outcome: Ok(caught), wall: Duration::from_secs(2) }]);
        assert_eq!(kept.lines().last(), Some("| h16-x | never-cut | hazards/h16-x | 3 |"));
        assert_eq!(difference(&kept, &kept), None);
        let difference = difference(&kept.replace("| 3 |", "| 2 |"), &kept).unwrap();
        assert!(difference.contains("- | h16-x | never-cut | hazards/h16-x | 2 |\n+ | h16-x"), "{difference}");
        assert!(difference.contains("--update"), "{difference}");
    }

    #[test]
    fn whatever_is_not_caught_is_told_with_what_to_do_and_the_command_that_repeats_it() {
        let miss = Miss { what: "it survived".to_owned(), remedy: "Write a scenario.".to_owned() };
        let line = line(&Row { name: "x".to_owned(), outcome: Err(miss), wall: Duration::ZERO }, 3);
        for told in ["MISSED", "it survived", "Write a scenario.", "cargo run --release -p sabotage -- x"] {
            assert!(line.contains(told), "{told} is not in\n{line}");
        }
    }
}
