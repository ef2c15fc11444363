//! The results as JUnit's XML, which CI systems show as tests: a suite for each engine, and in it a case for each file; of what was
//! explored, one for each promise.
//!
//! JUnit has no standard. This keeps to what all readers take: suites with counts and seconds, and a case with at most one
//! failure, whose message is short and whose text has the evidence and the command that repeats it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{across, counted, failed, html, is_green_with, unmet_by_all};
use crate::across::{Across, OnEngine};
use crate::explore::{self, Explored};
use crate::judge::gate::Verdict;
use crate::scenario::Promise;
use crate::suite::{self, Asked, Line};

/// The most characters of a failure's message. The text below it has everything.
const MOST_MESSAGE: usize = 500;

/// A case for each file.
pub fn of_files(lines: &[Line], asked: Asked, wall: Duration) -> String {
    document(&[of_engine(lines, asked, wall)])
}

/// A suite for each engine, and one that says for each file whether the engines show the same.
pub fn of_engines(across: &Across, wall: Duration) -> String {
    let on = |on: &OnEngine| {
        let mut suite = of_engine(&on.lines, on.asked, on.wall);
        // Only the first engine must reach everything, and nobody judges all files.
        suite.cases.retain(|case| case.name != WHOLE || on.asked.engine == crate::across::REFERENCE);
        suite
    };
    let mut suites: Vec<Suite> = across.engines.iter().map(on).collect();
    let compared = across.compared.iter().map(|compared| {
        let broken = (!compared.disagreements.is_empty()).then(|| {
            let mut text = String::new();
            across::disagreement(&mut text, compared);
            Failure { kind: "engines".to_owned(), message: "the engines tell different stories".to_owned(), text }
        });
        Case { name: compared.file.clone(), time: None, outcome: broken.map_or(Outcome::Passed, Outcome::Failed) }
    });
    suites.push(Suite { name: "sim.compared".to_owned(), time: wall, cases: compared.collect() });
    document(&suites)
}

/// A case for each promise. A promise that no run could have broken is skipped.
pub fn of_explored(explored: &Explored, wall: Duration) -> String {
    // Another process is not asked here.
    let promises = Promise::of_one_run();
    let mut cases: Vec<Case> = promises
        .map(|promise| {
            let outcome = match explored.occasions.of_promise(promise) {
                0 => Outcome::Skipped("no run could have broken it".to_owned()),
                _ => Outcome::Passed,
            };
            Case { name: promise.to_string(), time: None, outcome }
        })
        .collect();
    cases.extend(explored.variants.iter().map(|(variant, tally)| {
        let outcome = match tally.compared {
            0 => Outcome::Skipped("never compared".to_owned()),
            _ => Outcome::Passed,
        };
        Case { name: variant.find(), time: None, outcome }
    }));
    for (broke, find) in &explored.finds {
        let path = find.path.display();
        let again = explore::again(&find.path, broke, find.shows_under);
        let again = again.replacen("sim", "cargo run --release -p sim --", 1);
        let more = counted(usize::try_from(find.more).unwrap_or(usize::MAX), "more run");
        let evidence = find.failure.evidence.trim_end();
        let text =
            format!("{}\n{path}; {more} broke it\n\n{evidence}\n\n{}\nagain: {again}\n", find.failure.what, find.text);
        let failed = Outcome::Failed(Failure { kind: broke.clone(), message: find.failure.what.clone(), text });
        match cases.iter_mut().find(|case| case.name == *broke) {
            Some(case) => case.outcome = failed,
            None => cases.push(Case { name: broke.clone(), time: None, outcome: failed }),
        }
    }
    document(&[Suite { name: "sim.explore".to_owned(), time: wall, cases }])
}

/// The case about all files together.
const WHOLE: &str = "the suite as a whole";

fn of_engine(lines: &[Line], asked: Asked, wall: Duration) -> Suite {
    let mut cases: Vec<Case> = lines.iter().map(|line| of_file(line, asked)).collect();
    let mut unmet = unmet_by_all(&suite::coverage(lines), lines, asked);
    let has_failed = |case: &Case| matches!(case.outcome, Outcome::Failed(_));
    if unmet.is_empty() && !is_green_with(&unmet, lines) && !cases.iter().any(has_failed) {
        unmet.push("no file was judged".to_owned());
    }
    if asked.must_reach_all() || !unmet.is_empty() {
        let failure = || Failure { kind: "suite".to_owned(), message: unmet.join("; "), text: unmet.join("\n") };
        let outcome = if unmet.is_empty() { Outcome::Passed } else { Outcome::Failed(failure()) };
        cases.push(Case { name: WHOLE.to_owned(), time: None, outcome });
    }
    Suite { name: format!("sim.{}", asked.engine.name()), time: wall, cases }
}

