//! What a client is told when something fails: SQLite's text, with the SQLSTATE that PostgreSQL has for it.

use pgwire::error::{ErrorInfo, PgWireError};
use rusqlite::ffi;

/// An ERROR, or what ends the session as FATAL.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    hint: Option<&'static str>,
    fatal: bool,
    /// Where in the statement, in bytes.
    pub(crate) offset: Option<usize>,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: None, fatal: false, offset: None }
    }

    pub(crate) fn fatal(code: &'static str, message: impl Into<String>) -> Failure {
        Failure { fatal: true, ..Failure::new(code, message) }
    }

    pub(crate) fn hint(self, hint: &'static str) -> Failure {
        Failure { hint: Some(hint), ..self }
    }

    /// After a cancel request.
    pub(crate) fn cancelled() -> Failure {
        Failure::new("57014", "canceling statement due to user request")
    }

    /// The session's thread is gone: it panicked, or the engine ends.
    pub(crate) fn ended() -> Failure {
        Failure::fatal("57P01", "terminating connection due to administrator command")
    }

    /// As pgwire wants it. `sql` is the whole query string, `begin` where the statement begins in it.
    pub(crate) fn info(self, sql: &str, begin: usize) -> ErrorInfo {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let mut info = ErrorInfo::new(severity.to_owned(), self.code.to_owned(), clean(&self.message));
        info.severity_nonlocalized = Some(severity.to_owned());
        info.hint = self.hint.map(str::to_owned);
        // Counted in characters, from one.
        let before = self.offset.and_then(|offset| sql.get(..begin + offset));
        info.position = before.map(|before| (before.chars().count() + 1).to_string());
        info
    }
}

impl From<Failure> for PgWireError {
    fn from(failure: Failure) -> PgWireError {
        PgWireError::UserError(Box::new(failure.info("", 0)))
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        match error {
            rusqlite::Error::SqliteFailure(code, message) => {
                let message = message.unwrap_or_else(|| code.to_string());
                let state = state(code.extended_code, &message).unwrap_or("XX000");
                Failure::new(state, message)
            }
            // Only a statement that is prepared has a place.
            rusqlite::Error::SqlInputError { error, msg, offset, .. } => {
                let state = state(error.extended_code, &msg).unwrap_or("42000");
                Failure { offset: usize::try_from(offset).ok(), ..Failure::new(state, msg) }
            }
            rusqlite::Error::NulError(_) => Failure::new("22021", "a zero byte in a statement"),
            other => Failure::new("XX000", other.to_string()),
        }
    }
}

/// The SQLSTATE for a result code of SQLite, and for its texts where the code says nothing. Source:
/// <https://www.postgresql.org/docs/16/errcodes-appendix.html>
fn state(extended: i32, message: &str) -> Option<&'static str> {
    let by_code = match extended {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => "23505",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "23502",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "23503",
        ffi::SQLITE_CONSTRAINT_CHECK => "23514",
        ffi::SQLITE_BUSY_SNAPSHOT => "40001",
        _ => match extended & 0xff {
            ffi::SQLITE_CONSTRAINT => "23000",
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => "55P03",
            ffi::SQLITE_INTERRUPT => "57014",
            ffi::SQLITE_FULL => "53100",
            ffi::SQLITE_NOMEM => "53200",
            ffi::SQLITE_TOOBIG => "54000",
            ffi::SQLITE_AUTH => "42501",
            ffi::SQLITE_MISMATCH => "42804",
            ffi::SQLITE_READONLY => "25006",
            ffi::SQLITE_ERROR => return by_text(message),
            _ => return None,
        },
    };
    Some(by_code)
}

/// SQLite's texts for what the SQL itself has wrong.
fn by_text(message: &str) -> Option<&'static str> {
    const TEXTS: [(&str, &str); 17] = [
        ("syntax error", "42601"),
        ("incomplete input", "42601"),
        ("unrecognized token", "42601"),
        (" values for ", "42601"),
        ("no such table", "42P01"),
        ("no such view", "42P01"),
        ("no such column", "42703"),
        ("has no column named", "42703"),
        ("ambiguous column name", "42702"),
        ("no such function", "42883"),
        ("wrong number of arguments", "42883"),
        ("no such index", "42704"),
        ("already exists", "42P07"),
        ("duplicate column name", "42701"),
        ("unknown database", "3F000"),
        ("no such savepoint", "3B001"),
        ("integer overflow", "22003"),
    ];
    TEXTS.iter().find(|(text, _)| message.contains(text)).map(|(_, state)| *state)
}

/// A zero byte would end the field.
fn clean(message: &str) -> String {
    message.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sql: &str) -> Failure {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "create table a (id integer primary key, u text unique, n int not null default 0, c int check (c > 0));
                 create table b (a int references a); insert into a (id, u) values (1, 'x')",
            )
            .unwrap();
        connection.execute(sql, []).unwrap_err().into()
    }

    #[test]
    fn an_error_of_sqlite_has_postgresqls_state() {
        for (sql, code) in [
            ("selec 1", "42601"),
            ("select (", "42601"),
            ("select * from nowhere", "42P01"),
            ("insert into nowhere values (1)", "42P01"),
            ("select missing from a", "42703"),
            ("insert into a (missing) values (1)", "42703"),
            ("select missing()", "42883"),
            ("create table a (x)", "42P07"),
            ("insert into a (id) values (1)", "23505"),
            ("insert into a (u) values ('x')", "23505"),
            ("insert into a (n) values (null)", "23502"),
            ("insert into a (c) values (0)", "23514"),
            ("insert into b values (7)", "23503"),
            ("insert into a (id) values ('x')", "42804"),
            ("select * from pg_catalog.pg_class", "42P01"),
        ] {
            let failure = failure(sql);
            assert_eq!(failure.code, code, "{sql}: {}", failure.message);
        }
    }

    #[test]
    fn a_place_is_counted_in_characters_of_the_whole_query() {
        let failure = failure("selec 1");
        assert_eq!(failure.info("select 'ä'; selec 1", 13).position.as_deref(), Some("13"));
    }

    #[test]
    fn a_fatal_failure_ends_the_session() {
        assert!(PgWireError::from(Failure::ended()).is_fatal());
        assert!(!PgWireError::from(Failure::cancelled()).is_fatal());
    }
}
