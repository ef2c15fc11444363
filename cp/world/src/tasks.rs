//! The tasks of the process, counted, so that the last thing that the process does is to see them all gone.

use std::future::Future;
use std::task::{Poll, Waker};

use crate::World;
use crate::sync::{Arc, Mutex, MutexGuard};

/// Counts tasks. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    tasks: usize,
    /// Whoever waits for all to be gone: one at a time.
    waiter: Option<Waker>,
}

impl Tasks {
    /// Spawns a task that is counted until it ends or is dropped.
    pub fn spawn<W: World>(&self, world: &W, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        world.spawn(name, self.counted(task));
    }

    /// Likewise, the task that `work` makes of an accepted stream: see [`World::spawn_with`].
    pub fn spawn_with<W: World, T: Future<Output = ()> + Send + 'static>(
        &self,
        world: &W,
        name: &'static str,
        stream: W::Stream,
        work: impl FnOnce(W::Stream) -> T,
    ) {
        world.spawn_with(name, stream, |stream| self.counted(work(stream)));
    }

    fn counted(&self, task: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
        self.lock().tasks += 1;
        let one = One(self.clone());
        // Boxed: a future that awaits one of its own arguments has room for it twice.
        let mut task = Box::pin(task);
        async move {
            let _one = one;
            std::future::poll_fn(|cx| task.as_mut().poll(cx)).await;
        }
    }

    /// How many tasks there are.
    pub fn count(&self) -> usize {
        self.lock().tasks
    }

    /// Completes when no task is left. One caller at a time.
    pub async fn gone(&self) {
        std::future::poll_fn(|cx| {
            let mut count = self.lock();
            if count.tasks == 0 {
                return Poll::Ready(());
            }
            count.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().expect("nothing panics while it counts")
    }
}

struct One(Tasks);

impl Drop for One {
    fn drop(&mut self) {
        let waiter = {
            let mut count = self.0.lock();
            count.tasks -= 1;
            if count.tasks == 0 { count.waiter.take() } else { None }
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}
