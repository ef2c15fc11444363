//! The SQL text on which simulated clients and workers agree, as a value.
//!
//! A statement says what the worker shall do with it, and carries its request's tag as a comment, as query taggers
//! write it:
//!
//! ```text
//! /* etl.1/2 */ SELECT work('3h', rows => 1000, row_bytes => 16)
//! /* etl.1/3 */ SELECT work('20ms', rows => 1, row_bytes => 16, fails => '22012')
//! /* shop.4/2 */ INSERT work('1ms', rows => 1)
//! /* shop.4/3 */ INSERT work('1ms', rows => 2, returning => 2, row_bytes => 16)
//! /* shop.4/4 */ COMMIT
//! /* load.1/2 */ COPY work FROM STDIN
//! /* load.1/3 */ COPY triggered('5s') FROM STDIN
//! /* dump.1/2 */ COPY work('1h', rows => 5000, row_bytes => 1000) TO STDOUT
//! /* bi.1/3 */ DECLARE c CURSOR FOR SELECT work('20ms', rows => 100, row_bytes => 16)
//! /* bi.1/4 */ FETCH 1 FROM c
//! /* bus.1/2 */ LISTEN work
//! /* pool.1/2 */
//! /* standby.1/unsent */ START_REPLICATION work('250ms', row_bytes => 100)
//! ```
//!
//! Not SQL: nothing else is understood, and a worker answers anything else with a syntax error, 42601.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::cast::history::{RequestKind, Tag};

/// Widest row. Rows are made one by one, and a worker holds a whole one in memory.
pub const MAX_ROW_BYTES: u32 = 1 << 20;

/// Longest tag: a client's name, a copy's number and a request's.
const MAX_TAG_BYTES: usize = 200;

/// One statement with the tag of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The request that it belongs to. Not empty; no white space, no `*`.
    pub tag: Tag,
    /// What to do.
    pub action: Action,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
    /// Works, and then returns rows, inserts rows, or fails.
    Work(Work),
    /// COPY FROM STDIN: takes rows from the client.
    CopyIn(CopyInto),
    /// COPY TO STDOUT: its rows are spread over the time that it takes. It inserts nothing.
    CopyOut(Work),
    /// DECLARE: a cursor that works so long at each FETCH. It inserts nothing.
    Declare {
        /// Its name: letters, digits and `_`.
        cursor: String,
        /// What it works and returns.
        work: Work,
    },
    /// FETCH: the next rows of a cursor.
    Fetch {
        /// The cursor's name.
        cursor: String,
        /// At most so many.
        rows: u32,
    },
    /// LISTEN.
    Listen,
    /// An empty query, or one that is only a comment.
    Nothing,
    /// START_REPLICATION. It is no statement that ends, so no log entry has its tag.
    Replicate {
        /// Pause between two messages.
        every: Duration,
        /// Bytes of each message.
        bytes: u32,
    },
}

/// What a COPY FROM STDIN copies into, and so when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyInto {
    /// A table.
    Table,
    /// A table with a statement trigger that works for so long before the first row is read.
    Triggered(Duration),
    /// A view, which takes no rows.
    View,
    /// Nothing.
    Missing,
}

/// A statement that keeps its worker busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// For how long.
    pub takes: Duration,
    /// How many rows it inserts; none for a SELECT.
    pub inserts: Option<u32>,
    /// How many rows it returns.
    pub rows: u32,
    /// Bytes of each row, at most [`MAX_ROW_BYTES`].
    pub row_bytes: u32,
    /// The SQLSTATE with which it fails once it has worked.
    pub fails: Option<String>,
}

/// Why a text is no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Something else was needed where `near` begins.
    #[error("syntax error at or near \"{near}\": expected {expected}")]
    Syntax {
        /// What should have been there.
        expected: &'static str,
        /// The first characters of what was there.
        near: String,
    },
    /// A value that is out of its range.
    #[error("invalid value for {name}: \"{value}\"")]
    Value {
        /// Which value.
        name: &'static str,
        /// What was written.
        value: String,
    },
}

impl Statement {
    /// What kind of request it is in the event log.
    pub fn kind(&self) -> RequestKind {
        match &self.action {
            Action::Begin => RequestKind::Begin,
            Action::Commit => RequestKind::Commit,
            Action::Rollback => RequestKind::Rollback,
            Action::Work(Work { inserts: Some(_), .. }) | Action::CopyIn(_) => RequestKind::Insert,
            Action::Work(Work { inserts: None, .. }) | Action::CopyOut(_) => RequestKind::Query,
            Action::Declare { .. } | Action::Fetch { .. } => RequestKind::Query,
            Action::Listen | Action::Nothing | Action::Replicate { .. } => RequestKind::Query,
        }
    }

