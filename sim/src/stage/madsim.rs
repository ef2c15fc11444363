//! The engine on `madsim`: a third opinion, from a scheduler that takes tasks as it likes.
//!
//! madsim takes the next task by chance among all that can run, of whatever host, where the other engines have a queue. So one
//! seed after the other shows what two tasks of one process do to each other, and not only what a network does to it. Idle
//! time costs nothing. Its clock, its network's latencies and its order of tasks are drawn from the seed.
//!
//! What of TCP a program can tell is laid over madsim's channels, see [`socket`] and [`connection`].
//!
//! Remarks on `madsim` 0.2.34, each handled here or to be known:
//!
//! - Its clock moves with every poll of a task: see [`clock`].
//! - Its TCP sends at a flush only, has no half-close, no reset and no end to what may be written: not used. Its endpoints
//!   carry values, one after the other.
//! - A connect takes no time: the first segment does, and its answer.
//! - A connection is only served as long as a socket is bound where it was opened to: each host keeps one.
//! - A sleep takes a millisecond at least, which is a thousandth of ours, and leaves a timer for each of its polls behind.
//! - A panic in a task ends the run. The tasks' wrapper catches those of hosts; one in here ends the run as
//!   [`Ending::Stuck`].
//! - Tasks that are left at the end would never be dropped, as each holds the queue that holds it: all nodes are killed, and
//!   run once more.
//! - It replaces functions of libc for the whole program: `clock_gettime`, `getrandom`, `sysconf`, `pthread_attr_init` and
//!   some more. Outside of a run, and so on every other thread, they are libc's own. Within one the clock is simulated, and a
//!   thread can't be started.
//! - std's `HashMap` is seeded for the first run of a thread only; nobody may depend on its order.

mod clock;
mod connection;
mod links;
mod network;
mod socket;
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use ::madsim::Config;
use ::madsim::runtime::{Handle, Runtime};
use futures_util::future::{Either, select};
use lastcall_core::Time;
use lastcall_world::{Signal, World as _};

use self::clock::{Clock, TICK};
use self::network::Network;
pub use self::stream::{Listener, Stream};
use super::hosts::{Abort, Hosts, Registered, Turn, message, run_process};
use super::rules::End;
use super::{Capabilities, Ending, Engine, Host, Life, Link, Plan};

/// What a segment takes at least.
const LATENCY: Duration = TICK;

/// The engine on `madsim`.
#[derive(Clone, Copy, Debug)]
pub struct Madsim;

impl Engine for Madsim {
    type World = World;

    const NAME: &'static str = "madsim";

    const SUPPORTS: Capabilities = Capabilities::ALL;

    fn resolution(_limit: Duration) -> Duration {
        TICK
    }

    fn simulate(plan: Plan, hosts: Vec<Host<World>>) -> Ending {
        let registry = Hosts::new(plan.seed, hosts.iter().map(|host| host.name).collect());
        // Nothing comes from the environment, as with madsim's own macros it would. No packet is lost by itself, and each
        // segment's latency is set when it leaves.
        let runtime = Runtime::with_seed_and_config(plan.seed, Config::default());
        let run = run(&runtime, plan, registry.clone(), hosts);
        match catch_unwind(AssertUnwindSafe(|| runtime.block_on(run))) {
            Ok(ending) => ending,
            Err(panic) => {
                registry.close();
                let why = format!("madsim panicked: {}", message(&*panic));
                Ending::Stuck { at: registry.now(), why }
            }
        }
    }
}

async fn run(runtime: &Runtime, plan: Plan, registry: Arc<Hosts>, hosts: Vec<Host<World>>) -> Ending {
    let clock = Clock::new(plan.limit, plan.seed);
    let node = |(index, host): (usize, &Host<World>)| {
        runtime.create_node().name(host.name).ip(network::ip(index).into()).build()
    };
    let nodes = hosts.iter().enumerate().map(node).collect();
    let lives = hosts.iter().map(|host| host.machine.life).collect();
    let network = Network::new(clock.clone(), nodes, hosts.iter().map(|host| host.machine).collect()).await;
    let shared = Arc::new(Shared { hosts: registry.clone(), network, lives, over: Mutex::default() });
    for (index, host) in hosts.into_iter().enumerate() {
        let world = World { shared: shared.clone(), index, alias: None };
        world.clone().spawn("main", async move { run_process(world.clone(), (host.main)(world)).await });
    }
    let over = poll_fn(|cx| {
        let ending = shared.ending();
        if ending.is_none() {
            *lock(&shared.over) = Some(cx.waker().clone());
        }
        ending.map_or(Poll::Pending, Poll::Ready)
    });
    let ending = match select(over, pin!(clock.out_of_time())).await {
        Either::Left((ending, _)) => ending,
        Either::Right(_) => Ending::OutOfTime { at: Time::from_epoch(plan.limit) },
    };
    if matches!(ending, Ending::Finished { .. }) {
        clock.rest().await;
    }
    registry.close();
    shared.network.close();
    for node in shared.network.nodes() {
        Handle::current().kill(node.id());
    }
    // All of them can run now, and are dropped.
    clock.rest().await;
    ending
}

