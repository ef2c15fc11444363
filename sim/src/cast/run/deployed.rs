//! A run with several pods: a deployment, a Service in front of it, and who works through that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastcall_core::Settings;
use lastcall_world::watched::Watched;

use super::{RESERVE, Run, close, rest};
use crate::cast::deployment::{self, Controller, Slot};
use crate::cast::history::Recorder;
use crate::cast::pod::{self, Pod};
use crate::cast::service::{Condition, Service, Way};
use crate::cast::{application, client, kubelet, worker};
use crate::scenario::{Action, Application, Scenario, Span};
use crate::stage::{Engine, Host, Plan, SimWorld};

/// How long applications go on when all has happened, and everybody is where it stays.
const AFTERWARDS: Duration = Duration::from_secs(5);

pub(super) fn run_on<E: Engine>(pod: &Arc<dyn Pod>, scenario: &Scenario, settings: &Settings, seed: u64) -> Run {
    let limit = limit(scenario);
    let recorder = Recorder::default();
    let world = Arc::new(Mutex::new(None));
    let service = Service::new(recorder.clone(), scenario.service.session_affinity);
    let pods = deployment::pods_needed(scenario);
    let slot = |number| Slot { recorder: recorder.of_pod(number), begins: Watched::new(false) };
    let slots: Arc<Vec<Slot>> = Arc::new((1..=pods).map(slot).collect());
    let numbered = || (1..).zip(slots.iter());
    // Nodes know of the first pods before anybody connects.
    for (number, slot) in numbered().take(scenario.deployment.as_ref().map_or(0, |rules| rules.replicas) as usize) {
        service.set(number, &slot.recorder, Some(Condition::Ready));
    }
    let logs = numbered().map(|(number, slot)| (number, slot.recorder.clone())).collect();

    let mut hosts =
        vec![Host::new(worker::NAME, move |world| worker::run_for_pods(world, logs, worker::Worker::default()))];
    hosts.extend(numbered().map(|(number, slot)| {
        let (Slot { recorder, begins }, pod, settings) = (slot.clone(), pod.clone(), settings.clone());
        let host = pod::name(number);
        let main = move |world| async move {
            let mut begins = begins.subscribe();
            std::future::poll_fn(|cx| begins.poll_until(|begins| *begins, cx)).await;
            let at_worker = worker::address(worker::NAME, Some(number));
            pod::run(world, host, recorder, pod, at_worker, settings).await;
        };
        Host::new(host, main).on(pod::machine())
    }));
    let settled = Watched::new(false);
    hosts.push(Host::new(kubelet::NAME, {
        let (scenario, recorder, settled) = (Arc::new(scenario.clone()), recorder.clone(), settled.clone());
        let (service, slots) = (service.clone(), slots.clone());
        move |world: E::World| async move {
            Controller::new(world, recorder, scenario, service, slots).run().await;
            settled.change(true);
            std::future::pending().await
        }
    }));
    hosts.push(Host::new("clients", {
        let (scenario, recorder, world_out) = (scenario.clone(), recorder.clone(), world.clone());
        move |world: E::World| {
            *world_out.lock().expect("nothing panics while it holds this") = Some(world.clone());
            direct(world, recorder, Way::Service(service), scenario, settled)
        }
    }));
    let ending = E::simulate(Plan { seed, limit }, hosts);
    close(&recorder, &world, &ending);
    Run {
        history: recorder.take_history(),
        pods: Some(pods),
        ending,
        settings: settings.clone(),
        termination_grace: kubelet::termination_grace(scenario),
        resolution: E::resolution(limit),
    }
}

/// How long the run may take: every pod that is replaced may need its start, and the last its whole grace.
fn limit(scenario: &Scenario) -> Duration {
    let grace = kubelet::termination_grace(scenario);
    let Some(deployment) = &scenario.deployment else { return grace };
    let last = scenario.events.iter().map(|event| event.at.0).max().unwrap_or_default();
    let last = scenario
        .applications
        .iter()
        .filter_map(|application| application.until)
        .fold(last, |last, until| last.max(until.0));
    let lag = deployment::endpoint_lag(scenario);
    let probe = kubelet::readiness_period(&scenario.pod);
    let replaced = deployment::pods_needed(scenario);
    let waits = scenario.events.iter().any(|event| event.action == Action::NodeDrain)
        || deployment.pod_replacement_policy == crate::scenario::PodReplacementPolicy::TerminationComplete;
    let graces = if waits { replaced } else { 1 };
    last + (deployment.startup.0 + probe + lag) * replaced + grace * graces + AFTERWARDS + RESERVE
}

/// Starts clients and applications, waits until all has happened and the applications are done, and ends the run. Clients that
/// still do something then have nothing to do with a rollout any more.
async fn direct<W: SimWorld>(world: W, recorder: Recorder, way: Way, scenario: Scenario, settled: Watched<bool>) {
    for client in &scenario.clients {
        for copy in 1..=client.count {
            world.spawn("client", client::run(world.clone(), way.clone(), client.clone(), copy));
        }
    }
    let last = scenario.events.iter().map(|event| event.at).max().unwrap_or_default();
    let latest = Span(last.0 + Application::AFTER_EVENTS);
    let stop = Watched::new(false);
    let left = Watched::new(scenario.applications.iter().map(|application| application.instances).sum::<u32>());
    for application in &scenario.applications {
        for instance in 1..=application.instances {
            let left = left.clone();
            let application = Application { until: application.until.or(Some(latest)), ..application.clone() };
            let run = application::run(world.clone(), way.clone(), application, instance, stop.clone());
            world.spawn("application", async move {
                run.await;
                left.change(left.value() - 1);
            });
        }
    }
    let full = Watched::new(false);
    let tell_full = full.clone();
    recorder.on_full(move || tell_full.change(true));
    let (mut settled, mut full) = (settled.subscribe(), full.subscribe());
    let stopped = std::future::poll_fn(|cx| {
        if full.poll_until(|full| *full, cx).is_ready() {
            return std::task::Poll::Ready(true);
        }
        settled.poll_until(|settled| *settled, cx).map(|_| false)
    });
    if stopped.await {
        return world.finish();
    }
    world.sleep_until(world.now() + AFTERWARDS).await;
    stop.change(true);
    let mut left = left.subscribe();
    std::future::poll_fn(|cx| left.poll_until(|left| *left == 0, cx)).await;
    rest(&world).await;
    recorder.end();
    world.finish();
}
