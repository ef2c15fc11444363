//! The vocabulary of scenario files, as types.
//!
//! What a file can say, and nothing else. The JSON Schema and the help in error messages are made from these types and
//! their doc comments; a word that is not here is an error in a file. How a file is read into them is in the other modules.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

pub use super::overrides::Overrides;
pub use super::units::{Answered, BadSpan, BadSqlState, Patience, RUN_LIMIT, Span, SqlState, Times};

/// A scenario: who connects, what each client does, what happens to the pod, and what must come out.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence: what holds. It is the name of the test.
    pub title: String,
    /// Why this file exists: what went wrong, for whom. Default: empty.
    #[schemars(default)]
    pub why: String,
    /// The pod that runs the control plane.
    #[schemars(default)]
    pub pod: Pod,
    /// Settings of the control plane that differ from their defaults.
    #[schemars(default)]
    pub drain: Overrides,
    /// The clients.
    #[schemars(default, rename = "client")]
    pub clients: Vec<Client>,
    /// What happens to the pod, and when.
    #[schemars(default, rename = "event")]
    pub events: Vec<Event>,
    /// What must come out. The promises are checked besides, always.
    #[schemars(default)]
    pub expect: Expect,
    /// Settings under which this file must break exactly the promises named: proof that it can fail.
    #[schemars(default)]
    pub fails_under: Vec<FailsUnder>,
}

/// The pod that runs the control plane, and its kubelet.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Pod {
    /// `terminationGracePeriodSeconds`: the kubelet sends SIGKILL this long after SIGTERM. Unset: 24h.
    pub termination_grace: Option<Span>,
    /// How often the kubelet probes `/readyz`. Unset: 10s.
    pub readiness_period: Option<Span>,
    /// Whether something (a metrics scraper) also holds a kept-alive HTTP connection to the admin port.
    #[schemars(default)]
    pub admin_keepalive: bool,
}

/// One client, or `count` alike.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Client {
    /// Its name, unique in the file: letters, digits, `-` and `_`.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,40}$"))]
    pub name: String,
    /// How many clients do the same. Default 1.
    #[schemars(default = "one", range(min = 1, max = Client::MAX_COUNT))]
    pub count: u32,
    /// When the first one begins. Default 0s.
    #[schemars(default)]
    pub start: Span,
    /// How much later each next one begins. Default 0s.
    #[schemars(default)]
    pub stagger: Span,
    /// What it does, in order. When its connection is closed under it, the rest is left out.
    pub steps: Vec<Step>,
}

impl Client {
    /// The most copies of one client: as many as the control plane accepts by default.
    pub const MAX_COUNT: u32 = 10_000;
    /// The longest name: with the copy's number it still fits into `application_name` (63 bytes).
    pub const MAX_NAME: usize = 40;
}

fn one() -> u32 {
    1
}

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
        "connect", "query", "begin", "commit", "rollback", "insert", "prepare", "execute", "flush", "sync", "pipeline",
        "partial", "think", "idle", "wait_until", "repeat", "disconnect", "close",
    ];

    /// The words that need nothing beside them: `"connect"`.
    pub const BARE: [&str; 8] =
        ["connect", "begin", "commit", "rollback", "flush", "sync", "disconnect", "close"];

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

fn row_bytes() -> u32 {
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
    /// How many rows.
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

fn one_ms() -> Span {
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

fn once() -> Times {
    Times::Count(1)
}

fn depth() -> u32 {
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
    /// The most bytes that are certain to be less than the whole message: type, length, the statement's tag and its text.
    pub const MAX_BYTES: u32 = 20;
}

/// `{ think = "40s" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Think {
    /// How long.
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
    /// How often, or `"forever"`.
    pub repeat: Times,
    /// What.
    pub steps: Vec<Step>,
}

/// Something that happens to the pod at a stated time.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Event {
    /// Time of the run, from its beginning.
    pub at: Span,
    /// What.
    #[schemars(rename = "do")]
    pub action: Action,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The kubelet terminates the pod: SIGTERM now, SIGKILL when its termination grace has passed.
    Sigterm,
    /// SIGINT to the control plane.
    Sigint,
    /// SIGQUIT to the control plane.
    Sigquit,
}

