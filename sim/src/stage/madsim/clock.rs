//! Time of a run, on madsim's clock.
//!
//! **A millisecond of a run is a second of madsim's** ([`SLOWER`]). madsim's clock moves 50 to 100 ns whenever a task was
//! polled, and here time is to stand still until all of them wait: a second is longer than all polls that an instant may have.
//! In its millisecond each timer rings, and each segment arrives, at a moment of its own, drawn from the seed. So what is due
//! together happens in every order, and everybody sees the same time meanwhile.

use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::madsim::time::TimeHandle;

use super::lock;
use crate::stage::random;

/// What is told apart.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// So much longer everything takes on madsim's clock.
const SLOWER: u32 = 1000;

/// In which part of its millisecond something happens, in ns of madsim's. The rest of its second is for the polls.
const HAPPENS_WITHIN_NS: u64 = 250_000_000;

/// When the last tasks of a millisecond have run.
const INSTANT_ENDS: Duration = Duration::from_millis(990);

#[derive(Clone)]
pub(super) struct Clock {
    time: TimeHandle,
    /// Nothing is waited for that is due then or later.
    limit: Duration,
    order: Arc<Mutex<random::Stream>>,
}

impl Clock {
    /// To be made within the runtime.
    pub(super) fn new(limit: Duration, seed: u64) -> Clock {
        let order = random::Stream::new(seed, "madsim", "order");
        Clock { time: TimeHandle::current(), limit, order: Arc::new(Mutex::new(order)) }
    }

    /// Since the beginning of the run, in whole ticks.
    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.time.elapsed().as_secs())
    }

    /// Completes at `at`, or at once if that has passed.
    pub(super) fn sleep_until(&self, at: Duration) -> Sleep {
        Sleep { clock: self.clone(), at, alarm: None }
    }

    /// When a segment arrives that takes so long, or by the seed a tick more: on madsim's clock, from now on.
    pub(super) fn arrival(&self, takes: Duration) -> Range<Duration> {
        let late = u32::from(lock(&self.order).below(2) == 1);
        let begin = self.until(self.now() + takes + TICK * late);
        begin..begin + Duration::from_nanos(HAPPENS_WITHIN_NS)
    }

    /// How long it is to the first tick that is not before `at`, which is later than now, on madsim's clock.
    fn until(&self, at: Duration) -> Duration {
        let tick = u64::try_from(at.as_nanos().div_ceil(TICK.as_nanos())).expect("a run is shorter than 584 years");
        Duration::from_secs(tick) - self.time.elapsed()
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Completes when everything has run that happens at this instant.
    pub(super) async fn rest(&self) {
        let elapsed = self.time.elapsed();
        let ends = Duration::from_secs(elapsed.as_secs()) + INSTANT_ENDS;
        self.time.sleep(ends.saturating_sub(elapsed)).await;
    }

    /// Completes at the limit of the run, before anything that is due then.
    pub(super) async fn out_of_time(&self) {
        let Some(end) = self.limit.checked_mul(SLOWER) else { return std::future::pending().await };
        self.time.sleep(end.saturating_sub(self.time.elapsed() + Duration::from_millis(5))).await;
    }

    /// Sets an alarm. `at` is later than now.
    fn set(&self, at: Duration, alarm: Arc<Alarm>) {
        let moment = Duration::from_nanos(lock(&self.order).below(HAPPENS_WITHIN_NS));
        let sleep = pin!(self.time.sleep(self.until(at) + moment));
        // The timer is set by the first poll, and outlives the sleep.
        let waker = Waker::from(alarm);
        assert!(sleep.poll(&mut Context::from_waker(&waker)).is_pending(), "it is a thousandth of a tick at least");
    }
}

/// See [`Clock::sleep_until`]. madsim's own sets one more timer whenever it is polled, and takes none of them back: this one
/// sets one, which knows whom to wake and forgets it when the sleep is dropped.
pub(super) struct Sleep {
    clock: Clock,
    at: Duration,
    alarm: Option<Arc<Alarm>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        if let Some(alarm) = &self.alarm {
            *lock(&alarm.0) = Some(cx.waker().clone());
        } else if self.at < self.clock.limit {
            let alarm = Arc::new(Alarm(Mutex::new(Some(cx.waker().clone()))));
            self.clock.set(self.at, alarm.clone());
            self.alarm = Some(alarm);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            lock(&alarm.0).take();
        }
    }
}

struct Alarm(Mutex<Option<Waker>>);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let waker = lock(&self.0).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
