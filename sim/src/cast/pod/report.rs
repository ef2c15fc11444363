//! What a pod reports of itself, in the contract's words. Nobody decides a promise by it: it is compared with what clients,
//! workers and the kubelet saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lastcall_core::{DrainPolicy, Time};
use lastcall_world::{Signal, World};
use serde::Deserialize;

use crate::cast::history::{Event, Login, Recorder};
use crate::stage::AnyWorld;

/// Something that a pod can say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Report {
    /// What its connections do, and that they leave: [`Reporter::activity_changed`], [`Reporter::connection_left`].
    Activities,
    /// One record for each session, at its end: [`Reporter::session_ended`].
    EndRecords,
    /// One report for each drain: [`Reporter::drained`].
    DrainReport,
    /// Who is here: `GET /drain` at its admin address, as JSON.
    Status,
    /// Whether it is ready and lives: `/readyz` and `/livez` at its admin address.
    Readiness,
}

impl Report {
    /// Everything.
    pub const ALL: [Report; 5] =
        [Report::Activities, Report::EndRecords, Report::DrainReport, Report::Status, Report::Readiness];

    /// What it is called where it is missing.
    pub const fn name(self) -> &'static str {
        match self {
            Report::Activities => "activities",
            Report::EndRecords => "end records",
            Report::DrainReport => "drain report",
            Report::Status => "status",
            Report::Readiness => "readiness",
        }
    }
}

/// Who is here, as `GET /drain` says: as much of it as others can know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Listed {
    /// What began the drain, in words; none where none runs.
    pub cause: Option<String>,
    /// Whether a signal has come.
    pub signalled: bool,
    /// How many are here.
    pub connections: usize,
    /// Those of them that are named.
    pub clients: Vec<ListedClient>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct ListedClient {
    /// `application_name` of its startup packet; none before that has come.
    pub application: Option<String>,
}

/// Where a pod says what it does. Clones are one.
#[derive(Clone)]
pub struct Reporter {
    world: AnyWorld,
    recorder: Recorder,
}

impl Reporter {
    pub(super) fn new(world: AnyWorld, recorder: Recorder) -> Reporter {
        Reporter { world, recorder }
    }

    /// One of its connections does something else now. The first time it is accepted with that.
    pub fn activity_changed(&self, connection: u32, activity: Activity) {
        self.record(Event::ActivityChanged { connection, activity });
    }

    /// One of its connections has left.
    pub fn connection_left(&self, left: Left) {
        self.record(Event::ConnectionLeft { left });
    }

    /// A session is over.
    pub fn session_ended(&self, record: EndRecord) {
        self.record(Event::Recorded { record });
    }

    /// It has drained, and exits.
    pub fn drained(&self, report: DrainReport) {
        self.record(Event::DrainReported { report: Box::new(report) });
    }

    /// The time, and how many events the run has so far: where in it something is that is said now.
    pub(super) fn place(&self) -> (Time, usize) {
        (self.world.now(), self.recorder.recorded())
    }

    fn record(&self, event: Event) {
        self.recorder.record(self.world.now(), event);
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// One session, at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndRecord {
    /// Number of the session, unique in its process.
    pub session: u32,
    /// `application_name` of the startup packet; empty if it had none.
    pub application: String,
    /// `user` and `database` of the startup packet.
    pub login: Login,
    /// When the first ReadyForQuery was seen.
    pub began: Time,
    /// When the session was decided to be over.
    pub ended: Time,
    /// Why.
    pub reason: EndReason,
    /// Time during which the worker was executing.
    pub executing: Duration,
    /// Statements answered: each ReadyForQuery behind the first.
    pub statements: u64,
    /// Bytes of the worker's that were passed on to the client.
    pub sent: u64,
}

/// A connection that has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Its number, which is its session's.
    pub session: u32,
    /// `application_name`, or what else is known of it.
    pub who: String,
    /// Why it ended.
    pub reason: EndReason,
    /// When it was gone.
    pub at: Time,
}

/// The story of one drain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DrainReport {
    /// What began it.
    pub cause: Cause,
    /// The policy under which it ran.
    pub policy: DrainPolicy,
    /// When the signal, or the request, came.
    pub started: Time,
    /// When the last session was gone, or the process gave up on it.
    pub ended: Time,
    /// Connections, handshakes included, that were there at the signal, and whose end was not decided then.
    pub connections_at_signal: u64,
    /// Connections whose end was decided since the signal, by the names of reasons.
    pub ended_by: BTreeMap<&'static str, u64>,
    /// Sessions refused with 57P03.
    pub refused: u64,
    /// Cancel requests served since the signal.
    pub cancels: u64,
    /// The connection that was the last to leave.
    pub last: Option<Left>,
}

/// What began a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A signal.
    Signal(Signal),
    /// `POST /drain` on the admin port.
    Request,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Signal(signal) => signal.fmt(f),
            Cause::Request => f.write_str("request"),
        }
    }
}

