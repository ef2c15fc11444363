//! The steps of a client, as types: what each word can say.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::super::units::{Patience, Span, SqlState, Times};

/// One thing that a client does: a bare word (`"connect"`) or a table whose first key is the word (`{ query = "20ms" }`).
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Opens the connection and waits for the first ReadyForQuery.
    Connect(Connect),
    /// Runs one statement and waits for its answer.
    Query(Query),
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// Inserts rows and waits for the answer.
    Insert(Insert),
    /// Sends Parse, without Flush or Sync, and waits for nothing.
    Prepare(Prepare),
    /// Sends Parse, Bind and Execute of one statement, without Flush or Sync, and waits for nothing.
    Execute(Execute),
    /// Sends Flush and waits for the answers of everything sent since the last sync point.
    Flush,
    /// Sends Sync and waits for ReadyForQuery.
    Sync,
    /// Sends statements without waiting for their answers.
    Pipeline(Pipeline),
    /// Sends the first bytes of a statement's message.
    Partial(Partial),
    /// Does nothing for this long; the client meant to go on.
    Think(Think),
    /// Does nothing for this long, or forever; the client has nothing more to do for now.
    Idle(Idle),
    /// Does nothing until this time of the run.
    WaitUntil(WaitUntil),
    /// Does steps again and again.
    Repeat(Repeat),
    /// Ends the session with Terminate.
    Disconnect,
    /// Closes the connection (FIN) without Terminate.
    Close,
}

impl Step {
    /// The words of all steps. Those of [`Step::BARE`] may stand alone.
    pub const WORDS: [&str; 18] = [
        "connect",
        "query",
        "begin",
        "commit",
        "rollback",
        "insert",
        "prepare",
        "execute",
        "flush",
        "sync",
        "pipeline",
        "partial",
        "think",
        "idle",
        "wait_until",
        "repeat",
        "disconnect",
        "close",
    ];

    /// The words that need nothing beside them: `"connect"`.
    pub const BARE: [&str; 8] = ["connect", "begin", "commit", "rollback", "flush", "sync", "disconnect", "close"];

    /// The word for this step in a file.
    pub const fn word(&self) -> &'static str {
        match self {
            Step::Connect(_) => "connect",
            Step::Query(_) => "query",
            Step::Begin => "begin",
            Step::Commit => "commit",
            Step::Rollback => "rollback",
            Step::Insert(_) => "insert",
            Step::Prepare(_) => "prepare",
            Step::Execute(_) => "execute",
            Step::Flush => "flush",
            Step::Sync => "sync",
            Step::Pipeline(_) => "pipeline",
            Step::Partial(_) => "partial",
            Step::Think(_) => "think",
            Step::Idle(_) => "idle",
            Step::WaitUntil(_) => "wait_until",
            Step::Repeat(_) => "repeat",
            Step::Disconnect => "disconnect",
            Step::Close => "close",
        }
    }
}

/// `"connect"`, or with options `{ connect = { user = "app" } }`.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Connect {
    /// `user` of the startup packet. Default `app`.
    pub user: Option<String>,
    /// `database` of the startup packet. Default `app`.
    pub database: Option<String>,
    /// How far to go: `"ready"` (default), or no further than TCP (`"tcp"`) or half of the startup packet (`"startup"`).
    #[schemars(default)]
    pub until: Until,
    /// Pause between the TCP connection and the startup packet.
    #[schemars(default)]
    pub pause: Span,
}

/// How far a connect step goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// To the first ReadyForQuery.
    #[default]
    Ready,
    /// TCP only: not a byte is sent.
    Tcp,
    /// The first half of the startup packet is sent, and nothing more.
    Startup,
}

