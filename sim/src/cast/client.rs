//! A simulated client: the steps of one copy of a scenario's client, through a real client library.
//!
//! Well-behaved clients run on tokio-postgres, so that what a scenario shows is what an application would see. Steps
//! that no library does (half a startup packet, a batch without Sync, …) make it a raw client
//! instead.
//!
//! A client notices at any step, thinking and idling included, that its connection was closed. It then reads on to the
//! end of the stream, leaves the rest of its steps out, and is done, unless it is to connect again ([`super::player`]).
//! One that has done all its steps without a `disconnect` stays connected and idle. [`Event::ClientDone`] is always the last that is logged of a copy.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use futures_util::TryStreamExt;
use lastcall_core::Time;
use lastcall_world::World;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::Type;
use tokio_postgres::{Config, Connection, Error, NoTls};

use super::actor::{Actor, outcome_at_end};
use super::player::{Player, play};
use super::raw_client::RawClient;
use super::script::{self, Request};
use super::service::Way;
use super::tap::Tap;
use crate::cast::history::{Event, Outcome};
use crate::scenario::model::{Client, Connect, Protocol, Step};
use crate::stage::SimWorld;

/// Does what copy number `copy` (from 1) of `client` does, from its beginning to its end. Returns when the copy is done, which
/// may be never: some clients idle for ever.
pub async fn run<W: SimWorld>(world: W, way: Way, client: Client, copy: u32) {
    let stagger = client.stagger.0.saturating_mul(copy.saturating_sub(1));
    world.sleep_until(Time::EPOCH + client.start.0 + stagger).await;
    let actor = Actor::new(world, way, client.name.clone(), copy);
    if client.steps.iter().any(Step::by_hand) {
        let mut raw = RawClient::new(actor);
        play(&mut raw, &client).await;
        raw.done();
    } else {
        let mut library = LibraryClient { actor, session: None, lost: false };
        play(&mut library, &client).await;
        library.actor.record(Event::ClientDone { conn: library.actor.conn() });
    }
}

/// A client on top of tokio-postgres.
struct LibraryClient<W: World> {
    actor: Actor<W>,
    session: Option<Session<W>>,
    /// There is no session because the other side closed it or did not give one.
    lost: bool,
}

impl<W: World> Player for LibraryClient<W> {
    fn now(&self) -> Time {
        self.actor.now()
    }

    async fn rest(&mut self, until: Time) -> bool {
        let mut alarm = pin!(self.actor.world.sleep_until(until));
        poll_fn(|cx| {
            if self.session.as_mut().is_some_and(|session| session.poll(cx).is_ready()) {
                return Poll::Ready(false);
            }
            alarm.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    async fn act(&mut self, step: &Step) -> bool {
        let LibraryClient { actor, session, lost } = self;
        match step {
            Step::Connect(step) => {
                if session.take().is_some() {
                    actor.record(Event::ClientLeft { conn: actor.conn(), how: "close" });
                }
                *session = Session::connect(actor, step).await.ok();
                *lost = session.is_none();
                !*lost
            }
            Step::Disconnect => match session.take() {
                Some(session) => {
                    let left = session.disconnect(actor).await;
                    *lost = !left;
                    left
                }
                None => false,
            },
            step => match (script::request(step), session) {
                (Some(request), Some(session)) if !session.is_over() => session.ask(actor, request).await.goes_on,
                _ => false,
            },
        }
    }

    async fn stay(&mut self) {
        if let Some(session) = self.session.take() {
            session.stay(&self.actor).await;
            self.lost = true;
        }
    }

    fn is_closed(&self) -> bool {
        self.session.as_ref().map_or(self.lost, Session::is_over)
    }

    fn was_not_executed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.tap.told_not_executed())
    }
}

/// How a request came out for whoever sent it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What the library says.
    pub(crate) outcome: Outcome,
    /// Whether the connection is good for more.
    pub(crate) goes_on: bool,
}

/// A session that has begun.
pub(crate) struct Session<W: World> {
    client: tokio_postgres::Client,
    /// None once the library is done with it.
    connection: Option<Connection<Tap<W>, NoTlsStream>>,
    tap: Tap<W>,
}

impl<W: World> Session<W> {
    /// Connects and waits for the first ReadyForQuery. Where it does not come: the SQLSTATE that was told instead, if one was.
    pub(crate) async fn connect(actor: &mut Actor<W>, step: &Connect) -> Result<Session<W>, Option<String>> {
        let tap = actor.open().await.ok_or(None)?;
        let (user, database) = actor.login(step);
        let mut config = Config::new();
        config.user(user).dbname(database).application_name(actor.application());
        match config.connect_raw(tap.clone(), NoTls).await {
            Ok((client, connection)) => {
                actor.record(Event::SessionBegan { conn: actor.conn() });
                Ok(Session { client, connection: Some(connection), tap })
            }
            Err(_) => {
                read_to_the_end(actor, &tap).await;
                Err(tap.fatal())
            }
        }
    }

