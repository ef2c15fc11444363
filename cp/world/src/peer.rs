//! The other end of a socket: what it has sent, what it has taken and acknowledged, whether it is still there.
//!
//! One value in whose hands everything lies that has to do with the machine over there.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use crate::{PeerState, Stream};

/// Bytes thrown away in one read. A simulated socket opens its window again only after a read of 16 KiB.
const DISCARD: usize = 16 * 1024;

/// Reads in one go, before one that never stops sending must wait for the others.
const DISCARDS: usize = 16;

/// See the module's text.
#[derive(Debug)]
pub struct Peer<S> {
    stream: S,
    /// Its side, as far as it is known.
    state: PeerState,
    /// It was read to its end.
    ended: bool,
    /// It takes nothing any more.
    deaf: bool,
    /// Our side has ended.
    shut: bool,
}

impl<S: Stream> Peer<S> {
    /// Nothing is known of it yet.
    pub const fn new(stream: S) -> Self {
        Peer { stream, state: PeerState::Open, ended: false, deaf: false, shut: false }
    }

    /// The bare stream.
    pub const fn stream(&self) -> &S {
        &self.stream
    }

    /// The bare stream, to be turned into another before anything was learned through this.
    pub const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The bare stream, for whoever wants nothing of this.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// What is known of its side.
    pub const fn state(&self) -> PeerState {
        self.state
    }

    /// Whether it takes nothing any more.
    pub const fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Reads what there is. Nothing read is the end of its side: [`Peer::state`] says which.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<usize> {
        let before = bytes.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, bytes) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if bytes.filled().len() > before => {}
            Poll::Ready(Ok(())) => self.state = self.state.max(PeerState::Closed),
            Poll::Ready(Err(_)) => self.state = PeerState::Gone,
        }
        self.ended |= bytes.filled().len() == before;
        Poll::Ready(bytes.filled().len() - before)
    }

    /// Writes as much of `bytes` as it takes now, and wakes the task when it takes more.
    pub fn write(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.deaf {
            match Pin::new(&mut self.stream).poll_write(cx, &bytes[taken..]) {
                Poll::Ready(Ok(0) | Err(_)) => self.deaf = true,
                Poll::Ready(Ok(more)) => taken += more,
                Poll::Pending => break,
            }
        }
        if taken > 0 {
            // A socket has nothing to flush; a stream with a buffer of its own is woken when it has.
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
        taken
    }

    /// Ends our side, behind everything written. Returns whether that is done.
    pub fn shut(&mut self, cx: &mut Context<'_>) -> bool {
        // One that can't be told is gone, which its reads will say.
        self.shut = self.shut || Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
        self.shut
    }

    /// Ready when more is known of its side than before. Reads nothing, and so sees past what is not wanted yet.
    pub fn poll_peer(&mut self, cx: &mut Context<'_>) -> Poll<PeerState> {
        self.stream.poll_peer(self.state, cx).map(|state| {
            self.state = state;
            state
        })
    }

    /// Bytes written that its machine has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.stream.unacknowledged()
    }

    /// The next read asks the kernel itself: what has arrived in time counts, also where the process was stopped meanwhile.
    pub fn refresh(&mut self) {
        self.stream.refresh();
    }

    /// Throws away what can be read. Returns whether its side has ended.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..DISCARDS {
            if self.ended {
                return true;
            }
            let mut space = [const { MaybeUninit::uninit() }; DISCARD];
            if self.poll_read(cx, &mut ReadBuf::uninit(&mut space)).is_pending() {
                return false;
            }
        }
        cx.waker().wake_by_ref();
        false
    }
}
