//! `psql`, `pgbench` and their like: libpq, and the words that people see.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::certificates::Authority;
use crate::postgres::{DATABASE, SUPERUSER, postgres};

/// No program runs longer in any test.
const LIMIT: Duration = Duration::from_secs(40);

/// What a program said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// One of PostgreSQL's client programs, running. Killed when dropped.
#[derive(Debug)]
pub struct Program(Child);

/// Runs `psql -c` for each of `statements`, as the superuser, in one session called `application`.
pub fn psql(port: u16, application: &str, statements: &[&str]) -> Program {
    let mut command = psql_as(port, application, SUPERUSER, "");
    for statement in statements {
        command.args(["-c", statement]);
    }
    Program::start(command)
}

/// `psql`, not yet started, as `user`. Arguments are the caller's.
pub fn psql_as(port: u16, application: &str, user: &str, password: &str) -> Command {
    let mut command = command(&postgres().program("psql"), port, user, application);
    command.env("PGPASSWORD", password);
    command
}

/// Runs `psql` and lets it read `script`.
pub async fn psql_script(port: u16, application: &str, script: &str) -> Program {
    let mut command = psql_as(port, application, SUPERUSER, "");
    command.stdin(Stdio::piped());
    let mut program = Program::start(command);
    let mut input = program.0.stdin.take().expect("asked for just now");
    input.write_all(script.as_bytes()).await.expect("psql reads its script");
    program
}

/// Runs `pgbench` with `arguments` in `database`.
pub fn pgbench(port: u16, database: &str, arguments: &[&str]) -> Program {
    let mut command = bare(&postgres().program("pgbench"), port, SUPERUSER, "pgbench");
    command.args(arguments).arg(database);
    Program::start(command)
}

/// Lets `command`, if it is one of libpq's or does as libpq does, connect as the superuser and call itself `application`. It
/// takes nobody for the server whose certificate `authority` has not signed for `localhost`.
pub fn verifying(mut command: Command, port: u16, application: &str, authority: &Authority) -> Command {
    without_settings(&mut command);
    command.env("PGHOST", "localhost").env("PGHOSTADDR", "127.0.0.1").env("PGPORT", port.to_string());
    command.env("PGUSER", SUPERUSER).env("PGDATABASE", DATABASE).env("PGAPPNAME", application);
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", authority.file());
    command
}

/// `psql` from `path`: no configuration but what is said here, unaligned rows, no headings.
pub(crate) fn command(path: &Path, port: u16, user: &str, application: &str) -> Command {
    let mut command = bare(path, port, user, application);
    command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--dbname", DATABASE]);
    command.args(["--set", "ON_ERROR_STOP=1"]);
    command
}

fn bare(path: &Path, port: u16, user: &str, application: &str) -> Command {
    let mut command = Command::new(path);
    without_settings(&mut command);
    command.env("PGAPPNAME", application);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", user]);
    command
}

/// Nothing of this process's environment tells libpq what to do, and nobody waits for input.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").stdin(Stdio::null());
}

impl Program {
    /// Starts `command`, and keeps what it says.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(command: Command) -> Program {
        let mut command = tokio::process::Command::from(command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Program(command.spawn().expect("the program was found when the server was started"))
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it has not been waited for");
        kill_process(id, Signal::INT).expect("it is our child");
    }

    /// Ends it as `kill -9` does, and waits until it is gone. What it had connected is closed by its kernel.
    pub async fn kill(mut self) {
        self.0.kill().await.expect("it is our child");
    }

    /// Waits for its end.
    pub async fn finished(self) -> Finished {
        let output = crate::within(LIMIT, "the end of a client program", self.0.wait_with_output()).await;
        let output = output.expect("its output can be read");
        Finished {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
