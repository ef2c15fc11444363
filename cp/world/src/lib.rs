//! Everything outside: clock, network, tasks, randomness and signals, as one trait.
//!
//! The control plane touches the world through this trait only, so that the simulator can run the very same code. Nothing
//! here says which of the two it is, and nothing in this crate may ask.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use lastcall_core::Time;

pub use self::tokio_world::{Succession, Tcp, TokioStream, TokioWorld};

pub mod alarm;
pub mod handover;
pub mod pair;
pub mod peer;
mod sync;
pub mod tasks;
mod tokio_world;
pub mod watched;

/// Clock, network, tasks, randomness and signals of one host. Clones share the host.
pub trait World: Clone + Send + Sync + 'static {
    /// A connected TCP stream. Dropping it closes it as the kernel would: with a reset if unread bytes are left.
    type Stream: Stream;
    /// A bound, listening TCP socket. Dropping it closes it.
    type Listener: Listener<Stream = Self::Stream>;

    /// The time now. Never goes back.
    fn now(&self) -> Time;

    /// Completes at `at`, or at once if that has passed.
    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static;

    /// Runs `task` beside the others. `name` is for whoever looks for what is still running.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static);

    /// Runs the task that `work` makes of an accepted `stream`, where its readiness is known first.
    fn spawn_with<T: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        stream: Self::Stream,
        work: impl FnOnce(Self::Stream) -> T,
    ) {
        self.spawn(name, work(stream));
    }

    /// Listens on `address` (`host:port`).
    fn bind(&self, address: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// The addresses (`host:port`) that this one stands for: those of its name, if that has several. Sets no deadline of its own.
    /// Itself alone, where names are not looked up.
    fn resolve(&self, address: &str) -> impl Future<Output = io::Result<Vec<String>>> + Send {
        let itself = vec![address.to_owned()];
        async move { Ok(itself) }
    }

    /// Opens a TCP connection to `address` (`host:port`). Sets no deadline of its own.
    fn connect(&self, address: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// How many more streams can be opened before this process runs out of file descriptors. Without a limit, the default.
    fn spare_descriptors(&self) -> usize {
        usize::MAX
    }

    /// 64 random bits from the stream named `purpose`. Each purpose has a stream of its own, so that asking for one more
    /// number here changes nothing there.
    fn random(&self, purpose: &'static str) -> u64;

    /// Tells whoever looks after this process how it stands, and in words what it does. To nobody, the default.
    fn tell(&self, _standing: Standing, _status: &str) {}

    /// The next signal to this process. One caller at a time.
    fn next_signal(&self) -> impl Future<Output = Signal> + Send;
}

/// How a process stands, for whoever looks after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It serves.
    Ready,
    /// It drains, and may serve again.
    Draining,
    /// It drains, and will exit.
    Stopping {
        /// It says so again within this time, and is not to be killed before.
        patience: Duration,
    },
}

/// A connected TCP stream of a [`World`], and what its kernel knows of the machine at the other end.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Bytes that were written here and that the peer's machine has not acknowledged. A FIN of ours counts as one byte.
    ///
    /// Costs a system call: for decisions, not for every message. Where a kernel can't say, zero.
    fn unacknowledged(&self) -> usize;

    /// Ready when the peer's side is no longer as it is `known` to be, with what it is now. Needs no read, and sees past bytes
    /// that nobody has read yet. Registers the task for reads too: whatever arrives wakes it.
    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState>;

    /// The next read asks the kernel, whatever this process was last told about readiness: a process that was stopped, or a
    /// machine that slept, has timers that ring before its sockets do.
    fn refresh(&mut self);
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn unacknowledged(&self) -> usize {
        (**self).unacknowledged()
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        (**self).poll_peer(known, cx)
    }

    fn refresh(&mut self) {
        (**self).refresh();
    }
}

/// The peer's side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// It may still send.
    #[default]
    Open,
    /// It has sent its FIN; it may still read.
    Closed,
    /// It has reset the connection, or its machine has been given up: nobody is there any more.
    Gone,
}

/// A listening socket of a [`World`].
pub trait Listener: Send + 'static {
    /// What an accepted connection is.
    type Stream;

    /// The next connection and its peer's address.
    ///
    /// # Errors
    /// What the kernel reports; the listener stays usable.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>>;

    /// The address the socket is bound to, with the port that the kernel chose if none was asked for.
    ///
    /// # Errors
    /// What the kernel reports.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl<L: Listener + ?Sized> Listener for Box<L> {
    type Stream = L::Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        (**self).poll_accept(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        (**self).local_addr()
    }
}

/// A signal that the control plane acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM: drain.
    Term,
    /// SIGINT: drain.
    Int,
    /// SIGQUIT: exit at once.
    Quit,
    /// SIGHUP: what can be reloaded is. Never an end.
    Hup,
    /// Any other that would end the process: caught, logged and ignored. Its name.
    Other(&'static str),
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Term => "SIGTERM",
            Signal::Int => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::Hup => "SIGHUP",
            Signal::Other(name) => name,
        })
    }
}
