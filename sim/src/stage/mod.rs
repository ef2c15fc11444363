//! The simulators under the simulation: one small interface, one file per engine.
//!
//! An [`Engine`] runs the main functions of some hosts on simulated time and a simulated network until one of them says that
//! it is over. Nothing outside this module knows which engine it runs on; what an engine can't do it says in
//! [`Engine::SUPPORTS`], so that a scenario that needs it is reported as not supported and never counted as passed.
//!
//! | | [`TurmoilNet`] | [`Madsim`] | [`Turmoil`] |
//! |---|---|---|---|
//! | cost grows with | events and open sockets | events | simulated time and hosts |
//! | time | exact to 1 ms, always | exact to 1 ms, always | exact to the tick: 1 ms up to 10 min, 144 ms for 24 h |
//! | latency | 1 ms, and by the seed 1 ms more | 1 ms, and by the seed 1 ms more | one tick |
//! | the seed decides | latency of each packet; in which order everything happens that is due in the same millisecond | the same; and which task runs next, of all that can | order between hosts |
//! | a reset | destroys what the other side has not read | destroys what the other side has not read | comes after what the other side has not read |
//! | sockets | TCP's own states and windows | ours: segments, windows and acknowledgements | messages, with a window of ours on top |
//! | what is acknowledged | exact | exact | what was sent two ticks ago and fits into the peer's buffer |
//! | what is written leaves | at the end of the millisecond | at once | at once |
//! | a machine that dies with its process | takes its buffers along | takes its buffers along | lives on |
//! | behind a SIGCONT | timers first, then sockets | all at once, by the seed | all at once |
//!
//! Promises of every engine: the same plan and the same main functions give the same schedule in every process; time moves
//! only when every task waits; tasks, their panics and signals are the engine's, so nothing of a run is left when it ends.
//! Not promised: that two engines give the same schedule, nor that a task which never yields can be stopped.

pub mod any;
mod hosts;
#[cfg(madsim)]
pub mod madsim;
#[cfg(not(madsim))]
#[path = "no_madsim.rs"]
pub mod madsim;
pub mod random;
mod rules;
mod tcp;
#[cfg(test)]
mod tests;
pub mod turmoil;
pub mod turmoil_net;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lastcall_core::Time;
use lastcall_world::{Signal, World};

pub use self::any::AnyWorld;
pub use self::madsim::Madsim;
pub use self::turmoil::Turmoil;
pub use self::turmoil_net::TurmoilNet;

/// A simulator.
pub trait Engine {
    /// What the hosts see of it.
    type World: SimWorld;

    /// What reports and the command line call it.
    const NAME: &'static str;

    /// What scenarios may ask of it.
    const SUPPORTS: Capabilities;

    /// The shortest time that a run with this limit tells apart. Every time in such a run is a multiple of it.
    fn resolution(limit: Duration) -> Duration;

    /// Runs the hosts' main functions, in the order given, until [`SimWorld::finish`] is called or the limit of simulated
    /// time is reached. What still runs then is dropped before this returns, its sockets without a word to their peers.
    fn simulate(plan: Plan, hosts: Vec<Host<Self::World>>) -> Ending;
}

/// What a run of an engine is told, besides its hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Every choice that the engine makes, and every [`World::random`], is drawn from it.
    pub seed: u64,
    /// Of simulated time. What is due at the limit itself does not happen any more.
    pub limit: Duration,
}

/// One host of a simulation.
pub struct Host<W> {
    /// What others connect to, as in `pod:6432`. Unique in a run.
    pub name: &'static str,
    /// What it runs on.
    pub machine: Machine,
    /// Runs as the host's first task, named `main`. What becomes of the host when it returns is its [`Life`].
    pub main: Box<dyn FnOnce(W) -> BoxFuture<'static, ()> + Send>,
}

impl<W> Host<W> {
    /// A host that runs `main` on an ordinary machine.
    pub fn new<F>(name: &'static str, main: impl FnOnce(W) -> F + Send + 'static) -> Host<W>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Host { name, machine: Machine::default(), main: Box::new(|world| Box::pin(main(world))) }
    }

    /// The same host on another machine.
    pub fn on(self, machine: Machine) -> Host<W> {
        Host { machine, ..self }
    }
}

