//! All runs of many files on every engine, and whether the engines tell the same story.
//!
//! Each engine judges the files that it can. What the others show of a file is compared with what the first engine shows
//! under all of its seeds ([`compare`](crate::judge::compare)), and that a file decides as much is tried under [`SEEDS`]
//! seeds at least, however few are asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::cast::pod::Pod;
use crate::cast::run::EngineName;
use crate::judge::compare::{Decided, Difference, Facts};
use crate::judge::gate::{self, Elsewhere};
use crate::parallel;
use crate::scenario::ScenarioFile;
use crate::stopwatch::timed;
use crate::suite::{self, Asked, Line};

/// Under how many seeds a fact must be the same on the first engine for the others to be held to it: from 1, and those that are
/// asked for.
const SEEDS: u64 = 8;

/// The engine that the others are compared with.
pub const REFERENCE: EngineName = EngineName::TurmoilNet;

/// What came of all files on all engines.
#[derive(Clone, Debug)]
pub struct Across {
    /// Each engine's own judgements.
    pub engines: Vec<OnEngine>,
    /// A line for each file.
    pub compared: Vec<Compared>,
}

/// One engine's judgements.
#[derive(Clone, Debug)]
pub struct OnEngine {
    /// What was asked of it.
    pub asked: Asked,
    /// A line for each file.
    pub lines: Vec<Line>,
    /// How long it took.
    pub wall: Duration,
}

/// What the other engines show of one file.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The file's path, as it was given.
    pub file: String,
    /// How many facts the file decides.
    pub decided: usize,
    /// How many more it has.
    pub left_to_chance: usize,
    /// The runs that show something else.
    pub disagreements: Vec<Disagreement>,
}

/// A run that shows something else than those on the first engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Where it was.
    pub engine: EngineName,
    /// Under which seed.
    pub seed: u64,
    /// At least one.
    pub differences: Vec<Difference>,
}

/// How many runs these files take.
pub fn runs(files: &[ScenarioFile], asked: Asked) -> usize {
    let on = |engine| suite::runs(files, Asked { engine, ..asked });
    EngineName::ALL.into_iter().map(on).sum::<usize>() + more(files, asked).len()
}

/// Runs and judges all files on every engine, whatever engine is asked for, and compares. Calls `done` after each run.
pub fn judge(
    pod: &Arc<dyn Pod>,
    files: &[ScenarioFile],
    asked: Asked,
    elsewhere: &Elsewhere<'_>,
    done: impl Fn() + Sync,
) -> Across {
    let on = |engine| {
        let asked = Asked { engine, ..asked };
        let (lines, wall) = timed(|| suite::judge(pod, files, asked, elsewhere, &done));
        OnEngine { asked, lines, wall }
    };
    let engines: Vec<OnEngine> = EngineName::ALL.into_iter().map(on).collect();
    let more = parallel::each(more(files, asked), |(index, seed)| {
        let facts = gate::facts(pod, &files[index], seed, REFERENCE);
        done();
        (index, facts)
    });
    let compared = (0..files.len()).map(|index| {
        let more = more.iter().filter(|(of, _)| *of == index).map(|(_, facts)| facts);
        compare(&engines, index, more)
    });
    Across { compared: compared.collect(), engines }
}

/// The runs that only decide what is compared: a file, by its place, and a seed.
fn more(files: &[ScenarioFile], asked: Asked) -> Vec<(usize, u64)> {
    let more_of = |(index, file): (usize, &ScenarioFile)| {
        let have = gate::seeds(&file.scenario, asked.seeds);
        (1..=SEEDS).filter(move |seed| !have.contains(seed)).map(move |seed| (index, seed)).collect::<Vec<_>>()
    };
    files.iter().enumerate().flat_map(more_of).collect()
}

