//! What a client can do: each word of a client's steps, defined once.
//!
//! From here come the type, the reader, the JSON Schema, what `sim steps` and the README say of the word, and how one is drawn
//! at random. What a client then sends is in the room that plays it.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator};
use toml::de::DeTable;

use super::super::define::{Draw, Key, body, choices, last, maybe, steps, table, text};
use super::super::error::Problem;
use super::super::read::Fields;
use super::super::suggest::one_of;
use super::super::units::{Patience, Reading, Span, SqlState, Times};
use super::super::values::{AboveZero, Name, NotEmpty};
use super::choice::{Closing, CopyTarget, Protocol, Until, Version};
use super::need::Need;

/// A word that a step can begin with.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// How it is written.
    pub name: &'static str,
    /// What a client does there.
    pub help: &'static str,
    /// A step with it, as it may stand in a file.
    pub like: &'static str,
    /// Its keys. The first has the name of the word, but for `connect`, whose keys are in a table of their own.
    pub keys: &'static [Key],
    /// What it needs of a network.
    pub needs: &'static [Need],
    /// The step if the word stands alone, if it can.
    pub(in crate::scenario) alone: Option<fn() -> Step>,
    /// The step as a table, if it can be one.
    pub(in crate::scenario) table: Option<Body>,
}

/// How a step that is a table is read, and its schema.
#[derive(Clone, Copy, Debug)]
pub(in crate::scenario) struct Body {
    pub(in crate::scenario) read: fn(&DeTable<'_>, &Word, std::ops::Range<usize>, &mut Vec<Problem>) -> Option<Step>,
    pub(in crate::scenario) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Word {
    /// The word that is written so.
    pub fn of(name: &str) -> Option<&'static Word> {
        Step::WORDS.iter().find(|word| word.name == name)
    }

    /// Whether its keys stand in a table of their own: `{ connect = { user = "app" } }`.
    pub fn is_nested(&self) -> bool {
        self.keys.first().is_some_and(|key| key.name != self.name)
    }
}

/// What a step sends, as far as its connection and the counts of a file depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// A request with a sync point at its end.
    Request {
        /// Whether the next step begins behind its answer.
        waits: bool,
        /// How many rows it inserts.
        inserts: u32,
    },
    /// A part of a batch, which a `sync` is to end. Nothing is waited for.
    Batch {
        /// How many rows it inserts.
        inserts: u32,
    },
    /// Nothing that is answered, or something that only its own word describes.
    Other,
}

/// A request that is waited for, and inserts nothing.
const ASKS: Sends = Sends::Request { waits: true, inserts: 0 };

/// The most rows of one statement.
const MAX_ROWS: u32 = 10_000_000;
/// The most bytes of one row.
const MAX_ROW_BYTES: u32 = 1024 * 1024;
/// The most rows that one statement inserts.
const MAX_INSERTS: u32 = 1_000_000;
/// The largest buffer of a client.
const MAX_BUFFER: u32 = 16 * 1024 * 1024;
/// The most unanswered statements of one client.
const MAX_DEPTH: u32 = 1024;
/// More bytes than anybody reads at once.
const MAX_GARBAGE: u32 = 1024 * 1024;

/// What a scenario takes for a row, a pause and a number of rows if it is to end soon.
const SOME_ROWS: Draw = Draw::Whole(0, 200);
const SOME_BYTES: Draw = Draw::Whole(1, 2000);
const NAMES: Draw = Draw::OneOf(&["\"app\"", "\"reports\""]);
const SHORT: Draw = Draw::Millis(0, 2000);
const MINUTES: Draw = Draw::Millis(0, 300_000);

/// A text of the startup packet, where a NUL is the end of it.
const STARTUP_TEXT: Name = Name {
    what: "a name that can be sent",
    most: 63,
    bytes: |b| b != 0,
    expected: "bytes without NUL, as a name in PostgreSQL",
    class: r"[^\x00]",
};

