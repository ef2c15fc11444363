//! A value that many tasks wait on: written once in a while, looked at all the time.
//!
//! Looking at the value and going to sleep happen under one lock, so a change between the two can't be lost. Tasks are woken
//! in the order in which they subscribed, so a simulated run is the same every time (tokio's `watch` wakes in an order drawn
//! from an unseeded generator).

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, Mutex, MutexGuard};

/// The writing side. Clones share the value.
#[derive(Debug)]
pub struct Watched<T>(Arc<Mutex<Board<T>>>);

#[derive(Debug)]
struct Board<T> {
    value: T,
    /// Counts the changes.
    version: u64,
    next_reader: u64,
    /// At most one waker a reader; readers take theirs away when they go.
    asleep: BTreeMap<u64, Waker>,
}

impl<T: Clone> Watched<T> {
    /// A value that reads `value` until it is changed.
    pub fn new(value: T) -> Self {
        Watched(Arc::new(Mutex::new(Board { value, version: 0, next_reader: 0, asleep: BTreeMap::new() })))
    }

    /// What it reads now.
    pub fn value(&self) -> T {
        lock(&self.0).value.clone()
    }

    /// Changes what it reads and wakes everyone who waits.
    pub fn change(&self, value: T) {
        let asleep = {
            let mut board = lock(&self.0);
            board.value = value;
            board.version += 1;
            std::mem::take(&mut board.asleep)
        };
        for (_, waker) in asleep {
            waker.wake();
        }
    }

    /// A reader that has been told nothing yet: its first poll is ready at once.
    pub fn subscribe(&self) -> Watcher<T> {
        let mut board = lock(&self.0);
        let id = board.next_reader;
        board.next_reader += 1;
        Watcher { value: board.value.clone(), board: self.0.clone(), id, seen: None }
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Watched(self.0.clone())
    }
}

/// The waiting side.
#[derive(Debug)]
pub struct Watcher<T> {
    board: Arc<Mutex<Board<T>>>,
    id: u64,
    seen: Option<u64>,
    /// What it read at the last look.
    value: T,
}

impl<T: Clone> Watcher<T> {
    /// What the notice read at the last [`Watcher::poll_changed`].
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// Looks again. Ready if the value has changed since the last look.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut board = lock(&self.board);
        if self.seen == Some(board.version) {
            match board.asleep.get_mut(&self.id) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => {
                    board.asleep.insert(self.id, cx.waker().clone());
                }
            }
            return Poll::Pending;
        }
        self.seen = Some(board.version);
        self.value = board.value.clone();
        Poll::Ready(())
    }

    /// Ready as soon as it reads something that is `wanted`.
    pub fn poll_until(&mut self, wanted: impl Fn(&T) -> bool, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let changed = self.poll_changed(cx);
            if wanted(&self.value) {
                return Poll::Ready(());
            }
            if changed.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        lock(&self.board).asleep.remove(&self.id);
    }
}

fn lock<T>(board: &Mutex<Board<T>>) -> MutexGuard<'_, Board<T>> {
    board.lock().expect("nothing panics while it holds the board")
}
