//! Moving the bytes of one session between its client and its worker.
//!
//! One task, both directions, each with a buffer of at most [`CHUNK`] bytes, and a Flush of our own, that exists only while
//! its destination takes nothing: bytes are read onto the stack, shown to the session, and written on at once. A direction
//! reads again when its buffer is empty, so a slow reader slows its writer and nobody else. An idle session owns no buffer
//! at all.
//!
//! The relay decides nothing: which bytes may pass, and when it is over, is the session's word.

use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use crate::connection::{Connection, Turn};
use crate::peer::Peer;
use crate::records::Meter;
use lastcall_core::session::FLUSH;
use lastcall_core::{Activity, EndReason};
use lastcall_world::{PeerState, World};

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
    connection: &mut Connection<W, M>,
    client: &mut Peer<W::Stream>,
    worker: &mut Peer<W::Stream>,
    startup: Vec<u8>,
    early: Vec<u8>,
) -> Over {
    let mut up = Pipe { cleared: startup.len(), bytes: startup, sent: 0 };
    up.bytes.extend_from_slice(&early);
    let mut relay = Relay { connection, client, worker, up, down: Pipe::default() };
    let reason = std::future::poll_fn(|cx| relay.poll(cx)).await;
    let unsent = relay.down.bytes.split_off(relay.down.sent);
    let torn = relay.up.sent < relay.up.cleared || relay.connection.session.is_mid_request();
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
    connection: &'a mut Connection<W, M>,
    client: &'a mut Peer<W::Stream>,
    worker: &'a mut Peer<W::Stream>,
    /// From client to worker.
    up: Pipe,
    /// From worker to client.
    down: Pipe,
}

impl<W: World, M: Meter> Relay<'_, W, M> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        let mut refreshed = false;
        for _ in 0..ROUNDS {
            self.connection.poll_lifecycle(cx);
            let mut moved = self.send_up(cx);
            moved |= self.send_down(cx);
            moved |= self.read_worker(cx);
            moved |= self.read_client(cx);
            moved |= self.watch_client(cx);
            // The verdict comes last: what has arrived is part of it.
            match self.connection.poll_turn(cx) {
                Poll::Ready(Turn::Look) => {
                    self.look();
                    continue;
                }
                // Also what has arrived while this process was stopped, and its clocks were not.
                Poll::Ready(_) if !refreshed => {
                    refreshed = true;
                    self.client.refresh();
                    self.worker.refresh();
                    continue;
                }
                Poll::Ready(Turn::End(reason)) => return Poll::Ready(reason),
                Poll::Ready(Turn::Cancel) => {
                    self.connection.cancel();
                    continue;
                }
                Poll::Pending => {}
            }
            if !moved {
                if self.client.has_ended() && self.up.is_empty() {
                    // Behind the client's last byte, so that the worker does what it would do without us.
                    self.worker.shut(cx);
                }
                if self.connection.session.activity() == Activity::Idle {
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
        let (session, drain, now) = self.connection.parts();
        if session.take_flush(drain) {
            self.up.slip_in(&FLUSH);
        }
        if self.up.cleared < self.up.bytes.len() {
            self.up.cleared += session.handle_client(&self.up.bytes[self.up.cleared..], drain, now);
        }
        let taken = self.worker.write(&self.up.bytes[self.up.sent..self.up.cleared], cx);
        self.up.sent += taken;
        if !self.up.is_empty() {
            self.tell_input(self.up.cleared - self.up.sent);
        }
        if self.up.sent == self.up.bytes.len() {
            self.up.clear();
        }
        taken > 0
    }

    /// Tells the session how much the worker has not taken. One that will never take it is not waited for.
    fn tell_input(&mut self, left: usize) {
        let left = if self.worker.is_deaf() { 0 } else { left };
        let (session, drain, now) = self.connection.parts();
        session.handle_input(left, drain, now);
    }

    fn send_down(&mut self, cx: &mut Context<'_>) -> bool {
        if self.down.is_empty() {
            return false;
        }
        let taken = self.client.write(&self.down.bytes[self.down.sent..], cx);
        self.down.sent += taken;
        self.heed_deaf_client();
        let left = self.down.bytes.len() - self.down.sent;
        if left == 0 {
            self.down.clear();
        }
        let (session, drain, now) = self.connection.parts();
        session.handle_output(taken, left, drain, now);
        taken > 0
    }

    fn read_worker(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.down.is_empty() {
            return false;
        }
        let (session, drain, now) = self.connection.parts();
        let limit = session.worker_read_limit(CHUNK, drain, now);
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let mut bytes = ReadBuf::uninit(&mut space[..limit]);
        match self.worker.poll_read(cx, &mut bytes) {
            Poll::Pending => false,
            Poll::Ready(read) if read > 0 => {
                let observed = session.handle_worker(bytes.filled(), drain, now);
                self.pass_down(&bytes.filled()[..observed], cx);
                true
            }
            Poll::Ready(_) => {
                self.connection.session.handle_worker_gone();
                false
            }
        }
    }

    /// Writes to the client at once, and keeps what it does not take.
    fn pass_down(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        let taken = self.client.write(bytes, cx);
        self.heed_deaf_client();
        self.down.fill(&bytes[taken..], bytes.len() - taken);
        let (session, drain, now) = self.connection.parts();
        session.handle_output(taken, bytes.len() - taken, drain, now);
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.up.is_empty() || self.client.has_ended() {
            return false;
        }
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let mut bytes = ReadBuf::uninit(&mut space);
        match self.client.poll_read(cx, &mut bytes) {
            Poll::Pending => return false,
            Poll::Ready(0) => {
                self.connection.client_ended(self.client.peer());
                // What must be sent may be more now: a Flush, and the end of this side.
                return true;
            }
            Poll::Ready(_) => {}
        }
        let bytes = bytes.filled();
        let (session, drain, now) = self.connection.parts();
        let cleared = session.handle_client(bytes, drain, now);
        let taken = self.worker.write(&bytes[..cleared], cx);
        self.up.fill(&bytes[taken..], cleared - taken);
        self.tell_input(cleared - taken);
        true
    }

    /// A client that ended its side, or of which bytes have to wait, is not read: whether it is still there must be asked.
    /// Returns whether anything was learned.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> bool {
        if self.up.is_empty() && !self.client.has_ended() {
            return false;
        }
        match self.client.poll_peer(cx) {
            Poll::Ready(PeerState::Gone) => self.connection.client_ended(PeerState::Gone),
            Poll::Ready(_) => self.connection.client_left(),
            Poll::Pending => return false,
        }
        true
    }

    fn heed_deaf_client(&mut self) {
        if self.client.is_deaf() {
            self.connection.client_ended(PeerState::Gone);
        }
    }

    /// How much of what was written the client's machine has acknowledged.
    fn look(&mut self) {
        let (session, drain, now) = self.connection.parts();
        session.handle_look(self.client.unacknowledged(), drain, now);
    }
}
