//! What a host's kernel holds of its connections on top of the stack's own socket.
//!
//! The stack tells nobody what was acknowledged, and has a receive buffer of [`WINDOW`]. So each open connection has a
//! [`Socket`] here, which the packet path keeps up to date whether or not the process looks: it takes what has arrived into a
//! buffer as large as the host's, counts what the peer's machine has acknowledged, and sees the peer's FIN past bytes that
//! nobody has read. A process that is stopped, or reads nothing, changes none of that.
//!
//! A writer that was refused, or taken only in part, is let on when a third of the send buffer is free, as on Linux
//! (`sk_stream_is_writeable`: what is free is at least half of what is used). That is all that it learns of its peer's reading.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use ::turmoil_net::shim::tokio::net::TcpStream;
use ::turmoil_net::{HostId, TcpFlags, netstat, set_current};
use bytes::{Buf, BytesMut};
use lastcall_world::PeerState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::packets::Flow;
use super::{links, lock};
use crate::stage::Buffers;

/// The stack's own receive buffer, and so what may be on its way to a socket at once: its windows have 16 bits and are not
/// scaled. It sends a window update only when one read frees half of this: a [`Socket`] takes that much, or all that is there.
pub(super) const WINDOW: u16 = 32 * 1024;

/// All open connections of a run.
pub(super) struct Sockets {
    /// By what they send.
    open: BTreeMap<Flow, Arc<Mutex<Socket>>>,
    /// The first sequence number behind a SYN, until the connection is open. At most one a 4-tuple.
    first: BTreeMap<Flow, u32>,
    /// Of `open`, those whose both ends are on one host, and its address: the packet path sees nothing of them.
    within: Vec<(Flow, IpAddr)>,
    /// Hosts whose processes go on after a SIGSTOP, and have not had time to ask for what has come meanwhile.
    waking: BTreeSet<IpAddr>,
    /// Who of them waits for connections.
    accepting: Vec<Waker>,
    /// Where bytes pass through on their way from the stack's buffer to a socket's.
    scratch: Vec<u8>,
}

impl Default for Sockets {
    fn default() -> Self {
        let scratch = vec![0; usize::from(WINDOW)];
        Sockets {
            open: BTreeMap::new(),
            first: BTreeMap::new(),
            within: Vec::new(),
            waking: BTreeSet::new(),
            accepting: Vec::new(),
            scratch,
        }
    }
}

impl Sockets {
    /// A connection is open, and its process on this host has it. In that host's turn.
    pub(super) fn open(
        &mut self,
        tcp: TcpStream,
        flow: Flow,
        (address, host): (IpAddr, HostId),
        buffers: Buffers,
    ) -> Arc<Mutex<Socket>> {
        let first = self.first.remove(&flow);
        if first.is_none() {
            self.within.push((flow, address));
        }
        let mut socket = Socket::new(tcp, (address, host), buffers, first.unwrap_or_default());
        // What has arrived before the process accepted it.
        socket.take(&mut self.scratch, Until::Empty);
        let socket = Arc::new(Mutex::new(socket));
        self.open.insert(flow, socket.clone());
        socket
    }

    /// Its process has closed it.
    pub(super) fn close(&mut self, flow: Flow) {
        if self.open.remove(&flow).is_some() {
            self.within.retain(|(within, _)| *within != flow);
        }
    }

    /// A SYN, or the answer to one, leaves with this sequence number.
    pub(super) fn syn_leaves(&mut self, flow: Flow, seq: u32) {
        self.first.insert(flow, seq.wrapping_add(1));
    }

    /// The stack has taken a packet: what it means for the socket that sends `own`, and whether that is all: the stack has no
    /// answer to it, and nothing that it would send now.
    #[must_use]
    pub(super) fn arrived(&mut self, own: Flow, news: News) -> (Woken, bool) {
        let Some(socket) = self.open.get(&own) else { return (Woken::default(), false) };
        let mut socket = lock(socket);
        let News { flags, ack, has_data } = news;
        if flags.ack {
            socket.acknowledge(ack);
        }
        if flags.fin {
            socket.see(PeerState::Closed);
        }
        let is_more = has_data || flags.fin || flags.rst;
        if is_more {
            set_current(socket.host.1);
            socket.take(&mut self.scratch, if has_data && !flags.fin { Until::Short } else { Until::Empty });
        }
        if flags.rst {
            // Also behind the peer's FIN, where no read would tell.
            socket.see(PeerState::Gone);
        }
        (std::mem::take(&mut socket.woken), !is_more && socket.unacknowledged == 0)
    }

