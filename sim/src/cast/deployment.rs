//! The control plane of Kubernetes, as far as a rollout needs it: keeps the pods of a Deployment, tells the Service of them, and
//! lets happen what the scenario says.
//!
//! Liberties, all stated: pods that are there from the beginning are routed to from the beginning; a node drain takes the oldest
//! pods for those of its node; a pod whose machine dies is replaced at once, where a real one is missed for minutes; and the
//! kubelet's own are in [`super::kubelet`].

mod arithmetic;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lastcall_core::Time;
use lastcall_world::Signal;
use lastcall_world::watched::Watched;

use self::arithmetic::{Pod, Wanted};
use super::kubelet::{self, Ward};
use super::service::{Condition, Service};
use super::{faults, pod};
use crate::cast::history::{Event, Recorder};
use crate::scenario::{Action, Deployment, Scenario};
use crate::stage::SimWorld;

/// How long new connections still go to a pod that is to go, and none to one that is ready, where a file does not say.
const ENDPOINT_LAG: Duration = Duration::from_secs(1);
/// How often `kubectl drain` tries to evict a pod that the disruption budget still holds.
pub(crate) const EVICTION_PAUSE: Duration = Duration::from_secs(5);
/// `failureThreshold` of a readiness probe: so many in a row until the pod counts as not ready.
const FAILURE_THRESHOLD: u32 = 3;

/// How long it is in this scenario.
pub(crate) fn endpoint_lag(scenario: &Scenario) -> Duration {
    scenario.service.endpoint_lag.map_or(ENDPOINT_LAG, |lag| lag.0)
}

/// The processes of the pods that a run may have: each waits until its pod is created.
#[derive(Clone)]
pub(crate) struct Slot {
    /// Where what happens to it is told.
    pub(crate) recorder: Recorder,
    /// Its process may begin.
    pub(crate) begins: Watched<bool>,
}

/// How many pods a scenario may come to have, one after the other.
pub(crate) fn pods_needed(scenario: &Scenario) -> u32 {
    let Some(deployment) = &scenario.deployment else { return 1 };
    let (mut replicas, mut pods) = (deployment.replicas, deployment.replicas);
    let mut events: Vec<_> = scenario.events.iter().collect();
    events.sort_by_key(|event| event.at);
    for event in events {
        pods += match event.action {
            // One rollout during another may replace what that has just made.
            Action::Rollout => replicas + deployment.max_surge.rounded_up(replicas),
            Action::Scale => {
                replicas = event.replicas.unwrap_or(replicas);
                replicas
            }
            Action::NodeDrain => event.pods.unwrap_or_default(),
            Action::PodCrash => 1,
            _ => 0,
        };
    }
    pods.min(pod::MAX_PODS)
}

/// Keeps the pods of a deployment. Clones share it.
pub(crate) struct Controller<W: SimWorld> {
    world: W,
    recorder: Recorder,
    scenario: Arc<Scenario>,
    rules: Arc<Deployment>,
    service: Service,
    slots: Arc<Vec<Slot>>,
    state: Arc<Mutex<State>>,
    /// Changes when something has changed that the next step hangs on.
    changes: Watched<u64>,
}

impl<W: SimWorld> Clone for Controller<W> {
    fn clone(&self) -> Self {
        Controller {
            world: self.world.clone(),
            recorder: self.recorder.clone(),
            scenario: self.scenario.clone(),
            rules: self.rules.clone(),
            service: self.service.clone(),
            slots: self.slots.clone(),
            state: self.state.clone(),
            changes: self.changes.clone(),
        }
    }
}

struct State {
    wanted: Wanted,
    /// Those that are not gone.
    pods: Vec<Pod>,
    created: u32,
    /// Nothing more comes by itself, and evictions are over.
    pending: u32,
}

impl<W: SimWorld> Controller<W> {
    /// Of this scenario, which has a deployment.
    pub(crate) fn new(
        world: W,
        recorder: Recorder,
        scenario: Arc<Scenario>,
        service: Service,
        slots: Arc<Vec<Slot>>,
    ) -> Controller<W> {
        let rules = Arc::new(scenario.deployment.clone().expect("the scenario has a deployment"));
        let wanted = Wanted { replicas: rules.replicas, revision: 1 };
        let state = State { wanted, pods: Vec::new(), created: 0, pending: 0 };
        let state = Arc::new(Mutex::new(state));
        Controller { world, recorder, scenario, rules, service, slots, state, changes: Watched::new(0) }
    }

