//! What keeps a message from being answered as it would like to be.

use super::orders::Farewell;
use super::wire::{Closed, NoMessage};

/// An error that a client is told.
#[derive(Debug)]
pub(super) struct SqlError {
    /// Its SQLSTATE.
    pub(super) code: String,
    /// Its text; PostgreSQL's own where PostgreSQL has the error.
    pub(super) text: String,
}

/// What stops a statement before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed.
    Failed(SqlError),
    /// A cancel request for its session.
    Cancelled,
    /// Its session was told to end.
    Told(Farewell),
    /// Its connection is gone.
    Closed,
}

/// Why a message has no answer: its error is the answer, or there is nobody left to answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is answered with an error.
    Error(SqlError),
    /// The session is over.
    Over(Over),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// There is no further message.
    NoMessage(NoMessage),
    /// It was told to end.
    Told(Farewell),
}

impl From<NoMessage> for Over {
    fn from(none: NoMessage) -> Over {
        Over::NoMessage(none)
    }
}

impl From<Closed> for Over {
    fn from(_: Closed) -> Over {
        Over::NoMessage(NoMessage::Closed)
    }
}

impl SqlError {
    /// An error with this SQLSTATE and text.
    pub(super) fn new(code: &str, text: impl Into<String>) -> SqlError {
        SqlError { code: code.to_owned(), text: text.into() }
    }
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Stop {
        Stop::Closed
    }
}

impl From<Closed> for Trouble {
    fn from(closed: Closed) -> Trouble {
        Trouble::Over(closed.into())
    }
}

impl From<SqlError> for Trouble {
    fn from(error: SqlError) -> Trouble {
        Trouble::Error(error)
    }
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Trouble {
        match stop {
            Stop::Failed(error) => Trouble::Error(error),
            Stop::Cancelled => Trouble::Error(SqlError::new("57014", "canceling statement due to user request")),
            Stop::Told(farewell) => Trouble::Over(Over::Told(farewell)),
            Stop::Closed => Closed.into(),
        }
    }
}
