//! The copy of the workspace's sources in which defects are built in, and what is built and run there.
//!
//! What is built is below the build directory, in a folder of its own, so that no program with a defect is ever where the
//! ordinary ones are. Everything that is not of the workspace is shared with the ordinary build (cargo's `build-dir`), and only
//! files that differ are written: from one build to the next cargo sees nothing but the defect, and compiles nothing else
//! anew.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::explored::{Asked, Explored};
use crate::report::Report;

/// What is built with a defect differs in its settings from what the ordinary build makes of the same package: where cargo keeps
/// both, that is all it tells them apart by, and the ordinary build must never take this for its own.
///
/// Without debug information, which nobody reads, and two without `debug_assert!`: the promises must catch a defect in the
/// program that is shipped.
const PROFILE: [&str; 6] = [
    "profile.dev.package.lastcall-core.debug=0",
    "profile.dev.package.lastcall-world.debug=0",
    "profile.dev.package.cp.debug=0",
    "profile.dev.package.cp.debug-assertions=false",
    "profile.dev.package.sim.debug=0",
    "profile.dev.package.sim.debug-assertions=false",
];

/// A search is run by a simulator that is built for release, but for the workspace's own packages, which are built anew for
/// each sabotage: these only as far as takes seconds.
const SEARCH_PROFILE: [&str; 10] = [
    "profile.release.package.lastcall-world.debug=0",
    "profile.release.package.cp.opt-level=1",
    "profile.release.package.cp.codegen-units=256",
    "profile.release.package.cp.debug=0",
    "profile.release.package.lastcall-core.opt-level=1",
    "profile.release.package.lastcall-core.codegen-units=256",
    "profile.release.package.lastcall-core.debug=0",
    "profile.release.package.sim.opt-level=1",
    "profile.release.package.sim.codegen-units=256",
    "profile.release.package.sim.debug=0",
];

/// Lines of a failed command's output that are shown.
const TAIL: usize = 20;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Workshop {
    /// Held as long as this lives: two at once would build each other's defects.
    lock: File,
    /// The copy.
    sources: PathBuf,
    /// Where cargo puts what is built from it.
    build: PathBuf,
    /// Where cargo keeps what it has compiled on the way: the ordinary build's.
    shared: PathBuf,
    /// What the last command printed.
    output: PathBuf,
    errors: PathBuf,
}