    /// Sends one request and waits for its answer.
    pub(crate) async fn ask(&mut self, actor: &mut Actor<W>, request: Request) -> Asked {
        let statement = actor.statement(request.action);
        actor.request_sent(&statement);
        self.tap.asks(statement.tag.clone());
        let text = statement.to_string();
        let token = self.client.cancel_token();
        let cancel_at = request.cancel_after.map(|after| actor.now() + after);
        let mut cancel = cancel_at.map(|at| Box::pin(actor.world.sleep_until(at)));
        let extended = request.protocol == Protocol::Extended;
        let Session { client, connection, .. } = self;
        let mut answer = pin!(answer(client, &text, extended));
        let answer = poll_fn(|cx| {
            poll_connection(connection, cx);
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            if let Some(alarm) = &mut cancel
                && alarm.as_mut().poll(cx).is_ready()
            {
                cancel = None;
                let token = token.clone();
                actor.cancel(statement.tag.clone(), |stream| async move {
                    let _ = token.cancel_query_raw(stream, NoTls).await;
                });
            }
            Poll::Pending
        })
        .await;
        let outcome = match answer.map_err(|error| error.code().map(|code| code.code().to_owned())) {
            Ok(()) => Outcome::Complete,
            Err(Some(code)) => Outcome::Error(code),
            // The library has given the connection up. What the other side said is perhaps not read yet.
            Err(None) => {
                self.connection = None;
                self.tap.drain().await;
                outcome_at_end(self.tap.fatal())
            }
        };
        let answered = outcome == Outcome::Complete;
        if let Some(tag) = self.tap.unanswered() {
            actor.request_ended(tag, outcome.clone());
        }
        // A program that has its answer goes on to its next step, whatever came right behind the answer.
        Asked { outcome, goes_on: answered || self.connection.is_some() && self.tap.fatal().is_none() }
    }

    /// Whether a program that looks at its connection finds it over.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none() || self.tap.fatal().is_some()
    }

    /// The SQLSTATE of the FATAL that it has read.
    pub(crate) fn fatal(&self) -> Option<String> {
        self.tap.fatal()
    }

    /// Says Terminate and closes. False if the other side was first, and the client could have known.
    pub(crate) async fn disconnect(self, actor: &Actor<W>) -> bool {
        let Session { client, connection, tap } = self;
        let crossed = tap.fatal_at() == Some(actor.now());
        // The library says Terminate when nobody can ask anything any more.
        drop(client);
        let left = match connection {
            Some(connection) => connection.await.is_ok() || crossed,
            None => crossed,
        };
        if left {
            actor.record(Event::ClientLeft { conn: actor.conn(), how: "disconnect" });
        } else {
            read_to_the_end(actor, &tap).await;
        }
        left
    }

    /// Stays connected until the connection is closed, and reads it to its end.
    pub(crate) async fn stay(mut self, actor: &Actor<W>) {
        if self.tap.fatal().is_none() {
            poll_fn(|cx| self.poll(cx)).await;
        }
        self.connection = None;
        read_to_the_end(actor, &self.tap).await;
    }

    /// Ready when the library is done with the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        poll_connection(&mut self.connection, cx);
        if self.connection.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Polls the library's side of a connection. It is dropped when it is done: requests that still wait for it learn it
/// thereby.
fn poll_connection<W: World>(connection: &mut Option<Connection<Tap<W>, NoTlsStream>>, cx: &mut Context<'_>) {
    if let Some(running) = connection
        && pin!(running).poll(cx).is_ready()
    {
        *connection = None;
    }
}

/// Runs a statement to its end and throws the rows away as they come.
async fn answer(client: &tokio_postgres::Client, text: &str, extended: bool) -> Result<(), Error> {
    if extended {
        // Not `prepare`: the library counts the names of prepared statements per process, so the bytes of a run would
        // depend on the runs before it.
        let parameters: [(&str, Type); 0] = [];
        let mut rows = pin!(client.query_typed_raw(text, parameters).await?);
        while rows.try_next().await?.is_some() {}
    } else {
        let mut messages = pin!(client.simple_query_raw(text).await?);
        while messages.try_next().await?.is_some() {}
    }
    Ok(())
}

/// Reads a connection that the library has given up to its end, unless the end does not come.
async fn read_to_the_end<W: World>(actor: &Actor<W>, tap: &Tap<W>) {
    if !tap.drain().await {
        actor.record(Event::ClientLeft { conn: actor.conn(), how: "close" });
    }
}
