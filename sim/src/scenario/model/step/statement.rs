//! Steps that ask for one statement.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::super::units::{Span, SqlState};

/// `{ query = "3h", rows = 1000 }`: one statement.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Query {
    /// How long the worker works before it answers.
    pub query: Span,
    /// How many rows it returns. Default 1.
    #[schemars(default = "super::one", range(max = Query::MAX_ROWS))]
    pub rows: u32,
    /// Bytes of each row. Default 16.
    #[schemars(default = "super::row_bytes", range(max = Query::MAX_ROW_BYTES))]
    pub row_bytes: u32,
    /// The statement fails with this SQLSTATE instead of returning rows.
    pub fails: Option<SqlState>,
    /// Sent as a simple Query, or with Parse, Bind, Execute and Sync. Default simple.
    #[schemars(default)]
    pub protocol: Protocol,
    /// Sends a cancel request this long after the statement.
    pub cancel_after: Option<Span>,
    /// Whether to wait for the answer. `false`: the next step begins at once. Default true.
    #[schemars(default = "super::yes")]
    pub wait: bool,
}

impl Query {
    /// The most rows of one statement.
    pub const MAX_ROWS: u32 = 10_000_000;
    /// The most bytes of one row.
    pub const MAX_ROW_BYTES: u32 = 1024 * 1024;
}

/// Which of PostgreSQL's two query protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// One Query message.
    #[default]
    Simple,
    /// Parse, Bind, Describe, Execute, Sync.
    Extended,
}

impl Protocol {
    /// Every one.
    pub const ALL: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `{ insert = 1 }`: rows that are committed with their transaction.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Insert {
    /// How many rows it inserts.
    #[schemars(range(min = 1, max = Insert::MAX_ROWS))]
    pub insert: u32,
    /// How long the worker works before it answers. Default 1ms.
    #[schemars(default = "super::one_ms")]
    pub takes: Span,
}

impl Insert {
    /// The most rows that one statement inserts.
    pub const MAX_ROWS: u32 = 1_000_000;
}

/// `{ declare = "c", query = "20ms", rows = 100 }`: a cursor, which lives to the end of its transaction.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Declare {
    /// Its name: letters, digits and `_`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_]{1,63}$"))]
    pub declare: String,
    /// How long the worker works at each FETCH. Default 1ms.
    #[schemars(default = "super::one_ms")]
    pub query: Span,
    /// How many rows it has in all. Default 1.
    #[schemars(default = "super::one", range(max = Query::MAX_ROWS))]
    pub rows: u32,
    /// Bytes of each row. Default 16.
    #[schemars(default = "super::row_bytes", range(max = Query::MAX_ROW_BYTES))]
    pub row_bytes: u32,
}

impl Declare {
    /// The longest name: PostgreSQL's own limit for names.
    pub const MAX_NAME: usize = 63;
}

/// `{ fetch = "c", rows = 1 }`: the next rows of a cursor.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Fetch {
    /// The cursor's name.
    pub fetch: String,
    /// How many rows to take at most. Default 1.
    #[schemars(default = "super::one", range(max = Query::MAX_ROWS))]
    pub rows: u32,
}

/// `{ call = "20ms" }`: a FunctionCall message, which old drivers send for large objects.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Call {
    /// How long the worker works before it answers.
    pub call: Span,
}
