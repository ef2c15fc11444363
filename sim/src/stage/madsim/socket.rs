//! One end of a connection: what a kernel knows of it. A value without clock and network: it takes what was written, read and
//! received, and is asked what leaves ([`Socket::leaves`]).
//!
//! Segments arrive in order and none is missing: the network beneath sees to that. So there are no sequence numbers but two
//! counts, each of all bytes since the beginning, a FIN being one. What is left of TCP is what a program can tell: windows and
//! acknowledgements, both ends of a half-close, and resets.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use lastcall_world::PeerState;
use tokio::io::ReadBuf;

use crate::stage::Buffers;

/// What may be on its way in one direction: as on the engine on `turmoil-net`.
const IN_FLIGHT: u64 = 32 * 1024;

/// The largest segment. One that is larger than a packet stands for as many as it takes.
const LARGEST: u64 = 16 * 1024;

/// What one end sends to the other.
#[derive(Debug)]
pub(super) enum Segment {
    /// The first one: to this port.
    Syn {
        port: u16,
    },
    /// The answer to it. `edge`: how many bytes may be sent in all.
    SynAck {
        edge: u64,
    },
    Data(Bytes),
    Fin,
    /// So much has arrived in all, and so much may be sent.
    Ack {
        next: u64,
        edge: u64,
    },
    Rst,
}

impl Segment {
    /// Whether its sender waits for an acknowledgement.
    pub(super) fn wants_answer(&self) -> bool {
        matches!(self, Segment::Syn { .. } | Segment::SynAck { .. } | Segment::Data(_) | Segment::Fin)
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Of the side that was connected to: not even a SYN has come. Of the side that connects: no answer has.
    Opening,
    /// The side that was connected to has answered.
    Answered,
    Open,
    /// Over and forgotten: what still comes is answered with a reset.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    No,
    /// Behind what is queued.
    Wanted,
    Sent,
}

#[derive(Debug)]
pub(super) struct Socket {
    buffers: Buffers,
    state: State,
    /// The process has no handle of it any more.
    is_closed: bool,
    peer: PeerState,

    /// Written, and has not left.
    queue: VecDeque<Bytes>,
    queued: usize,
    fin: Fin,
    sent: u64,
    acknowledged: u64,
    edge: u64,
    /// The writer was refused, or taken in part: it waits for a third of its buffer.
    is_full: bool,

    /// Arrived, and not read.
    inbox: VecDeque<Bytes>,
    unread: usize,
    received: u64,
    /// How far the peer was told that it may send.
    told: u64,

    /// What leaves first.
    answers: VecDeque<Segment>,
    owes_acknowledgement: bool,
    /// Of a connection that was given up, for good.
    never_acknowledged: usize,

    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

impl Socket {
    pub(super) fn new(buffers: Buffers) -> Socket {
        Socket {
            buffers,
            state: State::Opening,
            is_closed: false,
            peer: PeerState::Open,
            queue: VecDeque::new(),
            queued: 0,
            fin: Fin::No,
            sent: 0,
            acknowledged: 0,
            edge: 0,
            is_full: false,
            inbox: VecDeque::new(),
            unread: 0,
            received: 0,
            told: 0,
            answers: VecDeque::new(),
            owes_acknowledgement: false,
            never_acknowledged: 0,
            reader: None,
            writer: None,
            watcher: None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// A connect begins.
    pub(super) fn connect(&mut self, port: u16) {
        self.answers.push_back(Segment::Syn { port });
    }

    /// Ready when the answer to the SYN is there: whether it was a good one.
    pub(super) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.state {
            State::Opening => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Over => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            State::Answered | State::Open => Poll::Ready(Ok(())),
        }
    }

    /// A SYN has come: somebody listens or not.
    pub(super) fn answer(&mut self, listens: bool) {
        if listens {
            self.state = State::Answered;
            self.told = self.window();
            self.answers.push_back(Segment::SynAck { edge: self.told });
        } else {
            self.forget();
            self.answers.push_back(Segment::Rst);
        }
    }

    /// Bytes and a FIN that were written here and are not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        if self.state == State::Over {
            return self.never_acknowledged;
        }
        self.queued + self.in_flight() as usize + usize::from(self.fin == Fin::Wanted)
    }

