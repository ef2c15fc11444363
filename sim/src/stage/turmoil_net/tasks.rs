//! The tasks of a run: the first that is woken is the first to run, one at a time.
//!
//! A queue, and nothing else: no threads, no clock, no timers. So the driver knows at once when all tasks wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Wake, Waker};

use futures_util::future::BoxFuture;

use super::lock;

/// All tasks that have not ended. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    woken: VecDeque<Arc<Task>>,
    /// By number, so in the order in which they were spawned.
    tasks: BTreeMap<u64, Arc<Task>>,
    spawned: u64,
}

/// One task. Its waker is the task itself.
pub(super) struct Task {
    number: u64,
    all: Weak<Mutex<All>>,
    /// None once it has ended.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    is_woken: AtomicBool,
    is_running: AtomicBool,
    is_aborted: AtomicBool,
}

impl Tasks {
    /// Runs `future` as a task, behind all that are woken.
    pub(super) fn spawn(&self, future: BoxFuture<'static, ()>) -> Arc<Task> {
        let task = {
            let mut all = lock(&self.0);
            all.spawned += 1;
            let number = all.spawned;
            let task = Arc::new(Task {
                number,
                all: Arc::downgrade(&self.0),
                future: Mutex::new(Some(future)),
                is_woken: AtomicBool::new(false),
                is_running: AtomicBool::new(false),
                is_aborted: AtomicBool::new(false),
            });
            all.tasks.insert(number, task.clone());
            task
        };
        task.wake_by_ref();
        task
    }

    /// Runs tasks until all of them wait.
    pub(super) fn run(&self) {
        while let Some(task) = { lock(&self.0).woken.pop_front() } {
            if task.run() {
                lock(&self.0).tasks.remove(&task.number);
            }
        }
    }

    /// Drops all tasks, the oldest first.
    pub(super) fn end(&self) {
        while let Some((_, task)) = { lock(&self.0).tasks.pop_first() } {
            let future = lock(&task.future).take();
            drop(future);
        }
        lock(&self.0).woken.clear();
    }
}

impl Task {
    /// Makes the scheduler drop it when it next comes to it.
    pub(super) fn abort(self: &Arc<Self>) {
        self.is_aborted.store(true, Ordering::Relaxed);
        self.wake_by_ref();
    }

    /// Runs it until it waits. Whether it has ended.
    fn run(self: &Arc<Self>) -> bool {
        self.is_woken.store(false, Ordering::Relaxed);
        let mut slot = lock(&self.future);
        let Some(future) = &mut *slot else { return true };
        self.is_running.store(true, Ordering::Relaxed);
        let waker = Waker::from(self.clone());
        let is_aborted = || self.is_aborted.load(Ordering::Relaxed);
        let ended = is_aborted() || future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() || is_aborted();
        self.is_running.store(false, Ordering::Relaxed);
        if ended {
            *slot = None;
        } else if self.is_woken.load(Ordering::Relaxed) {
            // Behind all that it has woken itself.
            self.queue();
        }
        ended
    }

    fn queue(self: &Arc<Self>) {
        if let Some(all) = self.all.upgrade() {
            lock(&all).woken.push_back(self.clone());
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::Relaxed) && !self.is_running.load(Ordering::Relaxed) {
            self.queue();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[test]
    fn who_wakes_itself_runs_behind_whom_it_has_woken() {
        let (tasks, log) = (Tasks::default(), Arc::new(Mutex::new(Vec::new())));
        let second = Arc::new(Mutex::new(None::<Waker>));
        let (seen, woken) = (log.clone(), second.clone());
        tasks.spawn(Box::pin(async move {
            for turn in 1..=2 {
                seen.lock().unwrap().push(format!("first, {turn}"));
                let mut waits = true;
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    woken.lock().unwrap().iter().for_each(Waker::wake_by_ref);
                    if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
            }
        }));
        let seen = log.clone();
        tasks.spawn(Box::pin(poll_fn(move |cx| {
            seen.lock().unwrap().push("second".to_owned());
            *second.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        })));
        tasks.run();
        assert_eq!(*log.lock().unwrap(), ["first, 1", "second", "first, 2", "second", "second"]);
        tasks.end();
    }

    #[test]
    fn a_task_that_is_aborted_is_dropped_when_its_turn_comes_and_the_others_at_the_end() {
        let (tasks, kept) = (Tasks::default(), Arc::new(()));
        let spawn = || {
            let held = kept.clone();
            tasks.spawn(Box::pin(async move {
                let _held = held;
                std::future::pending::<()>().await;
            }))
        };
        let (aborted, _left) = (spawn(), spawn());
        tasks.run();
        aborted.abort();
        assert_eq!(Arc::strong_count(&kept), 3);
        tasks.run();
        assert_eq!(Arc::strong_count(&kept), 2);
        tasks.end();
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
