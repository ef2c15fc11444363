//! The client that writes its messages by hand: half a startup packet, batches without Sync, pipelines without pause.
//!
//! It does what a client library would not, and otherwise what a patient client does: it reads all the time unless it is
//! told not to, matches answers in order, and reads a closed connection to its end.
//!
//! A client that does not read learns nothing. When it has nothing left to do but to wait it is done, and its connection
//! stays as it is to the end of the run.
//!
//! - An Execute of a batch is over at its CommandComplete or PortalSuspended; every other request at its ReadyForQuery.
//! - An error in a batch answers all of the batch.
//! - A FATAL answers everything that was sent. A pipeline goes on writing after it, like a client that is too busy to
//!   look; what it writes then is over at the end of the stream, with the same code.
//! - A request counts as sent when all of its bytes were handed to the socket's queue.

mod copy;
mod replication;

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use lastcall_core::Time;
use lastcall_world::World;
use pgwire::messages::extendedquery::{Bind, Describe, Execute, Flush, Parse, Sync, TARGET_TYPE_BYTE_STATEMENT};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::Startup;
use pgwire::messages::terminate::Terminate;

use super::actor::{Actor, put};
use super::player::Player;
use super::raw_link::{RawLink, State};
use super::script::{self, Batched, Request};
use super::worker;
use crate::cast::history::Event;
use crate::scenario::model::{Close, Closing, Connect, Partial, Pipeline, Protocol, Step, Times, Until, Version};
use crate::stage::SimWorld;

/// Most requests that a pipeline leaves unanswered, whatever its `depth`.
const MAX_DEPTH: usize = 65_536;

/// The type of no message.
const NO_TYPE: u8 = 0xff;

/// A client that writes by hand.
pub(crate) struct RawClient<W: World> {
    actor: Actor<W>,
    link: Option<RawLink<W>>,
    /// There is no connection because the other side closed it or did not take it.
    lost: bool,
}

impl<W: SimWorld> RawClient<W> {
    /// A client that has not connected yet.
    pub(crate) fn new(actor: Actor<W>) -> Self {
        RawClient { actor, link: None, lost: false }
    }

    /// Logs that it has done what it could.
    pub(crate) fn done(&self) {
        self.actor.record(Event::ClientDone { conn: self.actor.conn() });
    }
}

impl<W: SimWorld> Player for RawClient<W> {
    fn now(&self) -> Time {
        self.actor.now()
    }

    async fn rest(&mut self, until: Time) -> bool {
        match &mut self.link {
            Some(link) => link.until_time(&self.actor, until, |_| false).await,
            None => {
                self.actor.world.sleep_until(until).await;
                true
            }
        }
    }

    async fn act(&mut self, step: &Step) -> bool {
        let RawClient { actor, link, lost } = self;
        match (step, link.as_mut()) {
            (Step::Connect(step), _) => {
                let connected = connect(actor, link, step).await;
                *lost = link.is_none();
                connected
            }
            (_, None) => false,
            (Step::Disconnect, Some(open)) => {
                // Polite: the answers first, as client libraries do it.
                if !open.until(actor, RawLink::answered).await {
                    return false;
                }
                put(&Terminate::new(), open.out());
                leave(actor, link, "disconnect").await
            }
            (Step::Close(Close { close: Closing::Full }), Some(_)) => leave(actor, link, "close").await,
            (Step::Close(Close { close: Closing::Half }), Some(open)) => {
                let left = open.leave(actor).await;
                if left {
                    actor.record(Event::HalfClosed { conn: actor.conn() });
                }
                left
            }
            (Step::Reset | Step::Vanish, Some(open)) => {
                // What it does from here on it does behind the end of the connection.
                if open.state() != State::Open {
                    return false;
                }
                actor.record(Event::ClientLeft { conn: actor.conn(), how: step.word() });
                match link.take() {
                    Some(link) if *step == Step::Reset => link.reset(actor),
                    Some(link) => link.vanish(actor),
                    None => {}
                }
                true
            }
            (step, Some(open)) => speak(actor, open, step).await,
        }
    }

    async fn stay(&mut self) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        if link.state() == State::Open {
            link.until(&self.actor, |_| false).await;
        }
        if link.state() == State::Open {
            return link.keep(&self.actor);
        }
        link.drain(&self.actor).await;
        self.lost = true;
        if link.state() == State::OutOfPatience {
            self.actor.record(Event::ClientLeft { conn: self.actor.conn(), how: "close" });
        }
    }

    fn is_closed(&self) -> bool {
        self.link.as_ref().map_or(self.lost, |link| link.state() != State::Open)
    }

    fn was_not_executed(&self) -> bool {
        self.link.as_ref().is_some_and(RawLink::told_not_executed)
    }
}

