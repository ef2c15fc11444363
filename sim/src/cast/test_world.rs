//! A world for the tests of hosts: tokio's paused clock, and pipes for a network.
//!
//! Not a simulated network: no packets, no windows. What is written has arrived, and is acknowledged, at once. A dropped pipe
//! reads as the end of the stream, also where a kernel would reset; a reset comes from [`Pipe::reset`] only, and is told to
//! one call, as Linux does it.
#![expect(clippy::disallowed_methods, reason = "this file is the tests' one place that touches the runtime")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use lastcall_core::Time;
use lastcall_world::{Listener, PeerState, Signal, World};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::stage::{Link, SimWorld, TaskPanic};

/// As much as a kernel buffers for a socket.
const PIPE_BYTES: usize = 64 * 1024;

/// One clock and one network.
#[derive(Clone)]
pub(crate) struct TestWorld {
    epoch: Instant,
    ports: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Pipe>>>>,
    drawn: Arc<Mutex<u64>>,
}

impl TestWorld {
    /// Runs `test` in a world of its own.
    pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(TestWorld) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            test(TestWorld { epoch: Instant::now(), ports: Arc::default(), drawn: Arc::default() }).await;
        });
    }

    /// Waits until `after` from the epoch.
    pub(crate) async fn at(&self, after: std::time::Duration) {
        self.sleep_until(Time::EPOCH + after).await;
    }
}

impl World for TestWorld {
    type Stream = Pipe;
    type Listener = Pipes;

    fn now(&self) -> Time {
        Time::from_epoch(self.epoch.elapsed())
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep_until(self.epoch + at.since_epoch())
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    /// Only the port counts: there is one host.
    async fn bind(&self, address: &str) -> io::Result<Pipes> {
        let (sender, accepted) = mpsc::unbounded_channel();
        self.ports.lock().unwrap().insert(port(address), sender);
        Ok(Pipes(accepted))
    }

    async fn connect(&self, address: &str) -> io::Result<Pipe> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let (reset, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sides = [Arc::<Mutex<Side>>::default(), Arc::default()];
        let pipe = |bytes, own: usize| {
            let (own, peer) = (sides[own].clone(), sides[1 - own].clone());
            Pipe { bytes, reset: reset.clone(), gone: gone.clone(), own, peer }
        };
        let (near, far) = (pipe(near, 0), pipe(far, 1));
        let ports = self.ports.lock().unwrap();
        let listener = ports.get(&port(address)).ok_or(io::ErrorKind::ConnectionRefused)?;
        listener.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    fn random(&self, _purpose: &'static str) -> u64 {
        let mut drawn = self.drawn.lock().unwrap();
        *drawn += 1;
        *drawn
    }

    async fn next_signal(&self) -> Signal {
        std::future::pending().await
    }
}

/// What clients need. There are no hosts here, and no signals.
impl SimWorld for TestWorld {
    fn send_signal(&self, _: &str, _: Signal) {
        unreachable!("the tests of hosts send no signals");
    }

    fn kill(&self, _: &str) {
        unreachable!("the tests of hosts kill nobody");
    }

    fn start<F>(&self, _: &str, _: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        unreachable!("the tests of hosts start nobody");
    }

    fn freeze(&self, _: &str) {
        unreachable!("the tests of hosts stop nobody");
    }

    fn thaw(&self, _: &str) {
        unreachable!("the tests of hosts stop nobody");
    }

    fn alias(&self, _: &str) -> Self {
        self.clone()
    }

    fn link(&self, _: [&str; 2], _: Link) {
        unreachable!("the tests of hosts have a perfect network");
    }

    fn reset(&self, stream: Pipe) {
        stream.reset();
    }

    fn vanish(&self, stream: &Pipe) {
        stream.gone.store(true, Ordering::Relaxed);
    }

    fn tasks(&self, _: &str) -> Vec<&'static str> {
        Vec::new()
    }

    fn is_network_busy(&self) -> bool {
        false
    }

    fn finish(&self) {}

    fn panics(&self) -> Vec<TaskPanic> {
        Vec::new()
    }
}

fn port(address: &str) -> String {
    address.rsplit(':').next().unwrap_or_default().to_owned()
}

/// One end of a connection.
pub(crate) struct Pipe {
    bytes: DuplexStream,
    /// Set by the end that resets; taken by the first call of the other end that meets it.
    reset: Arc<AtomicBool>,
    /// Nothing arrives any more: neither bytes nor the end.
    gone: Arc<AtomicBool>,
    own: Arc<Mutex<Side>>,
    peer: Arc<Mutex<Side>>,
}

/// What the other end sees of one.
#[derive(Default)]
struct Side {
    is: PeerState,
    watcher: Option<Waker>,
}

impl Pipe {
    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.reset.store(true, Ordering::Relaxed);
        self.become_peer(PeerState::Gone);
    }

    /// The other end sees this one as `peer` from now on.
    fn become_peer(&self, peer: PeerState) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        let watcher = {
            let mut own = self.own.lock().unwrap();
            own.is = own.is.max(peer);
            own.watcher.take()
        };
        watcher.into_iter().for_each(Waker::wake);
    }

    fn met<T>(&self, otherwise: io::Result<T>) -> Poll<io::Result<T>> {
        let reset = self.reset.swap(false, Ordering::Relaxed);
        Poll::Ready(if reset { Err(io::ErrorKind::ConnectionReset.into()) } else { otherwise })
    }
}

impl lastcall_world::Stream for Pipe {
    fn unacknowledged(&self) -> usize {
        0
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        let mut peer = self.peer.lock().unwrap();
        if peer.is > known {
            return Poll::Ready(peer.is);
        }
        peer.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    fn refresh(&mut self) {}
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.become_peer(PeerState::Closed);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gone.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.bytes).poll_read(cx, buf));
        if buf.filled().len() > before { Poll::Ready(read) } else { self.met(read) }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gone.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.bytes).poll_write(cx, buf));
        if written.is_ok() { Poll::Ready(written) } else { self.met(written) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.become_peer(PeerState::Closed);
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

/// A listener.
pub(crate) struct Pipes(mpsc::UnboundedReceiver<Pipe>);

impl Listener for Pipes {
    type Stream = Pipe;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Pipe, SocketAddr)>> {
        self.0.poll_recv(cx).map(|stream| Ok((stream.ok_or(io::ErrorKind::BrokenPipe)?, ([127, 0, 0, 1], 1).into())))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }
}
