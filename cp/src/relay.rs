//! Moving the bytes of one session between its client and its worker.
//!
//! One task, both directions, each with a buffer of at most [`CHUNK`] bytes, and a Flush of our own, that exists only while
//! its destination takes nothing: bytes are read onto the stack, shown to the session, and written on at once. A direction
//! reads again when its buffer is empty, so a slow reader slows its writer and nobody else. An idle session owns no buffer
//! at all.
//!
//! The relay decides nothing: which bytes may pass, and when it is over, is the session's word.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::core::session::FLUSH;
use crate::core::{Activity, EndReason};
use crate::course::Course;
use crate::meter::Meter;
use crate::world::World;

/// Bytes read at once, and the most that is kept for a destination that takes no more.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS: usize = 16;

/// A relayed session that is over.
pub(crate) struct Over {
    /// Why.
    pub(crate) reason: EndReason,
    /// Bytes of the worker's that the client has not taken.
    pub(crate) unsent: Vec<u8>,
    /// Whether what the worker has taken of the client's bytes stops inside a message.
    pub(crate) torn: bool,
}

/// Relays until the session is over. `early` are bytes that the client sent before it had a worker; `startup` goes to the
/// worker first.
pub(crate) async fn run<W: World, M: Meter>(
    course: &mut Course<W, M>,
    client: &mut W::Stream,
    worker: &mut W::Stream,
    startup: Vec<u8>,
    early: Vec<u8>,
) -> Over {
    let mut up = Pipe { cleared: startup.len(), bytes: startup, sent: 0 };
    up.bytes.extend_from_slice(&early);
    let mut relay =
        Relay { course, client, worker, up, down: Pipe::default(), worker_deaf: false, client_ended: false };
    let reason = std::future::poll_fn(|cx| relay.poll(cx)).await;
    let unsent = relay.down.bytes.split_off(relay.down.sent);
    let torn = relay.up.sent < relay.up.cleared || relay.course.session.is_mid_request();
    Over { reason, unsent, torn }
}

/// What one direction keeps for later: `[sent | cleared to be sent | held back]`.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    sent: usize,
    cleared: usize,
}

impl Pipe {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Keeps `bytes`, of which the first `cleared` may go on. Only when empty.
    fn fill(&mut self, bytes: &[u8], cleared: usize) {
        debug_assert!(self.is_empty() && bytes.len() <= CHUNK, "a direction reads only when its buffer is empty");
        self.bytes.extend_from_slice(bytes);
        self.cleared = cleared;
    }

    /// Puts `message` behind what is cleared and before what is held back.
    fn slip_in(&mut self, message: &[u8]) {
        self.bytes.splice(self.cleared..self.cleared, message.iter().copied());
        self.cleared += message.len();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.cleared = 0;
    }

