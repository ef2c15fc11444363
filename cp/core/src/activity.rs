//! What a connection is doing, and for whom that makes it wait.
//!
//! The drain rests on one question: does this connection wait on its worker, or on its client? For a worker the drain
//! waits; for a client a clock runs.

use std::fmt;

/// What a connection is doing right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activity {
    /// TCP accepted, up to the first ReadyForQuery: startup packet and password.
    Handshake,
    /// Startup packet read; no worker has taken the session yet.
    Acquiring,
    /// ReadyForQuery `I` was the last answer and no complete next request has been forwarded. Half a message is still
    /// idle; so are LISTEN, a replication stream (CopyBoth), and a suspended portal outside a transaction block.
    Idle,
    /// ReadyForQuery `T` or `E`: the client is inside a transaction and thinks.
    IdleInTransaction,
    /// A forwarded request is not answered yet and the worker owes the next byte.
    Executing,
    /// The worker has output, and the client's socket does not take it.
    StreamingOut,
    /// CopyInResponse seen, neither CopyDone nor CopyFail yet.
    CopyIn,
    /// Extended-protocol messages forwarded, no Sync yet, and no Execute outstanding.
    OpenBatch,
    /// A FATAL is queued; the client may still read it.
    Closing,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsOn {
    /// Nothing happens until the client acts.
    Client,
    /// A statement is running, or a worker is being found.
    Worker,
    /// Nobody: the connection is on its way out.
    Nobody,
}

impl Activity {
    /// Every activity, in the order of the contract's table.
    pub const ALL: [Activity; 9] = [
        Activity::Handshake,
        Activity::Acquiring,
        Activity::Idle,
        Activity::IdleInTransaction,
        Activity::Executing,
        Activity::StreamingOut,
        Activity::CopyIn,
        Activity::OpenBatch,
        Activity::Closing,
    ];

    /// Whose turn it is in this activity.
    pub const fn waits_on(self) -> WaitsOn {
        match self {
            Activity::Acquiring | Activity::Executing => WaitsOn::Worker,
            Activity::Closing => WaitsOn::Nobody,
            Activity::Handshake
            | Activity::Idle
            | Activity::IdleInTransaction
            | Activity::StreamingOut
            | Activity::CopyIn
            | Activity::OpenBatch => WaitsOn::Client,
        }
    }

    /// Whether the client pauses inside a transaction; a batch is one.
    pub const fn is_pause(self) -> bool {
        matches!(self, Activity::IdleInTransaction | Activity::OpenBatch)
    }

    /// Whether the worker's session is held by work that waits for its client.
    pub const fn holds_worker(self) -> bool {
        self.is_pause() || matches!(self, Activity::StreamingOut | Activity::CopyIn)
    }

    /// The name used in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Activity::Handshake => "handshake",
            Activity::Acquiring => "acquiring",
            Activity::Idle => "idle",
            Activity::IdleInTransaction => "idle_in_transaction",
            Activity::Executing => "executing",
            Activity::StreamingOut => "streaming_out",
            Activity::CopyIn => "copy_in",
            Activity::OpenBatch => "open_batch",
            Activity::Closing => "closing",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
