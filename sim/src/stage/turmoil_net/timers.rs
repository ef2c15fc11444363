//! Timers of a run: what waits for simulated time.
//!
//! The driver asks for the earliest, moves the time there, and fires those that are due one after the other, in an order that
//! it draws from the seed. tokio's own timers fire in an order that no seed touches.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Shared, lock};

/// When a timer is due, and which of those it is.
pub(super) type Key = (Duration, u64);

/// All timers that wait. At most one a [`Sleep`].
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: BTreeMap<Key, Waker>,
    set: u64,
}

impl Timers {
    /// When the earliest is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Those that are due, in the order in which they were set.
    pub(super) fn due(&self, now: Duration) -> impl Iterator<Item = Key> {
        self.waiting.range(..=(now, u64::MAX)).map(|(key, _)| *key)
    }

    /// Takes a timer away: to be woken, unless its sleep has ended by itself.
    pub(super) fn fire(&mut self, key: Key) -> Option<Waker> {
        self.waiting.remove(&key)
    }

    fn set(&mut self, due: Duration, waker: Waker) -> Key {
        self.set += 1;
        let key = (due, self.set);
        self.waiting.insert(key, waker);
        key
    }
}

/// Ends at its time. Sets its timer when it is first polled; dropping it takes the timer away.
pub(super) struct Sleep {
    shared: Arc<Shared>,
    /// None: never.
    due: Option<Duration>,
    key: Option<Key>,
}

impl Sleep {
    /// Ends at `due`, rounded up to what the engine tells apart; never if that is not within the run.
    pub(super) fn until(due: Duration, shared: Arc<Shared>) -> Sleep {
        let due = super::whole_ticks(due).filter(|due| *due < shared.limit);
        Sleep { shared, due, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(due) = this.due else {
            return Poll::Pending;
        };
        let mut timers = lock(&this.shared.timers);
        if due <= this.shared.elapsed() {
            // Whoever is polled for another reason sees what the clock says, whether or not it is this timer's turn.
            if let Some(key) = this.key.take() {
                timers.fire(key);
            }
            return Poll::Ready(());
        }
        match this.key {
            Some(key) => match timers.waiting.get_mut(&key) {
                Some(waker) => waker.clone_from(cx.waker()),
                None => this.key = Some(timers.set(due, cx.waker().clone())),
            },
            None => this.key = Some(timers.set(due, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            lock(&self.shared.timers).fire(key);
        }
    }
}
