//! A raw client's connection: reads and writes at the same time, whatever step the client is at.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use lastcall_core::Time;
use lastcall_world::World;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{SecretKey, SslRequest};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::actor::{Actor, outcome_at_end, put};
use super::frame::{Fields, Frame, Inbox};
use super::ledger::{Ended, Ledger, Ready};
use super::tap::{DRAIN_PATIENCE, Tap};
use crate::cast::history::{Event, Outcome, Recorder, Tag};
use crate::scenario::model::Reading;
use crate::stage::SimWorld;

/// Longest message that is read. Longer ones are no PostgreSQL any more, and the rest of the stream is only thrown
/// away.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// AuthenticationCleartextPassword.
const CLEARTEXT_PASSWORD: i32 = 3;

/// A world's sleep, boxed because its type has no name.
type Alarm = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One connection of a raw client. While it is polled it writes what there is to write and reads what there is to read.
pub(crate) struct RawLink<W: World> {
    tap: Tap<W>,
    inbox: Inbox,
    /// Written by the steps, not taken by the socket yet.
    out: BytesMut,
    /// A write failed. What was read is still of interest.
    mute: bool,
    /// What was read is no message; the rest is thrown away.
    garbled: bool,
    ready_seen: bool,
    /// Process id and secret, as the server told them.
    key: Option<(i32, Bytes)>,
    /// TLS was asked for, and its answer is the next byte.
    asked_for_tls: bool,
    /// CopyInResponse was read, and no end of the statement behind it.
    copies_in: bool,
    /// CopyInResponse was read since [`RawLink::begins_copy`].
    copied_in: bool,
    /// CopyBothResponse was read, and no end of it.
    replicates: bool,
    password_asked: bool,
    ledger: Ledger,
    /// When to cancel which request, unless it is answered before. As many as a batch has such requests.
    cancels: Vec<(Tag, Alarm)>,
    /// Runs from the FATAL on.
    patience: Option<Alarm>,
    state: State,
}

/// How far a connection has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// It can be used.
    Open,
    /// A FATAL was read.
    ToldGoodbye,
    /// A FATAL was read, and then nothing for [`DRAIN_PATIENCE`].
    OutOfPatience,
    /// The end of the stream was read, or a reset.
    Over,
}

impl<W: World> RawLink<W> {
    /// A connection of which nothing was read or written yet.
    pub(crate) fn new(tap: Tap<W>) -> Self {
        RawLink {
            tap,
            inbox: Inbox::default(),
            out: BytesMut::new(),
            mute: false,
            garbled: false,
            ready_seen: false,
            key: None,
            asked_for_tls: false,
            copies_in: false,
            copied_in: false,
            replicates: false,
            password_asked: false,
            ledger: Ledger::default(),
            cancels: Vec::new(),
            patience: None,
            state: State::Open,
        }
    }

    /// How far it is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether a ReadyForQuery was ever read.
    pub(crate) fn ready_seen(&self) -> bool {
        self.ready_seen
    }

