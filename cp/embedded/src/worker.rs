//! What a session's thread does: runs statements, and keeps its transaction as PostgreSQL would.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::extendedquery::PortalSuspended;
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use rusqlite::types::Value;
use rusqlite::{Connection, Statement};

use crate::command::{Command, Verb};
use crate::failure::Failure;
use crate::functions::{Identity, unrecognized};
use crate::interrupt::{self, Interrupt};
use crate::outbox::{Ended, Outbox};
use crate::values::{self, Column};
use crate::{parameters, sql};

/// The most suspended portals of a session; 53400 after that.
const MAX_SUSPENDED: usize = 64;

/// Instead of `\d`, which asks for it.
const CATALOG: &str = "SELECT name, sql FROM sqlite_schema shows the tables.";

/// A prepared statement, as the client's connection keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prepared {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Type>,
    pub(crate) columns: Vec<Column>,
}

/// An Execute, with what its portal has.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) portal: String,
    /// `None` to go on where the portal was suspended.
    pub(crate) values: Option<Vec<Value>>,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) formats: Format,
    /// 0 for all.
    pub(crate) max_rows: usize,
}

/// Lives in the session's thread, on its connection.
pub(crate) struct Worker<'c> {
    connection: &'c Connection,
    interrupt: Arc<Interrupt>,
    identity: Arc<Identity>,
    suspended: BTreeMap<String, Running<'c>>,
}

/// A statement that has begun.
struct Running<'c> {
    statement: Statement<'c>,
    verb: Verb,
    columns: Vec<Column>,
    formats: Format,
    /// Whether its columns are described before its first row, as in the simple protocol.
    describes: bool,
}

impl<'c> Worker<'c> {
    pub(crate) fn new(connection: &'c Connection, interrupt: &Arc<Interrupt>, identity: &Arc<Identity>) -> Worker<'c> {
        let (interrupt, identity) = (interrupt.clone(), identity.clone());
        Worker { connection, interrupt, identity, suspended: BTreeMap::new() }
    }

    /// Runs the statements of a Query until one fails, which begins at `begin`.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        begin: &mut usize,
        status: &mut TransactionStatus,
        outbox: &mut Outbox,
    ) -> Result<Ended, Failure> {
        let statements = sql::split(sql);
        if statements.is_empty() {
            outbox.push(Message::EmptyQueryResponse(EmptyQueryResponse::new()))?;
        }
        for statement in statements {
            *begin = statement.offset;
            let result = self.run(statement.text, None, status, outbox);
            self.failing(result)?;
        }
        Ok(Ended::Complete)
    }

    /// What a statement has for parameters and columns.
    pub(crate) fn parse(
        &mut self,
        sql: &str,
        types: &[Option<Type>],
        status: TransactionStatus,
    ) -> Result<Option<Prepared>, Failure> {
        let statement = match sql::split(sql).as_slice() {
            [] => return Ok(None),
            [statement] => *statement,
            _ => return Err(Failure::new("42601", "cannot insert multiple commands into a prepared statement")),
        };
        let command = Command::of(statement.text);
        admit(&command, status)?;
        let (parameters, columns) = match command {
            Command::Sql(verb) => self.describe(statement.text, &verb, types)?,
            Command::Show(name) => (Vec::new(), vec![Column::text(name)]),
            _ => (Vec::new(), Vec::new()),
        };
        Ok(Some(Prepared { sql: statement.text.to_owned(), parameters, columns }))
    }

    /// Begins a portal, or goes on with it.
    pub(crate) fn execute(
        &mut self,
        execution: &Execution,
        status: &mut TransactionStatus,
        outbox: &mut Outbox,
    ) -> Result<Ended, Failure> {
        let held = self.suspended.remove(&execution.portal);
        let result = match (&execution.values, held) {
            (Some(_), _) => self.run(&execution.prepared.sql, Some(execution), status, outbox),
            (None, Some(running)) => match *status {
                TransactionStatus::Error => Err(aborted()),
                _ => self.stream(running, Some(execution), outbox),
            },
            (None, None) => Err(Failure::new("34000", format!("portal \"{}\" does not exist", execution.portal))),
        };
        self.failing(result)
    }

    pub(crate) fn drop_portal(&mut self, name: &str) {
        self.suspended.remove(name);
    }

    pub(crate) fn drop_portals(&mut self) {
        self.suspended.clear();
    }

    /// A failure fails every portal; the transaction too, which pgwire does where it sends the error.
    fn failing(&mut self, result: Result<Ended, Failure>) -> Result<Ended, Failure> {
        if result.is_err() {
            self.suspended.clear();
        }
        result
    }