/// The machine of a host, and what its kernel is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Whether it is there longer than its process.
    pub life: Life,
    /// Of each of its connections.
    pub buffers: Buffers,
    /// `TCP_USER_TIMEOUT` of the connections that its processes open: how long bytes may be lost on their way before the
    /// connection is given up. Those that it accepts have the default.
    pub user_timeout: Duration,
}

impl Machine {
    /// About what `tcp_retries2` comes to, and what the pod asks for on its clients' connections.
    pub const USER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
}

impl Default for Machine {
    fn default() -> Self {
        Machine { life: Life::default(), buffers: Buffers::default(), user_timeout: Machine::USER_TIMEOUT }
    }
}

/// What becomes of a machine when its process has ended: its main function has returned, or it was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// Its kernel closes the sockets of a process that was killed, and goes on sending what was written. The other tasks of a
    /// main function that returns live on.
    #[default]
    LivesOn,
    /// As a pod's network namespace does: packets that have left arrive. Nothing of what is still in its buffers is sent any
    /// more, nor a FIN or a reset; what is sent to it is lost without a word. New connects are refused, as by a node or a
    /// service that knows of no such pod. The engine on `turmoil` can't do it: there the machine lives on.
    DiesWithProcess,
}

/// How many bytes a kernel holds for one connection. Memory is taken as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// What was written here and is not acknowledged. A writer that was refused is let on when a third of it is free.
    pub send: usize,
    /// What has arrived here, is acknowledged, and is not read. 64 KiB at least on [`TurmoilNet`], which by the sizes of packets
    /// leaves up to 16 KiB of it unused.
    pub receive: usize,
}

impl Default for Buffers {
    /// Linux's own. A send buffer grows to `tcp_wmem[2]`, 4 MiB, without anybody asking: the largest that a process finds without
    /// a setting, and so the one that hides most. A receive buffer begins at `tcp_rmem[1]`, 128 KiB, of which half is window, and
    /// grows only for a reader that keeps up; one that is slow or has stopped, which is who matters here, has no more than
    /// that.
    fn default() -> Self {
        Buffers { send: 4 * 1024 * 1024, receive: 64 * 1024 }
    }
}

impl<W> fmt::Debug for Host<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What only the harness may do to a simulated world.
///
/// A handle stays readable after the run: [`SimWorld::panics`] can be asked then.
///
/// # Panics
/// Every method that takes the name of a host panics if the run has no such host.
pub trait SimWorld: World {
    /// Delivers a signal to the process on `host`: its [`World::next_signal`] returns it. As with a real kernel, a signal
    /// that is still pending is not delivered twice.
    fn send_signal(&self, host: &str, signal: Signal);

    /// SIGKILL: ends all tasks of `host`, each when the scheduler next comes to it, within the same resolution step. A
    /// machine that lives on closes the sockets, with FIN or, where bytes were unread, RST.
    fn kill(&self, host: &str);

    /// Starts a process on a host whose last one was killed, at least one resolution step after that: `main` runs as its
    /// first task. What its kernel still had of the old process is gone.
    fn start<F>(&self, host: &str, main: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static;

    /// SIGSTOP: no task of `host` runs until [`SimWorld::thaw`]. Its kernel goes on taking bytes and, where
    /// the engine has one that does it by itself, connections.
    fn freeze(&self, host: &str);

    /// SIGCONT. On [`TurmoilNet`] the process finds out what it has missed in the order that is hardest for it, which is a real
    /// one's: its timers ring first, and until all tasks wait again no socket says that anything has come, unless it is told
    /// to look for itself ([`lastcall_world::Stream::refresh`]).
    fn thaw(&self, host: &str);

    /// Closes a connection with RST: what was not sent yet is never sent, and the peer's next read or write fails.
    fn reset(&self, stream: Self::Stream);

    /// The same world, whose connections go by `name` besides: [`SimWorld::link`] finds them by it. The name is passed on
    /// to clones.
    fn alias(&self, name: &str) -> Self;

    /// Changes what lies between two ends from now on, in both directions: two hosts, or a host and the connections that go
    /// by a name.
    fn link(&self, between: [&str; 2], link: Link);

    /// The machine at this end of the connection is gone: no packet of it arrives any more, in either direction, and nobody is
    /// told. The peer's kernel finds out as a real one does, by its own clocks. The stream itself stays as it is; reads of it
    /// never end.
    fn vanish(&self, stream: &Self::Stream);

    /// Names of the tasks of `host` that have not ended, sorted; a name that several have comes several times.
    fn tasks(&self, host: &str) -> Vec<&'static str>;

    /// Whether a packet is on its way that is neither lost nor held.
    fn is_network_busy(&self) -> bool;

    /// Ends the simulation now, after everything that is ready now has run.
    fn finish(&self);

    /// The panics of tasks so far, in order. A panic ends its task and nothing else, as with tokio.
    fn panics(&self) -> Vec<TaskPanic>;
}

/// What happens to the packets between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They are lost.
    Partition,
    /// They are not lost any more. What was lost comes through when TCP sends it again.
    Heal,
    /// They wait.
    Hold,
    /// Those that wait go on, in their order.
    Release,
    /// They take so long, one way.
    Latency(Duration),
    /// So many bytes a second, headers included, leave in each direction, one packet after the other: what is sent meanwhile
    /// waits. All connections between the two ends share it. Zero: as many as are sent.
    Rate(u64),
}