/// An enum of the contract's words: each variant, its name, and what it means.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident: $($(#[$about:meta])* $variant:ident = $name:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$about])* $variant,)*
        }

        impl $type {
            /// Every one, in the contract's order.
            pub const ALL: [$type; [$($name),*].len()] = [$($type::$variant),*];

            /// The contract's word.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }

            /// The one of this name.
            pub fn named(name: &str) -> Option<$type> {
                $type::ALL.into_iter().find(|known| known.name() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// What a connection is doing.
    Activity:
    /// TCP accepted, up to the first ReadyForQuery.
    Handshake = "handshake",
    /// Startup packet read; no worker has taken the session yet.
    Acquiring = "acquiring",
    /// Between two requests, outside a transaction.
    Idle = "idle",
    /// Between two requests, inside one.
    IdleInTransaction = "idle_in_transaction",
    /// The worker owes the next byte.
    Executing = "executing",
    /// The client owes an acknowledgement of an answer.
    StreamingOut = "streaming_out",
    /// The client owes the data of a COPY.
    CopyIn = "copy_in",
    /// The client owes the Sync of a batch.
    OpenBatch = "open_batch",
    /// A FATAL is queued.
    Closing = "closing",
}

words! {
    /// Why a session ended.
    EndReason:
    /// The client said goodbye (Terminate).
    Terminate = "terminate",
    /// The client closed its connection without a goodbye.
    ClientClosed = "client_closed",
    /// The client's connection was reset.
    ClientReset = "client_reset",
    /// The worker ended the session by itself.
    WorkerLost = "worker_lost",
    /// No worker could be reached within `worker_queue_timeout`.
    WorkerUnreachable = "worker_unreachable",
    /// The worker did not let the client in, and said so in its own words.
    LoginFailed = "login_failed",
    /// The client's bytes are not the PostgreSQL protocol.
    Malformed = "malformed",
    /// The worker's bytes are not the PostgreSQL protocol.
    WorkerMalformed = "worker_malformed",
    /// Steady state: idle for `idle_timeout`.
    IdleTimeout = "idle_timeout",
    /// No first ReadyForQuery within `session_init_timeout`, or within the drain's grace.
    HandshakeTimeout = "handshake_timeout",
    /// Drain: due, and at a boundary.
    Boundary = "boundary",
    /// Drain: one pause inside a transaction lasted `transaction_grace`.
    TransactionGrace = "transaction_grace",
    /// Drain: the pauses inside transactions added up to `transaction_budget`.
    TransactionBudget = "transaction_budget",
    /// Drain: no byte moved for `stall_grace` in a statement that waits on its client.
    StallGrace = "stall_grace",
    /// Drain: the wall fell while the session was still there.
    Wall = "wall",
    /// An administrator ended this session, and no other.
    Administrator = "administrator",
    /// The session arrived after the lame duck.
    ShuttingDown = "shutting_down",
    /// More than `max_connections`.
    TooManyConnections = "too_many_connections",
    /// The session's task has panicked.
    Panicked = "panicked",
    /// The process was told to exit at once (SIGQUIT).
    Quit = "quit",
}

impl Activity {
    /// Whom a connection that does this waits for: its client or its worker.
    pub const fn waits_on(self) -> Party {
        match self {
            Activity::Acquiring | Activity::Executing => Party::Worker,
            Activity::Handshake
            | Activity::Idle
            | Activity::IdleInTransaction
            | Activity::StreamingOut
            | Activity::CopyIn
            | Activity::OpenBatch
            | Activity::Closing => Party::Client,
        }
    }
}

words! {
    /// Who can be waited for.
    Party:
    /// Whoever opened the connection.
    Client = "client",
    /// The server behind the pod.
    Worker = "worker",
}

impl EndReason {
    /// The clock that ends a session for this reason, as a DETAIL names it; none if no clock does.
    pub const fn clock(self) -> Option<&'static str> {
        match self {
            EndReason::WorkerUnreachable => Some("worker_queue_timeout"),
            EndReason::IdleTimeout => Some("idle_timeout"),
            EndReason::HandshakeTimeout => Some("session_init_timeout"),
            EndReason::Boundary | EndReason::ShuttingDown => Some("idle_grace"),
            EndReason::TransactionGrace | EndReason::TransactionBudget | EndReason::StallGrace | EndReason::Wall => {
                Some(self.name())
            }
            _ => None,
        }
    }

    /// Whether the client ended the session, rather than the pod or the worker.
    pub const fn by_client(self) -> bool {
        matches!(self, EndReason::Terminate | EndReason::ClientClosed | EndReason::ClientReset)
    }

    /// The SQLSTATE that the client is told; none where there is nobody to tell, or the worker has told it.
    pub const fn sqlstate(self) -> Option<&'static str> {
        match self {
            EndReason::Terminate | EndReason::ClientClosed | EndReason::ClientReset | EndReason::LoginFailed => None,
            EndReason::Boundary
            | EndReason::TransactionGrace
            | EndReason::TransactionBudget
            | EndReason::StallGrace
            | EndReason::Wall
            | EndReason::Administrator
            | EndReason::Quit => Some("57P01"),
            EndReason::ShuttingDown => Some("57P03"),
            EndReason::IdleTimeout => Some("57P05"),
            EndReason::TooManyConnections => Some("53300"),
            EndReason::HandshakeTimeout => Some("57014"),
            EndReason::WorkerLost | EndReason::WorkerUnreachable => Some("08006"),
            EndReason::Malformed | EndReason::WorkerMalformed => Some("08P01"),
            EndReason::Panicked => Some("XX000"),
        }
    }
}
