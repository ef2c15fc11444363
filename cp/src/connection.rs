//! One connection from accept to close: its session, its clocks and its place in the registry, kept together.
//!
//! Every stage (startup, finding a worker, relaying) drives it beside its own work, so the drain and the clocks reach a
//! connection wherever it is.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::cancel::{self, Cancels};
use crate::lifecycle::Lifecycle;
use crate::line::Line;
use crate::pending::Pending;
use crate::records::{Change, Meter, Usage};
use crate::registry::{Registry, Shown, Slot};
use crate::throttle::Throttle;
use crate::tls::{Link, Tls};
use crate::who::Who;
use crate::workers::{Seat, Workers};
use lastcall_core::connection::Next;
use lastcall_core::wire::CancelKey;
use lastcall_core::{Activity, Drain, EndReason, Session, Time, Verdict};
use lastcall_world::World;
use lastcall_world::alarm::Alarm;
use lastcall_world::pair::Pair;
use lastcall_world::tasks::Tasks;
use lastcall_world::watched::{Watched, Watcher};

/// What all connections of a process share, as each of them holds it.
pub(crate) type Front<W, M> = Arc<Shared<W, M>>;

/// What all connections of a process share.
pub(crate) struct Shared<W, M> {
    pub(crate) world: W,
    pub(crate) meter: M,
    pub(crate) workers: Arc<Workers>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) registry: Registry,
    pub(crate) lifecycle: Watched<Lifecycle>,
    pub(crate) tasks: Tasks,
    /// For lines that anybody can cause.
    pub(crate) throttle: Throttle,
    /// The tasks of connections that came too late, and the one that accepts: the last to go.
    pub(crate) late: Tasks,
    pub(crate) pending: Pending,
    pub(crate) cancels: Cancels,
}

impl<W, M> Shared<W, M> {
    /// The rules as they are now, and since when it drains.
    pub(crate) fn drain(&self) -> Drain {
        self.lifecycle.value().drain
    }

    /// Does `work`, unless the process exits before it is done.
    pub(crate) async fn unless_exiting<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.unless(|lifecycle| lifecycle.exiting, work).await
    }

    /// Does `work`, unless this is `over` before it is done.
    pub(crate) async fn unless<T>(
        &self,
        over: impl Fn(&Lifecycle) -> bool,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut lifecycle = self.lifecycle.subscribe();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            lifecycle.poll_until(&over, cx).map(|()| None)
        })
        .await
    }
}

/// See the module's text.
pub(crate) struct Connection<W, M> {
    /// What is decided about it, and the bytes under way.
    pub(crate) inner: lastcall_core::Connection,
    pub(crate) slot: Slot,
    /// At its worker, once it has one.
    seat: Option<Seat>,
    front: Front<W, M>,
    lifecycle: Watcher<Lifecycle>,
    alarm: Alarm<W>,
    shown: Shown,
    /// When the next checkpoint is due, and how many bytes had moved at the last.
    checkpoint: Option<(Time, u64)>,
}

impl<W: World, M: Meter> Connection<W, M> {
    pub(crate) fn new(front: &Front<W, M>, slot: Slot) -> Self {
        let now = front.world.now();
        let lifecycle = front.lifecycle.subscribe();
        let inner = lastcall_core::Connection::new(slot.pace(), &lifecycle.value().drain, now);
        let connection = Connection {
            shown: Shown { activity: inner.session().activity(), since: inner.session().since(), clock: None },
            inner,
            slot,
            seat: None,
            front: front.clone(),
            checkpoint: None,
            lifecycle,
            alarm: Alarm::new(front.world.clone()),
        };
        connection.tell();
        connection
    }

    /// What is decided about it.
    pub(crate) const fn session(&self) -> &Session {
        self.inner.session()
    }

    /// The process's drain, as of the last [`Connection::poll_lifecycle`].
    pub(crate) fn drain(&self) -> &Drain {
        &self.lifecycle.value().drain
    }

    /// What is decided about it, and what it must be told besides with whatever has happened.
    pub(crate) fn parts(&mut self) -> (&mut lastcall_core::Connection, &Drain, Time) {
        (&mut self.inner, &self.lifecycle.value().drain, self.front.world.now())
    }

    pub(crate) fn now(&self) -> Time {
        self.front.world.now()
    }

    /// Learns of the drain, and whether an administrator ends this connection. Cheap, and wakes the task when there is more to
    /// learn.
    pub(crate) fn poll_lifecycle(&mut self, cx: &mut Context<'_>) {
        let before = self.drain().signal();
        while self.lifecycle.poll_changed(cx).is_ready() {}
        if before.is_some() && self.drain().signal() != before {
            self.inner.handle_recall();
        }
        if self.slot.poll_ended(cx).is_ready() {
            self.inner.handle_condemned(self.front.world.now());
        }
    }

