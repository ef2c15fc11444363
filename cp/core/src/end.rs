//! Why a session ended: one list for the log line, the end record and the FATAL that the client reads.

use std::fmt;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// The client said goodbye (Terminate).
    Terminate,
    /// The client closed its connection without a goodbye.
    ClientClosed,
    /// The client's connection was reset.
    ClientReset,
    /// The worker ended the session by itself: it closed or reset its connection.
    WorkerLost,
    /// No worker could be reached within `worker_queue_timeout`.
    WorkerUnreachable,
    /// The worker did not let the client in, and said so in its own words.
    LoginFailed,
    /// The client's bytes are not the PostgreSQL protocol.
    Malformed,
    /// The worker's bytes are not the PostgreSQL protocol.
    WorkerMalformed,
    /// Steady state: idle for `idle_timeout`.
    IdleTimeout,
    /// No first ReadyForQuery within `session_init_timeout`, or within the drain's grace.
    HandshakeTimeout,
    /// Drain: due, and at a boundary.
    Boundary,
    /// Drain: one pause inside a transaction lasted `transaction_grace`.
    TransactionGrace,
    /// Drain: the pauses inside transactions added up to `transaction_budget`.
    TransactionBudget,
    /// Drain: no byte moved for `stall_grace` in a statement that waits on its client.
    StallGrace,
    /// Drain: the wall fell while the session was still there.
    Wall,
    /// An administrator ended this session, and no other.
    Administrator,
    /// The session arrived after the lame duck.
    ShuttingDown,
    /// More than `max_connections`, or than there are file descriptors for.
    TooManyConnections,
    /// The session's task has panicked: a fault of this program.
    Panicked,
    /// The process was told to exit at once (SIGQUIT).
    Quit,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [EndReason; 20] = [
        EndReason::Terminate,
        EndReason::ClientClosed,
        EndReason::ClientReset,
        EndReason::WorkerLost,
        EndReason::WorkerUnreachable,
        EndReason::LoginFailed,
        EndReason::Malformed,
        EndReason::WorkerMalformed,
        EndReason::IdleTimeout,
        EndReason::HandshakeTimeout,
        EndReason::Boundary,
        EndReason::TransactionGrace,
        EndReason::TransactionBudget,
        EndReason::StallGrace,
        EndReason::Wall,
        EndReason::Administrator,
        EndReason::ShuttingDown,
        EndReason::TooManyConnections,
        EndReason::Panicked,
        EndReason::Quit,
    ];

    /// The name used in logs, records and reports.
    pub const fn name(self) -> &'static str {
        match self {
            EndReason::Terminate => "terminate",
            EndReason::ClientClosed => "client_closed",
            EndReason::ClientReset => "client_reset",
            EndReason::WorkerLost => "worker_lost",
            EndReason::WorkerUnreachable => "worker_unreachable",
            EndReason::LoginFailed => "login_failed",
            EndReason::Malformed => "malformed",
            EndReason::WorkerMalformed => "worker_malformed",
            EndReason::IdleTimeout => "idle_timeout",
            EndReason::HandshakeTimeout => "handshake_timeout",
            EndReason::Boundary => "boundary",
            EndReason::TransactionGrace => "transaction_grace",
            EndReason::TransactionBudget => "transaction_budget",
            EndReason::StallGrace => "stall_grace",
            EndReason::Wall => "wall",
            EndReason::Administrator => "administrator",
            EndReason::ShuttingDown => "shutting_down",
            EndReason::TooManyConnections => "too_many_connections",
            EndReason::Panicked => "panicked",
            EndReason::Quit => "quit",
        }
    }

    /// The clock that ends a session for this reason, by the name of its setting; none if no clock does.
    pub const fn clock(self) -> Option<&'static str> {
        match self {
            EndReason::WorkerUnreachable => Some("worker_queue_timeout"),
            EndReason::IdleTimeout => Some("idle_timeout"),
            EndReason::HandshakeTimeout => Some("session_init_timeout"),
            EndReason::Boundary | EndReason::ShuttingDown => Some("idle_grace"),
            EndReason::TransactionGrace => Some("transaction_grace"),
            EndReason::TransactionBudget => Some("transaction_budget"),
            EndReason::StallGrace => Some("stall_grace"),
            // Which setting it stands at depends on what else is set.
            EndReason::Wall => Some("wall"),
            EndReason::Terminate
            | EndReason::ClientClosed
            | EndReason::ClientReset
            | EndReason::WorkerLost
            | EndReason::LoginFailed
            | EndReason::Malformed
            | EndReason::WorkerMalformed
            | EndReason::Administrator
            | EndReason::TooManyConnections
            | EndReason::Panicked
            | EndReason::Quit => None,
        }
    }

    /// Whether the client ended the session, rather than `cp` or the worker.
    pub const fn by_client(self) -> bool {
        matches!(self, EndReason::Terminate | EndReason::ClientClosed | EndReason::ClientReset)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
