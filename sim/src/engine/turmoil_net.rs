//! The engine on `turmoil-net`: real socket states, and idle time for nothing.
//!
//! All hosts share one paused current-thread tokio runtime; `turmoil-net` gives each a socket stack without a clock. The
//! driver decides when packets move. It waits for a packet that is due or for any activity of a task, and tokio jumps over
//! the time between. On activity it sleeps 1 ms, so that everything that is ready has run, then moves packets once. So a run
//! costs one pass per millisecond in which something happens, and nothing for the others: 24 h of silence cost microseconds.
//! A pass visits every socket.
//!
//! Why this is deterministic: one thread; tokio's run queue is first in, first out; timers have 1 ms; the driver is the
//! runtime's root future, so at each new millisecond it runs before any task of that millisecond, and a pass sees exactly
//! what was sent in the milliseconds before.
//!
//! Remarks on `turmoil-net` 0.1.0, each handled here or to be known:
//!
//! - Its SYN and SYN-ACK announce a window of 65,535 whatever the receive buffer holds. What does not fit would be dropped
//!   and come again only by retransmission: the packet path corrects the window.
//! - A window update is sent only when one read frees half of the receive buffer; readers with small buffers would stop a
//!   transfer for good. [`Stream`] reads that much at a time for them.
//! - Retransmission counts passes, not time, and in an idle run there are no passes. Nothing is lost here, so
//!   `RETRANSMIT_AFTER_PASSES` keeps it out of the way; a fault that loses packets needs a driver that goes on passing.
//! - Data for a socket whose process has closed it is taken and acknowledged for ever. Linux answers with RST, and so does
//!   the packet path.
//! - A received RST destroys unread data at once. Linux lets the process read it; other kernels don't. The stricter one is
//!   right for us: a FATAL that a reset could destroy counts as destroyed.
//! - There is no TIME-WAIT, no keepalive, no Nagle, no congestion; sequence numbers start at a constant.
//! - A connection that is given up while its SYN is on the way leaves a dead entry in the other side's table.
//! - A host's connections to itself don't pass the packet path: no latency, no choice of the seed.
#![expect(clippy::disallowed_methods, reason = "an engine is where simulated time comes from")]

mod packets;
mod stream;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::turmoil_net::shim::tokio::net::{TcpListener, TcpStream};
use ::turmoil_net::{EnterGuard, HostId, KernelConfig, Net};
use cp::core::Time;
use cp::world::{Signal, World as _};
use tokio::runtime;
use tokio::time::Instant;

use self::packets::{Packets, Unfinished};
pub use self::stream::{Listener, Stream};
use super::hosts::{Hosts, Registered, Turn};
use super::{Capabilities, Ending, Engine, Host, Plan};

/// What tokio's timer wheel tells apart, and so what a packet takes at least.
const TICK: Duration = Duration::from_millis(1);

/// Of every socket. Small enough that a reader which stops is felt soon; see [`Stream`] for the reads it asks for.
const RECEIVE_BUFFER: u16 = 32 * 1024;

/// Of every listener: above the clients that a scenario may have, and all of a host's ephemeral ports.
const BACKLOG: usize = 16_384;

/// A round trip takes at most 4 passes. No packet is ever lost, so a retransmission would only be noise; two orders of
/// magnitude keep it away from any delay that a later fault adds.
const RETRANSMIT_AFTER_PASSES: u32 = 1_000;

/// Nearly three hours in which something happens every millisecond; a run that needs more waits for something that does
/// not come, or should be cut in two.
const MAX_PASSES: u64 = 10_000_000;

/// The engine on `turmoil-net`.
#[derive(Clone, Copy, Debug)]
pub struct TurmoilNet;

impl Engine for TurmoilNet {
    type World = World;

    const NAME: &'static str = "turmoil-net";

    const SUPPORTS: Capabilities = Capabilities {
        half_close: true,
        reset: true,
        backpressure: true,
        exact_times: true,
        abortive_close: true,
        vanish: true,
        packet_loss: true,
        hold: true,
        latency: true,
        restart: true,
    };

    fn resolution(_limit: Duration) -> Duration {
        TICK
    }

    fn simulate(plan: Plan, hosts: Vec<Host<World>>) -> Ending {
        run(plan, hosts).0
    }
}

/// Runs the hosts. Returns how many passes it took, too.
fn run(plan: Plan, hosts: Vec<Host<World>>) -> (Ending, u64) {
    let mut net = Net::with_config(
        KernelConfig::default()
            .recv_buf_cap(RECEIVE_BUFFER.into())
            .default_backlog(BACKLOG)
            .retx_threshold(RETRANSMIT_AFTER_PASSES),
    );
    let ids: Vec<HostId> = hosts.iter().map(|host| net.add_host(host.name)).collect();
    let net = net.enter();
    // Declared after the network, so dropped before it: the tasks that are left close their sockets when they are dropped.
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O asks nothing of the machine");

    let registry = Hosts::new(plan.seed, hosts.iter().map(|host| host.name).collect());
    let ended = runtime.block_on(async {
        let shared = Arc::new(Shared {
            hosts: registry.clone(),
            epoch: Instant::now(),
            limit: plan.limit,
            pulse: Mutex::default(),
            unfinished: Mutex::default(),
        });
        for (index, (host, id)) in hosts.into_iter().zip(ids).enumerate() {
            let world = World { shared: shared.clone(), index, id };
            world.clone().spawn("main", async move { (host.main)(world).await });
        }
        let packets = Packets::new(plan.seed, shared.clone());
        Driver { net: &net, shared, packets, passes: 0 }.drive().await
    });
    registry.close();
    ended
}

