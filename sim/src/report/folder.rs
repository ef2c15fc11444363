//! Many runs as a folder of pages: `index.html` with every verdict, what was reached and what takes longest, and a page for
//! each run that failed.
//!
//! Only the times that this machine took stand in the index and nowhere else: everything else is the same whenever the same
//! files are run.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::html::Escaped;
use super::run_page::page_of_gate;
use super::{checked, counted, is_green_with, milliseconds, page, span, summary_line, unmet_by_all};
use crate::cast::pod::Pod;
use crate::judge::coverage::{self, Coverage, Mark};
use crate::judge::gate::{Failure, Judgement, Verdict};
use crate::scenario::ScenarioFile;
use crate::story::holders;
use crate::suite::{self, Asked, Line, Scope};

/// The most pages that one folder gets; and of one file, for the seeds under which it failed.
const MOST_PAGES: usize = 100;
const MOST_SEEDS: usize = 3;
/// How many files stand in the list of those that take longest.
const SLOWEST: usize = 10;

/// A page in the folder.
struct Page {
    /// Index of the file whose run it shows.
    file: usize,
    seed: u64,
    name: String,
}

/// Writes the folder; where it is not, it is made. `sabotages` is the table that is kept of them, if there is one. Returns how
/// many pages of runs it has.
///
/// # Errors
/// What can't be written.
pub fn write(
    dir: &Path,
    pod: &Arc<dyn Pod>,
    files: &[ScenarioFile],
    lines: &[Line],
    (asked, wall): (Asked, Duration),
    sabotages: Option<&str>,
) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    let pages = pages(lines, asked);
    for page in &pages {
        let failures: &[Failure] = match &lines[page.file].judgement.verdict {
            Verdict::Fail(failures) => failures,
            Verdict::Pass | Verdict::NotSupported(_) => &[],
        };
        fs::write(dir.join(&page.name), page_of_gate(pod, &files[page.file], page.seed, asked.engine, failures))?;
    }
    fs::write(dir.join("index.html"), index(lines, (asked, wall), &pages, sabotages))?;
    Ok(pages.len())
}

/// A page for each run that failed. Whoever names files wants to see these: they have one in any case.
fn pages(lines: &[Line], asked: Asked) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    for (file, Line { judgement, .. }) in lines.iter().enumerate() {
        let mut seeds: Vec<u64> = match &judgement.verdict {
            Verdict::Fail(failures) => failures.iter().map(|failure| failure.seed).collect(),
            Verdict::Pass if asked.scope == Scope::Files => {
                judgement.facts.iter().take(1).map(|(seed, _)| *seed).collect()
            }
            Verdict::Pass | Verdict::NotSupported(_) => Vec::new(),
        };
        seeds.sort_unstable();
        seeds.dedup();
        for seed in seeds.into_iter().take(MOST_SEEDS) {
            let name = file_name(&judgement.file, seed);
            // Of paths that differ only in what no name can hold, each has its own page.
            let is_taken = pages.iter().any(|page| page.name == name);
            let name = if is_taken { format!("{file}-{name}") } else { name };
            pages.push(Page { file, seed, name });
        }
    }
    pages.sort_by_key(|page| !matches!(lines[page.file].judgement.verdict, Verdict::Fail(_)));
    pages.truncate(MOST_PAGES);
    pages
}

/// `scenarios/found/a.toml` under seed 2 is `found-a.seed-2.html`.
fn file_name(path: &str, seed: u64) -> String {
    let path = path.strip_suffix(".toml").unwrap_or(path).trim_start_matches(['.', '/']);
    let path = path.strip_prefix("scenarios/").unwrap_or(path);
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' };
    let name: String = path.chars().map(plain).collect();
    // A file system's limit is 255 bytes; the end tells files apart.
    let begin = name.len().saturating_sub(200);
    format!("{}.seed-{seed}.html", &name[begin..])
}

