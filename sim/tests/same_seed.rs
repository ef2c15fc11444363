//! The same seed gives the same event log in another process, byte for byte; another seed gives another.

use std::path::Path;
use std::process::Command;

/// The event log of a run in a process of its own.
fn log(scenario: &str, engine: &str, seed: u64) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(scenario);
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .arg("log")
        .arg(path)
        .args(["--engine", engine, "--seed", &seed.to_string()])
        .output()
        .expect("the simulator was built with this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!output.stdout.is_empty(), "an empty log is equal to any other");
    output.stdout
}

#[test]
fn two_processes_write_the_same_log_for_the_same_seed_and_different_ones_for_different_seeds() {
    for engine in ["turmoil-net", "turmoil", "madsim"] {
        for scenario in ["acceptance/idle-clients-cannot-hold-the-pod.toml", "hazards/h13-connect-at-the-signal.toml"] {
            let first = log(scenario, engine, 7);
            assert!(first == log(scenario, engine, 7), "{scenario} on {engine}: the same seed, two logs");
            assert!(first != log(scenario, engine, 8), "{scenario} on {engine}: two seeds, one log");
        }
    }
}
