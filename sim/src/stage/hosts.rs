//! What the engines share: the hosts' tasks, signals and random streams, and how a run is asked to end.
//!
//! Every future of a host runs inside a [`Task`], main functions included. That is what makes a host: the engine is told
//! before each poll, and before the drop, whose turn it is; panics are caught and reported (tokio's own handling of them in
//! these runtimes is to forget them); a task that is polled again and again without time moving is found out.
//!
//! **Kill** aborts the tasks. The scheduler of the host's own runtime then drops each future when it comes to
//! it, inside the host's turn, so that its sockets are closed by the right kernel whichever host asked for the kill. No
//! flag has to be looked at, and no waker kept.
#![expect(clippy::disallowed_methods, reason = "the engines' only way to tokio's tasks")]

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lastcall_core::Time;
use lastcall_world::{Signal, World};

use super::{Life, Link, SimWorld, TaskPanic};
use crate::stage::random::Streams;

/// How often tasks may be polled without time moving. A drain of 10,000 sessions in one instant stays below a tenth of it; a
/// task that wakes itself forever reaches it in a second of wall time.
const MAX_POLLS_PER_INSTANT: u64 = 2_000_000;

/// How many task names a [`Hosts::busiest`] names.
const NAMED_AS_BUSY: usize = 3;

/// A world whose hosts are kept here. What the harness does to a world is the same on every engine.
pub(super) trait Registered: World {
    fn hosts(&self) -> &Hosts;
    fn reset(&self, stream: Self::Stream);
    fn vanish(&self, stream: &Self::Stream);
    fn alias(&self, name: &str) -> Self;
    fn link(&self, between: [&str; 2], link: Link);
    fn is_network_busy(&self) -> bool;
    /// Another host, whose process was killed, as a process that starts there finds it one step later: without a socket.
    fn on(&self, host: usize) -> (Self, Duration);
    /// What becomes of a host when its process has ended.
    fn life(&self, host: usize) -> Life;
    /// The machine of a host whose life ends with its process is gone.
    fn die(&self, host: usize);
    /// The process of a host goes on.
    fn thawed(&self, host: usize);
    /// The host that this world is.
    fn own(&self) -> usize;
}

/// The first task of a host.
pub(super) async fn run_process<W: Registered>(world: W, main: impl Future<Output = ()>) {
    main.await;
    if world.life(world.own()) == Life::DiesWithProcess {
        end_process(&world, world.own());
    }
}

fn end_process<W: Registered>(world: &W, host: usize) {
    // Before any of its sockets is closed.
    if world.life(host) == Life::DiesWithProcess {
        world.die(host);
    }
    world.hosts().kill(host);
}

impl<W: Registered> SimWorld for W {
    fn send_signal(&self, host: &str, signal: Signal) {
        self.hosts().send_signal(host, signal);
    }

    fn kill(&self, host: &str) {
        end_process(self, self.hosts().index(host));
    }

    fn start<F>(&self, host: &str, main: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let index = self.hosts().index(host);
        self.hosts().revive(index);
        let (world, step) = self.on(index);
        let main = main(world.clone());
        let ready = world.sleep_until(world.now() + step);
        let process = run_process(world.clone(), main);
        world.spawn("main", async move {
            ready.await;
            process.await;
        });
    }

    fn freeze(&self, host: &str) {
        self.hosts().freeze(host);
    }

    fn thaw(&self, host: &str) {
        Registered::thawed(self, self.hosts().index(host));
        self.hosts().thaw(host);
    }

    fn reset(&self, stream: Self::Stream) {
        Registered::reset(self, stream);
    }

    fn vanish(&self, stream: &Self::Stream) {
        Registered::vanish(self, stream);
    }

    fn alias(&self, name: &str) -> Self {
        Registered::alias(self, name)
    }

    fn link(&self, between: [&str; 2], link: Link) {
        Registered::link(self, between, link);
    }

    fn tasks(&self, host: &str) -> Vec<&'static str> {
        self.hosts().tasks(host)
    }

    fn is_network_busy(&self) -> bool {
        Registered::is_network_busy(self)
    }

    fn finish(&self) {
        self.hosts().finish();
    }

    fn panics(&self) -> Vec<TaskPanic> {
        self.hosts().panics()
    }
}

/// All hosts of one run.
pub(super) struct Hosts {
    /// Nanoseconds since the epoch. Beside the lock because every event of a run is stamped with it.
    now_ns: AtomicU64,
    /// Beside it as well, as what every poll looks at.
    polls_at_instant: AtomicU64,
    /// Some process is or was stopped, or the run is stuck: a poll has to look into the state.
    may_halt: AtomicBool,
    names: Vec<&'static str>,
    state: Mutex<State>,
}

struct State {
    hosts: Vec<HostState>,
    panics: Vec<TaskPanic>,
    finished: Option<Time>,
    stuck: Option<String>,
}