struct Driver<'a> {
    net: &'a EnterGuard,
    shared: Arc<Shared>,
    packets: Packets,
    passes: u64,
}

impl Driver<'_> {
    async fn drive(mut self) -> (Ending, u64) {
        let ending = loop {
            self.wait().await;
            if let Some(ending) = self.ending() {
                break ending;
            }
            self.passes += 1;
            self.packets.pass(self.net, self.shared.elapsed());
        };
        (ending, self.passes)
    }

    /// Waits until there may be packets to move: the first millisecond after the next activity, or when a packet is due.
    async fn wait(&self) {
        let due = self.packets.next_due().unwrap_or(Duration::MAX).min(self.shared.limit);
        let mut due = pin!(self.shared.sleep_until(due));
        let active = poll_fn(|cx| match self.shared.poll_active(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => due.as_mut().poll(cx).map(|()| false),
        })
        .await;
        if active {
            self.shared.sleep_until(self.shared.elapsed() + TICK).await;
        }
        // Only now: all activity up to here is of the milliseconds that the coming pass looks at.
        self.shared.rest();
    }

    fn ending(&self) -> Option<Ending> {
        let now = self.shared.elapsed();
        if let Some(at) = self.shared.hosts.finished() {
            return Some(Ending::Finished { at });
        }
        if let Some(why) = self.shared.hosts.stuck() {
            return Some(Ending::Stuck { at: self.shared.hosts.now(), why });
        }
        if now >= self.shared.limit {
            return Some(Ending::OutOfTime { at: Time::from_epoch(self.shared.limit) });
        }
        if self.passes >= MAX_PASSES {
            let why = format!("{MAX_PASSES} passes over the network; busiest: {}", self.shared.hosts.busiest());
            return Some(Ending::Stuck { at: Time::from_epoch(now), why });
        }
        None
    }
}

/// What the driver and all hosts share.
struct Shared {
    hosts: Arc<Hosts>,
    epoch: Instant,
    limit: Duration,
    pulse: Mutex<Pulse>,
    unfinished: Mutex<Unfinished>,
}

/// Whether tasks have run since the last pass, and the driver while it waits for that.
#[derive(Default)]
struct Pulse {
    active: bool,
    driver: Option<Waker>,
}

impl Shared {
    fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn sleep_until(&self, since_epoch: Duration) -> tokio::time::Sleep {
        tokio::time::sleep_until(self.epoch + since_epoch)
    }

    fn poll_active(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pulse = lock(&self.pulse);
        if pulse.active {
            return Poll::Ready(());
        }
        pulse.driver = Some(cx.waker().clone());
        Poll::Pending
    }

    fn rest(&self) {
        lock(&self.pulse).active = false;
    }

    fn act(&self) {
        let driver = {
            let mut pulse = lock(&self.pulse);
            pulse.active = true;
            pulse.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

/// One host of a run on `turmoil-net`. Clones share the host.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
    index: usize,
    id: HostId,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({:?})", self.id)
    }
}

impl Turn for World {
    fn begin(&self) {
        ::turmoil_net::set_current(self.id);
        self.shared.hosts.set_now(self.shared.elapsed());
    }

    fn end(&self) {
        self.shared.act();
    }
}

impl cp::world::World for World {
    type Stream = Stream;
    type Listener = Listener;

    fn now(&self) -> Time {
        self.shared.hosts.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        // Nothing happens at the limit any more; and tokio's timers don't reach much further than two years.
        let sleep = (at.since_epoch() < self.shared.limit).then(|| self.shared.sleep_until(at.since_epoch()));
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
        Ok(Listener::new(TcpListener::bind(address).await?, self.shared.clone()))
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        Stream::new(TcpStream::connect(address).await?, self.shared.clone())
    }

    fn random(&self, purpose: &'static str) -> u64 {
        self.shared.hosts.random(self.index, purpose)
    }

    async fn next_signal(&self) -> Signal {
        poll_fn(|cx| self.shared.hosts.poll_signal(self.index, cx)).await
    }
}

impl Registered for World {
    fn hosts(&self) -> &Hosts {
        &self.shared.hosts
    }

    fn reset(&self, stream: Stream) {
        stream.reset();
    }

    fn vanish(&self, stream: &Stream) {
        lock(&self.shared.unfinished).vanish(stream.flow());
    }
}

#[cfg(test)]
mod tests {
    use cp::world::Listener as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::SimWorld as _;
    use super::*;

    #[test]
    fn idle_time_costs_nothing() {
        let hours = 24;
        let (ending, passes) = run(
            Plan { seed: 1, limit: Duration::from_secs(25 * 3600) },
            vec![
                Host::new("server", async |world: World| {
                    let mut listener = world.bind("0.0.0.0:6432").await.unwrap();
                    let (mut stream, _peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
                    while stream.read_exact(&mut [0]).await.is_ok() {
                        stream.write_all(b"!").await.unwrap();
                    }
                }),
                Host::new("client", async move |world: World| {
                    let mut stream = world.connect("server:6432").await.unwrap();
                    for hour in 1..=hours {
                        world.sleep_until(Time::from_epoch(Duration::from_secs(hour * 3600))).await;
                        stream.write_all(b"?").await.unwrap();
                        stream.read_exact(&mut [0]).await.unwrap();
                    }
                    world.finish();
                }),
            ],
        );
        assert!(ending.at() > Time::from_epoch(Duration::from_secs(24 * 3600)), "{ending:?}");
        assert!(passes < 12 * (hours + 1), "{passes} passes");
    }
}