impl Until {
    /// Every one.
    pub const ALL: [Until; 3] = [Until::Ready, Until::Tcp, Until::Startup];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Until::Ready => "ready",
            Until::Tcp => "tcp",
            Until::Startup => "startup",
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `{ query = "3h", rows = 1000 }`: one statement.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Query {
    /// How long the worker works before it answers.
    pub query: Span,
    /// How many rows it returns. Default 1.
    #[schemars(default = "one", range(max = Query::MAX_ROWS))]
    pub rows: u32,
    /// Bytes of each row. Default 16.
    #[schemars(default = "row_bytes", range(max = Query::MAX_ROW_BYTES))]
    pub row_bytes: u32,
    /// The statement fails with this SQLSTATE instead of returning rows.
    pub fails: Option<SqlState>,
    /// Sent as a simple Query, or with Parse, Bind, Execute and Sync. Default simple.
    #[schemars(default)]
    pub protocol: Protocol,
    /// Sends a cancel request this long after the statement.
    pub cancel_after: Option<Span>,
}

impl Query {
    /// The most rows of one statement.
    pub const MAX_ROWS: u32 = 10_000_000;
    /// The most bytes of one row.
    pub const MAX_ROW_BYTES: u32 = 1024 * 1024;
}

pub(in crate::scenario) fn row_bytes() -> u32 {
    16
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
    #[schemars(default = "one_ms")]
    pub takes: Span,
}

impl Insert {
    /// The most rows that one statement inserts.
    pub const MAX_ROWS: u32 = 1_000_000;
}

pub(in crate::scenario) fn one_ms() -> Span {
    Span(Duration::from_millis(1))
}

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
}

/// `{ pipeline = [{ query = "5ms" }], repeat = "forever" }`: statements that don't wait for each other's answers.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Pipeline {
    /// The statements: `query`, `insert`, `begin`, `commit` or `rollback` steps, each its own sync point.
    pub pipeline: Vec<Step>,
    /// How often to send them all. Default 1.
    #[schemars(default = "once")]
    pub repeat: Times,
    /// How many may be unanswered before the client waits. Default 8.
    #[schemars(default = "depth", range(min = 1, max = Pipeline::MAX_DEPTH))]
    pub depth: u32,
}

impl Pipeline {
    /// The most unanswered statements of one client.
    pub const MAX_DEPTH: u32 = 1024;
    /// The words of the steps that can stand in a pipeline.
    pub const WORDS: [&str; 5] = ["query", "insert", "begin", "commit", "rollback"];
}

pub(in crate::scenario) fn once() -> Times {
    Times::Count(1)
}

pub(in crate::scenario) fn depth() -> u32 {
    8
}

/// `{ partial = 12, query = "20ms", after = "10s" }`: a statement whose message is sent in two parts.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Partial {
    /// How many bytes of the Query message to send first.
    #[schemars(range(min = 1, max = Partial::MAX_BYTES))]
    pub partial: u32,
    /// How long the worker works once it has the whole message. Default 1ms.
    #[schemars(default = "one_ms")]
    pub query: Span,
    /// When to send the rest, after the first part; the step then waits for the answer. Unset: never.
    pub after: Option<Span>,
}

impl Partial {
    /// The most bytes that are certain to be less than the whole message, whatever its statement: the shortest is
    /// `/* c.1/1 */ SELECT work('0', rows => 1, row_bytes => 16)`, with five bytes before it and one behind.
    pub const MAX_BYTES: u32 = 60;
}

/// `{ think = "40s" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Think {
    /// How long the client pauses.
    pub think: Span,
}

/// `{ idle = "forever" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Idle {
    /// How long, or `"forever"`.
    pub idle: Patience,
}

/// `{ wait_until = "70s" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WaitUntil {
    /// Time of the run, from its beginning.
    pub wait_until: Span,
}

/// `{ repeat = "forever", steps = [{ query = "1ms" }, { think = "1s" }] }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Repeat {
    /// How often to do the steps, or `"forever"`.
    pub repeat: Times,
    /// The steps to do again.
    pub steps: Vec<Step>,
}

/// Default of what there is one of.
pub(in crate::scenario) fn one() -> u32 {
    1
}
