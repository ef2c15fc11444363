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
pub struct Notice<T>(Arc<Mutex<Board<T>>>);

#[derive(Debug)]
struct Board<T> {
    value: T,
    /// Counts the changes.
    version: u64,
    next_reader: u64,
    /// At most one waker a reader; readers take theirs away when they go.
    asleep: BTreeMap<u64, Waker>,
}

impl<T: Copy> Notice<T> {
    /// A notice that reads `value` until it is changed.
    pub fn new(value: T) -> Self {
        Notice(Arc::new(Mutex::new(Board { value, version: 0, next_reader: 0, asleep: BTreeMap::new() })))
    }

    /// What it reads now.
    pub fn value(&self) -> T {
        lock(&self.0).value
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

    /// A reader that has seen nothing yet: its first poll is ready at once.
    pub fn subscribe(&self) -> Reader<T> {
        let mut board = lock(&self.0);
        let id = board.next_reader;
        board.next_reader += 1;
        Reader { board: self.0.clone(), id, seen: None }
    }
}

impl<T> Clone for Notice<T> {
    fn clone(&self) -> Self {
        Notice(self.0.clone())
    }
}

/// The waiting side.
#[derive(Debug)]
pub struct Reader<T> {
    board: Arc<Mutex<Board<T>>>,
    id: u64,
    seen: Option<u64>,
}

impl<T: Copy> Reader<T> {
    /// Ready with the value if it has changed since it was last returned here.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<T> {
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
        Poll::Ready(board.value)
    }
}

impl<T: Copy + PartialEq> Reader<T> {
    /// Ready once it reads `wanted`.
    pub fn poll_reads(&mut self, wanted: T, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(value) = self.poll_changed(cx) {
            if value == wanted {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        lock(&self.board).asleep.remove(&self.id);
    }
}

fn lock<T>(board: &Mutex<Board<T>>) -> MutexGuard<'_, Board<T>> {
    board.lock().expect("nothing panics while it holds the board")
}
