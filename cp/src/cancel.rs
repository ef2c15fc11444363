//! Cancel requests: served in every phase, until the process exits. Whoever holds the process up must be able to let go.

use std::collections::BTreeMap;
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::connection::Front;
use crate::line::{Line, Place};
use crate::records::Meter;
use crate::sync::{Arc, Mutex, MutexGuard};
use crate::throttle::Kind;
use crate::tls::Link;
use crate::worker;
use lastcall_core::Time;
use lastcall_core::wire::CancelKey;
use lastcall_world::World;
use lastcall_world::alarm::within;

/// How long a cancel request may take to reach its worker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Requests passed on at a time, of those whose key is a session's here, and as many of the others: neither starves the other.
const AT_A_TIME: usize = 16;
/// Requests of one session that wait for their turn. One more is closed at once; those that wait do for it as well.
const WAITING: usize = 8;

/// Passes the cancel request on, and closes `client` when the worker has taken it: as with PostgreSQL, that is all the answer
/// there is. One whose key is no session's here goes to the worker all the same, because a service sends it to any replica.
/// From outside both look the same, so that a guess learns nothing.
pub(crate) async fn serve<W: World, M: Meter>(front: &Front<W, M>, mut client: Link<W>, key: &CancelKey) {
    let deadline = front.world.now() + PATIENCE;
    match front.registry.session_of(key) {
        Some((session, line)) => {
            let turn = front.unless_exiting(take_turn(front, session, &line, deadline));
            if within(&front.world, deadline, turn).await.flatten() == Some(true) {
                front.registry.count_cancel();
            }
        }
        None => ask_around(front, key, deadline).await,
    }
    // Whoever reads until the end is told that it is the end.
    let _ = within(&front.world, deadline, front.unless_exiting(client.shutdown())).await;
}

/// Passes on a request of a session here when its turn has come, or lets the one that was passed on since do for it. Returns
/// whether the worker has taken it.
async fn take_turn<W: World, M: Meter>(front: &Front<W, M>, session: u32, line: &Line, deadline: Time) -> bool {
    let Some(waiting) = front.cancels.queue_up(session) else { return false };
    let _under_way = waiting.turns.lock().await;
    // Whatever was running when this request came, one that set out later has hit as well.
    if let Some(delivered) = waiting.was_served() {
        return delivered;
    }
    let _permit = front.cancels.known.acquire().await;
    waiting.set_out();
    let delivered = pass_on(front, line, deadline).await;
    waiting.handle_delivered(delivered);
    delivered
}

/// Passes on a request that is no session's here, unless too many are under way.
async fn ask_around<W: World, M: Meter>(front: &Front<W, M>, key: &CancelKey, deadline: Time) {
    let now = front.world.now();
    let Ok(_permit) = front.cancels.unknown.try_acquire() else {
        if let Some(left_out) = front.throttle.pass(Kind::DroppedCancel, now) {
            tracing::warn!(left_out, "cancel request for no session here dropped: too many of them are under way");
        }
        return;
    };
    if let Some(left_out) = front.throttle.pass(Kind::WrongCancel, now) {
        tracing::info!(?key, left_out, "cancel request for no session here: the workers are asked");
    }
    // Whether it gets there is for no line of its own: anybody can send thousands.
    let _ = within(&front.world, deadline, front.unless_exiting(deliver_to_all(front, key))).await;
}