    /// Whether it returns rows, so that it has a row description. A SELECT does even if there are none.
    pub fn returns_rows(&self) -> bool {
        match &self.action {
            Action::Work(work) => work.inserts.is_none() || work.rows > 0,
            Action::Fetch { .. } => true,
            _ => false,
        }
    }

    /// Whether a transaction block that has failed lets it through: what ends the block does, and where there is nothing to do,
    /// there is nothing to refuse.
    pub fn runs_in_failed_block(&self) -> bool {
        matches!(self.action, Action::Commit | Action::Rollback | Action::Nothing)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/* {} */ ", self.tag)?;
        match &self.action {
            Action::Begin => f.write_str("BEGIN"),
            Action::Commit => f.write_str("COMMIT"),
            Action::Rollback => f.write_str("ROLLBACK"),
            Action::Work(work) if work.inserts.is_some() => write!(f, "INSERT {work}"),
            Action::Work(work) => write!(f, "SELECT {work}"),
            Action::CopyIn(into) => match into {
                CopyInto::Table => f.write_str("COPY work FROM STDIN"),
                CopyInto::View => f.write_str("COPY view FROM STDIN"),
                CopyInto::Missing => f.write_str("COPY missing FROM STDIN"),
                CopyInto::Triggered(works) => {
                    write!(f, "COPY triggered('{}') FROM STDIN", humantime::format_duration(*works))
                }
            },
            Action::CopyOut(work) => write!(f, "COPY {work} TO STDOUT"),
            Action::Declare { cursor, work } => write!(f, "DECLARE {cursor} CURSOR FOR SELECT {work}"),
            Action::Fetch { cursor, rows } => write!(f, "FETCH {rows} FROM {cursor}"),
            Action::Listen => f.write_str("LISTEN work"),
            Action::Nothing => Ok(()),
            Action::Replicate { every, bytes } => {
                let every = humantime::format_duration(*every);
                write!(f, "START_REPLICATION work('{every}', row_bytes => {bytes})")
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let takes = humantime::format_duration(self.takes);
        match self.inserts {
            None => write!(f, "work('{takes}', rows => {}, row_bytes => {}", self.rows, self.row_bytes)?,
            Some(rows) => {
                write!(f, "work('{takes}', rows => {rows}")?;
                if self.rows > 0 {
                    write!(f, ", returning => {}, row_bytes => {}", self.rows, self.row_bytes)?;
                }
            }
        }
        if let Some(code) = &self.fails {
            write!(f, ", fails => '{code}'")?;
        }
        f.write_str(")")
    }
}

impl FromStr for Statement {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Statement, Unreadable> {
        let mut rest = Rest(text.trim());
        rest.take("/*", "a comment with the request's tag")?;
        let Some((tag, after)) = rest.0.split_once("*/") else {
            return Err(rest.unlike("the end of the comment"));
        };
        let tag = tag.trim();
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.contains(|c: char| c.is_whitespace() || c == '*') {
            return Err(Unreadable::Value { name: "tag", value: tag.chars().take(MAX_TAG_BYTES).collect() });
        }
        rest = Rest(after.trim_start());
        let action = match rest.word() {
            "" if rest.0.is_empty() => Action::Nothing,
            "BEGIN" => Action::Begin,
            "COMMIT" => Action::Commit,
            "ROLLBACK" => Action::Rollback,
            "SELECT" => Action::Work(rest.work(false)?),
            "INSERT" => Action::Work(rest.work(true)?),
            "COPY" => rest.copy()?,
            "DECLARE" => rest.declare()?,
            "FETCH" => rest.fetch()?,
            "LISTEN" => {
                rest.take("work", "work")?;
                Action::Listen
            }
            "START_REPLICATION" => {
                let work = rest.work(false)?;
                Action::Replicate { every: work.takes, bytes: work.row_bytes }
            }
            _ => {
                let known =
                    "BEGIN, COMMIT, ROLLBACK, SELECT, INSERT, COPY, DECLARE, FETCH, LISTEN or START_REPLICATION";
                return Err(rest.unlike(known));
            }
        };
        if !rest.0.is_empty() {
            return Err(rest.unlike("the end of the statement"));
        }
        Ok(Statement { tag: tag.to_owned(), action })
    }
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// `work FROM STDIN`, `triggered('5s') FROM STDIN`, or `work('1ms', …) TO STDOUT`
    fn copy(&mut self) -> Result<Action, Unreadable> {
        const TARGETS: [(&str, CopyInto); 3] = [
            ("work FROM STDIN", CopyInto::Table),
            ("view FROM STDIN", CopyInto::View),
            ("missing FROM STDIN", CopyInto::Missing),
        ];
        for (text, into) in TARGETS {
            if let Some(after) = self.0.strip_prefix(text) {
                self.0 = after.trim_start();
                return Ok(Action::CopyIn(into));
            }
        }
        if let Some(after) = self.0.strip_prefix("triggered") {
            self.0 = after.trim_start();
            self.take("(", "(")?;
            let works = self.duration("how long the trigger works, in quotes")?;
            self.take(")", ")")?;
            self.take("FROM STDIN", "FROM STDIN")?;
            return Ok(Action::CopyIn(CopyInto::Triggered(works)));
        }
        let work = self.work(false)?;
        self.take("TO STDOUT", "TO STDOUT")?;
        Ok(Action::CopyOut(work))
    }

    /// `name CURSOR FOR SELECT work('1ms', …)`
    fn declare(&mut self) -> Result<Action, Unreadable> {
        let cursor = self.name()?;
        self.take("CURSOR FOR SELECT", "CURSOR FOR SELECT")?;
        Ok(Action::Declare { cursor, work: self.work(false)? })
    }

    /// `10 FROM name`
    fn fetch(&mut self) -> Result<Action, Unreadable> {
        let digits = self.word();
        let rows = digits.parse().map_err(|_| Unreadable::Value { name: "rows", value: digits.to_owned() })?;
        self.take("FROM", "FROM")?;
        Ok(Action::Fetch { cursor: self.name()?, rows })
    }

    fn name(&mut self) -> Result<String, Unreadable> {
        match self.word() {
            "" => Err(self.unlike("a name")),
            name => Ok(name.to_owned()),
        }
    }

    /// `work('1ms', name => value, …)`
    fn work(&mut self, inserts: bool) -> Result<Work, Unreadable> {
        self.take("work", "work(…)")?;
        self.take("(", "(")?;
        let takes = self.duration("how long to work, in quotes")?;
        let (mut rows, mut returning, mut row_bytes, mut fails) = (None, None, None, None);
        while self.0.starts_with(',') {
            self.take(",", ",")?;
            // Each name at most once: `set` refuses the second.
            match self.word() {
                "rows" => self.number("rows", u32::MAX, &mut rows)?,
                "returning" if inserts => self.number("returning", u32::MAX, &mut returning)?,
                "row_bytes" => self.number("row_bytes", MAX_ROW_BYTES, &mut row_bytes)?,
                "fails" if fails.is_none() => {
                    self.take("=>", "=>")?;
                    fails = Some(sqlstate(self.quoted("a SQLSTATE, in quotes")?)?);
                }
                _ => return Err(self.unlike("rows, returning, row_bytes or fails, each at most once")),
            }
        }
        self.take(")", ")")?;
        let row_bytes = row_bytes.unwrap_or(0);
        Ok(if inserts {
            Work { takes, inserts: Some(rows.unwrap_or(0)), rows: returning.unwrap_or(0), row_bytes, fails }
        } else {
            Work { takes, inserts: None, rows: rows.unwrap_or(0), row_bytes, fails }
        })
    }

    fn duration(&mut self, expected: &'static str) -> Result<Duration, Unreadable> {
        let text = self.quoted(expected)?;
        humantime::parse_duration(text).map_err(|_| Unreadable::Value { name: "duration", value: text.to_owned() })
    }

    fn number(&mut self, name: &'static str, max: u32, into: &mut Option<u32>) -> Result<(), Unreadable> {
        self.take("=>", "=>")?;
        let digits = self.word();
        let number = digits.parse().ok().filter(|number| *number <= max && into.is_none());
        let number = number.ok_or_else(|| Unreadable::Value { name, value: digits.to_owned() })?;
        *into = Some(number);
        Ok(())
    }

    fn quoted(&mut self, expected: &'static str) -> Result<&'a str, Unreadable> {
        self.take("'", expected)?;
        let Some((inside, after)) = self.0.split_once('\'') else {
            return Err(self.unlike("a closing quote"));
        };
        self.0 = after.trim_start();
        Ok(inside)
    }

    fn take(&mut self, what: &str, expected: &'static str) -> Result<(), Unreadable> {
        match self.0.strip_prefix(what) {
            Some(after) => self.0 = after.trim_start(),
            None => return Err(self.unlike(expected)),
        }
        Ok(())
    }

    /// The letters, digits and underscores that come next; possibly none.
    fn word(&mut self) -> &'a str {
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.0.len());
        let (word, after) = self.0.split_at(end);
        self.0 = after.trim_start();
        word
    }

    fn unlike(&self, expected: &'static str) -> Unreadable {
        /// As much of the text as an error message needs.
        const NEAR: usize = 20;
        Unreadable::Syntax { expected, near: self.0.chars().take(NEAR).collect() }
    }
}

fn sqlstate(code: &str) -> Result<String, Unreadable> {
    let well_formed = code.len() == 5 && code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    if !well_formed {
        return Err(Unreadable::Value { name: "SQLSTATE", value: code.to_owned() });
    }
    Ok(code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work { takes: Duration::from_millis(1500), inserts: None, rows: 1000, row_bytes: 16, fails: None }
    }

    fn statement(action: Action) -> Statement {
        Statement { tag: "etl.1/2".to_owned(), action }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all = [
            Action::Begin,
            Action::Commit,
            Action::Rollback,
            Action::Work(work()),
            Action::Work(Work { takes: Duration::ZERO, rows: 0, ..work() }),
            Action::Work(Work { takes: Duration::new(86_400 * 400, 1), row_bytes: MAX_ROW_BYTES, ..work() }),
            Action::Work(Work { fails: Some("22012".to_owned()), ..work() }),
            Action::Work(Work { inserts: Some(3), rows: 0, row_bytes: 0, ..work() }),
            Action::Work(Work { inserts: Some(3), rows: 3, fails: Some("23505".to_owned()), ..work() }),
            Action::CopyIn(CopyInto::Table),
            Action::CopyIn(CopyInto::View),
            Action::CopyIn(CopyInto::Missing),
            Action::CopyIn(CopyInto::Triggered(Duration::from_secs(5))),
            Action::CopyOut(work()),
            Action::Declare { cursor: "c_1".to_owned(), work: work() },
            Action::Fetch { cursor: "c_1".to_owned(), rows: 10 },
            Action::Listen,
            Action::Nothing,
            Action::Replicate { every: Duration::from_millis(250), bytes: 100 },
        ];
        for action in all {
            let statement = statement(action);
            assert_eq!(statement.to_string().parse(), Ok(statement));
        }
    }

    #[test]
    fn the_text_is_the_documented_one() {
        let hours = Work { takes: Duration::from_secs(3 * 3600), ..work() };
        let select = statement(Action::Work(hours));
        assert_eq!(select.to_string(), "/* etl.1/2 */ SELECT work('3h', rows => 1000, row_bytes => 16)");
        let one = Work { takes: Duration::from_millis(1), inserts: Some(1), rows: 0, row_bytes: 0, fails: None };
        assert_eq!(statement(Action::Work(one)).to_string(), "/* etl.1/2 */ INSERT work('1ms', rows => 1)");
        assert_eq!(statement(Action::Begin).to_string(), "/* etl.1/2 */ BEGIN");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "SELECT 1",
            "/* a.1/1",
            "/* */ BEGIN",
            "/* a b */ BEGIN",
            "/* a.1/1 */ BEGIN; COMMIT",
            "/* a.1/1 */ SELECT work(3h)",
            "/* a.1/1 */ SELECT work('3x')",
            "/* a.1/1 */ SELECT work('3h'",
            "/* a.1/1 */ SELECT work('3h', rows => )",
            "/* a.1/1 */ SELECT work('3h', rows => -1)",
            "/* a.1/1 */ SELECT work('3h', rows => 1, rows => 1)",
            "/* a.1/1 */ SELECT work('3h', rows => 4294967296)",
            "/* a.1/1 */ SELECT work('3h', row_bytes => 1048577)",
            "/* a.1/1 */ SELECT work('3h', returning => 1)",
            "/* a.1/1 */ SELECT work('3h', fails => '2201')",
            "/* a.1/1 */ SELECT work('3h', fails => '22012', fails => '22012')",
            "/* a.1/1 */ COPY work",
            "/* a.1/1 */ COPY triggered FROM STDIN",
            "/* a.1/1 */ COPY triggered('5s') TO STDOUT",
            "/* a.1/1 */ COPY work FROM STDIN TO STDOUT",
            "/* a.1/1 */ COPY work('3h', returning => 1) TO STDOUT",
            "/* a.1/1 */ DECLARE CURSOR FOR SELECT work('3h')",
            "/* a.1/1 */ DECLARE c CURSOR FOR INSERT work('3h')",
            "/* a.1/1 */ FETCH FROM c",
            "/* a.1/1 */ FETCH 1 FROM",
            "/* a.1/1 */ LISTEN",
        ] {
            assert!(text.parse::<Statement>().is_err(), "{text}");
        }
    }
}