/// Does a step that needs nothing but an open connection.
async fn speak<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, step: &Step) -> bool {
    match step {
        Step::Prepare(step) => {
            let statement = actor.unsent_statement(script::one_row(step.prepare.0));
            put(&Parse::new(None, statement.to_string(), vec![]), link.out());
            link.ledger().parse();
            actor.record(Event::BatchFed { conn: actor.conn() });
            write(actor, link).await
        }
        Step::Flush => {
            put(&Flush::new(), link.out());
            actor.record(Event::BatchFed { conn: actor.conn() });
            link.until(actor, RawLink::flushed).await
        }
        Step::Sync => {
            put(&Sync::new(), link.out());
            link.ledger().sync(None);
            actor.record(Event::BatchFed { conn: actor.conn() });
            link.until(actor, RawLink::answered).await
        }
        Step::Pipeline(step) => pipeline(actor, link, step).await,
        Step::Partial(step) => partial(actor, link, step).await,
        Step::Garbage(step) => {
            link.out().put_bytes(NO_TYPE, usize::try_from(step.garbage).unwrap_or(usize::MAX));
            actor.record(Event::GarbageSent { conn: actor.conn() });
            write(actor, link).await
        }
        Step::Read(step) => {
            link.set_reading(step.read);
            true
        }
        Step::CopyIn(step) => copy::send(actor, link, step).await,
        Step::Replication(step) => replication::follow(actor, link, step).await,
        Step::Call(step) => {
            let statement = actor.statement(script::one_row(step.call.0));
            actor.request_sent(&statement);
            put_call(&statement.to_string(), link.out());
            link.has_asked(actor, statement.tag);
            link.until(actor, RawLink::answered).await
        }
        step => match (script::batched(step), script::request(step)) {
            (Some(batched), _) => execute(actor, link, batched).await,
            (None, Some(request)) => ask(actor, link, request).await,
            (None, None) => true,
        },
    }
}

/// Connects as far as the step says. An older connection is closed.
async fn connect<W: World>(actor: &mut Actor<W>, link: &mut Option<RawLink<W>>, step: &Connect) -> bool {
    if let Some(mut old) = link.take().filter(|old| old.state() == State::Open) {
        actor.record(Event::ClientLeft { conn: actor.conn(), how: "close" });
        old.close(actor);
    }
    let Some(tap) = actor.open().await else {
        return false;
    };
    let link = link.insert(RawLink::new(tap));
    if step.pause.0 > Duration::ZERO && !link.until_time(actor, actor.now() + step.pause.0, |_| false).await {
        return false;
    }
    if step.until == Until::Tcp {
        return true;
    }
    if step.tls || step.until == Until::Tls {
        link.ask_for_tls();
        if !link.until(actor, RawLink::tls_answered).await {
            return false;
        }
    }
    if step.until == Until::Tls {
        return true;
    }
    let (user, database) = actor.login(step);
    let mut startup = Startup::new();
    startup.protocol_number_minor = match step.version {
        Version::V3_0 => 0,
        Version::V3_2 => 2,
    };
    startup.parameters.extend([
        ("user".to_owned(), user),
        ("database".to_owned(), database),
        ("application_name".to_owned(), actor.application()),
    ]);
    if step.until == Until::Password {
        startup.parameters.insert(worker::PASSWORD.to_owned(), "on".to_owned());
    }
    put(&startup, link.out());
    match step.until {
        Until::Startup => {
            let half = link.out().len() / 2;
            link.out().truncate(half);
            write(actor, link).await
        }
        Until::Password => link.until(actor, RawLink::password_asked).await,
        Until::Tcp | Until::Tls | Until::Ready => link.until(actor, RawLink::ready_seen).await,
    }
}

/// Sends Parse, Bind and Execute.
async fn execute<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, batched: Batched) -> bool {
    let statement = actor.statement(batched.action);
    put(&Parse::new(None, statement.to_string(), vec![]), link.out());
    put(&Bind::new(None, None, vec![], vec![], vec![]), link.out());
    put(&Execute::new(None, i32::try_from(batched.max_rows).unwrap_or(i32::MAX)), link.out());
    actor.execute_sent(&statement);
    if let Some(after) = batched.cancel_after {
        link.cancel_at(actor, actor.now() + after, statement.tag.clone());
    }
    link.ledger().parse();
    if let Some((tag, outcome)) = link.ledger().execute(statement.tag) {
        actor.request_ended(tag, outcome);
    }
    write(actor, link).await
}