    /// Creates the first pods, lets happen what the scenario says, and returns when all is as it is to be in the end.
    pub(crate) async fn run(self) {
        for _ in 0..self.rules.replicas {
            self.create(true);
        }
        self.state().pending += 1;
        let controller = self.clone();
        self.world.spawn("events", async move {
            let mut events = controller.scenario.events.clone();
            events.sort_by_key(|event| event.at);
            for event in &events {
                controller.world.sleep_until(Time::from_epoch(event.at.0)).await;
                controller.happen(event);
            }
            controller.change(|state| state.pending -= 1);
        });
        let mut changes = self.changes.subscribe();
        let mut seen = self.changes.value();
        loop {
            let (step, settled) = {
                let state = self.state();
                let step = arithmetic::next(&self.rules, state.wanted, &state.pods);
                (step, state.pending == 0 && arithmetic::is_settled(state.wanted, &state.pods))
            };
            if settled {
                self.recorder.record(self.world.now(), Event::DeploymentSettled);
                return;
            }
            (0..step.create).for_each(|_| self.create(false));
            step.delete.iter().for_each(|number| self.delete(*number));
            if step == arithmetic::Step::default() {
                poll_fn(|cx| changes.poll_until(|count| *count != seen, cx)).await;
                seen = self.changes.value();
            }
        }
    }

    fn happen(&self, event: &crate::scenario::Event) {
        let told = |what, replicas| {
            self.recorder.record(self.world.now(), Event::DeploymentTold { what, replicas });
        };
        let replicas = self.state().wanted.replicas;
        match event.action {
            Action::Rollout => {
                told(event.action.name(), replicas);
                self.change(|state| state.wanted.revision += 1);
            }
            Action::Scale => {
                let replicas = event.replicas.unwrap_or(replicas);
                told(event.action.name(), replicas);
                self.change(|state| state.wanted.replicas = replicas);
            }
            Action::NodeDrain => {
                told(event.action.name(), replicas);
                let evicted: Vec<u32> = {
                    let state = self.state();
                    let there = state.pods.iter().filter(|pod| !pod.terminating).map(|pod| pod.number);
                    there.take(event.pods.unwrap_or_default() as usize).collect()
                };
                evicted.into_iter().for_each(|number| self.evict(number));
            }
            Action::PodCrash => self.crash(event.pod.as_deref()),
            _ => {
                let ends = event.between.iter().flatten();
                let number = ends.filter_map(|end| crate::scenario::pod_number(end)).next().unwrap_or_default();
                if let Some(slot) = self.slots.get((number as usize).wrapping_sub(1)) {
                    faults::befall_pod(&self.world, &slot.recorder, event);
                }
            }
        }
    }

    /// A pod, whose process starts now or after its image and containers are there.
    fn create(&self, at_once: bool) {
        let (number, revision) = {
            let mut state = self.state();
            if state.created as usize == self.slots.len() {
                return;
            }
            state.created += 1;
            let (number, revision) = (state.created, state.wanted.revision);
            state.pods.push(Pod { number, revision, ready: None, terminating: false });
            (number, revision)
        };
        let Slot { recorder, begins } = self.slots[number as usize - 1].clone();
        recorder.record(self.world.now(), Event::PodCreated { revision });
        let controller = self.clone();
        recorder.on_pod_gone(move || controller.gone(number));
        let ward = self.ward(number);
        if at_once {
            self.route(number, &ward.recorder, true);
        }
        let controller = self.clone();
        self.world.spawn("kubelet", async move {
            if !at_once {
                controller.world.sleep_until(controller.world.now() + controller.rules.startup.0).await;
            }
            begins.change(true);
            let failures = Mutex::new(0);
            let ready = controller.clone();
            ward.look_after(&controller.scenario.pod, move |is_ready| ready.probed(number, is_ready, &failures));
        });
        self.change(|_| {});
    }

    /// What a probe of readiness says.
    fn probed(&self, number: u32, is_ready: bool, failures: &Mutex<u32>) {
        let failed = {
            let mut failures = failures.lock().expect("nothing panics while it holds this");
            *failures = if is_ready { 0 } else { *failures + 1 };
            *failures
        };
        let (was, terminating) = {
            let state = self.state();
            let pod = state.pods.iter().find(|pod| pod.number == number);
            pod.map_or((None, true), |pod| (pod.ready, pod.terminating))
        };
        let recorder = &self.slots[number as usize - 1].recorder;
        if terminating {
            if failed >= FAILURE_THRESHOLD {
                self.service.serves_no_more(number);
            }
        } else if is_ready && was.is_none() {
            recorder.record(self.world.now(), Event::PodReady);
            let now = self.world.now();
            self.of_pod(number, |pod| pod.ready = Some(now));
            self.later_routed(number, true);
        } else if failed >= FAILURE_THRESHOLD && was.is_some() {
            self.of_pod(number, |pod| pod.ready = None);
            self.later_routed(number, false);
        }
    }

