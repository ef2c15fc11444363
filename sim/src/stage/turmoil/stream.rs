//! Sockets of the engine on `turmoil`: its own, behaving more like a kernel's.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ::turmoil::net::{TcpListener, TcpStream};
use futures_util::future::BoxFuture;
use lastcall_world::PeerState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::World;

/// Writes that may be under way and not yet read. Far below the simulator's own capacity, so that a FIN always finds room.
const WINDOW_WRITES: usize = 8192;

/// A TCP connection. To be used and dropped by tasks of its own host.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    outgoing: Arc<Window>,
    incoming: Arc<Window>,
    /// What a packet takes.
    tick: Duration,
    is_shut: bool,
    /// Until the peer's end arrives here.
    arrives: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// The side that connected: the other one has opened the windows.
    pub(super) fn connected(tcp: TcpStream, world: &World) -> io::Result<Stream> {
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        let windows = &world.shared.windows;
        let (outgoing, incoming) = (windows.take(local, peer), windows.take(peer, local));
        Ok(Stream::new(tcp, outgoing, incoming, world))
    }

    fn accepted(tcp: TcpStream, world: &World) -> io::Result<Stream> {
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        let windows = &world.shared.windows;
        let (outgoing, incoming) = (windows.open(local, peer), windows.open(peer, local));
        Ok(Stream::new(tcp, outgoing, incoming, world))
    }

    fn new(tcp: TcpStream, outgoing: Arc<Window>, incoming: Arc<Window>, world: &World) -> Stream {
        let buffers = world.shared.machines[world.index].buffers;
        outgoing.lock().send = buffers.send;
        incoming.lock().receive = buffers.receive;
        Stream { tcp, outgoing, incoming, tick: world.shared.tick, is_shut: false, arrives: None }
    }
}

impl lastcall_world::Stream for Stream {
    /// What has been written, or shut, within the last two ticks: the way there and back. And what does not fit into the
    /// peer's receive buffer. turmoil itself has no acknowledgements.
    fn unacknowledged(&self) -> usize {
        self.outgoing.lock().unacknowledged(Instant::now(), 2 * self.tick)
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        loop {
            // A reset by the peer comes with its own bytes, or is the answer to ours.
            let mut incoming = self.incoming.lock();
            let end = incoming.ends.into_iter().flatten().filter(|(peer, _)| *peer > known);
            let Some((peer, at)) = end.max_by_key(|(peer, at)| (std::cmp::Reverse(*at), *peer)) else {
                incoming.watcher = Some(cx.waker().clone());
                return Poll::Pending;
            };
            drop(incoming);
            if at <= Instant::now() {
                self.arrives = None;
                return Poll::Ready(peer);
            }
            let arrives = self.arrives.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if arrives.deadline() != at {
                arrives.as_mut().reset(at);
            }
            ready!(arrives.as_mut().poll(cx));
        }
    }

    fn refresh(&mut self) {}
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.incoming.read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.outgoing.poll_room(cx))?;
        let n = ready!(Pin::new(&mut self.tcp).poll_write(cx, &buf[..buf.len().min(room)]))?;
        let now = Instant::now();
        self.outgoing.written(n, buf.len(), now);
        if self.outgoing.lock().closed {
            self.incoming.end(PeerState::Gone, now + 2 * self.tick);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            self.is_shut = true;
            self.outgoing.end(PeerState::Closed, Instant::now() + self.tick);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let unread = self.incoming.lock().bytes > 0;
        self.incoming.close();
        let arrives = Instant::now() + self.tick;
        self.outgoing.end(if unread { PeerState::Gone } else { PeerState::Closed }, arrives);
    }
}

/// The windows that the accepting side has opened and the connecting side has not taken yet, by direction (from, to).
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<BTreeMap<(SocketAddr, SocketAddr), Arc<Window>>>);

impl Windows {
    /// Replaces what is left of a connect that was given up.
    fn open(&self, from: SocketAddr, to: SocketAddr) -> Arc<Window> {
        let window = Arc::<Window>::default();
        self.lock().insert((from, to), window.clone());
        window
    }

    fn take(&self, from: SocketAddr, to: SocketAddr) -> Arc<Window> {
        self.lock().remove(&(from, to)).expect("whoever accepts opens the windows before the connect returns")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SocketAddr, SocketAddr), Arc<Window>>> {
        self.0.lock().expect("nothing panics while it holds the windows")
    }
}

