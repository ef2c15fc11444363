//! The two ends of a connection that is relayed, for a task that waits for them.
//!
//! Bytes are read onto the stack and handed over at once: nothing is kept here.

use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use lastcall_core::connection::{CHUNK, ClientSide, Read, Sockets, Written};
use lastcall_core::wire::Side;
use tokio::io::ReadBuf;

use crate::peer::Peer;
use crate::{PeerState, Stream};

/// Both ends, and the task: whatever can't be done now wakes it when it can.
pub struct Pair<'a, 'c, S> {
    /// The client's.
    pub client: &'a mut Peer<S>,
    /// The worker's; none before there is one, and when others let go of it.
    pub worker: Option<&'a mut Peer<S>>,
    /// The task.
    pub cx: &'a mut Context<'c>,
}

impl<'c, S> Pair<'_, 'c, S> {
    fn side(&mut self, side: Side) -> Option<(&mut Peer<S>, &mut Context<'c>)> {
        let peer = match side {
            Side::Frontend => Some(&mut *self.client),
            Side::Backend => self.worker.as_deref_mut(),
        };
        Some((peer?, &mut *self.cx))
    }
}

impl<S: Stream> Sockets for Pair<'_, '_, S> {
    fn write(&mut self, to: Side, bytes: &[u8]) -> Written {
        let Some((peer, cx)) = self.side(to) else { return Written::Taken(0) };
        let taken = peer.write(bytes, cx);
        if taken == 0 && peer.is_deaf() { Written::Broken } else { Written::Taken(taken) }
    }

    fn read(&mut self, from: Side, limit: usize, take: &mut dyn FnMut(&[u8])) -> Read {
        let Some((peer, cx)) = self.side(from) else { return Read::Nothing };
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let mut bytes = ReadBuf::uninit(&mut space[..limit]);
        match peer.poll_read(cx, &mut bytes) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(0) if peer.state() == PeerState::Gone => Read::Reset,
            Poll::Ready(0) => Read::End,
            Poll::Ready(_) => {
                take(bytes.filled());
                Read::Bytes
            }
        }
    }

    fn end(&mut self, side: Side) -> bool {
        self.side(side).is_some_and(|(peer, cx)| peer.shut(cx))
    }

    fn client(&mut self) -> Option<ClientSide> {
        match self.client.poll_peer(self.cx) {
            Poll::Pending => None,
            Poll::Ready(PeerState::Gone) => Some(ClientSide::Gone),
            Poll::Ready(_) => Some(ClientSide::Left),
        }
    }

    fn unacknowledged(&mut self) -> usize {
        self.client.unacknowledged()
    }

    fn refresh(&mut self) {
        self.client.refresh();
        if let Some(worker) = &mut self.worker {
            worker.refresh();
        }
    }
}