/// A name of SQL, with PostgreSQL's own limit.
const CURSOR: Name = Name {
    what: "a cursor's name",
    most: 63,
    bytes: |b| b.is_ascii_alphanumeric() || b == b'_',
    expected: "letters, digits or `_`",
    class: "[A-Za-z0-9_]",
};

steps! {
    /// Opens the connection and waits for the first ReadyForQuery.
    "connect" Connect(Connect(Default) {
        /// `user` of the startup packet. Default `app`.
        user: Option<String> [STARTUP_TEXT] => NAMES,
        /// `database` of the startup packet. Default `app`.
        database: Option<String> [STARTUP_TEXT] => NAMES,
        /// Ask for TLS first, as libpq's `sslmode=prefer` does; the answer is no, and the client goes on in the clear.
        tls: bool = false,
        /// How far to go: to `"ready"`, or no further than TCP (`"tcp"`), the answer to the request for TLS (`"tls"`), half of
        /// the startup packet (`"startup"`), or the worker's question for a password (`"password"`).
        until: Until = Until::Ready,
        /// Pause between the TCP connection and the startup packet.
        pause: Span = Span::default() => SHORT,
        /// Version of the protocol to ask for; in `"3.2"` secrets of cancel keys are longer.
        version: Version = Version::V3_0,
    } check |fields| {
        if let (Some(true), Some(Until::Tcp)) = (tls, until) {
            fields.clash("until", "nothing is asked for", "sends not a byte, but …", "tls", "… asks for TLS");
        }
    }),
    like: r#"{ connect = { user = "app" } }"#,
    alone: Step::Connect(Connect::default()),
    by_hand[connect]: connect.tls || connect.until != Until::Ready || connect.pause != Span::default()
        || connect.version != Version::V3_0;

    /// Runs one statement and waits for its answer.
    "query" Query(Query {
        /// How long the worker works before it answers.
        query: Span => MINUTES,
        /// How many rows it returns.
        rows: u32 [0..=MAX_ROWS] = 1 => SOME_ROWS,
        /// Bytes of each row.
        row_bytes: u32 [0..=MAX_ROW_BYTES] = 16 => SOME_BYTES,
        /// The statement fails with this SQLSTATE instead of returning rows.
        fails: Option<SqlState>,
        /// Sent as a simple Query, or with Parse, Bind, Describe, Execute and Sync.
        protocol: Protocol = Protocol::Simple,
        /// Sends a cancel request this long after the statement.
        cancel_after: Option<Span> => SHORT,
        /// Whether to wait for the answer. `false`: the next step begins at once.
        wait: bool = true,
    } check |fields| { check_wait(fields, wait) }),
    like: r#"{ query = "20ms" }"#,
    sends[query]: Sends::Request { waits: query.wait, inserts: 0 },
    by_hand[query]: !query.wait;

    /// An empty query, with which pools and drivers ask whether a connection still lives. Answered with EmptyQueryResponse.
    "ping" Ping(Ping {
        /// How it is sent: `"simple"`, as pgx sends `-- ping`; `"extended"`, as JDBC's `isValid` does; or as one of a `"batch"`,
        /// with Parse, Bind and Execute, which a `"flush"` or a `"sync"` is to follow.
        ping: PingAs,
    }),
    like: r#"{ ping = "extended" }"#,
    alone: Step::Ping(Ping { ping: PingAs::Simple }),
    sends[step]: if step.ping == PingAs::Batch { Sends::Batch { inserts: 0 } } else { ASKS },
    by_hand[step]: step.ping == PingAs::Batch;

    /// COPY FROM STDIN: sends rows, which are committed as inserted rows are.
    "copy_in" CopyIn(CopyIn {
        /// How many rows to send, each as a CopyData message of its own, the first one at once.
        copy_in: u32 [1..=MAX_ROWS] => Draw::Whole(1, 200),
        /// Pause between two rows; `"0s"`: none.
        every: Span = MS => SHORT,
        /// Bytes of each row, its line break included.
        row_bytes: u32 [1..=MAX_ROW_BYTES] = 16 => SOME_BYTES,
        /// After so many rows, send nothing more for ever: neither CopyDone nor CopyFail.
        stops_after: Option<u32> [0..=MAX_ROWS] => Draw::Whole(0, 3),
        /// Keep rows back, as client libraries do, until so many bytes are full or all rows are there; 0: not at all.
        buffer: u32 [0..=MAX_BUFFER] = 0 => Draw::Whole(0, 16_384),
        /// End with CopyFail instead of CopyDone: the statement fails with 57014.
        fails: bool = false,
        /// Send a cancel request this long after the statement. As in PostgreSQL, the worker notices it with the next row.
        cancel_after: Option<Span> => SHORT,
        /// Sent as a simple Query, or with Parse, Bind, Describe and Execute.
        protocol: Protocol = Protocol::Simple,
        /// In the extended protocol: send a Sync right behind the Execute, as libpq and tokio-postgres do, and another one
        /// behind CopyDone. A COPY that has begun to read swallows the first. `false`: a Flush, and the only Sync behind
        /// CopyDone.
        early_sync: bool = true,
        /// In the extended protocol: send a Sync behind the data, as all do that mean to COPY. `false`, behind an early one: as a
        /// driver that knows of no COPY. One that was refused before it read is answered by the first Sync, any other never.
        late_sync: bool = true,
        /// What it copies into: a `"table"`; a `"view"`, which PostgreSQL refuses with 42809 behind CopyInResponse and before it
        /// reads a byte; or a `"missing"` one, refused with 42P01 and no CopyInResponse.
        into: CopyTarget = CopyTarget::Table,
        /// How long a statement trigger works, behind CopyInResponse and before the first row is read. Unset: there is none.
        trigger: Option<Span> => SHORT,
    } check |fields| {
        if let (Some(rows), Some(Some(stops_after))) = (copy_in, stops_after)
            && rows < stops_after
        {
            fields.clash("stops_after", "there are not so many rows", "more than …", "copy_in", "… these");
        }
        if let (Some(Some(_)), Some(true)) = (stops_after, fails) {
            let ends = "… after this nothing is sent";
            fields.clash("fails", "this COPY has no end", "ends it, but …", "stops_after", ends);
        }
        if let (Some(Protocol::Simple), Some(false)) = (protocol, early_sync) {
            let problem =
                Problem::new(fields.place("early_sync"), "a simple Query has no Sync", "there is none to send");
            fields.problems().push(problem.help("`protocol = \"extended\"` beside it"));
        }
        if let (Some(true), Some(false)) = (early_sync.map(|early| !early || protocol == Some(Protocol::Simple)), late_sync) {
            let problem = Problem::new(fields.place("late_sync"), "this COPY would have no Sync at all", "the only one");
            fields.problems().push(problem.help("`protocol = \"extended\"` and an `early_sync` beside it"));
        }
        if into.is_some_and(|into| into != CopyTarget::Table) && fields.has("trigger") {
            let refuses = "… the worker refuses to copy into this before";
            fields.clash("trigger", "this COPY never comes to a trigger", "works, but …", "into", refuses);
        }
    }),
    like: "{ copy_in = 1000 }",
    sends[copy]: Sends::Request {
        waits: true,
        inserts: if copy.fails || copy.stops_after.is_some() || copy.into != CopyTarget::Table { 0 } else { copy.copy_in },
    },
    by_hand: true;

    /// COPY TO STDOUT: takes rows.
    "copy_out" CopyOut(CopyOut {
        /// How many rows the worker sends.
        copy_out: u32 [0..=MAX_ROWS] => SOME_ROWS,
        /// Bytes of each row, its line break included.
        row_bytes: u32 [1..=MAX_ROW_BYTES] = 16 => SOME_BYTES,
        /// How long the worker works; the rows come evenly spread over it.
        takes: Span = MS => MINUTES,
        /// Send a cancel request this long after the statement.
        cancel_after: Option<Span> => SHORT,
        /// Whether to wait for the answer. `false`: the next step begins at once.
        wait: bool = true,
    } check |fields| { check_wait(fields, wait) }),
    like: "{ copy_out = 1000 }",
    sends[copy]: Sends::Request { waits: copy.wait, inserts: 0 },
    by_hand: true;

    /// START_REPLICATION: takes what the worker streams, and reports how far it has come. Neither is ever answered, so it is no
    /// request that anything can be expected of.
    "replication" Replication(Replication {
        /// After how long the client ends it with CopyDone, or `"forever"`.
        replication: Patience => MINUTES,
        /// Pause between two messages of the worker.
        every: Span [AboveZero] = Span(Duration::from_secs(1)) => Draw::Millis(100, 5000),
        /// Bytes of each message.
        row_bytes: u32 [1..=MAX_ROW_BYTES] = 16 => SOME_BYTES,
        /// Pause between two status updates of the client: 10s is that of PostgreSQL's own receivers.
        status: Span [AboveZero] = Span(Duration::from_secs(10)) => Draw::Millis(1000, 20_000),
    }),
    like: r#"{ replication = "forever" }"#,
    by_hand: true;

    /// DECLARE: opens a cursor in the transaction, and with it the cursor ends.
    "declare" Declare(Declare {
        /// Its name: letters, digits and `_`.
        declare: String [CURSOR] => Draw::OneOf(&["\"c\""]),
        /// How long the worker works at each FETCH.
        query: Span = MS => SHORT,
        /// How many rows it has in all.
        rows: u32 [0..=MAX_ROWS] = 1 => SOME_ROWS,
        /// Bytes of each row.
        row_bytes: u32 [0..=MAX_ROW_BYTES] = 16 => SOME_BYTES,
    }),
    like: r#"{ declare = "c", rows = 100 }"#,
    sends: ASKS;

    /// FETCH: takes the next rows of a cursor.
    "fetch" Fetch(Fetch {
        /// The cursor's name.
        fetch: String [CURSOR] => Draw::OneOf(&["\"c\""]),
        /// How many rows to take at most.
        rows: u32 [0..=MAX_ROWS] = 1 => SOME_ROWS,
    }),
    like: r#"{ fetch = "c" }"#,
    sends: ASKS;

    /// LISTEN: the session is idle afterwards, although it waits for something.
    "listen" Listen,
    like: r#""listen""#,
    alone: Step::Listen,
    sends: ASKS;

    /// Calls a function by a FunctionCall message, as old drivers do for large objects, and waits for its answer.
    "call" Call(Call {
        /// How long the worker works before it answers.
        call: Span => SHORT,
    }),
    like: r#"{ call = "20ms" }"#,
    sends: ASKS,
    by_hand: true;

    /// BEGIN.
    "begin" Begin,
    like: r#""begin""#,
    alone: Step::Begin,
    sends: ASKS;

    /// COMMIT.
    "commit" Commit,
    like: r#""commit""#,
    alone: Step::Commit,
    sends: ASKS;

    /// ROLLBACK.
    "rollback" Rollback,
    like: r#""rollback""#,
    alone: Step::Rollback,
    sends: ASKS;

    /// Inserts rows, which are committed with their transaction, and waits for the answer.
    "insert" Insert(Insert {
        /// How many rows it inserts.
        insert: u32 [1..=MAX_INSERTS] => Draw::Whole(1, 10),
        /// How long the worker works before it answers.
        takes: Span = MS => MINUTES,
    }),
    like: "{ insert = 1 }",
    sends[insert]: Sends::Request { waits: true, inserts: insert.insert };

    /// Sends Parse, without Flush or Sync, and waits for nothing.
    "prepare" Prepare(Prepare {
        /// How long the statement would work.
        prepare: Span => SHORT,
    }),
    like: r#"{ prepare = "1ms" }"#,
    sends: Sends::Batch { inserts: 0 },
    by_hand: true;

    /// Sends Parse, Bind and Execute of one statement, without Flush or Sync, and waits for nothing.
    "execute" Execute(Execute {
        /// How long the worker works.
        execute: Span => MINUTES,
        /// How many rows it inserts.
        insert: u32 [0..=MAX_INSERTS] = 0 => Draw::Whole(0, 10),
        /// How many rows it returns. Default 1, or 0 if it inserts.
        rows: Option<u32> [0..=MAX_ROWS] => SOME_ROWS,
        /// Return at most this many rows and suspend the portal; 0: all.
        max_rows: u32 = 0 => Draw::Whole(0, 20),
        /// Send a cancel request this long after the statement, if it is not answered then.
        cancel_after: Option<Span> => SHORT,
    }),
    like: r#"{ execute = "20ms" }"#,
    sends[execute]: Sends::Batch { inserts: execute.insert },
    by_hand: true;

    /// Sends Flush and waits for the answers of everything sent since the last sync point.
    "flush" Flush,
    like: r#""flush""#,
    alone: Step::Flush,
    sends: ASKS,
    by_hand: true;

    /// Sends Sync and waits for ReadyForQuery.
    "sync" Sync,
    like: r#""sync""#,
    alone: Step::Sync,
    sends: ASKS,
    by_hand: true;

    /// Sends statements without waiting for their answers.
    "pipeline" Pipeline(Pipeline {
        /// The statements: `query`, `insert`, `begin`, `commit` or `rollback` steps, each its own sync point.
        pipeline: Vec<Step> [NotEmpty("step")] => Draw::Steps(&Pipeline::WORDS),
        /// How often to send them all.
        repeat: Times = Times::Count(1),
        /// How many may be unanswered before the client waits.
        depth: u32 [1..=MAX_DEPTH] = 8 => Draw::Whole(1, 64),
    } check |fields| {
        let places = fields.entries("pipeline");
        for (step, at) in pipeline.iter().flatten().zip(places) {
            if !Pipeline::WORDS.contains(&step.word()) {
                let message = format!("`{}` can't stand in a pipeline", step.word());
                let expected = format!("expected {}", one_of(Pipeline::WORDS));
                fields.problems().push(Problem::new(at, message, expected));
            }
        }
    }),
    like: r#"{ pipeline = [{ query = "5ms" }] }"#,
    by_hand: true,
    // Who never stops sending is closed over bytes that it has sent and nobody has read.
    needs: Reset HalfClose;

    /// Sends a statement's message in two parts.
    "partial" Partial(Partial {
        /// How many bytes of the Query message to send first.
        partial: u32 [1..=Partial::MAX_BYTES] => Draw::Whole(1, Partial::MAX_BYTES),
        /// How long the worker works once it has the whole message.
        query: Span = MS => SHORT,
        /// When to send the rest, after the first part; the step then waits for the answer. Unset: never.
        after: Option<Span> => MINUTES,
    }),
    like: "{ partial = 12 }",
    sends[partial]: Sends::Request { waits: partial.after.is_some(), inserts: 0 },
    by_hand: true;

    /// Sends bytes that are no PostgreSQL. Nothing can be sent behind them.
    "garbage" Garbage(Garbage {
        /// How many bytes.
        garbage: u32 [1..=MAX_GARBAGE] => Draw::Whole(1, 4096),
    }),
    like: "{ garbage = 16 }",
    by_hand: true;

    /// Stops reading, reads again, or reads slowly, from here on.
    "read" Read(ReadAt {
        /// `"stop"`: not at all, so that it sees neither answers nor the end of the connection. A rate such as `"100B/s"`,
        /// `"5KB/s"` or `"1MB/s"`: so many bytes each second. `"resume"`: everything, as at first.
        read: Reading,
    }),
    like: r#"{ read = "stop" }"#,
    by_hand: true,
    needs: Backpressure;

    /// Does nothing for this long; the client meant to go on.
    "think" Think(Think {
        /// How long the client pauses.
        think: Span => MINUTES,
    }),
    like: r#"{ think = "40s" }"#;

    /// Does nothing for this long, or forever; the client has nothing more to do for now.
    "idle" Idle(Idle {
        /// How long, or `"forever"`.
        idle: Patience => MINUTES,
    }),
    like: r#"{ idle = "forever" }"#;

    /// Does nothing until this time of the run.
    "wait_until" WaitUntil(WaitUntil {
        /// Time of the run, from its beginning.
        wait_until: Span => MINUTES,
    }),
    like: r#"{ wait_until = "70s" }"#;

    /// Does steps again and again.
    "repeat" Repeat(Repeat {
        /// How often to do the steps, or `"forever"`.
        repeat: Times,
        /// The steps to do again.
        steps: Vec<Step> [NotEmpty("step")] => Draw::Steps(&["query", "ping", "insert", "think", "call"]),
    }),
    like: r#"{ repeat = 10, steps = [{ query = "1ms" }] }"#,
    by_hand[repeat]: repeat.steps.iter().any(Step::by_hand);

    /// Ends the session with Terminate.
    "disconnect" Disconnect,
    like: r#""disconnect""#,
    alone: Step::Disconnect;

    /// Closes the connection (FIN) without Terminate.
    "close" Close(Close(Default) {
        /// `"full"`: nobody is there any more, as when the client's process is killed; what still arrives is answered with a
        /// reset. `"half"`: the client sends nothing more, and reads on to the end.
        close: Closing,
    }),
    like: r#"{ close = "half" }"#,
    alone: Step::Close(Close::default()),
    by_hand: true,
    needs: HalfClose;

    /// Closes the connection with a reset (RST).
    "reset" Reset,
    like: r#""reset""#,
    alone: Step::Reset,
    by_hand: true,
    needs: AbortiveClose;

    /// Is gone: no packet of the connection arrives any more, in either direction.
    "vanish" Vanish,
    like: r#""vanish""#,
    alone: Step::Vanish,
    by_hand: true,
    needs: Vanish;
}

