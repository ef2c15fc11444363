//! The last task that ends, and the one who waits for that.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use loom::future::block_on;
use loom::thread;

use crate::tasks::Tasks;
use crate::with_three_threads;
use lastcall_core::Time;
use lastcall_world::{Listener, Signal, TokioStream, World};

/// A world that runs tasks, each in a thread of loom's, and has nothing else.
#[derive(Clone)]
struct Threads;

struct Nothing;

impl World for Threads {
    type Stream = TokioStream;
    type Listener = Nothing;

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        drop(thread::spawn(|| block_on(task)));
    }

    fn now(&self) -> Time {
        Time::EPOCH
    }

    async fn bind(&self, _address: &str) -> io::Result<Nothing> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect(&self, _address: &str) -> io::Result<TokioStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sleep_until(&self, _at: Time) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    fn random(&self, _purpose: &'static str) -> u64 {
        0
    }

    async fn next_signal(&self) -> Signal {
        std::future::pending().await
    }
}

impl Listener for Nothing {
    type Stream = TokioStream;

    fn poll_accept(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<(TokioStream, SocketAddr)>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn whoever_waits_for_the_last_task_is_woken() {
    with_three_threads(|| {
        let tasks = Tasks::default();
        tasks.spawn(&Threads, "one", async {});
        tasks.spawn(&Threads, "two", async {});
        block_on(tasks.gone());
        assert_eq!(tasks.count(), 0);
    });
}
