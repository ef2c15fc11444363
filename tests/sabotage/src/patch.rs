//! A sabotage: a named, deliberate defect of the control plane, `NAME.patch`.
//!
//! A unified diff against the sources in `cp/`, at the place and in the form in which a programmer would make the mistake.
//! Above it, some lines of what that programmer was thinking, and one that says what must catch it:
//!
//! ```text
//! The connection is over, so close it.
//! Caught-by: clean-goodbye
//! --- a/cp/src/session.rs
//! ```
//!
//! A line `Explorer-needs: …` says what the explorer would need to come upon it, where it has not.
//!
//! `Caught-by` is a promise of the contract; an expectation such as `expect.exit`, where no promise says so much; or a
//! command `cargo test …`, for what a simulation on one thread can't see.

use std::fs;
use std::path::{Path, PathBuf};

const NEEDS: &str = "Explorer-needs:";

/// A sabotage, as its file says. The diff is git's business.
#[derive(Clone, Debug)]
pub(crate) struct Sabotage {
    /// The file's name, without `.patch`.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// What must catch it.
    pub(crate) caught_by: String,
    /// What the explorer lacks to find it.
    pub(crate) explorer_needs: Option<String>,
}

/// Reads all sabotages, by name.
///
/// # Errors
/// Everything that is wrong with the files, a line each.
pub(crate) fn load(folder: &Path) -> Result<Vec<Sabotage>, String> {
    let found = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = found.map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    paths.sort();
    let (mut sabotages, mut complaints) = (Vec::new(), Vec::new());
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        match text.and_then(|text| Sabotage::parse(&path, &text)) {
            Ok(sabotage) => sabotages.push(sabotage),
            Err(what) => complaints.push(format!("{}: {what}", path.display())),
        }
    }
    match complaints.as_slice() {
        [] if sabotages.is_empty() => Err(format!("there is no sabotage in {}", folder.display())),
        [] => Ok(sabotages),
        _ => Err(complaints.join("\n")),
    }
}

/// Those that are named, each by its whole name or by its first word; all if none is.
///
/// # Errors
/// The names that there are, if there is not one of those asked for.
pub(crate) fn select<'a>(all: &'a [Sabotage], names: &[String]) -> Result<Vec<&'a Sabotage>, String> {
    if let Some(name) = names.iter().find(|name| !all.iter().any(|sabotage| sabotage.is_called(name))) {
        let known: Vec<&str> = all.iter().map(|sabotage| sabotage.name.as_str()).collect();
        return Err(format!("no sabotage is called {name}\n\nThere are:\n  {}", known.join("\n  ")));
    }
    let wanted = |sabotage: &&Sabotage| names.is_empty() || names.iter().any(|name| sabotage.is_called(name));
    Ok(all.iter().filter(wanted).collect())
}

impl Sabotage {
    fn parse(path: &Path, text: &str) -> Result<Sabotage, String> {
        let above: Vec<&str> = text.lines().take_while(|line| !line.starts_with("--- ")).collect();
        let (needs, above): (Vec<&str>, Vec<&str>) = above.iter().partition(|line| line.starts_with(NEEDS));
        let explorer_needs = needs.first().map(|needs| needs.trim_start_matches(NEEDS).trim().to_owned());
        let (catchers, thought): (Vec<&str>, Vec<&str>) = above.iter().partition(|line| line.starts_with("Caught-by:"));
        let [catcher] = catchers.as_slice() else {
            return Err("expected one line `Caught-by: …` above the diff: what must catch it".to_owned());
        };
        let caught_by = catcher.trim_start_matches("Caught-by:").trim().to_owned();
        if caught_by.starts_with("cargo ") && !caught_by.starts_with("cargo test ") {
            return Err(format!("`{caught_by}` is no test"));
        }
        if thought.concat().trim().is_empty() {
            return Err("expected a sentence above the diff: what a programmer would have been thinking".to_owned());
        }
        // Lines of a hunk that begin so are none of Rust.
        let mut changed = text.lines().filter_map(|line| line.strip_prefix("+++ "));
        if let Some(elsewhere) = changed.find(|path| !path.starts_with("b/cp/")) {
            return Err(format!("it changes {elsewhere}: a sabotage is a defect of the control plane, in cp/"));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Sabotage { name, path: path.to_owned(), caught_by, explorer_needs })
    }

