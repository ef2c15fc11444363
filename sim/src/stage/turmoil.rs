//! The engine on `turmoil`: a second opinion, from a simulator that knows messages where the first knows sockets.
//!
//! Every host has a runtime of its own and gets one turn a tick, whether anything happens there or not: keep hosts few, and
//! let clients be tasks of one host. The tick comes from the limit of the run (see `tick`), and everything happens at ticks:
//! a sleep ends at the first tick that is not before its time, so that all hosts agree on what time it is. A packet takes one
//! tick. Which host comes first within a tick is drawn from the seed. Tasks of one host that are due in the same tick
//! run in the order in which their timers were set, under every seed: races inside the control plane are for the other
//! engine to find.
//!
//! Remarks on `turmoil` 0.7.2, each handled here or to be known:
//!
//! - Without `tokio_unstable` a task's panic vanishes. The tasks' wrapper reports it.
//! - More connections at once than `tcp_capacity` panic in the simulator. The capacity is above the clients that a scenario
//!   may have, and a panic of the simulator ends the run as [`Ending::Stuck`], not the process.
//! - Flow control counts writes, not bytes; a writer that waits for room is not woken by a reset; and a FIN behind a full
//!   queue is lost. [`Stream`] has a window of its own in front, in bytes, that never lets the queue fill.
//! - A second shutdown is an error. [`Stream`] returns `Ok`, as a socket does.
//! - A listener has only an async accept. [`Listener`] keeps the future between polls.
//! - The SYN-ACK takes no time: a connect takes one tick, not two.
//! - A reset waits behind data that has arrived and is not read; see the other engines for the stricter reading.
//! - A refused or given up connect leaks its port: some 16,000 of them exhaust a host, and end the run as stuck.
//! - There is no retransmission: whoever adds faults can hold messages, but not lose them.
//! - A host is there to the end of a run, whatever its [`Life`].
//! - Listeners are IPv4 and bound to all addresses of a host, whatever they ask for.
#![expect(clippy::disallowed_methods, reason = "an engine is where simulated time comes from")]

mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::turmoil::net::{TcpListener, TcpStream};
use lastcall_core::Time;
use lastcall_world::{Signal, World as _};

use self::stream::Windows;
pub use self::stream::{Listener, Stream};
use super::hosts::{Hosts, Registered, Turn, message};
use super::{Capabilities, Ending, Engine, Host, Life, Link, Machine, Plan};

/// What tokio's timer wheel tells apart.
const MIN_TICK: Duration = Duration::from_millis(1);

/// Longer, and a drain with graces of seconds would be a matter of rounding.
const MAX_TICK: Duration = Duration::from_millis(250);

/// A run has no more ticks than this, some seconds of wall time, as long as the tick can grow.
const MAX_TICKS: u32 = 600_000;

/// Connections that wait for their accept, and messages that wait for their read. Both panic or lose when it is exceeded, and
/// it costs nothing: all of a host's ephemeral ports.
const CAPACITY: usize = 16_384;

/// The engine on `turmoil`.
#[derive(Clone, Copy, Debug)]
pub struct Turmoil;

impl Engine for Turmoil {
    type World = World;

    const NAME: &'static str = "turmoil";

    const SUPPORTS: Capabilities = Capabilities {
        half_close: true,
        reset: true,
        backpressure: true,
        exact_times: false,
        abortive_close: false,
        vanish: false,
        packet_loss: false,
        hold: false,
        latency: false,
        rate: false,
        restart: false,
        dying_machines: false,
    };

    fn resolution(limit: Duration) -> Duration {
        tick(limit)
    }

    fn simulate(plan: Plan, hosts: Vec<Host<World>>) -> Ending {
        let tick = tick(plan.limit);
        let mut sim = ::turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH)
            .rng_seed(plan.seed)
            .enable_random_order()
            // The limit is ours: turmoil's own would be an error.
            .simulation_duration(Duration::MAX)
            .tick_duration(tick)
            .min_message_latency(tick)
            .max_message_latency(tick)
            .tcp_capacity(CAPACITY)
            .build();
        let registry = Hosts::new(plan.seed, hosts.iter().map(|host| host.name).collect());
        let shared = Arc::new(Shared {
            hosts: registry.clone(),
            tick,
            limit: plan.limit,
            machines: hosts.iter().map(|host| host.machine).collect(),
            windows: Windows::default(),
        });
        for (index, host) in hosts.into_iter().enumerate() {
            let world = World { shared: shared.clone(), index, name: host.name };
            sim.client(host.name, async move {
                world.clone().spawn("main", async move { (host.main)(world).await });
                // A client that has returned gets no turns and no packets any more.
                std::future::pending().await
            });
        }
        let ending = loop {
            let now = sim.elapsed();
            registry.set_now(now);
            let at = Time::from_epoch(now);
            if now >= plan.limit {
                break Ending::OutOfTime { at: Time::from_epoch(plan.limit) };
            }
            match catch_unwind(AssertUnwindSafe(|| sim.step())) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => break Ending::Stuck { at, why: format!("turmoil gave up: {error}") },
                Err(panic) => {
                    break Ending::Stuck { at, why: format!("turmoil panicked: {}", message(&*panic)) };
                }
            }
            if let Some(at) = registry.finished() {
                break Ending::Finished { at };
            }
            if let Some(why) = registry.stuck() {
                break Ending::Stuck { at, why };
            }
        };
        registry.close();
        ending
    }
}

