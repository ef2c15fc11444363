//! Sabotages: named, deliberate defects of the control plane, and the proof that the suite catches each of them.
//!
//! Each is a file `sim/sabotage/NAME.patch`: a unified diff against `cp`'s source, at the place and in the form in which a
//! programmer would make the mistake. Above the diff, some lines of what that programmer was thinking, and one that says what
//! must catch it:
//!
//! ```text
//! The connection is over, so close it.
//! Caught-by: clean-goodbye
//! --- a/cp/src/session.rs
//! ```
//!
//! `Caught-by` is a promise of the contract; an expectation such as `expect.exit`, where no promise says so much; or a
//! command `cargo test …`, for what a simulation on one thread can't see.
//!
//! A copy of the sources ([`workshop`]) is patched and built; `cp` itself holds no trace of any of it. Then the whole suite
//! runs there, seed after seed, until what must break breaks ([`hunt`]). A sabotage that survives, does not apply or does not
//! build makes the gate red, and so does a table ([`table`]) that differs from the one that is kept beside the patches.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lastcall_core::settings;

use crate::scenario::Promise;
use crate::stopwatch::timed;

pub mod hunt;
pub mod patch;
pub mod table;
pub mod workshop;

use hunt::{Catch, Hunted, Quarry};
use patch::Patch;
use workshop::{Trouble, Workshop};

/// Where the patches are, from the workspace's root.
pub const FOLDER: &str = "sim/sabotage";
/// The suite gets this many seeds to catch a sabotage.
pub const SEEDS: u64 = 32;

/// A sabotage, as its file says.
#[derive(Clone, Debug)]
pub struct Sabotage {
    /// The file's name, without `.patch`.
    pub name: String,
    /// What its programmer was thinking.
    pub thought: String,
    /// What must catch it.
    pub catcher: Catcher,
    /// What it changes.
    pub patch: Patch,
}

/// What must catch a sabotage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catcher {
    /// A promise, or an expectation, by the name under which the gate reports it.
    Suite(String),
    /// A test: cargo's arguments.
    Test(Vec<String>),
}

/// What became of a sabotage.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub sabotage: String,
    /// What must catch it.
    pub catcher: Catcher,
    /// What happened.
    pub outcome: Outcome,
    /// Wall time of it all.
    pub wall: Duration,
}

/// How it ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Something in the suite broke that must, in this run.
    Caught(Catch),
    /// The test failed.
    Failed,
    /// Caught, but not in these files, which say that they catch it.
    Missed(Vec<String>),
    /// Nothing broke that must; perhaps something else did.
    Survived(Option<Catch>),
    /// The source has changed under it.
    DoesNotApply(String),
    /// It could not be built, or its suite gave no answer.
    Trouble(String),
}

impl Outcome {
    /// Whether it was caught as it must be.
    pub const fn is_caught(&self) -> bool {
        matches!(self, Outcome::Caught(_) | Outcome::Failed)
    }
}

/// Reads all sabotages, by name.
///
/// # Errors
/// Everything that is wrong with the files, a line each.
pub fn load(folder: &Path) -> Result<Vec<Sabotage>, String> {
    let unreadable = |path: &Path, error: io::Error| format!("cannot read {}: {error}", path.display());
    let found = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = found.map_err(|error| unreadable(folder, error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    paths.sort();
    let mut sabotages = Vec::new();
    let mut complaints = Vec::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error));
        match text.and_then(|text| parse(name, &text).map_err(|what| format!("{}: {what}", path.display()))) {
            Ok(sabotage) => sabotages.push(sabotage),
            Err(complaint) => complaints.push(complaint),
        }
    }
    match complaints.as_slice() {
        [] if sabotages.is_empty() => Err(format!("there is no sabotage in {}", folder.display())),
        [] => Ok(sabotages),
        _ => Err(complaints.join("\n")),
    }
}

fn parse(name: String, text: &str) -> Result<Sabotage, String> {
    let above: Vec<&str> = text.lines().take_while(|line| !line.starts_with("--- ")).collect();
    let (catchers, thought): (Vec<&str>, Vec<&str>) = above.iter().partition(|line| line.starts_with("Caught-by:"));
    let [catcher] = catchers.as_slice() else {
        return Err("expected one line `Caught-by: …` above the diff: what must catch it".to_owned());
    };
    let catcher = catcher.trim_start_matches("Caught-by:").trim();
    let catcher = if let Some(test) = catcher.strip_prefix("cargo ") {
        let arguments: Vec<String> = test.split_whitespace().map(str::to_owned).collect();
        if arguments.first().is_none_or(|first| first != "test") {
            return Err(format!("`cargo {test}` is no test"));
        }
        Catcher::Test(arguments)
    } else {
        let promises = Promise::ALL.map(Promise::name);
        if !promises.contains(&catcher) && !catcher.starts_with("expect.") {
            let told = settings::did_you_mean(settings::nearest(catcher, promises));
            return Err(format!("`{catcher}` is no promise, no `expect.…` and no `cargo test …`{told}"));
        }
        Catcher::Suite(catcher.to_owned())
    };
    let thought = thought.join(" ").trim().to_owned();
    if thought.is_empty() {
        return Err("expected a sentence above the diff: what a programmer would have been thinking".to_owned());
    }
    let diff: String = text.lines().skip(above.len()).flat_map(|line| [line, "\n"]).collect();
    let patch = Patch::parse(&diff, above.len() + 1).map_err(|bad| bad.to_string())?;
    if let Some(path) = patch.paths().find(|path| !path.starts_with("cp/")) {
        return Err(format!("it changes {path}: a sabotage is a defect of the control plane, in cp/"));
    }
    Ok(Sabotage { name, thought, catcher, patch })
}

