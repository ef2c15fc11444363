//! What a session does with a statement: works, returns rows, moves its transaction along.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use lastcall_core::Time;
use lastcall_world::World;
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use pgwire::messages::extendedquery::PortalSuspended;
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, NoticeResponse};

use super::{Protocol, Session};
use crate::cast::history::{Event, StatementEnd};
use crate::cast::statement::{Action, Statement, Work};
use crate::cast::worker::prepared::Progress;
use crate::cast::worker::transaction::Fate;
use crate::cast::worker::trouble::{SqlError, Stop, Trouble};
use crate::cast::worker::wire::{Closed, Wire};

/// SQLSTATE of a session that is told to end.
pub(super) const TERMINATED: &str = "57P01";

/// The type of the one column that statements return: text.
const TEXT_OID: u32 = 25;

impl<W: World> Session<W> {
    /// Runs a statement from its beginning, and logs how it ends.
    pub(super) async fn run_statement(
        &mut self,
        statement: &Statement,
        protocol: Protocol,
    ) -> Result<Progress, Trouble> {
        let (worker_session, tag) = (self.take.number, statement.tag.clone());
        self.record(Event::StatementBegan { worker_session, tag: tag.clone() });
        self.running = Some(tag.clone());
        // A cancel request that came while nothing ran has hit nothing.
        let _ = self.is_cancelled().await;
        let result = match &statement.action {
            Action::Work(work) => self.work(statement, work, protocol).await,
            Action::CopyIn(into) => self.copy_in(statement, *into, protocol).await,
            Action::CopyOut(work) => self.copy_out(work, protocol).await,
            Action::Declare { cursor, work } => self.declare(&tag, cursor, work),
            Action::Fetch { cursor, rows } => self.fetch(cursor, *rows, protocol).await,
            Action::Listen => {
                self.listens = true;
                Ok(self.complete("LISTEN"))
            }
            Action::Nothing => {
                self.wire.put(&EmptyQueryResponse::new());
                Ok(Progress::Done)
            }
            Action::Replicate { .. } => Err(SqlError::new("42601", "replication is a session of its own").into()),
            Action::Begin | Action::Commit | Action::Rollback => self.control_transaction(&statement.action).await,
        };
        let end = match &result {
            Ok(_) => StatementEnd::Complete,
            Err(Stop::Failed(error)) => StatementEnd::Failed(error.code.clone()),
            Err(Stop::Cancelled) => StatementEnd::Cancelled,
            Err(Stop::Told(_)) => StatementEnd::Failed(TERMINATED.to_owned()),
            Err(Stop::Closed) => StatementEnd::Aborted,
        };
        self.statement_ended(end);
        Ok(result?)
    }

    /// Logs the end of the running statement, once.
    fn statement_ended(&mut self, end: StatementEnd) {
        if let Some(tag) = self.running.take() {
            self.record(Event::StatementEnded { worker_session: self.take.number, tag, end });
        }
    }

    /// Works, inserts, and returns rows.
    async fn work(&mut self, statement: &Statement, work: &Work, protocol: Protocol) -> Result<Progress, Stop> {
        if protocol == Protocol::Simple && statement.returns_rows() {
            self.wire.put(&row_description());
        }
        self.be_busy(work).await?;
        self.transaction.insert(statement.tag.clone(), work.inserts.unwrap_or(0))?;
        self.return_rows(work, protocol, 0).await
    }

    /// Works for as long as it takes, and fails then if it is to fail.
    async fn be_busy(&mut self, work: &Work) -> Result<(), Stop> {
        self.busy_until(self.world.now() + work.takes).await?;
        match &work.fails {
            Some(code) => Err(SqlError::new(code, "failed as the scenario asked").into()),
            None => Ok(()),
        }
    }

