//! The real world: tokio's clock, sockets, tasks and signals.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this file is the one place that touches the machine"
)]

mod descriptors;
mod homes;
#[cfg(target_os = "linux")]
mod keepalive;
mod manager;
#[cfg(target_os = "linux")]
mod outq;
mod succession;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::descriptors::{Files, Taken};
use self::homes::{Home, Homes};
#[cfg(target_os = "linux")]
use self::keepalive::Vigil;
use crate::{Listener, PeerState, Signal, Standing, Stream, World};
use lastcall_core::Time;
pub use succession::Succession;

/// This process on this machine. Its epoch is the moment it was made.
#[derive(Clone, Debug)]
pub struct TokioWorld {
    epoch: Instant,
    tcp: Tcp,
    files: Files,
    homes: Homes,
    signals: Arc<Mutex<Signals>>,
}

/// How dead connections are found. Nothing else ends a connection whose peer has vanished while nothing is sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// A peer that has been silent for so long is probed; zero for the kernel's own time. Whole seconds.
    pub keepalive: Duration,
    /// `TCP_USER_TIMEOUT` of accepted connections; zero for the kernel's own rule. Only where the kernel is Linux, and there
    /// it also takes the place of the lost probes.
    pub user_timeout: Duration,
}

/// Connections that the kernel keeps until they are accepted, as far as it allows (`somaxconn`). One more waits a second to be
/// heard again: a herd that reconnects in a rollout must not.
const BACKLOG: u32 = 4096;
/// Addresses of one name.
const MAX_ADDRESSES: usize = 16;
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Lost probes after which the peer is gone.
const PROBES: u32 = 3;

impl Tcp {
    fn keep_alive(&self, stream: &TcpStream) -> io::Result<()> {
        if self.keepalive.is_zero() {
            return Ok(());
        }
        let probes = TcpKeepalive::new().with_time(self.keepalive).with_interval(PROBE_EVERY).with_retries(PROBES);
        SockRef::from(stream).set_tcp_keepalive(&probes)
    }

    /// How long it takes until a silent peer is given up: the silence, and the lost probes.
    #[cfg(target_os = "linux")]
    fn probed_for(&self) -> Duration {
        if self.keepalive.is_zero() { Duration::ZERO } else { self.keepalive + PROBES * PROBE_EVERY }
    }

    #[cfg(target_os = "linux")]
    fn limit_silence(&self, stream: &TcpStream) -> io::Result<()> {
        if self.user_timeout.is_zero() {
            return Ok(());
        }
        SockRef::from(stream).set_tcp_user_timeout(Some(self.user_timeout))
    }

    #[cfg(not(target_os = "linux"))]
    fn limit_silence(&self, _stream: &TcpStream) -> io::Result<()> {
        Ok(())
    }
}

/// A listening socket whose connections are set up as they come.
#[derive(Debug)]
pub struct TokioListener {
    listener: TcpListener,
    tcp: Tcp,
    files: Files,
    homes: Homes,
}

impl TokioListener {
    /// Asks the kernel itself. None if nobody is in the queue.
    fn accept_now(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = SockRef::from(&self.listener).accept();
        let set_up = |(socket, peer): (socket2::Socket, socket2::SockAddr)| {
            socket.set_nonblocking(true)?;
            let peer = peer.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok((TcpStream::from_std(socket.into())?, peer))
        };
        match accepted {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            accepted => Some(accepted.and_then(set_up)),
        }
    }
}

/// Where nobody can say what the peer's machine has acknowledged, no more than this many bytes can be taken for delivered that
/// are not: the send buffer of a client's socket.
#[cfg(not(target_os = "linux"))]
const UNSEEN: usize = 16 * 1024;

/// Looks at a peer until the task is registered: another after each readiness that came meanwhile. More would be in vain: where
/// both sides have ended, tokio calls the socket writable for good, and nobody can be woken by that. Who waits then has a timer.
const LOOKS: usize = 3;

/// A TCP connection of this process.
///
/// Like tokio's stream in everything but this: [`Stream::poll_peer`] has to be woken by what arrives although bytes that
/// came before lie unread in the kernel. It therefore takes back what tokio remembers of the socket's readiness, and the
/// stream asks the kernel itself until that has said that there is nothing more.
#[derive(Debug)]
pub struct TokioStream {
    tcp: TcpStream,
    /// What tokio remembers says nothing: bytes, or room, may be there all the same.
    ask_for_bytes: bool,
    ask_for_room: bool,
    /// Of a connection to a worker.
    #[cfg(target_os = "linux")]
    vigil: Option<Box<Vigil>>,
    /// Where it lives, if that is not where its task happens to run.
    home: Option<Home>,
    _taken: Taken,
}

