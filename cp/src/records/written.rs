//! The meter of the program: each record is one line, in the log, on stdout or in a file.
//!
//! Nothing waits for a line to be written, except the exit, and that not for ever; what can't be written is dropped and
//! counted. In a file or on stdout a line is a JSON object with a `type`:
//!
//! | type | says |
//! |---|---|
//! | `start` | a process begins: its name among those that write here, and when |
//! | `checkpoint` | a session goes on, and has done so much so far |
//! | `end` | a session has ended: what it has done, and why |
//! | `stop` | the process exits, and whether something was lost: behind a `start` without it there was a SIGKILL, or there is a process |

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::file::RecordFile;
use super::{EndRecord, Lost, Meter, Usage};
use crate::log::{Out, Outlet, RECORD, wait_for_room};

/// Where records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// To the log, among its lines.
    #[default]
    Log,
    /// To stdout.
    Stdout,
    /// To a file, behind what is in it.
    File(PathBuf),
}

/// Why records can't be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The file can't be opened.
    #[error("records: cannot open {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The process can have no more threads.
    #[error("records: no thread to write them: {0}")]
    Thread(#[from] io::Error),
}

/// See the module's text. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Records {
    log: Outlet,
    lines: Option<Lines>,
    every: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Lines {
    outlet: Outlet,
    /// The process's name among those that write there.
    process: u64,
}

impl Records {
    /// Records that go to `target`, with a checkpoint of each session `every` so often. `process` is a random number.
    ///
    /// # Errors
    /// The target can't be opened.
    pub fn start(log: Outlet, target: &Target, every: Duration, process: u64) -> Result<Records, RecordsError> {
        let outlet = match target {
            Target::Log => return Ok(Records { log, lines: None, every: None }),
            Target::Stdout => Outlet::start(Stdout, tell_lost)?,
            Target::File(path) => {
                let opened = RecordFile::open(path);
                let file = opened.map_err(|source| RecordsError::File { path: path.clone(), source })?;
                Outlet::start(file, tell_lost)?
            }
        };
        let lines = Lines { outlet, process };
        lines.add("start", json!({ "version": env!("CARGO_PKG_VERSION") }));
        Ok(Records { log, lines: Some(lines), every: (!every.is_zero()).then_some(every) })
    }

    /// The process exits.
    pub fn stop(&self, code: u8) {
        if let Some(lines) = &self.lines {
            let Lost { records, .. } = lines.outlet.lost();
            lines.add("stop", json!({ "code": code, "lost_records": records }));
        }
    }
}

impl Lines {
    fn add(&self, kind: &str, fields: Value) {
        let mut line = json!({ "type": kind, "at": now(), "process": format!("{:016x}", self.process) });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        self.outlet.add(format!("{line}\n").as_bytes(), true);
    }
}

/// The wall clock, for people and for bills: nothing is decided by it.
#[expect(
    clippy::disallowed_methods,
    reason = "what is written for others has their time; nothing simulated comes here"
)]
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn usage(usage: &Usage) -> Value {
    json!({
        "session": usage.session,
        "user": usage.user,
        "database": usage.database,
        "application": usage.application,
        "peer": usage.peer.to_string(),
        "worker_pid": usage.worker_pid,
        "executing_ms": millis(usage.executing),
        "waiting_ms": millis(usage.waiting),
        "statements": usage.statements,
        "received": usage.received,
        "sent": usage.sent,
    })
}

/// Milliseconds with what is below them: a bill adds up many short statements.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl Meter for Records {
    fn session_ended(&self, record: &EndRecord) {
        let lasted = record.ended.since(record.began);
        let Some(lines) = &self.lines else {
            tracing::info!(
                target: RECORD,
                session = record.session,
                user = record.user.as_str(),
                database = record.database.as_str(),
                application = record.application.as_str(),
                peer = %record.peer,
                worker_pid = record.worker_pid,
                reason = %record.reason,
                lasted_ms = lasted.as_millis() as u64,
                executing_ms = record.executing.as_millis() as u64,
                waiting_ms = record.waiting.as_millis() as u64,
                statements = record.statements,
                received = record.received,
                sent = record.sent,
                "session ended"
            );
            return;
        };
        let mut fields = usage(record);
        fields["reason"] = record.reason.to_string().into();
        fields["lasted_ms"] = millis(lasted).into();
        lines.add("end", fields);
    }

    fn checkpoint_interval(&self) -> Option<Duration> {
        self.every
    }

    fn session_goes_on(&self, so_far: &Usage) {
        if let Some(lines) = &self.lines {
            lines.add("checkpoint", usage(so_far));
        }
    }

    fn lost(&self) -> Lost {
        let records = self.lines.as_ref().map_or(0, |lines| lines.outlet.lost().records);
        let log = self.log.lost();
        Lost { records: log.records + records, ..log }
    }

    async fn flush(&self) {
        if let Some(lines) = &self.lines {
            lines.outlet.written().await;
        }
        self.log.written().await;
    }
}

fn tell_lost(Lost { records, .. }: Lost) {
    tracing::warn!(target: RECORD, records, "records could not be written, or not fast enough: so many are lost");
}

/// The process's stdout.
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

impl Out for Stdout {
    fn wait_for_room(&self) {
        wait_for_room(io::stdout());
    }
}