    /// Whether no answer is owed.
    pub(crate) fn answered(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Whether nothing is owed but what waits for a Sync.
    pub(crate) fn flushed(&self) -> bool {
        self.ledger.flushed()
    }

    /// Whether the request for TLS was answered.
    pub(crate) fn tls_answered(&self) -> bool {
        !self.asked_for_tls
    }

    /// Whether the server has asked for a password.
    pub(crate) fn password_asked(&self) -> bool {
        self.password_asked
    }

    /// Whether the server waits for CopyData.
    pub(crate) fn copies_in(&self) -> bool {
        self.copies_in
    }

    /// Whether the request that is answered next has failed, and its ReadyForQuery is still to come.
    pub(crate) fn has_failed(&self) -> bool {
        self.ledger.has_failed()
    }

    /// A simple Query or a FunctionCall was put into [`RawLink::out`].
    pub(crate) fn has_asked(&mut self, actor: &Actor<W>, tag: Tag) {
        let skipped = self.ledger.request(tag);
        log(actor, skipped);
    }

    /// Cancels the request `tag` at `at`, unless it is answered before.
    pub(crate) fn cancel_at(&mut self, actor: &Actor<W>, at: Time, tag: Tag) {
        self.cancels.push((tag, Box::pin(actor.world.sleep_until(at))));
    }

    /// A COPY is asked for.
    pub(crate) fn begins_copy(&mut self) {
        self.copied_in = false;
    }

    /// Whether the COPY that was asked for last has had its CopyInResponse, whatever came behind it.
    pub(crate) fn has_copied_in(&self) -> bool {
        self.copied_in
    }

    /// Whether what is read is a stream of replication.
    pub(crate) fn replicates(&self) -> bool {
        self.replicates
    }

    /// Whether it never comes further by itself: what there is to write is written, and nothing is read.
    pub(crate) fn is_deaf(&self) -> bool {
        self.written() && self.tap.is_deaf()
    }

    /// From here on reads like this.
    pub(crate) fn set_reading(&mut self, reading: Reading) {
        self.tap.set_reading(reading);
    }

    /// Asks for TLS.
    pub(crate) fn ask_for_tls(&mut self) {
        self.asked_for_tls = true;
        self.tap.expect_bare_byte();
        put(&SslRequest::new(), &mut self.out);
    }

    /// Whether a FATAL was read that says that the last request was not executed.
    pub(crate) fn told_not_executed(&self) -> bool {
        self.tap.told_not_executed()
    }

    /// Whether everything was handed to the socket's queue.
    pub(crate) fn written(&self) -> bool {
        self.out.is_empty()
    }

    /// What is to be written.
    pub(crate) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// The answers owed.
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Polls until `done`, the FATAL or the end, or until nothing can come of waiting. True if it is still open and done.
    pub(crate) async fn until(&mut self, actor: &Actor<W>, mut done: impl FnMut(&Self) -> bool) -> bool {
        poll_fn(|cx| {
            self.poll(actor, cx);
            if self.state != State::Open {
                return Poll::Ready(false);
            }
            match done(self) {
                true => Poll::Ready(true),
                false if self.is_deaf() => Poll::Ready(false),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Polls until `at`, or `done` before, the FATAL or the end. True if it is still open.
    pub(crate) async fn until_time(&mut self, actor: &Actor<W>, at: Time, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut alarm = pin!(actor.world.sleep_until(at));
        poll_fn(|cx| {
            self.poll(actor, cx);
            if self.state != State::Open || done(self) { Poll::Ready(()) } else { alarm.as_mut().poll(cx) }
        })
        .await;
        self.state == State::Open
    }

    /// Writes and reads as much as the socket lets it, and logs what that means. Every waiting step polls this.
    pub(crate) fn poll(&mut self, actor: &Actor<W>, cx: &mut Context<'_>) {
        self.poll_write(cx);
        self.poll_cancels(actor, cx);
        while self.state < State::OutOfPatience {
            let Poll::Ready(read) = self.inbox.poll_fill(&mut self.tap, cx) else {
                break;
            };
            self.take_messages(actor);
            if !matches!(read, Ok(1..)) {
                self.end(actor, State::Over);
            }
        }
        if self.state == State::ToldGoodbye {
            let patience = self.patience.get_or_insert_with(|| {
                // Boxed, because the type of a world's sleep has no name.
                Box::pin(actor.world.sleep_until(actor.now() + DRAIN_PATIENCE))
            });
            if patience.as_mut().poll(cx).is_ready() {
                self.end(actor, State::OutOfPatience);
            }
        }
    }

    /// Ends the connection from this side: what is still to be written, then FIN. False if the other side was first.
    pub(crate) async fn leave(&mut self, actor: &Actor<W>) -> bool {
        self.until(actor, Self::written).await;
        if self.mute || self.state != State::Open {
            return false;
        }
        poll_fn(|cx| Pin::new(&mut self.tap).poll_shutdown(cx)).await.is_ok()
    }

    /// Reads to the end of the stream.
    pub(crate) async fn drain(&mut self, actor: &Actor<W>) {
        poll_fn(|cx| {
            self.poll(actor, cx);
            if self.state < State::OutOfPatience { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Sends a cancel request for the running request `tag`.
    pub(crate) fn cancel(&self, actor: &Actor<W>, tag: Tag) {
        let Some((pid, secret)) = self.key.clone() else {
            return;
        };
        actor.cancel(tag, move |mut stream| async move {
            let mut message = BytesMut::new();
            put(&CancelRequest::new(pid, SecretKey::Bytes(secret)), &mut message);
            if stream.write_all(&message).await.is_ok() {
                let _ = stream.shutdown().await;
            }
        });
    }

    /// Logs what was not answered.
    pub(crate) fn close(&mut self, actor: &Actor<W>) {
        let ended = self.ledger.close();
        log(actor, ended);
    }

    fn poll_cancels(&mut self, actor: &Actor<W>, cx: &mut Context<'_>) {
        let mut due = Vec::new();
        self.cancels.retain_mut(|(tag, alarm)| {
            let is_due = alarm.as_mut().poll(cx).is_ready();
            if is_due {
                due.push(std::mem::take(tag));
            }
            !is_due
        });
        for tag in due {
            if self.state == State::Open && self.ledger.owes(&tag) {
                self.cancel(actor, tag);
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        while !self.out.is_empty() && !self.mute {
            match Pin::new(&mut self.tap).poll_write(cx, &self.out) {
                Poll::Ready(Ok(written @ 1..)) => self.out.advance(written),
                Poll::Ready(Ok(0) | Err(_)) => self.mute = true,
                Poll::Pending => return,
            }
        }
        if self.mute {
            self.out.clear();
        }
    }

    fn take_messages(&mut self, actor: &Actor<W>) {
        if self.asked_for_tls
            && let Some(answer) = self.inbox.bytes().first().copied()
        {
            self.asked_for_tls = false;
            // An old server answers with an ErrorResponse.
            if answer == b'N' {
                self.inbox.bytes().advance(1);
            }
        }
        while !self.garbled {
            match self.inbox.next_frame(MAX_MESSAGE_BYTES) {
                Ok(Some(frame)) => self.take_message(actor, frame),
                Ok(None) => return,
                Err(_) => self.garbled = true,
            }
        }
        self.inbox.bytes().clear();
    }

    fn take_message(&mut self, actor: &Actor<W>, frame: Frame) {
        let mut fields = Fields::of(frame.body);
        match frame.kind {
            b'1' => self.ledger.parse_complete(),
            b'V' => self.ledger.goes_on(),
            b'C' | b'I' | b's' => log(actor, self.ledger.complete()),
            b'Z' if !self.ready_seen => {
                self.ready_seen = true;
                actor.record(Event::SessionBegan { conn: actor.conn() });
            }
            b'W' => {
                self.replicates = true;
                actor.record(Event::Replicates { conn: actor.conn() });
            }
            b'Z' => {
                self.copies_in = false;
                self.replicates = false;
                match self.ledger.ready() {
                    Some(Ready::Request(ended)) => log(actor, [ended]),
                    Some(Ready::Batch) => actor.record(Event::BatchAnswered { conn: actor.conn() }),
                    None => {}
                }
            }
            b'G' => {
                self.copies_in = true;
                self.copied_in = true;
            }
            b'R' => self.password_asked |= fields.i32().is_ok_and(|code| code == CLEARTEXT_PASSWORD),
            b'K' => {
                if let Ok(pid) = fields.i32() {
                    self.key = Some((pid, fields.rest()));
                }
            }
            b'E' => self.take_error(actor, &mut fields),
            _ => {}
        }
    }

    fn take_error(&mut self, actor: &Actor<W>, fields: &mut Fields) {
        self.copies_in = false;
        let (mut severity, mut code) = (String::new(), String::new());
        while let (Ok(name @ 1..), Ok(value)) = (fields.u8(), fields.string()) {
            match name {
                b'S' => severity = value,
                b'C' => code = value,
                _ => {}
            }
        }
        if severity == "FATAL" {
            self.state = self.state.max(State::ToldGoodbye);
            log(actor, self.ledger.fatal(&code));
        } else {
            log(actor, self.ledger.error(&code));
        }
    }

    fn end(&mut self, actor: &Actor<W>, state: State) {
        self.state = state;
        self.close(actor);
    }
}

impl<W: SimWorld> RawLink<W> {
    /// Closes the connection with a reset.
    pub(crate) fn reset(mut self, actor: &Actor<W>) {
        self.close(actor);
        self.tap.reset(&actor.world);
    }

    /// The machine is gone. The connection is kept, for the other side must not hear of it.
    pub(crate) fn vanish(mut self, actor: &Actor<W>) {
        self.close(actor);
        self.tap.vanish(&actor.world);
        actor.world.spawn("vanished-connection", async move {
            let _tap = self.tap;
            pending::<()>().await;
        });
    }

    /// Keeps the connection as it is to the end of the run, and does nothing with it. Then logs what this machine has of it:
    /// delivered is what has arrived here, whether or not the client ever looks.
    pub(crate) fn keep(mut self, actor: &Actor<W>) {
        let actor = actor.clone();
        actor.world.clone().spawn("kept-connection", async move {
            actor.until_over().await;
            let unread = self.unread(&actor);
            actor.record(unread);
            pending::<()>().await;
        });
    }

    /// What has arrived and was not read.
    fn unread(&mut self, actor: &Actor<W>) -> Event {
        let unread = Recorder::default();
        self.tap.read_for(unread.clone());
        self.poll(&actor.logging_to(unread.clone()), &mut Context::from_waker(Waker::noop()));
        let (mut answered, mut fatal, mut end) = (Vec::new(), None, false);
        for entry in unread.history().entries {
            match entry.event {
                Event::RequestEnded { tag, outcome, .. } => answered.push((tag, outcome)),
                Event::FatalRead { code, .. } => fatal = Some(code),
                Event::EofRead { .. } => end = true,
                _ => {}
            }
        }
        // What only the end of the connection answered was not answered.
        let at_end = outcome_at_end(fatal.clone());
        answered.retain(|(_, outcome)| *outcome != at_end && *outcome != Outcome::Lost);
        Event::MachineHas { conn: actor.conn(), answered, fatal, end }
    }
}

fn log<W: World>(actor: &Actor<W>, ended: impl IntoIterator<Item = Ended>) {
    for (tag, outcome) in ended {
        actor.request_ended(tag, outcome);
    }
}
