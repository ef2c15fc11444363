//! A run that is to be shown: played once, judged, and made a page or a picture.

use std::sync::Arc;

use super::html::Escaped;
use super::page;
use super::picture::{Break, Picture};
use super::summary::Summary;
use super::svg;
use crate::cast::pod::Pod;
use crate::cast::run::{self, EngineName, Run};
use crate::judge::Judged;
use crate::judge::gate::{self, Failure};
use crate::scenario::ScenarioFile;
use crate::story::{Story, timeline};

/// A run, and which it is.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) file: &'a ScenarioFile,
    pub(super) seed: u64,
    pub(super) engine: EngineName,
    pub(super) judged: Judged<'a>,
}

impl<'a> Shown<'a> {
    /// This run of that file, judged.
    pub(super) fn of(
        pod: &'a Arc<dyn Pod>,
        file: &'a ScenarioFile,
        run: &'a Run,
        seed: u64,
        engine: EngineName,
    ) -> Shown<'a> {
        Shown { file, seed, engine, judged: gate::judged(pod, run, &file.scenario) }
    }

    /// The file's path, as it was given.
    pub(super) fn path(&self) -> String {
        self.file.path.display().to_string()
    }

    /// The command that repeats the run.
    pub(super) fn again(&self) -> String {
        super::again(&self.path(), self.seed, self.engine)
    }
}

/// The page of one run. The same file, seed and engine give the same bytes.
pub fn page_of(pod: &Arc<dyn Pod>, file: &ScenarioFile, seed: u64, engine: EngineName) -> String {
    if file.scenario.deployment.is_some() {
        return told(pod, file, seed, engine);
    }
    show(pod, file, seed, engine, &[], page::page)
}

/// The page of one run that the gate has judged. `failures` is what it found besides what the run itself shows: that it is
/// another one elsewhere, or that nothing makes the file fail.
pub(super) fn page_of_gate(
    pod: &Arc<dyn Pod>,
    file: &ScenarioFile,
    seed: u64,
    engine: EngineName,
    failures: &[Failure],
) -> String {
    if file.scenario.deployment.is_some() {
        return told(pod, file, seed, engine);
    }
    show(pod, file, seed, engine, failures, page::page)
}

/// A run with several pods, told in words: a picture has one pod.
fn told(pod: &Arc<dyn Pod>, file: &ScenarioFile, seed: u64, engine: EngineName) -> String {
    let scenario = &file.scenario;
    let run = run::run(pod, scenario, &run::settings(scenario), seed, engine);
    let failures = gate::failures(pod, scenario, &run, seed);
    let broken = failures.iter().map(|Failure { broke, what, evidence, .. }| format!("{broke}: {what}\n{evidence}\n"));
    let verdict = if failures.is_empty() { "Everything holds.\n".to_owned() } else { broken.collect() };
    let story = timeline::whole(&Story::of(&run.history, &run.settings));
    let body = format!(
        "<header>\n<p class=\"file\"><bdi>{}</bdi>, seed {seed}, engine {}</p>\n<h1>{}</h1>\n</header>\n<pre>{}</pre>\n<pre>{}</pre>\n",
        Escaped(&file.path.display().to_string()),
        engine.name(),
        Escaped(&scenario.title),
        Escaped(&verdict),
        Escaped(&story),
    );
    page::document(&scenario.title, &body, "")
}

/// The picture of one run alone, as SVG.
pub fn svg_of(pod: &Arc<dyn Pod>, file: &ScenarioFile, seed: u64, engine: EngineName) -> String {
    show(pod, file, seed, engine, &[], |_, _, picture| svg::alone(picture, &file.scenario.title))
}

