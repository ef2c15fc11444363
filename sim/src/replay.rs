//! One run played again, with everything that is known of it: its events, between them what the pod's process logged, and the
//! verdict.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::cast::pod::Pod;
use crate::cast::pod::log::{self, LogLevel};
use crate::cast::run::{self, EngineName};
use crate::explore;
use crate::judge::gate;
use crate::report::explain::Explained;
use crate::scenario::{self, Purpose, ScenarioFile};
use crate::story::{Story, timeline};
use crate::suite;

/// What is to be played again.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The scenario.
    pub file: ScenarioFile,
    /// The seed of the run.
    pub seed: u64,
    /// The explorer's seed that it was drawn from, and its text; none of a file.
    drawn: Option<(u64, String)>,
}

/// A run that was played again.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// What happened, for people, and the verdict.
    pub text: String,
    /// Whether everything holds.
    pub holds: bool,
}

impl Wanted {
    /// What this says: a number is a seed of the explorer, whose scenario is drawn again; all else is a file. Without a seed it is
    /// the number itself, or the one under which a find was kept, or 1.
    ///
    /// # Errors
    /// What is wrong with the file, ready to print, with colours if there are to be some; or that this seed draws nothing.
    pub fn of(what: &str, seed: Option<u64>, colour: bool) -> Result<Wanted, String> {
        if let Ok(drawn) = what.parse() {
            let text = explore::draw(drawn);
            let scenario = scenario::parse_for(Purpose::Tried, "drawn", &text).map_err(|_| {
                format!("error: what the explorer draws from seed {drawn} fits nothing, and is not run")
            })?;
            let file = ScenarioFile { path: format!("drawn from seed {drawn}").into(), scenario };
            return Ok(Wanted { file, seed: seed.unwrap_or(drawn), drawn: Some((drawn, text)) });
        }
        let path = Path::new(what);
        let mut files = suite::load(Purpose::Tried, &[path.to_owned()], colour)?;
        let file = files.pop().filter(|_| files.is_empty());
        let file = file.ok_or_else(|| format!("error: one run is played again: name one file of {what}"))?;
        let kept = || explore::seed_of(&fs::read_to_string(&file.path).unwrap_or_default());
        let seed = seed.or_else(kept).unwrap_or(1);
        Ok(Wanted { file, seed, drawn: None })
    }

    /// Plays it.
    pub fn play(&self, pod: &Arc<dyn Pod>, engine: EngineName, level: LogLevel) -> Replayed {
        let scenario = &self.file.scenario;
        let settings = run::settings(scenario);
        let (run, log) = log::listen(pod, level, |pod| run::run(pod, scenario, &settings, self.seed, engine));
        let drawn = self.drawn.as_ref().map_or(String::new(), |(_, text)| format!("{}\n\n", text.trim_end()));
        let events = timeline::with_log(&Story::of(&run.history, &run.settings), &log);
        if scenario.deployment.is_some() {
            let failures = gate::failures(pod, scenario, &run, self.seed);
            let broken = failures.iter().map(|failure| format!("FAIL  {}: {}\n", failure.broke, failure.what));
            let verdict = if failures.is_empty() { "pass  Everything holds.\n".to_owned() } else { broken.collect() };
            return Replayed { text: format!("{drawn}{events}\n{verdict}"), holds: failures.is_empty() };
        }
        let explained = Explained::of(pod, &self.file, &run, (self.seed, engine), self.again(engine));
        Replayed { text: format!("{drawn}{events}\n{}", explained.judgement()), holds: explained.holds() }
    }

    /// The command that plays what no file holds.
    fn again(&self, engine: EngineName) -> Option<String> {
        let (drawn, _) = self.drawn.as_ref()?;
        let (seed, engine) = (self.seed, engine.name());
        Some(format!("cargo run --release -p sim -- replay {drawn} --seed {seed} --engine {engine}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::pod::last_call;
    use crate::judge::gate::Failure;

    const FILE: &str = "title = \"t\"\n[[client]]\nname = \"a\"\nsteps = [\"connect\", { idle = \"forever\" }]\n\
                        [[event]]\nat = \"10s\"\ndo = \"sigterm\"\n[expect]\nexit = { code = 0 }\n";

    fn written(name: &str, text: &str) -> String {
        let path = std::env::temp_dir().join(format!("sim-replay-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    #[test]
    fn the_pods_own_lines_stand_between_the_events_of_their_time() {
        let path = written("lines", FILE);
        let wanted = Wanted::of(&path, None, false).unwrap();
        fs::remove_file(&path).unwrap();
        let Replayed { text, holds } = wanted.play(&last_call(), EngineName::default(), LogLevel::Info);
        assert!(holds, "{text}");
        let line =
            |said: &str| text.lines().position(|line| line.contains(said)).unwrap_or_else(|| panic!("{said}: {text}"));
        let (signal, logged) = (line("sends SIGTERM"), line("INFO serving"));
        let drains = text.lines().skip(signal).position(|line| line.contains("pod (log)")).unwrap() + signal;
        assert!(logged < signal && drains < line("read FATAL 57P01"), "{text}");
        assert!(text.lines().nth(drains).unwrap().trim_start().starts_with("10.0"), "{text}");
        assert!(text.contains("pass  Everything holds"), "{text}");
    }

    #[test]
    fn a_find_is_played_under_the_seed_that_its_head_names() {
        let path = written("find", "");
        let failure = Failure {
            broke: "never-cut".to_owned(),
            what: "cut --seed 5".to_owned(),
            evidence: String::new(),
            seed: 77,
            more_seeds: 0,
        };
        explore::keep(Path::new(&path), FILE, &failure, 77).unwrap();
        let seeds = [None, Some(3)].map(|seed| Wanted::of(&path, seed, false).unwrap().seed);
        fs::remove_file(&path).unwrap();
        assert_eq!(seeds, [77, 3]);
        assert_eq!(explore::seed_of(FILE), None);
    }

    #[test]
    fn a_number_is_the_scenario_that_the_explorer_draws_from_it() {
        let wanted = Wanted::of("7", None, false).unwrap();
        assert_eq!((wanted.seed, wanted.file.scenario.title.is_empty()), (7, false));
        let Replayed { text, .. } = wanted.play(&last_call(), EngineName::default(), LogLevel::Info);
        assert!(text.starts_with(explore::draw(7).trim_end()), "{text}");
        assert!(
            text.ends_with("again: cargo run --release -p sim -- replay 7 --seed 7 --engine turmoil-net\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        assert!(Wanted::of("no-such-file.toml", None, false).unwrap_err().contains("there is no no-such-file.toml"));
    }
}
