//! One run as a page: in words what came of it, the picture, and every event as a table. It needs nothing but itself, and
//! asks nothing of the network.

use std::fmt::Write as _;

use super::html::Escaped;
use super::picture::{Break, Picture, when};
use super::run_page::Shown;
use super::summary::{Summary, span};
use super::svg::{self, NARROW, WIDE};
use crate::story::{Story, timeline};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How a picture with folds is to be read.
const FOLDED: &str =
    "Where it is torn, time is left out, as much as stands in the gap: compare lengths there by what is written. ";

/// The most rows of the table of events.
const MOST_ROWS: usize = 2_000;

/// How many times of one broken promise are told besides the first.
const MOST_BREAKS: usize = 20;

/// The page.
pub(super) fn page(shown: &Shown, summary: &Summary, picture: &Picture) -> String {
    let mut body = String::new();
    heading(&mut body, shown, summary);
    words(&mut body, shown, summary);
    guests(&mut body, shown, summary);
    let folded = if picture.axis.folds().next().is_some() { FOLDED } else { "" };
    let _ = writeln!(
        body,
        "<section aria-labelledby=\"picture\"><h2 id=\"picture\">The picture</h2>\n<p class=\"hint\">A lane for the pod, each client \
         and the worker, from left to right in time. {folded}Point at anything, tap it, or go there with Tab and the arrow keys: its \
         details appear beside it. Enter keeps them, Escape lets them go.</p>\n<div class=\"frame\">"
    );
    body += &svg::part(picture, WIDE);
    body += &svg::part(picture, NARROW);
    body += "</div>\n<div id=\"details\" role=\"status\" aria-live=\"polite\"></div>\n</section>\n";
    events(&mut body, shown);
    document(&shown.file.scenario.title, &body, SCRIPT)
}

/// A whole document of this body.
pub(super) fn document(title: &str, body: &str, script: &str) -> String {
    let script = if script.is_empty() { String::new() } else { format!("<script>\n{script}</script>\n") };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
         'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n{script}</body>\n</html>\n",
        Escaped(title),
        svg::STYLE,
    )
}

fn heading(body: &mut String, shown: &Shown, summary: &Summary) {
    let scenario = &shown.file.scenario;
    let (class, word) = if summary.broken.is_empty() { ("pass", "pass") } else { ("fail", "FAIL") };
    let _ = writeln!(
        body,
        "<header>\n<p class=\"file\"><bdi>{}</bdi>, seed {}, engine {}</p>\n<h1>{}</h1>",
        Escaped(&shown.path()),
        shown.seed,
        shown.engine.name(),
        Escaped(&scenario.title),
    );
    if !scenario.why.is_empty() {
        let _ = writeln!(body, "<p class=\"why\">{}</p>", Escaped(&scenario.why));
    }
    let _ = writeln!(
        body,
        "<div class=\"verdict {class}\"><p><strong>{word}</strong> {}</p>\n<ul class=\"banner\">",
        Escaped(&summary.verdict)
    );
    for sentence in &summary.banner {
        let _ = writeln!(body, "<li>{}</li>", Escaped(sentence));
    }
    *body += "</ul></div>\n</header>\n";
}

fn words(body: &mut String, shown: &Shown, summary: &Summary) {
    let story = &shown.judged.story;
    if !summary.broken.is_empty() {
        *body +=
            "<section aria-labelledby=\"broken\"><h2 id=\"broken\">What does not hold</h2>\n<ol class=\"broken\">\n";
        for broken in &summary.broken {
            let _ = write!(body, "<li><strong>{}</strong>: ", Escaped(&broken.what));
            let mut times = broken.times.iter();
            times.by_ref().take(1).for_each(|once| break_in_words(body, story, once));
            if times.len() > 0 {
                let _ = write!(body, "<details><summary>{} more of this</summary>", times.len());
                let unsaid = times.len().saturating_sub(MOST_BREAKS);
                for once in times.take(MOST_BREAKS) {
                    *body += "<p>";
                    break_in_words(body, story, once);
                    *body += "</p>";
                }
                if unsaid > 0 {
                    let _ = write!(body, "<p>and {unsaid} more</p>");
                }
                *body += "</details>";
            }
            *body += "</li>\n";
        }
        let _ =
            writeln!(body, "</ol>\n<p class=\"again\">Again: <code>{}</code></p>\n</section>", Escaped(&shown.again()));
    }
    *body += "<section aria-labelledby=\"course\"><h2 id=\"course\">What happened</h2>\n<ul class=\"course\">\n";
    for sentence in &summary.course {
        let _ = writeln!(body, "<li>{}</li>", Escaped(sentence));
    }
    *body += "</ul>\n</section>\n";
}

