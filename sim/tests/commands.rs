//! The commands as a shell calls them: what they print where, and with which code they exit.

use std::path::PathBuf;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("it was built for this test")
}

/// A file of this test's own: one idle client, and an exit of which this is expected.
fn file(name: &str, exit: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let text = format!(
        "title = \"t\"\n[[client]]\nname = \"a\"\nsteps = [\"connect\", {{ idle = \"forever\" }}]\n\
         [[event]]\nat = \"1s\"\ndo = \"sigterm\"\n[expect]\nexit = {{ {exit} }}\n"
    );
    std::fs::write(&path, text).expect("cargo gives tests a directory to write to");
    path.display().to_string()
}

#[test]
fn what_judges_a_run_exits_with_0_if_all_holds_with_1_if_not_and_with_2_without_a_file() {
    let (good, bad) = (file("commands-good.toml", "code = 0"), file("commands-bad.toml", "code = 3"));
    let commands: [&[&str]; 5] =
        [&["run"], &["explain"], &["explain", "--format", "json"], &["replay"], &["run", "--format", "junit"]];
    for command in commands {
        let codes = [good.as_str(), &bad, "there-is-none.toml"].map(|file| {
            let arguments: Vec<&str> = command.iter().copied().chain([file]).collect();
            sim(&arguments).status.code()
        });
        assert_eq!(codes, [Some(0), Some(1), Some(2)], "sim {}", command.join(" "));
    }
}

#[test]
fn documents_stand_alone_on_stdout() {
    let bad = file("commands-document.toml", "code = 3");
    let out = |arguments: &[&str]| String::from_utf8(sim(arguments).stdout).expect("text");
    let explained = out(&["explain", &bad, "--format", "json", "--engine", "madsim"]);
    let explained: serde_json::Value = serde_json::from_str(&explained).expect("one JSON document");
    assert_eq!((&explained["holds"], &explained["broken"][0]["what"]), (&false.into(), &"expect.exit.code".into()));
    let junit = out(&["run", &bad, "--engine", "all", "--format", "junit"]);
    assert!(junit.starts_with("<?xml ") && junit.ends_with("</testsuites>\n"), "{junit}");
    assert_eq!(junit.matches("<testsuite ").count(), 4, "one for each engine, and one that compares: {junit}");
    assert_eq!(sim(&["explain", &bad, "--format", "json", "--engine", "all"]).status.code(), Some(2), "which of them?");
}

#[test]
fn a_run_is_explained_on_each_engine() {
    let good = file("commands-engines.toml", "code = 0");
    let text = String::from_utf8(sim(&["explain", &good, "--engine", "all"]).stdout).expect("text");
    for engine in ["turmoil-net", "turmoil", "madsim"] {
        assert!(text.contains(&format!("engine {engine}\n")), "{text}");
    }
}