impl Action {
    /// Every one.
    pub const ALL: [Action; 3] = [Action::Sigterm, Action::Sigint, Action::Sigquit];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Sigterm => "sigterm",
            Action::Sigint => "sigint",
            Action::Sigquit => "sigquit",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What must come out of the run.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Expect {
    /// When and how the process exits.
    pub exit: Option<ExpectExit>,
    /// What each client saw, by its name; every copy must meet it.
    #[schemars(default)]
    pub client: BTreeMap<String, ExpectClient>,
}

/// `exit = { within = "31s", code = 0 }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExpectExit {
    /// At most this long after the first signal.
    pub within: Option<Span>,
    /// At least this long after the first signal.
    pub after: Option<Span>,
    /// The exit code.
    pub code: Option<u8>,
}

/// `client.etl = { answered = "all", ends = "57P01" }`
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExpectClient {
    /// How many requests were answered without an error: a number, or `"all"` that were sent.
    pub answered: Option<Answered>,
    /// How many rows of this client were committed.
    pub committed: Option<u32>,
    /// How its last connection ended: a SQLSTATE (of the FATAL it read), `"disconnect"`, `"close"` (it left by itself),
    /// `"eof"`, `"reset"` (closed without a word), or `"open"`.
    #[schemars(schema_with = "super::schema::ends_schema")]
    pub ends: Option<String>,
    /// Its last connection ended between these two times after the first signal.
    pub between: Option<[Span; 2]>,
    /// SQLSTATEs of the errors that its requests got, in order; FATALs are not among them.
    pub errors: Option<Vec<SqlState>>,
}

impl ExpectClient {
    /// The values of `ends` that are not SQLSTATEs.
    pub const ENDS: [&str; 5] = ["disconnect", "close", "eof", "reset", "open"];
}

/// `[[fails_under]]`: other settings, and the promises that break under them.
#[derive(Clone, Debug, PartialEq)]
pub struct FailsUnder {
    /// The promises that must break, and no other.
    pub breaks: Vec<Promise>,
    /// The settings, on top of `[drain]`.
    pub settings: Overrides,
}

/// The contract's promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// No statement that a worker began was ended by the control plane before its answer was complete.
    NeverCut,
    /// The process exited within the bound.
    BoundedExit,
    /// Every request was answered, or refused with a SQLSTATE and never begun; none ran twice.
    AnsweredOrNotRun,
    /// Every closed client that was reading got one well-formed FATAL and then EOF.
    CleanGoodbye,
    /// No session began after the lame duck; the refusal was 57P03.
    NoLateSession,
    /// Every cancel request reached its statement.
    CancelWorks,
    /// Every session that began has exactly one end record.
    OneRecordEach,
    /// At exit no task, socket, worker session or registry entry is left.
    NothingLeaks,
    /// Readiness was false from the signal on; exit code and report tell what happened.
    HonestSigns,
    /// The same scenario and seed give the same event log, byte for byte, in another process.
    SameSeedSameRun,
}

impl Promise {
    /// Every promise, in the contract's order.
    pub const ALL: [Promise; 10] = [
        Promise::NeverCut,
        Promise::BoundedExit,
        Promise::AnsweredOrNotRun,
        Promise::CleanGoodbye,
        Promise::NoLateSession,
        Promise::CancelWorks,
        Promise::OneRecordEach,
        Promise::NothingLeaks,
        Promise::HonestSigns,
        Promise::SameSeedSameRun,
    ];

    /// The contract's name.
    pub const fn name(self) -> &'static str {
        match self {
            Promise::NeverCut => "never-cut",
            Promise::BoundedExit => "bounded-exit",
            Promise::AnsweredOrNotRun => "answered-or-not-run",
            Promise::CleanGoodbye => "clean-goodbye",
            Promise::NoLateSession => "no-late-session",
            Promise::CancelWorks => "cancel-works",
            Promise::OneRecordEach => "one-record-each",
            Promise::NothingLeaks => "nothing-leaks",
            Promise::HonestSigns => "honest-signs",
            Promise::SameSeedSameRun => "same-seed-same-run",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