choices! {
    /// How an empty query is sent.
    PingAs, "way to ping" {
        /// One Query message.
        Simple = "simple",
        /// Parse, Bind, Describe, Execute, Sync.
        Extended = "extended",
        /// Parse, Bind, Execute: more of the batch follows.
        Batch = "batch",
    }
}

/// What takes hardly any time.
const MS: Span = Span(Duration::from_millis(1));

impl Step {
    /// The steps inside it, if it is made of others.
    pub fn inner(&self) -> &[Step] {
        match self {
            Step::Repeat(repeat) => &repeat.steps,
            Step::Pipeline(pipeline) => &pipeline.pipeline,
            _ => &[],
        }
    }
}

impl Partial {
    /// The most bytes that are certain to be less than the whole message, whatever its statement: the shortest is
    /// `/* c.1/1 */ SELECT work('0', rows => 1, row_bytes => 16)`, with five bytes before it and one behind.
    pub const MAX_BYTES: u32 = 60;
}

impl Pipeline {
    /// The words of the steps that can stand in a pipeline.
    pub const WORDS: [&str; 5] = ["query", "insert", "begin", "commit", "rollback"];
}

/// Who cancels is the step itself: it can't go on at once.
fn check_wait(fields: &mut Fields<'_, '_, '_>, wait: Option<bool>) {
    if wait == Some(false) && fields.has("cancel_after") {
        let cancels = "… cancels later";
        fields.clash("wait", "nobody is there to cancel", "goes on at once, but …", "cancel_after", cancels);
    }
}
