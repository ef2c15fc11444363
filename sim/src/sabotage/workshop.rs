//! The copy of the workspace's sources in which defects are built in, and its build.
//!
//! What is built is below the build directory, in a folder of its own, so that no program with a defect is ever where the
//! ordinary ones are. Everything that is not `cp` or `sim` is shared with the ordinary build (cargo's `build-dir`), and only
//! files that differ are written: from one build to the next cargo sees nothing but the defect, and compiles nothing else
//! anew.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::hunt::{Hunted, Quarry};
use super::patch::{Misfit, Patch};

/// The two are built without debug information, which nobody reads, and without `debug_assert!`: the promises must catch a
/// defect in the program that is shipped.
const PROFILE: [&str; 4] = [
    "profile.dev.package.cp.debug=0",
    "profile.dev.package.cp.debug-assertions=false",
    "profile.dev.package.sim.debug=0",
    "profile.dev.package.sim.debug-assertions=false",
];

/// No build, no test and no hunt takes longer; what does has a defect that spins.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Lines of a failed command's output that are shown.
const TAIL: usize = 20;

/// See the module's text.
#[derive(Debug)]
pub struct Workshop {
    /// Held as long as this lives: two at once would build each other's defects.
    _lock: File,
    /// The copy.
    sources: PathBuf,
    /// Where cargo puts what is built from it.
    build: PathBuf,
    /// Where cargo keeps what it has compiled on the way: the ordinary build's.
    shared: PathBuf,
    /// What the last command printed.
    output: PathBuf,
    errors: PathBuf,
    /// Files that have a defect now, and what they were.
    pristine: Vec<(PathBuf, String)>,
}

/// A command that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It could not be run.
    #[error("cannot run {what}: {error}")]
    Start {
        /// The command.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// It failed.
    #[error("{what}: {status}\n{tail}")]
    Failed {
        /// The command.
        what: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        tail: String,
    },
    /// It was stopped.
    #[error("{what} did not end within {} s", LIMIT.as_secs())]
    Stuck {
        /// The command.
        what: String,
    },
}

impl Workshop {
    /// Makes the copy of the workspace at `root`, below its build directory `target`; or brings it up to date.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(root: &Path, target: &Path) -> io::Result<Workshop> {
        let place = target.join("sabotage");
        fs::create_dir_all(&place)?;
        // The commands run in the copy, where a relative path would lead elsewhere.
        let place = place.canonicalize()?;
        let lock = File::create(place.join("lock"))?;
        lock.try_lock().map_err(|_| io::Error::other("another `sim sabotage` is at work there"))?;
        let workshop = Workshop {
            _lock: lock,
            sources: place.join("sources"),
            build: place.join("build"),
            shared: target.canonicalize()?,
            output: place.join("output"),
            errors: place.join("errors"),
            pristine: Vec::new(),
        };
        let skipped = [target.canonicalize()?, root.join("target").canonicalize().unwrap_or_default()];
        copy(&root.canonicalize()?, &workshop.sources, &skipped)?;
        Ok(workshop)
    }

    /// Changes the copy as the patch says; not at all if the patch does not apply.
    ///
    /// # Errors
    /// What the system says.
    pub fn apply(&mut self, patch: &Patch) -> io::Result<Result<(), Misfit>> {
        debug_assert!(self.pristine.is_empty(), "one defect at a time");
        let changed = match patch.apply(|path| fs::read_to_string(self.sources.join(path)).ok()) {
            Ok(changed) => changed,
            Err(misfit) => return Ok(Err(misfit)),
        };
        for (path, text) in changed {
            let path = self.sources.join(path);
            self.pristine.push((path.clone(), fs::read_to_string(&path)?));
            fs::write(&path, text)?;
        }
        Ok(Ok(()))
    }

    /// Takes back what was changed.
    ///
    /// # Errors
    /// What the system says.
    pub fn restore(&mut self) -> io::Result<()> {
        self.pristine.drain(..).try_for_each(|(path, text)| fs::write(path, text))
    }

    /// Builds the simulator in the copy, and with it the control plane.
    ///
    /// # Errors
    /// It does not build.
    pub fn build(&self) -> Result<(), Trouble> {
        let status = self.run(self.cargo("build").args(["-p", "sim", "--bin", "sim"]))?;
        if status.success() { Ok(()) } else { Err(self.failed("cargo build -p sim", status)) }
    }

    /// Hunts with what was built last.
    ///
    /// # Errors
    /// The hunt gave no answer.
    pub fn hunt(&self, quarry: &Quarry) -> Result<Hunted, Trouble> {
        let mut sim = Command::new(self.build.join("debug/sim"));
        let (from, to) = quarry.seeds;
        sim.args(["hunt", "--from", &from.to_string(), "--to", &to.to_string()]);
        sim.args(quarry.breaks.iter().flat_map(|breaks| ["--breaks", breaks]));
        sim.args(quarry.name.iter().flat_map(|name| ["--name", name]));
        let status = self.run(&mut sim)?;
        let answer = fs::read_to_string(&self.output).unwrap_or_default();
        match serde_json::from_str(&answer) {
            Ok(hunted) if status.success() => Ok(hunted),
            _ => Err(self.failed("the suite", status)),
        }
    }

    /// Runs a test in the copy. Returns whether it passed.
    ///
    /// # Errors
    /// It does not build, or there is no such test.
    pub fn test(&self, arguments: &[String]) -> Result<bool, Trouble> {
        let what = format!("cargo {}", arguments.join(" "));
        let [subcommand, arguments @ ..] = arguments else { return Ok(true) };
        let built = self.run(self.cargo(subcommand).args(arguments).arg("--no-run"))?;
        if !built.success() {
            return Err(self.failed(&what, built));
        }
        Ok(self.run(self.cargo(subcommand).args(arguments))?.success())
    }

    fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([subcommand, "--locked", "--quiet", "--target-dir"]).arg(&self.build);
        cargo.env("CARGO_BUILD_BUILD_DIR", &self.shared);
        cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
        cargo
    }

    /// Runs a command in the copy to its end, or to the limit.
    fn run(&self, command: &mut Command) -> Result<ExitStatus, Trouble> {
        let what = command.get_program().to_string_lossy().into_owned();
        let mut spawn = || {
            // Into files: a pipe that nobody reads would stop a command that prints much.
            let (output, errors) = (File::create(&self.output)?, File::create(&self.errors)?);
            command.current_dir(&self.sources).stdin(Stdio::null()).stdout(output).stderr(errors).spawn()
        };
        let mut child = spawn().map_err(|error| Trouble::Start { what: what.clone(), error })?;
        // There is no waiting for a process with a limit but by looking; beside a build this is nothing.
        let pause = Duration::from_millis(10);
        for _ in 0..LIMIT.as_millis() / pause.as_millis() {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => std::thread::sleep(pause),
                Err(error) => return Err(Trouble::Start { what, error }),
            }
        }
        // Gone between the two: then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
        Err(Trouble::Stuck { what })
    }

    fn failed(&self, what: &str, status: ExitStatus) -> Trouble {
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = errors.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        Trouble::Failed { what: what.to_owned(), status, tail }
    }
}

