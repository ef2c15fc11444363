//! What keeps a message from being answered as it would like to be.

use super::wire::Closed;

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
    /// Its connection is gone.
    Closed,
}

/// Why a message has no answer: its error is the answer, or there is nobody left to answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is answered with an error.
    Error(SqlError),
    /// The connection is gone.
    Closed,
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
    fn from(_: Closed) -> Trouble {
        Trouble::Closed
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
            Stop::Closed => Trouble::Closed,
        }
    }
}
