//! A program of this workspace as a user starts it, with its log, its signals and its exit.
//!
//! Cargo builds the binaries and examples of a package for that package's own integration tests, not for those of another. So
//! the first test of a test process that needs one has it built, in the profile and into the target directory that the tests
//! were built with: what is tested is always what the sources say. Where it is built already that takes a fraction of a second;
//! cargo says what it does.
//!
//! The log is kept, and printed when a test fails while the program runs.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::watchdog::Watchdog;

/// How long any process may take to exit. Tests that promise more say so by what they assert.
const EXIT_LIMIT: Duration = Duration::from_secs(40);

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Program {
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

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// If that fails.
    pub fn start(mut command: Command) -> Program {
        let mut process = command
            // An interrupt from the terminal is for the tests, not for a process that would begin to drain.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built just now");
        let log = Log::default();
        let stderr = process.stderr.take().expect("asked for just now");
        let reader = std::thread::spawn({
            let log = log.clone();
            move || log.fill(stderr)
        });
        let watchdog = Some(Watchdog::over(process.id(), "KILL", None));
        Program { process, watchdog, log, reader: Some(reader), signalled: None }
    }

    /// Sends `signal` to the process. Time is measured from the first one on.
    pub fn signal(&mut self, signal: Signal) {
        let id = Pid::from_child(&self.process);
        kill_process(id, signal).expect("it is our child, and was not waited for");
        self.signalled.get_or_insert_with(Instant::now);
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

    /// Its resident memory, in kB.
    ///
    /// # Panics
    /// If it is gone.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("it is our child").is_none()
    }

    /// Whether it has ended, all of whose log is there then.
    pub fn has_ended(&mut self) -> bool {
        let ended = !self.is_running();
        if ended {
            self.ended();
        }
        ended
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

    /// The lines of its log so far, those that are JSON. After the exit: all of them.
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

    /// Its log so far. After the exit: all of it.
    pub fn text(&self) -> String {
        self.log.text()
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

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.ended();
        if std::thread::panicking() {
            eprintln!("log of the program:\n{}", self.log.text());
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

/// Builds a program beside the tests, and returns where the profile's programs are. `which` is as `cargo build` takes it.
pub(crate) fn build(which: [&str; 2]) -> Result<PathBuf, String> {
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
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    // What cargo has told this test about its own package would be news to the build scripts that look at it, ring's for one:
    // that and all that uses it would be compiled anew each time.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let built = cargo
        // All members, as for the tests: which features the dependencies have is then the same, and they are built
        // once.
        .args(["build", "--workspace", "--locked", "--profile", &profile])
        .args(which)
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !built.success() {
        return Err(format!("cargo build has failed ({built}), and said why above"));
    }
    Ok(directory.to_owned())
}