/// Runs `git apply` in a folder. Returns what it complains of, if the patch does not apply: then nothing is changed.
///
/// # Errors
/// It can't be run.
pub(crate) fn git_apply(folder: &Path, options: &[&str], patch: &Path) -> Result<Result<(), String>, String> {
    let mut git = Command::new("git");
    git.current_dir(folder).arg("apply").args(options).arg(patch);
    // Paths are those below this folder, whatever repository it is in.
    git.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
    let output = git.output().map_err(|error| format!("cannot run git: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(complaint) })
}

impl Workshop {
    /// Makes the copy of the workspace at `root`, below its build directory; or brings it up to date.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(root: &Path) -> io::Result<Workshop> {
        let root = root.canonicalize()?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Workshop::below(&root, &target)
    }

    fn below(root: &Path, target: &Path) -> io::Result<Workshop> {
        fs::create_dir_all(target.join("sabotage"))?;
        // The commands run in the copy, where a relative path would lead elsewhere.
        let shared = target.canonicalize()?;
        let place = shared.join("sabotage");
        let lock = File::create(place.join("lock"))?;
        lock.try_lock()
            .map_err(|_| io::Error::other(format!("another `sabotage` is at work in {}", place.display())))?;
        let sources = place.join("sources");
        // Cargo reads `.cargo` of all folders above: with one more below, nothing would be shared.
        let own = [".git", ".cargo", "target"].map(|name| root.join(name));
        copy(root, &sources, &[own.as_slice(), std::slice::from_ref(&shared)].concat())?;
        let [build, output, errors] = ["build", "output", "errors"].map(|name| place.join(name));
        Ok(Workshop { lock, sources, build, shared, output, errors })
    }

    /// Changes the copy as the patch says. Returns why not, if it does not apply.
    ///
    /// # Errors
    /// Git can't be run.
    pub(crate) fn apply(&self, patch: &Path) -> Result<Result<(), String>, String> {
        git_apply(&self.sources, &[], patch)
    }

    /// Takes back what was changed.
    ///
    /// # Errors
    /// The copy is not as it was.
    pub(crate) fn restore(&self, patch: &Path) -> Result<(), String> {
        git_apply(&self.sources, &["--reverse"], patch)?
    }

    /// Builds the simulator in the copy, and with it the control plane.
    ///
    /// # Errors
    /// It does not build.
    pub(crate) fn build(&self, until: Instant) -> Result<(), String> {
        self.build_by(self.cargo(&PROFILE, &["build", "-p", "sim", "--bin", "sim"]), until)
    }

    /// Runs what was built last.
    ///
    /// # Errors
    /// It gave no report.
    pub(crate) fn sim(&self, arguments: &[&str], until: Instant) -> Result<Report, String> {
        let what = format!("sim {}", arguments.join(" "));
        let mut sim = Command::new(self.build.join("debug/sim"));
        let status = self.run(&what, sim.args(arguments).args(["--format", "json"]), until)?;
        let report = fs::read(&self.output).unwrap_or_default();
        serde_json::from_slice(&report).map_err(|_| self.failed(&what, status))
    }

    /// Builds the explorer in the copy and lets it look for something that breaks in so many drawn scenarios.
    ///
    /// # Errors
    /// It does not build, or gave no report.
    pub(crate) fn explore(&self, asked: Asked, until: Instant) -> Result<Explored, String> {
        let (what, mut cargo) = self.cargo(&SEARCH_PROFILE, &["build", "--release", "-p", "sim", "--bin", "sim"]);
        cargo.env("CARGO_INCREMENTAL", "1");
        self.build_by((what, cargo), until)?;
        let Asked { seeds, steered } = asked;
        let (seeds, what) = (seeds.to_string(), format!("sim explore --seeds {seeds} --first"));
        let mut sim = Command::new(self.build.join("release/sim"));
        sim.args(["explore", "--first", "--shrink", "0s", "--format", "json", "--seeds", &seeds]);
        sim.arg("--out").arg(self.build.join("found"));
        if steered {
            let corpus = self.build.join("corpus");
            // There is none yet, or the last search's.
            let _ = fs::remove_dir_all(&corpus);
            sim.arg("--corpus").arg(corpus);
        }
        let status = self.run(&what, &mut sim, until)?;
        let report = fs::read(&self.output).unwrap_or_default();
        serde_json::from_slice(&report).map_err(|_| self.failed(&what, status))
    }

    /// Runs a test in the copy. Returns whether it passed.
    ///
    /// # Errors
    /// It does not build, or there is no such test.
    pub(crate) fn test(&self, arguments: &[&str], until: Instant) -> Result<bool, String> {
        let (what, mut cargo) = self.cargo(&PROFILE, arguments);
        cargo.arg("--no-run");
        self.build_by((what, cargo), until)?;
        let (what, mut cargo) = self.cargo(&PROFILE, arguments);
        Ok(self.run(&what, &mut cargo, until)?.success())
    }

    /// Runs a command that builds.
    fn build_by(&self, (what, mut cargo): (String, Command), until: Instant) -> Result<(), String> {
        let status = self.run(&what, &mut cargo, until)?;
        if status.success() { Ok(()) } else { Err(self.failed(&what, status)) }
    }

    /// A command of cargo's, with its name.
    fn cargo(&self, profile: &[&str], arguments: &[&str]) -> (String, Command) {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(profile.iter().flat_map(|setting| ["--config", setting])).args(arguments);
        cargo.args(["--locked", "--quiet", "--target-dir"]).arg(&self.build);
        cargo.env("CARGO_BUILD_BUILD_DIR", &self.shared);
        (format!("cargo {}", arguments.join(" ")), cargo)
    }

    /// Runs a command in the copy to its end, or until time is up.
    fn run(&self, what: &str, command: &mut Command, until: Instant) -> Result<ExitStatus, String> {
        let cannot = |error: io::Error| format!("cannot run {what}: {error}");
        let mut spawn = || {
            // Into files: a pipe that nobody reads would stop a command that prints much.
            let (output, errors) = (File::create(&self.output)?, File::create(&self.errors)?);
            command.current_dir(&self.sources).stdin(Stdio::null()).stdout(output).stderr(errors).spawn()
        };
        let mut child = spawn().map_err(cannot)?;
        // There is no waiting for a process with a limit but by looking; beside a build this is nothing.
        while Instant::now() < until {
            if let Some(status) = child.try_wait().map_err(cannot)? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Gone between the two: then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("{what} did not end in time"))
    }

    fn failed(&self, what: &str, status: ExitStatus) -> String {
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = errors.lines().collect();
        format!("{what}: {status}\n{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"))
    }
}

