//! An application: callers that do one job after the other through a pool of connections, as a [`PoolModel`] says.
//!
//! Each place of a pool has a task of its own, which keeps its connection, reads what comes while nobody uses it, and does the
//! jobs that it is handed. So a pool that looks at nothing (`notices = false`) has read the end of a connection before its caller
//! runs into it: nobody can tell, but that the connection is closed on both sides a little earlier than by a driver that only
//! reads when it is used.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use lastcall_core::Time;
use lastcall_world::watched::Watched;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::actor::Actor;
use super::client::Session;
use super::pool::{PoolModel, Takes};
use super::script::{self, Next, Script};
use super::service::Way;
use crate::cast::history::{Event, Outcome, Tag};
use crate::scenario::model::{Application, Connect, Ping, PingAs, PoolKind, Step};
use crate::stage::SimWorld;

/// How long a caller waits for a connection before it gives up: HikariCP's and psycopg_pool's own.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a connect is tried again. It doubles with each that fails, up to this.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long an instance that stops waits for its connections to close.
const STOPPING: Duration = Duration::from_secs(5);
/// The SQLSTATE of a connection that ended without a word.
const CONNECTION_FAILURE: &str = "08006";
/// And of one that could not be opened.
const UNABLE_TO_CONNECT: &str = "08001";

/// Runs one instance (from 1) until it is to stop and its callers are done.
pub(crate) async fn run<W: SimWorld>(world: W, way: Way, application: Application, instance: u32, stop: Watched<bool>) {
    world.sleep_until(Time::EPOCH + application.start.0).await;
    let mut model = PoolModel::of(application.pool);
    if let Some(lifetime) = application.max_lifetime {
        model.max_lifetime = Some(lifetime.0);
    }
    // Without a pool nobody waits for a connection.
    let size =
        if application.pool == PoolKind::None { application.size.max(application.callers) } else { application.size };
    let first = (instance - 1) * size;
    let places = (1..=size).rev();
    let places = places.map(|place| Actor::new(world.clone(), way.clone(), application.name.clone(), first + place));
    let state = State { idle: VecDeque::new(), free: places.collect(), waiting: VecDeque::new(), stopping: false };
    let pool = Pool { world: world.clone(), model: Arc::new(model), state: Arc::new(Mutex::new(state)) };
    if pool.model.fills {
        for _ in 0..size {
            pool.fill();
        }
    }
    let left = Watched::new(application.callers);
    for _ in 0..application.callers {
        let caller = Caller { pool: pool.clone(), application: application.clone(), way: way.clone() };
        let (stop, left) = (stop.clone(), left.clone());
        world.spawn("caller", async move {
            caller.work(&stop).await;
            left.change(left.value() - 1);
        });
    }
    let mut done = left.subscribe();
    poll_fn(|cx| done.poll_until(|left| *left == 0, cx)).await;
    pool.close(size as usize).await;
}

/// Somebody who does one job after the other.
struct Caller<W: SimWorld> {
    pool: Pool<W>,
    application: Application,
    way: Way,
}

/// How a job came out.
struct Done {
    /// What its caller was told, if it failed: a SQLSTATE.
    told: Option<String>,
    /// Its requests.
    tags: Vec<Tag>,
    /// Whether it is certain that nothing of it ran.
    never_ran: bool,
    /// Whether its connection is good for more.
    usable: bool,
}