struct HostState {
    random: Streams,
    /// False from the kill, or from the end of the run on: nothing is spawned any more.
    alive: bool,
    next_task: u64,
    tasks: BTreeMap<u64, Running>,
    /// Per task name, so as many as the code has names.
    polls: BTreeMap<&'static str, Arc<AtomicU64>>,
    /// At most one of each, as in a real kernel.
    pending_signals: BTreeSet<Rank>,
    signal_waker: Option<Waker>,
    /// The tasks that would have run while the process is stopped; none while it is not.
    frozen: Option<BTreeMap<u64, Waker>>,
}

struct Running {
    name: &'static str,
    /// Set as soon as the scheduler has the task.
    abort: Option<Abort>,
}

impl Hosts {
    pub(super) fn new(seed: u64, names: Vec<&'static str>) -> Arc<Hosts> {
        let hosts = names.iter().map(|name| HostState {
            random: Streams::new(seed, name),
            alive: true,
            next_task: 0,
            tasks: BTreeMap::new(),
            polls: BTreeMap::new(),
            pending_signals: BTreeSet::new(),
            signal_waker: None,
            frozen: None,
        });
        let state = State { hosts: hosts.collect(), panics: Vec::new(), finished: None, stuck: None };
        Arc::new(Hosts {
            now_ns: AtomicU64::new(0),
            polls_at_instant: AtomicU64::new(0),
            may_halt: AtomicBool::new(false),
            names,
            state: Mutex::new(state),
        })
    }

    pub(super) fn now(&self) -> Time {
        Time::from_epoch(Duration::from_nanos(self.now_ns.load(Ordering::Relaxed)))
    }

    pub(super) fn set_now(&self, since_epoch: Duration) {
        let now_ns = u64::try_from(since_epoch.as_nanos()).expect("a run is shorter than 584 years");
        if self.now_ns.swap(now_ns, Ordering::Relaxed) != now_ns {
            self.polls_at_instant.store(0, Ordering::Relaxed);
        }
    }

    /// Runs `future` as a task of `host`; drops it if the host was killed.
    pub(super) fn spawn(
        self: &Arc<Self>,
        turn: impl Turn,
        host: usize,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) {
        let (id, polls) = {
            let mut state = self.lock();
            let host = &mut state.hosts[host];
            if !host.alive {
                drop(state);
                return drop(future);
            }
            let id = host.next_task;
            host.next_task += 1;
            host.tasks.insert(id, Running { name, abort: None });
            (id, host.polls.entry(name).or_default().clone())
        };
        let task = Task { hosts: self.clone(), turn: turn.clone(), host, name, id, polls, future: Some(future) };
        let abort = turn.start(task);
        // Gone already if the runtime is shutting down.
        if let Some(running) = self.lock().hosts[host].tasks.get_mut(&id) {
            running.abort = Some(abort);
        }
    }

    pub(super) fn random(&self, host: usize, purpose: &'static str) -> u64 {
        self.lock().hosts[host].random.draw(purpose)
    }

