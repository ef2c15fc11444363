//! The real world: tokio's clock, sockets, tasks and signals.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this file is the one place that touches the machine"
)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::core::Time;
use crate::world::{Listener, Signal, World};

/// This process on this machine. Its epoch is the moment it was made.
#[derive(Clone, Debug)]
pub struct TokioWorld {
    epoch: Instant,
    signals: Arc<Mutex<Signals>>,
}

#[derive(Debug)]
struct Signals {
    term: SignalStream,
    int: SignalStream,
    quit: SignalStream,
}

impl TokioWorld {
    /// Takes over the handling of SIGTERM, SIGINT and SIGQUIT. From here on none of them ends the process by itself.
    ///
    /// # Errors
    /// What the kernel reports when a handler can't be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> io::Result<Self> {
        Ok(TokioWorld {
            epoch: Instant::now(),
            signals: Arc::new(Mutex::new(Signals {
                term: signal(SignalKind::terminate())?,
                int: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            })),
        })
    }
}

impl World for TokioWorld {
    type Stream = TcpStream;
    type Listener = TcpListener;

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

    async fn bind(&self, address: &str) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        // Small messages, each waited for: what Nagle's algorithm saves in packets it costs in round trips.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn random(&self, _purpose: &'static str) -> u64 {
        getrandom::u64().expect("the kernel has random bytes once it has booted")
    }

    async fn next_signal(&self) -> Signal {
        let mut signals = self.signals.lock().await;
        std::future::poll_fn(|cx| {
            if signals.quit.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Quit);
            }
            if signals.term.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Term);
            }
            if signals.int.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Int);
            }
            Poll::Pending
        })
        .await
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        match TcpListener::poll_accept(self, cx) {
            Poll::Ready(Ok((stream, peer))) => {
                // Fails only for a client that is gone already; whoever serves it will notice.
                let _ = stream.set_nodelay(true);
                Poll::Ready(Ok((stream, peer)))
            }
            other => other,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}
