//! The engine on `turmoil-net`: real socket states, and idle time for nothing.
//!
//! All hosts share one queue of tasks ([`tasks`]); `turmoil-net` gives each a socket stack without a clock.
//! Time is a number that the driver keeps. It lets the tasks run until all of them wait, looks for the next instant in which
//! anything is due (a timer, a packet, or the first millisecond after a task used a socket, in which its packets leave), and
//! moves the time there. So a run costs one pass over the sockets per millisecond in which something happens, and nothing for
//! the others: 24 h of silence cost microseconds.
//!
//! **The same instant.** Everything that is due in one millisecond, timers and arriving packets alike, happens one after the
//! other in an order drawn from the seed, and between two of them every task runs until it waits again. So where a signal, a
//! client's step, a due time and a packet fall together, enough seeds show every order. Packets of one connection in one
//! direction stay in theirs. A task that is woken by one of them and looks at the clock sees the instant that it is: that
//! another timer has not had its turn yet is not to be seen.
//!
//! Why this is deterministic: one thread; the queue of tasks is first in, first out; times are whole milliseconds; and the
//! driver acts only while all tasks wait, so a pass sees exactly what was sent in the milliseconds before.
//!
//! Remarks on `turmoil-net` 0.1.0, each handled here or to be known:
//!
//! - Its SYN and SYN-ACK announce a window of 65,535 whatever the receive buffer holds. What does not fit would be dropped
//!   and come again only by retransmission: the packet path corrects the window.
//! - Its windows have 16 bits, a window update is sent only when one read frees half of the receive buffer, a writer is woken
//!   by every acknowledgement, and nobody is told what was acknowledged or that a FIN has come: see [`socket`]. A connection
//!   moves at most 32 KiB in a round trip.
//! - Retransmission counts passes, not time, and in an idle run there are no passes. It is switched off, and the packet path
//!   does it instead: see [`links`].
//! - Data for a socket whose process has closed it is taken and acknowledged for ever. Linux answers with RST, and so does
//!   the packet path.
//! - A received RST destroys unread data at once. Linux lets the process read it; other kernels don't. The stricter one is
//!   right for us: a FATAL that a reset could destroy counts as destroyed.
//! - There is no TIME-WAIT, no Nagle, no congestion; keepalive and the user timeout are the packet path's; sequence numbers start at a constant.
//! - A connection that is reset before its handshake is complete would stay in the other side's table for good, and keep its
//!   port from being listened on again: the packet path completes it first, and [`Listener`] leaves it out.
//! - There is no SO_REUSEADDR: a port can't be listened on while old connections of it linger. A process that is started
//!   again finds none.
//! - A host's connections to itself don't pass the packet path: no latency, no choice of the seed.

mod links;
mod packets;
mod socket;
mod stream;
mod tasks;
mod timers;

use std::any::Any;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ::turmoil_net::shim::tokio::net::{TcpListener, TcpStream};
use ::turmoil_net::{EnterGuard, HostId, KernelConfig, Net};
use lastcall_core::Time;
use lastcall_world::{Signal, World as _};

use self::links::Links;
use self::packets::{Arriving, Packets, Unfinished};
use self::socket::{Sockets, Woken};
pub use self::stream::{Listener, Stream};
use self::tasks::Tasks;
use self::timers::{Key, Sleep, Timers};
use super::hosts::{Abort, Hosts, Registered, Turn, run_process};
use super::{Capabilities, Ending, Engine, Host, Life, Link, Machine, Plan};
use crate::stage::random;

/// What is told apart, and so what a packet takes at least.
const TICK: Duration = Duration::from_millis(1);

/// Of every listener: above the clients that a scenario may have, and all of a host's ephemeral ports.
const BACKLOG: usize = 16_384;

/// Nearly three hours in which something happens every millisecond; a run that needs more waits for something that does
/// not come, or should be cut in two.
const MAX_PASSES: u64 = 10_000_000;

/// The engine on `turmoil-net`.
#[derive(Clone, Copy, Debug)]
pub struct TurmoilNet;

impl Engine for TurmoilNet {
    type World = World;

    const NAME: &'static str = "turmoil-net";