/// Sends one request and waits for its answer.
async fn ask<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, request: Request) -> bool {
    let Request { action, protocol, cancel_after, waits } = request;
    let statement = actor.statement(action);
    actor.request_sent(&statement);
    match protocol {
        Protocol::Extended => {
            put(&Parse::new(None, statement.to_string(), vec![]), link.out());
            put(&Bind::new(None, None, vec![], vec![], vec![]), link.out());
            put(&Describe::new(TARGET_TYPE_BYTE_STATEMENT, None), link.out());
            put(&Execute::new(None, 0), link.out());
            put(&Sync::new(), link.out());
            link.ledger().sync(Some(statement.tag.clone()));
        }
        Protocol::Simple => {
            put(&Query::new(statement.to_string()), link.out());
            link.has_asked(actor, statement.tag.clone());
        }
    }
    if !waits {
        return write(actor, link).await;
    }
    if let Some(after) = cancel_after {
        if !link.until_time(actor, actor.now() + after, RawLink::answered).await {
            return false;
        }
        if !link.answered() {
            link.cancel(actor, statement.tag);
        }
    }
    link.until(actor, RawLink::answered).await
}

/// Keeps up to `depth` requests unanswered. Not even a FATAL stops it, only the end of the connection.
async fn pipeline<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, step: &Pipeline) -> bool {
    let depth = usize::try_from(step.depth).unwrap_or(MAX_DEPTH).clamp(1, MAX_DEPTH);
    let mut script = Pipelined { steps: &step.pipeline, at: 0, left: step.repeat };
    poll_fn(|cx| {
        loop {
            link.poll(actor, cx);
            if link.state() >= State::OutOfPatience {
                return Poll::Ready(());
            }
            let mut sent = false;
            while link.ledger().len() < depth {
                let Some(step) = script.next() else {
                    return Poll::Ready(());
                };
                let Some(request) = script::request(step) else {
                    continue;
                };
                let statement = actor.statement(request.action);
                put(&Query::new(statement.to_string()), link.out());
                actor.request_sent(&statement);
                link.has_asked(actor, statement.tag);
                sent = true;
            }
            if !sent {
                return if link.is_deaf() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
    write(actor, link).await
}

/// The statements of a pipeline, one after the other.
struct Pipelined<'a> {
    steps: &'a [Step],
    at: usize,
    left: Times,
}

impl<'a> Pipelined<'a> {
    fn next(&mut self) -> Option<&'a Step> {
        if self.steps.is_empty() || self.left == Times::Count(0) {
            return None;
        }
        let step = &self.steps[self.at];
        self.at += 1;
        if self.at == self.steps.len() {
            self.at = 0;
            if let Times::Count(left) = &mut self.left {
                *left -= 1;
            }
        }
        Some(step)
    }
}

/// A FunctionCall, which pgwire has no type for: the function 1, whose one argument in text is the statement.
fn put_call(text: &str, out: &mut BytesMut) {
    const LARGE: &str = "a statement's text has some hundred bytes";
    const TEXT: i16 = 0;
    let length = i32::try_from(text.len()).expect(LARGE);
    out.put_u8(b'F');
    // Its own four bytes, the function's number, formats, arguments with their lengths, and the result's format.
    out.put_i32(4 + 4 + 2 + 2 + 4 + length + 2);
    out.put_i32(1);
    out.put_i16(0);
    out.put_i16(1);
    out.put_i32(length);
    out.put_slice(text.as_bytes());
    out.put_i16(TEXT);
}

/// Sends the first bytes of a statement, and the rest later.
async fn partial<W: World>(actor: &mut Actor<W>, link: &mut RawLink<W>, step: &Partial) -> bool {
    let mut message = BytesMut::new();
    let statement = match step.after {
        Some(_) => actor.statement(script::one_row(step.query.0)),
        None => actor.unsent_statement(script::one_row(step.query.0)),
    };
    put(&Query::new(statement.to_string()), &mut message);
    // At least the last byte is left for later: a message that is whole is no partial one.
    let first = usize::try_from(step.partial).unwrap_or(usize::MAX).min(message.len() - 1);
    let rest = message.split_off(first);
    link.out().unsplit(message);
    actor.record(Event::PartSent { conn: actor.conn() });
    let Some(after) = step.after else {
        return write(actor, link).await;
    };
    if !link.until_time(actor, actor.now() + after.0, |_| false).await {
        return false;
    }
    link.out().unsplit(rest);
    actor.request_sent(&statement);
    link.has_asked(actor, statement.tag);
    link.until(actor, RawLink::answered).await
}

/// Hands everything to the socket's queue.
async fn write<W: World>(actor: &Actor<W>, link: &mut RawLink<W>) -> bool {
    link.until(actor, RawLink::written).await
}

/// Ends the connection, unless somebody else did.
async fn leave<W: World>(actor: &Actor<W>, link: &mut Option<RawLink<W>>, how: &'static str) -> bool {
    let Some(open) = link else {
        return false;
    };
    if !open.leave(actor).await {
        return false;
    }
    actor.record(Event::ClientLeft { conn: actor.conn(), how });
    open.close(actor);
    *link = None;
    true
}