/// What happened, and what shows it.
fn break_in_words(body: &mut String, story: &Story, once: &Break) {
    let _ = write!(body, "{}", Escaped(&once.sentence));
    let evidence = timeline::of(story, &once.evidence);
    if !evidence.is_empty() {
        let _ = write!(body, "<code class=\"evidence\" tabindex=\"0\">{}</code>", Escaped(&evidence));
    }
}

fn guests(body: &mut String, shown: &Shown, summary: &Summary) {
    let story = &shown.judged.story;
    let from = if story.zero().is_some() { "from the signal" } else { "of the run" };
    let _ = writeln!(
        body,
        "<section aria-labelledby=\"guests\"><h2 id=\"guests\">Who held the pod, until when, and what each client was told</h2>\n\
         <table class=\"guests\">\n<caption>The last to leave comes first. Times are {from}.</caption>\n<thead><tr><th scope=\"col\">client</th>\
         <th scope=\"col\">until</th><th scope=\"col\">was</th><th scope=\"col\">ended because</th><th scope=\"col\">was told</th></tr></thead>\n<tbody>"
    );
    for guest in &summary.guests {
        let [until, doing, ended] = guest.cells(story);
        let count = if guest.connections > 1 { format!(" ×{}", guest.connections) } else { String::new() };
        let told = guest.told.iter().map(|(told, count)| {
            let many = if guest.connections > 1 { format!("{count} × ") } else { String::new() };
            format!("<li>{many}{}</li>", Escaped(told))
        });
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\"><bdi>{}</bdi>{count}</th><td data-of=\"until\">{until}</td><td data-of=\"was\">{doing}</td>\
             <td data-of=\"ended because\">{}</td><td data-of=\"was told\"><ul>{}</ul></td></tr>",
            Escaped(&guest.name),
            Escaped(&ended),
            told.collect::<String>(),
        );
    }
    *body += "</tbody>\n</table>\n";
    if summary.unnamed > 0 {
        let _ = writeln!(body, "<p>{} more clients left before these.</p>", summary.unnamed);
    }
    *body += "</section>\n";
}

fn events(body: &mut String, shown: &Shown) {
    let story = &shown.judged.story;
    let rows = timeline::rows(story);
    let _ = writeln!(
        body,
        "<section aria-labelledby=\"events\"><h2 id=\"events\">Every event</h2>\n<details><summary>{} lines; what many copies did alike \
         is one of them</summary>\n<table class=\"events\">\n<caption>What happened, in order: time of the run, time from the signal, \
         who, what.</caption>\n<thead><tr><th scope=\"col\">run</th><th scope=\"col\">signal</th><th scope=\"col\">who</th>\
         <th scope=\"col\">what</th></tr></thead>\n<tbody>",
        rows.len()
    );
    for [at, relative, who, what] in rows.iter().take(MOST_ROWS) {
        let _ = writeln!(
            body,
            "<tr><td>{at}</td><td>{relative}</td><th scope=\"row\"><bdi>{}</bdi></th><td>{}</td></tr>",
            Escaped(who),
            Escaped(what)
        );
    }
    *body += "</tbody>\n</table>\n";
    if rows.len() > MOST_ROWS {
        let command = format!("sim timeline {} --seed {} --engine {}", shown.path(), shown.seed, shown.engine.name());
        let _ = writeln!(body, "<p>{} more: <code>{}</code></p>", rows.len() - MOST_ROWS, Escaped(&command));
    }
    let end = story.last.map_or(String::new(), |last| {
        format!(
            "<p class=\"foot\">The run was {} long in simulated time; its last event is at {}.</p>\n",
            span(last.at.since_epoch()),
            when(story, last.at)
        )
    });
    let _ = writeln!(
        body,
        "</details>\n</section>\n<footer>{end}<p class=\"foot\">Again: <code>{}</code></p></footer>",
        Escaped(&shown.again())
    );
}
