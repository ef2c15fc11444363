//! Where connections live: one thread with a runtime of its own for each core. A session's two sockets, its timers and its task are
//! all at one of them, so that nothing it does wakes another thread.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};

/// All of them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes(Arc<[Place]>);

#[derive(Debug)]
struct Place {
    handle: Handle,
    residents: Arc<AtomicUsize>,
}

impl Homes {
    /// So many, for as long as the process lives.
    pub(super) fn start(count: usize) -> io::Result<Homes> {
        let place = |number: usize| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let live = move || runtime.block_on(std::future::pending::<()>());
            std::thread::Builder::new().name(format!("sessions {number}")).spawn(live)?;
            Ok(Place { handle, residents: Arc::default() })
        };
        Ok(Homes((0..count).map(place).collect::<io::Result<_>>()?))
    }

    /// Takes a connection to the one that has the fewest; none where there are no homes.
    pub(super) fn settle(&self, stream: TcpStream) -> io::Result<(TcpStream, Option<Home>)> {
        let Some(place) = self.0.iter().min_by_key(|place| place.residents.load(Ordering::Relaxed)) else {
            return Ok((stream, None));
        };
        let stream = stream.into_std()?;
        let _there = place.handle.enter();
        place.residents.fetch_add(1, Ordering::Relaxed);
        let home = Home { handle: place.handle.clone(), residents: place.residents.clone() };
        Ok((TcpStream::from_std(stream)?, Some(home)))
    }
}

/// The home of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Home {
    handle: Handle,
    residents: Arc<AtomicUsize>,
}

impl Home {
    /// Runs there what `work` makes.
    pub(super) fn run<T: Future<Output = ()> + Send + 'static>(self, work: impl FnOnce() -> T) {
        let handle = self.handle.clone();
        let task = work();
        handle.spawn(async move {
            // It lives there as long as its task does.
            let _home = self;
            task.await;
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.residents.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_where_the_fewest_are_and_its_task_runs_there() {
        let homes = Homes::start(2).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let connect = async || homes.settle(TcpStream::connect(address).await.unwrap()).unwrap();
            let (one, other) = (connect().await, connect().await);
            let count = || homes.0.iter().map(|place| place.residents.load(Ordering::Relaxed)).collect::<Vec<_>>();
            assert_eq!(count(), [1, 1]);
            drop(one);
            assert_eq!(count(), [0, 1]);
            let (stream, home) = connect().await;
            assert_eq!(count(), [1, 1]);
            let (tell, told) = tokio::sync::oneshot::channel();
            home.unwrap().run(|| async move {
                // Its socket is known to the runtime that it is polled on.
                let writable = stream.writable().await.is_ok();
                let _ = tell.send((writable, std::thread::current().name().map(str::to_owned)));
            });
            assert_eq!(told.await.unwrap(), (true, Some("sessions 0".to_owned())));
            drop(other);
        });
    }
}
