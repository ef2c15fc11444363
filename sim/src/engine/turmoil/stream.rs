//! Sockets of the engine on `turmoil`: its own, behaving more like a kernel's.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use ::turmoil::net::{TcpListener, TcpStream};
use cp::world::Peer;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may be written and not yet read, in each direction: about what the buffers of two real kernels hold, and what
/// the other engine's do.
const WINDOW_BYTES: usize = 96 * 1024;

/// Writes that may be under way and not yet read. Far below the simulator's own capacity, so that a FIN always finds room.
const WINDOW_WRITES: usize = 1024;

/// A TCP connection. To be used and dropped by tasks of its own host.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    outgoing: Arc<Window>,
    incoming: Arc<Window>,
    is_shut: bool,
}

impl Stream {
    /// The side that connected: the other one has opened the windows.
    pub(super) fn connected(tcp: TcpStream, windows: &Windows) -> io::Result<Stream> {
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        Ok(Stream { tcp, outgoing: windows.take(local, peer), incoming: windows.take(peer, local), is_shut: false })
    }

    fn accepted(tcp: TcpStream, windows: &Windows) -> io::Result<Stream> {
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        Ok(Stream { tcp, outgoing: windows.open(local, peer), incoming: windows.open(peer, local), is_shut: false })
    }
}

impl cp::world::Stream for Stream {
    fn unacknowledged(&self) -> usize {
        0
    }

    fn poll_peer(&mut self, _known: Peer, _cx: &mut Context<'_>) -> Poll<Peer> {
        Poll::Pending
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
        self.outgoing.written(n);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.incoming.close();
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
    /// What is left of each write.
    writes: VecDeque<usize>,
    /// The reader is gone.
    closed: bool,
    writer: Option<Waker>,
}

impl Window {
    /// How many bytes may be written. At least one.
    ///
    /// While there is room, the simulator's own reset tells the writer that the reader is gone. A writer that waits would not
    /// be woken by it. It learns here, one latency early; what it waits for was never read, so a reset is what it gets.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut unread = self.lock();
        if unread.bytes < WINDOW_BYTES && unread.writes.len() < WINDOW_WRITES {
            return Poll::Ready(Ok(WINDOW_BYTES - unread.bytes));
        }
        if unread.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        unread.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn written(&self, n: usize) {
        let mut unread = self.lock();
        unread.bytes += n;
        unread.writes.push_back(n);
    }

    fn read(&self, n: usize) {
        let writer = {
            let mut unread = self.lock();
            unread.bytes = unread.bytes.saturating_sub(n);
            let mut left = n;
            while let Some(first) = unread.writes.front_mut() {
                if *first > left {
                    *first -= left;
                    break;
                }
                left -= *first;
                unread.writes.pop_front();
            }
            unread.writer.take()
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
    windows: Arc<Windows>,
    /// Kept between polls: it holds the place in the queue of those to be told of a connection.
    accepting: Option<BoxFuture<'static, io::Result<(TcpStream, SocketAddr)>>>,
}

impl Listener {
    pub(super) fn new(tcp: TcpListener, windows: Arc<Windows>) -> Listener {
        Listener { tcp: Arc::new(tcp), windows, accepting: None }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl cp::world::Listener for Listener {
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
        Poll::Ready(Stream::accepted(tcp, &self.windows).map(|stream| (stream, peer)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