    /// Runs one statement: of a Query, or of a portal.
    fn run(
        &mut self,
        text: &str,
        execution: Option<&Execution>,
        status: &mut TransactionStatus,
        outbox: &mut Outbox,
    ) -> Result<Ended, Failure> {
        let command = Command::of(text);
        admit(&command, *status)?;
        match command {
            Command::Sql(verb) => return self.run_sql(text, verb, execution, outbox),
            Command::Begin => self.begin(status, outbox)?,
            Command::Commit => self.commit(status, outbox)?,
            Command::Rollback => self.rollback(status, outbox)?,
            Command::Savepoint(name) => self.savepoint("SAVEPOINT", &name, *status, outbox)?,
            Command::Release(name) => self.savepoint("RELEASE", &name, *status, outbox)?,
            Command::RollbackTo(name) => self.rollback_to(&name, status, outbox)?,
            Command::Set { name, value } => {
                let told = self.identity.set(&name, &value);
                self.settled(told, "SET", outbox)?;
            }
            Command::Reset(name) => {
                let told = self.identity.reset(&name);
                self.settled(told, "RESET", outbox)?;
            }
            Command::Show(name) => self.show(&name, execution.is_none(), outbox)?,
            Command::Nothing(tag) => outbox.complete(tag)?,
        }
        Ok(Ended::Complete)
    }

    fn run_sql(
        &mut self,
        text: &str,
        verb: Verb,
        execution: Option<&Execution>,
        outbox: &mut Outbox,
    ) -> Result<Ended, Failure> {
        let mut statement = self.prepare(text)?;
        let values = execution.and_then(|execution| execution.values.as_deref()).unwrap_or_default();
        parameters::bind(&mut statement, values)?;
        let (columns, formats) = match execution {
            None => (Column::all_of(&statement), Format::UnifiedText),
            Some(execution) if execution.prepared.columns.len() != statement.column_count() => {
                return Err(Failure::new("0A000", "cached plan must not change result type"));
            }
            Some(execution) => (execution.prepared.columns.clone(), execution.formats.clone()),
        };
        let running = Running { statement, verb, columns, formats, describes: execution.is_none() };
        self.stream(running, execution, outbox)
    }

    /// Sends rows until the statement is done, or as many as were asked for.
    fn stream(
        &mut self,
        mut running: Running<'c>,
        execution: Option<&Execution>,
        outbox: &mut Outbox,
    ) -> Result<Ended, Failure> {
        let Running { statement, verb, columns, formats, describes } = &mut running;
        let max_rows = execution.map_or(0, |execution| execution.max_rows);
        let mut rows = statement.raw_query();
        let mut sent = 0;
        loop {
            if max_rows > 0 && sent == max_rows {
                // Dropping it would begin the statement anew; like this it goes on with its next row.
                std::mem::forget(rows);
                return self.suspend(running, execution, outbox);
            }
            let Some(row) = rows.next().map_err(|error| failure(&self.interrupt, error))? else { break };
            if std::mem::take(describes) {
                values::settle(columns, row);
                outbox.push(Message::RowDescription(values::description(columns, formats)))?;
            }
            outbox.push(Message::DataRow(values::row(row, columns, formats)?))?;
            sent += 1;
        }
        if *describes && !columns.is_empty() {
            outbox.push(Message::RowDescription(values::description(columns, formats)))?;
        }
        outbox.complete(&verb.tag(sent as u64, self.connection.changes()))?;
        Ok(Ended::Complete)
    }

    fn suspend(
        &mut self,
        running: Running<'c>,
        execution: Option<&Execution>,
        outbox: &mut Outbox,
    ) -> Result<Ended, Failure> {
        if self.suspended.len() == MAX_SUSPENDED {
            return Err(Failure::new("53400", format!("more than {MAX_SUSPENDED} suspended portals")));
        }
        let name = execution.map(|execution| execution.portal.clone()).unwrap_or_default();
        self.suspended.insert(name, running);
        outbox.push(Message::PortalSuspended(PortalSuspended::new()))?;
        Ok(Ended::Suspended)
    }

    fn describe(&self, text: &str, verb: &Verb, said: &[Option<Type>]) -> Result<(Vec<Type>, Vec<Column>), Failure> {
        let mut statement = self.prepare(text)?;
        let types = parameters::types(&statement, said)?;
        let mut columns = Column::all_of(&statement);
        let unknown = columns.iter().any(|column| column.kind.is_none());
        if unknown && *verb == Verb::Select && statement.readonly() {
            let samples: Vec<Value> = types.iter().map(parameters::sample).collect();
            parameters::bind(&mut statement, &samples)?;
            interrupt::on_trial(|| {
                if let Ok(Some(row)) = statement.raw_query().next() {
                    values::settle(&mut columns, row);
                }
            });
        }
        Ok((types, columns))
    }