impl Drop for Workshop {
    /// A child that another thread has just forked shares the open file until it executes its program: closing ours alone would
    /// leave the lock to it.
    fn drop(&mut self) {
        // Nothing is lost if it can't be given back: closing the file does it as well, if later.
        let _ = self.lock.unlock();
    }
}

/// Makes `to` what `from` is, without `skipped`. Links are not followed.
fn copy(from: &Path, to: &Path, skipped: &[PathBuf]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut kept = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if skipped.contains(&path) {
            continue;
        }
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
        kept.insert(entry.file_name());
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

    /// A workspace of one file, `a/x.rs`.
    fn workspace() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("a/x.rs", "one\n"), ("target/debug/x", ""), (".git/HEAD", "")] {
            fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
            fs::write(root.path().join(path), text).unwrap();
        }
        root
    }

    fn open(root: &Path) -> Workshop {
        Workshop::below(root, &root.join("target")).unwrap()
    }

    #[test]
    fn no_package_that_may_have_a_defect_is_built_as_the_ordinary_build_does_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in ["cp", "cp/core", "cp/world", "sim"] {
            let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap();
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap();
            for (profile, settings) in [("dev", &PROFILE[..]), ("release", &SEARCH_PROFILE)] {
                let apart = format!("profile.{profile}.package.{name}.debug=0");
                assert!(settings.contains(&apart.as_str()), "{apart}");
            }
        }
    }

    #[test]
    fn the_copy_follows_the_sources_and_an_unchanged_file_is_not_written_again() {
        let root = workspace();
        let root = root.path();
        fs::write(root.join("a/y.rs"), "two\n").unwrap();
        let copied = open(root).sources.clone();
        assert_eq!(fs::read_to_string(copied.join("a/x.rs")).unwrap(), "one\n");
        assert!(!copied.join("target").exists() && !copied.join(".git").exists());
        let written = |path: &str| fs::metadata(copied.join(path)).unwrap().modified().unwrap();
        let before = written("a/x.rs");
        fs::write(root.join("a/x.rs"), "one\n").unwrap();
        fs::remove_file(root.join("a/y.rs")).unwrap();
        drop(open(root));
        assert_eq!(written("a/x.rs"), before);
        assert!(!copied.join("a/y.rs").exists());
    }

    #[test]
    fn one_at_a_time_is_at_work_and_a_child_being_forked_does_not_keep_the_lock() {
        let root = workspace();
        let first = open(root.path());
        let second = Workshop::below(root.path(), &root.path().join("target")).unwrap_err();
        assert!(second.to_string().starts_with("another `sabotage` is at work in "));
        // What a child has between its fork and its program: the same open file.
        let _childs = first.lock.try_clone().unwrap();
        drop(first);
        open(root.path());
    }

    #[test]
    fn a_defect_is_built_into_the_copy_and_taken_out_again() {
        let root = workspace();
        let workshop = open(root.path());
        let patch = |old| {
            let path = root.path().join(format!("{old}.patch"));
            fs::write(&path, format!("Why not.\n--- a/a/x.rs\n+++ b/a/x.rs\n@@ -1 +1 @@\n-{old}\n+2\n")).unwrap();
            path
        };
        let text = |below: &Path| fs::read_to_string(below.join("a/x.rs")).unwrap();
        assert!(workshop.apply(&patch("gone")).unwrap().unwrap_err().contains("patch does not apply"));
        assert_eq!(text(&workshop.sources), "one\n");
        workshop.apply(&patch("one")).unwrap().unwrap();
        assert_eq!(text(&workshop.sources), "2\n");
        workshop.restore(&patch("one")).unwrap();
        assert_eq!((text(&workshop.sources), text(root.path())), ("one\n".to_owned(), "one\n".to_owned()));
    }

    #[test]
    fn a_command_that_spins_is_ended() {
        let root = workspace();
        let until = Instant::now() + Duration::from_millis(50);
        let ended = open(root.path()).run("sleep", Command::new("sleep").arg("60"), until);
        assert_eq!(ended.unwrap_err(), "sleep did not end in time");
    }
}