/// Each worker is asked once, all at the same time: one that does not answer keeps it from no other.
async fn deliver_to_all<W: World, M: Meter>(front: &Front<W, M>, key: &CancelKey) {
    let places = front.workers.everywhere(&front.world).await;
    let deliver = |worker: Place| {
        let line = Line { worker: Arc::new(worker), key: key.clone() };
        Box::pin(async move { deliver(front, &line).await })
    };
    let mut under_way: Vec<_> = places.into_iter().map(deliver).collect();
    std::future::poll_fn(|cx| {
        under_way.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if under_way.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Bounds what cancel requests cost the worker.
#[derive(Debug)]
pub(crate) struct Cancels {
    known: Semaphore,
    unknown: Semaphore,
    /// By the session's number, as long as somebody is in its queue.
    queues: Mutex<BTreeMap<u32, Queue>>,
}

impl Default for Cancels {
    fn default() -> Self {
        let bound = || Semaphore::new(AT_A_TIME);
        Cancels { known: bound(), unknown: bound(), queues: Mutex::default() }
    }
}

/// The requests of one session: one of them is under way at a time.
#[derive(Debug, Default)]
struct Queue {
    turns: Arc<tokio::sync::Mutex<()>>,
    /// Requests in it, those under way included.
    here: usize,
    /// Requests that have set out.
    set_out: u64,
    /// Requests that have come since the last of them set out.
    came: usize,
    /// Whether the worker has taken the last one.
    delivered: bool,
}

impl Cancels {
    /// None if so many wait already that one more changes nothing.
    fn queue_up(&self, session: u32) -> Option<Waiting<'_>> {
        let mut queues = self.queues();
        let queue = queues.entry(session).or_default();
        if queue.came >= WAITING {
            return None;
        }
        queue.came += 1;
        queue.here += 1;
        Some(Waiting { cancels: self, session, turns: queue.turns.clone(), after: queue.set_out })
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<u32, Queue>> {
        self.queues.lock().expect("nothing panics while it holds the queues")
    }
}

/// One request in its session's queue.
struct Waiting<'a> {
    cancels: &'a Cancels,
    session: u32,
    turns: Arc<tokio::sync::Mutex<()>>,
    /// How many had set out when it came.
    after: u64,
}

impl Waiting<'_> {
    /// Whether one that set out after this one came was delivered; none if there was none.
    fn was_served(&self) -> Option<bool> {
        self.with(|queue| (queue.set_out > self.after).then_some(queue.delivered))
    }

    fn set_out(&self) {
        self.with(|queue| (queue.set_out, queue.came, queue.delivered) = (queue.set_out + 1, 0, false));
    }

    fn handle_delivered(&self, delivered: bool) {
        self.with(|queue| queue.delivered = delivered);
    }

    fn with<T>(&self, look: impl FnOnce(&mut Queue) -> T) -> T {
        look(self.cancels.queues().entry(self.session).or_default())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queues = self.cancels.queues();
        if let Some(queue) = queues.get_mut(&self.session) {
            queue.here -= 1;
            // Whoever gave up before the last of them set out is covered by nobody any more; nor does anybody count on it.
            queue.came = queue.came.min(queue.here);
            if queue.here == 0 {
                queues.remove(&self.session);
            }
        }
    }
}

/// Cancels at its worker the statement of the session at the end of this line, until `deadline` or the process's exit. Returns
/// whether the worker has taken the request.
pub(crate) async fn pass_on<W: World, M: Meter>(front: &Front<W, M>, line: &Line, deadline: Time) -> bool {
    let delivered = within(&front.world, deadline, front.unless_exiting(deliver(front, line))).await.flatten();
    let Line { worker, key } = line;
    match &delivered {
        Some(Ok(())) => tracing::info!(?key, "cancel request passed on"),
        Some(Err(error)) => tracing::warn!(?key, %worker, %error, "cancel request not passed on"),
        None => tracing::warn!(?key, %worker, "cancel request not passed on in time"),
    }
    matches!(delivered, Some(Ok(())))
}

async fn deliver<W: World, M: Meter>(front: &Front<W, M>, line: &Line) -> std::io::Result<()> {
    // For nobody whose login could be bound to anything.
    let mut worker = worker::connect(front, &line.worker, false).await?;
    worker.write_all(&line.key.request()).await?;
    worker.flush().await?;
    // The worker closes when it has signalled the session: only then has the cancel overtaken nothing. How it closes says
    // nothing.
    let _ = worker.read(&mut [0; 1]).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::line::Line;
    use crate::registry::{Registry, Shown};
    use lastcall_core::wire::CancelKey;
    use lastcall_core::{Activity, Time};

    const SHOWN: Shown = Shown { activity: Activity::Idle, since: Time::EPOCH, clock: None };

    fn key(process_id: u32, secret: &[u8]) -> CancelKey {
        CancelKey::read(&[&process_id.to_be_bytes()[..], secret].concat()).unwrap()
    }

    #[test]
    fn a_session_is_known_by_its_workers_key_and_two_workers_may_choose_the_same_process_id() {
        let registry = Registry::default();
        let session_of = |key: &CancelKey| registry.session_of(key).map(|(number, _)| number);
        let enter = |key| {
            let slot = registry.enter(std::net::SocketAddr::from(([127, 0, 0, 1], 1)), Time::EPOCH).unwrap();
            slot.update(SHOWN, || None);
            assert_eq!(session_of(key), None);
            slot.update(SHOWN, || Some(Line::to("pg:5432", key)));
            slot
        };
        let (one, other) = (key(7, b"long secret"), key(7, b"four"));
        let (slot, _other_slot) = (enter(&one), enter(&other));
        for wrong in [key(7, b"five"), key(8, b"four"), key(7, b"long"), key(7, b"four and more")] {
            assert_eq!(session_of(&wrong), None, "{wrong:?}");
        }
        assert_eq!((session_of(&one), session_of(&other)), (Some(1), Some(2)));
        drop(slot);
        assert_eq!((session_of(&one), session_of(&other)), (None, Some(2)));
    }
}