/// Makes `to` what `from` is, without `skipped` and without git's own. Links are not followed.
fn copy(from: &Path, to: &Path, skipped: &[PathBuf]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        if skipped.contains(&path) || name == ".git" {
            continue;
        }
        let target = to.join(&name);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&path, &target, skipped)?;
        } else if kind.is_file() {
            let bytes = fs::read(&path)?;
            if fs::read(&target).ok().as_ref() != Some(&bytes) {
                fs::write(&target, bytes)?;
            }
        } else {
            continue;
        }
        kept.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if kept.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own, below cargo's for tests.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sim-workshop-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_copy_follows_the_sources_and_an_unchanged_file_is_not_written_again() {
        let root = folder("copy");
        for (path, text) in [("a/x.rs", "one\n"), ("a/y.rs", "two\n"), ("target/debug/x", ""), (".git/HEAD", "")] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        let target = root.join("target");
        let copied = target.join("sabotage/sources");
        drop(Workshop::open(&root, &target).unwrap());
        assert_eq!(fs::read_to_string(copied.join("a/x.rs")).unwrap(), "one\n");
        assert!(!copied.join("target").exists() && !copied.join(".git").exists());
        let written = |path: &str| fs::metadata(copied.join(path)).unwrap().modified().unwrap();
        let before = written("a/x.rs");
        fs::write(root.join("a/x.rs"), "one\n").unwrap();
        fs::remove_file(root.join("a/y.rs")).unwrap();
        drop(Workshop::open(&root, &target).unwrap());
        assert_eq!(written("a/x.rs"), before);
        assert!(!copied.join("a/y.rs").exists());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_defect_is_built_into_the_copy_and_taken_out_again() {
        let root = folder("apply");
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("f"), "one\n").unwrap();
        let mut workshop = Workshop::open(&root, &root.join("target")).unwrap();
        let patch = |old| Patch::parse(&format!("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-{old}\n+2\n"), 1).unwrap();
        let text = |workshop: &Workshop| fs::read_to_string(workshop.sources.join("f")).unwrap();
        assert!(workshop.apply(&patch("gone")).unwrap().is_err());
        assert_eq!(text(&workshop), "one\n");
        workshop.apply(&patch("one")).unwrap().unwrap();
        assert_eq!(text(&workshop), "2\n");
        workshop.restore().unwrap();
        assert_eq!(text(&workshop), "one\n");
        assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "one\n");
        fs::remove_dir_all(root).unwrap();
    }
}