    const SUPPORTS: Capabilities = Capabilities::ALL;

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
            .recv_buf_cap(socket::WINDOW.into())
            // The sockets' own count keeps each to its host's.
            .send_buf_cap(usize::MAX)
            .default_backlog(BACKLOG)
            .retx_threshold(u32::MAX),
    );
    let ids: Vec<HostId> = hosts.iter().map(|host| net.add_host(host.name)).collect();
    let addresses = hosts.iter().map(|host| net.lookup(host.name)).collect();
    let machines: Vec<Machine> = hosts.iter().map(|host| host.machine).collect();
    let net = net.enter();
    let registry = Hosts::new(plan.seed, hosts.iter().map(|host| host.name).collect());
    let shared = Arc::new(Shared {
        hosts: registry.clone(),
        ids,
        limit: plan.limit,
        tasks: Tasks::default(),
        is_pass_due: AtomicBool::new(false),
        is_network_busy: AtomicBool::new(false),
        timers: Mutex::default(),
        sockets: Mutex::default(),
        abandoned: Mutex::default(),
        unfinished: Mutex::default(),
        links: Mutex::new(Links::new(addresses, &machines)),
        machines,
    });
    for (index, host) in hosts.into_iter().enumerate() {
        let world = World { shared: shared.clone(), index, alias: None };
        world.clone().spawn("main", async move { run_process(world.clone(), (host.main)(world)).await });
    }
    let packets = Packets::new(plan.seed, shared.clone());
    let order = random::Stream::new(plan.seed, "driver", "order");
    let ended = Driver { net: &net, shared: shared.clone(), packets, order, passes: 0 }.drive();
    registry.close();
    // The tasks that are left close their sockets when they are dropped.
    shared.tasks.end();
    // While the network is there.
    let abandoned = std::mem::take(&mut *lock(&shared.abandoned));
    for (host, sockets) in abandoned {
        net.set_current(shared.ids[host]);
        drop(sockets);
    }
    ended
}

struct Driver<'a> {
    net: &'a EnterGuard,
    shared: Arc<Shared>,
    packets: Packets,
    order: random::Stream,
    passes: u64,
}

/// What happens at its instant.
enum Due {
    Timer(Key),
    Packets(Arriving),
}

impl Driver<'_> {
    fn drive(mut self) -> (Ending, u64) {
        self.settle();
        let ending = loop {
            if let Some(ending) = self.ending() {
                break ending;
            }
            let now = self.next();
            self.shared.hosts.set_now(now);
            if now >= self.shared.limit {
                break Ending::OutOfTime { at: Time::from_epoch(self.shared.limit) };
            }
            self.happen(now);
        };
        (ending, self.passes)
    }

    /// Lets the tasks run until all of them wait.
    fn settle(&self) {
        loop {
            self.shared.tasks.run();
            let woken = { lock(&self.shared.sockets).look() };
            let Some(woken) = woken else { return };
            woken.into_iter().for_each(Woken::wake);
        }
    }

    /// The next instant in which something is due.
    fn next(&self) -> Duration {
        let leaving = self.shared.is_pass_due.load(Ordering::Relaxed).then(|| self.shared.elapsed() + TICK);
        let timers = lock(&self.shared.timers).next_due();
        let due = [leaving, timers, self.packets.next_due(), lock(&self.shared.links).next_due()];
        let next = due.into_iter().flatten().fold(self.shared.limit, Duration::min);
        assert!(next >= self.shared.elapsed(), "something is due at {next:?}, and it is {:?}", self.shared.elapsed());
        next
    }

    /// Everything that is due at `now`, in an order drawn from the seed. All tasks wait before and after.
    fn happen(&mut self, now: Duration) {
        if self.shared.is_pass_due.swap(false, Ordering::Relaxed) {
            self.passes += 1;
            self.packets.leave(self.net, now);
            self.packets.pass_within();
        }
        if self.packets.ring_clocks(self.net, now) {
            self.settle();
        }
        let timers: Vec<Key> = lock(&self.shared.timers).due(now).collect();
        let arriving = self.packets.take_due(now).into_iter().map(Due::Packets);
        let due = timers.into_iter().map(Due::Timer).chain(arriving);
        let mut due: Vec<(u64, Due)> = due.map(|due| (self.order.next_u64(), due)).collect();
        due.sort_by_key(|(rank, _)| *rank);
        for (_, due) in due {
            match due {
                Due::Timer(key) => {
                    let waker = lock(&self.shared.timers).fire(key);
                    waker.into_iter().for_each(std::task::Waker::wake);
                }
                Due::Packets(packets) => {
                    self.packets.arrive(packets, self.net, now);
                }
            }
            self.settle();
        }
    }

    fn ending(&self) -> Option<Ending> {
        if let Some(at) = self.shared.hosts.finished() {
            return Some(Ending::Finished { at });
        }
        if let Some(why) = self.shared.hosts.stuck() {
            return Some(Ending::Stuck { at: self.shared.hosts.now(), why });
        }
        if self.passes >= MAX_PASSES {
            let why = format!("{MAX_PASSES} passes over the network; busiest: {}", self.shared.hosts.busiest());
            return Some(Ending::Stuck { at: self.shared.hosts.now(), why });
        }
        None
    }
}

