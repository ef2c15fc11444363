//! One timer for one task, cheap to move: clocks that are set anew with every message cost nothing.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use crate::World;
use lastcall_core::Time;

/// Waits for `work`, until `deadline`; none if it was not done by then.
pub async fn within<W: World, T>(world: &W, deadline: Time, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut alarm = Alarm::new(world.clone());
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if alarm.poll_at(deadline, cx) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wakes its task at a time that may change at every poll.
///
/// An alarm that is moved to a later time keeps its old timer, wakes its task once too early, and is set anew then.
pub struct Alarm<W> {
    world: W,
    set: Option<(Time, Timer)>,
}

impl<W: World> Alarm<W> {
    /// An alarm that is not set.
    pub fn new(world: W) -> Self {
        Alarm { world, set: None }
    }

    /// Makes sure that the task of `cx` is woken at `at` or before. Returns whether `at` has passed already.
    pub fn poll_at(&mut self, at: Time, cx: &mut Context<'_>) -> bool {
        loop {
            if let Some((set, timer)) = &mut self.set
                && *set <= at
                && timer.as_mut().poll(cx).is_pending()
            {
                // Not even that has passed: no clock need be read.
                return false;
            }
            self.set = None;
            if at <= self.world.now() {
                return true;
            }
            self.set = Some((at, Box::pin(self.world.sleep_until(at))));
        }
    }
}