    /// The arguments for cargo, if it is a test that must catch it.
    pub(crate) fn test(&self) -> Option<Vec<&str>> {
        self.caught_by.strip_prefix("cargo ").map(|arguments| arguments.split_whitespace().collect())
    }

    /// Whether what broke is what must break: an expectation's key counts for all keys below it.
    pub(crate) fn is_caught_by(&self, broke: &str) -> bool {
        broke.strip_prefix(&self.caught_by).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn is_called(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.name == name || self.name.split('-').next() == Some(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workshop::git_apply;

    const DIFF: &str = "--- a/cp/src/x.rs\n+++ b/cp/src/x.rs\n@@ -1 +1 @@\n-a\n+b\n";

    fn sabotage(name: &str, caught_by: &str) -> Sabotage {
        Sabotage::parse(Path::new(name), &format!("Why not.\nCaught-by: {caught_by}\n{DIFF}")).unwrap()
    }

    fn complaint(text: &str) -> String {
        Sabotage::parse(Path::new("x.patch"), text).unwrap_err()
    }

    #[test]
    fn a_sabotage_may_say_what_the_explorer_needs() {
        let text = format!("Why not.\nCaught-by: never-cut\nExplorer-needs: a mind\n{DIFF}");
        let needs = Sabotage::parse(Path::new("x.patch"), &text).unwrap().explorer_needs;
        assert_eq!((needs.as_deref(), sabotage("x.patch", "never-cut").explorer_needs), (Some("a mind"), None));
    }

    #[test]
    fn a_sabotage_says_what_must_catch_it() {
        let by_test = sabotage("a/h01-x.patch", "cargo test -p cp --test x");
        assert_eq!(
            (by_test.name.as_str(), by_test.test().unwrap().join(" ")),
            ("h01-x", "test -p cp --test x".to_owned())
        );
        let by_suite = sabotage("x.patch", "expect.exit");
        assert_eq!(by_suite.test(), None);
        assert!(by_suite.is_caught_by("expect.exit") && by_suite.is_caught_by("expect.exit.within"));
        assert!(!by_suite.is_caught_by("expect.exits") && !by_suite.is_caught_by("never-cut"));
    }

    #[test]
    fn a_bad_file_is_answered_with_what_it_lacks() {
        assert!(complaint(DIFF).contains("`Caught-by: …`"));
        assert!(complaint(&format!("Caught-by: never-cut\n{DIFF}")).contains("thinking"));
        assert!(complaint(&format!("X\nCaught-by: cargo clean\n{DIFF}")).contains("is no test"));
        let elsewhere = DIFF.replace("cp/", "sim/");
        assert!(complaint(&format!("X\nCaught-by: never-cut\n{elsewhere}")).contains("a defect of the control plane"));
    }

    #[test]
    fn a_sabotage_is_named_whole_or_by_its_hazard_and_another_name_lists_them_all() {
        let all = ["h03-fatal", "h09-pinger", "sync-not-forwarded"].map(|name| sabotage(name, "never-cut"));
        let names = |names: &[&str]| -> Result<Vec<String>, String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Ok(select(&all, &names)?.into_iter().map(|sabotage| sabotage.name.clone()).collect())
        };
        assert_eq!(names(&["H09", "h03-fatal"]).unwrap(), ["h03-fatal", "h09-pinger"]);
        assert_eq!(names(&[]).unwrap().len(), 3);
        let unknown = names(&["h9", "h03"]).unwrap_err();
        assert!(unknown.contains("called h9") && unknown.contains("sync-not-forwarded"), "{unknown}");
    }

    #[test]
    fn every_sabotage_of_this_workspace_can_be_read_and_applies() {
        let root = Path::new(crate::ROOT);
        for sabotage in load(&root.join(crate::PATCHES)).unwrap() {
            let applies = git_apply(root, &["--check"], &sabotage.path).unwrap();
            assert_eq!(applies, Ok(()), "{}", sabotage.name);
        }
    }
}