impl<W: SimWorld> Caller<W> {
    async fn work(self, stop: &Watched<bool>) {
        let Caller { pool, application, .. } = &self;
        let until = application.until.map(|until| Time::EPOCH + until.0);
        let mut stops = stop.subscribe();
        loop {
            let twice = 2 * u64::try_from(application.think.0.as_millis()).expect("a run is shorter");
            let think = Duration::from_millis(pool.world.random("think") % (twice + 1));
            let mut pause = Box::pin(pool.world.sleep_until(pool.world.now() + think.max(Duration::from_millis(1))));
            let stopped = poll_fn(|cx| match stops.poll_until(|stop| *stop, cx) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending => pause.as_mut().poll(cx).map(|()| false),
            })
            .await;
            if stopped || until.is_some_and(|until| pool.world.now() >= until) {
                return;
            }
            let count = application.jobs.len() as u64;
            let job = usize::try_from(pool.world.random("job") % count).expect("as small as its bound");
            self.job(&application.jobs[job]).await;
        }
    }

    async fn job(&self, job: &Step) {
        let began = self.pool.world.now();
        let mut attempts = 0;
        let done = loop {
            attempts += 1;
            let done = self.attempt(job).await;
            if done.told.is_none() || !done.never_ran || attempts > self.application.retries {
                break done;
            }
        };
        let Done { told, tags, .. } = done;
        let tags = if told.is_some() { tags } else { Vec::new() };
        let application = self.application.name.clone();
        let event = Event::JobEnded { application, began, attempts, told, tags };
        self.way.recorder().record(self.pool.world.now(), event);
    }

    async fn attempt(&self, job: &Step) -> Done {
        let place = match self.pool.acquire().await {
            Ok(place) => place,
            Err(told) => return Done { told: Some(told), tags: Vec::new(), never_ran: true, usable: false },
        };
        let done = place.does(|reply| Order::Job(job.clone(), reply)).await.unwrap_or_else(|| Done {
            told: Some(CONNECTION_FAILURE.to_owned()),
            tags: Vec::new(),
            never_ran: true,
            usable: false,
        });
        self.pool.release(place, done.usable);
        done
    }
}

/// The pool of one instance. Clones share it.
struct Pool<W: SimWorld> {
    world: W,
    model: Arc<PoolModel>,
    state: Arc<Mutex<State<W>>>,
}

impl<W: SimWorld> Clone for Pool<W> {
    fn clone(&self) -> Self {
        Pool { world: self.world.clone(), model: self.model.clone(), state: self.state.clone() }
    }
}

struct State<W: SimWorld> {
    /// The one that was used last is at the back.
    idle: VecDeque<Place>,
    /// Places without a connection.
    free: Vec<Actor<W>>,
    /// Callers that wait for one: as many as there are callers at most.
    waiting: VecDeque<oneshot::Sender<Option<Place>>>,
    stopping: bool,
}

/// A connection, as the pool has it.
struct Place {
    orders: UnboundedSender<Order>,
    opened: Time,
    used: Time,
}

enum Order {
    Job(Step, oneshot::Sender<Done>),
    Check(oneshot::Sender<bool>),
}

impl Place {
    /// What comes of an order; nothing if the connection is gone with its task.
    async fn does<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).ok()?;
        answer.await.ok()
    }
}

impl<W: SimWorld> Pool<W> {
    /// A connection to be used, or what the caller is told instead.
    async fn acquire(&self) -> Result<Place, String> {
        let began = self.world.now();
        let mut pause = self.model.connect_pause.unwrap_or(CONNECT_PAUSE);
        loop {
            let (idle, free) = {
                let mut state = self.state();
                let idle = match self.model.takes {
                    Takes::Newest => state.idle.pop_back(),
                    Takes::Oldest => state.idle.pop_front(),
                    Takes::None => None,
                };
                let free = if idle.is_none() { state.free.pop() } else { None };
                (idle, free)
            };
            if let Some(place) = idle {
                if self.is_good(&place).await {
                    return Ok(place);
                }
                continue;
            }
            if let Some(actor) = free {
                match self.open(actor).await {
                    Ok(place) => return Ok(place),
                    Err(told) if self.model.connects_for.is_none_or(|most| self.world.now() >= began + most) => {
                        return Err(told);
                    }
                    Err(_) => {
                        self.world.sleep_until(self.world.now() + pause).await;
                        pause = (2 * pause).min(LONGEST_PAUSE.max(pause));
                    }
                }
                continue;
            }
            let (give, wait) = oneshot::channel();
            self.state().waiting.push_back(give);
            let patience = Box::pin(self.world.sleep_until(began + PATIENCE));
            match select(wait, patience).await {
                Either::Left((Ok(Some(place)), _)) if self.is_good(&place).await => return Ok(place),
                Either::Left(_) => {}
                // As PostgreSQL itself says of too many.
                Either::Right(_) => return Err("53300".to_owned()),
            }
        }
    }

