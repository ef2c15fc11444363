//! Connections that hold no place in a session's count: those that have not said what they want, and those that were refused
//! and linger over their refusal.
//!
//! Anybody can open as many of them as he likes, so they are bounded, and where room is needed the one that has been there
//! longest goes. A cancel request is known by its first bytes and leaves the pending with them; a session that comes too late is
//! told so before it enters: neither is kept out by those who only stand there.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::sync::{Arc, Mutex, MutexGuard};

/// Bounds the connections that hold no slot. Clones share the bound.
#[derive(Clone, Debug)]
pub(crate) struct Pending(Arc<Mutex<Ranks>>);

#[derive(Debug)]
struct Ranks {
    limit: usize,
    last: u64,
    /// Those who may stay, by the order in which they came, each with its task once that waits.
    here: BTreeMap<u64, Option<Waker>>,
}

impl Pending {
    /// A pending of `limit` at most.
    pub(crate) fn with_limit(limit: usize) -> Pending {
        Pending(Arc::new(Mutex::new(Ranks { limit, last: 0, here: BTreeMap::new() })))
    }

    /// Enters one. Where the limit is reached, the oldest is asked to go.
    pub(crate) fn enter(&self) -> Stand {
        let mut ranks = self.ranks();
        let gone = if ranks.here.len() >= ranks.limit { ranks.here.pop_first() } else { None };
        ranks.last += 1;
        let number = ranks.last;
        ranks.here.insert(number, None);
        drop(ranks);
        wake(gone);
        Stand { pending: self.clone(), number }
    }

    /// Asks the `count` oldest to go, or all if there are fewer. Returns how many were asked.
    pub(crate) fn thin(&self, count: usize) -> usize {
        let mut asked = 0;
        while asked < count {
            // One by one: whoever is woken may want the lock.
            let Some(oldest) = self.ranks().here.pop_first() else { break };
            wake(Some(oldest));
            asked += 1;
        }
        asked
    }

    fn ranks(&self) -> MutexGuard<'_, Ranks> {
        self.0.lock().expect("nothing panics while it holds the ranks")
    }
}

fn wake(gone: Option<(u64, Option<Waker>)>) {
    if let Some((_, Some(waker))) = gone {
        waker.wake();
    }
}

/// One connection in the pending. It leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Stand {
    pending: Pending,
    number: u64,
}

impl Stand {
    /// Ready when the connection must go.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.pending.ranks().here.get_mut(&self.number) {
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Does `work` until it is done or the connection must go. It is begun in any case.
    pub(crate) async fn while_here(self, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.poll_gone(cx),
        })
        .await;
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.pending.ranks().here.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(stand: &Stand) -> bool {
        stand.poll_gone(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_goes_where_the_limit_is_reached() {
        let pending = Pending::with_limit(2);
        let (first, second) = (pending.enter(), pending.enter());
        assert!(!gone(&first));
        let third = pending.enter();
        assert_eq!([&first, &second, &third].map(gone), [true, false, false]);
        // One that has left makes room, one that was asked to go has made it already.
        drop((first, third));
        let fourth = pending.enter();
        assert_eq!([&second, &fourth].map(gone), [false, false]);
        assert_eq!(pending.thin(9), 2);
        assert_eq!([&second, &fourth].map(gone), [true, true]);
    }

    #[test]
    fn what_one_came_for_is_begun_before_it_goes() {
        let pending = Pending::with_limit(1);
        let (stand, mut begun) = (pending.enter(), false);
        pending.thin(1);
        let work = stand.while_here(std::future::poll_fn(|_| {
            begun = true;
            Poll::Pending
        }));
        assert!(pin!(work).poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(begun);
    }
}