/// A task that panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPanic {
    /// The host that it ran on.
    pub host: &'static str,
    /// Its name, as given to [`World::spawn`].
    pub task: &'static str,
    /// What it said.
    pub message: String,
}

/// How a simulation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// [`SimWorld::finish`] was called.
    Finished {
        /// When.
        at: Time,
    },
    /// The limit of simulated time was reached first.
    OutOfTime {
        /// The limit.
        at: Time,
    },
    /// The engine gave up: the tasks never came to rest, or the simulator itself failed.
    Stuck {
        /// How far it came.
        at: Time,
        /// What kept it busy.
        why: String,
    },
}

impl Ending {
    /// When it ended, in simulated time.
    pub fn at(&self) -> Time {
        match self {
            Ending::Finished { at } | Ending::OutOfTime { at } | Ending::Stuck { at, .. } => *at,
        }
    }
}

/// What an engine can do, and what a scenario needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// A side that has sent FIN still reads.
    pub half_close: bool,
    /// A socket closed with unread bytes resets its peer.
    pub reset: bool,
    /// A reader that has stopped holds its writer back after a bounded number of bytes.
    pub backpressure: bool,
    /// Times far into a long run are as exact as at its beginning: to 1 ms.
    pub exact_times: bool,
    /// A process can close a connection with RST when it likes: [`SimWorld::reset`].
    pub abortive_close: bool,
    /// A machine can vanish: [`SimWorld::vanish`].
    pub vanish: bool,
    /// Packets between hosts can be lost, and come through later as TCP would see to it.
    pub packet_loss: bool,
    /// Packets between hosts can be held and released.
    pub hold: bool,
    /// The time that packets between hosts take can be changed.
    pub latency: bool,
    /// The rate of what lies between hosts can be limited.
    pub rate: bool,
    /// A host that was killed can be started again.
    pub restart: bool,
    /// A machine can die with its process: [`Life::DiesWithProcess`].
    pub dying_machines: bool,
}

impl Capabilities {
    /// All there is.
    pub const ALL: Capabilities = Capabilities {
        half_close: true,
        reset: true,
        backpressure: true,
        exact_times: true,
        abortive_close: true,
        vanish: true,
        packet_loss: true,
        hold: true,
        latency: true,
        rate: true,
        restart: true,
        dying_machines: true,
    };

    /// What of `needed` is not there, in words for a report.
    pub fn lacks(self, needed: Capabilities) -> Vec<&'static str> {
        let pairs = [
            (self.half_close, needed.half_close, "half-close"),
            (self.reset, needed.reset, "reset"),
            (self.backpressure, needed.backpressure, "backpressure"),
            (self.exact_times, needed.exact_times, "exact times"),
            (self.abortive_close, needed.abortive_close, "abortive close"),
            (self.vanish, needed.vanish, "vanishing machines"),
            (self.packet_loss, needed.packet_loss, "packet loss"),
            (self.hold, needed.hold, "held packets"),
            (self.latency, needed.latency, "changing latency"),
            (self.rate, needed.rate, "limited rate"),
            (self.restart, needed.restart, "restarts"),
            (self.dying_machines, needed.dying_machines, "machines that die"),
        ];
        pairs.into_iter().filter(|(has, needs, _)| *needs && !has).map(|(_, _, name)| name).collect()
    }
}