    /// Whether a connection may be handed out, as far as this pool looks.
    async fn is_good(&self, place: &Place) -> bool {
        if self.model.notices && place.orders.is_closed() || self.is_old(place) {
            return false;
        }
        let idle = self.world.now().since(place.used);
        if self.model.checks_after.is_none_or(|after| idle < after) {
            return true;
        }
        let good = place.does(Order::Check).await == Some(true);
        if !good && self.model.forgets_all {
            self.forget();
        }
        good
    }

    fn is_old(&self, place: &Place) -> bool {
        self.model.max_lifetime.is_some_and(|most| self.world.now().since(place.opened) >= most)
    }

    fn forget(&self) {
        let forgotten = std::mem::take(&mut self.state().idle);
        drop(forgotten);
    }

    /// Gives a connection back.
    fn release(&self, place: Place, usable: bool) {
        if !usable {
            if self.model.forgets_all {
                self.forget();
            }
            return;
        }
        if self.model.takes == Takes::None || self.is_old(&place) || self.state().stopping {
            return;
        }
        let mut place = Place { used: self.world.now(), ..place };
        loop {
            let waiting = self.state().waiting.pop_front();
            let Some(waiting) = waiting else { break };
            match waiting.send(Some(place)) {
                Ok(()) => return,
                Err(back) => place = back.expect("it was sent"),
            }
        }
        self.state().idle.push_back(place);
    }

    /// Opens a connection in this place.
    async fn open(&self, mut actor: Actor<W>) -> Result<Place, String> {
        let session = match Session::connect(&mut actor, &Connect::default()).await {
            Ok(session) => session,
            Err(told) => {
                self.free(actor);
                return Err(told.unwrap_or_else(|| UNABLE_TO_CONNECT.to_owned()));
            }
        };
        let (orders, hears) = unbounded_channel();
        let (pool, now) = (self.clone(), self.world.now());
        self.world.spawn("pooled-connection", async move {
            let notices = pool.model.notices;
            let actor = Keeper { actor, hears, notices }.keep(session).await;
            pool.give_back(actor);
        });
        Ok(Place { orders, opened: now, used: now })
    }

    /// A place has no connection any more.
    fn give_back(&self, actor: Actor<W>) {
        let wanted = self.free(actor);
        if !wanted && self.model.fills && !self.state().stopping {
            self.fill();
        }
    }

    /// A place is free: whether somebody waited for one. Who has given up meanwhile is in nobody's way.
    fn free(&self, actor: Actor<W>) -> bool {
        let mut state = self.state();
        state.free.push(actor);
        std::iter::from_fn(|| state.waiting.pop_front()).any(|waiting| waiting.send(None).is_ok())
    }

