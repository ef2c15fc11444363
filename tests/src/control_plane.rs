//! The process under test: the binary `lastcall`, with its flags, its addresses and what its log says.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::postgres::{free_port, postgres};
use crate::program::{self, Program};

pub use crate::program::Exit;
pub use rustix::process::Signal;

/// How long it may take from start to serving: two log lines and two binds.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a line of the log may take that a test waits for.
const LINE_LIMIT: Duration = Duration::from_secs(10);
/// Another process may take the admin port between its choice and its use: then another is tried.
const ATTEMPTS: usize = 3;

/// A running `lastcall serve`. Killed when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where clients connect, on 127.0.0.1 unless it was started elsewhere.
    pub port: u16,
    /// Where probes connect, on 127.0.0.1.
    pub admin: u16,
    program: Program,
}

impl ControlPlane {
    /// Starts it in front of the PostgreSQL of this test process, with these flags besides its addresses.
    pub async fn start(flags: &[&str]) -> ControlPlane {
        ControlPlane::start_at("127.0.0.1", flags).await
    }

    /// Likewise, with its clients' port at an address of this machine's.
    pub async fn start_at(host: &str, flags: &[&str]) -> ControlPlane {
        let worker = format!("127.0.0.1:{}", postgres().port);
        ControlPlane::start_between(host, &worker, flags).await
    }

    /// Starts it in front of `worker`.
    pub async fn start_in_front_of(worker: &str, flags: &[&str]) -> ControlPlane {
        ControlPlane::start_between("127.0.0.1", worker, flags).await
    }

    /// Likewise, with no more than so many open files.
    pub async fn start_with_files(files: u32, worker: &str, flags: &[&str]) -> ControlPlane {
        let limited = || {
            let mut command = without_settings(Command::new("prlimit"));
            command.arg(format!("--nofile={files}:{files}")).arg(binary());
            command
        };
        ControlPlane::start_as(limited, "127.0.0.1", worker, flags).await
    }

    /// Starts it with these variables, by a program that is followed by its command line, if there is one.
    pub async fn start_with(environment: &[(&str, &str)], launcher: &[&str], flags: &[&str]) -> ControlPlane {
        let worker = format!("127.0.0.1:{}", postgres().port);
        let launched = || {
            let mut command = match launcher {
                [] => command(),
                [program, arguments @ ..] => {
                    let mut command = without_settings(Command::new(program));
                    command.args(arguments).arg(binary());
                    command
                }
            };
            command.envs(environment.iter().copied());
            command
        };
        ControlPlane::start_as(launched, "127.0.0.1", &worker, flags).await
    }

    async fn start_between(host: &str, worker: &str, flags: &[&str]) -> ControlPlane {
        ControlPlane::start_as(command, host, worker, flags).await
    }

    /// # Panics
    /// If it does not begin to serve.
    async fn start_as(command: impl Fn() -> Command, host: &str, worker: &str, flags: &[&str]) -> ControlPlane {
        let mut told = String::new();
        for _ in 0..ATTEMPTS {
            let admin = free_port().expect("the machine has free ports");
            let mut plane = ControlPlane::spawn(command(), host, worker, admin, flags);
            let serving = crate::eventually(START_LIMIT, "the process to serve", async || plane.serving());
            match serving.await {
                Ok(port) => {
                    plane.port = port;
                    return plane;
                }
                Err(Ended) => told = plane.text(),
            }
        }
        panic!("lastcall does not start:\n{told}");
    }

    fn spawn(mut command: Command, host: &str, worker: &str, admin: u16, flags: &[&str]) -> ControlPlane {
        command
            .args(["serve", "--listen", &format!("{host}:0"), "--worker", worker])
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .args(["--log-format", "json"])
            .args(flags);
        ControlPlane { port: 0, admin, program: Program::start(command) }
    }

    /// The port on which it serves, once it does; an error if it has ended instead.
    fn serving(&mut self) -> Option<Result<u16, Ended>> {
        let line = self.log().into_iter().find(|line| line["message"] == "serving");
        let port = line.and_then(|line| line["listen"].as_str()?.rsplit_once(':')?.1.parse().ok());
        if let Some(port) = port {
            return Some(Ok(port));
        }
        self.has_ended().then_some(Err(Ended))
    }

    /// Opens a session through it.
    pub async fn connect(&self, application: &str) -> Client {
        Client::connect(self.port, application).await
    }

    /// Sends SIGTERM and waits until the log says that the drain has begun.
    pub async fn drain(&mut self) {
        self.signal(Signal::TERM);
        self.says("drain begins").await;
    }

    /// Waits for a line of its log whose message begins like this.
    pub async fn says(&self, message: &str) -> Value {
        let begins = |line: &Value| line["message"].as_str().is_some_and(|said| said.starts_with(message));
        crate::eventually(LINE_LIMIT, message, async || self.log().into_iter().find(begins)).await
    }

    /// The end records in its log.
    pub fn records(&self) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["message"] == "session ended").collect()
    }
}

impl Deref for ControlPlane {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for ControlPlane {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// The process ended where it should have served.
struct Ended;

/// The binary's path, once it is built.
///
/// # Panics
/// If it can't be built, with the reason.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| Ok(program::build(["--bin", "lastcall"])?.join("lastcall"))) {
        Ok(binary) => binary,
        Err(why) => panic!("no lastcall to test: {why}"),
    }
}

/// The binary, without arguments, and without any setting from this process's environment.
pub fn command() -> Command {
    without_settings(Command::new(binary()))
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LASTCALL_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}
