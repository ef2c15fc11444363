//! The pod: runs a control plane, whichever is to be judged, and writes down what it reports of itself.
//!
//! A control plane is whatever is written against [`World`](lastcall_world::World). It is told where to listen, where its worker is and
//! by which settings ([`Config`]), and its exit code is all that it owes. What else it says of itself it says through
//! [`Reporter`]; promises that can't be judged without that are not judged.

pub mod last_call;
pub mod log;
pub mod report;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lastcall_core::Settings;

pub use self::last_call::{LastCall, last_call};
pub use self::report::{Report, Reporter};
use crate::cast::history::{Event, Recorder};
use crate::stage::{AnyWorld, Life, Machine, SimWorld};

/// The pod's name as a host, where there is one.
pub const NAME: &str = "pod";
/// Where it listens for clients.
const PORT: u16 = 6432;
/// Where it answers its kubelet.
const ADMIN_PORT: u16 = 8080;
/// The most pods that a run may have, one after the other.
pub const MAX_PODS: u32 = 1_000;

/// The name as a host of one of several pods, such as `pod-2`. From 1 to [`MAX_PODS`].
pub fn name(number: u32) -> &'static str {
    static NAMES: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| (0..=MAX_PODS).map(|number| &*format!("pod-{number}").leak()).collect());
    NAMES[number as usize]
}

/// Where clients connect to the pod that is this host.
pub fn address(host: &str) -> String {
    format!("{host}:{PORT}")
}

/// Where the kubelet probes it.
pub fn admin_address(host: &str) -> String {
    format!("{host}:{ADMIN_PORT}")
}

/// A control plane. Any function of a world and a [`Config`] is one that reports nothing.
pub trait Pod: Send + Sync {
    /// What it says of itself: without one of these it breaks the promises that are about it.
    fn reports(&self) -> &[Report] {
        &[]
    }

    /// Its main function: serves until it is told to stop, and returns the process's exit code.
    fn run(&self, world: AnyWorld, config: Config) -> BoxFuture<'static, u8>;
}

impl<F, R> Pod for F
where
    F: Fn(AnyWorld, Config) -> R + Send + Sync,
    R: Future<Output = u8> + Send + 'static,
{
    fn run(&self, world: AnyWorld, config: Config) -> BoxFuture<'static, u8> {
        Box::pin(self(world, config))
    }
}

/// What a pod is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens for clients, as `host:port`.
    pub listen: String,
    /// Where its worker is.
    pub worker: String,
    /// Where it answers `/readyz`, `/livez` and `/drain` over HTTP, if it does.
    pub admin: String,
    /// The drain's rules.
    pub settings: Settings,
    /// Where it says what it does.
    pub reporter: Reporter,
}

/// The pod's machine: its network namespace goes with the process, and whoever opens a connection to a worker asks for a user
/// timeout of 90 s.
pub fn machine() -> Machine {
    Machine { life: Life::DiesWithProcess, user_timeout: Duration::from_secs(90), ..Machine::default() }
}

/// Runs the control plane until it exits, as the host of this name. What is left of its process then ends with the pod.
pub async fn run<W: SimWorld>(
    world: W,
    host: &'static str,
    recorder: Recorder,
    pod: Arc<dyn Pod>,
    worker: String,
    settings: Settings,
) {
    recorder.record(world.now(), Event::PodStarted);
    let any = AnyWorld::new(world.clone());
    let config = Config {
        listen: address("0.0.0.0"),
        worker,
        admin: admin_address("0.0.0.0"),
        settings,
        reporter: Reporter::new(any.clone(), recorder.clone()),
    };
    let code = pod.run(any, config).await;
    // This task itself is the only one that may be left.
    let tasks = world.tasks(host).into_iter().filter(|task| *task != "main").map(str::to_owned).collect();
    recorder.record(world.now(), Event::PodExited { code, tasks });
    // A process that exits takes its tasks with it, on every engine.
    world.kill(host);
}