    /// What connections within a host have sent has arrived, and is acknowledged. Those of which that is so.
    #[must_use]
    pub(super) fn pass_within(&mut self) -> Vec<Woken> {
        let mut moved = Vec::new();
        for (flow, address) in &self.within {
            let Some(socket) = self.open.get(flow) else { continue };
            let entries = netstat(*address).entries;
            let left = entries.iter().find(|entry| links::sends(entry) == Some(*flow)).map_or(0, |entry| entry.send_q);
            let mut socket = lock(socket);
            set_current(socket.host.1);
            let before = (socket.unacknowledged, socket.unread.len(), socket.end);
            socket.unacknowledged = left;
            socket.wake_writer();
            socket.take(&mut self.scratch, Until::Empty);
            if (socket.unacknowledged, socket.unread.len(), socket.end) != before {
                moved.push(std::mem::take(&mut socket.woken));
            }
        }
        moved
    }

    /// The process of a host goes on after a SIGSTOP.
    pub(super) fn thaw(&mut self, host: IpAddr) {
        self.waking.insert(host);
    }

    /// All tasks wait: processes that go on learn what has come. None if there are none.
    #[must_use]
    pub(super) fn look(&mut self) -> Option<Vec<Woken>> {
        if self.waking.is_empty() {
            return None;
        }
        let hosts = std::mem::take(&mut self.waking);
        let mut woken = vec![];
        for socket in self.open.values() {
            let mut socket = lock(socket);
            if hosts.contains(&socket.host.0) {
                socket.wake_reader();
                woken.push(std::mem::take(&mut socket.woken));
            }
        }
        woken.extend(self.accepting.drain(..).map(|waker| Woken([Some(waker), None, None])));
        Some(woken)
    }

    /// Whether a host's process must wait for its connections until it has looked for what it has missed.
    pub(super) fn defers_accept(&mut self, host: IpAddr, cx: &Context<'_>) -> bool {
        let waking = self.waking.contains(&host);
        if waking {
            self.accepting.push(cx.waker().clone());
        }
        waking
    }

    /// Reads from a socket, in its host's turn. Whether there is room for more, too.
    pub(super) fn poll_read(
        &mut self,
        socket: &Mutex<Socket>,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> (Poll<io::Result<()>>, bool) {
        let mut socket = lock(socket);
        // The process remembers what it was told last: that there is nothing.
        if socket.is_told_empty && self.waking.contains(&socket.host.0) {
            register(&mut socket.reader, cx);
            return (Poll::Pending, false);
        }
        let read = socket.poll_read(cx, buf);
        let goes_on = read.is_ready() && socket.is_behind;
        if goes_on {
            socket.take(&mut self.scratch, Until::Empty);
        }
        (read, goes_on)
    }
}

/// What of a packet matters to a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    pub(super) flags: TcpFlags,
    pub(super) ack: u32,
    pub(super) has_data: bool,
}

/// How far a socket takes over what the stack has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until it says that there is nothing.
    Empty,
    /// Until there was less than could be taken: no end can stand behind that.
    Short,
}

/// Whom to wake, without any lock held: a reader, a watcher, a writer.
#[derive(Debug, Default)]
pub(super) struct Woken([Option<Waker>; 3]);

impl Woken {
    pub(super) fn wake(self) {
        self.0.into_iter().flatten().for_each(Waker::wake);
    }
}

/// One end of an open connection.
pub(super) struct Socket {
    tcp: TcpStream,
    host: (IpAddr, HostId),
    buffers: Buffers,
    /// Has arrived and is not read. Holds no memory until something arrives.
    unread: BytesMut,
    /// There was no room for all that the stack has.
    is_behind: bool,
    /// Behind `unread` stands the peer's FIN, or this.
    end: Option<Result<(), io::ErrorKind>>,
    /// What the peer's side is, past everything unread.
    peer: PeerState,
    /// The sequence number of the oldest byte that is not acknowledged.
    oldest: u32,
    /// Bytes, and a FIN of ours.
    unacknowledged: usize,
    is_shut: bool,
    /// What its process knows: a read found nothing, and has not been told otherwise.
    is_told_empty: bool,
    /// The writer waits for a third of the buffer.
    is_full: bool,
    reader: Option<Waker>,
    watcher: Option<Waker>,
    writer: Option<Waker>,
    woken: Woken,
}