    /// Is busy until `at`, unless it is cancelled or told to end. A connection that is reset meanwhile cuts the statement, but
    /// PostgreSQL notices only at its next write: until then, or until a cancel request, the worker is not free.
    pub(super) async fn busy_until(&mut self, at: Time) -> Result<(), Stop> {
        let mut done = pin!(self.world.sleep_until(at));
        let mut cut = false;
        poll_fn(|cx| {
            if let Poll::Ready(farewell) = self.take.orders.poll_end(cx) {
                return Poll::Ready(Err(Stop::Told(farewell)));
            }
            if self.take.orders.poll_cancelled(cx).is_ready() {
                return Poll::Ready(Err(if cut { Stop::Closed } else { Stop::Cancelled }));
            }
            if done.as_mut().poll(cx).is_ready() {
                return Poll::Ready(if cut { Err(Stop::Closed) } else { Ok(()) });
            }
            if !cut && self.wire.poll_reset(cx).is_ready() {
                cut = true;
                self.statement_ended(StatementEnd::Aborted);
            }
            Poll::Pending
        })
        .await
    }

    /// Returns the rows behind `from_row`, and ends or suspends the statement.
    pub(super) async fn return_rows(
        &mut self,
        work: &Work,
        protocol: Protocol,
        from_row: u32,
    ) -> Result<Progress, Stop> {
        let left = work.rows - from_row;
        let count = match protocol {
            Protocol::Extended { max_rows } if max_rows > 0 => left.min(max_rows),
            Protocol::Simple | Protocol::Extended { .. } => left,
            Protocol::Function => 0,
        };
        self.put_rows(work.row_bytes, count).await?;
        // As PostgreSQL: a portal that was asked for no more than it had does not know that it is at its end.
        if matches!(protocol, Protocol::Extended { max_rows } if max_rows > 0 && count == max_rows) {
            self.wire.put(&PortalSuspended::new());
            return Ok(Progress::Suspended { rows: from_row + count });
        }
        self.commit_before_the_answer(protocol);
        if protocol == Protocol::Function {
            self.wire.put_raw(NULL_RESULT);
            return Ok(Progress::Done);
        }
        Ok(match work.inserts {
            Some(rows) => self.complete(&format!("INSERT 0 {rows}")),
            None => self.complete(&format!("SELECT {count}")),
        })
    }

