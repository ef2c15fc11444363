//! What is told to whoever must know afterwards: one record per session at its end, one report per drain.
//!
//! Billing relies on the records: a session that began has exactly one, whatever ended it; and while it goes on, a checkpoint
//! once in a while, so that no SIGKILL loses more than what has happened since. [`Records`] is the meter of the program; the
//! simulator's history is another.

mod file;
mod sum;
mod written;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::{Deref, Sub};
use std::time::Duration;

pub use self::sum::{Sum, SumError, Used, sum};
pub use self::written::{Records, RecordsError, Target};
use crate::lifecycle::Cause;
use lastcall_core::{Activity, DrainPolicy, EndReason, Time};

/// Takes end records and the drain's report.
pub trait Meter: Clone + Send + Sync + 'static {
    /// A session that had begun (its first ReadyForQuery was sent) has ended. Called exactly once for each.
    fn session_ended(&self, record: &EndRecord);

    /// Between two checkpoints of a session that goes on; none if none are wanted.
    fn checkpoint_interval(&self) -> Option<Duration> {
        None
    }

    /// What a session has done that goes on; told only if it has done something since the last time. Does nothing unless
    /// implemented.
    fn session_goes_on(&self, _usage: &Usage) {}

    /// A connection, a handshake included, does something else now: for gauges of who is here and why. A connection that
    /// changes back between two looks at it is not told of. Does nothing unless implemented.
    fn activity_changed(&self, _change: &Change) {}

    /// A connection has left, whether its session had begun or not. Does nothing unless implemented.
    fn connection_left(&self, _left: &Left) {}

    /// What could not be kept so far. Nothing, unless implemented.
    fn lost(&self) -> Lost {
        Lost::default()
    }

    /// Hands everything recorded so far to where it must survive the process. The exit waits for it, for
    /// [`FLUSH_LIMIT`](lastcall_core::settings::FLUSH_LIMIT) at most.
    fn flush(&self) -> impl Future<Output = ()> + Send;
}

/// What a connection does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Number of the connection, unique in this process; its session's number if it becomes one.
    pub connection: u32,
    /// What it does.
    pub activity: Activity,
    /// Since when.
    pub since: Time,
}

/// One session, at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRecord {
    /// Whose it was, and what it has done.
    pub usage: Usage,
    /// When the session was decided to be over: a FATAL queued, or the connection seen closed.
    pub ended: Time,
    /// Why.
    pub reason: EndReason,
}

impl Deref for EndRecord {
    type Target = Usage;

    fn deref(&self) -> &Usage {
        &self.usage
    }
}

/// Whose a session is, and what it has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Number of the session, unique in this process.
    pub session: u32,
    /// `user` of the startup packet.
    pub user: String,
    /// `database` of the startup packet; PostgreSQL's default, the user's name, if it had none.
    pub database: String,
    /// `application_name` of the startup packet; empty if it had none.
    pub application: String,
    /// Where the client connected from.
    pub peer: SocketAddr,
    /// The process id of its worker's session: what PostgreSQL calls `pg_backend_pid()`. None if the worker has told none.
    pub worker_pid: Option<u32>,
    /// When the first ReadyForQuery was seen.
    pub began: Time,
    /// Time during which the worker was executing: what compute seconds are billed from.
    pub executing: Duration,
    /// Time during which the worker's session was held by work that waited for its client: pauses in transactions, answers
    /// that were not taken, the data of a COPY, batches without their Sync.
    pub waiting: Duration,
    /// Statements answered: ReadyForQuery seen after the first. A batch counts once.
    pub statements: u64,
    /// Bytes of the client's that were passed on to the worker.
    pub received: u64,
    /// Bytes of the worker's that were passed on to the client.
    pub sent: u64,
}

/// Lines and records that could not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Lines of the log.
    pub lines: u64,
    /// End records and reports.
    pub records: u64,
}

impl Sub for Lost {
    type Output = Lost;

    fn sub(self, other: Lost) -> Lost {
        Lost { lines: self.lines - other.lines, records: self.records - other.records }
    }
}

/// The whole story of one drain: the last line of the log, and what the exit code summarises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// What began the drain.
    pub cause: Cause,
    /// The policy under which it ran.
    pub policy: DrainPolicy,
    /// When the signal, or the request, came.
    pub started: Time,
    /// When the last session was gone, or the process gave up on it.
    pub ended: Time,
    /// Connections, handshakes included, that were there at the signal, and whose end was not decided then.
    pub connections_at_signal: usize,
    /// Connections accepted since the signal, those not counted that came after the lame duck.
    pub connections_since: u64,
    /// Connections whose end was decided since the signal, by reason; `cancel_request` for one that was no session. Together
    /// as many as those that were there and those that came.
    pub ended_by: BTreeMap<&'static str, u64>,
    /// Sessions refused with 57P03.
    pub refused: u64,
    /// Cancel requests served since the signal.
    pub cancels: u64,
    /// What of the log and of the records could not be kept, since the process began.
    pub lost: Lost,
    /// The connection that was the last to leave, and when: who held the pod.
    pub last: Option<Left>,
}

/// A connection that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its number, which is its session's.
    pub session: u32,
    /// `application_name`, or the user where there is none, or the peer's address before either is known.
    pub who: String,
    /// Why it ended.
    pub reason: EndReason,
    /// When it was gone.
    pub at: Time,
}

/// How the process ended. The codes are part of the command line's contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 drained; 3 a wall fell on running work; 131 SIGQUIT.
    pub code: u8,
    /// The drain's story; none if there was no drain (SIGQUIT while serving).
    pub report: Option<DrainReport>,
}

/// A duration as the log and the reports print it: whole milliseconds below ten seconds, whole seconds above.
#[derive(Clone, Copy, Debug)]
pub struct Rounded(pub Duration);

impl Rounded {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Rounded(Duration::from_millis(millis))
    }
}

impl std::fmt::Display for Rounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounded = if self.0 < Duration::from_secs(10) {
            Duration::from_millis(self.0.as_millis() as u64)
        } else {
            Duration::from_secs(self.0.as_secs())
        };
        write!(f, "{}", humantime::format_duration(rounded))
    }
}
