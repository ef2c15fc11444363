//! Steps that move rows by COPY.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::super::units::{Patience, Span};
use super::{Protocol, Query};

/// `{ copy_in = 2000, every = "50s" }`: COPY FROM STDIN. Its rows are committed as inserted rows are.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CopyIn {
    /// How many rows to send, each as a CopyData message of its own, the first one at once.
    #[schemars(range(min = 1, max = Query::MAX_ROWS))]
    pub copy_in: u32,
    /// Pause between two rows; `"0s"`: none. Default 1ms.
    #[schemars(default = "super::one_ms")]
    pub every: Span,
    /// Bytes of each row, its line break included. Default 16.
    #[schemars(default = "super::row_bytes", range(min = 1, max = Query::MAX_ROW_BYTES))]
    pub row_bytes: u32,
    /// After so many rows, send nothing more for ever: neither CopyDone nor CopyFail.
    #[schemars(range(max = Query::MAX_ROWS))]
    pub stops_after: Option<u32>,
    /// Keep rows back, as client libraries do, until so many bytes are full or all rows are there. Default 0: not at all.
    #[schemars(default, range(max = CopyIn::MAX_BUFFER))]
    pub buffer: u32,
    /// End with CopyFail instead of CopyDone: the statement fails with 57014. Default false.
    #[schemars(default)]
    pub fails: bool,
    /// Send a cancel request this long after the statement. As in PostgreSQL, the worker notices it with the next row.
    pub cancel_after: Option<Span>,
    /// Sent as a simple Query, or with Parse, Bind, Describe and Execute. Default simple.
    #[schemars(default)]
    pub protocol: Protocol,
    /// In the extended protocol: send a Sync right behind the Execute, as libpq and tokio-postgres do, and another one behind
    /// CopyDone. A COPY that has begun to read swallows the first. `false`: a Flush, and the only Sync behind CopyDone.
    /// Default true.
    #[schemars(default = "super::yes")]
    pub early_sync: bool,
    /// What it copies into: a `"table"` (default); a `"view"`, which PostgreSQL refuses with 42809 behind CopyInResponse and
    /// before it reads a byte; or a `"missing"` one, refused with 42P01 and no CopyInResponse.
    #[schemars(default)]
    pub into: CopyTarget,
    /// How long a statement trigger works, behind CopyInResponse and before the first row is read. Unset: there is none.
    pub trigger: Option<Span>,
}

impl CopyIn {
    /// The largest buffer of a client.
    pub const MAX_BUFFER: u32 = 16 * 1024 * 1024;
}

/// What a COPY copies into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CopyTarget {
    /// A table that takes the rows.
    #[default]
    Table,
    /// A view without a trigger: refused behind CopyInResponse.
    View,
    /// Nothing of that name: refused at once.
    Missing,
}

impl CopyTarget {
    /// Every one.
    pub const ALL: [CopyTarget; 3] = [CopyTarget::Table, CopyTarget::View, CopyTarget::Missing];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            CopyTarget::Table => "table",
            CopyTarget::View => "view",
            CopyTarget::Missing => "missing",
        }
    }
}

impl fmt::Display for CopyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `{ replication = "forever", every = "250ms" }`: START_REPLICATION. The worker streams, and the client answers with status
/// updates; neither is ever answered, so it is no request that anything can be expected of.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Replication {
    /// After how long the client ends it with CopyDone, or `"forever"`.
    pub replication: Patience,
    /// Pause between two messages of the worker. Default 1s.
    #[schemars(default = "Replication::every")]
    pub every: Span,
    /// Bytes of each message. Default 16.
    #[schemars(default = "super::row_bytes", range(min = 1, max = Query::MAX_ROW_BYTES))]
    pub row_bytes: u32,
    /// Pause between two status updates of the client. Default 10s, as PostgreSQL's own receivers have it.
    #[schemars(default = "Replication::status")]
    pub status: Span,
}

impl Replication {
    pub(in crate::scenario) fn every() -> Span {
        Span(Duration::from_secs(1))
    }

    pub(in crate::scenario) fn status() -> Span {
        Span(Duration::from_secs(10))
    }
}

/// `{ copy_out = 5000, row_bytes = 1000, takes = "1h" }`: COPY TO STDOUT.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CopyOut {
    /// How many rows the worker sends.
    #[schemars(range(max = Query::MAX_ROWS))]
    pub copy_out: u32,
    /// Bytes of each row, its line break included. Default 16.
    #[schemars(default = "super::row_bytes", range(min = 1, max = Query::MAX_ROW_BYTES))]
    pub row_bytes: u32,
    /// How long the worker works; the rows come evenly spread over it. Default 1ms.
    #[schemars(default = "super::one_ms")]
    pub takes: Span,
    /// Send a cancel request this long after the statement.
    pub cancel_after: Option<Span>,
    /// Whether to wait for the answer. `false`: the next step begins at once. Default true.
    #[schemars(default = "super::yes")]
    pub wait: bool,
}