impl TokioStream {
    fn new(tcp: TcpStream, home: Option<Home>, taken: Taken) -> Self {
        TokioStream {
            tcp,
            ask_for_bytes: false,
            ask_for_room: false,
            #[cfg(target_os = "linux")]
            vigil: None,
            home,
            _taken: taken,
        }
    }

    /// Nothing can be read now.
    fn poll_vigil(&mut self, _cx: &mut Context<'_>) {
        #[cfg(target_os = "linux")]
        if let Some(vigil) = &mut self.vigil {
            vigil.poll(&self.tcp, _cx);
        }
    }

    fn handle_written(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(vigil) = &mut self.vigil {
            vigil.handle_written();
        }
    }

    /// What the kernel says of the peer's side, without reading.
    fn peer(&self) -> PeerState {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.tcp, PollFlags::RDHUP)];
        if poll(&mut fds, Some(&Timespec::default())).is_err() {
            return PeerState::Open;
        }
        let flags = fds[0].revents();
        // HUP says no more than that both directions are over, which two FINs do as well.
        if flags.contains(PollFlags::ERR) {
            PeerState::Gone
        } else if flags.contains(PollFlags::RDHUP) {
            PeerState::Closed
        } else {
            PeerState::Open
        }
    }
}

impl Stream for TokioStream {
    #[cfg(target_os = "linux")]
    fn unacknowledged(&self) -> usize {
        outq::unacknowledged(&self.tcp).unwrap_or(0)
    }

    #[cfg(not(target_os = "linux"))]
    fn unacknowledged(&self) -> usize {
        0
    }

    fn poll_peer(&mut self, known: PeerState, cx: &mut Context<'_>) -> Poll<PeerState> {
        if known == PeerState::Gone {
            return Poll::Pending;
        }
        let mut peer = PeerState::Open;
        for _ in 0..LOOKS {
            // The kernel is asked inside `try_io`, so that only that readiness is taken back which was there before.
            let would_block = || io::Error::from(io::ErrorKind::WouldBlock);
            let mut look = || -> io::Result<()> {
                peer = self.peer();
                Err(would_block())
            };
            // A FIN is remembered as readable for good: behind it only the other direction wakes.
            let registered = if known == PeerState::Open {
                let _ = self.tcp.try_io(Interest::READABLE, &mut look);
                self.ask_for_bytes = true;
                self.tcp.poll_read_ready(cx).is_pending()
            } else {
                let _ = self.tcp.try_io(Interest::WRITABLE, &mut look);
                self.ask_for_room = true;
                self.tcp.poll_write_ready(cx).is_pending()
            };
            // What came between the look and the registration is seen by this one.
            peer = peer.max(self.peer());
            if peer > known {
                return Poll::Ready(peer);
            }
            if registered {
                break;
            }
        }
        Poll::Pending
    }

    fn refresh(&mut self) {
        self.ask_for_bytes = true;
    }
}

