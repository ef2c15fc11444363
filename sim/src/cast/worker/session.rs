//! One session of a worker: its messages and its transaction. What it does with a statement is in [`execution`] and
//! [`copy`], a stream without an end in [`replication`].

mod copy;
mod execution;
mod replication;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use lastcall_world::World;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{EmptyQueryResponse, NotificationResponse, ReadyForQuery};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};

use self::execution::{TERMINATED, row_description};
use super::orders::{Burst, Farewell, Orders};
use super::prepared::{Prepared, Progress, Text};
use super::request::{Request, Target};
use super::transaction::{Fate, Transaction};
use super::trouble::{Over, SqlError, Trouble};
use super::wire::{Closed, NoMessage, Wire};
use crate::cast::frame::{Frame, Malformed};
use crate::cast::history::{Event, Login, Recorder, Tag};
use crate::cast::statement::{Action, Statement, Work};

/// What a session is given by its worker.
pub(super) struct Take {
    /// Its number.
    pub(super) number: u32,
    /// Its process id.
    pub(super) pid: i32,
    /// The secret of its cancel key.
    pub(super) secret: Bytes,
    /// `application_name` of the startup packet.
    pub(super) application: String,
    /// `user` and `database`.
    pub(super) login: Login,
    /// Whether it is asked for a password.
    pub(super) password: bool,
    /// What it is told from outside.
    pub(super) orders: Orders,
}

/// One session.
pub(super) struct Session<W: World> {
    world: W,
    recorder: Recorder,
    wire: Wire<W::Stream>,
    take: Take,
    transaction: Transaction,
    prepared: Prepared,
    /// The statement whose end is not logged yet.
    running: Option<Tag>,
    /// Messages of the extended protocol have come, and no Sync behind them.
    in_batch: bool,
    /// An error has ended the batch: everything up to the Sync is skipped.
    skips_to_sync: bool,
    /// LISTEN was executed.
    listens: bool,
    /// It was told to end in the middle of a message.
    is_cut_short: bool,
}

/// What a session does next.
enum Next {
    Answer(Frame),
    Notify(Burst),
}

/// PostgreSQL's text beside 57P01.
const GOODBYE: &str = "terminating connection due to administrator command";

/// A type that no message of a server's has, and a length that none can have.
const GARBAGE: &[u8] = &[0xff; 8];

/// How to run a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// With a row description, and a transaction of its own.
    Simple,
    /// At most so many rows; 0 means all. Its transaction ends at the Sync.
    Extended { max_rows: u32 },
    /// As a function: what it returns is not told, and its transaction is its own.
    Function,
}