/// 1 ms for up to 10 min, then as long as it takes to stay within [`MAX_TICKS`], at most [`MAX_TICK`]. Whole milliseconds.
fn tick(limit: Duration) -> Duration {
    let tick_ms = limit.as_millis().div_ceil(u128::from(MAX_TICKS));
    Duration::from_millis(u64::try_from(tick_ms).unwrap_or(u64::MAX)).clamp(MIN_TICK, MAX_TICK)
}

/// What all hosts share.
struct Shared {
    hosts: Arc<Hosts>,
    tick: Duration,
    limit: Duration,
    machines: Vec<Machine>,
    windows: Windows,
}

/// One host of a run on `turmoil`. Clones share the host.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
    index: usize,
    name: &'static str,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({})", self.name)
    }
}

/// The simulator itself knows whose turn it is.
impl Turn for World {
    fn begin(&self) {}

    fn end(&self) {}
}

impl lastcall_world::World for World {
    type Stream = Stream;
    type Listener = Listener;

    fn now(&self) -> Time {
        // `turmoil::sim_elapsed` at the beginning of the tick, which is when everything in it happens.
        self.shared.hosts.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        let ticks = at.since_epoch().as_nanos().div_ceil(self.shared.tick.as_nanos());
        // Nothing happens at the limit any more; and tokio's timers don't reach much further than two years.
        let sleep =
            u32::try_from(ticks).ok().map(|ticks| self.shared.tick * ticks).filter(|end| *end < self.shared.limit);
        let sleep = sleep.map(|end| tokio::time::sleep(end.saturating_sub(self.now().since_epoch())));
        async move {
            match sleep {
                Some(sleep) => sleep.await,
                None => std::future::pending().await,
            }
        }
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.hosts.spawn(self.clone(), self.index, name, Box::pin(task));
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port(address)?)).await?;
        Ok(Listener::new(tcp, self.clone()))
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        Stream::connected(TcpStream::connect(address).await?, self)
    }

    fn random(&self, purpose: &'static str) -> u64 {
        self.shared.hosts.random(self.index, purpose)
    }

    async fn next_signal(&self) -> Signal {
        poll_fn(|cx| self.shared.hosts.poll_signal(self.index, cx)).await
    }
}

/// The port of `host:port`. Which of its own addresses a host listens on makes no difference here.
fn port(address: &str) -> io::Result<u16> {
    let port = match address.parse::<SocketAddr>() {
        Ok(address) => Some(address.port()),
        Err(_) => address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
    };
    port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} has no port")))
}

impl Registered for World {
    fn hosts(&self) -> &Hosts {
        &self.shared.hosts
    }

    fn reset(&self, _stream: Stream) {
        not_supported("close with RST");
    }

    fn vanish(&self, _stream: &Stream) {
        not_supported("let a machine vanish");
    }

    fn alias(&self, _name: &str) -> Self {
        self.clone()
    }

    fn link(&self, _between: [&str; 2], _link: Link) {
        not_supported("change a link");
    }

    /// turmoil doesn't say.
    fn is_network_busy(&self) -> bool {
        false
    }

    fn on(&self, _host: usize) -> (Self, Duration) {
        not_supported("start a process again");
    }

    /// Whatever the plan says: turmoil has no machine that is silent.
    fn life(&self, _host: usize) -> Life {
        Life::LivesOn
    }

    fn die(&self, _host: usize) {}

    fn thawed(&self, _host: usize) {}

    fn own(&self) -> usize {
        self.index
    }
}

/// Whoever asks has not looked at [`Engine::SUPPORTS`], and the run would show something that never happened.
fn not_supported(what: &str) -> ! {
    panic!("{} can't {what}", Turmoil::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_grows_with_the_limit_and_keeps_a_run_short() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert_eq!(tick(minutes(1)), MIN_TICK);
        assert_eq!(tick(minutes(10)), MIN_TICK);
        assert_eq!(tick(minutes(11)), Duration::from_millis(2));
        assert_eq!(tick(minutes(24 * 60)), Duration::from_millis(144));
        assert_eq!(tick(minutes(1_000_000)), MAX_TICK);
        assert_eq!(tick(Duration::MAX), MAX_TICK);
    }
}