    fn give_back(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

struct Relay<'a, W: World, M> {
    course: &'a mut Course<W, M>,
    client: &'a mut W::Stream,
    worker: &'a mut W::Stream,
    /// From client to worker.
    up: Pipe,
    /// From worker to client.
    down: Pipe,
    /// The worker takes nothing any more; what it has said may still be read.
    worker_deaf: bool,
    client_ended: bool,
}

impl<W: World, M: Meter> Relay<'_, W, M> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        for _ in 0..ROUNDS {
            self.course.poll_lifecycle(cx);
            let mut moved = self.send_up(cx);
            moved |= self.send_down(cx);
            moved |= self.read_worker(cx);
            moved |= self.read_client(cx);
            // The verdict comes last: what has arrived is part of it.
            if let Poll::Ready(reason) = self.course.poll_end(cx) {
                return Poll::Ready(reason);
            }
            if !moved {
                if self.course.session.activity() == Activity::Idle {
                    self.up.give_back();
                    self.down.give_back();
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Shows the session what is held back, and sends what is cleared. Returns whether anything moved.
    fn send_up(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.course.now();
        if self.course.session.take_flush(&self.course.lifecycle.value().drain) {
            self.up.slip_in(&FLUSH);
        }
        if self.up.cleared < self.up.bytes.len() {
            let held = &self.up.bytes[self.up.cleared..];
            self.up.cleared += self.course.session.handle_client(held, &self.course.lifecycle.value().drain, now);
        }
        let before = self.up.sent;
        while self.up.sent < self.up.cleared {
            let taken = self.write_worker(self.up.sent, cx);
            if taken == 0 {
                break;
            }
            self.up.sent += taken;
        }
        let moved = self.up.sent > before;
        if !self.up.is_empty() {
            self.tell_input(self.up.cleared - self.up.sent);
        }
        if self.up.sent == self.up.bytes.len() {
            self.up.clear();
        }
        moved
    }

    /// Tells the session how much the worker has not taken. One that will never take it is not waited for.
    fn tell_input(&mut self, left: usize) {
        let left = if self.worker_deaf { 0 } else { left };
        let now = self.course.now();
        self.course.session.handle_input(left, &self.course.lifecycle.value().drain, now);
    }

    /// Writes what `up` has cleared, from `from` on. Returns how much the worker took.
    fn write_worker(&mut self, from: usize, cx: &mut Context<'_>) -> usize {
        let bytes = &self.up.bytes[from..self.up.cleared];
        match write(self.worker, bytes, self.worker_deaf, cx) {
            Written::Taken(taken) => taken,
            Written::NotNow => 0,
            Written::Never => {
                self.worker_deaf = true;
                0
            }
        }
    }

    fn send_down(&mut self, cx: &mut Context<'_>) -> bool {
        if self.down.is_empty() {
            return false;
        }
        let before = self.down.sent;
        while self.down.sent < self.down.bytes.len() {
            match write(self.client, &self.down.bytes[self.down.sent..], false, cx) {
                Written::Taken(taken) => self.down.sent += taken,
                Written::NotNow => break,
                Written::Never => {
                    self.course.session.handle_client_gone(EndReason::ClientReset);
                    break;
                }
            }
        }
        let taken = self.down.sent - before;
        let left = self.down.bytes.len() - self.down.sent;
        if left == 0 {
            self.down.clear();
        }
        let now = self.course.now();
        self.course.session.handle_output(taken, left, &self.course.lifecycle.value().drain, now);
        taken > 0
    }

    fn read_worker(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.down.is_empty() {
            return false;
        }
        let now = self.course.now();
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let limit = self.course.session.worker_read_limit(CHUNK, &self.course.lifecycle.value().drain, now);
        let mut bytes = ReadBuf::uninit(&mut space[..limit]);
        match Pin::new(&mut *self.worker).poll_read(cx, &mut bytes) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                let observed =
                    self.course.session.handle_worker(bytes.filled(), &self.course.lifecycle.value().drain, now);
                self.pass_down(&bytes.filled()[..observed], cx);
                true
            }
            Poll::Ready(_) => {
                self.course.session.handle_worker_gone();
                false
            }
        }
    }

    /// Writes to the client at once, and keeps what it does not take.
    fn pass_down(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        let taken = match write(self.client, bytes, false, cx) {
            Written::Taken(taken) => taken,
            Written::NotNow => 0,
            Written::Never => {
                self.course.session.handle_client_gone(EndReason::ClientReset);
                0
            }
        };
        self.down.fill(&bytes[taken..], bytes.len() - taken);
        let now = self.course.now();
        self.course.session.handle_output(taken, bytes.len() - taken, &self.course.lifecycle.value().drain, now);
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.up.is_empty() || self.client_ended {
            return false;
        }
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let mut bytes = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *self.client).poll_read(cx, &mut bytes) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {}
            Poll::Ready(ended) => {
                self.client_ended = true;
                let reason = if ended.is_ok() { EndReason::ClientClosed } else { EndReason::ClientReset };
                self.course.session.handle_client_gone(reason);
                return false;
            }
        }
        let bytes = bytes.filled();
        let now = self.course.now();
        let cleared = self.course.session.handle_client(bytes, &self.course.lifecycle.value().drain, now);
        let taken = match write(self.worker, &bytes[..cleared], self.worker_deaf, cx) {
            Written::Taken(taken) => taken,
            Written::NotNow => 0,
            Written::Never => {
                self.worker_deaf = true;
                0
            }
        };
        self.up.fill(&bytes[taken..], cleared - taken);
        self.tell_input(cleared - taken);
        true
    }
}

enum Written {
    Taken(usize),
    NotNow,
    Never,
}

/// One write, and a flush behind it. `deaf`: the other side is known to take nothing any more.
fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8], deaf: bool, cx: &mut Context<'_>) -> Written {
    if bytes.is_empty() || deaf {
        return Written::NotNow;
    }
    match Pin::new(&mut *stream).poll_write(cx, bytes) {
        Poll::Ready(Ok(0) | Err(_)) => Written::Never,
        Poll::Ready(Ok(taken)) => {
            // A socket has nothing to flush; a stream with a buffer of its own is woken when it has.
            let _ = Pin::new(stream).poll_flush(cx);
            Written::Taken(taken)
        }
        Poll::Pending => Written::NotNow,
    }
}