impl Socket {
    fn new(tcp: TcpStream, host: (IpAddr, HostId), buffers: Buffers, oldest: u32) -> Socket {
        Socket {
            tcp,
            host,
            buffers,
            unread: BytesMut::new(),
            is_behind: false,
            end: None,
            peer: PeerState::Open,
            oldest,
            unacknowledged: 0,
            is_shut: false,
            is_told_empty: false,
            is_full: false,
            reader: None,
            watcher: None,
            writer: None,
            woken: Woken::default(),
        }
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether the peer can send nothing any more.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn poll_peer(&mut self, known: PeerState, cx: &Context<'_>) -> Poll<PeerState> {
        if self.peer > known {
            return Poll::Ready(self.peer);
        }
        register(&mut self.watcher, cx);
        Poll::Pending
    }

    pub(super) fn refresh(&mut self) {
        self.is_told_empty = false;
    }

    fn poll_read(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.is_told_empty = self.unread.is_empty() && self.end.is_none();
        if self.unread.is_empty() {
            match self.end {
                Some(Ok(())) => return Poll::Ready(Ok(())),
                Some(Err(kind)) => return Poll::Ready(Err(kind.into())),
                None => {
                    register(&mut self.reader, cx);
                    return Poll::Pending;
                }
            }
        }
        let read = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..read]);
        self.unread.advance(read);
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let is_over = self.is_shut || matches!(self.end, Some(Err(_)));
        if is_over || buf.is_empty() {
            return Pin::new(&mut self.tcp).poll_write(cx, buf);
        }
        let room = self.buffers.send.saturating_sub(self.unacknowledged);
        if self.is_full || room == 0 {
            self.is_full = true;
            register(&mut self.writer, cx);
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.tcp).poll_write(cx, &buf[..buf.len().min(room)]);
        if let Poll::Ready(Ok(written)) = written {
            self.unacknowledged += written;
            self.is_full = written < buf.len();
        }
        written
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.tcp).poll_shutdown(cx);
        if matches!(shut, Poll::Ready(Ok(()))) && !std::mem::replace(&mut self.is_shut, true) {
            self.unacknowledged += 1;
        }
        shut
    }

    /// Takes over what the stack has, if there is room for it and for as much again as the stack may take then.
    fn take(&mut self, scratch: &mut [u8], until: Until) {
        self.is_behind = false;
        while self.end.is_none() {
            let capacity = self.buffers.receive.max(2 * scratch.len());
            let room = capacity.saturating_sub(self.unread.len() + scratch.len()).min(scratch.len());
            // A smaller read would send no window update.
            if room < scratch.len() / 2 && !self.unread.is_empty() {
                self.is_behind = true;
                return;
            }
            let mut read = ReadBuf::new(&mut scratch[..room]);
            match Pin::new(&mut self.tcp).poll_read(&mut Context::from_waker(Waker::noop()), &mut read) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    self.end = Some(Ok(()));
                    self.see(PeerState::Closed);
                }
                Poll::Ready(Ok(())) => {
                    let is_short = read.remaining() > 0;
                    self.unread.extend_from_slice(read.filled());
                    self.wake_reader();
                    if is_short && until == Until::Short {
                        return;
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.unread = BytesMut::new();
                    self.end = Some(Err(error.kind()));
                    self.see(PeerState::Gone);
                }
            }
        }
    }

    fn acknowledge(&mut self, ack: u32) {
        let bytes = ack.wrapping_sub(self.oldest);
        // What is older than the oldest comes out as more than there is.
        if let Some(left) = usize::try_from(bytes).ok().and_then(|bytes| self.unacknowledged.checked_sub(bytes)) {
            self.oldest = ack;
            self.unacknowledged = left;
            self.wake_writer();
        }
    }

    fn see(&mut self, peer: PeerState) {
        self.peer = self.peer.max(peer);
        self.wake_reader();
        if peer == PeerState::Gone {
            self.is_full = false;
            self.woken.0[2] = self.writer.take().or(self.woken.0[2].take());
        }
    }

    fn wake_reader(&mut self) {
        self.woken.0[0] = self.reader.take().or(self.woken.0[0].take());
        self.woken.0[1] = self.watcher.take().or(self.woken.0[1].take());
    }

    fn wake_writer(&mut self) {
        let free = self.buffers.send.saturating_sub(self.unacknowledged);
        if self.is_full && free >= self.unacknowledged / 2 {
            self.is_full = false;
            self.woken.0[2] = self.writer.take().or(self.woken.0[2].take());
        }
    }
}

fn register(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}