/// Those that are named, each by its whole name or by its first word; all if none is.
///
/// # Errors
/// The names that there are not, and those that there are.
pub fn select(sabotages: Vec<Sabotage>, names: &[String]) -> Result<Vec<Sabotage>, String> {
    let known: Vec<String> = sabotages.iter().map(|sabotage| sabotage.name.clone()).collect();
    let mut unknown = names.iter().filter(|name| !sabotages.iter().any(|sabotage| sabotage.is_called(name)));
    if let Some(name) = unknown.next() {
        let words = sabotages.iter().flat_map(|sabotage| [sabotage.name.as_str(), sabotage.hazard()]);
        let meant = settings::did_you_mean(settings::nearest(&name.to_lowercase(), words));
        return Err(format!("error: no sabotage is called {name}{meant}\n\nThere are:\n  {}", known.join("\n  ")));
    }
    let wanted = |sabotage: &Sabotage| names.is_empty() || names.iter().any(|name| sabotage.is_called(name));
    Ok(sabotages.into_iter().filter(wanted).collect())
}

impl Sabotage {
    /// The first word of its name: the hazard's number, if it is one of these.
    fn hazard(&self) -> &str {
        self.name.split('-').next().unwrap_or_default()
    }

    fn is_called(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        name == self.name || name == self.hazard()
    }
}

/// Puts each sabotage to the proof, one after the other, and tells `done` of each.
///
/// The same runs are made without any, to show that they hold: the suite's first seed before, and all the others that a
/// sabotage was given afterwards.
///
/// # Errors
/// A sentence, with what to do, if the suite does not hold by itself or the copy can't be made, built or restored.
pub fn prove(
    workshop: &mut Workshop,
    sabotages: &[Sabotage],
    begin: impl Fn(&str),
    done: impl Fn(&Row),
) -> Result<Vec<Row>, String> {
    begin("the suite without any sabotage");
    workshop.build().map_err(|trouble| format!("error: the copy of the sources does not build\n{trouble}"))?;
    holds(workshop, (1, 1))?;
    let mut tests: Vec<&Vec<String>> = Vec::new();
    for sabotage in sabotages {
        if let Catcher::Test(arguments) = &sabotage.catcher
            && !tests.contains(&arguments)
        {
            begin(&format!("cargo {}, without any sabotage", arguments.join(" ")));
            match workshop.test(arguments) {
                Ok(true) => tests.push(arguments),
                Ok(false) => return Err(format!("error: `cargo {}` fails without any sabotage", arguments.join(" "))),
                Err(trouble) => return Err(format!("error: `cargo {}` can't be run\n{trouble}", arguments.join(" "))),
            }
        }
    }
    let mut rows = Vec::new();
    for sabotage in sabotages {
        begin(&sabotage.name);
        let (outcome, wall) = timed(|| put_to_the_proof(workshop, sabotage));
        let outcome = outcome.map_err(|error| format!("error: cannot write to the copy of the sources: {error}"))?;
        let row = Row { sabotage: sabotage.name.clone(), catcher: sabotage.catcher.clone(), outcome, wall };
        done(&row);
        rows.push(row);
    }
    let last_seed = rows.iter().map(Row::last_seed).max().unwrap_or(1);
    if last_seed > 1 {
        begin("the same seeds without any sabotage");
        workshop.build().map_err(|trouble| format!("error: the restored copy does not build\n{trouble}"))?;
        holds(workshop, (2, last_seed))?;
    }
    Ok(rows)
}

/// Fails unless the suite holds under these seeds.
fn holds(workshop: &Workshop, seeds: (u64, u64)) -> Result<(), String> {
    match workshop.hunt(&Quarry { breaks: None, name: None, seeds }) {
        Ok(Hunted { caught: None, .. }) => Ok(()),
        Ok(Hunted { caught: Some(Catch { broke, what, file, seed }), .. }) => Err(format!(
            "error: the suite does not hold without any sabotage\n  {broke}: {what}\n  again: cargo run --release -p sim \
             -- run {file} --seed {seed}"
        )),
        Err(trouble) => Err(format!("error: the suite can't be run without any sabotage\n{trouble}")),
    }
}

