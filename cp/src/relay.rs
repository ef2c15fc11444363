//! Moving the bytes of one session between its client and its worker.
//!
//! One task, both directions: bytes are read onto the stack, shown to the connection, and written on at once. It keeps what a
//! destination does not take, and a direction reads again when that is gone, so a slow reader slows its writer and nobody
//! else. An idle session owns no buffer at all.
//!
//! The relay decides nothing: which bytes may pass, and when it is over, is the connection's word
//! ([`lastcall_core::Connection`]).

use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use crate::connection::{Connection, Turn};
use crate::peer::Peer;
use crate::records::Meter;
use lastcall_core::connection::CHUNK;
use lastcall_core::wire::Side;
use lastcall_core::{EndReason, Transmit};
use lastcall_world::{PeerState, World};

/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS: usize = 16;

/// Relays until the session is over, and says why it is.
pub(crate) async fn run<W: World, M: Meter>(
    connection: &mut Connection<W, M>,
    client: &mut Peer<W::Stream>,
    worker: &mut Peer<W::Stream>,
) -> EndReason {
    let mut relay = Relay { connection, client, worker };
    std::future::poll_fn(|cx| relay.poll(cx)).await
}

struct Relay<'a, W: World, M> {
    connection: &'a mut Connection<W, M>,
    client: &'a mut Peer<W::Stream>,
    worker: &'a mut Peer<W::Stream>,
}

impl<W: World, M: Meter> Relay<'_, W, M> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        let mut refreshed = false;
        for _ in 0..ROUNDS {
            self.connection.poll_lifecycle(cx);
            let mut moved = self.send(Side::Backend, cx);
            moved |= self.send(Side::Frontend, cx);
            moved |= self.read(Side::Backend, cx);
            moved |= self.read(Side::Frontend, cx);
            moved |= self.watch_client(cx);
            // The verdict comes last: what has arrived is part of it.
            match self.connection.poll_turn(cx) {
                Poll::Ready(Turn::Look) => {
                    self.connection.look(self.client.unacknowledged());
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
                self.connection.inner.shrink();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Does for this side what there is to do. Returns whether anything moved.
    fn send(&mut self, to: Side, cx: &mut Context<'_>) -> bool {
        let peer = match to {
            Side::Frontend => &mut *self.client,
            Side::Backend => &mut *self.worker,
        };
        let (inner, drain, now) = self.connection.parts();
        let mut moved = false;
        while let Some(transmit) = inner.poll_transmit(to, drain, now) {
            let Transmit::Bytes(bytes) = transmit else {
                if peer.shut(cx) {
                    inner.handle_ended(to);
                }
                break;
            };
            let (taken, all) = (peer.write(bytes, cx), bytes.len());
            inner.handle_taken(to, taken, drain, now);
            moved |= taken > 0;
            if peer.is_deaf() {
                inner.handle_deaf(to, drain, now);
            }
            if taken < all {
                break;
            }
        }
        moved
    }

    /// Reads from this side what is wanted of it, and sends it on. Returns whether anything was learned.
    fn read(&mut self, from: Side, cx: &mut Context<'_>) -> bool {
        let (inner, drain, now) = self.connection.parts();
        let wanted = inner.wants(from, drain, now);
        if wanted == 0 {
            return false;
        }
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let mut bytes = ReadBuf::uninit(&mut space[..wanted]);
        let (peer, to) = match from {
            Side::Frontend => (&mut *self.client, Side::Backend),
            Side::Backend => (&mut *self.worker, Side::Frontend),
        };
        match peer.poll_read(cx, &mut bytes) {
            Poll::Pending => return false,
            Poll::Ready(0) if from == Side::Backend => {
                inner.handle_worker_ended();
                return false;
            }
            // What must be sent may be more now: a Flush, and the end of this side.
            Poll::Ready(0) => self.connection.client_ended(self.client.peer()),
            Poll::Ready(_) => {
                inner.handle_bytes(from, bytes.filled(), drain, now);
                self.send(to, cx);
            }
        }
        true
    }

    /// A client that ended its side, or of which bytes have to wait, is not read: whether it is still there must be asked.
    /// Returns whether anything was learned.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> bool {
        let (inner, drain, now) = self.connection.parts();
        if inner.wants(Side::Frontend, drain, now) > 0 {
            return false;
        }
        match self.client.poll_peer(cx) {
            Poll::Ready(PeerState::Gone) => self.connection.client_ended(PeerState::Gone),
            Poll::Ready(_) => inner.handle_client_left(now),
            Poll::Pending => return false,
        }
        true
    }
}
