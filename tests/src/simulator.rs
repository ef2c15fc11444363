//! The program `sim`, for what only a browser can tell of its pages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::program;

/// Runs it at the workspace's root with these arguments, whatever its verdict.
///
/// # Panics
/// If it can't be built or started, or says that a file or an argument is bad.
pub fn sim(args: &[&str]) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let done = Command::new(binary()).args(args).current_dir(root).output().expect("it was built just now");
    let is_done = matches!(done.status.code(), Some(0 | 1));
    assert!(is_done, "sim {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| Ok(program::build(["--bin", "sim"])?.join("sim"))) {
        Ok(binary) => binary,
        Err(why) => panic!("no sim to test: {why}"),
    }
}
