//! The pod: runs a control plane, whichever is to be judged, and writes down what it reports of itself.
//!
//! A control plane is whatever is written against [`World`](lastcall_world::World). It is told where to listen, where its worker is and
//! by which settings ([`Config`]), and its exit code is all that it owes. What else it says of itself it says through
//! [`Reporter`]; promises that can't be judged without that are not judged.

pub mod last_call;
pub mod log;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lastcall_core::Settings;

pub use self::last_call::{LastCall, last_call};
pub use self::report::{Report, Reporter};
use crate::cast::history::{Event, Recorder};
use crate::stage::{AnyWorld, Life, Machine, SimWorld};

/// The pod's name as a host.
pub const NAME: &str = "pod";
/// Where clients connect.
pub const ADDRESS: &str = "pod:6432";
/// Where the kubelet probes.
pub const ADMIN_ADDRESS: &str = "pod:8080";

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

/// Runs the control plane until it exits. What is left of its process then ends with the pod.
pub async fn run<W: SimWorld>(world: W, recorder: Recorder, pod: Arc<dyn Pod>, settings: Settings) {
    recorder.record(world.now(), Event::PodStarted);
    let any = AnyWorld::new(world.clone());
    let config = Config {
        listen: "0.0.0.0:6432".to_owned(),
        worker: "worker:5432".to_owned(),
        admin: "0.0.0.0:8080".to_owned(),
        settings,
        reporter: Reporter::new(any.clone(), recorder.clone()),
    };
    let code = pod.run(any, config).await;
    // This task itself is the only one that may be left.
    let tasks = world.tasks(NAME).into_iter().filter(|task| *task != "main").map(str::to_owned).collect();
    recorder.record(world.now(), Event::PodExited { code, tasks });
    // A process that exits takes its tasks with it, on every engine.
    world.kill(NAME);
}
