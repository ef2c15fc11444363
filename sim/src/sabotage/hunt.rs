//! The hunt for a defect: all files, seed after seed, until the promise that must catch it breaks.
//!
//! Runs in the process that has the defect built in. Which run caught it does not depend on how many runs go on at a time:
//! it is the first in the hunt's order, by seed and then by file.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::cast::pod::last_call;
use crate::cast::run::{self, EngineName};
use crate::judge::gate;
use crate::parallel;
use crate::scenario::ScenarioFile;

/// What is hunted for, and how far.
#[derive(Clone, Debug)]
pub struct Quarry {
    /// What must break: a promise's name, or an expectation's key such as `expect.exit`. `None`: whatever breaks.
    pub breaks: Option<String>,
    /// The defect's name. Files that say that they catch it come first.
    pub name: Option<String>,
    /// The first seed and the last.
    pub seeds: (u64, u64),
}

/// How a hunt ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunted {
    /// The first run in which what must break broke.
    pub caught: Option<Catch>,
    /// The first run in which anything else broke, if nothing was caught.
    pub instead: Option<Catch>,
    /// Files that say that they catch it, and in which nothing broke.
    pub missed: Vec<String>,
}

/// A run in which something broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catch {
    /// What broke.
    pub broke: String,
    /// In a sentence.
    pub what: String,
    /// In which scenario file.
    pub file: String,
    /// Under which seed.
    pub seed: u64,
}

/// Hunts, with all processors. Files that the engine can't run are left out.
pub fn hunt(files: &[ScenarioFile], quarry: &Quarry) -> Hunted {
    let (pod, engine) = (last_call(), EngineName::default());
    let mut files: Vec<&ScenarioFile> =
        files.iter().filter(|file| run::lacks(&file.scenario, engine).is_empty()).collect();
    // Stable: within the two groups they keep their order.
    files.sort_by_key(|file| !quarry.is_claimed_by(file));
    let claimants: Vec<&ScenarioFile> = files.iter().copied().filter(|file| quarry.is_claimed_by(file)).collect();
    let missed = parallel::each(claimants, |file| {
        let breaks = |seed| !gate::broken(&pod, file, seed, engine).is_empty();
        let breaks = gate::seeds(&file.scenario, None).any(breaks);
        (!breaks).then(|| file.path.display().to_string())
    });
    let (from, to) = quarry.seeds;
    let runs = (from..=to).flat_map(|seed| files.iter().map(move |file| (seed, *file))).enumerate();
    // Everything before the first catch is run to its end, and nothing behind it need be begun.
    let stop = AtomicUsize::new(usize::MAX);
    let mut found = parallel::each(runs.collect(), |(index, (seed, file))| {
        let mut hunted = Hunted::default();
        if index > stop.load(Ordering::Relaxed) {
            return hunted;
        }
        for failure in gate::broken(&pod, file, seed, engine) {
            let catch = Catch { broke: failure.broke, what: failure.what, file: file.path.display().to_string(), seed };
            if quarry.is_it(&catch.broke) {
                stop.fetch_min(index, Ordering::Relaxed);
                hunted.caught = Some(catch);
                break;
            }
            hunted.instead.get_or_insert(catch);
        }
        hunted
    });
    let caught = found.iter_mut().find_map(|hunted| hunted.caught.take());
    let instead = found.into_iter().find_map(|hunted| hunted.instead).filter(|_| caught.is_none());
    Hunted { caught, instead, missed: missed.into_iter().flatten().collect() }
}

impl Quarry {
    fn is_claimed_by(&self, file: &ScenarioFile) -> bool {
        self.name.as_ref().is_some_and(|name| file.scenario.catches.contains(name))
    }

    /// Whether what broke is what must break: an expectation's key counts for all keys below it.
    fn is_it(&self, broke: &str) -> bool {
        self.breaks.as_ref().is_none_or(|breaks| {
            broke.strip_prefix(breaks.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario;

    fn quarry(breaks: &str) -> Quarry {
        Quarry { breaks: Some(breaks.to_owned()), name: None, seeds: (1, 2) }
    }

    /// A pod without clients, and what is expected of its exit.
    fn file(name: &str, expect: &str) -> ScenarioFile {
        claiming("", name, expect)
    }

    fn claiming(catches: &str, name: &str, expect: &str) -> ScenarioFile {
        let text = format!("catches = [{catches}]\n")
            + &format!("title = \"t\"\n[[event]]\nat = \"1s\"\ndo = \"sigterm\"\n[expect]\n{expect}\n");
        ScenarioFile { path: Path::new(name).to_owned(), scenario: scenario::parse(name, &text).unwrap() }
    }

    #[test]
    fn the_first_run_in_order_is_the_catch() {
        let files = [
            file("a.toml", "exit = { code = 0 }"),
            file("b.toml", "exit = { code = 3 }"),
            claiming("\"c\"", "c.toml", "exit = { code = 3, within = \"1s\" }"),
            claiming("\"c\"", "d.toml", "exit = { code = 0 }"),
        ];
        let by_name = hunt(&files, &quarry("expect.exit")).caught.unwrap();
        assert_eq!((by_name.file.as_str(), by_name.seed), ("b.toml", 1));
        let name = Some("c".to_owned());
        let hunted = hunt(&files, &Quarry { name, ..quarry("expect.exit.code") });
        let first = hunted.caught.unwrap();
        assert_eq!((first.file.as_str(), first.broke.as_str()), ("c.toml", "expect.exit.code"));
        assert_eq!(hunted.missed, ["d.toml"], "it says that it catches it");
    }

    #[test]
    fn what_breaks_instead_is_told_when_nothing_was_caught() {
        let hunted = hunt(&[file("b.toml", "exit = { code = 3 }")], &quarry("never-cut"));
        assert_eq!(hunted.caught, None);
        assert_eq!(hunted.instead.unwrap().broke, "expect.exit.code");
        assert_eq!(hunt(&[], &quarry("never-cut")), Hunted::default());
    }

    #[test]
    fn a_key_counts_for_the_keys_below_it_and_no_others() {
        assert!(quarry("expect.exit").is_it("expect.exit.within"));
        assert!(!quarry("expect.exit").is_it("expect.exits"));
        assert!(Quarry { breaks: None, ..quarry("") }.is_it("never-cut"));
    }
}
