//! A rolling update under real pools: what `tests/rollout` sees of it holds for any machine, however busy.

use std::path::Path;
use std::time::Duration;

use process_tests::{SLACK, control_plane, run_within};
use serde_json::Value;
use tokio::process::Command;

/// Pools that test a connection before they hand it out, and pools that don't.
const POOLS: [(&str, bool); 5] =
    [("psycopg", false), ("psycopg-check", true), ("sqlalchemy", false), ("sqlalchemy-ping", true), ("node-pg", false)];
const CONNECTIONS: u64 = 8;
/// What `tests/rollout` has: `idle_grace`, and the longest statement.
const LONGEST: Duration = Duration::from_secs(6 + 2);
/// It takes half a minute, and has limits of its own for everything that it waits for.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn a_rollout_refuses_nobody_loses_nothing_and_fails_one_job_at_most_for_each_connection_that_it_closes() {
    run_within(LIMIT, async {
        let report = rolled_out(&POOLS.map(|(name, _)| name).join(",")).await;
        println!("{}", report["table"].as_str().unwrap());
        for (name, tests_first) in POOLS {
            let cell = report["cells"].as_array().unwrap().iter().find(|cell| cell["pool"] == name).unwrap();
            let count = |what: &str| cell[what].as_u64().unwrap();
            // What is asserted below is not said of nothing.
            assert!(count("jobs") > 10 * CONNECTIONS && count("opened") > CONNECTIONS, "{cell:#}");
            assert_eq!((count("lost"), count("twice"), count("doubt"), count("refused")), (0, 0, 0, 0), "{cell:#}");
            assert!(count("failed") <= count("closed"), "{cell:#}");
            // Who is closed between the test and the statement is told all the same, which takes bad luck.
            assert!(!tests_first || count("failed") <= CONNECTIONS / 2 + 1, "{cell:#}");
        }
        let old = report["old"]["lastcall"].as_array().unwrap();
        assert_eq!(old.len(), 3);
        for replica in old {
            assert_eq!((&replica["killed"], &replica["code"]), (&Value::Bool(false), &Value::from(0)), "{replica:#}");
            assert!(replica["after_s"].as_f64().unwrap() < (LONGEST + SLACK).as_secs_f64(), "{replica:#}");
        }
    });
}

/// What `tests/rollout` reports of one rollout that these pools share.
async fn rolled_out(pools: &str) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("rollout");
    // target/<profile>/deps/<this test>: where the pools are installed.
    let test = std::env::current_exe().unwrap();
    let output = Command::new(program)
        // The lag leaves more of the lame duck to a machine that does much else.
        .args(["--quick", "--fronts", "lastcall", "--lag", "0.2", "--format", "json", "--only", pools, "--lastcall"])
        .arg(control_plane::binary())
        .env("CARGO_TARGET_DIR", test.ancestors().nth(3).unwrap())
        // What it has started ends with it.
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    // 1 is for what is lost, which the report shows.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}:\n{log}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}