    fn begin(&mut self, status: &mut TransactionStatus, outbox: &mut Outbox) -> Result<(), Failure> {
        match *status {
            TransactionStatus::Idle => self.batch("BEGIN")?,
            _ => outbox.warn("25001", "there is already a transaction in progress")?,
        }
        *status = TransactionStatus::Transaction;
        outbox.complete("BEGIN")
    }

    fn commit(&mut self, status: &mut TransactionStatus, outbox: &mut Outbox) -> Result<(), Failure> {
        if *status != TransactionStatus::Transaction {
            let tag = if *status == TransactionStatus::Error { "ROLLBACK" } else { "COMMIT" };
            return self.end(tag, status, outbox);
        }
        self.suspended.clear();
        // It is over, whether it has worked or not.
        *status = TransactionStatus::Idle;
        let result = self.batch("COMMIT");
        if result.is_err() {
            self.undo()?;
        }
        result?;
        outbox.complete("COMMIT")
    }

    fn rollback(&mut self, status: &mut TransactionStatus, outbox: &mut Outbox) -> Result<(), Failure> {
        self.end("ROLLBACK", status, outbox)
    }

    /// Rolls back what is open, if anything is.
    fn end(&mut self, tag: &str, status: &mut TransactionStatus, outbox: &mut Outbox) -> Result<(), Failure> {
        if *status == TransactionStatus::Idle {
            outbox.warn("25P01", "there is no transaction in progress")?;
        }
        self.suspended.clear();
        *status = TransactionStatus::Idle;
        self.undo()?;
        outbox.complete(tag)
    }

    /// SQLite may have rolled back already, with the statement that failed.
    fn undo(&self) -> Result<(), Failure> {
        match self.connection.is_autocommit() {
            true => Ok(()),
            false => self.batch("ROLLBACK"),
        }
    }

    fn savepoint(
        &mut self,
        verb: &str,
        name: &str,
        status: TransactionStatus,
        outbox: &mut Outbox,
    ) -> Result<(), Failure> {
        in_transaction(verb, status)?;
        self.batch(&format!("{verb} {name}"))?;
        outbox.complete(verb)
    }

    fn rollback_to(&mut self, name: &str, status: &mut TransactionStatus, outbox: &mut Outbox) -> Result<(), Failure> {
        in_transaction("ROLLBACK TO SAVEPOINT", *status)?;
        self.suspended.clear();
        if self.connection.is_autocommit() {
            // Gone with the rest of the transaction.
            return Err(Failure::new("3B001", format!("savepoint {name} does not exist")));
        }
        self.batch(&format!("ROLLBACK TO {name}"))?;
        *status = TransactionStatus::Transaction;
        outbox.complete("ROLLBACK")
    }

    fn settled(&self, told: bool, tag: &str, outbox: &mut Outbox) -> Result<(), Failure> {
        let name = "application_name".to_owned();
        if told && let Some(value) = self.identity.setting(&name) {
            outbox.push(Message::ParameterStatus(ParameterStatus::new(name, value)))?;
        }
        outbox.complete(tag)
    }

    fn show(&self, name: &str, describes: bool, outbox: &mut Outbox) -> Result<(), Failure> {
        let value = self.identity.setting(name).ok_or_else(|| Failure::new("42704", unrecognized(name)))?;
        if describes {
            let description = values::description(&[Column::text(name)], &Format::UnifiedText);
            outbox.push(Message::RowDescription(description))?;
        }
        outbox.push(Message::DataRow(values::text_row(&value)))?;
        outbox.complete("SHOW")
    }

    fn prepare(&self, text: &str) -> Result<Statement<'c>, Failure> {
        let foreign = |failure: Failure| match text.contains("pg_catalog.") {
            true => Failure::new("0A000", "the embedded engine has no pg_catalog").hint(CATALOG),
            false => failure,
        };
        self.connection.prepare(text).map_err(|error| foreign(self.failure(error)))
    }

    fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.connection.execute_batch(sql).map_err(|error| self.failure(error))
    }

    fn failure(&self, error: rusqlite::Error) -> Failure {
        failure(&self.interrupt, error)
    }
}

/// Whatever SQLite says of a statement that was cancelled, that is why.
fn failure(interrupt: &Interrupt, error: rusqlite::Error) -> Failure {
    match interrupt.stopped() {
        true => Failure::cancelled(),
        false => error.into(),
    }
}

/// A transaction that has failed takes nothing but its end.
fn admit(command: &Command, status: TransactionStatus) -> Result<(), Failure> {
    match status == TransactionStatus::Error && !command.ends_failure() {
        true => Err(aborted()),
        false => Ok(()),
    }
}

fn aborted() -> Failure {
    Failure::new("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

fn in_transaction(verb: &str, status: TransactionStatus) -> Result<(), Failure> {
    match status {
        TransactionStatus::Idle => Err(Failure::new("25P01", format!("{verb} can only be used in transaction blocks"))),
        _ => Ok(()),
    }
}