/// What the driver and all hosts share.
struct Shared {
    hosts: Arc<Hosts>,
    ids: Vec<HostId>,
    machines: Vec<Machine>,
    limit: Duration,
    tasks: Tasks,
    /// Since the last pass a host did something, or a packet arrived, whereupon packets may leave.
    is_pass_due: AtomicBool,
    timers: Mutex<Timers>,
    /// Packets are on their way.
    is_network_busy: AtomicBool,
    sockets: Mutex<Sockets>,
    /// Sockets of machines that are gone, by host: nobody closes them. At most all that there were.
    abandoned: Mutex<BTreeMap<usize, Vec<Arc<dyn Any + Send + Sync>>>>,
    unfinished: Mutex<Unfinished>,
    links: Mutex<Links>,
}

impl Shared {
    fn elapsed(&self) -> Duration {
        self.hosts.now().since_epoch()
    }

    /// Packets may leave because of what is done here: with a pass in the next millisecond.
    fn act(&self) {
        self.is_pass_due.store(true, Ordering::Relaxed);
    }

    /// If the machine of a host is gone, this socket of its is nobody's to close. Whether that is so.
    fn abandon(&self, host: IpAddr, socket: impl FnOnce() -> Arc<dyn Any + Send + Sync>) -> bool {
        let links = lock(&self.links);
        let gone = links.host(host).filter(|_| links.is_gone(host));
        if let Some(host) = gone {
            lock(&self.abandoned).entry(host).or_default().push(socket());
        }
        gone.is_some()
    }
}

/// A time in whole ticks, rounded up; none if it is beyond all runs.
fn whole_ticks(time: Duration) -> Option<Duration> {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).ok().map(Duration::from_millis)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

/// One host of a run on `turmoil-net`. Clones share the host.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
    index: usize,
    /// What its connections are called besides.
    alias: Option<Arc<str>>,
}

impl World {
    fn id(&self) -> HostId {
        self.shared.ids[self.index]
    }

    fn machine(&self) -> Machine {
        self.shared.machines[self.index]
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({:?})", self.id())
    }
}

impl Turn for World {
    fn begin(&self) {
        ::turmoil_net::set_current(self.id());
    }

    fn end(&self) {}

    fn start(&self, task: impl Future<Output = ()> + Send + 'static) -> Abort {
        let task = self.shared.tasks.spawn(Box::pin(task));
        Arc::new(move || task.abort())
    }
}

impl lastcall_world::World for World {
    type Stream = Stream;
    type Listener = Listener;

    fn now(&self) -> Time {
        self.shared.hosts.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        Sleep::until(at.since_epoch(), self.shared.clone())
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.hosts.spawn(self.clone(), self.index, name, Box::pin(task));
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        Ok(Listener::new(TcpListener::bind(address).await?, self.clone()))
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        let mut connecting = pin!(TcpStream::connect(address));
        let mut asked = self.is_own(address);
        let tcp = poll_fn(|cx| {
            let polled = connecting.as_mut().poll(cx);
            // The first poll that waits has sent the SYN.
            self.shared.act();
            if polled.is_pending() && !std::mem::replace(&mut asked, true) {
                lock(&self.shared.links).connects(self.index, self.alias.clone());
            }
            polled
        });
        Stream::new(tcp.await?, self)
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
        lock(&self.shared.links).vanish(stream.flow(), self.shared.elapsed());
    }

    fn alias(&self, name: &str) -> Self {
        World { alias: Some(name.into()), ..self.clone() }
    }

    fn link(&self, between: [&str; 2], link: Link) {
        let between = between.map(|end| self.shared.hosts.find(end).ok_or(end));
        lock(&self.shared.links).set(between, link, self.shared.elapsed());
        // What was held leaves with the next pass, also if nobody else does anything.
        self.shared.act();
    }

    fn is_network_busy(&self) -> bool {
        self.shared.is_network_busy.load(Ordering::Relaxed)
    }

    fn on(&self, host: usize) -> (Self, Duration) {
        let address = {
            let mut links = lock(&self.shared.links);
            links.revive(host);
            links.address(host)
        };
        self.shared.act();
        lock(&self.shared.unfinished).forget(::turmoil_net::netstat(address).entries.iter().filter_map(links::sends));
        (World { shared: self.shared.clone(), index: host, alias: None }, TICK)
    }

    fn life(&self, host: usize) -> Life {
        self.shared.machines[host].life
    }

    fn die(&self, host: usize) {
        lock(&self.shared.links).die(host, self.shared.elapsed());
        // What it has let go leaves with the next pass.
        self.shared.act();
    }

    fn thawed(&self, host: usize) {
        let address = lock(&self.shared.links).address(host);
        lock(&self.shared.sockets).thaw(address);
    }

    fn own(&self) -> usize {
        self.index
    }
}

impl World {
    /// Whether an address is this host's own: such packets never leave it.
    fn is_own(&self, address: &str) -> bool {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let ip = host.parse::<IpAddr>().ok().or_else(|| ::turmoil_net::lookup_host(host));
        ip.is_some_and(|ip| ip.is_loopback() || lock(&self.shared.links).host(ip) == Some(self.index))
    }
}

#[cfg(test)]
mod tests {
    use lastcall_world::Listener as _;
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