fn index(lines: &[Line], (asked, wall): (Asked, Duration), pages: &[Page], sabotages: Option<&str>) -> String {
    let mut body = String::new();
    let coverage = suite::coverage(lines);
    let unmet = unmet_by_all(&coverage, lines, asked);
    let is_green = is_green_with(&unmet, lines);
    let (class, word) = if is_green { ("pass", "pass") } else { ("fail", "FAIL") };
    let _ = writeln!(
        body,
        "<header>\n<h1>Last Call: every scenario</h1>\n<p class=\"verdict {class}\"><strong>{word}</strong> {}</p>\n</header>",
        Escaped(&summary_line(lines, asked, wall))
    );
    if !unmet.is_empty() {
        body += "<ul class=\"course\">\n";
        for unmet in unmet {
            let _ = writeln!(body, "<li>{}</li>", Escaped(&unmet));
        }
        body += "</ul>\n";
    }
    files(&mut body, lines, pages);
    slowest(&mut body, lines);
    reached(&mut body, &coverage);
    if let Some(table) = sabotages {
        self::sabotages(&mut body, table);
    }
    page::document("Last Call: every scenario", &body, "")
}

/// A row for each file, those that failed first.
fn files(body: &mut String, lines: &[Line], pages: &[Page]) {
    *body += "<section aria-labelledby=\"files\"><h2 id=\"files\">Files</h2>\n<div class=\"scroll\" tabindex=\"0\"><table>\n\
              <caption>Every scenario file and its verdict; what failed comes first, with a page for each run.</caption>\n\
              <thead><tr><th scope=\"col\">verdict</th><th scope=\"col\">file</th><th scope=\"col\">last to leave in its first run</th>\
              <th scope=\"col\">checked</th></tr></thead>\n<tbody>\n";
    let rank = |index: &usize| match lines[*index].judgement.verdict {
        Verdict::Fail(_) => 0,
        Verdict::NotSupported(_) => 1,
        Verdict::Pass => 2,
    };
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(rank);
    for index in order {
        let judgement = &lines[index].judgement;
        let (class, word) = match judgement.verdict {
            Verdict::Pass => ("pass", "pass"),
            Verdict::Fail(_) => ("fail", "FAIL"),
            Verdict::NotSupported(_) => ("skip", "skip"),
        };
        let links = pages
            .iter()
            .filter(|page| page.file == index)
            .map(|page| format!(" <a href=\"{}\">seed {}</a>", Escaped(&page.name), page.seed));
        let last = holders::text(&judgement.holders).pop().unwrap_or_default();
        let _ = writeln!(
            body,
            "<tr><td class=\"word-{class}\">{word}</td><th scope=\"row\"><bdi>{}</bdi>{}<br><span class=\"title\">{}</span>{}</th>\
             <td>{}</td><td>{}</td></tr>",
            Escaped(&judgement.file),
            links.collect::<String>(),
            Escaped(&judgement.title),
            broke(judgement),
            Escaped(last.trim()),
            Escaped(&what_was_checked(judgement)),
        );
    }
    *body += "</tbody>\n</table></div>\n</section>\n";
}

/// What of the file does not hold.
fn broke(judgement: &Judgement) -> String {
    let Verdict::Fail(failures) = &judgement.verdict else { return String::new() };
    let lines = failures.iter().take(MOST_PAGES).map(|failure| {
        let more = match failure.more_seeds {
            0 => String::new(),
            more => format!(" (and under {})", counted(more, "more seed")),
        };
        format!("<li><strong>{}</strong>: {}{more}</li>", Escaped(&failure.broke), Escaped(&failure.what))
    });
    format!("<ul class=\"broke\">{}</ul>", lines.collect::<String>())
}

fn what_was_checked(judgement: &Judgement) -> String {
    match &judgement.verdict {
        Verdict::NotSupported(lacks) => format!("not supported: {}", lacks.join(", ")),
        Verdict::Pass | Verdict::Fail(_) => checked(judgement),
    }
}

