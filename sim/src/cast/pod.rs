//! The pod: runs the control plane's own code, `cp::accept::serve`, and writes down what it hands out.

use std::time::Duration;

use cp::accept::{Service, serve};
use cp::records::{Change, EndRecord, Left, Meter};
use lastcall_core::Settings;

use crate::cast::history::{Event, Recorder};
use crate::stage::{Life, Machine, SimWorld};

/// The pod's name as a host.
pub const NAME: &str = "pod";
/// Where clients connect.
pub const ADDRESS: &str = "pod:6432";
/// Where the kubelet probes.
pub const ADMIN_ADDRESS: &str = "pod:8080";

/// The pod's machine: its network namespace goes with the process, and `cp` asks for a user timeout of 90 s on its
/// workers' connections.
pub fn machine() -> Machine {
    Machine { life: Life::DiesWithProcess, user_timeout: Duration::from_secs(90), ..Machine::default() }
}

/// Runs the control plane until it exits. What is left of its process then ends with the pod.
pub async fn run<W: SimWorld>(world: W, recorder: Recorder, settings: Settings) {
    recorder.record(world.now(), Event::PodStarted);
    let service = Service {
        listen: "0.0.0.0:6432".to_owned(),
        worker: "worker:5432".to_owned(),
        admin: Some("0.0.0.0:8080".to_owned()),
        settings,
    };
    let meter = HistoryMeter { world: world.clone(), recorder: recorder.clone() };
    let exit = serve(world.clone(), service, meter).await.expect("the simulated addresses are free");
    // This task itself is the only one that may be left.
    let tasks = world.tasks(NAME).into_iter().filter(|task| *task != "main").map(str::to_owned).collect();
    recorder.record(world.now(), Event::PodExited { exit, tasks });
    // A process that exits takes its tasks with it, on every engine.
    world.kill(NAME);
}

/// The meter of the simulation: end records go into the history.
#[derive(Clone)]
struct HistoryMeter<W> {
    world: W,
    recorder: Recorder,
}

impl<W: SimWorld> Meter for HistoryMeter<W> {
    fn session_ended(&self, record: &EndRecord) {
        self.recorder.record(self.world.now(), Event::Recorded { record: record.clone() });
    }

    fn activity_changed(&self, change: &Change) {
        let Change { connection, activity, .. } = *change;
        self.recorder.record(self.world.now(), Event::ActivityChanged { connection, activity });
    }

    fn connection_left(&self, left: &Left) {
        self.recorder.record(self.world.now(), Event::ConnectionLeft { left: left.clone() });
    }

    async fn flush(&self) {}
}
