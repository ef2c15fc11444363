//! Scenario files: who connects, what each client does, what happens to the pod, and what must come out.
//!
//! A file is TOML, written by hand by people who have never read this crate. [`parse`] takes a text apart and either returns a
//! [`Scenario`] that can be run as it stands, or everything that is wrong with the text ([`BadScenario`]): each mistake with
//! its place and its remedy. It never panics, whatever the text. [`schema()`] is the same vocabulary for editors.
//!
//! Nothing here runs anything, and nothing here judges a run.
//!
//! One mistake hides others in one case only: in a text that is not TOML, only that is reported.

mod check;
mod define;
mod deployment;
pub mod draw;
mod error;
#[cfg(test)]
mod fuzz;
mod help;
pub mod model;
mod most;
mod order;
mod overrides;
mod parse;
mod read;
mod schema;
mod steps;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::io;
use std::path::{Path, PathBuf};

use lastcall_core::Settings;
use toml::de::DeTable;

pub use self::suggest::nearest;
pub use define::{Draw, Key};
pub(crate) use deployment::pod_number;
pub use error::{BadScenario, LoadError, Problem};
pub use help::{all_steps, one_step, table_of_steps};
pub use model::*;
pub use schema::schema;

/// A scenario and the file it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioFile {
    /// The path, as it was given or found.
    pub path: PathBuf,
    /// What the file says.
    pub scenario: Scenario,
}

/// What a file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be kept: one that tests nothing is a mistake.
    Kept,
    /// To be tried: it may test nothing yet.
    Tried,
}

/// A file of more bytes was not written by hand.
const MAX_BYTES: usize = 1024 * 1024;

/// Reads the text of a scenario file that is kept. `file_name` is only for messages.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse(file_name: &str, text: &str) -> Result<Scenario, BadScenario> {
    parse_for(Purpose::Kept, file_name, text)
}

/// The same for any purpose.
///
/// # Errors
/// Everything that is wrong with the text.
pub fn parse_for(purpose: Purpose, file_name: &str, text: &str) -> Result<Scenario, BadScenario> {
    let mut problems = Vec::new();
    match read(text, purpose, &mut problems) {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => Err(BadScenario::new(file_name, text, problems)),
    }
}

/// What is allowed in a file and probably not meant, a sentence each.
pub fn warnings(scenario: &Scenario) -> Vec<String> {
    let mut settings = Settings::default();
    scenario.drain.apply(&mut settings);
    let mut warnings = Vec::new();
    if scenario.events.is_empty() {
        warnings.push("nothing happens in this file: it has no `[[event]]`".to_owned());
    }
    if scenario.expect == Expect::default() && scenario.fails_under.is_empty() {
        warnings.push("nothing is expected in this file: only the promises are checked".to_owned());
    }
    if let (Some(pod), Some(told)) = (scenario.pod.termination_grace, settings.termination_grace)
        && pod.0 != told
    {
        warnings.push(format!(
            "the SIGKILL comes at `[pod] termination_grace`, {pod}, and the control plane is told {} by `[drain] \
             termination_grace`: make them the same, unless the file is about the difference",
            Span(told)
        ));
    }
    warnings
}

fn read(text: &str, purpose: Purpose, problems: &mut Vec<Problem>) -> Option<Scenario> {
    if text.len() > MAX_BYTES {
        let label = format!("expected at most {MAX_BYTES} bytes");
        problems.push(Problem::new(0..0, format!("a file of {} bytes", text.len()), label));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What could be recovered is full of holes, and each would look like another mistake.
        *problems = syntax::problems(text, &errors);
        return None;
    }
    let draft = parse::read_document(document.get_ref(), problems);
    check::check(draft, purpose, problems)
}

/// Reads a scenario file that is kept.
///
/// # Errors
/// The file can't be read, or is no scenario.
pub fn load(path: &Path) -> Result<ScenarioFile, LoadError> {
    load_for(Purpose::Kept, path)
}

/// Reads a scenario file.
///
/// # Errors
/// The file can't be read, or is no scenario.
pub fn load_for(purpose: Purpose, path: &Path) -> Result<ScenarioFile, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::unreadable(path.to_owned(), error))?;
    let scenario = parse_for(purpose, &path.display().to_string(), &text)?;
    Ok(ScenarioFile { path: path.to_owned(), scenario })
}

/// Every `*.toml` in `root` and the directories below it, sorted by path. Links to directories are not followed.
///
/// # Errors
/// A directory can't be read.
pub fn find(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