    /// Ready with the reason when the connection is over, for one that is still opening; wakes the task when that may have
    /// changed.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        loop {
            self.poll_lifecycle(cx);
            if self.lifecycle.value().exiting {
                return Poll::Ready(EndReason::Quit);
            }
            let now = self.now();
            if let Verdict::CloseNow(reason) = self.inner.poll_verdict(self.drain(), now) {
                return Poll::Ready(reason);
            }
            if self.waits(self.inner.next_timeout(self.drain(), now), now, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Moves what can be moved between these two. Ready with what is to be done; wakes the task when that may have changed.
    pub(crate) fn poll_next(&mut self, pair: &mut Pair<'_, '_, Link<W>>) -> Poll<Next> {
        loop {
            self.poll_lifecycle(pair.cx);
            if self.lifecycle.value().exiting {
                return Poll::Ready(Next::Close(EndReason::Quit));
            }
            let (inner, drain, now) = self.parts();
            match inner.drive(pair, drain, now) {
                Next::Wait(until) if self.waits(until, now, pair.cx) => return Poll::Pending,
                Next::Wait(_) => {}
                Next::Again => {
                    pair.cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                next => return Poll::Ready(next),
            }
        }
    }

    /// Whose session it is, which has begun, and what it has done; none before.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let session = self.session();
        let began = session.began()?;
        let Who { peer, names } = self.slot.who();
        let names = names.unwrap_or_default();
        // Up to the last change of what it does, and since.
        let runs = session.activity() == Activity::Executing;
        let since = if runs { self.now().since(session.since()) } else { Duration::ZERO };
        Some(Usage {
            session: self.slot.number(),
            user: names.user.clone(),
            database: names.database.clone(),
            application: names.application.clone(),
            peer,
            worker_pid: session.worker_key().map(CancelKey::process_id),
            began,
            executing: session.executing() + since,
            waiting: session.waiting(),
            statements: session.answered(),
            received: session.received(),
            sent: session.sent(),
        })
    }

    /// Records what the session has done, if it is time and it has done something. Returns when it is time again.
    fn checkpoint(&mut self, now: Time) -> Option<Time> {
        let every = self.front.meter.checkpoint_interval()?;
        let began = self.session().began()?;
        let (due, done) = self.checkpoint.unwrap_or((began + every, 0));
        let runs = self.session().activity() == Activity::Executing;
        // All that is done moves bytes, and what moves none runs.
        let moved = self.session().received() + self.session().sent();
        if moved == done && !runs {
            return None;
        }
        if now < due {
            self.checkpoint = Some((due, done));
            return Some(due);
        }
        if let Some(usage) = self.usage() {
            self.front.meter.session_goes_on(&usage);
        }
        self.checkpoint = Some((now + every, moved));
        runs.then_some(now + every)
    }

    /// Whether there is nothing to do until `until`: the task is woken then.
    fn waits(&mut self, until: Option<Time>, now: Time, cx: &mut Context<'_>) -> bool {
        let until = [until, self.checkpoint(now)].into_iter().flatten().min();
        let waits = until.is_none_or(|at| !self.alarm.poll_at(at, cx));
        if waits {
            self.show(now);
        }
        waits
    }

    /// Cancels the statement at its worker, beside whatever else goes on.
    pub(crate) fn cancel(&mut self) {
        if self.session().was_cut() {
            self.slot.count_cut();
        }
        if let Some(line) = self.line() {
            let front = self.front.clone();
            self.front.tasks.spawn(&self.front.world, "wall", async move {
                cancel::pass_on(&front, &line, front.world.now() + cancel::PATIENCE).await;
            });
        }
    }

    /// A worker takes it.
    pub(crate) fn take_seat(&mut self, seat: Seat) {
        self.seat = Some(seat);
        let (inner, drain, now) = self.parts();
        inner.handle_worker_found(drain, now);
    }

    /// Where a cancel request for it goes, and with which key; none before the worker has told one.
    pub(crate) fn line(&self) -> Option<Line> {
        let (seat, key) = (self.seat.as_ref()?, self.session().worker_key()?);
        Some(Line { worker: seat.place.clone(), key: key.clone() })
    }

    /// The connection is over: nothing is forwarded from here on.
    pub(crate) fn close(&mut self, reason: EndReason) {
        self.slot.decide(reason);
        let worker = self.seat.as_ref().map_or_else(|| self.front.workers.names(), |seat| seat.place.name.to_string());
        let (inner, drain, now) = self.parts();
        inner.close(reason, &worker, drain, now);
        self.show(now);
    }

    /// Lets the registry know what the connection is doing, if that has changed, and which clock runs. A clock that every
    /// byte sets anew is shown anew once a second, and only while somebody may ask what the drain waits for.
    fn show(&mut self, now: Time) {
        let (activity, since) = (self.session().activity(), self.session().since());
        let changed = (activity, since) != (self.shown.activity, self.shown.since);
        if !changed && self.drain().signal().is_none() {
            return;
        }
        let clock = self.session().clock(self.drain(), now);
        if changed || !is_near(self.shown.clock, clock) {
            self.shown = Shown { activity, since, clock };
            self.slot.update(self.shown, || self.line());
        }
        if changed {
            self.tell();
        }
    }

    fn tell(&self) {
        let Shown { activity, since, .. } = self.shown;
        self.front.meter.activity_changed(&Change { connection: self.slot.number(), activity, since });
    }

    /// The connection is gone: its place is free.
    pub(crate) fn leave(self, reason: EndReason) {
        let left = self.slot.leave(reason, self.front.world.now());
        self.front.meter.connection_left(&left);
    }
}

/// Whether two clocks are the same for whoever reads them in whole seconds.
fn is_near(shown: Option<(Time, &'static str)>, clock: Option<(Time, &'static str)>) -> bool {
    match (shown, clock) {
        (Some((shown_at, shown)), Some((at, clock))) => {
            shown == clock && at.since(shown_at).max(shown_at.since(at)) < Duration::from_secs(1)
        }
        (shown, clock) => shown == clock,
    }
}