    async fn put_rows(&mut self, row_bytes: u32, count: u32) -> Result<(), Stop> {
        if count > 0 {
            let row = row(row_bytes);
            for _ in 0..count {
                self.wire.put(&row);
                self.spill().await?;
                // As PostgreSQL: cancelled between two rows, and not while it waits for the socket.
                if self.is_cancelled().await {
                    return Err(Stop::Cancelled);
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, tag: &str, cursor: &str, work: &Work) -> Result<Progress, Stop> {
        if !self.transaction.in_block() {
            return Err(SqlError::new("25P01", "DECLARE CURSOR can only be used in transaction blocks").into());
        }
        let query = Statement { tag: tag.to_owned(), action: Action::Work(work.clone()) };
        self.prepared.declare(cursor, query)?;
        Ok(self.complete("DECLARE CURSOR"))
    }

    async fn fetch(&mut self, cursor: &str, rows: u32, protocol: Protocol) -> Result<Progress, Stop> {
        let (work, from_row) = self.prepared.cursor(cursor)?;
        if protocol == Protocol::Simple {
            self.wire.put(&row_description());
        }
        self.be_busy(&work).await?;
        let count = rows.min(work.rows - from_row);
        self.put_rows(work.row_bytes, count).await?;
        self.prepared.has_come(cursor, Progress::Suspended { rows: from_row + count });
        Ok(self.complete(&format!("FETCH {count}")))
    }

    /// BEGIN, COMMIT and ROLLBACK.
    async fn control_transaction(&mut self, action: &Action) -> Result<Progress, Stop> {
        let in_block = self.transaction.in_block();
        let (tag, fate) = match action {
            Action::Commit => match self.transaction.commit() {
                fate @ Fate::Committed(_) => ("COMMIT", Some(fate)),
                fate @ Fate::RolledBack(_) => ("ROLLBACK", Some(fate)),
            },
            Action::Rollback => ("ROLLBACK", Some(self.transaction.roll_back())),
            _ => {
                self.transaction.begin();
                ("BEGIN", None)
            }
        };
        let warning = match fate {
            None if in_block => Some(("25001", "there is already a transaction in progress")),
            Some(_) if !in_block => Some(("25P01", "there is no transaction in progress")),
            _ => None,
        };
        if let Some(fate) = fate {
            self.settle(fate);
        }
        if let Some((code, text)) = warning {
            let fields = [(b'S', "WARNING"), (b'V', "WARNING"), (b'C', code), (b'M', text)];
            self.wire.put(&NoticeResponse::new(fields.map(|(field, value)| (field, value.to_owned())).to_vec()));
            // Notices are no more held back than errors.
            self.push().await?;
        }
        Ok(self.complete(tag))
    }

    /// PostgreSQL commits before it says that the last statement is complete.
    pub(super) fn commit_before_the_answer(&mut self, protocol: Protocol) {
        if !matches!(protocol, Protocol::Extended { .. }) {
            self.end_implicit_transaction();
        }
    }

    /// CommandComplete.
    pub(super) fn complete(&mut self, tag: &str) -> Progress {
        self.wire.put(&CommandComplete::new(tag.to_owned()));
        Progress::Done
    }

    /// Whether a cancel request has come.
    pub(super) async fn is_cancelled(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.take.orders.poll_cancelled(cx).is_ready())).await
    }

    /// Writes everything, in the middle of a statement.
    pub(super) async fn push(&mut self) -> Result<(), Stop> {
        self.write(self.wire.held_back()).await
    }

    /// Writes full blocks of the send buffer, in the middle of a statement.
    pub(super) async fn spill(&mut self) -> Result<(), Stop> {
        self.write(self.wire.full_blocks()).await
    }

    async fn write(&mut self, mut bytes: usize) -> Result<(), Stop> {
        while bytes > 0 {
            let written = self.patiently(false, |wire, cx| wire.poll_write(bytes, cx)).await;
            if matches!(written, Err(Stop::Told(_))) {
                // Who is told to end while the socket takes nothing has no way to say a word.
                self.wire.drop_output();
                self.is_cut_short = true;
            }
            bytes -= written?;
        }
        Ok(self.wire.write(0).await?)
    }

    /// Waits for the client to send a byte (`for_input`) or to take one, unless it is told to end, and logs that it waits.
    pub(super) async fn patiently<T>(
        &mut self,
        for_input: bool,
        mut poll: impl FnMut(&mut Wire<W::Stream>, &mut Context<'_>) -> Poll<Result<T, Closed>>,
    ) -> Result<T, Stop> {
        let worker_session = self.take.number;
        let mut waits = false;
        poll_fn(|cx| {
            let polled = poll(&mut self.wire, cx);
            if polled.is_pending()
                && let Poll::Ready(farewell) = self.take.orders.poll_end(cx)
            {
                return Poll::Ready(Err(Stop::Told(farewell)));
            }
            if polled.is_pending() && !waits {
                waits = true;
                self.record(Event::WorkerWaits { worker_session, for_input });
            }
            if waits && matches!(polled, Poll::Ready(Ok(_))) {
                self.record(Event::WorkerGoesOn { worker_session });
            }
            polled.map_err(Stop::from)
        })
        .await
    }
}

/// FunctionCallResponse with NULL, which pgwire has no type for.
const NULL_RESULT: &[u8] = b"V\0\0\0\x08\xff\xff\xff\xff";

pub(super) fn row_description() -> RowDescription {
    const VARIABLE_WIDTH: i16 = -1;
    const NO_MODIFIER: i32 = -1;
    let column = FieldDescription::new("work".to_owned(), 0, 0, TEXT_OID, VARIABLE_WIDTH, NO_MODIFIER, 0);
    RowDescription::new(vec![column])
}

fn row(bytes: u32) -> DataRow {
    let mut value = BytesMut::with_capacity(4 + bytes as usize);
    value.put_u32(bytes);
    value.put_bytes(b'x', bytes as usize);
    DataRow::new(value, 1)
}
