//! The process under test: the binary `lastcall` as a user starts it, with its flags, its log, its signals and its
//! exit.
//!
//! Cargo builds the binaries of a package for that package's own integration tests, not for those of another. So the
//! first test of a test process has it built, in the profile and into the target directory that the tests were built
//! with: what is tested is always what the sources say. Where it is built already that takes a fraction of a second;
//! cargo says what it does.
//!
//! The log is kept, and printed when a test fails while its control plane is there.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::client::Client;
use crate::postgres::{free_port, postgres};
use crate::watchdog::Watchdog;

pub use rustix::process::Signal;

/// How long it may take from start to serving: two log lines and two binds.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long any process may take to exit. Tests that promise more say so by what they assert.
const EXIT_LIMIT: Duration = Duration::from_secs(40);
/// Another process may take the admin port between its choice and its use: then another is tried.
const ATTEMPTS: usize = 3;

/// A running `lastcall serve`. Killed when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where clients connect, on 127.0.0.1 unless it was started elsewhere.
    pub port: u16,
    /// Where probes connect, on 127.0.0.1.
    pub admin: u16,
    process: Child,
    watchdog: Option<Watchdog>,
    log: Log,
    reader: Option<JoinHandle<()>>,
    signalled: Option<Instant>,
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// How long after the first signal.
    pub after: Duration,
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
                Err(Ended) => told = plane.log.text(),
            }
        }
        panic!("lastcall does not start:\n{told}");
    }

    fn spawn(mut command: Command, host: &str, worker: &str, admin: u16, flags: &[&str]) -> ControlPlane {
        let mut process = command
            .args(["serve", "--listen", &format!("{host}:0"), "--worker", worker])
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .args(["--log-format", "json"])
            .args(flags)
            // An interrupt from the terminal is for the tests, not for a process that would begin to drain.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built just now");
        let log = Log::default();
        let stderr = process.stderr.take().expect("asked for just now");
        let reader = std::thread::spawn({
            let log = log.clone();
            move || log.fill(stderr)
        });
        let watchdog = Watchdog::over(process.id(), "KILL", None);
        ControlPlane { port: 0, admin, process, watchdog: Some(watchdog), log, reader: Some(reader), signalled: None }
    }

    /// The port on which it serves, once it does; an error if it has ended instead.
    fn serving(&mut self) -> Option<Result<u16, Ended>> {
        let line = self.log.lines().into_iter().find(|line| line["message"] == "serving");
        let port = line.and_then(|line| line["listen"].as_str()?.rsplit_once(':')?.1.parse().ok());
        if let Some(port) = port {
            return Some(Ok(port));
        }
        (!self.is_running()).then(|| {
            self.ended();
            Err(Ended)
        })
    }

    /// Opens a session through it.
    pub async fn connect(&self, application: &str) -> Client {
        Client::connect(self.port, application).await
    }

    /// Sends `signal` to the process. Time is measured from the first one on.
    pub fn signal(&mut self, signal: Signal) {
        let id = Pid::from_child(&self.process);
        kill_process(id, signal).expect("it is our child, and was not waited for");
        self.signalled.get_or_insert_with(Instant::now);
    }

    /// Sends SIGTERM and waits until the log says that the drain has begun.
    pub async fn drain(&mut self) {
        self.signal(Signal::TERM);
        let begun = async || self.log.lines().iter().any(|line| line["message"] == "drain begins").then_some(());
        crate::eventually(Duration::from_secs(10), "the drain to begin", begun).await;
    }

    /// How long ago the first signal was sent.
    ///
    /// # Panics
    /// If there was none.
    pub fn since_signal(&self) -> Duration {
        self.signalled.expect("a signal was sent").elapsed()
    }

    /// Waits until `after` has passed since the first signal. At once, if it has.
    pub async fn until(&self, after: Duration) {
        tokio::time::sleep(after.saturating_sub(self.since_signal())).await;
    }

    /// What it has had of the processors so far, as far as the kernel counts in hundredths of a second.
    ///
    /// # Panics
    /// If it is gone.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it is there");
        // Source: proc_pid_stat(5): utime and stime are the fields 14 and 15, and the name in field 2 may have spaces.
        let fields = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_none()
    }

    /// Waits for its exit.
    pub async fn exit(&mut self) -> Exit {
        let code = self.ends().await;
        Exit { code, after: self.since_signal() }
    }

    /// Waits for its exit, whether a signal was sent or not: its exit code, none if a signal ended it.
    pub async fn ends(&mut self) -> Option<i32> {
        let process = &mut self.process;
        let status =
            crate::eventually(EXIT_LIMIT, "the process's exit", async || process.try_wait().expect("it is our child"));
        let status = status.await;
        self.ended();
        status.code()
    }

    /// The lines of its log so far. After the exit: all of them.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines()
    }

    /// From now on its stderr is a small pipe that nobody empties, until it has ended.
    pub fn stop_reading(&self) {
        self.log.unread.store(true, Ordering::Relaxed);
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The end records in its log.
    pub fn records(&self) -> Vec<Value> {
        self.log.lines().into_iter().filter(|line| line["message"] == "session ended").collect()
    }

    /// It has ended and was waited for: its log is complete, and nobody need watch over it.
    fn ended(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
        self.log.unread.store(false, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading a log does not panic");
        }
    }
}

/// The process ended where it should have served.
struct Ended;

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.ended();
        if std::thread::panicking() {
            eprintln!("log of lastcall:\n{}", self.log.text());
        }
    }
}

/// What the process writes to standard error, line by line.
#[derive(Clone, Debug, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// While set, nothing more is read.
    unread: Arc<AtomicBool>,
}

impl Log {
    fn fill(&self, stderr: ChildStderr) {
        // As much as a pipe has at least: what isn't read is noticed soon.
        let _ = fcntl_setpipe_size(&stderr, 4096);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            while self.unread.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            self.lines.lock().expect("nothing panics while it writes").push(line);
        }
    }

    /// The lines that are JSON, as all are but a panic's.
    fn lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().expect("nothing panics while it writes");
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn text(&self) -> String {
        self.lines.lock().expect("nothing panics while it writes").join("\n")
    }
}

/// The binary's path, once it is built.
///
/// # Panics
/// If it can't be built, with the reason.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(build) {
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

/// Builds the binary beside the tests, and returns where it is.
fn build() -> Result<PathBuf, String> {
    // target/<profile>/deps/<this test>
    let test = std::env::current_exe().map_err(|error| format!("where is this test? {error}"))?;
    let (Some(directory), Some(target)) = (test.ancestors().nth(2), test.ancestors().nth(3)) else {
        return Err(format!("{} is not where cargo puts tests", test.display()));
    };
    let profile = match directory.file_name().map(|name| name.to_string_lossy()) {
        Some(name) if name == "debug" => "dev".to_owned(),
        Some(name) => name.into_owned(),
        None => return Err(format!("{} is not where cargo puts tests", test.display())),
    };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        // All members, as for the tests: which features the dependencies have is then the same, and they are built
        // once.
        .args(["build", "--workspace", "--bin", "lastcall", "--locked", "--profile", &profile])
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !built.success() {
        return Err(format!("cargo build has failed ({built}), and said why above"));
    }
    Ok(directory.join("lastcall"))
}
