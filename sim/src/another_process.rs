//! The same run in another process: what is the same every time within one process need not be the same in the next.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cast::run::EngineName;
use crate::judge::gate::Shows;
use crate::scenario::ScenarioFile;

/// Runs `sim log` for the file in a process of its own and returns what it prints of its event log.
///
/// # Errors
/// A sentence, if the process can't be started, fails, or prints what is no text.
pub fn log(sim: &Path, file: &ScenarioFile, seed: u64, engine: EngineName, shows: Shows) -> Result<String, String> {
    let output = Command::new(sim)
        .arg("log")
        .arg(&file.path)
        .args(["--seed", &seed.to_string(), "--engine", engine.name()])
        .args((shows == Shows::Fingerprint).then_some("--fingerprint"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", sim.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| "its log is not UTF-8".to_owned())
}