fn of_file(Line { judgement, wall }: &Line, asked: Asked) -> Case {
    let outcome = match &judgement.verdict {
        Verdict::Pass => Outcome::Passed,
        Verdict::NotSupported(lacks) => {
            Outcome::Skipped(format!("not supported by {}: {}", asked.engine.name(), lacks.join(", ")))
        }
        Verdict::Fail(failures) => {
            let mut broke: Vec<&str> = failures.iter().map(|failure| failure.broke.as_str()).collect();
            broke.dedup();
            let message: Vec<String> =
                failures.iter().map(|failure| format!("{}: {}", failure.broke, failure.what)).collect();
            let mut text = String::new();
            failed(&mut text, judgement, failures, asked);
            Outcome::Failed(Failure { kind: broke.join(", "), message: message.join("; "), text })
        }
    };
    Case { name: judgement.file.clone(), time: Some(*wall), outcome }
}

/// A `<testsuite>`.
struct Suite {
    name: String,
    time: Duration,
    cases: Vec<Case>,
}

/// A `<testcase>`. Without a time of its own it shares that of its suite.
struct Case {
    name: String,
    time: Option<Duration>,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed(Failure),
    Skipped(String),
}

struct Failure {
    /// What broke, by name.
    kind: String,
    message: String,
    text: String,
}

fn document(suites: &[Suite]) -> String {
    let sums = suites.iter().map(Suite::counts);
    let [tests, failures, skipped] =
        sums.fold([0; 3], |sum, counts| std::array::from_fn(|index| sum[index] + counts[index]));
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let _ = writeln!(
        out,
        "<testsuites name=\"sim\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">"
    );
    suites.iter().for_each(|suite| suite.write_to(&mut out));
    out += "</testsuites>\n";
    out
}

impl Suite {
    /// Tests, failures, skipped.
    fn counts(&self) -> [usize; 3] {
        let count = |is: fn(&Outcome) -> bool| self.cases.iter().filter(|case| is(&case.outcome)).count();
        [
            self.cases.len(),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        ]
    }

    fn write_to(&self, out: &mut String) {
        let [tests, failures, skipped] = self.counts();
        let name = Xml(&self.name);
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" \
             time=\"{:.3}\">",
            self.time.as_secs_f64()
        );
        for case in &self.cases {
            let time = case.time.unwrap_or_default().as_secs_f64();
            let case_name = Xml(&case.name);
            let _ = write!(out, "    <testcase classname=\"{name}\" name=\"{case_name}\" time=\"{time:.3}\"");
            let _ = match &case.outcome {
                Outcome::Passed => writeln!(out, "/>"),
                Outcome::Skipped(why) => {
                    writeln!(out, ">\n      <skipped message=\"{}\"/>\n    </testcase>", Xml(why))
                }
                Outcome::Failed(Failure { kind, message, text }) => {
                    let message = html::short(message, MOST_MESSAGE);
                    let (message, kind, text) = (Xml(&message), Xml(kind), Xml(text.trim()));
                    writeln!(
                        out,
                        ">\n      <failure message=\"{message}\" type=\"{kind}\">{text}</failure>\n    </testcase>"
                    )
                }
            };
        }
        *out += "  </testsuite>\n";
    }
}

