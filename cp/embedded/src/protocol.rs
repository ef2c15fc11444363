//! The protocol's messages: what each asks of the session, and what is sent back. The transaction's status is pgwire's; it
//! goes with each job to the session's thread and comes back with the job's end.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_util::sink::{Sink, SinkExt};
use pgwire::api::auth::StartupHandler;
use pgwire::api::cancel::CancelHandler;
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_ready_for_query};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, PgWireServerHandlers, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage as Message;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Sync as SyncMessage, TARGET_TYPE_BYTE_PORTAL,
    TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::SecretKey;
use tokio::sync::{mpsc, oneshot};

use crate::Shared;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::outbox::{BATCHES, Ended, Output};
use crate::parameters;
use crate::session::{Job, Session};
use crate::values::{self, Column};
use crate::worker::{Execution, Prepared};

/// One connection's handlers, for pgwire.
pub(crate) struct Handlers(Arc<Handler>);

impl Handlers {
    pub(crate) fn new(shared: Arc<Shared>) -> Handlers {
        Handlers(Arc::new(Handler { shared, link: Arc::default(), pid: OnceLock::new() }))
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.0.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.0.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.0.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.0.clone()
    }
}

/// One connection. Its end is the session's.
pub(crate) struct Handler {
    pub(crate) shared: Arc<Shared>,
    link: Arc<Link>,
    pid: OnceLock<i32>,
}

/// The way to the session, once there is one.
#[derive(Default)]
pub(crate) struct Link {
    session: OnceLock<Session>,
    /// Whether the session's thread may hold suspended portals.
    suspended: AtomicBool,
}

impl Handler {
    pub(crate) fn register(&self, client: &dyn ClientInfo, interrupt: &Arc<Interrupt>) -> (i32, SecretKey) {
        let (pid, secret) = self.shared.registry.register(client, interrupt);
        self.pid.set(pid).expect("a connection starts up once");
        (pid, secret)
    }

    pub(crate) fn open(&self, session: Session) {
        self.link.session.set(session).expect("a connection starts up once");
    }

    /// Outside a transaction there are no portals. Source: protocol, "Extended Query".
    async fn drop_portals<C>(&self, client: &C) -> Result<(), Failure>
    where
        C: ClientInfo + ClientPortalStore + Sync,
        C::PortalStore: PortalStore,
    {
        if client.transaction_status() != TransactionStatus::Idle {
            return Ok(());
        }
        client.portal_store().clear_portals();
        match self.link.suspended.swap(false, Ordering::Relaxed) {
            true => self.link.session()?.send(Job::DropPortals).await,
            false => Ok(()),
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.get() {
            self.shared.registry.remove(*pid);
        }
    }
}

impl Link {
    fn session(&self) -> Result<&Session, Failure> {
        self.session.get().ok_or_else(Failure::ended)
    }

