//! The prepared statements and portals of one session, and PostgreSQL's errors about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::request::Target;
use super::trouble::SqlError;
use crate::cast::statement::{Action, Statement, Work};

/// Most prepared statements, and most portals, of one session. A scenario's client has one of each.
const MAX_PREPARED: usize = 1_000;

/// Prepared statements and portals by name; the unnamed ones have the empty name.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    statements: BTreeMap<String, Text>,
    portals: BTreeMap<String, Portal>,
}

/// What was parsed; none for a text without a statement in it.
pub(super) type Text = Option<Arc<Statement>>;

/// A statement that is bound and may run.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    /// What it runs.
    pub(super) statement: Text,
    /// How far it has come.
    pub(super) progress: Progress,
}

/// How far a portal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It did not run yet.
    New,
    /// So many rows were returned, and there may be more.
    Suspended { rows: u32 },
    /// It has run to its end.
    Done,
}

impl Prepared {
    /// Parse.
    pub(super) fn parse(&mut self, name: String, statement: Text) -> Result<(), SqlError> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        room_for_one_more(&self.statements)?;
        self.statements.insert(name, statement);
        Ok(())
    }

    /// Bind. There are no statements with parameters.
    pub(super) fn bind(&mut self, portal: String, statement: Text, parameters: u16) -> Result<(), SqlError> {
        if parameters != 0 {
            let text = format!("bind message supplies {parameters} parameters, but prepared statement requires 0");
            return Err(SqlError::new("08P01", text));
        }
        self.open(portal, Portal { statement, progress: Progress::New })
    }

    /// DECLARE. A cursor is a portal that nobody has to bind.
    pub(super) fn declare(&mut self, cursor: &str, query: Statement) -> Result<(), SqlError> {
        let progress = Progress::Suspended { rows: 0 };
        self.open(cursor.to_owned(), Portal { statement: Some(Arc::new(query)), progress })
    }

    fn open(&mut self, name: String, portal: Portal) -> Result<(), SqlError> {
        if !name.is_empty() && self.portals.contains_key(&name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        room_for_one_more(&self.portals)?;
        self.portals.insert(name, portal);
        Ok(())
    }

    /// The prepared statement of that name.
    pub(super) fn statement(&self, name: &str) -> Result<Text, SqlError> {
        self.statements.get(name).cloned().ok_or_else(|| match name {
            "" => SqlError::new("26000", "unnamed prepared statement does not exist"),
            name => SqlError::new("26000", format!("prepared statement \"{name}\" does not exist")),
        })
    }

    /// The portal of that name.
    pub(super) fn portal(&self, name: &str) -> Result<Portal, SqlError> {
        let missing = || SqlError::new("34000", format!("portal \"{name}\" does not exist"));
        self.portals.get(name).cloned().ok_or_else(missing)
    }

    /// What the cursor of that name works, and how many rows it has returned.
    pub(super) fn cursor(&self, name: &str) -> Result<(Work, u32), SqlError> {
        let missing = || SqlError::new("34000", format!("cursor \"{name}\" does not exist"));
        let portal = self.portals.get(name).ok_or_else(missing)?;
        match (portal.statement.as_ref().map(|statement| &statement.action), portal.progress) {
            (Some(Action::Work(work)), Progress::New) => Ok((work.clone(), 0)),
            (Some(Action::Work(work)), Progress::Suspended { rows }) => Ok((work.clone(), rows)),
            (Some(Action::Work(work)), Progress::Done) => Ok((work.clone(), work.rows)),
            _ => Err(SqlError::new("55000", format!("portal \"{name}\" cannot be run"))),
        }
    }

    /// A portal has run; it is gone if that ended its transaction.
    pub(super) fn has_come(&mut self, portal: &str, progress: Progress) {
        if let Some(portal) = self.portals.get_mut(portal) {
            portal.progress = progress;
        }
    }

    /// Close. That there is no such thing is no error.
    pub(super) fn close(&mut self, target: Target, name: &str) {
        match target {
            Target::Statement => drop(self.statements.remove(name)),
            Target::Portal => drop(self.portals.remove(name)),
        }
    }

    /// A transaction has ended, and its portals with it.
    pub(super) fn end_transaction(&mut self) {
        self.portals.clear();
    }
}

fn room_for_one_more<T>(prepared: &BTreeMap<String, T>) -> Result<(), SqlError> {
    if prepared.len() >= MAX_PREPARED {
        return Err(SqlError::new("54000", "too many prepared statements or portals"));
    }
    Ok(())
}
