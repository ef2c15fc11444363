//! Client programs that the test talks to, line by line: scripts in the languages of other drivers, and `psql`.
//!
//! A script checks by itself that its driver works, says what it sees, and ends with an error where it should not go on.
//! Nobody sleeps: each side waits for the other's line, and not for ever.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use crate::watchdog::Watchdog;

/// How long a line may take. A Java machine is there after seconds, if others want the processors too.
const LIMIT: Duration = Duration::from_secs(40);

const REMEDY: &str = "run tests/run, which gets it from the distribution";
/// Where Debian has the driver of Java.
const JDBC: &str = "/usr/share/java/postgresql.jar";
/// Where Debian has the modules of Node.js, and where tests/run unpacks them, in cargo's target directory.
const NODE_MODULES: &str = "/usr/share/nodejs";
const UNPACKED: &str = "node-pg/usr/share/nodejs";
/// Where it unpacks Prometheus' checker.
const PROMTOOL: &str = "prometheus/usr/bin/promtool";

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Script {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    errors: JoinHandle<String>,
    watchdog: Option<Watchdog>,
}

impl Script {
    /// Starts it.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(command: Command) -> Script {
        let told = format!("{command:?}");
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{told}: {error}; {REMEDY}"));
        let mut stderr = process.stderr.take().expect("asked for just now");
        let errors = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("asked for just now")).lines();
        let id = process.id().expect("it was not waited for");
        let watchdog = Some(Watchdog::over(id, "KILL", None));
        Script { process, input, output, errors, watchdog }
    }

    /// Says a line to it.
    ///
    /// # Panics
    /// If it doesn't read any more.
    pub async fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("taken only at its end");
        input.write_all(format!("{line}\n").as_bytes()).await.expect("the program reads what is said to it");
    }

    /// Waits for its next line, which is this one.
    ///
    /// # Panics
    /// If it is another, or the program ends before, with what it has written to standard error.
    pub async fn says(&mut self, expected: &str) {
        let line = crate::within(LIMIT, expected, self.output.next_line()).await.expect("its output can be read");
        match line {
            Some(line) => assert_eq!(line, expected),
            None => panic!("it has ended and not said {expected:?}:\n{}", self.errors().await),
        }
    }

    /// Has nothing more to say to it, and waits for its end: its exit code and what it has written to standard error.
    ///
    /// # Panics
    /// If it says something that nobody has waited for.
    pub async fn ends(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let more = crate::within(LIMIT, "the end of a program", self.output.next_line()).await;
        assert_eq!(more.expect("its output can be read"), None);
        let status = crate::within(LIMIT, "the end of a program", self.process.wait()).await;
        (status.expect("it is our child").code(), self.errors().await)
    }

    async fn errors(&mut self) -> String {
        let errors = crate::within(LIMIT, "the rest of standard error", &mut self.errors).await;
        errors.expect("reading does not panic")
    }
}

/// Python with psycopg, and this script. A `python3` on the `PATH` need not be the distribution's, which has it.
///
/// # Panics
/// If there is none, with the remedy.
pub fn psycopg(script: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let pythons = on_path.map(|directory| directory.join("python3")).filter(|python| python.is_file());
    let python = pythons.into_iter().find(|python| succeeds(Command::new(python).args(["-c", "import psycopg"])));
    let mut command = Command::new(python.unwrap_or_else(|| panic!("no Python here has psycopg 3; {REMEDY}")));
    command.arg(script);
    command
}

/// Prometheus' own checker of what it reads.
///
/// # Panics
/// If there is none, with the remedy.
pub fn promtool() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("promtool"));
    let found = on_path.chain([unpacked(PROMTOOL)]).find(|program| program.is_file());
    Command::new(found.unwrap_or_else(|| panic!("there is no promtool; {REMEDY}")))
}

/// What tests/run has unpacked.
fn unpacked(path: &str) -> PathBuf {
    // target/<profile>/deps/<this test>
    let test = std::env::current_exe().expect("a test is somewhere");
    test.ancestors().nth(3).expect("cargo puts tests there").join(path)
}

/// Node.js with node-postgres, and this script.
///
/// # Panics
/// If there is none, with the remedy.
pub fn node_postgres(script: &Path) -> Command {
    let modules = format!("{NODE_MODULES}:{}", unpacked(UNPACKED).display());
    let has_it = succeeds(Command::new("node").env("NODE_PATH", &modules).args(["-e", "require('pg-cursor')"]));
    assert!(has_it, "no Node.js here has node-postgres; {REMEDY}");
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(script);
    command
}

/// Java with PostgreSQL's driver for JDBC, and this program's source.
///
/// # Panics
/// If the driver isn't there, with the remedy.
pub fn jdbc(source: &Path) -> Command {
    assert!(Path::new(JDBC).is_file(), "{JDBC} isn't there; {REMEDY}");
    let mut command = Command::new("java");
    // It runs for seconds: what takes long to compile and to start is not worth it.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", JDBC]).arg(source);
    command
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        // Its id is not used again before it is waited for, which the runtime does.
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
    }
}
