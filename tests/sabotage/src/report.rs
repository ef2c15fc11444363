//! What the simulator says of a suite: of `sim run --format json`, as much as a hunt needs.

use serde::Deserialize;

/// What came out for each file.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    file: String,
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

impl Report {
    /// Complains unless everything holds.
    pub(crate) fn is_whole(&self) -> Result<(), String> {
        self.failures().next().map_or(Ok(()), |(_, Failure { broke, what, again, .. })| {
            Err(format!("the suite does not hold without any sabotage\n  {broke}: {what}\n  again: {again}"))
        })
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
    use super::*;

    /// What the simulator prints of files, each with what broke and under which seed.
    fn report(files: &[(&str, &[(&str, u64)])]) -> Report {
        let failure = |(broke, seed): &(&str, u64)| {
            let what = r#""what": "w", "evidence": [], "more_seeds": 0, "again": "sim""#;
            format!(r#"{{"broke": "{broke}", "seed": {seed}, {what}}}"#)
        };
        let file = |(file, failures): &(&str, &[(&str, u64)])| {
            let failures: Vec<String> = failures.iter().map(failure).collect();
            format!(r#"{{"file": "{file}", "verdict": "fail", "failures": [{}]}}"#, failures.join(", "))
        };
        let files: Vec<String> = files.iter().map(file).collect();
        serde_json::from_str(&format!(r#"{{"files": [{}], "runs": 1}}"#, files.join(", "))).unwrap()
    }

    #[test]
    fn the_first_failure_by_seed_and_then_by_file_is_the_catch() {
        let report = report(&[("a", &[("x", 3), ("y", 1)]), ("b", &[("x", 2)]), ("c", &[("x", 2), ("z", 33)])]);
        let first = |broke: &str| report.first(|it| it == broke).map(|catch| (catch.file, catch.seed));
        assert_eq!(first("x"), Some(("b".to_owned(), Some(2))));
        assert_eq!(first("z"), None, "it came too late");
    }

    #[test]
    fn what_breaks_only_under_an_old_policy_catches_nothing_and_is_no_whole_suite() {
        let report = report(&[("a", &[("x", 1)]), ("b", &[("fails_under", 1)]), ("c", &[])]);
        assert_eq!(report.without_failure(), ["b", "c"]);
        assert_eq!(report.first(|broke| broke == "fails_under"), None);
        assert!(report.is_whole().unwrap_err().contains("again: sim"));
    }
}
