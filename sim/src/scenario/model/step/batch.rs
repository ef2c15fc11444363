//! Steps that send messages which no answer of their own follows at once: batches, pipelines, parts of messages.

use schemars::JsonSchema;

use super::super::super::units::{Span, Times};
use super::{Insert, Query, Step};

/// `{ prepare = "1ms" }`: a Parse.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Prepare {
    /// How long the statement would work.
    pub prepare: Span,
}

/// `{ execute = "20ms", insert = 1 }`: Parse, Bind and Execute.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Execute {
    /// How long the worker works.
    pub execute: Span,
    /// How many rows it inserts. Default 0.
    #[schemars(default, range(max = Insert::MAX_ROWS))]
    pub insert: u32,
    /// How many rows it returns. Default 1, or 0 if it inserts.
    #[schemars(range(max = Query::MAX_ROWS))]
    pub rows: Option<u32>,
    /// Return at most this many rows and suspend the portal. Default 0: all.
    #[schemars(default)]
    pub max_rows: u32,
    /// Send a cancel request this long after the statement, if it is not answered then.
    pub cancel_after: Option<Span>,
}

/// `{ pipeline = [{ query = "5ms" }], repeat = "forever" }`: statements that don't wait for each other's answers.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Pipeline {
    /// The statements: `query`, `insert`, `begin`, `commit` or `rollback` steps, each its own sync point.
    pub pipeline: Vec<Step>,
    /// How often to send them all. Default 1.
    #[schemars(default = "super::once")]
    pub repeat: Times,
    /// How many may be unanswered before the client waits. Default 8.
    #[schemars(default = "super::depth", range(min = 1, max = Pipeline::MAX_DEPTH))]
    pub depth: u32,
}

impl Pipeline {
    /// The most unanswered statements of one client.
    pub const MAX_DEPTH: u32 = 1024;
    /// The words of the steps that can stand in a pipeline.
    pub const WORDS: [&str; 5] = ["query", "insert", "begin", "commit", "rollback"];
}

/// `{ partial = 12, query = "20ms", after = "10s" }`: a statement whose message is sent in two parts.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Partial {
    /// How many bytes of the Query message to send first.
    #[schemars(range(min = 1, max = Partial::MAX_BYTES))]
    pub partial: u32,
    /// How long the worker works once it has the whole message. Default 1ms.
    #[schemars(default = "super::one_ms")]
    pub query: Span,
    /// When to send the rest, after the first part; the step then waits for the answer. Unset: never.
    pub after: Option<Span>,
}

impl Partial {
    /// The most bytes that are certain to be less than the whole message, whatever its statement: the shortest is
    /// `/* c.1/1 */ SELECT work('0', rows => 1, row_bytes => 16)`, with five bytes before it and one behind.
    pub const MAX_BYTES: u32 = 60;
}

/// `{ garbage = 16 }`: bytes that are no PostgreSQL. Nothing can be sent behind them.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Garbage {
    /// How many bytes.
    #[schemars(range(min = 1, max = Garbage::MAX_BYTES))]
    pub garbage: u32,
}

impl Garbage {
    /// The most bytes: more than anybody reads at once.
    pub const MAX_BYTES: u32 = 1024 * 1024;
}