/// What all hosts share.
struct Shared {
    hosts: Arc<Hosts>,
    network: Arc<Network>,
    lives: Vec<Life>,
    /// Who waits for the end of the run.
    over: Mutex<Option<Waker>>,
}

impl Shared {
    fn ending(&self) -> Option<Ending> {
        if let Some(at) = self.hosts.finished() {
            return Some(Ending::Finished { at });
        }
        self.hosts.stuck().map(|why| Ending::Stuck { at: self.hosts.now(), why })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

/// One host of a run on `madsim`. Clones share the host.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
    index: usize,
    /// What its connections are called besides.
    alias: Option<Arc<str>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({})", network::ip(self.index))
    }
}

impl Turn for World {
    fn begin(&self) {
        self.shared.hosts.set_now(self.shared.network.clock.now());
    }

    fn end(&self) {
        if self.shared.ending().is_some() {
            let waker = lock(&self.shared.over).take();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn start(&self, task: impl Future<Output = ()> + Send + 'static) -> Abort {
        let handle = self.shared.network.nodes()[self.index].spawn(task).abort_handle();
        Arc::new(move || handle.abort())
    }
}

impl lastcall_world::World for World {
    type Stream = Stream;
    type Listener = Listener;

    fn now(&self) -> Time {
        self.shared.hosts.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        self.shared.network.clock.sleep_until(at.since_epoch())
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.hosts.spawn(self.clone(), self.index, name, Box::pin(task));
    }

    /// On all addresses of the host, whatever is asked for.
    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let (_, port) = split(address)?;
        Listener::bind(&self.shared.network, self.index, port)
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        let (host, port) = split(address)?;
        let to = self.find(host).ok_or(io::ErrorKind::NotFound)?;
        Stream::connect(&self.shared.network, [self.index, to], port, self.alias.clone()).await
    }

    fn random(&self, purpose: &'static str) -> u64 {
        self.shared.hosts.random(self.index, purpose)
    }

    async fn next_signal(&self) -> Signal {
        poll_fn(|cx| self.shared.hosts.poll_signal(self.index, cx)).await
    }
}

impl World {
    /// The host of this name or address.
    fn find(&self, host: &str) -> Option<usize> {
        match host.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => Some(self.index),
            Ok(ip) => (0..self.shared.lives.len()).find(|index| network::ip(*index) == ip),
            Err(_) if host == "localhost" => Some(self.index),
            Err(_) => self.shared.hosts.find(host),
        }
    }
}

/// `host:port`, in two.
fn split(address: &str) -> io::Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} has no port")))
}

impl Registered for World {
    fn hosts(&self) -> &Hosts {
        &self.shared.hosts
    }

    fn reset(&self, stream: Stream) {
        stream.reset();
    }

    fn vanish(&self, stream: &Stream) {
        stream.vanish();
    }

    fn alias(&self, name: &str) -> Self {
        World { alias: Some(name.into()), ..self.clone() }
    }

    fn link(&self, between: [&str; 2], link: Link) {
        let end = |name| self.shared.hosts.find(name).map_or_else(|| End::Alias(name.into()), End::Host);
        self.shared.network.link(between.map(end), link);
    }

    fn is_network_busy(&self) -> bool {
        self.shared.network.is_busy()
    }

    fn on(&self, host: usize) -> (Self, Duration) {
        self.shared.network.revive(host);
        (World { shared: self.shared.clone(), index: host, alias: None }, TICK)
    }

    fn life(&self, host: usize) -> Life {
        self.shared.lives[host]
    }

    fn die(&self, host: usize) {
        self.shared.network.die(host);
    }

    /// Timers and sockets alike are heard of at once.
    fn thawed(&self, _host: usize) {}

    fn own(&self) -> usize {
        self.index
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "whether the machine's own clock is left alone is what is asked")]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// What madsim replaces in the program is the machine's own again as soon as a run is over, and on every other thread.
    #[test]
    fn outside_of_a_run_the_clock_and_the_threads_are_the_machines_own() {
        let year =
            |time: SystemTime| 1970 + time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 31_556_952;
        let processors = std::thread::available_parallelism().unwrap();
        let within = Arc::new(Mutex::new(None));
        let seen = within.clone();
        let host = crate::stage::Host::new("pod", async move |world: World| {
            *seen.lock().unwrap() = Some((SystemTime::now(), std::thread::available_parallelism().unwrap().get()));
            crate::stage::SimWorld::finish(&world);
        });
        Madsim::simulate(Plan { seed: 1, limit: Duration::from_secs(1) }, vec![host]);
        let (clock, one) = within.lock().unwrap().unwrap();
        assert_eq!((year(clock), one), (2022, 1), "madsim is at work");
        assert!(year(SystemTime::now()) > 2023);
        assert_eq!(std::thread::available_parallelism().unwrap(), processors);
        assert!(year(std::thread::spawn(SystemTime::now).join().unwrap()) > 2023);
    }
}
