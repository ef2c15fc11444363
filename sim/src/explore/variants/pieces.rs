//! A control plane whose bytes come in other pieces, and go in others.
//!
//! What a read of its sockets gives is handed over bit by bit, the rest a turn of the scheduler later; a write takes a part. Nothing
//! takes more time: the packets are the same, and so are their moments.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use futures_util::future::BoxFuture;
use lastcall_core::Time;
use lastcall_world::{Listener, PeerState, Signal, Stream, World};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cast::pod::{Config, Pod, Report};
use crate::stage::AnyWorld;

/// How long a piece is: of a header, a header, and more.
const PIECES: [usize; 8] = [1, 2, 4, 5, 6, 13, 300, usize::MAX];

/// This pod, in such a world.
pub(super) struct InPieces(pub(super) Arc<dyn Pod>);

impl Pod for InPieces {
    fn reports(&self) -> &[Report] {
        self.0.reports()
    }

    fn run(&self, world: AnyWorld, config: Config) -> BoxFuture<'static, u8> {
        self.0.run(AnyWorld::new(Cutting(world)), config)
    }
}

/// The world of a pod, but for its connections.
#[derive(Clone)]
struct Cutting(AnyWorld);

impl World for Cutting {
    type Stream = Cut;
    type Listener = CuttingListener;

    fn now(&self) -> Time {
        self.0.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        self.0.sleep_until(at)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(name, task);
    }

    async fn bind(&self, address: &str) -> io::Result<CuttingListener> {
        Ok(CuttingListener { listener: self.0.bind(address).await?, world: self.0.clone() })
    }

    async fn connect(&self, address: &str) -> io::Result<Cut> {
        Ok(Cut::new(self.0.connect(address).await?, &self.0))
    }

    fn spare_descriptors(&self) -> usize {
        self.0.spare_descriptors()
    }

    fn random(&self, purpose: &'static str) -> u64 {
        self.0.random(purpose)
    }

    fn next_signal(&self) -> impl Future<Output = Signal> + Send {
        self.0.next_signal()
    }
}

struct CuttingListener {
    listener: <AnyWorld as World>::Listener,
    world: AnyWorld,
}

impl Listener for CuttingListener {
    type Stream = Cut;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Cut, SocketAddr)>> {
        self.listener.poll_accept(cx).map_ok(|(stream, peer)| (Cut::new(stream, &self.world), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection whose bytes are cut into pieces.
struct Cut {
    stream: Box<dyn Stream>,
    world: AnyWorld,
    /// Read from the stream, and not handed over yet.
    ahead: BytesMut,
    /// The next read finds nothing: the rest comes a turn later.
    pauses: bool,
    /// The kernel is asked: it has all that has arrived.
    refreshed: bool,
}

impl Cut {
    fn new(stream: Box<dyn Stream>, world: &AnyWorld) -> Cut {
        Cut { stream, world: world.clone(), ahead: BytesMut::new(), pauses: false, refreshed: false }
    }

    fn piece(&self) -> usize {
        PIECES[(self.world.random("pieces") % PIECES.len() as u64) as usize]
    }
}

impl AsyncRead for Cut {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let cut = self.get_mut();
        if cut.ahead.is_empty() {
            // Not a byte more than would have been read: a window that is opened too early is another network.
            let mut space = vec![0; buf.remaining()];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut cut.stream).poll_read(cx, &mut read))?;
            cut.ahead.extend_from_slice(read.filled());
        } else if !cut.refreshed && std::mem::take(&mut cut.pauses) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = cut.piece().min(cut.ahead.len()).min(buf.remaining());
        buf.put_slice(&cut.ahead[..count]);
        cut.ahead.advance(count);
        cut.pauses = !cut.ahead.is_empty();
        if !cut.pauses {
            // An idle connection keeps no memory.
            cut.ahead = BytesMut::new();
            cut.refreshed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cut {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let cut = self.get_mut();
        let count = cut.piece().min(buf.len());
        Pin::new(&mut cut.stream).poll_write(cx, &buf[..count])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Stream for Cut {
    fn unacknowledged(&self) -> usize {
        self.stream.unacknowledged()
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        self.stream.poll_peer(known, cx)
    }

    fn refresh(&mut self) {
        self.refreshed = true;
        self.stream.refresh();
    }
}