impl<W: World> Session<W> {
    /// A session whose startup packet was read.
    pub(super) fn new(world: W, recorder: Recorder, wire: Wire<W::Stream>, take: Take) -> Self {
        Session {
            world,
            recorder,
            wire,
            take,
            transaction: Transaction::default(),
            prepared: Prepared::default(),
            running: None,
            in_batch: false,
            skips_to_sync: false,
            listens: false,
            is_cut_short: false,
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let worker_session = self.take.number;
        let (application, login) = (self.take.application.clone(), self.take.login.clone());
        self.record(Event::WorkerSessionBegan { worker_session, application, login });
        let Err(over) = self.serve().await;
        let fate = self.transaction.roll_back();
        self.settle(fate);
        if let Over::Told(farewell @ (Farewell::Stays | Farewell::Garbage)) = over
            && !self.is_cut_short
        {
            match farewell {
                Farewell::Garbage => self.wire.put_raw(GARBAGE),
                _ => self.wire.put_error("FATAL", TERMINATED, GOODBYE),
            }
            if self.wire.flush().await.is_ok() {
                self.wire.outlast().await;
            }
        }
        self.record(Event::WorkerSessionEnded { worker_session });
        match over {
            Over::NoMessage(NoMessage::Malformed(malformed)) => {
                self.wire.put_error("FATAL", "08P01", malformed.0);
                self.wire.finish().await;
            }
            Over::Told(Farewell::Closes) if !self.is_cut_short => {
                self.wire.put_error("FATAL", TERMINATED, GOODBYE);
                self.wire.finish().await;
            }
            Over::NoMessage(NoMessage::Closed) | Over::Told(_) => {}
        }
    }

    /// Greets, then answers one message after the other; returns why there is no further one.
    async fn serve(&mut self) -> Result<Infallible, Over> {
        if self.take.password {
            self.ask_password().await?;
        }
        self.greet().await?;
        loop {
            match Request::read(self.next().await?) {
                Ok(Request::Terminate) => return Err(Closed.into()),
                Ok(request) => self.answer(request).await?,
                Err(malformed) => return Err(NoMessage::Malformed(malformed).into()),
            }
        }
    }

    /// The next message, unless it is told to end before. Meanwhile, outside a transaction, it passes on notifications.
    async fn next(&mut self) -> Result<Frame, Over> {
        let is_notified = self.listens && !self.transaction.in_block() && !self.in_batch;
        loop {
            let next = poll_fn(|cx| {
                let orders = &mut self.take.orders;
                if let Poll::Ready(farewell) = orders.poll_end(cx) {
                    return Poll::Ready(Err(Over::Told(farewell)));
                }
                if is_notified && let Poll::Ready(burst) = orders.poll_burst(cx) {
                    return Poll::Ready(Ok(Next::Notify(burst)));
                }
                self.wire.poll_frame(cx).map(|frame| Ok(Next::Answer(frame?)))
            });
            match next.await? {
                Next::Answer(frame) => return Ok(frame),
                Next::Notify(burst) => self.notify(burst).await?,
            }
        }
    }

    /// Sends notifications, one after the other, as fast as the socket takes them.
    async fn notify(&mut self, Burst { count, bytes }: Burst) -> Result<(), Closed> {
        let notification = NotificationResponse::new(self.take.pid, "work".to_owned(), "x".repeat(bytes as usize));
        for _ in 0..count {
            self.wire.put(&notification);
            self.wire.spill().await?;
        }
        self.wire.flush().await
    }

    /// Asks for a password in clear text. Any will do.
    async fn ask_password(&mut self) -> Result<(), NoMessage> {
        self.wire.put(&Authentication::CleartextPassword);
        self.wire.flush().await.map_err(|Closed| NoMessage::Closed)?;
        match self.wire.frame().await?.kind {
            b'p' => Ok(()),
            _ => Err(NoMessage::Malformed(Malformed("expected password response"))),
        }
    }

    async fn greet(&mut self) -> Result<(), Closed> {
        self.wire.put(&Authentication::Ok);
        for (name, value) in [
            ("server_version", "17.0"),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("integer_datetimes", "on"),
            ("standard_conforming_strings", "on"),
            ("TimeZone", "UTC"),
        ] {
            self.wire.put(&ParameterStatus::new(name.to_owned(), value.to_owned()));
        }
        self.wire.put(&BackendKeyData::new(self.take.pid, SecretKey::Bytes(self.take.secret.clone())));
        self.ready().await
    }

    async fn answer(&mut self, request: Request) -> Result<(), Over> {
        if self.skips_to_sync && request != Request::Sync {
            return Ok(());
        }
        let simple = matches!(request, Request::Query(_) | Request::Call(_));
        let sync = request == Request::Sync;
        let batch = !simple && !matches!(request, Request::Flush | Request::Copy | Request::Terminate);
        if batch && self.in_batch == sync {
            self.in_batch = !sync;
            let worker_session = self.take.number;
            self.record(if sync {
                Event::BatchSynced { worker_session }
            } else {
                Event::BatchBegan { worker_session }
            });
        }
        match self.carry_out(request).await {
            Ok(()) => {}
            Err(Trouble::Over(over)) => return Err(over),
            Err(Trouble::Error(error)) => {
                self.wire.put_error("ERROR", &error.code, &error.text);
                let fate = self.transaction.fail();
                self.settle(fate);
                self.skips_to_sync = !simple;
                // As PostgreSQL's send_message_to_frontend: an error is never held back.
                self.wire.flush().await?;
            }
        }
        if simple || sync {
            self.end_implicit_transaction();
            return Ok(self.ready().await?);
        }
        Ok(self.wire.spill().await?)
    }

    async fn carry_out(&mut self, request: Request) -> Result<(), Trouble> {
        match request {
            Request::Query(text) => match self.read_statement(&text)? {
                Some(statement) if let Action::Replicate { every, bytes } = statement.action => {
                    Ok(self.replicate(every, bytes).await?)
                }
                Some(statement) => self.run_statement(&statement, Protocol::Simple).await.map(drop),
                None => {
                    self.wire.put(&EmptyQueryResponse::new());
                    Ok(())
                }
            },
            Request::Call(text) => match self.read_statement(&text)? {
                Some(statement) => self.run_statement(&statement, Protocol::Function).await.map(drop),
                None => Err(SqlError::new("42883", "there is no such function").into()),
            },
            Request::Parse { name, text } => {
                let statement = self.read_statement(&text)?;
                self.prepared.parse(name, statement)?;
                self.wire.put(&ParseComplete::new());
                Ok(())
            }
            Request::Bind { portal, statement, parameters } => {
                let statement = self.prepared.statement(&statement)?;
                if let Some(statement) = &statement {
                    self.refuse_in_failed_block(statement)?;
                }
                self.prepared.bind(portal, statement, parameters)?;
                self.wire.put(&BindComplete::new());
                Ok(())
            }
            Request::Describe { target, name } => self.describe(target, &name),
            Request::Execute { portal, max_rows } => self.execute(portal, max_rows).await,
            Request::Close { target, name } => {
                self.prepared.close(target, &name);
                self.wire.put(&CloseComplete::new());
                Ok(())
            }
            Request::Flush => Ok(self.wire.flush().await?),
            Request::Sync => {
                self.skips_to_sync = false;
                Ok(())
            }
            Request::Copy | Request::Terminate => Ok(()),
        }
    }

    /// Reads a statement's text; none if there is nothing in it.
    fn read_statement(&self, text: &str) -> Result<Text, SqlError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let statement: Statement = text.parse().map_err(|error| SqlError::new("42601", format!("{error}")))?;
        self.refuse_in_failed_block(&statement)?;
        Ok(Some(Arc::new(statement)))
    }