impl AsyncRead for TokioStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ask_for_bytes && buf.remaining() > 0 {
            // As many of them as the kernel says are initialised; it never leaves a gap.
            let read = rustix::net::recv(&self.tcp, buf.initialize_unfilled(), rustix::net::RecvFlags::empty());
            match read {
                Ok((read, _)) => {
                    self.ask_for_bytes = read == buf.remaining();
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => self.ask_for_bytes = false,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if read.is_pending() {
            self.poll_vigil(cx);
        }
        read
    }
}

impl AsyncWrite for TokioStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.handle_written();
        if self.ask_for_room && !bytes.is_empty() {
            match rustix::net::send(&self.tcp, bytes, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.ask_for_room = sent == bytes.len();
                    return Poll::Ready(Ok(sent));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => self.ask_for_room = false,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// What has come and was not taken yet, the most urgent first.
type Signals = Vec<(Signal, SignalStream)>;

/// Signals that have a meaning here.
fn known_signals() -> [(Signal, SignalKind); 4] {
    [
        (Signal::Quit, SignalKind::quit()),
        (Signal::Term, SignalKind::terminate()),
        (Signal::Int, SignalKind::interrupt()),
        (Signal::Hup, SignalKind::hangup()),
    ]
}

/// Signals that have none, and would end the process all the same. Not here: those that no handler may take (SIGKILL, SIGSTOP),
/// those that say that the process itself is broken (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS), and SIGPIPE,
/// which is ignored already.
fn other_signals() -> impl Iterator<Item = (Signal, SignalKind)> {
    use rustix::process::Signal as Number;
    let named = [
        ("SIGUSR1", Number::USR1),
        ("SIGUSR2", Number::USR2),
        ("SIGALRM", Number::ALARM),
        ("SIGVTALRM", Number::VTALARM),
        ("SIGPROF", Number::PROF),
        ("SIGXCPU", Number::XCPU),
        ("SIGXFSZ", Number::XFSZ),
        #[cfg(target_os = "linux")]
        ("SIGIO", Number::IO),
        #[cfg(target_os = "linux")]
        ("SIGSTKFLT", Number::STKFLT),
        #[cfg(target_os = "linux")]
        ("SIGPWR", Number::POWER),
    ];
    let named = named.into_iter().map(|(name, number)| (name, number.as_raw()));
    let real_time = REAL_TIME.map(|number| ("a real-time signal", number));
    named.chain(real_time).map(|(name, number)| (Signal::Other(name), SignalKind::from_raw(number)))
}

/// The real-time signals of Linux that are not the C library's own.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
#[cfg(not(target_os = "linux"))]
const REAL_TIME: std::ops::Range<i32> = 0..0;

impl TokioWorld {
    /// Takes over the handling of every signal that would end the process. From here on none of them does so by itself.
    ///
    /// # Errors
    /// What the kernel reports when a handler of a signal that has a meaning can't be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(tcp: Tcp) -> io::Result<Self> {
        let mut signals = Signals::new();
        for (name, kind) in known_signals() {
            signals.push((name, signal(kind)?));
        }
        for (name, kind) in other_signals() {
            // A C library may keep one of them for itself.
            if let Ok(stream) = signal(kind) {
                signals.push((name, stream));
            }
        }
        Ok(TokioWorld { signals: Arc::new(Mutex::new(signals)), ..TokioWorld::without_signals(tcp) })
    }

    /// One that leaves every signal as it is, for a command that Ctrl-C ends: [`World::next_signal`] waits for ever.
    pub fn without_signals(tcp: Tcp) -> Self {
        let files = Files::all_that_are_allowed();
        TokioWorld { epoch: Instant::now(), tcp, files, homes: Homes::default(), signals: Arc::default() }
    }

    /// One whose connections are set up as this world has it.
    fn listener(&self, listener: TcpListener) -> TokioListener {
        TokioListener { listener, tcp: self.tcp, files: self.files.clone(), homes: self.homes.clone() }
    }

    /// From here on each accepted connection lives at one of so many threads, as its task does.
    ///
    /// # Errors
    /// If the process can't have so many threads.
    pub fn with_homes(self, count: usize) -> io::Result<Self> {
        Ok(TokioWorld { homes: Homes::start(count)?, ..self })
    }
}

/// Listens on the first address of this name that can be listened on.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let bound = socket.and_then(|socket| {
            // What a process that is gone has left in TIME_WAIT keeps nobody from its port.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl World for TokioWorld {
    type Stream = TokioStream;
    type Listener = TokioListener;

    fn now(&self) -> Time {
        Time::from_epoch(self.epoch.elapsed())
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        let wait = at.since(self.now());
        // A wait beyond what the timer can hold is as good as never.
        let deadline = Instant::now().checked_add(wait);
        async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        }
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn spawn_with<T: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        mut stream: TokioStream,
        work: impl FnOnce(TokioStream) -> T,
    ) {
        match stream.home.take() {
            Some(home) => home.run(|| work(stream)),
            None => self.spawn(name, work(stream)),
        }
    }