fn slowest(body: &mut String, lines: &[Line]) {
    let mut slowest: Vec<&Line> = lines.iter().filter(|line| line.judgement.seeds > 0).collect();
    slowest.sort_by_key(|line| std::cmp::Reverse(line.wall));
    *body += "<section aria-labelledby=\"slowest\"><h2 id=\"slowest\">What takes longest</h2>\n<table>\n\
              <caption>Wall time on this machine, of everything that was run for the file.</caption>\n\
              <thead><tr><th scope=\"col\">file</th><th scope=\"col\" class=\"number\">wall</th><th scope=\"col\" class=\"number\">simulated</th>\
              <th scope=\"col\" class=\"number\">seeds</th></tr></thead>\n<tbody>\n";
    for Line { judgement, wall } in slowest.into_iter().take(SLOWEST) {
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            Escaped(&judgement.file),
            milliseconds(*wall),
            span(judgement.simulated),
            judgement.seeds
        );
    }
    *body += "</tbody>\n</table>\n</section>\n";
}

fn reached(body: &mut String, coverage: &Coverage) {
    let missing = coverage.missing();
    let all = Mark::all().len();
    let _ = writeln!(
        body,
        "<section aria-labelledby=\"reached\"><h2 id=\"reached\">What was reached</h2>\n<p>{} of {all} states, ends, SQLSTATEs, clocks and \
         races.</p>",
        all - missing.len()
    );
    if !missing.is_empty() {
        let names: Vec<String> = missing.into_iter().map(Mark::name).collect();
        let _ = writeln!(body, "<p>Never: {}.</p>", Escaped(&names.join(", ")));
    }
    *body += "<details><summary>How often each</summary>\n<table>\n<caption>What the runs reached, and how often.</caption>\n\
              <thead><tr><th scope=\"col\">reached</th><th scope=\"col\" class=\"number\">times</th></tr></thead>\n<tbody>\n";
    for one in coverage::json(coverage) {
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td></tr>",
            Escaped(&one.reached),
            one.times
        );
    }
    *body += "</tbody>\n</table>\n</details>\n</section>\n";
}

/// The table of sabotages, of its Markdown.
fn sabotages(body: &mut String, table: &str) {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inside = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inside.split('|').map(|cell| cell.trim().to_owned()).collect())
    };
    let mut rows =
        table.lines().filter_map(cells).filter(|row| !row.iter().all(|cell| cell.trim_matches('-').is_empty()));
    let Some(head) = rows.next() else { return };
    let _ = write!(
        body,
        "<section aria-labelledby=\"sabotages\"><h2 id=\"sabotages\">Could it fail?</h2>\n<div class=\"scroll\" tabindex=\"0\"><table>\n\
         <caption>Deliberate defects of the control plane, and what catches each, as it is kept.</caption>\n<thead><tr>"
    );
    for cell in head {
        let _ = write!(body, "<th scope=\"col\">{}</th>", Escaped(&cell));
    }
    *body += "</tr></thead>\n<tbody>\n";
    for row in rows {
        *body += "<tr>";
        for cell in row {
            let _ = write!(body, "<td>{}</td>", Escaped(&cell));
        }
        *body += "</tr>\n";
    }
    *body += "</tbody>\n</table></div>\n</section>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_named_after_its_file_and_seed() {
        assert_eq!(file_name("scenarios/found/a-b.toml", 2), "found-a-b.seed-2.html");
        assert_eq!(file_name("./../x y/<z>.toml", 1), "x-y--z-.seed-1.html");
        assert!(file_name(&"long/".repeat(100), 1).len() < 255);
    }

    #[test]
    fn the_table_of_sabotages_is_read_as_it_is_kept() {
        let mut body = String::new();
        sabotages(&mut body, "text\n| sabotage | caught by |\n|---|---|\n| h01-<x> | never-cut |\n");
        assert!(body.contains("<th scope=\"col\">sabotage</th>"), "{body}");
        assert!(body.contains("<tr><td>h01-&lt;x&gt;</td><td>never-cut</td></tr>"), "{body}");
        assert!(!body.contains("---"), "{body}");
    }
}