fn put_to_the_proof(workshop: &mut Workshop, sabotage: &Sabotage) -> io::Result<Outcome> {
    let outcome = match workshop.apply(&sabotage.patch)? {
        Err(misfit) => return Ok(Outcome::DoesNotApply(misfit.to_string())),
        Ok(()) => catch(workshop, sabotage).unwrap_or_else(|trouble| Outcome::Trouble(trouble.to_string())),
    };
    workshop.restore()?;
    Ok(outcome)
}

fn catch(workshop: &Workshop, sabotage: &Sabotage) -> Result<Outcome, Trouble> {
    match &sabotage.catcher {
        Catcher::Test(arguments) => {
            let passed = workshop.test(arguments)?;
            Ok(if passed { Outcome::Survived(None) } else { Outcome::Failed })
        }
        Catcher::Suite(breaks) => {
            workshop.build()?;
            let (breaks, name) = (Some(breaks.clone()), Some(sabotage.name.clone()));
            let hunted = workshop.hunt(&Quarry { breaks, name, seeds: (1, SEEDS) })?;
            Ok(match (hunted.caught, hunted.missed) {
                (Some(catch), missed) if missed.is_empty() => Outcome::Caught(catch),
                (Some(_), missed) => Outcome::Missed(missed),
                (None, _) => Outcome::Survived(hunted.instead),
            })
        }
    }
}

impl Row {
    /// The last seed under which the suite was run for it.
    fn last_seed(&self) -> u64 {
        match &self.outcome {
            Outcome::Caught(catch) => catch.seed,
            Outcome::Survived(_) => SEEDS,
            Outcome::Failed | Outcome::Missed(_) | Outcome::DoesNotApply(_) | Outcome::Trouble(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "--- a/cp/src/x.rs\n+++ b/cp/src/x.rs\n@@ -1 +1 @@\n-a\n+b\n";

    fn sabotage(name: &str) -> Sabotage {
        parse(name.to_owned(), &format!("Why not.\nCaught-by: never-cut\n{DIFF}")).unwrap()
    }

    fn complaint(text: &str) -> String {
        parse("x".to_owned(), text).unwrap_err()
    }

    #[test]
    fn a_sabotage_says_what_was_thought_and_what_must_catch_it() {
        let sabotage = sabotage("h03-x");
        assert_eq!((sabotage.thought.as_str(), sabotage.hazard()), ("Why not.", "h03"));
        assert_eq!(sabotage.catcher, Catcher::Suite("never-cut".to_owned()));
        let test = parse("x".to_owned(), &format!("A\nB.\nCaught-by: cargo test -p cp\n{DIFF}")).unwrap();
        assert_eq!(test.thought, "A B.");
        assert_eq!(test.catcher, Catcher::Test(["test", "-p", "cp"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_bad_file_is_answered_with_what_it_lacks() {
        assert!(complaint(DIFF).contains("`Caught-by: …`"));
        assert!(complaint(&format!("Caught-by: never-cut\n{DIFF}")).contains("thinking"));
        assert!(complaint(&format!("X\nCaught-by: nevercut\n{DIFF}")).contains("did you mean never-cut?"));
        assert!(complaint(&format!("X\nCaught-by: cargo clean\n{DIFF}")).contains("is no test"));
        assert!(complaint("X\nCaught-by: never-cut\n").contains("line 3: there is no diff"));
        let elsewhere = DIFF.replace("cp/", "sim/");
        assert!(complaint(&format!("X\nCaught-by: never-cut\n{elsewhere}")).contains("a defect of the control plane"));
    }

    #[test]
    fn a_sabotage_is_named_whole_or_by_its_hazard_and_another_name_lists_them_all() {
        let all = || vec![sabotage("h03-fatal"), sabotage("h09-pinger"), sabotage("sync-not-forwarded")];
        let names = |names: &[&str]| -> Result<Vec<String>, String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Ok(select(all(), &names)?.into_iter().map(|sabotage| sabotage.name).collect())
        };
        assert_eq!(names(&["H9", "sync-not-forwarded"]).map_err(|_| ()), Err(()));
        assert_eq!(names(&["H09", "h03-fatal"]).unwrap(), ["h03-fatal", "h09-pinger"]);
        assert_eq!(names(&[]).unwrap().len(), 3);
        let unknown = names(&["h09-pingr"]).unwrap_err();
        assert!(unknown.contains("did you mean h09-pinger?") && unknown.contains("sync-not-forwarded"), "{unknown}");
    }

    #[test]
    fn every_sabotage_of_this_workspace_can_be_read_and_applies() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for sabotage in load(&root.join(FOLDER)).unwrap() {
            let applied = sabotage.patch.apply(|path| fs::read_to_string(root.join(path)).ok());
            assert_eq!(applied.err(), None, "{}", sabotage.name);
        }
    }
}
