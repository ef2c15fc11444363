//! A world in memory, for the tests of the shell: one clock that is moved by hand, and pipes between sockets whose kernels do
//! exactly what a test says: how much they take, how much they have acknowledged, and when they reset.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use lastcall_core::Time;
use lastcall_world::{Listener, PeerState, Signal, Stream, World};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The world. Nothing happens in it but what [`InMemory::run`] lets happen.
#[derive(Clone, Default)]
pub(crate) struct InMemory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Time,
    tasks: Vec<Task>,
    /// Connections that are waiting to be accepted by whoever plays the worker.
    workers: VecDeque<Socket>,
}

impl InMemory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Polls every task until nothing more comes of it. Tasks are polled whether they were woken or not, except that one
    /// which asks for another turn gets it.
    pub(crate) fn run(&self) {
        for _ in 0..50 {
            let mut tasks = std::mem::take(&mut self.state().tasks);
            tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            self.state().tasks.extend(tasks);
        }
    }

    /// Lets so much time pass, a millisecond at a time where it is short and in a hundred steps where it is long.
    pub(crate) fn pass(&self, time: Duration) {
        let steps = if time <= Duration::from_millis(100) { time.as_millis() as u32 } else { 100 };
        for _ in 0..steps {
            let now = self.now() + time / steps;
            self.state().now = now;
            self.run();
        }
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        self.state().tasks.len()
    }

    /// The worker's end of the oldest connection that nobody has taken yet.
    pub(crate) fn worker(&self) -> Option<Socket> {
        self.state().workers.pop_front()
    }
}

impl World for InMemory {
    type Stream = Socket;
    type Listener = Nowhere;

    fn now(&self) -> Time {
        self.state().now
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        let world = self.clone();
        poll_fn(move |_| if world.now() >= at { Poll::Ready(()) } else { Poll::Pending })
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.state().tasks.push(Box::pin(task));
    }

    async fn bind(&self, _address: &str) -> io::Result<Nowhere> {
        Ok(Nowhere)
    }

    async fn connect(&self, _address: &str) -> io::Result<Socket> {
        let (near, far) = pair();
        self.state().workers.push_back(far);
        Ok(near)
    }

    fn random(&self, _purpose: &'static str) -> u64 {
        0
    }

    async fn next_signal(&self) -> Signal {
        std::future::pending().await
    }
}

/// A listener that nobody connects to.
pub(crate) struct Nowhere;

impl Listener for Nowhere {
    type Stream = Socket;

    fn poll_accept(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 6432).into())
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Socket {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    /// Written and not read.
    bytes: VecDeque<u8>,
    /// Written in all, and how much of it the reader's machine has acknowledged; all of it unless a test says less.
    written: u64,
    acknowledged: Option<u64>,
    /// How much more the writer's kernel takes.
    room: usize,
    fin: bool,
    reset: bool,
}

/// Both ends of a connection.
pub(crate) fn pair() -> (Socket, Socket) {
    let pipe = || {
        let (bytes, room) = (VecDeque::new(), usize::MAX);
        Arc::new(Mutex::new(Pipe { bytes, written: 0, acknowledged: None, room, fin: false, reset: false }))
    };
    let (here, there) = (pipe(), pipe());
    (Socket { incoming: here.clone(), outgoing: there.clone() }, Socket { incoming: there, outgoing: here })
}

impl Socket {
    /// Sends bytes, as much as the other side's test end ever wants.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let mut pipe = self.outgoing.lock().unwrap();
        pipe.bytes.extend(bytes);
        pipe.written += bytes.len() as u64;
    }

    /// Reads whatever has come.
    pub(crate) fn hear(&self) -> Vec<u8> {
        self.incoming.lock().unwrap().bytes.drain(..).collect()
    }

    /// Whether the other side has ended.
    pub(crate) fn has_heard_the_end(&self) -> bool {
        self.incoming.lock().unwrap().fin
    }

    /// Sends a FIN.
    pub(crate) fn end(&self) {
        self.outgoing.lock().unwrap().fin = true;
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        self.outgoing.lock().unwrap().reset = true;
        self.incoming.lock().unwrap().reset = true;
    }

    /// From here on this machine takes no more than `room` further bytes, and acknowledges none beyond `acknowledged` in
    /// all; `None` for all that it takes.
    pub(crate) fn take(&self, room: usize, acknowledged: Option<u64>) {
        let mut pipe = self.incoming.lock().unwrap();
        pipe.room = room;
        pipe.acknowledged = acknowledged;
    }
}

impl Stream for Socket {
    fn unacknowledged(&self) -> usize {
        let pipe = self.outgoing.lock().unwrap();
        (pipe.written - pipe.acknowledged.unwrap_or(pipe.written)) as usize
    }

    fn poll_peer(&mut self, known: PeerState, _cx: &mut Context<'_>) -> Poll<PeerState> {
        let pipe = self.incoming.lock().unwrap();
        let peer = match (pipe.reset, pipe.fin) {
            (true, _) => PeerState::Gone,
            (false, true) => PeerState::Closed,
            (false, false) => PeerState::Open,
        };
        if peer > known { Poll::Ready(peer) } else { Poll::Pending }
    }

    fn refresh(&mut self) {}
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.incoming.lock().unwrap();
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.bytes.is_empty() && !pipe.fin {
            return Poll::Pending;
        }
        let read = buf.remaining().min(pipe.bytes.len());
        for byte in pipe.bytes.drain(..read) {
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing.lock().unwrap();
        if pipe.reset || pipe.fin {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(pipe.room);
        if taken == 0 {
            return Poll::Pending;
        }
        pipe.room -= taken;
        pipe.bytes.extend(&bytes[..taken]);
        pipe.written += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.lock().unwrap().fin = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.outgoing.lock().unwrap().fin = true;
    }
}