    pub(super) fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        if self.peer > known {
            return Poll::Ready(self.peer);
        }
        self.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            let Some(first) = self.inbox.front_mut() else { break };
            let n = first.len().min(buf.remaining());
            buf.put_slice(&first[..n]);
            first.advance(n);
            self.unread -= n;
            if first.is_empty() {
                self.inbox.pop_front();
            }
        }
        if buf.filled().len() > before {
            // As Linux: not for every byte.
            self.owes_acknowledgement |= self.window() - self.told >= self.buffers.receive as u64 / 2;
            return Poll::Ready(Ok(()));
        }
        match self.peer {
            PeerState::Gone => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            PeerState::Closed => Poll::Ready(Ok(())),
            PeerState::Open => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.peer == PeerState::Gone {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.fin != Fin::No {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !self.is_writable() {
            self.is_full = true;
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = buf.len().min(self.buffers.send - self.used());
        self.is_full = n < buf.len();
        self.queue.push_back(Bytes::copy_from_slice(&buf[..n]));
        self.queued += n;
        Poll::Ready(Ok(n))
    }

    pub(super) fn shut(&mut self) {
        if self.fin == Fin::No && self.state != State::Over {
            self.fin = Fin::Wanted;
        }
    }

    /// The process lets go of it: with RST if it asks for that or has not read everything.
    pub(super) fn close(&mut self, aborts: bool) {
        self.is_closed = true;
        if self.state == State::Over {
            return;
        }
        if aborts || self.unread > 0 || self.state == State::Opening {
            self.forget();
            self.answers.push_back(Segment::Rst);
        } else {
            self.shut();
        }
    }

    /// Whether its process has let go of it, and its kernel has not finished.
    pub(super) fn is_orphan(&self) -> bool {
        self.is_closed && self.state != State::Over
    }

    /// Everything is over here, and nobody is told.
    pub(super) fn forget(&mut self) {
        self.never_acknowledged = self.unacknowledged();
        self.state = State::Over;
        self.queue.clear();
        self.queued = 0;
        self.inbox.clear();
        self.unread = 0;
        self.answers.clear();
        self.owes_acknowledgement = false;
    }

    /// The peer has reset it, or its kernel gives it up: the process learns of it. What it has not read is lost.
    pub(super) fn end(&mut self) {
        if self.state == State::Over {
            return;
        }
        self.forget();
        self.peer = PeerState::Gone;
        self.wake_all();
    }

    /// A segment has arrived.
    pub(super) fn arrives(&mut self, segment: Segment) {
        if self.state == State::Over {
            if matches!(segment, Segment::SynAck { .. } | Segment::Data(_) | Segment::Fin) {
                self.answers.push_back(Segment::Rst);
            }
            return;
        }
        if self.state == State::Answered {
            self.state = State::Open;
        }
        match segment {
            Segment::Syn { .. } => {}
            Segment::SynAck { edge } => {
                self.state = State::Open;
                self.edge = edge;
                self.told = self.window();
                self.owes_acknowledgement = true;
                wake(&mut self.reader);
            }
            Segment::Data(_) if self.is_closed => {
                self.forget();
                self.answers.push_back(Segment::Rst);
            }
            Segment::Data(bytes) => {
                self.received += bytes.len() as u64;
                self.unread += bytes.len();
                self.inbox.push_back(bytes);
                self.owes_acknowledgement = true;
                wake(&mut self.reader);
                wake(&mut self.watcher);
            }
            Segment::Fin => {
                self.received += 1;
                self.peer = PeerState::Closed;
                self.owes_acknowledgement = true;
                wake(&mut self.reader);
                wake(&mut self.watcher);
            }
            Segment::Ack { next, edge } => {
                self.acknowledged = next;
                self.edge = edge;
                if self.is_writable() {
                    wake(&mut self.writer);
                }
            }
            Segment::Rst => self.end(),
        }
    }

    /// What leaves now. To be asked again until there is nothing.
    pub(super) fn leaves(&mut self) -> Option<Segment> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        if std::mem::take(&mut self.owes_acknowledgement) {
            self.told = self.window();
            return Some(Segment::Ack { next: self.received, edge: self.told });
        }
        if self.state != State::Open {
            return None;
        }
        let room = self.edge.saturating_sub(self.sent).min(IN_FLIGHT.saturating_sub(self.in_flight())).min(LARGEST);
        if let Some(first) = self.queue.front_mut().filter(|_| room > 0) {
            let bytes = first.split_to(first.len().min(room as usize));
            if first.is_empty() {
                self.queue.pop_front();
            }
            self.queued -= bytes.len();
            self.sent += bytes.len() as u64;
            return Some(Segment::Data(bytes));
        }
        if self.fin == Fin::Wanted && self.queue.is_empty() {
            self.fin = Fin::Sent;
            self.sent += 1;
            return Some(Segment::Fin);
        }
        if self.is_closed && self.fin == Fin::Sent && self.in_flight() == 0 && self.peer == PeerState::Closed {
            self.forget();
        }
        None
    }

    fn in_flight(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// How many bytes the peer may send in all.
    fn window(&self) -> u64 {
        self.received + (self.buffers.receive as u64).saturating_sub(self.unread as u64)
    }

    /// Of the send buffer.
    fn used(&self) -> usize {
        let fin = u64::from(self.fin == Fin::Sent);
        self.queued + self.in_flight().saturating_sub(fin) as usize
    }

    fn is_writable(&self) -> bool {
        let used = self.used();
        let free = self.buffers.send.saturating_sub(used);
        if self.is_full { free > 0 && free >= used / 2 } else { free > 0 }
    }

    fn wake_all(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
        wake(&mut self.watcher);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