/// One direction of a connection. Room comes back at once when the reader reads, not a latency later: so does turmoil's own.
#[derive(Debug, Default)]
struct Window(Mutex<Unread>);

#[derive(Debug, Default)]
struct Unread {
    bytes: usize,
    /// What is left of each write, and when it was made.
    writes: VecDeque<(usize, Instant)>,
    /// The writer's buffer and the reader's: together about what may be written and not yet read.
    send: usize,
    receive: usize,
    /// The writer was refused, or taken in part: it waits for a third of its buffer.
    full: bool,
    /// The reader is gone.
    closed: bool,
    writer: Option<Waker>,
    /// How the writer's side ended, in good order and for good, and when that arrives at the reader.
    ends: [Option<(PeerState, Instant)>; 2],
    watcher: Option<Waker>,
}

impl Unread {
    /// At least the writer's own buffer, also before the reader's is known.
    fn free(&self) -> usize {
        (self.send + self.receive).saturating_sub(self.bytes)
    }

    fn is_writable(&self) -> bool {
        let used = self.bytes.saturating_sub(self.receive);
        let free = self.send.saturating_sub(used);
        let enough = if self.full { free > 0 && free >= used / 2 } else { free > 0 };
        enough && self.writes.len() < WINDOW_WRITES
    }

    fn unacknowledged(&self, now: Instant, takes: Duration) -> usize {
        let is_on_its_way = |at: Instant| now < at + takes;
        let bytes: usize = self.writes.iter().rev().take_while(|(_, at)| is_on_its_way(*at)).map(|(n, _)| n).sum();
        // The FIN arrives half of the way after it was sent.
        let fin = self.ends[0].is_some_and(|(_, arrives)| now < arrives + takes / 2);
        bytes.max(self.bytes.saturating_sub(self.receive)) + usize::from(fin)
    }
}

impl Window {
    /// How many bytes may be written. At least one.
    ///
    /// While there is room, the simulator's own reset tells the writer that the reader is gone. A writer that waits would not
    /// be woken by it. It learns here, one latency early; what it waits for was never read, so a reset is what it gets.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut unread = self.lock();
        if unread.is_writable() {
            unread.full = false;
            return Poll::Ready(Ok(unread.free()));
        }
        if unread.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        unread.full = true;
        unread.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// `n` bytes of the `of` that were to be written have been.
    fn written(&self, n: usize, of: usize, now: Instant) {
        let mut unread = self.lock();
        unread.bytes += n;
        unread.full = n < of;
        unread.writes.push_back((n, now));
    }

    /// The writer's side ends, which arrives at the reader at `at`.
    fn end(&self, peer: PeerState, at: Instant) {
        let watcher = {
            let mut unread = self.lock();
            let end = &mut unread.ends[usize::from(peer == PeerState::Gone)];
            end.get_or_insert((peer, at));
            unread.watcher.take()
        };
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }

    fn read(&self, n: usize) {
        let writer = {
            let mut unread = self.lock();
            unread.bytes = unread.bytes.saturating_sub(n);
            let mut left = n;
            while let Some((first, _)) = unread.writes.front_mut() {
                if *first > left {
                    *first -= left;
                    break;
                }
                left -= *first;
                unread.writes.pop_front();
            }
            if unread.is_writable() { unread.writer.take() } else { None }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    fn close(&self) {
        let writer = {
            let mut unread = self.lock();
            unread.closed = true;
            unread.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.0.lock().expect("nothing panics while it holds the window")
    }
}

/// A listening TCP socket. To be used and dropped by tasks of its own host.
pub struct Listener {
    tcp: Arc<TcpListener>,
    world: World,
    /// Kept between polls: it holds the place in the queue of those to be told of a connection.
    accepting: Option<BoxFuture<'static, io::Result<(TcpStream, SocketAddr)>>>,
}

impl Listener {
    pub(super) fn new(tcp: TcpListener, world: World) -> Listener {
        Listener { tcp: Arc::new(tcp), world, accepting: None }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl lastcall_world::Listener for Listener {
    type Stream = Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let tcp = &self.tcp;
        let accepting = self.accepting.get_or_insert_with(|| {
            let tcp = tcp.clone();
            Box::pin(async move { tcp.accept().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        let (tcp, peer) = accepted?;
        Poll::Ready(Stream::accepted(tcp, &self.world).map(|stream| (stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