    pub(super) fn poll_signal(&self, host: usize, cx: &mut Context<'_>) -> Poll<Signal> {
        let host = &mut self.lock().hosts[host];
        match host.pending_signals.pop_first() {
            Some(Rank(_, signal)) => Poll::Ready(signal),
            None => {
                host.signal_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn send_signal(&self, host: &str, signal: Signal) {
        let host = self.index(host);
        let waker = {
            let host = &mut self.lock().hosts[host];
            host.pending_signals.insert(Rank::of(signal));
            host.signal_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn kill(&self, host: usize) {
        let aborts: Vec<Abort> = {
            let host = &mut self.lock().hosts[host];
            host.alive = false;
            host.frozen = None;
            host.pending_signals.clear();
            host.tasks.values().filter_map(|task| task.abort.clone()).collect()
        };
        for abort in aborts {
            abort();
        }
    }

    /// After a kill: tasks may be spawned again.
    fn revive(&self, host: usize) {
        self.lock().hosts[host].alive = true;
    }

    fn freeze(&self, host: &str) {
        let host = self.index(host);
        self.lock().hosts[host].frozen.get_or_insert_default();
        self.may_halt.store(true, Ordering::Relaxed);
    }

    fn thaw(&self, host: &str) {
        let host = self.index(host);
        let wakers = self.lock().hosts[host].frozen.take().unwrap_or_default();
        wakers.into_values().for_each(Waker::wake);
    }

    pub(super) fn tasks(&self, host: &str) -> Vec<&'static str> {
        let host = self.index(host);
        let mut names: Vec<_> = self.lock().hosts[host].tasks.values().map(|task| task.name).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn finish(&self) {
        let now = self.now();
        self.lock().finished.get_or_insert(now);
    }

    pub(super) fn panics(&self) -> Vec<TaskPanic> {
        self.lock().panics.clone()
    }

    /// When the run was asked to end, if it was.
    pub(super) fn finished(&self) -> Option<Time> {
        self.lock().finished
    }

    /// Why the run can't go on, if it can't.
    pub(super) fn stuck(&self) -> Option<String> {
        self.lock().stuck.clone()
    }

    /// From here on nothing is spawned: destructors that try to are too late.
    pub(super) fn close(&self) {
        for host in &mut self.lock().hosts {
            host.alive = false;
        }
    }

    /// The tasks polled most often in this run, in words.
    pub(super) fn busiest(&self) -> String {
        self.name_busiest(&self.lock())
    }

    /// Whether a task may be polled, which is counted then: not while its process is stopped, and it is woken when that ends;
    /// and not once the run is stuck.
    fn may_poll(&self, host: usize, task: u64, cx: &Context<'_>) -> bool {
        let polls = count(&self.polls_at_instant);
        if polls <= MAX_POLLS_PER_INSTANT && !self.may_halt.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.lock();
        if let Some(waiting) = &mut state.hosts[host].frozen {
            waiting.insert(task, cx.waker().clone());
            return false;
        }
        if polls > MAX_POLLS_PER_INSTANT && state.stuck.is_none() {
            let busiest = self.name_busiest(&state);
            state.stuck = Some(format!("{MAX_POLLS_PER_INSTANT} polls without time moving; busiest: {busiest}"));
            self.may_halt.store(true, Ordering::Relaxed);
        }
        state.stuck.is_none()
    }

    fn end_task(&self, host: usize, id: u64, task: &'static str, panic: Option<String>) {
        let mut state = self.lock();
        let ended = state.hosts[host].tasks.remove(&id);
        let host = self.names[host];
        state.panics.extend(panic.map(|message| TaskPanic { host, task, message }));
        drop(state);
        drop(ended);
    }

    fn name_busiest(&self, state: &State) -> String {
        let by_host = self.names.iter().zip(&state.hosts);
        let mut counts: Vec<_> = by_host
            .flat_map(|(name, host)| {
                host.polls.iter().map(move |(task, polls)| (polls.load(Ordering::Relaxed), *name, *task))
            })
            .collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.truncate(NAMED_AS_BUSY);
        let words: Vec<_> =
            counts.iter().map(|(polls, host, task)| format!("{task} on {host} ({polls} polls)")).collect();
        words.join(", ")
    }

    /// The host of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|host| *host == name)
    }

    fn index(&self, name: &str) -> usize {
        match self.find(name) {
            Some(index) => index,
            None => panic!("no host of this run is called {name:?}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the hosts")
    }
}

/// One more, and how many these are. All of a run is on one thread.
fn count(counter: &AtomicU64) -> u64 {
    let count = counter.load(Ordering::Relaxed) + 1;
    counter.store(count, Ordering::Relaxed);
    count
}

/// Pending signals are taken in the order in which the real world looks at them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rank(u8, Signal);

impl Rank {
    fn of(signal: Signal) -> Rank {
        let rank = match signal {
            Signal::Quit => 0,
            Signal::Term => 1,
            Signal::Int => 2,
            Signal::Hup | Signal::Other(_) => 3,
        };
        Rank(rank, signal)
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What an engine does when a host's turn begins and ends.
pub(super) trait Turn: Clone + Send + Unpin + 'static {
    /// Before each poll of a task of this host, and before its drop.
    fn begin(&self);
    /// After it.
    fn end(&self);
    /// Gives a task to the scheduler of this host: the tokio runtime that this is called in, unless the engine has another.
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) -> Abort {
        let handle = tokio::spawn(task).abort_handle();
        Arc::new(move || handle.abort())
    }
}

/// Makes a scheduler drop a task.
pub(super) type Abort = Arc<dyn Fn() + Send + Sync>;

/// A future of a host, and where it belongs.
struct Task<T: Turn> {
    hosts: Arc<Hosts>,
    turn: T,
    host: usize,
    name: &'static str,
    id: u64,
    /// Of all tasks of this name on this host.
    polls: Arc<AtomicU64>,
    /// None once it has ended.
    future: Option<BoxFuture<'static, ()>>,
}

impl<T: Turn> Future for Task<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        if !this.hosts.may_poll(this.host, this.id, cx) {
            return Poll::Pending;
        }
        count(&this.polls);
        this.turn.begin();
        let poll = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                this.finish(None);
                Poll::Ready(())
            }
            Err(panic) => {
                this.finish(Some(panic));
                Poll::Ready(())
            }
        };
        this.turn.end();
        poll
    }
}

impl<T: Turn> Task<T> {
    fn finish(&mut self, panic: Option<Box<dyn Any + Send>>) {
        let Some(future) = self.future.take() else {
            return;
        };
        let panic = panic.or(catch_unwind(AssertUnwindSafe(|| drop(future))).err());
        self.hosts.end_task(self.host, self.id, self.name, panic.map(|panic| message(&*panic)));
    }
}

impl<T: Turn> Drop for Task<T> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.turn.begin();
            self.finish(None);
            self.turn.end();
        }
    }
}

/// What a panic said, if it said something.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&'static str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    }
}
