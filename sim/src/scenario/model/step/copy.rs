//! Steps that move rows by COPY.

use schemars::JsonSchema;

use super::super::super::units::Span;
use super::Query;

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
}

impl CopyIn {
    /// The largest buffer of a client.
    pub const MAX_BUFFER: u32 = 16 * 1024 * 1024;
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