    async fn bind(&self, address: &str) -> io::Result<TokioListener> {
        Ok(self.listener(listen(address).await?))
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<String>> {
        let addresses = lookup_host(address).await?.take(MAX_ADDRESSES);
        Ok(addresses.map(|address| address.to_string()).collect())
    }

    async fn connect(&self, address: &str) -> io::Result<TokioStream> {
        let taken = self.files.take();
        let tcp = TcpStream::connect(address).await?;
        // Small messages, each waited for: what Nagle's algorithm saves in packets it costs in round trips.
        tcp.set_nodelay(true)?;
        self.tcp.keep_alive(&tcp)?;
        #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "there is nothing to be set"))]
        let mut stream = TokioStream::new(tcp, None, taken);
        #[cfg(target_os = "linux")]
        {
            stream.vigil = Vigil::over(&stream.tcp, self.tcp.probed_for())?;
        }
        Ok(stream)
    }

    fn spare_descriptors(&self) -> usize {
        self.files.spare()
    }

    fn random(&self, _purpose: &'static str) -> u64 {
        getrandom::u64().expect("the kernel has random bytes once it has booted")
    }

    fn tell(&self, standing: Standing, status: &str) {
        if let Err(error) = manager::tell(standing, status) {
            tracing::warn!(%error, "the service manager was not told how this process stands");
        }
    }

    async fn next_signal(&self) -> Signal {
        let mut signals = self.signals.lock().await;
        std::future::poll_fn(|cx| {
            for (signal, stream) in signals.iter_mut() {
                if stream.poll_recv(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Listener for TokioListener {
    type Stream = TokioStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TokioStream, SocketAddr)>> {
        let accepted = match self.listener.poll_accept(cx) {
            // What has arrived may be news to tokio still; whoever is about to close wants to know.
            Poll::Pending => self.accept_now().map_or(Poll::Pending, Poll::Ready),
            accepted => accepted,
        };
        match accepted {
            Poll::Ready(Ok((stream, peer))) => {
                // Fails only for a client that is gone already; whoever serves it will notice.
                let _ = stream.set_nodelay(true);
                let _ = self.tcp.keep_alive(&stream);
                let _ = self.tcp.limit_silence(&stream);
                #[cfg(not(target_os = "linux"))]
                let _ = SockRef::from(&stream).set_send_buffer_size(UNSEEN);
                let (stream, home) = self.homes.settle(stream)?;
                Poll::Ready(Ok((TokioStream::new(stream, home, self.files.take()), peer)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// Looks at an accepted connection and at the one that was opened for it.
    fn with_pair(tcp: Tcp, look: impl FnOnce(SockRef<'_>, SockRef<'_>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = TokioWorld::new(tcp).unwrap();
            let mut listener = world.bind("127.0.0.1:0").await.unwrap();
            let opened = world.connect(&listener.local_addr().unwrap().to_string()).await.unwrap();
            let (accepted, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            look(SockRef::from(&accepted.tcp), SockRef::from(&opened.tcp));
        });
    }

    #[test]
    fn silent_peers_are_probed_and_have_a_user_timeout_besides() {
        let (keepalive, user_timeout) = (Duration::from_secs(120), Duration::from_secs(1200));
        with_pair(Tcp { keepalive, user_timeout }, |accepted, opened| {
            for socket in [&accepted, &opened] {
                assert!(socket.keepalive().unwrap());
                assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive);
                assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
                assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
            }
            assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(user_timeout));
            // What is unacknowledged keeps the kernel from probing: the promise is the same all the same.
            assert_eq!(opened.tcp_user_timeout().unwrap(), Some(Duration::from_secs(150)));
        });
    }

    #[test]
    fn a_connection_that_both_sides_have_ended_is_not_looked_at_for_ever() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = TokioWorld::without_signals(Tcp::default());
            let mut listener = world.bind("127.0.0.1:0").await.unwrap();
            let opened = world.connect(&listener.local_addr().unwrap().to_string()).await.unwrap();
            let (mut accepted, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
            accepted.shutdown().await.unwrap();
            drop(opened);
            assert_eq!(accepted.read(&mut [0; 1]).await.unwrap(), 0);
            while !accepted.tcp.ready(Interest::WRITABLE).await.unwrap().is_write_closed() {
                tokio::task::yield_now().await;
            }
            let looked = tokio::spawn(std::future::poll_fn(move |cx| {
                let peer = accepted.poll_peer(PeerState::Closed, cx);
                // What a task may do before others have their turn.
                Poll::Ready((peer, tokio::task::coop::has_budget_remaining()))
            }));
            assert_eq!(looked.await.unwrap(), (Poll::Pending, true));
        });
    }

    #[test]
    fn a_herd_is_heard_at_once_although_nobody_has_accepted_it_yet() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TokioWorld::without_signals(Tcp::default()).bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut herd = Vec::new();
            for _ in 0..2000 {
                // One that is not heard asks again after a second.
                let heard = tokio::time::timeout(Duration::from_millis(900), TcpStream::connect(address)).await;
                herd.push(heard.expect("there is room").unwrap());
            }
        });
    }

    #[test]
    fn a_worker_that_reads_nothing_for_longer_than_the_user_timeout_is_not_given_up() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = TokioWorld::new(Tcp::default()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut opened = world.connect(&listener.local_addr().unwrap().to_string()).await.unwrap();
            opened.vigil = Vigil::over(&opened.tcp, Duration::from_secs(1)).unwrap();
            let (mut worker, _) = listener.accept().await.unwrap();
            // More than the worker's machine takes, and less than is waited for here: the rest is not sent.
            let filling = async { while opened.write_all(&[0; 65_536]).await.is_ok() {} };
            assert!(tokio::time::timeout(Duration::from_millis(300), filling).await.is_err(), "it takes everything");
            let answer = tokio::time::timeout(Duration::from_secs(4), opened.read(&mut [0; 1])).await;
            assert!(answer.is_err(), "{answer:?}: it has not closed");
            worker.write_all(b"!").await.unwrap();
            assert_eq!(opened.read(&mut [0; 1]).await.unwrap(), 1);
        });
    }

    #[test]
    fn zero_leaves_both_to_the_kernel() {
        with_pair(Tcp::default(), |accepted, opened| {
            for socket in [accepted, opened] {
                assert!(!socket.keepalive().unwrap());
                assert_eq!(socket.tcp_user_timeout().unwrap(), None);
            }
        });
    }
}