    /// Has the session's thread do `job`, and sends on what comes of it.
    async fn run<C>(
        &self,
        client: &mut C,
        job: impl FnOnce(TransactionStatus, mpsc::Sender<Output>) -> Job + Send,
    ) -> PgWireResult<Ended>
    where
        C: ClientInfo + Sink<Message> + Unpin + Send + Sync,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        let (sender, mut outputs) = mpsc::channel(BATCHES);
        client.set_state(PgWireConnectionState::QueryInProgress);
        self.session()?.send(job(client.transaction_status(), sender)).await?;
        while let Some(output) = outputs.recv().await {
            match output {
                Output::Messages(messages) => {
                    for message in messages {
                        client.feed(message).await?;
                    }
                }
                Output::End(end) => {
                    client.set_transaction_status(end.status);
                    let ended = end.result.map_err(PgWireError::UserError)?;
                    client.set_state(PgWireConnectionState::ReadyForQuery);
                    return Ok(ended);
                }
            }
        }
        Err(Failure::ended().into())
    }
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        // Source: protocol, "Extended Query": a simple Query destroys the unnamed portal.
        client.portal_store().rm_portal(DEFAULT_NAME);
        let job = |status, sender| Job::Query { sql: query.query, status, sender };
        self.link.run(client, job).await?;
        self.drop_portals(client).await?;
        send_ready_for_query(client, client.transaction_status()).await
    }

    async fn do_query<C>(&self, _: &mut C, _: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        Err(unused())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Arc<Prepared>;
    type QueryParser = Link;

    fn query_parser(&self) -> Arc<Link> {
        self.link.clone()
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        let store = client.portal_store();
        match statement(store, message.statement_name.as_deref())? {
            Entry::Value(statement) => {
                parameters::check(&message, &statement.statement)?;
                store.put_portal(Arc::new(Portal::try_new(&message, statement)?));
            }
            Entry::Empty => {
                let empty = Prepared { sql: String::new(), parameters: Vec::new(), columns: Vec::new() };
                parameters::check(&message, &empty)?;
                store.put_empty_portal(message.portal_name.as_deref().unwrap_or(DEFAULT_NAME));
            }
        }
        Ok(client.feed(Message::BindComplete(BindComplete::new())).await?)
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match portal(client.portal_store(), name)? {
            Entry::Value(portal) => portal,
            Entry::Empty => {
                return Ok(client.feed(Message::EmptyQueryResponse(EmptyQueryResponse::new())).await?);
            }
        };
        let prepared = portal.statement.statement.clone();
        let state = portal.state();
        let mut state = state.lock().await;
        let values = match *state {
            PortalExecutionState::Initial => Some(parameters::values(&portal)?),
            PortalExecutionState::Suspended(_) => None,
            PortalExecutionState::Finished if prepared.columns.is_empty() => {
                return Err(Failure::new("55000", format!("portal \"{name}\" cannot be run")).into());
            }
            PortalExecutionState::Finished => {
                let tag = Tag::new("SELECT").with_rows(0);
                return Ok(client.feed(Message::CommandComplete(tag.into())).await?);
            }
        };
        let execution = Execution {
            portal: name.to_owned(),
            values,
            prepared,
            formats: portal.result_column_format.clone(),
            // Negative is no limit, as zero.
            max_rows: usize::try_from(message.max_rows).unwrap_or(0),
        };
        let ended = self.link.run(client, |status, sender| Job::Execute { execution, status, sender }).await?;
        *state = match ended {
            Ended::Complete => PortalExecutionState::Finished,
            Ended::Suspended => {
                self.link.suspended.store(true, Ordering::Relaxed);
                // The rows stay in the session's thread.
                PortalExecutionState::Suspended(QueryResponse::new(Arc::default(), futures_util::stream::empty()))
            }
        };
        Ok(())
    }

    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        let store = client.portal_store();
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let (types, columns) = match statement(store, message.name.as_deref())? {
                    Entry::Value(statement) => {
                        let prepared = &statement.statement;
                        (prepared.parameters.iter().map(Type::oid).collect(), prepared.columns.clone())
                    }
                    Entry::Empty => (Vec::new(), Vec::new()),
                };
                client.feed(Message::ParameterDescription(ParameterDescription::new(types))).await?;
                describe(client, &columns, &Format::UnifiedText).await
            }
            TARGET_TYPE_BYTE_PORTAL => match portal(store, message.name.as_deref().unwrap_or(DEFAULT_NAME))? {
                Entry::Value(portal) => {
                    describe(client, &portal.statement.statement.columns, &portal.result_column_format).await
                }
                Entry::Empty => describe(client, &[], &Format::UnifiedText).await,
            },
            other => Err(PgWireError::InvalidTargetType(other)),
        }
    }

    async fn on_sync<C>(&self, client: &mut C, _: SyncMessage) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        self.drop_portals(client).await?;
        send_ready_for_query(client, client.transaction_status()).await
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => client.portal_store().rm_statement(name),
            TARGET_TYPE_BYTE_PORTAL => {
                client.portal_store().rm_portal(name);
                if self.link.suspended.load(Ordering::Relaxed) {
                    self.link.session()?.send(Job::DropPortal(name.to_owned())).await?;
                }
            }
            other => return Err(PgWireError::InvalidTargetType(other)),
        }
        Ok(client.feed(Message::CloseComplete(CloseComplete::new())).await?)
    }

    async fn do_query<C>(&self, _: &mut C, _: &Portal<Self::Statement>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<Message> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<Message>>::Error>,
    {
        Err(unused())
    }
}

#[async_trait]
impl QueryParser for Link {
    type Statement = Arc<Prepared>;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Arc<Prepared>>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let (reply, parsed) = oneshot::channel();
        let status = client.transaction_status();
        self.session()?.send(Job::Parse { sql: sql.to_owned(), types: types.to_vec(), status, reply }).await?;
        let prepared = parsed.await.map_err(|_| Failure::ended())?;
        Ok(prepared.map_err(|failure| PgWireError::UserError(Box::new(failure.info(sql, 0))))?.map(Arc::new))
    }

    fn get_parameter_types(&self, prepared: &Arc<Prepared>) -> PgWireResult<Vec<Type>> {
        Ok(prepared.parameters.clone())
    }

    fn get_result_schema(&self, _: &Arc<Prepared>, _: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        Err(unused())
    }
}

async fn describe<C>(client: &mut C, columns: &[Column], formats: &Format) -> PgWireResult<()>
where
    C: Sink<Message> + Unpin + Send,
    PgWireError: From<<C as Sink<Message>>::Error>,
{
    let message = match columns {
        [] => Message::NoData(NoData::new()),
        columns => Message::RowDescription(values::description(columns, formats)),
    };
    Ok(client.feed(message).await?)
}

type StatementEntry = Entry<pgwire::api::stmt::StoredStatement<Arc<Prepared>>>;

fn statement<S>(store: &S, name: Option<&str>) -> Result<StatementEntry, Failure>
where
    S: PortalStore<Statement = Arc<Prepared>>,
{
    store.get_statement(name.unwrap_or(DEFAULT_NAME)).ok_or_else(|| match name {
        Some(name) => Failure::new("26000", format!("prepared statement \"{name}\" does not exist")),
        None => Failure::new("26000", "unnamed prepared statement does not exist"),
    })
}

fn portal<S>(store: &S, name: &str) -> Result<Entry<Portal<Arc<Prepared>>>, Failure>
where
    S: PortalStore<Statement = Arc<Prepared>>,
{
    let shown = if name == DEFAULT_NAME { "" } else { name };
    store.get_portal(name).ok_or_else(|| Failure::new("34000", format!("portal \"{shown}\" does not exist")))
}

/// pgwire's own way of answering, which collects all rows of a portal in memory.
fn unused() -> PgWireError {
    Failure::new("XX000", "not used").into()
}