    fn refuse_in_failed_block(&self, statement: &Statement) -> Result<(), SqlError> {
        if self.transaction.failed() && !statement.runs_in_failed_block() {
            let text = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(SqlError::new("25P02", text));
        }
        Ok(())
    }

    fn describe(&mut self, target: Target, name: &str) -> Result<(), Trouble> {
        let statement = match target {
            Target::Statement => {
                let statement = self.prepared.statement(name)?;
                self.wire.put(&ParameterDescription::new(vec![]));
                statement
            }
            Target::Portal => self.prepared.portal(name)?.statement,
        };
        match statement {
            Some(statement) if statement.returns_rows() => self.wire.put(&row_description()),
            _ => self.wire.put(&NoData::new()),
        }
        Ok(())
    }

    async fn execute(&mut self, name: String, max_rows: u32) -> Result<(), Trouble> {
        let portal = self.prepared.portal(&name)?;
        let Some(statement) = portal.statement else {
            self.wire.put(&EmptyQueryResponse::new());
            return Ok(());
        };
        self.refuse_in_failed_block(&statement)?;
        let protocol = Protocol::Extended { max_rows };
        let progress = match (portal.progress, &statement.action) {
            (Progress::New, _) => self.run_statement(&statement, protocol).await?,
            // The rest of a suspended portal is no new statement: the log has had its beginning and end.
            (Progress::Suspended { rows }, Action::Work(work)) => match self.return_rows(work, protocol, rows).await {
                Ok(progress) => progress,
                Err(stop) => return Err(stop.into()),
            },
            (Progress::Done, Action::Work(Work { inserts: None, .. })) => self.complete("SELECT 0"),
            (Progress::Done | Progress::Suspended { .. }, _) => {
                return Err(SqlError::new("55000", format!("portal \"{name}\" cannot be run")).into());
            }
        };
        self.prepared.has_come(&name, progress);
        Ok(())
    }

    /// Outside a block, commits what the query or the batch did.
    fn end_implicit_transaction(&mut self) {
        if !self.transaction.in_block() {
            let fate = self.transaction.commit();
            self.settle(fate);
        }
    }

    /// A transaction is over: logs its inserts, drops its portals.
    fn settle(&mut self, fate: Fate) {
        self.prepared.end_transaction();
        let worker_session = self.take.number;
        match fate {
            Fate::Committed(inserts) | Fate::RolledBack(inserts) if inserts.is_empty() => {}
            Fate::Committed(inserts) => self.record(Event::Committed { worker_session, inserts }),
            Fate::RolledBack(inserts) => {
                let inserts = inserts.into_iter().map(|insert| insert.tag).collect();
                self.record(Event::RolledBack { worker_session, inserts });
            }
        }
    }

    async fn ready(&mut self) -> Result<(), Closed> {
        self.wire.put(&ReadyForQuery::new(self.transaction.status()));
        self.wire.flush().await
    }

    fn record(&self, event: Event) {
        self.recorder.record(self.world.now(), event);
    }
}