/// Text in XML 1.0, inside an element or a quoted attribute. What a document can't hold, and nothing can stand for, becomes
/// U+FFFD: control characters, U+FFFE and U+FFFF. Those that turn the direction of writing do too, for a name must not
/// rearrange the line that it stands in.
struct Xml<'a>(&'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In an attribute a tab is read as a space, which is as good.
        html::escape(f, self.0, |control| if control == '\t' { control } else { '\u{fffd}' })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::pod::last_call;
    use crate::cast::run::EngineName;
    use crate::judge::gate::{Judgement, judge};
    use crate::scenario::{self, ScenarioFile};
    use crate::suite::Scope;

    fn judged(path: &str, rest: &str, engine: EngineName) -> Judgement {
        let text = format!("title = \"t\"\n[[event]]\nat = \"1s\"\ndo = \"sigterm\"\n{rest}\n");
        let file = ScenarioFile { path: path.into(), scenario: scenario::parse("t.toml", &text).unwrap() };
        judge(&last_call(), &file, None, engine, &|file, seed, engine, shows| {
            let settings = crate::cast::run::settings(&file.scenario);
            Ok(shows.of(&crate::cast::run::run(&last_call(), &file.scenario, &settings, seed, engine).history))
        })
    }

    fn xml(judgements: Vec<Judgement>, engine: EngineName) -> String {
        let line = |judgement| Line { judgement, wall: Duration::from_millis(1_500) };
        let lines: Vec<Line> = judgements.into_iter().map(line).collect();
        of_files(&lines, Asked { seeds: None, engine, scope: Scope::Files }, Duration::from_secs(3))
    }

    #[test]
    fn a_file_is_a_case_with_what_broke_and_the_command_that_repeats_it() {
        let engine = EngineName::default();
        let good = judged("good.toml", "[expect]\nexit = { code = 0 }", engine);
        let bad = judged("bad<&\"'\u{1b}.toml", "[expect]\nexit = { code = 3 }", engine);
        let xml = xml(vec![good, bad], engine);
        for said in [
            "<testsuites name=\"sim\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\">",
            "<testsuite name=\"sim.turmoil-net\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"3.000\">",
            "<testcase classname=\"sim.turmoil-net\" name=\"good.toml\" time=\"1.500\"/>",
            "name=\"bad&lt;&amp;&quot;&#39;\u{fffd}.toml\" time=\"1.500\">\n      <failure message=\"expect.exit.code: ",
            " type=\"expect.exit.code\">FAIL  bad&lt;",
            "again: cargo run --release -p sim -- run bad&lt;&amp;&quot;&#39;\u{fffd}.toml --seed 1 --engine turmoil-net</failure>",
        ] {
            assert!(xml.contains(said), "{said:?} is not in:\n{xml}");
        }
        assert!(!xml.chars().any(|character| character.is_control() && character != '\n'), "{xml:?}");
    }

    #[test]
    fn what_an_engine_can_not_do_is_skipped_and_if_nothing_was_judged_that_fails() {
        let engine = EngineName::Turmoil;
        let rest = "[[event]]\nat = \"2s\"\ndo = \"worker_crash\"\n[expect]\nexit = { code = 0 }";
        let xml = xml(vec![judged("t.toml", rest, engine)], engine);
        assert!(xml.contains("<skipped message=\"not supported by turmoil: restarts\"/>"), "{xml}");
        assert!(
            xml.contains("<failure message=\"no file was judged\" type=\"suite\">"),
            "as the exit code says: {xml}"
        );
    }

    #[test]
    fn a_promise_is_a_case_of_what_was_explored() {
        let mut explored = Explored::default();
        let failure = crate::judge::gate::Failure {
            broke: "never-cut".to_owned(),
            what: "a <b>\u{0} was cut".to_owned(),
            evidence: "1s  a  cut\n".to_owned(),
            seed: 5,
            more_seeds: 0,
        };
        let (text, path) = ("title = 't'\n".to_owned(), "found/x.toml".into());
        let find = crate::explore::Find { seed: 5, shows_under: 7, failure, text, more: 2, path };
        explored.finds.insert("never-cut".to_owned(), find);
        let xml = of_explored(&explored, Duration::from_secs(2));
        for said in [
            "<testsuite name=\"sim.explore\" tests=\"9\" failures=\"1\" errors=\"0\" skipped=\"8\" time=\"2.000\">",
            "name=\"never-cut\" time=\"0.000\">\n      <failure message=\"a &lt;b&gt;\u{fffd} was cut\" type=\"never-cut\">",
            "found/x.toml; 2 more runs broke it\n\n1s  a  cut",
            "again: cargo run --release -p sim -- run found/x.toml --seed 7</failure>",
            "name=\"bounded-exit\" time=\"0.000\">\n      <skipped message=\"no run could have broken it\"/>",
        ] {
            assert!(xml.contains(said), "{said:?} is not in:\n{xml}");
        }
    }
}
