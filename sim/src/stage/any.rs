//! A world of any engine behind one type: what is written against it need not be generic to run on all of them.
//!
//! It adds no choice of its own: every call goes on to the engine's world, and each wait ends when the engine says so.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use lastcall_core::Time;
use lastcall_world::{Listener, Signal, Stream, World};

/// A world, whichever it is. Clones share the host.
#[derive(Clone)]
pub struct AnyWorld(Arc<dyn Erased>);

impl AnyWorld {
    /// This one.
    pub fn new(world: impl World) -> AnyWorld {
        AnyWorld(Arc::new(world))
    }
}

impl std::fmt::Debug for AnyWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyWorld")
    }
}

impl World for AnyWorld {
    type Stream = Box<dyn Stream>;
    type Listener = Box<dyn Listener<Stream = Box<dyn Stream>>>;

    fn now(&self) -> Time {
        self.0.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        self.0.sleep_until(at)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(name, Box::pin(task));
    }

    async fn bind(&self, address: &str) -> io::Result<Self::Listener> {
        self.0.bind(address).await
    }

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        self.0.connect(address).await
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

/// [`World`] without its types.
trait Erased: Send + Sync {
    fn now(&self) -> Time;
    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()>;
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<<AnyWorld as World>::Listener>>;
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
    fn spare_descriptors(&self) -> usize;
    fn random(&self, purpose: &'static str) -> u64;
    fn next_signal(&self) -> BoxFuture<'_, Signal>;
}

impl<W: World> Erased for W {
    fn now(&self) -> Time {
        World::now(self)
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(World::sleep_until(self, at))
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        World::spawn(self, name, task);
    }

    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<<AnyWorld as World>::Listener>> {
        Box::pin(async move {
            let listener: <AnyWorld as World>::Listener = Box::new(Boxing(World::bind(self, address).await?));
            Ok(listener)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream: Box<dyn Stream> = Box::new(World::connect(self, address).await?);
            Ok(stream)
        })
    }

    fn spare_descriptors(&self) -> usize {
        World::spare_descriptors(self)
    }

    fn random(&self, purpose: &'static str) -> u64 {
        World::random(self, purpose)
    }

    fn next_signal(&self) -> BoxFuture<'_, Signal> {
        Box::pin(World::next_signal(self))
    }
}

/// A listener whose connections are boxed.
struct Boxing<L>(L);

impl<L: Listener<Stream: Stream>> Listener for Boxing<L> {
    type Stream = Box<dyn Stream>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        self.0.poll_accept(cx).map_ok(|(stream, peer)| (Box::new(stream) as Box<dyn Stream>, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
