//! The steps of a client, as types: what each word can say.

mod batch;
mod connection;
mod copy;
mod pause;
mod statement;

use std::time::Duration;

pub use self::batch::*;
pub use self::connection::*;
pub use self::copy::*;
pub use self::pause::*;
pub use self::statement::*;
use super::super::units::{Span, Times};

/// One thing that a client does: a bare word (`"connect"`) or a table whose first key is the word (`{ query = "20ms" }`).
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Opens the connection and waits for the first ReadyForQuery.
    Connect(Connect),
    /// Runs one statement and waits for its answer.
    Query(Query),
    /// COPY FROM STDIN: sends rows.
    CopyIn(CopyIn),
    /// COPY TO STDOUT: takes rows.
    CopyOut(CopyOut),
    /// START_REPLICATION: takes what the worker streams, and has no end of its own.
    Replication(Replication),
    /// DECLARE: opens a cursor in the transaction.
    Declare(Declare),
    /// FETCH: takes rows of a cursor.
    Fetch(Fetch),
    /// LISTEN: the session is idle afterwards, although it waits for something.
    Listen,
    /// Calls a function by a FunctionCall message and waits for its answer.
    Call(Call),
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
    /// Sends bytes that are no PostgreSQL.
    Garbage(Garbage),
    /// Stops reading, reads again, or reads slowly, from here on.
    Read(ReadAt),
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
    Close(Close),
    /// Closes the connection with a reset (RST).
    Reset,
    /// Is gone: no packet of the connection arrives any more, in either direction.
    Vanish,
}

impl Step {
    /// The words of all steps. Those of [`Step::BARE`] may stand alone.
    pub const WORDS: [&str; 29] = [
        "connect",
        "query",
        "copy_in",
        "copy_out",
        "replication",
        "declare",
        "fetch",
        "listen",
        "call",
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
        "garbage",
        "read",
        "think",
        "idle",
        "wait_until",
        "repeat",
        "disconnect",
        "close",
        "reset",
        "vanish",
    ];

    /// The words that need nothing beside them: `"connect"`.
    pub const BARE: [&str; 11] =
        ["connect", "listen", "begin", "commit", "rollback", "flush", "sync", "disconnect", "close", "reset", "vanish"];

    /// The word for this step in a file.
    pub const fn word(&self) -> &'static str {
        match self {
            Step::Connect(_) => "connect",
            Step::Query(_) => "query",
            Step::CopyIn(_) => "copy_in",
            Step::CopyOut(_) => "copy_out",
            Step::Replication(_) => "replication",
            Step::Declare(_) => "declare",
            Step::Fetch(_) => "fetch",
            Step::Listen => "listen",
            Step::Call(_) => "call",
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
            Step::Garbage(_) => "garbage",
            Step::Read(_) => "read",
            Step::Think(_) => "think",
            Step::Idle(_) => "idle",
            Step::WaitUntil(_) => "wait_until",
            Step::Repeat(_) => "repeat",
            Step::Disconnect => "disconnect",
            Step::Close(_) => "close",
            Step::Reset => "reset",
            Step::Vanish => "vanish",
        }
    }
}

/// Default of what there is one of.
pub(in crate::scenario) fn one() -> u32 {
    1
}

/// Default of what takes hardly any time.
pub(in crate::scenario) fn one_ms() -> Span {
    Span(Duration::from_millis(1))
}

/// Default of the width of a row.
pub(in crate::scenario) fn row_bytes() -> u32 {
    16
}

/// Default of how often.
pub(in crate::scenario) fn once() -> Times {
    Times::Count(1)
}

/// Default of how many unanswered requests.
pub(in crate::scenario) fn depth() -> u32 {
    8
}

/// Default of what is usual.
pub(in crate::scenario) fn yes() -> bool {
    true
}