fn show(
    pod: &Arc<dyn Pod>,
    file: &ScenarioFile,
    seed: u64,
    engine: EngineName,
    failures: &[Failure],
    draw: impl FnOnce(&Shown, &Summary, &Picture) -> String,
) -> String {
    let scenario = &file.scenario;
    let run = run::run(pod, scenario, &run::settings(scenario), seed, engine);
    // What only the gate can see has no moment in this run.
    let of_gate = |failure: &&Failure| ["same-seed-same-run", "fails_under"].contains(&failure.broke.as_str());
    let more: Vec<(String, Break)> = failures
        .iter()
        .filter(of_gate)
        .map(|failure| (failure.broke.clone(), Break { sentence: failure.what.clone(), evidence: Vec::new() }))
        .collect();
    let shown = Shown::of(pod, file, &run, seed, engine);
    let summary = Summary::of(scenario, &shown.judged, &more);
    let picture = Picture::of(&shown.judged.story, &summary.broken, summary.bound.as_ref());
    draw(&shown, &summary, &picture)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cast::pod::last_call;
    use crate::scenario;

    fn file(text: &str) -> ScenarioFile {
        ScenarioFile { path: Path::new("t<b>.toml").to_owned(), scenario: scenario::parse("t.toml", text).unwrap() }
    }

    fn page(text: &str) -> String {
        page_of(&last_call(), &file(text), 1, EngineName::default())
    }

    const SIGTERM: &str = "[[event]]\nat = \"1s\"\ndo = \"sigterm\"\n";

    #[test]
    fn the_same_run_gives_the_same_bytes() {
        let text = format!(
            "title = \"t\"\n[[client]]\nname = \"a\"\ncount = 5\nsteps = [\"connect\", {{ query = \"2s\" }}]\n{SIGTERM}[expect]\nexit = {{ code = 0 }}\n"
        );
        assert_eq!(page(&text), page(&text));
        let svg = || svg_of(&last_call(), &file(&text), 1, EngineName::default());
        assert_eq!(svg(), svg());
    }

    #[test]
    fn a_page_says_who_held_the_pod_and_what_each_client_was_told() {
        let client = |name: &str, query: &str| {
            format!(
                "[[client]]\nname = \"{name}\"\nsteps = [\"connect\", {{ query = \"{query}\" }}, {{ idle = \"forever\" }}]\n"
            )
        };
        let page = page(&format!(
            "title = \"t\"\n{}{}{SIGTERM}[expect]\nexit = {{ code = 0 }}\n",
            client("dashboard", "20ms"),
            client("etl", "10m")
        ));
        for said in [
            "<strong>pass</strong> Everything holds",
            "<li>Exit code 0, 9m 59s after SIGTERM.</li>",
            "<li>Held by etl (executing), until 9m 59s",
            "<li>5m 5s to spare: it had to be gone 15m 4s after SIGTERM.</li>",
            "(the last move was that of etl, 9m 59s",
            "SIGTERM came 1s into the run; 2 clients were connected.",
            "The pod was held longest by etl, until 9m 59s",
            "It was executing for most of that time.",
            "with code 0: drained.",
            "<bdi>dashboard</bdi></th><td data-of=\"until\">+",
            "57P01 terminating connection due to administrator command. DETAIL: The server shuts down",
        ] {
            assert!(page.contains(said), "{said:?} is not on the page");
        }
        let place = |name: &str| page.find(&format!("<bdi>{name}</bdi></th>")).unwrap();
        assert!(place("etl") < place("dashboard"), "the last to leave comes first");
    }

    #[test]
    fn a_banner_says_how_it_went_who_held_it_and_how_much_time_there_was() {
        let banner = |drain: &str, steps: &str| {
            let client =
                if steps.is_empty() { String::new() } else { format!("[[client]]\nname = \"a\"\nsteps = {steps}\n") };
            let page = page(&format!("title = \"t\"\n{drain}\n{client}{SIGTERM}[expect]\nexit = {{ code = 0 }}\n"));
            let list = page.split_once("<ul class=\"banner\">").unwrap().1.split_once("</ul>").unwrap().0.to_owned();
            list.replace("<li>", "").replace("</li>", "").trim().to_owned()
        };
        let idle = "[\"connect\", { idle = \"forever\" }]";
        let due = banner("", idle);
        assert!(due.contains("\nNobody held it: a was the last to leave, after "), "{due}");
        assert!(due.contains(" to spare: it had to be gone 35s 108ms after SIGTERM."), "{due}");
        let alone = banner("", "");
        assert!(alone.contains("Exit code 0, 5s after SIGTERM.\nNobody held it.\n30s "), "{alone}");
        let killed = banner("[pod]\ntermination_grace = \"2m\"\n[drain]\ndrain_policy = \"unbounded\"", idle);
        assert_eq!(
            killed,
            "No exit: SIGKILL, 2m after SIGTERM.\nHeld by a (idle), until 2m after SIGTERM.\n\
             1m 25s too late: it had to be gone 35s 108ms after SIGTERM."
        );
        let crowd = banner("", &format!("{idle}\ncount = 5"));
        assert!(crowd.contains("\nNobody held it: a."), "{crowd}");
        let works = banner("[pod]\ntermination_grace = \"2m\"", "[\"connect\", { query = \"1h\" }]");
        assert!(works.contains("\nNot too late when it was killed: it had to be gone 7m 5s after SIGTERM."), "{works}");
    }

    #[test]
    fn what_a_file_says_is_text_and_never_markup() {
        let title = "<script>alert('1')</script>";
        let text = format!("title = \"{title}\"\nwhy = \"{title}\"\n{SIGTERM}[expect]\nexit = {{ code = 3 }}\n");
        let page = page(&text);
        assert!(!page.contains("alert('1')"), "the title is not escaped");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));
        assert!(page.contains("t&lt;b&gt;.toml"), "nor is the path");
        assert!(page.contains("<strong>FAIL</strong> One thing does not hold: expect.exit.code."));
    }

    #[test]
    fn a_page_asks_nothing_of_the_network() {
        let page = page(&format!("title = \"t\"\n{SIGTERM}[expect]\nexit = {{ code = 0 }}\n"));
        assert!(page.contains("default-src 'none'"));
        let links = page.replace("http://www.w3.org/2000/svg", "");
        let asked = ["http:", "https:", "url(", "src=", "@import", "<link"].map(|way| links.contains(way));
        assert_eq!(asked, [false; 6]);
    }

    #[test]
    fn a_crowd_of_two_thousand_is_a_page_of_some_hundred_kilobytes() {
        let text = format!(
            "title = \"t\"\n[[client]]\nname = \"a\"\ncount = 2000\nsteps = [\"connect\", {{ idle = \"forever\" }}]\n{}[expect]\nexit = {{ code = 0 }}\n",
            SIGTERM.replace("1s", "20s")
        );
        let page = page(&text);
        assert!(page.len() < 600_000, "{} bytes", page.len());
        assert!(page.contains("a ×2000"));
    }
}
