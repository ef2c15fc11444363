//! What the simulator says of a suite: of `sim run --format json`, as much as a hunt needs.

use serde::Deserialize;

use crate::patch::Sabotage;

/// What came out for each file.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    file: String,
    catches: Vec<String>,
    failures: Vec<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    broke: String,
    what: String,
    seed: u64,
    again: String,
}

/// What has caught a sabotage: where and under which seed, if it was the suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catch {
    /// What broke.
    pub(crate) broke: String,
    /// In a sentence.
    pub(crate) what: String,
    /// In which scenario file.
    pub(crate) file: String,
    /// Under which seed.
    pub(crate) seed: Option<u64>,
}

/// A scenario file, as short as it can be found by.
pub(crate) fn short(file: &str) -> &str {
    file.trim_start_matches("scenarios/").trim_end_matches(".toml")
}

/// Complains of files that say that they catch what there is not.
pub(crate) fn all_exist(suite: &Report, sabotages: &[Sabotage]) -> Result<(), String> {
    let claims = suite.files.iter().flat_map(|file| file.catches.iter().map(|name| (&file.file, name)));
    let unknown: Vec<String> = claims
        .filter(|(_, name)| !sabotages.iter().any(|sabotage| sabotage.name == **name))
        .map(|(file, name)| format!("{file} says that it catches `{name}`, and no sabotage is called so"))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(unknown.join("\n")) }
}

impl Report {
    /// Complains unless everything holds.
    pub(crate) fn is_whole(&self) -> Result<(), String> {
        self.failures().next().map_or(Ok(()), |(_, Failure { broke, what, again, .. })| {
            Err(format!("the suite does not hold without any sabotage\n  {broke}: {what}\n  again: {again}"))
        })
    }

    /// The files that say that they catch this sabotage.
    pub(crate) fn claimants(&self, name: &str) -> Vec<&str> {
        let claims = |file: &&File| file.catches.iter().any(|caught| caught == name);
        self.files.iter().filter(claims).map(|file| file.file.as_str()).collect()
    }

    /// The files in which nothing broke.
    pub(crate) fn without_failure(&self) -> Vec<&str> {
        let broken = |file: &File| file.failures.iter().any(Failure::is_of_the_file);
        self.files.iter().filter(|file| !broken(file)).map(|file| file.file.as_str()).collect()
    }

    /// The first failure that is wanted, by seed and then by file.
    pub(crate) fn first(&self, wanted: impl Fn(&str) -> bool) -> Option<Catch> {
        let found = self.failures().filter(|(_, failure)| failure.is_of_the_file() && wanted(&failure.broke));
        let in_time = found.filter(|(_, failure)| failure.seed <= crate::SEEDS);
        let (file, Failure { broke, what, seed, .. }) = in_time.min_by_key(|(_, failure)| failure.seed)?;
        Some(Catch { broke: broke.clone(), what: what.clone(), file: file.to_owned(), seed: Some(*seed) })
    }

    fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.files.iter().flat_map(|file| file.failures.iter().map(|failure| (file.file.as_str(), failure)))
    }
}

impl Failure {
    /// That an old policy breaks something else than it did, with a defect built in, says nothing of the file.
    fn is_of_the_file(&self) -> bool {
        self.broke != "fails_under"
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A file for each line of `name catches broke@seed`.
    fn report(lines: &[[&str; 3]]) -> Report {
        let words = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
        let failure = |word: &str| {
            let (broke, seed) = word.split_once('@').unwrap();
            Failure {
                broke: broke.to_owned(),
                what: String::new(),
                seed: seed.parse().unwrap(),
                again: "sim".to_owned(),
            }
        };
        let file = |[file, catches, broke]: &[&str; 3]| File {
            file: (*file).to_owned(),
            catches: words(catches),
            failures: broke.split_whitespace().map(failure).collect(),
        };
        Report { files: lines.iter().map(file).collect() }
    }

    #[test]
    fn the_first_failure_by_seed_and_then_by_file_is_the_catch() {
        let report = report(&[["a", "", "never-cut@3 x@1"], ["b", "", "never-cut@2"], ["c", "", "never-cut@2 y@33"]]);
        let first = |broke: &str| report.first(|it| it == broke).map(|catch| (catch.file, catch.seed));
        assert_eq!(first("never-cut"), Some(("b".to_owned(), Some(2))));
        assert_eq!(first("y"), None, "it came too late");
    }

    #[test]
    fn a_file_that_says_that_it_catches_something_must_break_itself_and_not_only_under_an_old_policy() {
        let report = report(&[["a", "s", "x@1"], ["b", "s t", "fails_under@1"], ["c", "t", ""]]);
        assert_eq!(report.claimants("s"), ["a", "b"]);
        assert_eq!(report.without_failure(), ["b", "c"]);
        assert!(report.is_whole().unwrap_err().contains("again: sim"));
    }

    #[test]
    fn a_file_can_not_say_that_it_catches_what_there_is_not() {
        let there = Sabotage { name: "s".to_owned(), path: PathBuf::new(), caught_by: String::new() };
        assert_eq!(all_exist(&report(&[["a", "s", ""]]), std::slice::from_ref(&there)), Ok(()));
        assert!(all_exist(&report(&[["a", "s t", ""]]), &[there]).unwrap_err().contains("a says that it catches `t`"));
    }

    #[test]
    fn it_is_read_from_what_the_simulator_prints() {
        let failure = r#"{"broke": "x", "what": "w", "evidence": [], "seed": 1, "more_seeds": 0, "again": "sim"}"#;
        let json =
            format!(r#"{{"files": [{{"file": "f", "catches": ["s"], "failures": [{failure}], "verdict": "fail"}}]}}"#);
        let report: Report = serde_json::from_str(&json).unwrap();
        assert_eq!((report.claimants("s"), report.failures().count()), (vec!["f"], 1));
    }
}