    /// Opens a connection before somebody asks. It tries again until it has one, or there is no place for it.
    fn fill(&self) {
        let pool = self.clone();
        self.world.spawn("pool-filler", async move {
            let mut pause = CONNECT_PAUSE;
            loop {
                pool.world.sleep_until(pool.world.now() + pause).await;
                let Some(actor) = pool.take_free() else { return };
                if let Ok(place) = pool.open(actor).await {
                    return pool.release(place, true);
                }
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        });
    }

    fn take_free(&self) -> Option<Actor<W>> {
        let mut state = self.state();
        if state.stopping { None } else { state.free.pop() }
    }

    /// Closes all connections.
    async fn close(&self, places: usize) {
        self.state().stopping = true;
        self.forget();
        let until = self.world.now() + STOPPING;
        while self.state().free.len() < places && self.world.now() < until {
            self.world.sleep_until(self.world.now() + Duration::from_millis(10)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().expect("nothing panics while it holds the pool")
    }
}

/// Keeps one connection.
struct Keeper<W: SimWorld> {
    actor: Actor<W>,
    hears: UnboundedReceiver<Order>,
    notices: bool,
}

/// What a connection is to do next.
enum Turn {
    Order(Order),
    Closed,
    /// Nobody has it any more.
    Dropped,
}

impl<W: SimWorld> Keeper<W> {
    /// To its end; gives its place back.
    async fn keep(mut self, mut session: Session<W>) -> Actor<W> {
        loop {
            let turn = poll_fn(|cx| {
                if session.poll(cx).is_ready() {
                    return Poll::Ready(Turn::Closed);
                }
                self.hears.poll_recv(cx).map(|order| order.map_or(Turn::Dropped, Turn::Order))
            })
            .await;
            match turn {
                Turn::Order(Order::Check(reply)) => {
                    let ping =
                        script::request(&Step::Ping(Ping { ping: PingAs::Simple })).expect("a ping is a request");
                    _ = reply.send(session.ask(&mut self.actor, ping).await.goes_on);
                }
                Turn::Order(Order::Job(job, reply)) => {
                    let done = self.job(&mut session, &job).await;
                    let usable = done.usable;
                    _ = reply.send(done);
                    if !usable {
                        session.stay(&self.actor).await;
                        return self.actor;
                    }
                }
                Turn::Closed => {
                    let told = session.fatal().unwrap_or_else(|| CONNECTION_FAILURE.to_owned());
                    session.stay(&self.actor).await;
                    if !self.notices {
                        self.disappoint(told).await;
                    }
                    return self.actor;
                }
                Turn::Dropped => {
                    session.disconnect(&self.actor).await;
                    return self.actor;
                }
            }
        }
    }

    /// Whoever is handed a connection that is closed finds out.
    async fn disappoint(&mut self, told: String) {
        match self.hears.recv().await {
            Some(Order::Job(_, reply)) => {
                _ = reply.send(Done { told: Some(told), tags: Vec::new(), never_ran: true, usable: false });
            }
            Some(Order::Check(reply)) => _ = reply.send(false),
            None => {}
        }
    }

    async fn job(&mut self, session: &mut Session<W>, job: &Step) -> Done {
        let steps = [job.clone()];
        let mut script = Script::new(&steps, self.actor.now());
        let mut tags = Vec::new();
        while let Some(next) = script.next(self.actor.now()) {
            let pause = match next {
                Next::Rest(until) => Some(until),
                Next::Step(Step::Think(think)) => Some(self.actor.now() + think.think.0),
                Next::Step(_) => None,
            };
            if let Some(until) = pause {
                let mut alarm = Box::pin(self.actor.world.sleep_until(until));
                let closed = poll_fn(|cx| match session.poll(cx) {
                    Poll::Ready(()) => Poll::Ready(true),
                    Poll::Pending => alarm.as_mut().poll(cx).map(|()| false),
                });
                if closed.await {
                    let told = session.fatal().unwrap_or_else(|| CONNECTION_FAILURE.to_owned());
                    return Done { told: Some(told), never_ran: tags.is_empty(), tags, usable: false };
                }
                continue;
            }
            let Next::Step(step) = next else { continue };
            let request = script::request(step).expect("a job has only requests and pauses");
            let asked = session.ask(&mut self.actor, request).await;
            tags.push(self.actor.last_tag());
            if asked.outcome == Outcome::Complete {
                continue;
            }
            let told = match asked.outcome {
                Outcome::Error(code) => code,
                Outcome::Complete | Outcome::Lost => CONNECTION_FAILURE.to_owned(),
            };
            // Who is told of a shutdown in answer to the first request of a job knows that it did not run: a pod ends nobody
            // who has begun something.
            let never_ran = tags.len() == 1 && !asked.goes_on && told == "57P01";
            return Done { told: Some(told), tags, never_ran, usable: asked.goes_on };
        }
        Done { told: None, tags, never_ran: false, usable: !session.is_over() }
    }
}