fn compare<'a>(engines: &'a [OnEngine], index: usize, more: impl Iterator<Item = &'a Facts>) -> Compared {
    let judgement = |engine: &'a OnEngine| &engine.lines[index].judgement;
    let (reference, others): (Vec<_>, Vec<_>) = engines.iter().partition(|engine| engine.asked.engine == REFERENCE);
    let runs = reference.into_iter().flat_map(|engine| &judgement(engine).facts).map(|(_, facts)| facts);
    let decided = Decided::by(runs.chain(more));
    let runs =
        others.into_iter().flat_map(|on| judgement(on).facts.iter().map(move |(seed, facts)| (on, *seed, facts)));
    let disagreements = runs.filter_map(|(on, seed, facts)| {
        let differences = decided.differences(facts);
        (!differences.is_empty()).then_some(Disagreement { engine: on.asked.engine, seed, differences })
    });
    Compared {
        file: judgement(&engines[0]).file.clone(),
        decided: decided.count(),
        left_to_chance: decided.left_to_chance(),
        disagreements: disagreements.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cast::pod::last_call;
    use crate::cast::run;
    use crate::judge::gate::Shows;
    use crate::judge::gate::{Judgement, trial};
    use crate::report;
    use crate::scenario::parse;
    use crate::suite::{Scope, Seeds};

    /// A pod without clients that is told to go in this way.
    fn file(signal: &str) -> ScenarioFile {
        let text =
            format!("title = 't'\n[[event]]\nat = '1s'\ndo = '{signal}'\n[expect]\nexit = {{ within = '10s' }}\n");
        ScenarioFile { path: PathBuf::from("t.toml"), scenario: parse("t.toml", &text).expect("it is a good file") }
    }

    fn asked(engine: EngineName) -> Asked {
        Asked { seeds: Some(Seeds::Only(1)), engine, scope: Scope::Files }
    }

    /// As though this engine had shown what happens at `signal`.
    fn on(engine: EngineName, signal: &str) -> OnEngine {
        let trials = vec![trial(&last_call(), &file(signal), 1, engine, None)];
        let judgement = Judgement::new(&last_call(), &file(signal), engine, trials);
        OnEngine { asked: asked(engine), lines: vec![Line { judgement, wall: Duration::ZERO }], wall: Duration::ZERO }
    }

    fn across(signals: [&str; 3]) -> Across {
        let engines: Vec<OnEngine> =
            EngineName::ALL.into_iter().zip(signals).map(|(engine, how)| on(engine, how)).collect();
        let compared = vec![compare(&engines, 0, [].iter())];
        Across { engines, compared }
    }

    #[test]
    fn three_engines_that_show_the_same_are_green() {
        let across = across(["sigterm"; 3]);
        assert_eq!((across.compared[0].decided, across.compared[0].disagreements.len()), (1, 0));
        assert!(report::across::is_green(&across));
        let text = report::across::text(&across, Duration::ZERO, false);
        assert!(text.contains("t.toml  turmoil-net pass  turmoil pass  madsim pass  1 fact alike\n"), "{text}");
        assert!(text.contains("\nturmoil            1       1       0              0\n"), "{text}");
        assert!(text.contains("\n1 files on 3 engines: 1 fact compared, 0 differ"), "{text}");
    }

    #[test]
    fn one_that_shows_something_else_is_red_and_both_sides_are_printed() {
        for (signals, engine, [here, there]) in [
            (["sigterm", "sigquit", "sigterm"], "turmoil", [0, 131]),
            (["sigterm", "sigterm", "sigquit"], "madsim", [0, 131]),
            (["sigquit", "sigquit", "sigterm"], "madsim", [131, 0]),
        ] {
            let across = across(signals);
            assert!(!report::across::is_green(&across));
            let text = report::across::text(&across, Duration::ZERO, false);
            let both = format!(
                "the process at its end\n    on turmoil-net: exit code {here}\n    on {engine}: exit code {there}\n"
            );
            assert!(text.contains(&both) && text.contains("1 fact, "), "{text}");
            assert!(text.contains("run t.toml --seed 1 --engine all"), "{text}");
            assert!(
                report::across::json(&across, Duration::ZERO).contains(&format!("\"came\": \"exit code {there}\""))
            );
        }
    }

    #[test]
    fn what_an_engine_cannot_do_is_counted_and_named_and_not_compared() {
        let text = "title = 't'\n[[event]]\nat = '1s'\ndo = 'sigterm'\n[[event]]\nat = '2s'\ndo = 'hold'\n\
                    between = ['clients', 'pod']\n[expect]\nexit = { within = '10s' }\n";
        let scenario = parse("t.toml", text).expect("it is a good file");
        let file = ScenarioFile { path: PathBuf::from("t.toml"), scenario };
        let here = |file: &ScenarioFile, seed, engine, shows: Shows| {
            let run = run::run(&last_call(), &file.scenario, &run::settings(&file.scenario), seed, engine);
            Ok(shows.of(&run.history))
        };
        let across = judge(&last_call(), &[file], asked(REFERENCE), &here, || {});
        assert!(report::across::is_green(&across));
        let text = report::across::text(&across, Duration::ZERO, false);
        assert!(text.contains("turmoil skip  madsim pass"), "{text}");
        assert!(text.contains("\nturmoil            0       0       0              1: held packets 1\n"), "{text}");
    }
}