    /// Deletes a pod: no more endpoint, the preStop hooks, SIGTERM, and at the end of its grace SIGKILL.
    fn delete(&self, number: u32) {
        self.of_pod(number, |pod| pod.terminating = true);
        let slot = &self.slots[number as usize - 1];
        let ward = self.ward(number);
        ward.recorder.record(self.world.now(), Event::PodDeleted);
        self.later_routed(number, false);
        if !slot.begins.value() {
            // There is no process to be told.
            slot.recorder.record(self.world.now(), Event::Killed);
            return;
        }
        ward.kill_at(self.world.now() + kubelet::termination_grace(&self.scenario));
        let rules = self.rules.clone();
        self.world.spawn("preStop", async move {
            if rules.pre_stop_drain {
                ward.clone().ask_to_drain(true, Arc::default()).await;
            }
            ward.world.sleep_until(ward.world.now() + rules.pre_stop_sleep.0).await;
            if !ward.recorder.is_pod_gone() {
                ward.signal(Signal::Term);
            }
        });
    }

    /// Evicts a pod as soon as the disruption budget lets it.
    fn evict(&self, number: u32) {
        self.state().pending += 1;
        let controller = self.clone();
        self.world.spawn("eviction", async move {
            loop {
                let (there, ready) = {
                    let state = controller.state();
                    let there = state.pods.iter().any(|pod| pod.number == number && !pod.terminating);
                    (there, state.pods.iter().filter(|pod| !pod.terminating && pod.ready.is_some()).count() as u32)
                };
                if !there {
                    break;
                }
                if ready > controller.rules.min_available.unwrap_or_default() {
                    controller.delete(number);
                    break;
                }
                controller.world.sleep_until(controller.world.now() + EVICTION_PAUSE).await;
            }
            controller.change(|state| state.pending -= 1);
        });
    }

    /// The machine of a pod dies.
    fn crash(&self, name: Option<&str>) {
        let named = name.and_then(crate::scenario::pod_number);
        let oldest = || {
            let state = self.state();
            let ready = state.pods.iter().find(|pod| !pod.terminating && pod.ready.is_some());
            ready.map(|pod| pod.number)
        };
        let Some(number) = named.or_else(oldest) else { return };
        let slot = self.slots.get(number as usize - 1);
        if slot.is_some_and(|slot| slot.begins.value() && !slot.recorder.is_pod_gone()) {
            self.later_routed(number, false);
            self.ward(number).kill();
        }
    }

    /// Nodes learn later that a pod is to be routed to, or no more.
    fn later_routed(&self, number: u32, to: bool) {
        let controller = self.clone();
        let lag = endpoint_lag(&self.scenario);
        let recorder = self.slots[number as usize - 1].recorder.clone();
        self.world.spawn("endpoint", async move {
            controller.world.sleep_until(controller.world.now() + lag).await;
            controller.route(number, &recorder, to);
        });
    }

    fn route(&self, number: u32, recorder: &Recorder, to: bool) {
        let (deleted, gone) = {
            let state = self.state();
            let pod = state.pods.iter().find(|pod| pod.number == number);
            (pod.is_some_and(|pod| pod.terminating), pod.is_none())
        };
        let condition = match (to, deleted) {
            (true, false) => Some(Condition::Ready),
            (false, true) => Some(Condition::Serving),
            (true, true) | (false, false) => None,
        };
        if to && deleted {
            return;
        }
        self.service.set(number, recorder, condition.filter(|_| !gone));
        recorder.record(self.world.now(), Event::PodRouted { to });
    }

    /// A pod has exited or was killed. Nodes that do not know yet that it was to go still send connections there.
    fn gone(&self, number: u32) {
        self.service.serves_no_more(number);
        self.change(|state| state.pods.retain(|pod| pod.number != number));
    }

    fn ward(&self, number: u32) -> Ward<W> {
        let recorder = self.slots[number as usize - 1].recorder.clone();
        Ward { world: self.world.clone(), recorder, host: pod::name(number) }
    }

    fn of_pod(&self, number: u32, change: impl FnOnce(&mut Pod)) {
        self.change(|state| {
            if let Some(pod) = state.pods.iter_mut().find(|pod| pod.number == number) {
                change(pod);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changes.change(self.changes.value() + 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the pods")
    }
}
